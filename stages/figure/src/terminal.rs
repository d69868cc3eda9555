//! What a person sees of a table on a terminal.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_stage::Error;
use serde_json::Value;

use crate::parameters::FigureParameters;
use crate::rows::{Rows, cell};
use crate::text;

/// The group's columns that are always shown.
const NAMED: &[&str] = &["model", "axis", "decoder"];

/// The columns and rows of a `plot: table` figure that a person wants to see: those that `columns` names; else, of a table
/// of `fracture`, the groups and the headline numbers, rounded, with the interval beside its value; else all.
///
/// # Errors
/// When `columns` or `where` names a column that is not there.
pub fn terminal_table(with: &Value, batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let parameters: FigureParameters = serde_json::from_value(with.clone())
        .map_err(|error| Error::pipeline("the figure's parameters do not fit").cause(error))?;
    let rows = Rows::of_batch(batch).chosen(&parameters.filter)?;
    if !parameters.columns.is_empty() {
        let columns = text::columns(&rows, &parameters.columns)?;
        return build(columns.iter().map(|name| (name.clone(), as_it_is(&rows, name))));
    }
    let shown = if rows.column("contrast").is_some() && rows.column("fracture").is_some() {
        headline(&rows)
    } else {
        rows.names()
            .map(|name| (name.to_owned(), as_it_is(&rows, name)))
            .collect()
    };
    build(shown.into_iter())
}

/// The headline columns of a table of `fracture`.
fn headline(rows: &Rows) -> Vec<(String, Option<ArrayRef>)> {
    let varies = |name: &str| rows.distinct(name).len() > 1;
    let decoders = rows.column("decoder").is_some();
    // A measuring stage puts the columns of its groups first; constants of several tasks may come last.
    let leads: Vec<&str> = rows.names().take_while(|name| *name != "contrast").collect();
    let group = |name: &str| {
        let setting = decoders && matches!(name, "temperature" | "top_p");
        NAMED.contains(&name) || leads.contains(&name) && varies(name) && !setting
    };
    let mut shown: Vec<(String, Option<ArrayRef>)> = Vec::new();
    for name in rows.names().filter(|name| group(name)).chain(["contrast"]) {
        shown.push((name.to_owned(), as_it_is(rows, name)));
    }
    for name in ["aggregate", "k", "tau"].into_iter().filter(|name| varies(name)) {
        shown.push((name.to_owned(), as_it_is(rows, name)));
    }
    shown.push(("n".to_owned(), as_it_is(rows, "n")));
    shown.push(("fracture".to_owned(), Some(with_interval(rows, "fracture"))));
    for name in ["anti", "net", "noise_floor"] {
        shown.push((name.to_owned(), rounded(rows, name)));
    }
    shown.push(("p_adjusted".to_owned(), p_values(rows)));
    shown
}

/// A value with its interval as one text, `0.412 [0.351, 0.476]`; the value alone where there is no interval.
fn with_interval(rows: &Rows, name: &str) -> ArrayRef {
    let numbers = |name: &str| rows.numbers(name).unwrap_or_else(|| vec![None; rows.count()]);
    let (values, low, high) = (
        numbers(name),
        numbers(&format!("{name}_low")),
        numbers(&format!("{name}_high")),
    );
    let texts = values
        .iter()
        .zip(low.iter().zip(&high))
        .map(|(value, interval)| match (value, interval) {
            (None, _) => None,
            (Some(value), (Some(low), Some(high))) => Some(format!("{value:.3} [{low:.3}, {high:.3}]")),
            (Some(value), _) => Some(format!("{value:.3}")),
        });
    Arc::new(StringArray::from(texts.collect::<Vec<_>>()))
}

/// Numbers with three digits behind the point.
fn rounded(rows: &Rows, name: &str) -> Option<ArrayRef> {
    let texts = rows
        .numbers(name)?
        .into_iter()
        .map(|value| value.map(|value| format!("{value:.3}")));
    Some(Arc::new(StringArray::from(texts.collect::<Vec<_>>())))
}

fn p_values(rows: &Rows) -> Option<ArrayRef> {
    let text = |p: f64| {
        if p < 0.001 {
            "<0.001".to_owned()
        } else {
            format!("{p:.3}")
        }
    };
    let texts = rows.numbers("p_adjusted")?.into_iter().map(|p| p.map(text));
    Some(Arc::new(StringArray::from(texts.collect::<Vec<_>>())))
}

/// A column; floating-point numbers keep four significant digits.
fn as_it_is(rows: &Rows, name: &str) -> Option<ArrayRef> {
    let column = rows.column(name)?;
    Some(match column.data_type() {
        DataType::Float64 => {
            let numbers = rows.numbers(name)?.into_iter().map(|value| value.map(significant));
            Arc::new(Float64Array::from(numbers.collect::<Vec<_>>()))
        }
        DataType::LargeUtf8 | DataType::Utf8 => {
            let text = |row: usize| (!column.is_null(row)).then(|| cell(column, row));
            Arc::new(StringArray::from((0..rows.count()).map(text).collect::<Vec<_>>()))
        }
        _ => Arc::clone(column),
    })
}

fn significant(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn build(columns: impl Iterator<Item = (String, Option<ArrayRef>)>) -> Result<RecordBatch, Error> {
    let columns: Vec<(String, ArrayRef)> = columns
        .filter_map(|(name, column)| column.map(|column| (name, column)))
        .collect();
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|error| Error::internal("the table for the terminal does not fit").cause(error))
}
