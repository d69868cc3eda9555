//! People as one more judge: their labels as rows of verdicts.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, LargeStringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};
use fracture_stage::view::{ColumnReader, concat_column};
use fracture_stage::{Error, View};

use crate::read;
use crate::rows::Labels;

/// The name of a rater without one.
const PEOPLE: &str = "people";
/// Between the label of a safe text and that of an unsafe one.
const BETWEEN: f64 = 0.5;
/// Columns that are the judge's, not the text's.
const JUDGES_OWN: [&str; 6] = ["p_unsafe", "tau", "tau_other", "unsafe", "invalid", "p_raw"];

/// A table in memory.
struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        let found = self.0.column_by_name(column).cloned();
        found.ok_or_else(|| Error::internal(format!("there is no column `{column}`")))
    }
}

/// The labels of every rater as verdicts of a judge of that name. `wanted` are the columns that the reader reads.
///
/// # Errors
/// When a column can not be read.
pub fn people(
    views: &[&View],
    labels: &[&View],
    judge: &str,
    wanted: &[String],
) -> Result<(Vec<View>, Vec<String>), Error> {
    let joined = Labels::join(views, labels)?;
    let text = text_keys(views, judge)?;
    let mut made = Vec::with_capacity(joined.raters.len());
    let mut names = Vec::with_capacity(joined.raters.len());
    for (rater, said) in joined.raters.iter().zip(&joined.of_rater) {
        let name = if rater.is_empty() {
            PEOPLE.to_owned()
        } else {
            format!("{PEOPLE}: {rater}")
        };
        let mut seen = HashSet::new();
        let rows: Vec<u32> = (0..said.len())
            .filter(|&row| !said[row].is_nan() && seen.insert(&text[row]))
            .map(|row| row as u32)
            .collect();
        let verdicts: Vec<f64> = rows.iter().map(|&row| said[row as usize]).collect();
        made.push(view(views, &rows, &verdicts, judge, &name, wanted)?);
        names.push(name);
    }
    Ok((made, names))
}

/// What tells texts apart: all key columns but the judge, and regime, draw and sample.
fn text_keys(views: &[&View], judge: &str) -> Result<Vec<String>, Error> {
    let mut names: Vec<&str> = views.iter().flat_map(|view| view.keys()).map(String::as_str).collect();
    names.extend(["item", "axis", "regime", "draw", "sample"]);
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name != judge);
    let rows: usize = views.iter().map(|view| view.rows()).sum();
    let mut keys = vec![String::new(); rows];
    for name in names {
        let Some(column) = read::text(views, name)? else {
            continue;
        };
        for (row, key) in keys.iter_mut().enumerate() {
            let value = read::at(&column, row);
            // Lengths keep neighbours apart.
            key.push_str(&value.map_or("-".to_owned(), |value| format!("{}:{value}", value.len())));
        }
    }
    Ok(keys)
}

fn view(
    views: &[&View],
    rows: &[u32],
    verdicts: &[f64],
    judge: &str,
    name: &str,
    wanted: &[String],
) -> Result<View, Error> {
    let keys: Vec<String> = views.iter().flat_map(|view| view.keys()).cloned().collect();
    let mut names: Vec<&String> = wanted.iter().chain(&keys).collect();
    names.sort();
    names.dedup();
    let place = UInt32Array::from(rows.to_vec());
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    let own = |column: &str| column == judge || JUDGES_OWN.contains(&column);
    for column in names
        .into_iter()
        .filter(|column| !own(column) && read::has(views, column))
    {
        let whole = concat_column(views, column)?;
        let taken = take(&whole, &place, None)
            .map_err(|error| Error::internal(format!("column `{column}` can not be gathered")).cause(error))?;
        columns.push((column.clone(), taken));
    }
    columns.push((
        judge.to_owned(),
        Arc::new(LargeStringArray::from(vec![name; rows.len()])),
    ));
    columns.push(("p_unsafe".to_owned(), Arc::new(Float64Array::from(verdicts.to_vec()))));
    columns.push((
        "tau".to_owned(),
        Arc::new(Float64Array::from(vec![BETWEEN; rows.len()])),
    ));
    let flags: Vec<bool> = verdicts.iter().map(|verdict| *verdict >= BETWEEN).collect();
    columns.push(("unsafe".to_owned(), Arc::new(BooleanArray::from(flags))));
    let failed = |error| Error::internal("labels do not make a table").cause(error);
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let mut described = Vec::with_capacity(columns.len());
    for (name, column) in &columns {
        let kind = column_type(column.data_type())
            .ok_or_else(|| Error::internal(format!("column `{name}` has a type that is not stored")))?;
        let digest = column_digest(kind, std::slice::from_ref(column))
            .map_err(|error| Error::internal(format!("column `{name}` can not be hashed")).cause(error))?;
        described.push((name.clone(), kind, digest));
    }
    let arrays = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(failed)?;
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch));
    let columns = described
        .iter()
        .map(|(name, kind, digest)| (name.as_str(), *kind, *digest));
    Ok(View::stored(rows.len(), &reader, columns).with_keys(keys))
}
