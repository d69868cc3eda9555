//! Cells as JSON values.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use serde_json::{Map, Value};

/// A cell as JSON: null for null and for what JSON has no number for (NaN, infinities), a list for a vector, text for a time.
pub fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    let items = |items: &ArrayRef| Value::Array((0..items.len()).map(|at| cell(items, at)).collect());
    match array.data_type() {
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::Boolean => Value::from(array.as_boolean().value(row)),
        DataType::Int64 => Value::from(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt32 => Value::from(array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => Value::from(array.as_primitive::<UInt64Type>().value(row)),
        // The shortest decimal that is this f32, not the longer one of its f64 neighbour.
        DataType::Float32 => {
            let number = array.as_primitive::<Float32Type>().value(row);
            number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
        }
        DataType::Float64 => Value::from(array.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => time(array, row),
        DataType::LargeList(_) => items(&array.as_list::<i64>().value(row)),
        DataType::List(_) => items(&array.as_list::<i32>().value(row)),
        DataType::FixedSizeList(..) => items(&array.as_fixed_size_list().value(row)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let fields = fields
                .iter()
                .zip(columns)
                .map(|(field, column)| (field.name().clone(), cell(column, row)));
            Value::Object(fields.collect())
        }
        _ => array_value_to_string(array, row).map_or(Value::Null, Value::from),
    }
}

/// RFC 3339 in UTC.
fn time(array: &dyn Array, row: usize) -> Value {
    match array
        .as_primitive_opt::<TimestampMicrosecondType>()
        .and_then(|times| times.value_as_datetime(row))
    {
        Some(time) => Value::from(format!("{}Z", time.format("%Y-%m-%dT%H:%M:%S%.6f"))),
        None => Value::Null,
    }
}

/// A table as a list of objects, one a row, in the order of the columns. NaN and null are null.
pub fn to_json(batches: &[RecordBatch]) -> Vec<Value> {
    let row = |batch: &RecordBatch, row: usize| {
        let schema = batch.schema();
        let cells = schema.fields().iter().zip(batch.columns());
        cells
            .map(|(field, column)| (field.name().clone(), cell(column, row)))
            .collect::<Map<_, _>>()
    };
    let rows = batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(move |at| Value::Object(row(batch, at))));
    rows.collect()
}
