//! Reads files into tables: CSV and Parquet by polars, Arrow by arrow-rs, JSON lines by serde_json.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, LargeStringArray};
use arrow::datatypes::DataType;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use fracture_cache::ColumnType;
use fracture_stage::{Error, Field};
use polars_io::SerReader;
use polars_io::prelude::{CsvReadOptions, ParquetReader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bridge::{from_polars, read_ipc};
use crate::normal::{self, normalise, target};

/// The format of a file that is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Comma-separated values with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// Parquet.
    Parquet,
    /// An Arrow IPC file.
    Arrow,
}

impl FileFormat {
    /// The format that a path's ending names.
    pub fn of(path: &str) -> Option<Self> {
        let lower = path.to_ascii_lowercase();
        Some(match lower.rsplit_once('.')?.1 {
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "jsonl" | "ndjson" => Self::Jsonl,
            "parquet" => Self::Parquet,
            "arrow" | "feather" | "ipc" => Self::Arrow,
            _ => return None,
        })
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// When it is not of this format.
    pub fn read(self, bytes: &[u8]) -> Result<RecordBatch, Error> {
        match self {
            Self::Csv => csv(bytes, b','),
            Self::Tsv => csv(bytes, b'\t'),
            Self::Jsonl => json_lines(bytes),
            Self::Parquet => parquet(bytes),
            Self::Arrow => read_ipc(bytes)
                .map_err(|error| Error::input("it is no Arrow IPC file").cause(error))
                .and_then(|batch| normalise(&batch)),
        }
    }

    /// The columns that the beginning of a file shows, and whether these are all. The types of a CSV or JSON column are
    /// known only from all rows.
    pub fn columns(self, head: &[u8], whole: bool) -> (Vec<Field>, bool) {
        let untyped = |names: Vec<String>| names.into_iter().map(|name| Field { name, kind: None }).collect();
        match self {
            Self::Csv | Self::Tsv => match header(head, if self == Self::Csv { b',' } else { b'\t' }) {
                Some(names) => (untyped(names), true),
                None => (Vec::new(), false),
            },
            Self::Jsonl => {
                let end = if whole {
                    head.len()
                } else {
                    head.iter().rposition(|byte| *byte == b'\n').unwrap_or(0)
                };
                let names = objects(&head[..end]).map(|objects| names(&objects));
                let exact = whole && names.is_ok();
                (untyped(names.unwrap_or_default()), exact)
            }
            Self::Parquet => (Vec::new(), false),
            Self::Arrow => arrow_head(head).map_or((Vec::new(), false), |fields| (fields, true)),
        }
    }
}

/// The header of a CSV file.
fn header(bytes: &[u8], delimiter: u8) -> Option<Vec<String>> {
    let bytes = without_mark(bytes);
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(bytes);
    Some(reader.headers().ok()?.iter().map(str::to_owned).collect())
}

/// An IPC file begins with a mark, zeros up to an aligned place, and then the stream, schema first.
fn arrow_head(head: &[u8]) -> Option<Vec<Field>> {
    let rest = head.strip_prefix(b"ARROW1")?;
    let start = rest.iter().position(|byte| *byte != 0)?;
    let stream = &rest[start..];
    let reader = StreamReader::try_new(Cursor::new(stream), None).ok()?;
    let field = |field: &Arc<arrow::datatypes::Field>| {
        let kind = target(field.data_type()).unwrap_or(ColumnType::Text);
        Field {
            name: field.name().clone(),
            kind: Some(kind),
        }
    };
    Some(reader.schema().fields().iter().map(field).collect())
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn csv(bytes: &[u8], delimiter: u8) -> Result<RecordBatch, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::input("it can not be read as separated values")
            .cause(error)
            .hint("a cell with a separator, a quote or a new line must be quoted")
    };
    // As text: what polars infers would turn `007` into a number and fail on a number beyond 64 bits.
    let options = CsvReadOptions::default()
        .with_infer_schema_length(Some(0))
        .with_raise_if_empty(true)
        .map_parse_options(|parse| parse.with_separator(delimiter));
    let reader = options.into_reader_with_file_handle(Cursor::new(without_mark(bytes)));
    let table = from_polars(reader.finish().map_err(|error| failed(&error))?)?;
    let names = table
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect::<Vec<_>>();
    let typed = names.into_iter().zip(table.columns().iter().map(typed)).collect();
    normal::table(typed, table.num_rows())
}

/// A column of texts as flags, integers or numbers, where every text is one as it would be written. An empty cell is null.
fn typed(column: &ArrayRef) -> ArrayRef {
    let Some(texts) = column.as_string_opt::<i64>() else {
        return Arc::clone(column);
    };
    let texts = || texts.iter().map(|text| text.filter(|text| !text.is_empty()));
    let all = |fits: fn(&str) -> bool| texts().flatten().all(fits);
    if texts().flatten().next().is_none() {
        arrow::array::new_null_array(&DataType::LargeUtf8, column.len())
    } else if all(|text| flag(text).is_some()) {
        Arc::new(texts().map(|text| flag(text?)).collect::<BooleanArray>())
    } else if all(|text| integer(text).is_some()) {
        Arc::new(texts().map(|text| integer(text?)).collect::<Int64Array>())
    } else if all(|text| number(text).is_some()) {
        Arc::new(texts().map(|text| number(text?)).collect::<Float64Array>())
    } else {
        Arc::new(texts().collect::<LargeStringArray>())
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

/// Digits with a point or an exponent, no digit lost, or one of the names that programs write for what is no number.
fn number(text: &str) -> Option<f64> {
    if matches!(text, "NaN" | "nan" | "inf" | "-inf") {
        return text.parse().ok();
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit());
    let padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    // An integer too long for 64 bits is a name: as a number it would lose digits.
    let long = integer(text).is_none() && digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() > 15;
    text.parse().ok().filter(|_| plain && !padded && !long)
}

/// Types that polars, built as it is, would fail on in a worker thread.
fn unreadable(kind: &str) -> bool {
    ["UInt8", "UInt16", "Float16", "Dictionary", "UInt128"]
        .iter()
        .any(|name| kind.contains(name))
}

fn parquet(bytes: &[u8]) -> Result<RecordBatch, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::input("it is no Parquet file that can be read").cause(error);
    let mut reader = ParquetReader::new(Cursor::new(bytes));
    let schema = reader.schema().map_err(|error| failed(&error))?;
    for (name, field) in schema.iter() {
        let kind = format!("{:?}", field.dtype);
        if unreadable(&kind) {
            return Err(
                Error::input(format!("the column `{name}` is of type {kind}, which can not be read"))
                    .hint("write it as a 32- or 64-bit number, or as text"),
            );
        }
    }
    from_polars(reader.finish().map_err(|error| failed(&error))?)
}

fn objects(bytes: &[u8]) -> Result<Vec<Map<String, Value>>, Error> {
    let text = std::str::from_utf8(without_mark(bytes)).map_err(|error| Error::input("it is no UTF-8").cause(error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let object = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let cause = error.to_string().replace(" at line 1 column", " at column");
            Error::input(format!("line {} is no JSON object", index + 1)).cause(cause)
        })
    };
    lines.map(object).collect()
}

/// The keys in the order of their first appearance.
fn names(objects: &[Map<String, Value>]) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let keys = objects.iter().flat_map(Map::keys);
    keys.filter(|key| seen.insert(key.as_str())).cloned().collect()
}

fn json_lines(bytes: &[u8]) -> Result<RecordBatch, Error> {
    let objects = objects(bytes)?;
    let column = |name: String| {
        let cells: Vec<&Value> = objects
            .iter()
            .map(|object| object.get(&name).unwrap_or(&Value::Null))
            .collect();
        let column = json_column(&cells);
        (name, column)
    };
    normal::table(names(&objects).into_iter().map(column).collect(), objects.len())
}

/// Flags, integers or numbers where all cells are; else text, with lists and maps as JSON.
pub fn json_column(cells: &[&Value]) -> ArrayRef {
    let all = |fits: fn(&Value) -> bool| cells.iter().all(|cell| cell.is_null() || fits(cell));
    let cells = cells.iter();
    if cells.len() == 0 || all(|_| false) {
        arrow::array::new_null_array(&DataType::LargeUtf8, cells.len())
    } else if all(Value::is_boolean) {
        Arc::new(cells.map(|cell| cell.as_bool()).collect::<BooleanArray>())
    } else if all(Value::is_i64) {
        Arc::new(cells.map(|cell| cell.as_i64()).collect::<Int64Array>())
    } else if all(Value::is_number) {
        Arc::new(cells.map(|cell| cell.as_f64()).collect::<Float64Array>())
    } else {
        let text = |cell: &&Value| match cell {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Arc::new(cells.map(text).collect::<LargeStringArray>())
    }
}
