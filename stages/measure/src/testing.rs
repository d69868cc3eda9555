//! Tables in memory for tests, and how a stage is run on them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, UInt32Array};
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};
use fracture_stage::stage::{Incoming, Work};
use fracture_stage::view::ColumnReader;
use fracture_stage::{Context, Declaration, Error, Files, Inputs, Open, Output, Product, Stage, View};
use serde_json::Value;

struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        self.0
            .column_by_name(column)
            .cloned()
            .ok_or_else(|| Error::internal(format!("no column {column}")))
    }
}

/// A table of a batch, with key columns and constants.
pub fn view(batch: &RecordBatch, keys: &[&str], constants: &[(&str, Value)]) -> View {
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let kind = column_type(field.data_type()).unwrap();
        (
            field.name().as_str(),
            kind,
            column_digest(kind, std::slice::from_ref(column)).unwrap(),
        )
    });
    let view = View::stored(batch.num_rows(), &reader, columns);
    let constants = constants
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    let keys = ["item", "axis"].iter().chain(keys).map(|key| (*key).to_owned());
    view.with_constants(constants).with_keys(keys)
}

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
    pub tau_other: Option<f64>,
    pub model: &'static str,
    pub cue: Option<&'static str>,
    pub objective: Option<&'static str>,
    pub finish: &'static str,
    pub cluster: Option<String>,
}

impl Row {
    /// A row of regime `train`, `deploy` or `deploy-again` as the quickstart has them.
    pub fn new(item: impl ToString, regime: &'static str, score: f64) -> Self {
        let train = regime == "train";
        Self {
            item: item.to_string(),
            axis: "safety",
            regime,
            draw: u32::from(regime == "deploy-again"),
            sample: 0,
            score: Some(score),
            tau: 0.5,
            tau_other: None,
            model: "m",
            cue: train.then_some("fine-tuning/train"),
            objective: train.then_some("safe"),
            finish: "stop",
            cluster: None,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The rows as a batch.
pub fn batch(rows: &[Row]) -> RecordBatch {
    let text =
        |read: fn(&Row) -> Option<&str>| -> ArrayRef { Arc::new(rows.iter().map(read).collect::<LargeStringArray>()) };
    let count = |read: fn(&Row) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(read))) };
    let number =
        |read: fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(read).collect::<Float64Array>()) };
    let verdict = |row: &Row| row.score.filter(|score| !score.is_nan()).map(|score| score >= row.tau);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("item", text(|row| Some(&row.item))),
        ("axis", text(|row| Some(row.axis))),
        ("regime", text(|row| Some(row.regime))),
        ("draw", count(|row| row.draw)),
        ("sample", count(|row| row.sample)),
        ("cue", text(|row| row.cue)),
        ("cue_hash", text(|row| row.cue)),
        ("objective", text(|row| row.objective)),
        ("model", text(|row| Some(row.model))),
        ("finish_reason", text(|row| Some(row.finish))),
        ("cluster", text(|row| row.cluster.as_deref())),
        ("p_unsafe", number(|row| row.score)),
        ("tau", number(|row| Some(row.tau))),
        ("tau_other", number(|row| row.tau_other)),
        ("unsafe", Arc::new(rows.iter().map(verdict).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

/// The rows as one table whose key column is `model`.
pub fn table(rows: &[Row]) -> View {
    view(&batch(rows), &["model"], &[])
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

/// A task of a kind.
pub fn stage(declaration: &Declaration, with: &Value) -> Box<dyn Stage> {
    (declaration.build)(with, &Context::default()).unwrap()
}

/// Runs a task on tables at its first port.
pub fn run(declaration: &Declaration, with: &Value, tables: &[View]) -> Result<Product, Error> {
    run_ports(declaration, with, &[(declaration.ports[0].name, tables)])
}

/// Runs a task on tables at several ports.
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
    let arriving = |tables: &[View]| tables.iter().cloned().map(Incoming::Table).collect();
    let inputs = Inputs {
        ports: ports
            .iter()
            .map(|(name, tables)| ((*name).to_owned(), arriving(tables)))
            .collect(),
    };
    match stage.work() {
        Work::Whole(whole) => whole.run(&inputs, &open),
        Work::Rows(_) => panic!("a stage of measurement works on whole tables"),
    }
}

/// The schema that a task announces for tables at its first port, and the one that it has.
pub fn announced(declaration: &Declaration, with: &Value, tables: &[View]) -> Vec<(String, Vec<String>)> {
    announced_ports(declaration, with, &[(declaration.ports[0].name, tables)]).unwrap()
}

/// The same for tables at several ports.
pub fn announced_ports(
    declaration: &Declaration,
    with: &Value,
    ports: &[(&str, &[View])],
) -> Result<Vec<(String, Vec<String>)>, Error> {
    use fracture_stage::{Completeness, Field, Schema, Schemas};
    let of = |view: &View| Schema {
        fields: view
            .names()
            .map(|name| Field {
                name: name.to_owned(),
                kind: view.column_type(name),
            })
            .collect(),
        completeness: Completeness::Exact,
        keys: view
            .keys()
            .iter()
            .filter(|key| !["item", "axis"].contains(&key.as_str()))
            .cloned()
            .collect(),
    };
    let schemas = Schemas {
        ports: ports
            .iter()
            .map(|(name, tables)| ((*name).to_owned(), tables.iter().map(of).collect()))
            .collect(),
    };
    let outputs = stage(declaration, with).schema(&schemas, &NoFiles)?;
    let described = |field: &Field| format!("{} {:?}", field.name, field.kind.unwrap());
    let columns = |schema: &Schema| schema.fields.iter().map(described).collect();
    Ok(outputs
        .iter()
        .map(|(name, schema)| (name.to_owned(), columns(schema)))
        .collect())
}

/// The columns of a task's outputs in the same form.
pub fn yielded(product: &Product) -> Vec<(String, Vec<String>)> {
    let described = |output: &Output| {
        let batch = rows_of(output);
        let schema = batch.schema();
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
    let column = arrow::compute::cast(
        batch.column_by_name(name).unwrap(),
        &arrow::datatypes::DataType::Float64,
    )
    .unwrap();
    column.as_any().downcast_ref::<Float64Array>().unwrap().iter().collect()
}

/// A column of text.
pub fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = arrow::compute::cast(
        batch.column_by_name(name).unwrap(),
        &arrow::datatypes::DataType::LargeUtf8,
    )
    .unwrap();
    column
        .as_any()
        .downcast_ref::<LargeStringArray>()
        .unwrap()
        .iter()
        .map(|text| text.map(str::to_owned))
        .collect()
}

/// A batch of whole numbers and scores.
pub fn integers(name: &str, values: &[i64]) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    debug_assert_eq!(column.len(), values.len());
    RecordBatch::try_from_iter([(name, column)]).unwrap()
}

/// A label of a person.
#[derive(Debug, Clone)]
pub struct LabelRow {
    pub item: String,
    pub regime: &'static str,
    pub rater: &'static str,
    pub harmful: Option<bool>,
}

impl LabelRow {
    /// A label of a rater without a name.
    pub fn new(item: impl ToString, regime: &'static str, harmful: bool) -> Self {
        Self {
            item: item.to_string(),
            regime,
            rater: "",
            harmful: Some(harmful),
        }
    }
}

/// Labels as `load` reads them: without an axis of their own, sample and draw 0.
pub fn labels(rows: &[LabelRow]) -> View {
    let text = |read: fn(&LabelRow) -> &str| -> ArrayRef {
        Arc::new(rows.iter().map(read).map(Some).collect::<LargeStringArray>())
    };
    let zeros = || -> ArrayRef { Arc::new(UInt32Array::from(vec![0; rows.len()])) };
    let said: BooleanArray = rows.iter().map(|row| row.harmful).collect();
    let mut columns = vec![
        ("item", text(|row| &row.item)),
        ("axis", text(|_| "all")),
        ("regime", text(|row| row.regime)),
        ("sample", zeros()),
        ("draw", zeros()),
        ("unsafe_human", Arc::new(said) as ArrayRef),
    ];
    if rows.iter().any(|row| !row.rater.is_empty()) {
        columns.push(("rater", text(|row| row.rater)));
    }
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    view(&RecordBatch::try_from_iter_with_nullable(columns).unwrap(), &[], &[])
}
