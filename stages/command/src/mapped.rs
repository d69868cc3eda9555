//! What a program with `shape: map` adds to the table that it was given.
//!
//! Its rows are those of its input, one by one and in their order, or each says by the column `_parent` which row of the
//! input, counted from 0, it comes from. The stage keeps the input's columns, so one that comes back as it was is not
//! stored again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use fracture_stage::{Error, View};

use crate::output::{Written, batch};

/// The column by which rows name the row of the input that they come from.
pub const PARENT: &str = "_parent";

/// The columns that are added, and the row of the input for each row; none where rows are the input's one by one.
///
/// # Errors
/// When the rows are not the input's, or nothing is added.
pub fn added(written: Written, input: &View, declared: bool) -> Result<(RecordBatch, Option<Vec<u32>>), Error> {
    let Written { table, parent } = written;
    let parent = parent.map(|column| rows_of(&column, input.rows())).transpose()?;
    if parent.is_none() && table.num_rows() != input.rows() {
        let (made, given) = (table.num_rows(), input.rows());
        return Err(Error::task(format!("the program wrote {made} rows for the {given} of its input")).hint(format!(
            "write one row for each row of the input, in its order, or a column `{PARENT}` that says for each row which one \
             it comes from, counted from 0"
        )));
    }
    let parent = parent.map(|rows| rows.into_iter().collect::<UInt32Array>());
    let table = if declared {
        table
    } else {
        without_kept(&table, input, parent.as_ref())?
    };
    if table.num_columns() == 0 && parent.is_none() {
        return Err(Error::task("the program adds no column to its input")
            .hint("write the new columns; to drop or repeat rows, write the column `_parent`"));
    }
    Ok((table, parent.map(|rows| rows.values().to_vec())))
}

/// The input's rows that a column names.
fn rows_of(column: &ArrayRef, rows: usize) -> Result<Vec<u32>, Error> {
    let wrong = |problem: String| {
        Error::task(format!("the column `{PARENT}` {problem}")).hint(format!(
            "it holds for each row a row of the input: 0 to {}",
            rows.saturating_sub(1)
        ))
    };
    let whole = match column.data_type() {
        kind if kind.is_integer() => cast(column, &DataType::Int64).ok(),
        // Numbers of JSON and of a CSV file with empty cells; one that is not whole comes back as another.
        DataType::Float64 => cast(column, &DataType::Int64)
            .ok()
            .filter(|whole| cast(whole, &DataType::Float64).is_ok_and(|back| back.as_ref() == column.as_ref())),
        _ => None,
    };
    let whole = whole
        .as_ref()
        .and_then(|whole| whole.as_any().downcast_ref::<Int64Array>());
    let whole = whole.ok_or_else(|| wrong("does not hold whole numbers".to_owned()))?;
    let row = |(at, row): (usize, Option<i64>)| match row {
        None => Err(wrong(format!("is empty in row {at}"))),
        Some(row) => usize::try_from(row)
            .ok()
            .filter(|row| *row < rows)
            .and_then(|row| u32::try_from(row).ok())
            .ok_or_else(|| wrong(format!("names row {row}, which the input does not have"))),
    };
    whole.iter().enumerate().map(row).collect()
}

/// The table without the columns that say what the input says of these rows.
fn without_kept(table: &RecordBatch, input: &View, parent: Option<&UInt32Array>) -> Result<RecordBatch, Error> {
    let mut kept = Vec::new();
    for (field, column) in table.schema().fields().iter().zip(table.columns()) {
        if !(input.has(field.name()) && comes_back(field.name(), column, input, parent)?) {
            kept.push((field.name().clone(), Arc::clone(column)));
        }
    }
    batch(kept, table.num_rows())
}

fn comes_back(name: &str, column: &ArrayRef, input: &View, parent: Option<&UInt32Array>) -> Result<bool, Error> {
    let was = input.column(name)?;
    let was = match parent {
        Some(parent) => take(&was, parent, None)
            .map_err(|error| Error::internal(format!("the column `{name}` can not be gathered")).cause(error))?,
        None => was,
    };
    Ok(cast(column, was.data_type())
        .is_ok_and(|now| now.null_count() == column.null_count() && now.as_ref() == was.as_ref()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn a_column_of_rows_is_whole_numbers_within_the_input() {
        let whole = |values: Vec<Option<f64>>| rows_of(&(Arc::new(Float64Array::from(values)) as ArrayRef), 3);
        assert_eq!(whole(vec![Some(2.0), Some(0.0), Some(2.0)]).unwrap(), [2, 0, 2]);
        assert!(whole(vec![Some(3.0)]).unwrap_err().message.contains("names row 3"));
        assert!(whole(vec![Some(-1.0)]).unwrap_err().message.contains("names row -1"));
        assert!(whole(vec![None]).unwrap_err().message.contains("is empty in row 0"));
        assert!(whole(vec![Some(0.5)]).unwrap_err().message.contains("whole numbers"));
    }
}
