#![allow(clippy::unwrap_used)]
//! On the tiny models of `tests/gguf`, which `make.py` there writes and compares with llama.cpp and transformers.

mod damage;
mod models;
mod tokens;

use super::*;
use serde_json::Value as Json;

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf")
}

pub(super) fn path(name: &str) -> PathBuf {
    folder().join(format!("{name}.gguf"))
}

pub(super) fn reference() -> Json {
    serde_json::from_str(&std::fs::read_to_string(folder().join("reference.json")).unwrap()).unwrap()
}

/// The models and what others say of each.
pub(super) fn models() -> Vec<(String, Json)> {
    let Json::Object(models) = reference()["models"].take() else {
        panic!("no models in the reference");
    };
    assert_eq!(models.len(), 11);
    models.into_iter().collect()
}

pub(super) fn ids(value: &Json) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

pub(super) fn numbers(value: &Json) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}
