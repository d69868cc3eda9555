//! Columns of any Arrow type as the few that an artifact can hold.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, LargeStringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use fracture_cache::{ColumnType, arrow_type, column_type};
use fracture_stage::Error;

use crate::value::cell;

/// The type that a column is kept as; `None` where its cells become JSON text.
pub fn target(kind: &DataType) -> Option<ColumnType> {
    if let Some(kind) = column_type(kind) {
        return Some(kind);
    }
    Some(match kind {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => ColumnType::I64,
        DataType::UInt8 | DataType::UInt16 => ColumnType::U32,
        DataType::Float16 => ColumnType::F32,
        DataType::Decimal128(..) | DataType::Decimal256(..) => ColumnType::F64,
        DataType::Timestamp(..) => ColumnType::Time,
        DataType::Dictionary(_, values) => return target(values),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => match item.data_type() {
            DataType::Float32 | DataType::Float64 => ColumnType::ListF32,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => ColumnType::ListU32,
            _ => return None,
        },
        DataType::FixedSizeList(item, width) if item.data_type().is_floating() => {
            ColumnType::Vector(u32::try_from(*width).ok()?)
        }
        DataType::Struct(_) | DataType::Map(..) | DataType::FixedSizeList(..) => return None,
        _ => ColumnType::Text,
    })
}

/// A table with every column in a type that an artifact can hold. All fields are nullable, so that the schema depends on no
/// value.
///
/// # Errors
/// When a value does not fit its column's type; the error names the column.
pub fn normalise(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| Ok((field.name().clone(), column_as_kept(field.name(), column)?)));
    table(columns.collect::<Result<Vec<_>, Error>>()?, batch.num_rows())
}

/// A table of named columns, all nullable.
///
/// # Errors
/// An internal error when the columns differ in length.
pub fn table(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<RecordBatch, Error> {
    let field = |(name, column): &(String, ArrayRef)| Field::new(name, column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
        .map_err(|error| Error::internal("the columns make no table").cause(error))
}

fn column_as_kept(name: &str, column: &ArrayRef) -> Result<ArrayRef, Error> {
    match target(column.data_type()) {
        Some(kind) => cast(name, column, kind),
        None => {
            let json = |row| (!column.is_null(row)).then(|| cell(column, row).to_string());
            Ok(Arc::new((0..column.len()).map(json).collect::<LargeStringArray>()))
        }
    }
}

/// A column in another type; what does not fit is an error, never a null.
///
/// # Errors
/// When a value does not fit.
pub fn cast(name: &str, column: &ArrayRef, kind: ColumnType) -> Result<ArrayRef, Error> {
    let mut to = arrow_type(kind);
    if column.data_type() == &to {
        return Ok(Arc::clone(column));
    }
    let failed = |error| {
        Error::task(format!(
            "the column `{name}` is no {}",
            fracture_stage::manifest::type_name(kind)
        ))
        .cause(error)
    };
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let mut column = Arc::clone(column);
    if let (DataType::Timestamp(_, None), ColumnType::Time) = (column.data_type(), kind) {
        // A time without a zone is taken to be in UTC.
        to = DataType::Timestamp(TimeUnit::Microsecond, None);
        column = cast_with_options(&column, &to, &options).map_err(failed)?;
        to = arrow_type(kind);
    }
    cast_with_options(&column, &to, &options).map_err(failed)
}
