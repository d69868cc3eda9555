//! Tests of the whole stage over files in a temporary folder, and of the published layouts.
#![allow(clippy::unwrap_used)]

mod layouts;
mod order;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use fracture_stage::{
    Context, Error, Files, Inputs, KeyHasher, Open, Output, ParameterError, Schema, Schemas, Stage, Work,
};
use serde_json::Value;

use crate::stage::Prompt;

/// A project's folder with a few files.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self(folder)
    }
}

impl Files for Folder {
    fn locate(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = std::fs::read(path).map_err(|error| Error::input("no such file").cause(error))?;
        bytes.truncate(limit);
        Ok(bytes)
    }
    fn size(&self, path: &Path) -> Option<u64> {
        path.metadata().ok().map(|metadata| metadata.len())
    }
    fn list(&self, path: &Path) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(path).ok()?;
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        Some(names)
    }
}

/// A stage from YAML-like JSON.
pub fn stage(with: &Value) -> Result<Prompt, Vec<ParameterError>> {
    let context = Context {
        vars: serde_json::json!({"lab": "the lab", "other": 1})
            .as_object()
            .unwrap()
            .clone()
            .into(),
        matrix: vec![fracture_stage::MatrixValue {
            name: "algorithm".into(),
            text: "DPO".into(),
            value: "DPO".into(),
        }],
        ..Context::default()
    };
    Prompt::new(with, &context)
}

/// The table and the notes of a run.
pub fn run(folder: &Folder, with: &Value) -> Result<(RecordBatch, Vec<String>), Error> {
    let stage = stage(with).unwrap();
    let Work::Whole(work) = stage.work() else {
        panic!("not whole")
    };
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &AtomicBool::new(false),
        note: &|_| {},
        progress: &|_, _| {},
        files: folder,
    };
    let product = work.run(&Inputs::default(), &open)?;
    match product.outputs.main {
        Output::Table { batch, .. } => Ok((batch, product.notes)),
        other => panic!("{other:?}"),
    }
}

pub fn schema(folder: &Folder, with: &Value) -> Result<Schema, Error> {
    stage(with)
        .unwrap()
        .schema(&Schemas::default(), folder)
        .map(|outputs| outputs.main)
}

/// The key of a task's parameters.
pub fn key(with: &Value) -> String {
    let mut hasher = KeyHasher::new("test");
    stage(with).unwrap().describe(&mut hasher);
    hasher.finish::<()>().to_string()
}

/// A column of text; `-` for null.
pub fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap();
    let column = arrow::compute::cast(column, &arrow::datatypes::DataType::LargeUtf8).unwrap();
    column
        .as_string::<i64>()
        .iter()
        .map(|text| text.unwrap_or("-").to_owned())
        .collect()
}

pub fn names(batch: &RecordBatch) -> Vec<String> {
    batch
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}
