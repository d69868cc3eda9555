#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{CONFIG, Graph, WORDS, tokenizer};

/// A folder with these files; `.onnx` files are a small graph.
fn folder(files: &[&str], graph: &Graph) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = match file.rsplit('/').next().unwrap() {
            "config.json" => CONFIG.as_bytes().to_vec(),
            "tokenizer.json" => tokenizer(&WORDS).into_bytes(),
            _ => graph.encode(),
        };
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

fn found(files: &[&str], file: Option<&str>) -> Result<(String, String), Error> {
    let folder = folder(files, &Graph::default());
    let layout = Layout::resolve(folder.path(), file)?;
    let relative = |path: &Path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
    Ok((relative(&layout.model), relative(&layout.config)))
}

#[test]
fn the_four_layouts_are_found() {
    let both = |model: &str, config: &str| Ok((model.to_owned(), config.to_owned()));
    let flat = ["config.json", "tokenizer.json", "model.onnx", "model_quantized.onnx"];
    assert_eq!(found(&flat, None), both("model.onnx", "config.json"));
    let inside = ["onnx/config.json", "onnx/tokenizer.json", "onnx/model.onnx"];
    assert_eq!(found(&inside, None), both("onnx/model.onnx", "onnx/config.json"));
    let split = [
        "config.json",
        "tokenizer.json",
        "onnx/model.onnx",
        "onnx/model_fp16.onnx",
    ];
    assert_eq!(found(&split, None), both("onnx/model.onnx", "config.json"));
    assert_eq!(
        found(&split, Some("onnx/model_fp16.onnx")),
        both("onnx/model_fp16.onnx", "config.json")
    );
    // With a configuration in both places that of the root counts.
    let doubled = [
        "config.json",
        "tokenizer.json",
        "onnx/config.json",
        "onnx/tokenizer.json",
        "onnx/model.onnx",
    ];
    assert_eq!(found(&doubled, None), both("onnx/model.onnx", "config.json"));
    let optimized = ["config.json", "tokenizer.json", "model_optimized.onnx"];
    assert_eq!(found(&optimized, None), both("model_optimized.onnx", "config.json"));
}

#[test]
fn what_is_ambiguous_or_missing_says_so() {
    let error = found(
        &[
            "config.json",
            "tokenizer.json",
            "onnx/model_fp16.onnx",
            "onnx/model_int8.onnx",
        ],
        None,
    )
    .unwrap_err();
    assert!(
        error.causes[0].contains("onnx/model_fp16.onnx, onnx/model_int8.onnx"),
        "{error}"
    );
    assert!(
        found(&["config.json", "tokenizer.json"], None)
            .unwrap_err()
            .message
            .contains("no .onnx file")
    );
    assert!(
        found(&["tokenizer.json", "model.onnx"], None)
            .unwrap_err()
            .message
            .contains("no config.json")
    );
    assert!(
        found(&["config.json", "model.onnx"], None)
            .unwrap_err()
            .message
            .contains("no tokenizer.json")
    );
    let error = found(
        &["config.json", "tokenizer.json", "model.onnx"],
        Some("model_int8.onnx"),
    )
    .unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("there are: model.onnx"));
    assert!(
        found(&["config.json", "tokenizer.json", "model.onnx"], Some("../model.onnx"))
            .unwrap_err()
            .message
            .contains("outside")
    );
}

#[test]
fn a_path_to_the_model_file_stands_for_its_folder() {
    let folder = folder(
        &[
            "config.json",
            "tokenizer.json",
            "onnx/model_int8.onnx",
            "onnx/model.onnx",
        ],
        &Graph::default(),
    );
    let layout = Layout::resolve(&folder.path().join("onnx/model_int8.onnx"), None).unwrap();
    assert_eq!(layout.config, folder.path().join("config.json"));
    assert!(layout.model.ends_with("onnx/model_int8.onnx"));
}

#[test]
fn external_data_is_a_file_of_the_judge_and_stays_inside() {
    let files = ["config.json", "tokenizer.json", "model.onnx"];
    let beside = Graph {
        external: Some("weights.bin"),
        ..Graph::default()
    };
    let judge = folder(&files, &beside);
    let error = Layout::resolve(judge.path(), None).unwrap_err();
    assert!(
        error.message.contains("needs the external data file weights.bin"),
        "{error}"
    );
    std::fs::write(judge.path().join("weights.bin"), [0; 32]).unwrap();
    let roles: Vec<String> = Layout::resolve(judge.path(), None)
        .unwrap()
        .files()
        .into_iter()
        .map(|file| file.role)
        .collect();
    assert_eq!(
        roles,
        [
            "config.json",
            "model.onnx",
            "tokenizer.json",
            "tokenizer_config.json",
            "data/weights.bin"
        ]
    );
    for location in ["../weights.bin", "/etc/hostname", "..\\weights.bin", ""] {
        let judge = folder(
            &files,
            &Graph {
                external: Some(location),
                ..Graph::default()
            },
        );
        assert!(
            Layout::resolve(judge.path(), None)
                .unwrap_err()
                .message
                .contains("outside"),
            "{location}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_but_the_hub_cache_is_not() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("weights.bin"), [0; 32]).unwrap();
    let beside = Graph {
        external: Some("weights.bin"),
        ..Graph::default()
    };
    let judge = folder(&["config.json", "tokenizer.json", "model.onnx"], &beside);
    std::os::unix::fs::symlink(outside.path().join("weights.bin"), judge.path().join("weights.bin")).unwrap();
    assert!(
        Layout::resolve(judge.path(), None)
            .unwrap_err()
            .message
            .contains("outside")
    );

    let files = [
        "snapshots/abc/config.json",
        "snapshots/abc/tokenizer.json",
        "snapshots/abc/model.onnx",
        "blobs/f00",
    ];
    let hub = folder(&files, &beside);
    std::os::unix::fs::symlink("../../blobs/f00", hub.path().join("snapshots/abc/weights.bin")).unwrap();
    assert!(Layout::resolve(&hub.path().join("snapshots/abc"), None).is_ok());
}
