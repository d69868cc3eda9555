#![allow(clippy::unwrap_used)]
use std::path::{Path, PathBuf};

use fracture_stage::{Context, Error, Files, PathPart, Schemas, Stage};
use serde_json::{Value, json};

use crate::stage::declaration;
use crate::testing::{CONFIG, Graph, WORDS, folder, runtime, tokenizer};

struct Disk;

impl Files for Disk {
    fn locate(&self, path: &str) -> PathBuf {
        path.into()
    }
    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = std::fs::read(path).map_err(|error| Error::input("no file").cause(error))?;
        bytes.truncate(limit);
        Ok(bytes)
    }
    fn size(&self, _: &Path) -> Option<u64> {
        None
    }
    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}

/// A stage with the judge in a folder.
fn stage(folder: &Path, with: &Value) -> Box<dyn Stage> {
    let mut with = with.clone();
    with["model"] = json!(folder.to_str().unwrap());
    (declaration().build)(&with, &Context::default()).unwrap()
}

fn planned(folder: &Path, with: &Value) -> Result<(), Error> {
    stage(folder, with)
        .schema(&Schemas { ports: Vec::new() }, &Disk)
        .map(drop)
}

/// The error of planning, and the parameter that it points at.
fn refused(folder: &Path, with: &Value) -> (String, String) {
    let error = planned(folder, with).unwrap_err();
    let path: Vec<String> = error
        .parameter
        .iter()
        .map(|part| match part {
            PathPart::Key(key) => key.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    (
        format!("{error} [{}]", error.hint.clone().unwrap_or_default()),
        path.join("."),
    )
}

#[test]
fn what_the_files_show_is_told_at_plan_time() {
    let good = Graph {
        inputs: vec!["input_ids", "attention_mask"],
        ..Graph::default()
    };
    let config = |more: &str| CONFIG.replacen('{', &format!("{{{more}, "), 1);
    let short = config(r#""max_position_embeddings": 16"#);
    let unsafe_ = json!({"unsafe": ["unsafe"]});
    let with = |more: Value| {
        let mut with = unsafe_.clone();
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    planned(folder(&good, CONFIG).path(), &unsafe_).unwrap();
    planned(
        folder(&good, &short).path(),
        &with(json!({"max_length": 16, "stride": 4})),
    )
    .unwrap();
    let unknown = Graph {
        inputs: vec!["input_ids", "pixel_values"],
        ..Graph::default()
    };
    let fixed = |length, labels| Graph {
        fixed: [length, labels],
        ..Graph::default()
    };
    let small = Graph {
        table: vec![vec![0.0, 0.0]; 2],
        ..Graph::default()
    };
    let cases = [
        (
            &good,
            short.as_str(),
            with(json!({"max_length": 17})),
            "more than the judge's 16 positions",
            "max_length",
        ),
        (
            &fixed(Some(8), None),
            CONFIG,
            with(json!({"max_length": 9})),
            "the 8 tokens that",
            "max_length",
        ),
        (
            &good,
            &short,
            with(json!({"stride": 16})),
            "does not fit windows of 16 tokens",
            "stride",
        ),
        (
            &good,
            CONFIG,
            with(json!({"max_length": 8, "stride": 9})),
            "does not fit windows of 8 tokens",
            "stride",
        ),
        (
            &unknown,
            CONFIG,
            unsafe_.clone(),
            "wants the input `pixel_values`",
            "model",
        ),
        (
            &fixed(None, Some(3)),
            CONFIG,
            unsafe_.clone(),
            "gives 3 logits and its config.json names 2 labels",
            "model",
        ),
        (&small, CONFIG, unsafe_.clone(), "does not fit the model", "model"),
        (
            &good,
            &config(r#""problem_type": "multi_label_clasification""#),
            unsafe_.clone(),
            "`multi_label_clasification`, which is none",
            "unsafe",
        ),
    ];
    for (graph, config, with, told, place) in cases {
        let (error, path) = refused(folder(graph, config).path(), &with);
        assert!(error.contains(told), "{told}: {error}");
        assert_eq!(path, place, "{error}");
    }
}

/// Placeholders are never guessed, wherever they come from; with a map they are names like others.
#[test]
fn placeholders_need_a_map() {
    let fixed = Graph {
        fixed: [None, Some(2)],
        ..Graph::default()
    };
    let bare = r#"{"pad_token_id": 0}"#;
    let written = r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "pad_token_id": 0}"#;
    for (graph, config) in [(&Graph::default(), written), (&fixed, written), (&fixed, bare)] {
        let judge = folder(graph, config);
        let (error, path) = refused(judge.path(), &json!({"unsafe": ["LABEL_1"]}));
        assert!(
            error.contains("`unsafe` names `LABEL_1`") && error.contains("labels: {"),
            "{error}"
        );
        assert_eq!(path, "unsafe");
    }
    let mapped = json!({"unsafe": ["bad"], "labels": {"LABEL_0": "ok", "LABEL_1": "bad"}});
    for (graph, config) in [(&Graph::default(), written), (&Graph::default(), bare), (&fixed, bare)] {
        let judge = folder(graph, config);
        planned(judge.path(), &mapped).unwrap();
    }
    // A name beside it that was not given stays one that says nothing.
    let half = json!({"unsafe": ["LABEL_0"], "labels": {"LABEL_1": "bad"}});
    let (error, _) = refused(folder(&Graph::default(), written).path(), &half);
    assert!(error.contains("`LABEL_0`"), "{error}");
}

#[test]
fn canaries_of_labels_that_are_not_there_are_told() {
    let judge = folder(&Graph::default(), CONFIG);
    let own = judge.path().join("canaries.jsonl");
    let unsafe_ = json!({"unsafe": ["unsafe"]});
    std::fs::write(&own, "{\"text\": \"good\", \"p_unsafe\": 0.5}\n").unwrap();
    planned(judge.path(), &unsafe_).unwrap();
    std::fs::write(&own, "{\"text\": \"good\", \"p_unsaef\": 0.5}\n").unwrap();
    let (error, path) = refused(judge.path(), &unsafe_);
    assert!(
        error.contains("`unsaef`") && error.contains("its labels are safe, unsafe"),
        "{error}"
    );
    assert_eq!(path, "canaries");
    // A label may be called what the pipeline calls it.
    std::fs::write(&own, "{\"text\": \"good\", \"p_bad\": 0.5}\n").unwrap();
    planned(judge.path(), &json!({"unsafe": ["bad"], "labels": {"unsafe": "bad"}})).unwrap();
}

/// Planning opens no runtime; a model of a newer format is opened when a run begins, before anything is generated.
#[test]
fn a_model_of_a_newer_opset_is_told_when_a_run_begins() {
    runtime();
    let newer = Graph {
        opset: 99,
        ..Graph::default()
    };
    let ready = |graph: &Graph| {
        let judge = folder(graph, CONFIG);
        let stage = stage(judge.path(), &json!({"unsafe": ["unsafe"]}));
        stage.schema(&Schemas { ports: Vec::new() }, &Disk).unwrap();
        stage.ready(true)
    };
    let error = ready(&newer).unwrap_err();
    assert!(
        error.to_string().contains("refuses") && error.to_string().contains("opset 99"),
        "{error}"
    );
    ready(&Graph::default()).unwrap();
}

/// Hundreds of tasks of one judge read its tokenizer once; another tokenizer in its place is read again.
#[test]
fn a_tokenizer_that_was_exchanged_is_read_again() {
    let judge = folder(&Graph::default(), CONFIG);
    let unsafe_ = json!({"unsafe": ["unsafe"]});
    planned(judge.path(), &unsafe_).unwrap();
    let many: Vec<String> = WORDS
        .iter()
        .map(|word| (*word).to_owned())
        .chain((0..9).map(|n| format!("w{n}")))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let path = judge.path().join("tokenizer.json");
    std::fs::write(&path, tokenizer(&many)).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(later)
        .unwrap();
    assert!(refused(judge.path(), &unsafe_).0.contains("does not fit the model"));
}
