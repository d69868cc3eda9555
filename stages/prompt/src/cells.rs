//! Cells of a pool: what type a column has, and how it becomes an Arrow column.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray};
use fracture_cache::ColumnType;
use serde_json::Value;

use crate::read::Place;

/// A cell as text; `None` for null. Lists and maps are compact JSON.
pub fn as_text(cell: &Value) -> Option<String> {
    match cell {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The type that holds all cells: flags, integers or numbers where all are, else text. Nulls fit everywhere.
pub fn column_type<'a>(cells: impl Iterator<Item = &'a Value>) -> ColumnType {
    let mut found = None;
    for cell in cells {
        let kind = match cell {
            Value::Null => continue,
            Value::Bool(_) => ColumnType::Bool,
            Value::Number(number) if number.is_i64() => ColumnType::I64,
            Value::Number(number) if number.is_f64() => ColumnType::F64,
            _ => ColumnType::Text,
        };
        found = Some(match (found, kind) {
            (None, kind) => kind,
            (Some(before), kind) if before == kind => kind,
            (Some(ColumnType::I64 | ColumnType::F64), ColumnType::I64 | ColumnType::F64) => ColumnType::F64,
            _ => return ColumnType::Text,
        });
    }
    found.unwrap_or(ColumnType::Text)
}

/// A column of cells, `kind` being what [`column_type`] said of them.
pub fn column<'a>(kind: ColumnType, cells: impl Iterator<Item = &'a Value>) -> ArrayRef {
    match kind {
        ColumnType::Bool => Arc::new(cells.map(Value::as_bool).collect::<BooleanArray>()),
        ColumnType::I64 => Arc::new(cells.map(Value::as_i64).collect::<Int64Array>()),
        ColumnType::F64 => Arc::new(cells.map(Value::as_f64).collect::<Float64Array>()),
        _ => Arc::new(cells.map(as_text).collect::<LargeStringArray>()),
    }
}

/// Types a column of text cells from a file that has no types, if every cell that is not empty reads as the same type.
pub fn infer(rows: &mut [(Place, Vec<Value>)], column: usize) {
    let texts = || rows.iter().filter_map(|(_, cells)| cells.get(column)?.as_str());
    let parse: fn(&str) -> Option<Value> = if texts().next().is_none() {
        return;
    } else if texts().all(|text| flag(text).is_some()) {
        |text| flag(text).map(Value::Bool)
    } else if texts().all(|text| integer(text).is_some()) {
        |text| integer(text).map(Value::from)
    } else if texts().all(|text| number(text).is_some()) {
        |text| number(text).map(Value::from)
    } else {
        return;
    };
    for cell in rows.iter_mut().filter_map(|(_, cells)| cells.get_mut(column)) {
        *cell = cell.as_str().and_then(parse).unwrap_or(Value::Null);
    }
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Only as it would be written: `007` is a name, not seven.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && !(digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0."));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}
