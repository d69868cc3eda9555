//! What a stage reads: the columns of a table and of everything it was made from, with constants as columns.
//!
//! A map stage stores only the columns it adds. A [`View`] joins them with the columns of its input, row by row or through
//! the stored parent index, so that a column that nobody reads matters to nobody: adding one upstream reruns nothing.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, UInt32Array, new_null_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use fracture_cache::digest::{Framed, Values};
use fracture_cache::{ColumnType, Digest};
use serde_json::Value;

use crate::error::Error;
use crate::manifest::hash_value;

/// Reads stored columns.
pub trait ColumnReader: Send + Sync {
    /// A whole column.
    ///
    /// # Errors
    /// When the store can not deliver it (missing, damaged).
    fn read(&self, column: &str) -> Result<ArrayRef, Error>;

    /// A column piece by piece, in order, so that it need not fit into memory.
    ///
    /// # Errors
    /// When the store can not deliver it; each piece may fail as well.
    fn pieces(&self, column: &str) -> Result<Pieces, Error> {
        Ok(Box::new(std::iter::once(Ok(self.read(column)?))))
    }
}

/// The pieces of a column, in order.
pub type Pieces = Box<dyn Iterator<Item = Result<ArrayRef, Error>> + Send>;

/// Rows of a constant column that are made at once.
const PIECE_ROWS: usize = 1 << 16;

/// The value of a constant column.
pub type Constant = Value;

#[derive(Clone)]
enum Source {
    Stored {
        reader: Arc<dyn ColumnReader>,
        kind: ColumnType,
        content: Digest<Values>,
    },
    Gathered {
        from: Arc<Source>,
        parent: Arc<Parent>,
    },
    Constant(Constant),
}

struct Parent {
    reader: Arc<dyn ColumnReader>,
    column: String,
    content: Digest<Values>,
}

/// A table as a reader sees it.
#[derive(Clone)]
pub struct View {
    rows: usize,
    columns: Vec<(String, Source)>,
    keys: Vec<String>,
    /// What it was before some of its columns were veiled.
    before: Option<Arc<View>>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "View({} rows: {})",
            self.rows,
            self.names().collect::<Vec<_>>().join(", ")
        )
    }
}

impl View {
    /// A view of stored columns: name, type and content of each.
    pub fn stored<'a>(
        rows: usize,
        reader: &Arc<dyn ColumnReader>,
        columns: impl IntoIterator<Item = (&'a str, ColumnType, Digest<Values>)>,
    ) -> Self {
        let source = |kind, content| Source::Stored {
            reader: Arc::clone(reader),
            kind,
            content,
        };
        let columns = columns
            .into_iter()
            .map(|(name, kind, content)| (name.to_owned(), source(kind, content)));
        Self {
            rows,
            columns: columns.collect(),
            keys: Vec::new(),
            before: None,
        }
    }

    /// The view of a map stage's output: this view's columns, then those it `added`. A column of the same name is replaced.
    #[must_use]
    pub fn extended(&self, added: &View) -> Self {
        let mut columns: Vec<_> = self
            .columns
            .iter()
            .filter(|(name, _)| !added.has(name))
            .cloned()
            .collect();
        columns.extend(added.columns.iter().cloned());
        Self {
            rows: added.rows,
            columns,
            keys: self.keys.clone(),
            before: None,
        }
    }

    /// This view with its rows taken in the order of a stored column of row numbers (`u32`, `rows` of them).
    #[must_use]
    pub fn gathered(&self, rows: usize, reader: &Arc<dyn ColumnReader>, column: &str, content: Digest<Values>) -> Self {
        let parent = Arc::new(Parent {
            reader: Arc::clone(reader),
            column: column.to_owned(),
            content,
        });
        let gather = |source: &Source| match source {
            Source::Constant(value) => Source::Constant(value.clone()),
            other => Source::Gathered {
                from: Arc::new(other.clone()),
                parent: Arc::clone(&parent),
            },
        };
        let columns = self
            .columns
            .iter()
            .map(|(name, source)| (name.clone(), gather(source)))
            .collect();
        Self {
            rows,
            columns,
            keys: self.keys.clone(),
            before: None,
        }
    }

    /// Adds constants as columns behind the others; a constant never hides a stored column.
    #[must_use]
    pub fn with_constants(mut self, constants: impl IntoIterator<Item = (String, Constant)>) -> Self {
        for (name, value) in constants {
            if let Some(place) = self.columns.iter_mut().find(|(other, _)| *other == name) {
                if matches!(place.1, Source::Constant(_)) {
                    place.1 = Source::Constant(value);
                }
            } else {
                self.columns.push((name, Source::Constant(value)));
            }
        }
        self
    }

    /// Names the key columns, in order; those that are not there are left out.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        let mut seen = HashSet::new();
        self.keys = keys
            .into_iter()
            .filter(|key| self.has(key) && seen.insert(key.clone()))
            .collect();
        self
    }

    /// This view without the `hidden` columns, and with key columns of numbers that tell apart what these told apart.
    #[must_use]
    pub fn veiled(&self, hidden: &[&str], apart: impl IntoIterator<Item = (String, u64)>) -> Self {
        let kept = |name: &str| !hidden.contains(&name);
        let mut veiled = Self {
            rows: self.rows,
            columns: self.columns.iter().filter(|(name, _)| kept(name)).cloned().collect(),
            keys: self.keys.iter().filter(|name| kept(name)).cloned().collect(),
            before: Some(Arc::new(self.unveiled().clone())),
        };
        for (name, number) in apart {
            veiled.keys.push(name.clone());
            veiled.columns.push((name, Source::Constant(Value::from(number))));
        }
        veiled
    }

    /// This view with its own columns, for messages: what they say is in no result.
    pub fn unveiled(&self) -> &Self {
        self.before.as_deref().unwrap_or(self)
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The names of the columns in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The key columns in order: `item`, `axis`, matrix variables, labels and what `keys:` lists.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// Whether there is a column of that name.
    pub fn has(&self, name: &str) -> bool {
        self.source(name).is_some()
    }

    /// The value of a constant column, `None` for a stored one.
    pub fn constant(&self, name: &str) -> Option<&Constant> {
        match self.source(name) {
            Some(Source::Constant(value)) => Some(value),
            _ => None,
        }
    }

    /// The type of a column.
    pub fn column_type(&self, name: &str) -> Option<ColumnType> {
        fn of(source: &Source) -> ColumnType {
            match source {
                Source::Stored { kind, .. } => *kind,
                Source::Gathered { from, .. } => of(from),
                Source::Constant(value) => constant_type(value),
            }
        }
        self.source(name).map(of)
    }

    /// What a column contributes to the key of a stage that reads it; equal content gives equal digests.
    pub fn digest(&self, name: &str) -> Option<Digest<Values>> {
        fn of(source: &Source) -> Digest<Values> {
            match source {
                Source::Stored { content, .. } => *content,
                // Sound without reading anything: the same rows of the same column. Another way to the same values would
                // count as different, which costs a rerun and never gives a wrong result.
                Source::Gathered { from, parent } => Framed::new("gathered")
                    .digest(&of(from))
                    .digest(&parent.content)
                    .finish(),
                Source::Constant(value) => {
                    let mut framed = Framed::new("constant");
                    hash_value(&mut framed, value);
                    framed.finish()
                }
            }
        }
        self.source(name).map(of)
    }

    /// A whole column; `rows` long.
    ///
    /// # Errors
    /// When there is none of that name (an error of the stage's declaration) or the store can not deliver it.
    pub fn column(&self, name: &str) -> Result<ArrayRef, Error> {
        let source = self.source(name).ok_or_else(|| self.unknown(name))?;
        self.load(name, source)
    }

    /// A column as text; numbers and flags are written out.
    ///
    /// # Errors
    /// As [`Self::column`], and for a type that has no text.
    pub fn text(&self, name: &str) -> Result<LargeStringArray, Error> {
        self.cast(name, &DataType::LargeUtf8)
    }

    /// A column as `f64`; counts and flags are converted.
    ///
    /// # Errors
    /// As [`Self::column`], and for a type that is no number.
    pub fn f64(&self, name: &str) -> Result<Float64Array, Error> {
        self.cast(name, &DataType::Float64)
    }

    /// A column as `u32`.
    ///
    /// # Errors
    /// As [`Self::column`], and for a type that is no count.
    pub fn u32(&self, name: &str) -> Result<UInt32Array, Error> {
        self.cast(name, &DataType::UInt32)
    }

    /// A column of flags.
    ///
    /// # Errors
    /// As [`Self::column`], and for a type that is no flag.
    pub fn flags(&self, name: &str) -> Result<BooleanArray, Error> {
        self.cast(name, &DataType::Boolean)
    }

    fn cast<A: Clone + 'static>(&self, name: &str, to: &DataType) -> Result<A, Error> {
        cast(name, &self.column(name)?, to)
    }

    /// Columns as text, some rows at a time: for each stretch of rows one array a column, all of one length, in the order of
    /// the names. A column that rows were gathered from is read whole; others are not.
    ///
    /// # Errors
    /// As [`Self::text`]; each stretch may fail as well.
    pub fn texts(&self, names: &[&str]) -> Result<TextRows, Error> {
        let columns = names.iter().map(|name| {
            let source = self.source(name).ok_or_else(|| self.unknown(name))?;
            Ok(PieceReader {
                name: (*name).to_owned(),
                pieces: self.pieces(name, source)?,
                rest: None,
            })
        });
        Ok(TextRows {
            columns: columns.collect::<Result<_, Error>>()?,
            left: self.rows,
        })
    }

    fn pieces(&self, name: &str, source: &Source) -> Result<Pieces, Error> {
        match source {
            Source::Stored { reader, .. } => reader.pieces(name),
            Source::Constant(value) => {
                let (value, rows) = (value.clone(), self.rows);
                let starts = (0..rows).step_by(PIECE_ROWS);
                Ok(Box::new(starts.map(move |start| {
                    constant_column(&value, PIECE_ROWS.min(rows - start))
                })))
            }
            Source::Gathered { from, parent } => {
                let values = self.load(name, from)?;
                let name = name.to_owned();
                let index = parent.reader.pieces(&parent.column)?;
                Ok(Box::new(index.map(move |index| gather(&name, &values, &index?))))
            }
        }
    }

    fn unknown(&self, name: &str) -> Error {
        Error::internal(format!("there is no column `{name}`")).hint(format!(
            "the columns are {}",
            self.names().collect::<Vec<_>>().join(", ")
        ))
    }

    fn source(&self, name: &str) -> Option<&Source> {
        self.columns
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, source)| source)
    }

    fn load(&self, name: &str, source: &Source) -> Result<ArrayRef, Error> {
        match source {
            Source::Stored { reader, .. } => reader.read(name),
            Source::Gathered { from, parent } => {
                let values = self.load(name, from)?;
                gather(name, &values, &parent.reader.read(&parent.column)?)
            }
            Source::Constant(value) => constant_column(value, self.rows),
        }
    }
}

/// The views with their own columns, for messages ([`View::unveiled`]).
pub fn unveiled<'a>(views: &[&'a View]) -> Vec<&'a View> {
    views.iter().map(|view| view.unveiled()).collect()
}

fn gather(name: &str, values: &ArrayRef, index: &ArrayRef) -> Result<ArrayRef, Error> {
    take(values, index, None).map_err(|error| Error::internal(format!("column `{name}` has no such rows")).cause(error))
}

fn cast<A: Clone + 'static>(name: &str, column: &ArrayRef, to: &DataType) -> Result<A, Error> {
    let wrong = || {
        Error::task(format!(
            "column `{name}` is of type {}, which can not be read as {to}",
            column.data_type()
        ))
    };
    let cast = arrow::compute::cast(column, to).map_err(|error| wrong().cause(error))?;
    cast.as_any().downcast_ref::<A>().cloned().ok_or_else(wrong)
}

/// A column that is read piece by piece.
struct PieceReader {
    name: String,
    pieces: Pieces,
    rest: Option<ArrayRef>,
}

impl PieceReader {
    /// The piece that is being read, with at least one row; `None` after the last.
    fn piece(&mut self) -> Result<Option<&ArrayRef>, Error> {
        while self.rest.as_ref().is_none_or(|rest| rest.is_empty()) {
            match self.pieces.next() {
                Some(piece) => self.rest = Some(piece?),
                None => return Ok(None),
            }
        }
        Ok(self.rest.as_ref())
    }

    fn take(&mut self, rows: usize) -> Result<LargeStringArray, Error> {
        let Some(rest) = self.rest.take() else {
            return Err(Error::internal(format!("column `{}` ends too early", self.name)));
        };
        self.rest = Some(rest.slice(rows, rest.len() - rows));
        cast(&self.name, &rest.slice(0, rows), &DataType::LargeUtf8)
    }
}

/// Columns as text, some rows at a time.
pub struct TextRows {
    columns: Vec<PieceReader>,
    left: usize,
}

impl TextRows {
    fn stretch(&mut self) -> Result<Vec<LargeStringArray>, Error> {
        let mut rows = self.left;
        for column in &mut self.columns {
            let name = column.name.clone();
            let piece = column
                .piece()?
                .ok_or_else(|| Error::internal(format!("column `{name}` ends too early")))?;
            rows = rows.min(piece.len());
        }
        self.left -= rows;
        self.columns.iter_mut().map(|column| column.take(rows)).collect()
    }
}

impl Iterator for TextRows {
    type Item = Result<Vec<LargeStringArray>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let stretch = self.stretch();
        if stretch.is_err() {
            self.left = 0;
        }
        Some(stretch)
    }
}

/// Joins a column of several views; where one lacks it, its rows are null. Numbers of several types become `f64` (a matrix of
/// temperatures `[0, 0.8]` is one column of numbers), other mixtures text (labels such as `0.9M` and `7`).
///
/// # Errors
/// When none has it or its types have no text.
pub fn concat_column(views: &[&View], name: &str) -> Result<ArrayRef, Error> {
    let arrays = views
        .iter()
        .map(|view| view.has(name).then(|| view.column(name)).transpose());
    let arrays: Vec<Option<ArrayRef>> = arrays.collect::<Result<_, _>>()?;
    let Some(first) = arrays.iter().flatten().next() else {
        return Err(Error::internal(format!("there is no column `{name}`")));
    };
    // A column of nulls fits every type.
    let mut types = arrays
        .iter()
        .flatten()
        .filter(|array| array.null_count() < array.len())
        .map(|array| array.data_type());
    let kind = match types.next() {
        None => first.data_type().clone(),
        Some(kind) => types.fold(kind.clone(), |joined, kind| match kind {
            same if *same == joined => joined,
            kind if kind.is_numeric() && joined.is_numeric() => DataType::Float64,
            _ => DataType::LargeUtf8,
        }),
    };
    let failed = |error| Error::task(format!("column `{name}` has several types")).cause(error);
    let as_kind = |(array, view): (Option<ArrayRef>, &&View)| match array {
        Some(array) if *array.data_type() == kind => Ok(array),
        Some(array) if array.null_count() < array.len() => arrow::compute::cast(&array, &kind).map_err(failed),
        _ => Ok(new_null_array(&kind, view.rows())),
    };
    let arrays: Vec<ArrayRef> = arrays.into_iter().zip(views).map(as_kind).collect::<Result<_, _>>()?;
    let parts: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    concat(&parts).map_err(|error| Error::task(format!("column `{name}` can not be joined")).cause(error))
}

/// The type that a constant has as a column.
pub fn constant_type(value: &Constant) -> ColumnType {
    match value {
        Value::Bool(_) => ColumnType::Bool,
        Value::Number(number) if number.is_i64() || number.is_u64() => ColumnType::I64,
        Value::Number(_) => ColumnType::F64,
        _ => ColumnType::Text,
    }
}

fn constant_column(value: &Constant, rows: usize) -> Result<ArrayRef, Error> {
    Ok(match (constant_type(value), value) {
        (ColumnType::Bool, value) => Arc::new(BooleanArray::from(vec![value.as_bool(); rows])),
        (ColumnType::I64, value) => match value.as_i64() {
            Some(number) => Arc::new(Int64Array::from(vec![number; rows])),
            None => {
                return Err(Error::pipeline(format!(
                    "the constant {value} does not fit into 64 bits"
                )));
            }
        },
        (ColumnType::F64, value) => Arc::new(Float64Array::from(vec![value.as_f64(); rows])),
        (_, Value::Null) => Arc::new(LargeStringArray::from(vec![None::<&str>; rows])),
        (_, Value::String(text)) => Arc::new(LargeStringArray::from(vec![text.as_str(); rows])),
        (_, other) => Arc::new(LargeStringArray::from(vec![other.to_string(); rows])),
    })
}
