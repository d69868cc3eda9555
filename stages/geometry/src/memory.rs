//! Tables that a stage makes for another stage's work: columns in memory, read like stored ones.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};
use fracture_stage::view::ColumnReader;
use fracture_stage::{Error, View};

struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        let found = self.0.column_by_name(column).cloned();
        found.ok_or_else(|| Error::internal(format!("a table in memory has no column `{column}`")))
    }
}

/// A view of a batch with key columns.
///
/// # Errors
/// An internal error when a column has a type that no table stores.
pub fn view(batch: &RecordBatch, keys: impl IntoIterator<Item = String>) -> Result<View, Error> {
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
    let schema = batch.schema();
    let mut columns = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let failed = |error| Error::internal(format!("column `{}` can not be kept", field.name())).cause(error);
        let kind = column_type(field.data_type())
            .ok_or_else(|| Error::internal(format!("column `{}` has no stored type", field.name())))?;
        let digest = column_digest(kind, std::slice::from_ref(column)).map_err(failed)?;
        columns.push((field.name().as_str(), kind, digest));
    }
    Ok(View::stored(batch.num_rows(), &reader, columns).with_keys(keys))
}
