//! Tables as files for other programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use arrow::ipc::writer::FileWriter;
use arrow::record_batch::RecordBatch;
use fracture_stage::{Error, ErrorKind};
use polars_io::prelude::{ParquetCompression, ParquetWriter};
use serde_json::Value;

use crate::bridge::to_polars;
use crate::value::{cell, to_json};

/// A format that tables are exported in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Parquet, zstd.
    Parquet,
    /// RFC 4180 with a header; nulls are empty, lists are JSON.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Arrow IPC file, uncompressed: it can be mapped into memory.
    Arrow,
}

impl Format {
    /// The format that a path's ending names.
    ///
    /// # Errors
    /// When it names none.
    pub fn of(path: &Path) -> Result<Self, Error> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            Some("arrow" | "feather" | "ipc") => Ok(Self::Arrow),
            _ => Err(
                Error::pipeline(format!("the ending of `{}` names no format", path.display()))
                    .hint("use .parquet, .csv, .jsonl or .arrow"),
            ),
        }
    }
}

/// Writes a table to a file. What was there is replaced in one move, so that no reader sees half a file.
///
/// # Errors
/// When there is no batch to take the columns from, a column does not fit the format, or the file can not be written.
pub fn export(batches: &[RecordBatch], path: &Path, format: Format) -> Result<(), Error> {
    let failed = |cause: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Store, format!("`{}` can not be written", path.display())).cause(cause)
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    let write = || {
        let mut file = BufWriter::new(File::create(&part).map_err(|error| failed(&error))?);
        match format {
            Format::Parquet => parquet(batches, &mut file),
            Format::Csv => file.write_all(&to_csv(batches)?).map_err(|error| failed(&error)),
            Format::Jsonl => to_json(batches)
                .iter()
                .try_for_each(|row| writeln!(file, "{row}"))
                .map_err(|error| failed(&error)),
            Format::Arrow => arrow_file(batches, &mut file),
        }?;
        file.flush().map_err(|error| failed(&error))?;
        std::fs::rename(&part, path).map_err(|error| failed(&error))
    };
    write().inspect_err(|_| {
        // Best effort: the error that is returned matters more than a file left behind.
        std::fs::remove_file(&part).ok();
    })
}

fn parquet(batches: &[RecordBatch], file: &mut BufWriter<File>) -> Result<(), Error> {
    let mut frame = to_polars(batches)?;
    let writer = ParquetWriter::new(file)
        .with_compression(ParquetCompression::Zstd(None))
        .set_parallel(false);
    writer
        .finish(&mut frame)
        .map(drop)
        .map_err(|error| Error::task("the table can not be written as Parquet").cause(error))
}

fn arrow_file(batches: &[RecordBatch], file: &mut BufWriter<File>) -> Result<(), Error> {
    let failed = |error| Error::task("the table can not be written as Arrow").cause(error);
    let first = batches
        .first()
        .ok_or_else(|| Error::internal("a table without a batch has no columns"))?;
    let mut writer = FileWriter::try_new(file, &first.schema()).map_err(failed)?;
    batches
        .iter()
        .try_for_each(|batch| writer.write(batch))
        .map_err(failed)?;
    writer.finish().map_err(failed)
}

/// A table as CSV: the same bytes for the same values. Numbers are as short as they can be read back, NaN is `NaN`, null is
/// empty, lists are JSON.
///
/// # Errors
/// An internal error when the text can not be built.
pub fn to_csv(batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
    let failed = |error: csv::Error| Error::internal("the table makes no CSV").cause(error);
    let mut writer = csv::WriterBuilder::new().flexible(false).from_writer(Vec::new());
    if let Some(first) = batches.first() {
        let schema = first.schema();
        writer
            .write_record(schema.fields().iter().map(|field| field.name()))
            .map_err(failed)?;
    }
    for batch in batches {
        for row in 0..batch.num_rows() {
            writer
                .write_record(batch.columns().iter().map(|column| csv_cell(column, row)))
                .map_err(failed)?;
        }
    }
    writer
        .into_inner()
        .map_err(|error| Error::internal("the table makes no CSV").cause(error))
}

fn csv_cell(column: &arrow::array::ArrayRef, row: usize) -> String {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Float32Type, Float64Type};
    if column.is_null(row) {
        return String::new();
    }
    match (column.data_type(), cell(column, row)) {
        (DataType::Float64, _) => column.as_primitive::<Float64Type>().value(row).to_string(),
        (DataType::Float32, _) => column.as_primitive::<Float32Type>().value(row).to_string(),
        (_, Value::String(text)) => text,
        (_, other) => other.to_string(),
    }
}
