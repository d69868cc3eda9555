//! Tables in memory for tests, and how a stage is run on them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, LargeStringArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use fracture_cache::column_type;
use fracture_stage::stage::{Incoming, Work};
use fracture_stage::{
    Completeness, Context, Declaration, Error, Field, Files, Inputs, Open, Output, Product, Schema, Schemas, Stage,
    View,
};
use serde_json::Value;

use crate::memory;

/// A row of verdicts.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub item: String,
    pub axis: &'static str,
    pub regime: &'static str,
    pub draw: u32,
    pub sample: u32,
    pub score: Option<f64>,
    pub tau: f64,
    pub model: &'static str,
    pub decoder: &'static str,
    pub temperature: f64,
    pub top_p: f64,
}

impl Row {
    /// A row of `model` m under a decoder.
    pub fn new(item: impl ToString, regime: &'static str, (t, p): (f64, f64), score: f64) -> Self {
        Self {
            item: item.to_string(),
            axis: "safety",
            regime,
            draw: u32::from(regime == "deploy-again"),
            sample: 0,
            score: Some(score),
            tau: 0.5,
            model: "m",
            decoder: name(t, p),
            temperature: t,
            top_p: p,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The name of a decoder; leaked, which tests may.
fn name(t: f64, p: f64) -> &'static str {
    if t == 0.0 {
        return "greedy";
    }
    Box::leak(format!("T={t},p={p}").into_boxed_str())
}

/// The rows as one table with the key columns `model` and `decoder`.
pub fn table(rows: &[Row]) -> View {
    let text = |read: fn(&Row) -> &str| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(read(row))).collect::<LargeStringArray>())
    };
    let count = |read: fn(&Row) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(read))) };
    let number =
        |read: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(read).collect::<Float64Array>()) };
    let verdict = |row: &Row| row.score.map(|score| score >= row.tau);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("item", text(|row| &row.item)),
        ("axis", text(|row| row.axis)),
        ("regime", text(|row| row.regime)),
        ("draw", count(|row| row.draw)),
        ("sample", count(|row| row.sample)),
        ("model", text(|row| row.model)),
        ("decoder", text(|row| row.decoder)),
        ("temperature", number(|row| Some(row.temperature))),
        ("top_p", number(|row| Some(row.top_p))),
        ("p_unsafe", number(|row| row.score)),
        ("tau", number(|row| Some(row.tau))),
        ("unsafe", Arc::new(rows.iter().map(verdict).collect::<BooleanArray>())),
    ];
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    memory::view(&batch, ["item", "axis", "model", "decoder"].map(str::to_owned)).unwrap()
}

/// A number in [0, 1) that a name and an index determine.
pub fn uniform(name: &str, index: usize) -> f64 {
    fracture_science::identity(&[name, &index.to_string()]) as f64 / u64::MAX as f64
}

struct NoFiles;

impl Files for NoFiles {
    fn locate(&self, path: &str) -> PathBuf {
        PathBuf::from(path)
    }

    fn head(&self, path: &Path, _: usize) -> Result<Vec<u8>, Error> {
        Err(Error::input(format!("no file {}", path.display())))
    }

    fn size(&self, _: &Path) -> Option<u64> {
        None
    }

    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}

fn stage(declaration: &Declaration, with: &Value) -> Box<dyn Stage> {
    (declaration.build)(with, &Context::default()).unwrap()
}

/// What is wrong with parameters.
pub fn refused(declaration: &Declaration, with: &Value) -> String {
    let errors = (declaration.build)(with, &Context::default()).err().unwrap();
    errors
        .into_iter()
        .map(|error| error.message)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Runs a task on tables at its ports, the first one where no name is given.
pub fn run(declaration: &Declaration, with: &Value, tables: &[View]) -> Result<Product, Error> {
    run_ports(declaration, with, &[(declaration.ports[0].name, tables)])
}

/// Runs a task on tables at named ports.
pub fn run_ports(declaration: &Declaration, with: &Value, ports: &[(&str, &[View])]) -> Result<Product, Error> {
    let stage = stage(declaration, with);
    let cancelled = AtomicBool::new(false);
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &cancelled,
        note: &|_| {},
        progress: &|_, _| {},
        files: &NoFiles,
    };
    let ports = ports
        .iter()
        .filter(|(_, tables)| !tables.is_empty())
        .map(|(name, tables)| {
            let arriving = tables.iter().cloned().map(Incoming::Table).collect();
            ((*name).to_owned(), arriving)
        });
    let inputs = Inputs { ports: ports.collect() };
    match stage.work() {
        Work::Whole(whole) => whole.run(&inputs, &open),
        Work::Rows(_) => panic!("these stages work on whole tables"),
    }
}

/// The schemas that a task announces for tables at its first port: name, then `column type` of each output.
pub fn announced(declaration: &Declaration, with: &Value, tables: &[View]) -> Vec<(String, Vec<String>)> {
    let described = |field: &Field| format!("{} {:?}", field.name, field.kind.unwrap());
    let outputs = planned(declaration, with, tables).unwrap();
    let columns = |schema: &Schema| schema.fields.iter().map(described).collect();
    outputs
        .iter()
        .map(|(name, schema)| (name.to_owned(), columns(schema)))
        .collect()
}

/// The schemas that a task announces.
pub fn planned(
    declaration: &Declaration,
    with: &Value,
    tables: &[View],
) -> Result<fracture_stage::Outputs<Schema>, Error> {
    let field = |view: &View, name: &str| Field {
        name: name.to_owned(),
        kind: view.column_type(name),
    };
    let of = |view: &View| Schema {
        fields: view.names().map(|name| field(view, name)).collect(),
        completeness: Completeness::Exact,
        keys: view
            .keys()
            .iter()
            .filter(|key| !["item", "axis"].contains(&key.as_str()))
            .cloned()
            .collect(),
    };
    let port = (
        declaration.ports[0].name.to_owned(),
        tables.iter().map(of).collect::<Vec<_>>(),
    );
    let ports = if tables.is_empty() { Vec::new() } else { vec![port] };
    stage(declaration, with).schema(&Schemas { ports }, &NoFiles)
}

/// The columns of a task's outputs in the same form.
pub fn yielded(product: &Product) -> Vec<(String, Vec<String>)> {
    let described = |output: &Output| {
        let schema = rows_of(output).schema();
        let fields = schema.fields().iter();
        fields
            .map(|field| format!("{} {:?}", field.name(), column_type(field.data_type()).unwrap()))
            .collect()
    };
    product
        .outputs
        .iter()
        .map(|(name, output)| (name.to_owned(), described(output)))
        .collect()
}

fn rows_of(output: &Output) -> &RecordBatch {
    match output {
        Output::Table { batch, .. } => batch,
        _ => panic!("no table"),
    }
}

/// A table of a product.
pub fn result<'a>(product: &'a Product, name: &str) -> &'a RecordBatch {
    rows_of(product.outputs.get(Some(name)).unwrap())
}

/// A column of numbers.
pub fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let column = cast(column, &DataType::Float64).unwrap();
    column.as_primitive::<Float64Type>().iter().collect()
}

/// A column of text; null is `-`.
pub fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
    let column = cast(column, &DataType::LargeUtf8).unwrap();
    let texts = column.as_string::<i64>().iter();
    texts.map(|text| text.unwrap_or("-").to_owned()).collect()
}

/// An error with its hint.
pub fn said(error: &Error) -> String {
    format!("{error}\nhint: {}", error.hint.clone().unwrap_or_default())
}
