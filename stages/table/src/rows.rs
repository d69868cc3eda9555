//! Tables of JSON cells, row by row: for stages that take a table apart.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use fracture_stage::{Error, View};
use serde_json::Value;

use crate::query::{filter, joined};
use crate::{normal, read, value};

/// Holds a row's number while a condition is applied; no file has a column of this name.
const NUMBER: &str = "\u{1}row";

/// The numbers of the rows for which a SQL condition holds, in their order. `rows` have a cell for each of `names`.
///
/// # Errors
/// When the condition is no SQL, or names a column that is not there.
pub fn rows_where(names: &[String], rows: &[&[Value]], condition: &str) -> Result<Vec<usize>, Error> {
    let column = |(index, name): (usize, &String)| {
        let cells: Vec<&Value> = rows.iter().map(|row| row.get(index).unwrap_or(&Value::Null)).collect();
        (name.clone(), read::json_column(&cells))
    };
    let mut columns: Vec<(String, ArrayRef)> = names.iter().enumerate().map(column).collect();
    let numbers = Int64Array::from_iter_values((0..rows.len()).map(|row| row as i64));
    columns.push((NUMBER.to_owned(), Arc::new(numbers)));
    let kept = filter(&normal::table(columns, rows.len())?, condition)?;
    let numbers = kept
        .column_by_name(NUMBER)
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    let numbers = numbers.ok_or_else(|| Error::internal("rows that were chosen have no numbers"))?;
    Ok(numbers.values().iter().map(|row| *row as usize).collect())
}

/// Columns and rows of all tables that arrive at a port, in an order that does not depend on the order of the tables.
///
/// # Errors
/// When a column can not be read.
pub fn cells(views: &[&View]) -> Result<(Vec<String>, Vec<Vec<Value>>), Error> {
    let table = joined(views)?;
    let names = table
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let row = |row: usize| table.columns().iter().map(|column| value::cell(column, row)).collect();
    Ok((names, (0..table.num_rows()).map(row).collect()))
}
