//! Figures of made-up tables, through the stage. Set `FRACTURE_PICTURES` to a folder to look at the pictures.

#![allow(clippy::unwrap_used)]

mod bars;
mod numbers;
mod pdf;
mod plots;
mod split;
mod tables;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, LargeStringArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use fracture_cache::ColumnType;
use fracture_cache::digest::Framed;
use fracture_stage::stage::{Incoming, Inputs, Open, Output, Work};
use fracture_stage::view::ColumnReader;
use fracture_stage::{Context, Error, Files, Schema, Schemas, View};
use serde_json::{Value, json};

struct Batch(RecordBatch);

impl ColumnReader for Batch {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        self.0
            .column_by_name(column)
            .cloned()
            .ok_or_else(|| Error::internal(column))
    }
}

struct NoFiles;

impl Files for NoFiles {
    fn locate(&self, path: &str) -> std::path::PathBuf {
        path.into()
    }
    fn head(&self, _: &std::path::Path, _: usize) -> Result<Vec<u8>, Error> {
        Err(Error::internal("no files"))
    }
    fn size(&self, _: &std::path::Path) -> Option<u64> {
        None
    }
    fn list(&self, _: &std::path::Path) -> Option<Vec<String>> {
        None
    }
}

/// A made-up table: rows of named values.
#[derive(Debug, Clone, Default)]
struct Made(Vec<Vec<(&'static str, Value)>>);

impl Made {
    fn push(&mut self, row: &[(&'static str, Value)]) {
        self.0.push(row.to_vec());
    }

    /// As a view whose key columns are those of `keys` that it has.
    fn view(&self, keys: &[&str]) -> View {
        let names: Vec<&'static str> = self
            .0
            .first()
            .map(|row| row.iter().map(|(name, _)| *name).collect())
            .unwrap_or_default();
        let value = |row: &Vec<(&'static str, Value)>, name: &str| {
            row.iter()
                .find(|(other, _)| *other == name)
                .map_or(Value::Null, |(_, value)| value.clone())
        };
        let column = |name: &&'static str| -> (&'static str, ArrayRef) {
            let values: Vec<Value> = self.0.iter().map(|row| value(row, name)).collect();
            let array: ArrayRef = if values.iter().any(Value::is_string) {
                Arc::new(LargeStringArray::from_iter(values.iter().map(Value::as_str)))
            } else if values.iter().any(Value::is_boolean) {
                Arc::new(BooleanArray::from_iter(values.iter().map(Value::as_bool)))
            } else {
                Arc::new(Float64Array::from_iter(values.iter().map(Value::as_f64)))
            };
            (*name, array)
        };
        if names.is_empty() {
            return view(
                &RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())),
                keys,
            );
        }
        view(&RecordBatch::try_from_iter(names.iter().map(column)).unwrap(), keys)
    }
}

fn view(batch: &RecordBatch, keys: &[&str]) -> View {
    let reader: Arc<dyn ColumnReader> = Arc::new(Batch(batch.clone()));
    let schema = batch.schema();
    let kind = |field: &arrow::datatypes::FieldRef| match field.data_type() {
        DataType::Float64 => ColumnType::F64,
        DataType::UInt32 => ColumnType::U32,
        DataType::Boolean => ColumnType::Bool,
        _ => ColumnType::Text,
    };
    let columns = schema
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), kind(field), Framed::new("t").finish()));
    View::stored(batch.num_rows(), &reader, columns).with_keys(keys.iter().map(|key| (*key).to_owned()))
}

/// What a figure makes of tables at ports.
fn figure(with: &Value, ports: Vec<(&str, Vec<View>)>) -> Result<Vec<(String, Output)>, Error> {
    let built = (crate::declaration().build)(with, &Context::default());
    let stage = built.map_err(|errors| {
        Error::pipeline(errors[0].message.clone()).hint(errors[0].hint.clone().unwrap_or_default())
    })?;
    let schemas = ports
        .iter()
        .map(|(name, _)| ((*name).to_owned(), vec![Schema::unknown()]));
    let schemas = Schemas {
        ports: schemas.collect(),
    };
    stage.schema(&schemas, &NoFiles)?;
    let ports = ports
        .into_iter()
        .map(|(name, views)| (name.to_owned(), views.into_iter().map(Incoming::Table).collect()));
    let inputs = Inputs { ports: ports.collect() };
    let cancelled = AtomicBool::new(false);
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &cancelled,
        note: &|_| {},
        progress: &|_, _| {},
        files: &NoFiles,
    };
    let Work::Whole(whole) = stage.work() else {
        panic!("a figure is made at once")
    };
    let product = whole.run(&inputs, &open)?;
    Ok(product
        .outputs
        .iter()
        .map(|(name, output)| (name.to_owned(), output.clone()))
        .collect())
}

/// The files of a figure.
fn files(with: &Value, ports: Vec<(&str, Vec<View>)>) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let blob = |(name, output): (String, Output)| match output {
        Output::Blob(bytes) => (name, bytes),
        other => panic!("a figure is a file, not {other:?}"),
    };
    Ok(figure(with, ports)?.into_iter().map(blob).collect())
}

/// A picture as SVG, PNG and PDF, written to `FRACTURE_PICTURES` as well.
fn picture(name: &str, with: &Value, ports: Vec<(&str, Vec<View>)>) -> Result<(String, Vec<u8>, Vec<u8>), Error> {
    let mut with = with.clone();
    with["name"] = json!(name);
    with["to"] = json!(["f.svg", "f.png", "f.pdf"]);
    let mut made = files(&with, ports)?.into_iter().map(|(_, bytes)| bytes);
    let mut next = || made.next().unwrap();
    let (svg, png, pdf) = (String::from_utf8(next()).unwrap(), next(), next());
    if let Some(folder) = std::env::var_os("FRACTURE_PICTURES") {
        let folder = std::path::Path::new(&folder);
        for (ending, bytes) in [("svg", svg.as_bytes()), ("png", &png), ("pdf", &pdf)] {
            std::fs::write(folder.join(format!("{name}.{ending}")), bytes).unwrap();
        }
    }
    Ok((svg, png, pdf))
}

/// The texts of a picture.
fn labels(svg: &str) -> Vec<&str> {
    svg.split("aria-label=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

/// The caption of a picture.
fn caption(svg: &str) -> &str {
    let caption = svg.split("<desc>").nth(1).and_then(|rest| rest.split("</desc>").next());
    caption.unwrap()
}

/// A number below 1 that follows from another: made-up data that is the same everywhere.
fn noise(seed: usize) -> f64 {
    let mut state = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    for _ in 0..3 {
        state ^= state >> 31;
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    (state >> 11) as f64 / (1u64 << 53) as f64
}

/// What a figure says of tables with these columns before it is drawn.
fn planned(with: &Value, ports: &[(&str, Schema)]) -> Result<(), Error> {
    let stage = (crate::declaration().build)(with, &Context::default()).unwrap();
    let port = |(name, schema): &(&str, Schema)| ((*name).to_owned(), vec![schema.clone()]);
    let schemas = Schemas {
        ports: ports.iter().map(port).collect(),
    };
    stage.schema(&schemas, &NoFiles).map(drop)
}

#[test]
fn a_text_is_no_height_and_that_is_known_before_the_run() {
    let table = Schema::exact([
        ("axis", ColumnType::Text),
        ("fracture", ColumnType::F64),
        ("few", ColumnType::Bool),
    ]);
    let bars = |y: &str| {
        planned(
            &json!({"plot": "bars", "to": "a.svg", "y": y}),
            &[("table", table.clone())],
        )
    };
    let error = bars("axis").unwrap_err();
    assert_eq!(error.message, "column `axis` is a text, and a number is needed");
    for y in ["fracture", "few", "elsewhere"] {
        bars(y).unwrap();
    }
    planned(
        &json!({"plot": "table", "to": "a.csv", "y": "axis"}),
        &[("table", table.clone())],
    )
    .unwrap();
}

#[test]
fn what_where_chooses_is_named_with_its_place() {
    let with = json!({"plot": "table", "to": "a.csv", "where": {"axis": "safety", "k": [1, true]}});
    let stage = (crate::declaration().build)(&with, &Context::default()).unwrap();
    let named = stage.named();
    let values: Vec<Vec<String>> = named
        .iter()
        .filter(|one| one.port == "table")
        .map(|one| {
            one.any_of
                .iter()
                .map(|(value, path)| format!("{value} at {}", path.len()))
                .collect()
        })
        .collect();
    assert_eq!(values, [vec!["safety at 2"], vec!["1 at 3", "true at 3"]]);
}
