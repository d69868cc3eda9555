//! Columns behind those of a table.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use fracture_stage::Error;

/// A table with the columns of another one behind its own.
///
/// # Errors
/// An internal error when they have different numbers of rows.
pub fn joined(left: &RecordBatch, right: &RecordBatch) -> Result<RecordBatch, Error> {
    let mut batch = left.clone();
    let schema = right.schema();
    for (field, column) in schema.fields().iter().zip(right.columns()) {
        batch = appended(&batch, field.name(), column.clone())?;
    }
    Ok(batch)
}

/// A table with a column behind the others.
///
/// # Errors
/// An internal error when the column has another length.
pub fn appended(batch: &RecordBatch, name: &str, column: ArrayRef) -> Result<RecordBatch, Error> {
    let schema = batch.schema();
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(name, column.data_type().clone(), true));
    let mut arrays = batch.columns().to_vec();
    arrays.push(column);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|error| Error::internal("the columns of a table have different lengths").cause(error))
}
