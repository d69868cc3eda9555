//! Which files are chosen of which repositories.

#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

fn listing(names: &[&str]) -> Listing {
    let siblings: Vec<Value> = names.iter().map(|name| json!({ "rfilename": name })).collect();
    Listing::parse(&json!({ "sha": "0123456789abcdef", "siblings": siblings })).unwrap()
}

fn choose(names: &[&str], part: Part, file: Option<&str>) -> Result<Selection, Error> {
    choose_with(names, part, file, &|_| None)
}

fn choose_with(
    names: &[&str],
    part: Part,
    file: Option<&str>,
    here: &dyn Fn(&str) -> Option<PathBuf>,
) -> Result<Selection, Error> {
    let chooser = Chooser {
        reference: &Reference::parse("hf://org/name").unwrap(),
        listing: &listing(names),
        here,
        external: |_| Ok(vec!["weights.bin".to_owned()]),
    };
    chooser.choose(part, file)
}

const BOTH: [&str; 14] = [
    ".gitattributes",
    "README.md",
    "config.json",
    "flax_model.msgpack",
    "generation_config.json",
    "model.safetensors",
    "onnx/model.onnx",
    "onnx/model_quantized.onnx",
    "onnx/tokenizer.json",
    "pytorch_model.bin",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_args.bin",
    "1_Pooling/config.json",
];

#[test]
fn weights_come_without_their_twins() {
    let chosen = choose(&BOTH, Part::Weights, None).unwrap();
    let names: Vec<&str> = chosen.names.iter().map(String::as_str).collect();
    let wanted = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!((names.as_slice(), chosen.open), (wanted.as_slice(), false));
}

#[test]
fn a_graph_comes_with_what_lies_beside_it_and_its_data() {
    let chosen = choose(&BOTH, Part::Graph, None).unwrap();
    let wanted = [
        "config.json",
        "onnx/model.onnx",
        "onnx/tokenizer.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert!(chosen.names.iter().map(String::as_str).eq(wanted) && chosen.open);
    let variant = choose(&BOTH, Part::Graph, Some("onnx/model_quantized.onnx")).unwrap();
    assert!(variant.names.contains("onnx/model_quantized.onnx") && !variant.names.contains("onnx/model.onnx"));
    let vectors = choose(&BOTH, Part::Vectors, None).unwrap();
    assert!(vectors.names.contains("1_Pooling/config.json") && !vectors.names.contains("model.safetensors"));
    let here = |name: &str| Some(PathBuf::from(name));
    let mut names = BOTH.to_vec();
    let missing = choose_with(&names, Part::Graph, None, &here).unwrap_err();
    assert!(missing.message.contains("weights.bin"), "{missing}");
    names.push("onnx/weights.bin");
    let whole = choose_with(&names, Part::Graph, None, &here).unwrap();
    assert!(whole.names.contains("onnx/weights.bin") && !whole.open);
}

#[test]
fn shards_are_those_of_the_index() {
    let names = [
        "config.json",
        "tokenizer.json",
        INDEX,
        "a.safetensors",
        "b.safetensors",
        "consolidated.safetensors",
    ];
    assert!(choose(&names, Part::Weights, None).unwrap().open);
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("index");
    let says = |map: Value| {
        std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        choose_with(&names, Part::Weights, None, &|_| Some(index.clone()))
    };
    let chosen = says(json!({ "x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors" })).unwrap();
    assert!(chosen.names.contains("a.safetensors") && chosen.names.contains("b.safetensors"));
    assert!(!chosen.names.contains("consolidated.safetensors") && !chosen.open);
    assert!(
        says(json!({ "x": "c.safetensors" }))
            .unwrap_err()
            .message
            .contains("c.safetensors")
    );
    assert!(says(json!({ "x": "../a.safetensors" })).is_err());
    assert!(says(json!(3)).is_err());
}

#[test]
fn a_gguf_comes_alone_and_whole() {
    let names = [
        "README.md",
        "config.json",
        "m-Q4_K_M.gguf",
        "m-Q8_0-00001-of-00002.gguf",
        "m-Q8_0-00002-of-00002.gguf",
        "n-Q8_0-00001-of-00002.gguf",
    ];
    let one = choose(&names, Part::Weights, Some("m-Q4_K_M.gguf")).unwrap();
    assert!(one.names.iter().eq(["m-Q4_K_M.gguf"]));
    let two = choose(&names, Part::Weights, Some("m-Q8_0-00001-of-00002.gguf")).unwrap();
    assert!(
        two.names
            .iter()
            .eq(["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"])
    );
    let none = choose(&names, Part::Weights, None).unwrap_err();
    assert!(none.hint.unwrap().contains("m-Q4_K_M.gguf"));
    let only = ["README.md", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
    assert_eq!(choose(&only, Part::Weights, None).unwrap().names.len(), 2);
    assert!(choose(&["a.gguf", "b.gguf"], Part::Weights, None).is_err());
    let wrong = choose(&names, Part::Weights, Some("../x.gguf")).unwrap_err();
    assert!(wrong.message.contains("../x.gguf") && wrong.hint.unwrap().contains("m-Q4_K_M.gguf"));
}

#[test]
fn what_is_lacking_is_named() {
    let bin = choose(
        &["config.json", "tokenizer.json", "pytorch_model.bin"],
        Part::Weights,
        None,
    )
    .unwrap_err();
    assert!(bin.hint.unwrap().contains("safe_serialization"));
    let tokenizer = choose(&["config.json", "model.safetensors"], Part::Weights, None).unwrap_err();
    assert!(tokenizer.message.contains("tokenizer.json"));
    let graphs = choose(&["config.json", "a.onnx", "b.onnx"], Part::Graph, None).unwrap_err();
    assert!(graphs.hint.unwrap().contains("file: a.onnx"));
    assert!(choose(&["config.json"], Part::Graph, None).is_err());
    assert!(choose(&["adapter_config.json"], Part::Adapter, None).is_err());
}
