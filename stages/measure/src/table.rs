//! Tables that a stage yields: one list of columns gives the schema at plan time and the rows at run time.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, LargeStringArray, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;
use fracture_cache::ColumnType;
use fracture_stage::{Completeness, Error, Field as PlannedField, Output, Schema};

use crate::rows::Measured;

/// How a column is read off a line.
pub enum Read<L> {
    /// Text.
    Text(for<'a> fn(&'a L) -> Option<&'a str>),
    /// A whole number.
    Count(fn(&L) -> usize),
    /// A number; null where it is not defined.
    Number(fn(&L) -> Option<f64>),
    /// Yes or no; null where it is not defined.
    Flag(fn(&L) -> Option<bool>),
}

// By hand: deriving would ask lines to be copied, which are only read.
impl<L> Clone for Read<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Read<L> {}

/// A column of a table of lines.
pub struct Column<L> {
    /// Its name.
    pub name: &'static str,
    /// Where its values come from.
    pub read: Read<L>,
}

impl<L> Clone for Column<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Column<L> {}

/// A column of text.
pub const fn text<L>(name: &'static str, read: for<'a> fn(&'a L) -> Option<&'a str>) -> Column<L> {
    Column {
        name,
        read: Read::Text(read),
    }
}

/// A column of counts.
pub const fn count<L>(name: &'static str, read: fn(&L) -> usize) -> Column<L> {
    Column {
        name,
        read: Read::Count(read),
    }
}

/// A column of numbers.
pub const fn number<L>(name: &'static str, read: fn(&L) -> Option<f64>) -> Column<L> {
    Column {
        name,
        read: Read::Number(read),
    }
}

/// A column of yes and no.
pub const fn flag<L>(name: &'static str, read: fn(&L) -> Option<bool>) -> Column<L> {
    Column {
        name,
        read: Read::Flag(read),
    }
}

impl<L> Column<L> {
    fn kind(&self) -> ColumnType {
        match self.read {
            Read::Text(_) => ColumnType::Text,
            Read::Count(_) => ColumnType::U32,
            Read::Number(_) => ColumnType::F64,
            Read::Flag(_) => ColumnType::Bool,
        }
    }

    fn array(&self, lines: &[L]) -> ArrayRef {
        match self.read {
            Read::Text(read) => Arc::new(lines.iter().map(read).collect::<LargeStringArray>()),
            Read::Count(read) => {
                let clamp = |line| u32::try_from(read(line)).unwrap_or(u32::MAX);
                Arc::new(UInt32Array::from_iter_values(lines.iter().map(clamp)))
            }
            Read::Number(read) => {
                let finite = |line| read(line).filter(|number| !number.is_nan());
                Arc::new(lines.iter().map(finite).collect::<Float64Array>())
            }
            Read::Flag(read) => Arc::new(lines.iter().map(read).collect::<BooleanArray>()),
        }
    }
}

/// Columns that come before those of the lines: a name, and a value per group.
pub struct Lead {
    /// The column's name.
    pub name: String,
    /// One value per group.
    pub groups: ArrayRef,
    /// For each line its group; `None` is null.
    pub of_line: Vec<Option<u32>>,
}

/// The group columns of lines, each given by its group.
pub fn leads(measured: &Measured, groups: impl Iterator<Item = usize>) -> Vec<Lead> {
    let of_line: Vec<Option<u32>> = groups.map(|group| Some(group as u32)).collect();
    let lead = |(name, values): &(String, ArrayRef)| Lead {
        name: name.clone(),
        groups: values.clone(),
        of_line: of_line.clone(),
    };
    measured.by.iter().map(lead).collect()
}

/// A table of the columns in `lead`, then those of `lines`. A column of `lines` whose name is taken is left out: the group
/// says the same (a `tau` that is a matrix variable).
///
/// # Errors
/// An internal error when the columns have different lengths.
pub fn batch<L>(lead: Vec<Lead>, columns: &[Column<L>], lines: &[L]) -> Result<RecordBatch, Error> {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for Lead { name, groups, of_line } in lead {
        let array = if groups.is_empty() {
            new_null_array(groups.data_type(), lines.len())
        } else {
            take(&groups, &UInt32Array::from(of_line), None)
                .map_err(|error| Error::internal(format!("column `{name}` can not be gathered")).cause(error))?
        };
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let led = fields.len();
    for column in columns {
        if fields[..led].iter().any(|field| field.name() == column.name) {
            continue;
        }
        let array = column.array(lines);
        fields.push(Field::new(column.name, array.data_type().clone(), true));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays)
        .map_err(|error| Error::internal("the results do not make a table").cause(error))
}

/// An output that holds the table.
pub fn output(batch: RecordBatch) -> Output {
    Output::Table { batch, parent: None }
}

/// The schema of such a table: `lead` is `None` where only the run will tell the groups' columns.
pub fn schema<L>(lead: Option<&[PlannedField]>, columns: &[Column<L>]) -> Schema {
    let completeness = if lead.is_some() {
        Completeness::Exact
    } else {
        Completeness::AtLeast
    };
    let mut fields = lead.unwrap_or_default().to_vec();
    for column in columns {
        if fields.iter().all(|field| field.name != column.name) {
            fields.push(PlannedField {
                name: column.name.to_owned(),
                kind: Some(column.kind()),
            });
        }
    }
    // What tells groups apart is what readers join tables on.
    let keys = lead.unwrap_or_default().iter().map(|field| field.name.clone());
    Schema {
        fields,
        completeness,
        keys: keys.filter(|name| name != "axis").collect(),
    }
}
