//! The table that a program wrote.
//!
//! CSV, JSON lines and Parquet are read as the stage kind `load` reads a file: the same text has the same type in both.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, new_empty_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::FileReader;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use fracture_cache::{arrow_type, column_type};
use fracture_stage::manifest::type_name;
use fracture_stage::{Context, Error, ErrorKind, Files, Inputs, Open, Output, Work, YieldType};
use serde_json::{Map, Value, json};

use crate::mapped::PARENT;
use crate::parameters::{CommandShape, Parameters, TableFormat};

/// Columns that `load` gives to a file without them; they are taken off again.
const GIVEN_BY_LOAD: [&str; 3] = ["axis", "sample", "draw"];

const FORMATS: [TableFormat; 4] = [
    TableFormat::Arrow,
    TableFormat::Parquet,
    TableFormat::Csv,
    TableFormat::Jsonl,
];

/// Said wherever no table, or more than one, is found.
const EXPECTED: &str = "write one of $OUT/main.arrow, main.parquet, main.csv and main.jsonl";

/// What a program wrote.
pub struct Written {
    /// Its table, in the declared columns.
    pub table: RecordBatch,
    /// The column that says which rows of the input its rows come from, when there is one.
    pub parent: Option<ArrayRef>,
}

/// Reads the table in `$OUT` and brings it into the declared columns. Rows stay as the program wrote them. `kept` are the
/// columns that the rows have beside.
///
/// # Errors
/// When there is none, more than one or half of one, or when it is not what `yields` and `keys` say.
pub fn read(folder: &Path, parameters: &Parameters, kept: &dyn Fn(&str) -> bool) -> Result<Written, Error> {
    let (name, format) = find(folder)?;
    let mut table = table(folder, &name, format, parameters.yields.as_ref())?;
    let mut parent = None;
    if let Ok(at) = table.schema().index_of(PARENT) {
        if parameters.shape != CommandShape::Map {
            return Err(
                Error::task(format!("`{name}` has a column `{PARENT}`, which is for `shape: map`"))
                    .hint("give the column another name"),
            );
        }
        parent = Some(table.remove_column(at));
    }
    let table = match &parameters.yields {
        Some(yields) => as_declared(&table, yields)?,
        None => table,
    };
    let unknown = |key: &&String| table.column_by_name(key).is_none() && !kept(key);
    match parameters.keys.iter().find(unknown) {
        Some(key) => Err(
            Error::task(format!("`keys` names `{key}`, which `{name}` does not have"))
                .hint(format!("its columns are {}", columns(&table))),
        ),
        None => Ok(Written { table, parent }),
    }
}

/// The one file that is a table.
fn find(folder: &Path) -> Result<(String, TableFormat), Error> {
    let failed = |error: std::io::Error| Error::task("$OUT can not be read").cause(error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let format = |name: &String| {
        let ending = name.strip_prefix("main.")?;
        Some((name.clone(), *FORMATS.iter().find(|format| format.ending() == ending)?))
    };
    let mut mains: Vec<(String, TableFormat)> = names.iter().filter_map(format).collect();
    match (mains.pop(), mains.is_empty()) {
        (Some(main), true) => {
            let file = fs::symlink_metadata(folder.join(&main.0)).map_err(failed)?;
            // A link would lead to something that is in no key.
            if !file.is_file() {
                return Err(Error::task(format!("$OUT/{} is no plain file", main.0)).hint(EXPECTED));
            }
            Ok(main)
        }
        (Some(last), false) => {
            let all: Vec<&str> = mains.iter().chain([&last]).map(|(name, _)| name.as_str()).collect();
            Err(Error::task(format!("$OUT holds {} tables: {}", all.len(), all.join(", "))).hint(EXPECTED))
        }
        (None, _) if names.is_empty() => Err(Error::task("$OUT is empty").hint(EXPECTED)),
        (None, _) => {
            let listed = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            Err(Error::task(format!("$OUT holds no table, but {listed}")).hint(EXPECTED))
        }
    }
}

fn table(
    folder: &Path,
    name: &str,
    format: TableFormat,
    yields: Option<&BTreeMap<String, YieldType>>,
) -> Result<RecordBatch, Error> {
    let bytes = fs::read(folder.join(name))
        .map_err(|error| Error::task(format!("$OUT/{name} can not be read")).cause(error))?;
    // `load` speaks of an input of the pipeline; here it is the task that failed.
    let blame = |error: Error| Error {
        kind: ErrorKind::Task,
        ..error.context(format!("$OUT/{name} is damaged, or was not written to its end"))
    };
    let written = match format {
        TableFormat::Arrow => arrow_columns(&bytes).map_err(blame)?,
        TableFormat::Csv => csv_columns(&bytes).map_err(blame)?,
        TableFormat::Jsonl => json_columns(&bytes, yields).map_err(blame)?,
        TableFormat::Parquet if bytes.is_empty() => return Err(blame(Error::task("the file is empty"))),
        TableFormat::Parquet => Header::Unknown,
    };
    drop(bytes);
    let loaded = match &written {
        Header::NoRows(table) => return Ok(table.clone()),
        Header::Columns(_) => load(folder, name, &[]).map_err(blame)?,
        Header::Unknown => load(folder, name, &[]).map_err(|error| {
            blame(error).hint("a Parquet file must have rows; write an empty result as CSV or Arrow")
        })?,
    };
    let is_own = |column: &str| match &written {
        Header::Columns(names) => names.iter().any(|name| name == column),
        _ => !GIVEN_BY_LOAD.contains(&column) || load(folder, name, &[column]).is_ok(),
    };
    let schema = loaded.schema();
    let columns = schema.fields().iter().zip(loaded.columns());
    let own = columns.filter(|(field, _)| is_own(field.name()));
    batch(
        own.map(|(field, column)| (field.name().clone(), Arc::clone(column)))
            .collect(),
        loaded.num_rows(),
    )
}

/// What is known of a table before it is loaded.
enum Header {
    /// Its columns.
    Columns(Vec<String>),
    /// Its columns, which is all that there is.
    NoRows(RecordBatch),
    /// Nothing.
    Unknown,
}

fn arrow_columns(bytes: &[u8]) -> Result<Header, Error> {
    let failed = |error: arrow::error::ArrowError| Error::task("it is no Arrow IPC file").cause(error);
    let mut reader = FileReader::try_new(std::io::Cursor::new(bytes), None).map_err(failed)?;
    let schema = reader.schema();
    let rows = reader
        .try_fold(0, |rows, batch| batch.map(|batch| rows + batch.num_rows()))
        .map_err(failed)?;
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    distinct(&names)?;
    if rows > 0 {
        return Ok(Header::Columns(names));
    }
    let kept = |kind: &DataType| column_type(kind).map_or(DataType::LargeUtf8, arrow_type);
    let column = |field: &Arc<Field>| (field.name().clone(), new_empty_array(&kept(field.data_type())));
    Ok(Header::NoRows(batch(schema.fields().iter().map(column).collect(), 0)?))
}

/// A reader that takes short lines for lines with nulls would take half a file for a whole one.
fn csv_columns(bytes: &[u8]) -> Result<Header, Error> {
    let failed = |error: csv::Error| Error::task("its lines differ in their number of cells").cause(error);
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::task("it has no header"));
    }
    if text.last() != Some(&b'\n') {
        return Err(Error::task("its last line does not end").hint("end every line of a CSV file with a new line"));
    }
    let mut reader = csv::Reader::from_reader(text);
    let names: Vec<String> = reader.headers().map_err(failed)?.iter().map(str::to_owned).collect();
    distinct(&names)?;
    let mut record = csv::ByteRecord::new();
    let mut rows = 0_u64;
    while reader.read_byte_record(&mut record).map_err(failed)? {
        rows += 1;
    }
    if rows > 0 {
        return Ok(Header::Columns(names));
    }
    let column = |name: String| (name, new_empty_array(&DataType::LargeUtf8));
    Ok(Header::NoRows(batch(names.into_iter().map(column).collect(), 0)?))
}

fn json_columns(bytes: &[u8], yields: Option<&BTreeMap<String, YieldType>>) -> Result<Header, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| Error::task("it is no UTF-8").cause(error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut names: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut rows = 0_u64;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let object: Map<String, Value> = serde_json::from_str(line)
            .map_err(|error| Error::task(format!("line {} is no JSON object", index + 1)).cause(error))?;
        rows += 1;
        names.extend(
            object
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| seen.insert(name.clone())),
        );
    }
    match (rows, yields) {
        (0, Some(yields)) => {
            let column =
                |(name, kind): (&String, &YieldType)| (name.clone(), new_empty_array(&arrow_type(kind.column_type())));
            Ok(Header::NoRows(batch(yields.iter().map(column).collect(), 0)?))
        }
        (0, None) => {
            Err(Error::task("it has no line, so that its columns are not known").hint("name the columns by `yields`"))
        }
        _ => Ok(Header::Columns(names)),
    }
}

fn distinct(names: &[String]) -> Result<(), Error> {
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    twice.map_or(Ok(()), |(_, name)| {
        Err(Error::task(format!("two columns have the name `{name}`")))
    })
}

/// The table as `load` reads it. `present` names columns that the file must have.
fn load(folder: &Path, name: &str, present: &[&str]) -> Result<RecordBatch, Error> {
    let kinds = fracture_table::declarations();
    let kind = kinds.iter().find(|kind| kind.name == "load");
    let kind = kind.ok_or_else(|| Error::internal("there is no stage kind `load`"))?;
    let same: Map<String, Value> = present
        .iter()
        .map(|column| ((*column).to_owned(), json!(column)))
        .collect();
    let stage = (kind.build)(&json!({ "path": name, "columns": same }), &Context::default()).map_err(|errors| {
        errors
            .into_iter()
            .fold(Error::internal("`load` has changed"), |all, one| all.cause(one.message))
    })?;
    let Work::Whole(work) = stage.work() else {
        return Err(Error::internal("`load` has changed its way of working"));
    };
    let folder = Folder(folder);
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &AtomicBool::new(false),
        note: &|_| {},
        progress: &|_, _| {},
        files: &folder,
    };
    match work.run(&Inputs::default(), &open)?.outputs.main {
        Output::Table { batch, .. } => Ok(batch),
        _ => Err(Error::internal("`load` gave no table")),
    }
}

/// `$OUT` as `load` sees it.
struct Folder<'a>(&'a Path);

impl Files for Folder<'_> {
    fn locate(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = fs::read(path).map_err(|error| Error::input("the file can not be read").cause(error))?;
        bytes.truncate(limit);
        Ok(bytes)
    }

    fn size(&self, path: &Path) -> Option<u64> {
        fs::metadata(path).ok().map(|metadata| metadata.len())
    }

    fn list(&self, _path: &Path) -> Option<Vec<String>> {
        None
    }
}

/// The declared columns in their types, and no others.
fn as_declared(table: &RecordBatch, yields: &BTreeMap<String, YieldType>) -> Result<RecordBatch, Error> {
    let schema = table.schema();
    if let Some(field) = schema.fields().iter().find(|field| !yields.contains_key(field.name())) {
        return Err(Error::task(format!(
            "the program yields `{}`, which `yields` does not name",
            field.name()
        ))
        .hint("add it to `yields`, or do not write it"));
    }
    let column = |(name, kind): (&String, &YieldType)| {
        let column = table.column_by_name(name).ok_or_else(|| {
            Error::task(format!("the program does not yield `{name}`, which `yields` names"))
                .hint(format!("it yields {}", columns(table)))
        })?;
        Ok((name.clone(), cast(name, column, *kind)?))
    };
    batch(
        yields.iter().map(column).collect::<Result<_, Error>>()?,
        table.num_rows(),
    )
}

/// What does not fit is an error, never a null.
fn cast(name: &str, column: &ArrayRef, kind: YieldType) -> Result<ArrayRef, Error> {
    let kind = kind.column_type();
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, &arrow_type(kind), &options)
        .map_err(|error| Error::task(format!("the column `{name}` is no {}", type_name(kind))).cause(error))
}

/// A table of named columns, all nullable.
pub fn batch(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<RecordBatch, Error> {
    let field = |(name, column): &(String, ArrayRef)| Field::new(name, column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
        .map_err(|error| Error::internal("the columns make no table").cause(error))
}

fn columns(table: &RecordBatch) -> String {
    let schema = table.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(", ")
}
