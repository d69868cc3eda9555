//! The table that a figure draws, in memory: columns of all tasks joined, rows chosen by `where`.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{cast, filter, take};
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use fracture_stage::view::concat_column;
use fracture_stage::{Error, View};

use crate::order;
use crate::parameters::Chosen;

/// A table of a figure.
#[derive(Debug, Clone)]
pub struct Rows {
    count: usize,
    columns: Vec<(String, ArrayRef)>,
    keys: Vec<String>,
}

impl Rows {
    /// Joins the tables of several tasks. `wanted` says which columns are read.
    ///
    /// # Errors
    /// When the store can not deliver a column or its types differ between tasks.
    pub fn join(views: &[&View], wanted: &dyn Fn(&str) -> bool) -> Result<Self, Error> {
        let mut names: Vec<String> = Vec::new();
        let mut keys: Vec<String> = Vec::new();
        for view in views {
            let new = view
                .names()
                .filter(|name| wanted(name) || view.keys().iter().any(|key| key == name));
            for name in new {
                push_new(&mut names, name);
            }
            for key in view.keys() {
                push_new(&mut keys, key);
            }
        }
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let column = concat_column(views, &name)?;
            columns.push((name, column));
        }
        let count = views.iter().map(|view| view.rows()).sum();
        let rows = Self { count, columns, keys };
        // The order of tasks must not matter; the rows of one task keep theirs.
        if views.len() > 1 { rows.sorted() } else { Ok(rows) }
    }

    /// The rows of a batch.
    pub fn of_batch(batch: &RecordBatch) -> Self {
        let schema = batch.schema();
        let names = schema.fields().iter().map(|field| field.name().clone());
        Self {
            count: batch.num_rows(),
            columns: names.zip(batch.columns().iter().cloned()).collect(),
            keys: Vec::new(),
        }
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The names of the columns in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The key columns in order.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// A column.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.columns
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, column)| column)
    }

    /// A column as text, null as the empty text.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Error> {
        let column = self.column(name).ok_or_else(|| self.missing(name))?;
        Ok((0..self.count).map(|row| cell(column, row)).collect())
    }

    /// A column as numbers; `None` when there is none of that name or it is no number.
    pub fn numbers(&self, name: &str) -> Option<Vec<Option<f64>>> {
        let column = self.column(name)?;
        if matches!(column.data_type(), DataType::LargeUtf8 | DataType::Utf8) {
            return None;
        }
        let numbers = cast(column, &DataType::Float64).ok()?;
        let numbers = numbers.as_primitive_opt::<Float64Type>()?;
        Some(
            numbers
                .iter()
                .map(|value| value.filter(|number| number.is_finite()))
                .collect(),
        )
    }

    /// The distinct values of a column in order; empty when there is none of that name. Null is no value.
    pub fn distinct(&self, name: &str) -> Vec<String> {
        let Some(column) = self.column(name) else {
            return Vec::new();
        };
        let texts: Vec<String> = (0..self.count)
            .filter(|row| !column.is_null(*row))
            .map(|row| cell(column, row))
            .collect();
        order::distinct(name, texts.iter().map(String::as_str))
    }

    /// The rows whose columns have one of the chosen values.
    ///
    /// # Errors
    /// When a column is not there, or no row is left: the error says which values there are.
    pub fn chosen(self, choices: &BTreeMap<String, Chosen>) -> Result<Self, Error> {
        let mut rows = self;
        for (name, chosen) in choices {
            let wanted = chosen.texts();
            let texts = rows.texts(name)?;
            let mask: Vec<bool> = texts
                .iter()
                .map(|text| wanted.iter().any(|one| same(one, text)))
                .collect();
            if !mask.contains(&true) {
                return Err(Error::pipeline(format!("no row has {name} = {}", wanted.join(" or ")))
                    .hint(format!("`{name}` has {}", list(&rows.distinct(name)))));
            }
            rows = rows.kept(&mask)?;
        }
        Ok(rows)
    }

    /// The rows whose column has one of these values; perhaps none.
    ///
    /// # Errors
    /// When the column is not there.
    pub fn any_of(&self, name: &str, values: &[String]) -> Result<Self, Error> {
        let texts = self.texts(name)?;
        let mask: Vec<bool> = texts
            .iter()
            .map(|text| values.iter().any(|one| same(one, text)))
            .collect();
        self.kept(&mask)
    }

    /// These rows, in this order.
    ///
    /// # Errors
    /// An internal error when there are no such rows.
    pub fn at(&self, rows: &[usize]) -> Result<Self, Error> {
        let order: arrow::array::UInt32Array = rows.iter().map(|row| Some(*row as u32)).collect();
        self.map(rows.len(), |column| take(column, &order, None))
    }

    /// A column of numbers that must be there; NaN and infinite values are `None`.
    ///
    /// # Errors
    /// When there is none of that name or it is no number.
    pub fn values(&self, name: &str) -> Result<Vec<Option<f64>>, Error> {
        self.numbers(name).ok_or_else(|| match self.column(name) {
            Some(_) => Error::pipeline(format!("column `{name}` is no number")).hint("name a column of numbers"),
            None => self.missing(name),
        })
    }

    /// A column of numbers that may be missing, as `None` in every row.
    pub fn maybe(&self, name: &str) -> Vec<Option<f64>> {
        self.numbers(name).unwrap_or_else(|| vec![None; self.count])
    }

    /// A column of flags; `false` where it is null or missing.
    pub fn flags(&self, name: &str) -> Vec<bool> {
        let column = self
            .column(name)
            .and_then(|column| cast(column, &DataType::Boolean).ok());
        let flags = column.as_ref().and_then(|column| column.as_boolean_opt());
        match flags {
            Some(flags) => flags.iter().map(|flag| flag.unwrap_or(false)).collect(),
            None => vec![false; self.count],
        }
    }

    /// A table of texts and numbers that was put together, with its columns in order.
    pub fn made(count: usize, columns: Vec<(String, ArrayRef)>, keys: Vec<String>) -> Self {
        Self { count, columns, keys }
    }

    /// The rows for which the mask is true.
    ///
    /// # Errors
    /// An internal error when the mask does not fit.
    pub fn kept(&self, mask: &[bool]) -> Result<Self, Error> {
        let mask = BooleanArray::from(mask.to_vec());
        self.map(mask.true_count(), |column| filter(column, &mask))
    }

    /// The error for a column that is not there.
    pub fn missing(&self, name: &str) -> Error {
        let names: Vec<String> = self.names().map(str::to_owned).collect();
        Error::pipeline(format!("there is no column `{name}`")).hint(format!("the columns are {}", list(&names)))
    }

    fn sorted(self) -> Result<Self, Error> {
        let mut by: Vec<(String, Vec<String>)> = Vec::new();
        let others = self.names().filter(|name| !self.keys.iter().any(|key| key == name));
        for name in self.keys.iter().map(String::as_str).chain(others) {
            by.push((name.to_owned(), self.texts(name)?));
        }
        let mut order: Vec<u32> = (0..self.count as u32).collect();
        order.sort_by(|one, other| {
            let compared = by
                .iter()
                .map(|(name, texts)| order::compare(name, &texts[*one as usize], &texts[*other as usize]));
            compared
                .into_iter()
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let order = arrow::array::UInt32Array::from(order);
        self.map(self.count, |column| take(column, &order, None))
    }

    fn map<F>(&self, count: usize, change: F) -> Result<Self, Error>
    where
        F: Fn(&ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError>,
    {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (name, column) in &self.columns {
            let changed = change(column)
                .map_err(|error| Error::internal(format!("column `{name}` can not be rearranged")).cause(error))?;
            columns.push((name.clone(), changed));
        }
        Ok(Self {
            count,
            columns,
            keys: self.keys.clone(),
        })
    }
}

fn push_new(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|other| other == name) {
        names.push(name.to_owned());
    }
}

/// Whether a value of a pipeline is a cell's: as text or, where both are numbers, as numbers.
fn same(value: &str, cell: &str) -> bool {
    value == cell || matches!((value.parse::<f64>(), cell.parse::<f64>()), (Ok(one), Ok(other)) if one == other)
}

/// The first values of a list, for a message.
pub fn list(values: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = values.iter().take(SHOWN).map(|value| format!("`{value}`")).collect();
    let more = if values.len() > SHOWN { ", …" } else { "" };
    if shown.is_empty() {
        "no value".to_owned()
    } else {
        format!("{}{more}", shown.join(", "))
    }
}

/// A cell as text: numbers with the digits that read back as the same number, null as the empty text.
pub fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    match column.data_type() {
        DataType::Float64 => number(column.as_primitive::<Float64Type>().value(row)),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).to_owned(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        _ => array_value_to_string(column, row).unwrap_or_default(),
    }
}

/// A number with the digits that read back as the same number.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if (1e-5..1e15).contains(&size) || !value.is_finite() {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}
