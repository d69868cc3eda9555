//! Record batches to polars and back, through Arrow IPC in memory: the two libraries share a format, not types.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use arrow::record_batch::RecordBatch;
use fracture_stage::Error;
use polars::prelude::{CompatLevel, DataFrame};
use polars_io::SerReader;
use polars_io::prelude::{IpcReader, IpcWriter, SerWriter};

use crate::normal::normalise;

/// A table as a polars frame.
///
/// # Errors
/// When there is no batch, or a column has a type that polars does not know.
pub fn to_polars(batches: &[RecordBatch]) -> Result<DataFrame, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::task("the table can not be handed to polars").cause(error);
    let first = batches
        .first()
        .ok_or_else(|| Error::internal("a table without a batch has no columns"))?;
    let mut writer = FileWriter::try_new(Vec::new(), &first.schema()).map_err(|error| failed(&error))?;
    batches
        .iter()
        .try_for_each(|batch| writer.write(batch))
        .map_err(|error| failed(&error))?;
    let bytes = writer.into_inner().map_err(|error| failed(&error))?;
    IpcReader::new(Cursor::new(bytes))
        .finish()
        .map_err(|error| failed(&error))
}

/// A polars frame as one batch of the types that an artifact can hold.
///
/// # Errors
/// When a column has a type that no artifact can hold.
pub fn from_polars(mut frame: DataFrame) -> Result<RecordBatch, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::task("the table can not be taken from polars").cause(error);
    let mut bytes = Vec::new();
    // The oldest level has no string views, which other readers of Arrow lack too.
    let mut writer = IpcWriter::new(&mut bytes)
        .with_compat_level(CompatLevel::oldest())
        .with_parallel(false);
    writer.finish(&mut frame).map_err(|error| failed(&error))?;
    read_ipc(&bytes)
        .map_err(|error| failed(&error))
        .and_then(|batch| normalise(&batch))
}

/// The one batch of an Arrow IPC file in memory.
///
/// # Errors
/// When the bytes are no such file.
pub fn read_ipc(bytes: &[u8]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let reader = FileReader::try_new(Cursor::new(bytes), None)?;
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>()?;
    concat_batches(&schema, &batches)
}

/// The lists of `column` as vectors of a fixed `width` again, where they all have it.
pub fn as_vectors(column: &ArrayRef, width: i32) -> Option<ArrayRef> {
    let item = match column.data_type() {
        DataType::LargeList(item) => Arc::clone(item),
        _ => return None,
    };
    let to = DataType::FixedSizeList(item, width);
    let cast = arrow::compute::cast(column, &to).ok()?;
    (cast.null_count() == column.null_count()).then_some(cast)
}

/// Keeps the vectors of a fixed width that polars turned into lists, where the output has a column of the same name.
pub fn restore_vectors(batch: &RecordBatch, before: &Schema) -> RecordBatch {
    let restored = batch
        .schema_ref()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let width = before
                .field_with_name(field.name())
                .ok()
                .and_then(|field| match field.data_type() {
                    DataType::FixedSizeList(_, width) => Some(*width),
                    _ => None,
                });
            let column = width
                .and_then(|width| as_vectors(column, width))
                .unwrap_or_else(|| Arc::clone(column));
            (Field::new(field.name(), column.data_type().clone(), true), column)
        });
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = restored.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap_or_else(|_| batch.clone())
}
