#![allow(clippy::unwrap_used)]
use super::*;
use crate::weights::Weights;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

/// A directory with the small files and weights of two tensors.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), "{}").unwrap();
    std::fs::write(directory.path().join("tokenizer.json"), "{}").unwrap();
    save(&directory.path().join("model.safetensors"), &["a", "b"]);
    directory
}

fn save(path: &Path, names: &[&str]) {
    let half = |name: &str| {
        let tensor = Tensor::new(&[[1.0f32, 2.5], [-3.0, 0.5]], &Device::Cpu).unwrap();
        (name.to_owned(), tensor.to_dtype(DType::F16).unwrap())
    };
    let tensors: HashMap<String, Tensor> = names.iter().map(|name| half(name)).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn error(directory: &tempfile::TempDir) -> Error {
    Checkpoint::open(directory.path()).unwrap_err()
}

#[test]
fn files_are_listed_with_those_that_are_absent() {
    let directory = directory();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let absent: Vec<&str> = checkpoint
        .files()
        .iter()
        .filter(|file| file.path.is_none())
        .map(|file| file.role.as_str())
        .collect();
    assert_eq!(
        absent,
        [
            "tokenizer_config",
            "special_tokens",
            "generation_config",
            "chat_template"
        ]
    );
    assert_eq!(
        checkpoint.tensors()["a"],
        TensorEntry {
            shard: 0,
            dtype: "F16".to_owned(),
            shape: vec![2, 2]
        }
    );
}

#[test]
fn a_truncated_file_is_named_with_the_remedy() {
    let directory = directory();
    let path = directory.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 4, 20, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = error(&directory);
        assert!(
            error.message.contains("model.safetensors") && error.hint.is_some(),
            "{length}: {error:?}"
        );
    }
    assert!(error(&directory).to_string().contains("truncated"));
    std::fs::write(&path, [&u64::MAX.to_le_bytes()[..], &bytes].concat()).unwrap();
    assert!(error(&directory).to_string().contains("header"));
}

#[test]
fn shards_are_found_by_the_index_and_stay_inside_the_directory() {
    let directory = directory();
    std::fs::remove_file(directory.path().join("model.safetensors")).unwrap();
    assert!(error(&directory).to_string().contains("model.safetensors is missing"));
    let index = directory.path().join("model.safetensors.index.json");
    save(&directory.path().join("one.safetensors"), &["a"]);
    save(&directory.path().join("two.safetensors"), &["b"]);
    std::fs::write(
        &index,
        r#"{"weight_map": {"b": "two.safetensors", "a": "one.safetensors"}}"#,
    )
    .unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!((checkpoint.shards().len(), checkpoint.tensors()["b"].shard), (2, 1));
    let roles: Vec<&str> = checkpoint.files().iter().map(|file| file.role.as_str()).collect();
    assert_eq!(
        roles[roles.len() - 4..],
        ["weights", "weights_index", "weights/0", "weights/1"]
    );
    std::fs::write(&index, r#"{"weight_map": {"a": "../one.safetensors"}}"#).unwrap();
    assert!(error(&directory).to_string().contains("index"));
    std::fs::write(&index, r#"{"weight_map": {"a": "three.safetensors"}}"#).unwrap();
    assert!(error(&directory).to_string().contains("three.safetensors"));
}

#[test]
fn weights_are_converted_and_none_is_left_over() {
    let directory = directory();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let open = || Weights::open(&checkpoint, DType::F32, &Device::Cpu).unwrap();
    let mut weights = open();
    let values: Vec<Vec<f32>> = weights.take("a", &[2, 2]).unwrap().to_vec2().unwrap();
    assert_eq!(values, [[1.0, 2.5], [-3.0, 0.5]]);
    assert!(weights.finish(false).unwrap_err().to_string().contains("tensor b"));
    assert!(open().take("a", &[4]).unwrap_err().to_string().contains("shape"));
    assert!(open().take("c", &[4]).unwrap_err().to_string().contains("missing"));
}
