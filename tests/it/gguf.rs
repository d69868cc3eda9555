//! Models in GGUF files, as a user has them: run, run again, verified, changed, broken.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::project::{Project, count};

const SPEC: &str = "pipelines/packed.yaml";

/// A project with a few of the tiny GGUF models, and a pipeline over the model that `model` says.
fn project(model: &str) -> Project {
    let project = Project::shipped();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/generate/tests/gguf");
    let names = [
        "smollm.gguf",
        "llama2.gguf",
        "parts-00001-of-00002.gguf",
        "parts-00002-of-00002.gguf",
    ];
    fs::create_dir_all(project.path("models/one")).unwrap();
    for name in names {
        fs::copy(from.join(name), project.path("models").join(name)).unwrap();
    }
    fs::copy(from.join("qwen2.gguf"), project.path("models/one/q8.gguf")).unwrap();
    let lines = ["Hello", "How do I water roses?", "Count to 12."].map(|prompt| {
        let row = serde_json::json!({ "item": prompt, "prompt": prompt });
        format!("{row}\n")
    });
    project.write("prompts.jsonl", &lines.concat());
    pipeline(&project, model);
    project
}

fn pipeline(project: &Project, model: &str) {
    project.write(
        SPEC,
        &format!(
            "version: 1\nname: packed\nmodels:\n  tiny: {{ {model} }}\n\
             stages:\n  texts: {{ uses: load, with: {{ path: prompts.jsonl }} }}\n  \
             answers: {{ uses: generate, needs: texts, matrix: {{ decoder: {{ greedy: {{ temperature: 0 }}, \
             sampling: {{ temperature: 0.9, samples: 2 }} }} }}, \
             with: {{ model: tiny, decoder: '${{matrix.decoder}}', max_new_tokens: 8 }} }}\n  \
             vectors: {{ uses: embed, needs: texts, with: {{ model: tiny, text: prompt }} }}\n"
        ),
    );
}

fn summary(project: &Project, verb: &[&str]) -> Value {
    project.fracture(verb).ok().json()
}

#[test]
fn a_packed_model_runs_once_and_is_verified_to_the_bit() {
    let project = project("source: models/smollm.gguf");
    let run = || summary(&project, &["run", SPEC, "--json"]);
    let first = run();
    assert_eq!(count(&first, "rows", "generated"), 9, "{first}");
    assert_eq!(count(&run(), "tasks", "ran"), 0);
    let verified = project.fracture(&["verify", SPEC]).ok();
    let told = format!("{}{}", verified.stdout, verified.stderr);
    assert!(told.contains("bits") && !told.contains("tolerance"), "{told}");
    let why = project.fracture(&["why", SPEC, "answers[decoder=greedy]"]).ok();
    assert!(why.stdout.contains("weights"), "{}", why.stdout);
    let lock = fs::read_to_string(project.path("pipelines/packed.lock")).unwrap();
    assert!(
        lock.lines()
            .any(|line| line.starts_with("file\t") && line.contains("models/smollm.gguf")),
        "{lock}"
    );
    // One changed weight is another model.
    let mut bytes = fs::read(project.path("models/smollm.gguf")).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 0x11;
    fs::write(project.path("models/smollm.gguf"), bytes).unwrap();
    assert_eq!(count(&run(), "rows", "generated"), 9);
    // The same bytes at another place are the same model; in parts they are other files, which give the same answers.
    let tokens = |project: &Project| {
        let shown = project.fracture(&["show", SPEC, "answers", "--json"]).ok().json();
        let rows = shown.as_array().unwrap().clone();
        rows.iter().map(|row| row["tokens"].clone()).collect::<Vec<_>>()
    };
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/generate/tests/gguf/smollm.gguf");
    fs::copy(from, project.path("models/smollm.gguf")).unwrap();
    assert_eq!(count(&run(), "tasks", "ran"), 0);
    let whole = tokens(&project);
    fs::rename(project.path("models/smollm.gguf"), project.path("models/renamed.gguf")).unwrap();
    pipeline(&project, "source: models/renamed.gguf");
    assert_eq!(count(&run(), "tasks", "ran"), 0);
    pipeline(&project, "source: models/parts-00001-of-00002.gguf");
    assert_eq!(count(&run(), "rows", "generated"), 9);
    assert_eq!(tokens(&project), whole);
}

#[test]
fn a_folder_means_its_one_file_and_a_name_chooses_among_several() {
    let project = project("source: models/one");
    project.fracture(&["run", SPEC]).ok();
    pipeline(&project, "source: models/one, file: q8.gguf");
    let again = summary(&project, &["plan", SPEC, "--json"]);
    let actions: Vec<&str> = again
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|task| task["action"].as_str())
        .collect();
    assert!(
        actions.iter().filter(|action| **action == "cached").count() >= 2,
        "{again}"
    );
    pipeline(&project, "source: models");
    let refused = project.fracture(&["plan", SPEC]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("holds 3 GGUF files"), "{}", refused.stderr);
}

#[test]
fn what_cannot_be_used_is_told_before_anything_runs() {
    let project = project("source: models/smollm.gguf");
    let whole = fs::read(project.path("models/smollm.gguf")).unwrap();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .unwrap();
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    let files = [
        ("cut.gguf", whole[..whole.len() - 1].to_vec()),
        ("other.gguf", b"no model at all".to_vec()),
        ("new.gguf", [&b"GGUF\x09\0\0\0"[..], &whole[8..]].concat()),
        ("key.gguf", changed("llama.rope.freq_base", "llama.rope.freq_case")),
        ("tensor.gguf", changed("blk.1.attn_v.weight", "blk.1.attn_w.weight")),
    ];
    for (name, bytes) in files {
        fs::write(project.path("models").join(name), bytes).unwrap();
    }
    let cases = [
        ("source: models/cut.gguf", "models/cut.gguf: truncated GGUF file"),
        ("source: models/other.gguf", "models/other.gguf: no GGUF file"),
        ("source: models/new.gguf", "version 9; 2 and 3 are read"),
        ("source: models/none.gguf", "models/none.gguf: no such file"),
        ("source: models/key.gguf", "llama.rope.freq_case"),
        ("source: models/smollm.gguf, dtype: bf16", "can not be kept as bf16"),
        (
            "source: models/smollm.gguf, adapter: examples",
            "an adapter can not be merged into a GGUF file",
        ),
        ("source: models/one, file: none.gguf", "none.gguf: no such file"),
        (
            "source: models/one, file: ../smollm.gguf",
            "leads out of the model's folder",
        ),
        ("source: models/one, file: model.safetensors", "is no GGUF file"),
    ];
    for (model, wanted) in cases {
        pipeline(&project, model);
        let plan = project.fracture(&["plan", SPEC, "--set", "stages.vectors=null"]);
        assert_eq!(plan.code, 2, "{model}: {}", plan.stderr);
        assert!(plan.stderr.contains(wanted), "{model}: {}", plan.stderr);
    }
    // A tensor of another name is seen when the weights are opened.
    pipeline(&project, "source: models/tensor.gguf");
    let run = project.fracture(&["run", SPEC, "--set", "stages.vectors=null"]).code(1);
    assert!(run.stderr.contains("blk.1.attn_v.weight"), "{}", run.stderr);
}
