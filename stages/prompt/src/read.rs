//! Reads a pool's file into rows of named cells: JSON lines, a JSON array, CSV or TSV, plain or compressed.

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use fracture_stage::Error;
use serde_json::{Map, Value};

use crate::cells;
use crate::parameters::Format;

/// What a compressed pool may unpack to, so that a small file can not fill the memory.
const UNPACKED_LIMIT: u64 = 1 << 30;

/// Where a row was read from, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, counted from 1.
    Line(u64),
    /// An element of the array, counted from 1.
    Element(u64),
    /// A row of a stage's table, counted from 1.
    Row(u64),
}

impl Place {
    /// Two places of one file, as people say it: `lines 3 and 17`.
    pub fn and(self, other: Self) -> String {
        match (self, other) {
            (Self::Line(a), Self::Line(b)) => format!("lines {a} and {b}"),
            (Self::Element(a), Self::Element(b)) => format!("elements {a} and {b}"),
            (Self::Row(a), Self::Row(b)) => format!("rows {a} and {b}"),
            (a, b) => format!("{a} and {b}"),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Element(element) => write!(f, "element {element}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// The rows of a file; `cells[i]` belongs to `names[i]`, and what a row lacks is null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The columns in the order of the header or of their first appearance.
    pub names: Vec<String>,
    /// Place and cells of each row.
    pub rows: Vec<(Place, Vec<Value>)>,
}

/// How a pool's file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Its format.
    pub format: Format,
    /// Whether it is compressed with gzip.
    pub gzip: bool,
}

impl Encoding {
    /// Takes the format from the path's ending where none is given.
    ///
    /// # Errors
    /// When the ending is unknown.
    pub fn of(path: &str, format: Option<Format>) -> Result<Self, Error> {
        let lower = path.to_ascii_lowercase();
        let (stem, gzip) = lower
            .strip_suffix(".gz")
            .map_or((lower.as_str(), false), |stem| (stem, true));
        let ending = stem.rsplit_once('.').map_or("", |(_, ending)| ending);
        let format = match (format, ending) {
            (Some(format), _) => format,
            (None, "jsonl" | "ndjson") => Format::Jsonl,
            (None, "json") => Format::Json,
            (None, "csv") => Format::Csv,
            (None, "tsv" | "tab") => Format::Tsv,
            (None, _) => {
                return Err(
                    Error::pipeline(format!("the ending of `{path}` does not tell its format"))
                        .hint("say `format: jsonl`, `json`, `csv` or `tsv`"),
                );
            }
        };
        Ok(Self { format, gzip })
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// When it is not of this format; the error names the line.
    pub fn read(self, bytes: &[u8]) -> Result<Table, Error> {
        let bytes = self.unpack(bytes, UNPACKED_LIMIT, false)?;
        if bytes.len() as u64 > UNPACKED_LIMIT {
            return Err(Error::input("it unpacks to more than 1 GiB"));
        }
        let text = text(&bytes)?;
        match self.format {
            Format::Jsonl => json_lines(text),
            Format::Json => json_array(text),
            Format::Csv => separated(text, b','),
            Format::Tsv => separated(text, b'\t'),
        }
    }

    /// The columns that the beginning of a longer file shows; `None` when it shows none. A CSV header is complete, the keys
    /// of JSON lines may be more further down.
    pub fn names(self, head: &[u8], limit: usize) -> Option<Vec<String>> {
        let bytes = self.unpack(head, limit as u64, true).ok()?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n')? + 1;
        let text = text(&bytes[..end]).ok()?;
        match self.format {
            Format::Jsonl => json_lines(text).ok().map(|table| table.names),
            Format::Json => None,
            Format::Csv => header(&mut reader(text, b',')).ok(),
            Format::Tsv => header(&mut reader(text, b'\t')).ok(),
        }
    }

    /// Whether rows further down may have columns that the first ones do not show.
    pub fn may_have_more(self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    fn unpack(self, bytes: &[u8], limit: u64, partial: bool) -> Result<std::borrow::Cow<'_, [u8]>, Error> {
        if !self.gzip {
            return Ok(bytes.into());
        }
        let mut unpacked = Vec::new();
        match MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut unpacked) {
            Err(error) if !partial => Err(Error::input("it is no whole gzip file").cause(error)),
            _ => Ok(unpacked.into()),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        Error::input(format!("line {line} is no UTF-8")).hint("save the file as UTF-8")
    })
}

fn json_lines(text: &str) -> Result<Table, Error> {
    let mut objects = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::Line(index as u64 + 1);
        let value = serde_json::from_str(line).map_err(|error| {
            let cause = error.to_string().replace(" at line 1 column", " at column");
            Error::input(format!("{place} is no JSON")).cause(cause)
        })?;
        objects.push((place, object(place, value)?));
    }
    Ok(table(objects))
}

fn json_array(text: &str) -> Result<Table, Error> {
    let values: Vec<Value> = serde_json::from_str(text).map_err(|error| {
        Error::input("it is no JSON array")
            .cause(error)
            .hint("for one object a line: `format: jsonl`")
    })?;
    let objects = values.into_iter().enumerate().map(|(index, value)| {
        let place = Place::Element(index as u64 + 1);
        Ok((place, object(place, value)?))
    });
    Ok(table(objects.collect::<Result<_, Error>>()?))
}

fn object(place: Place, value: Value) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(Error::input(format!("{place} is no JSON object")).hint(r#"each is `{"prompt": "...", ...}`"#)),
    }
}

fn table(objects: Vec<(Place, Map<String, Value>)>) -> Table {
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for name in objects.iter().flat_map(|(_, object)| object.keys()) {
        if seen.insert(name) {
            names.push(name.clone());
        }
    }
    let cells = |mut object: Map<String, Value>| {
        names
            .iter()
            .map(|name| object.get_mut(name).map_or(Value::Null, Value::take))
            .collect()
    };
    let rows = objects
        .into_iter()
        .map(|(place, object)| (place, cells(object)))
        .collect();
    Table { names, rows }
}

fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(text.as_bytes())
}

fn header(reader: &mut csv::Reader<&[u8]>) -> Result<Vec<String>, Error> {
    let header = reader
        .headers()
        .map_err(|error| Error::input("the header can not be read").cause(error))?;
    let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    let mut seen = BTreeSet::new();
    match names
        .iter()
        .find(|name| !name.is_empty() && !seen.insert(name.as_str()))
    {
        Some(twice) => Err(Error::input(format!("the header has `{twice}` twice"))),
        None => Ok(names),
    }
}

fn separated(text: &str, delimiter: u8) -> Result<Table, Error> {
    let mut reader = reader(text, delimiter);
    let names = header(&mut reader)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Error::input(format!(
                    "line {line} has {len} cells where the header has {expected_len}"
                ))
                .hint("a cell with a separator, a quote or a new line must be quoted"),
                _ => Error::input(format!("line {line} can not be read")).cause(&error),
            }
        })?;
        let place = Place::Line(record.position().map_or(0, csv::Position::line));
        let cell = |cell: &str| {
            if cell.is_empty() {
                Value::Null
            } else {
                Value::String(cell.to_owned())
            }
        };
        rows.push((place, record.iter().map(cell).collect()));
    }
    let mut table = Table { names, rows };
    drop_unnamed(&mut table);
    for column in 0..table.names.len() {
        cells::infer(&mut table.rows, column);
    }
    Ok(table)
}

/// Columns without a name are the row numbers that data frames leave behind.
fn drop_unnamed(table: &mut Table) {
    let keep: Vec<bool> = table.names.iter().map(|name| !name.is_empty()).collect();
    let mut kept = keep.iter();
    table.names.retain(|_| *kept.next().unwrap_or(&true));
    for (_, cells) in &mut table.rows {
        let mut kept = keep.iter();
        cells.retain(|_| *kept.next().unwrap_or(&true));
    }
}
