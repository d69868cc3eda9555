//! The stage `flow` on small tables: counts, crossings, drift beside its noise, and what it says when something is missing.
#![allow(clippy::unwrap_used)]

mod boundary;
mod drift;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float64Array, LargeStringArray, UInt32Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};
use fracture_stage::stage::{Incoming, Work};
use fracture_stage::view::ColumnReader;
use fracture_stage::{
    Completeness, Context, Error, Field, Files, Inputs, Open, Output, Product, Schema, Schemas, Stage, View,
};
use serde_json::{Value, json};

use fracture_geometry::flow::declaration;

struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Ok(self.0.column_by_name(column).unwrap().clone())
    }
}

fn view(batch: &RecordBatch, keys: &[&str]) -> View {
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let kind = column_type(field.data_type()).unwrap();
        let digest = column_digest(kind, std::slice::from_ref(column)).unwrap();
        (field.name().as_str(), kind, digest)
    });
    let keys = ["item", "axis"].iter().chain(keys).map(|key| (*key).to_owned());
    View::stored(batch.num_rows(), &reader, columns).with_keys(keys)
}

/// A completion: its score, and where it lies.
#[derive(Debug, Clone)]
struct Row {
    item: String,
    regime: &'static str,
    sample: u32,
    model: &'static str,
    judge: &'static str,
    score: Option<f64>,
    point: Option<Vec<f32>>,
}

impl Row {
    fn new(item: usize, regime: &'static str, score: f64, point: &[f32]) -> Self {
        Self {
            item: format!("i{item:03}"),
            regime,
            sample: 0,
            model: "m",
            judge: "j",
            score: Some(score),
            point: Some(point.to_vec()),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn texts(rows: &[Row], read: fn(&Row) -> &str) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(read(row))).collect::<LargeStringArray>())
}

fn identity(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    let counts = |read: fn(&Row) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(read))) };
    vec![
        ("item", texts(rows, |row| &row.item)),
        ("axis", texts(rows, |_| "safety")),
        ("regime", texts(rows, |row| row.regime)),
        (
            "cue",
            texts(rows, |row| if row.regime == "train" { "fine-tuning" } else { "none" }),
        ),
        ("draw", counts(|row| u32::from(row.regime == "deploy-again"))),
        ("sample", counts(|row| row.sample)),
        ("model", texts(rows, |row| row.model)),
    ]
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn verdicts(rows: &[Row]) -> View {
    let mut columns = identity(rows);
    let scores: Float64Array = rows.iter().map(|row| row.score).collect();
    columns.push(("judge", texts(rows, |row| row.judge)));
    columns.push(("p_unsafe", Arc::new(scores)));
    columns.push(("tau", Arc::new(Float64Array::from(vec![0.5; rows.len()]))));
    view(&batch(columns), &["model", "judge"])
}

fn points(rows: &[Row]) -> ArrayRef {
    let point = |row: &Row| {
        row.point
            .as_ref()
            .map(|point| point.iter().map(|x| Some(*x)).collect::<Vec<_>>())
    };
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        rows.iter().map(point),
        3,
    ))
}

fn embeddings(rows: &[Row]) -> View {
    let mut columns = identity(rows);
    columns.push(("encoder", texts(rows, |_| "e")));
    columns.push(("embedding", points(rows)));
    view(&batch(columns), &["model", "encoder"])
}

struct NoFiles;

impl Files for NoFiles {
    fn locate(&self, path: &str) -> PathBuf {
        PathBuf::from(path)
    }

    fn head(&self, path: &Path, _: usize) -> Result<Vec<u8>, Error> {
        Err(Error::input(path.display().to_string()))
    }

    fn size(&self, _: &Path) -> Option<u64> {
        None
    }

    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}

fn stage(with: &Value) -> Box<dyn Stage> {
    (declaration().build)(with, &Context::default()).unwrap()
}

fn run_ports(with: &Value, ports: &[(&str, Vec<View>)]) -> Result<Product, Error> {
    let stage = stage(with);
    let cancelled = AtomicBool::new(false);
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &cancelled,
        note: &|_| {},
        progress: &|_, _| {},
        files: &NoFiles,
    };
    let arriving = |views: &Vec<View>| views.iter().cloned().map(Incoming::Table).collect();
    let inputs = Inputs {
        ports: ports
            .iter()
            .map(|(name, views)| ((*name).to_owned(), arriving(views)))
            .collect(),
    };
    match stage.work() {
        Work::Whole(whole) => whole.run(&inputs, &open),
        Work::Rows(_) => panic!("`flow` works on whole tables"),
    }
}

fn run(with: &Value, rows: &[Row]) -> Result<Product, Error> {
    run_ports(
        with,
        &[
            ("verdicts", vec![verdicts(rows)]),
            ("embeddings", vec![embeddings(rows)]),
        ],
    )
}

fn table<'a>(product: &'a Product, name: &str) -> &'a RecordBatch {
    match product.outputs.get(Some(name)).unwrap() {
        Output::Table { batch, .. } => batch,
        _ => panic!("no table"),
    }
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let column = arrow::compute::cast(batch.column_by_name(name).unwrap(), &DataType::Float64).unwrap();
    column.as_primitive::<Float64Type>().iter().collect()
}

fn words(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap().as_string::<i64>();
    column.iter().map(|word| word.map(str::to_owned)).collect()
}

fn noise(item: usize, salt: usize) -> f32 {
    let mixed = (item * 7919 + salt * 104_729 + 13) % 1009;
    mixed as f32 / 1009.0 - 0.5
}

fn at(pole: [f32; 3], item: usize, salt: usize) -> Vec<f32> {
    (0..3)
        .map(|axis| pole[axis] + 0.3 * noise(item, salt * 3 + axis))
        .collect()
}

const SAFE: [f32; 3] = [1.0, 0.0, 0.0];
const UNSAFE: [f32; 3] = [0.0, 1.0, 0.0];

/// Sixty items that are safe in train; every third is unsafe in deploy, and lies there.
fn faker() -> Vec<Row> {
    let pair = |i: usize| {
        let (score, pole) = if i.is_multiple_of(3) {
            (0.9, UNSAFE)
        } else {
            (0.1, SAFE)
        };
        [
            Row::new(i, "train", 0.1, &at(SAFE, i, 0)),
            Row::new(i, "deploy", score, &at(pole, i, 1)),
            Row::new(i, "deploy-again", score, &at(pole, i, 2)),
        ]
    };
    (0..60).flat_map(pair).collect()
}

fn quick() -> Value {
    json!({"bootstrap": 200})
}
