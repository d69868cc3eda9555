//! One of the joined tables, read into memory.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, LargeStringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::cells::Cell;
use crate::error::Error;
use crate::view::{View, concat_column};

/// Columns whose values tell rows apart only where there are several of them.
const PERHAPS_GROUPS: [&str; 2] = ["aggregate", "budget"];

/// The column that is null where an entry must not be a headline.
const HEADLINE: &str = "headline";

/// A boundary below this AUC is none that an entry can be read from (SCIENCE.md B3).
const LEAST_AUC: f64 = 0.7;
/// So are fewer unsafe completions than these.
const LEAST_UNSAFE: f64 = 20.0;

/// A table at one of the ports.
pub struct Table {
    port: &'static str,
    /// The group columns with their values as text and as they are.
    pub groups: Vec<(String, Vec<Option<String>>, ArrayRef)>,
    /// The contrast of each row.
    pub contrast: Vec<Option<String>>,
    /// The rows that take part.
    pub rows: Vec<usize>,
    numbers: BTreeMap<String, Float64Array>,
    reasons: Option<LargeStringArray>,
}

impl Table {
    /// Reads the tables at a port.
    ///
    /// # Errors
    /// When there is no column `contrast`, or the store can not deliver a column.
    pub fn read(port: &'static str, views: &[&View]) -> Result<Self, Error> {
        let has = |name: &str| views.iter().any(|view| view.has(name));
        if !has("contrast") {
            let kind = if port == "caps" { "landscape" } else { port };
            let output = if port == "caps" { "STAGE.caps" } else { "STAGE" };
            return Err(Error::pipeline(format!("the table `{port}` has no column `contrast`"))
                .hint(format!("connect a stage of kind `{kind}`: `{port}: {output}`")));
        }
        let contrast = texts(&concat_column(views, "contrast")?)?;
        let mut names: Vec<&str> = Vec::new();
        for view in views {
            let before = view.names().take_while(|name| *name != "contrast");
            for name in before.chain(view.keys().iter().map(String::as_str)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let mut groups = Vec::new();
        for name in names
            .into_iter()
            .chain(PERHAPS_GROUPS.into_iter().filter(|name| has(name)))
        {
            let column = concat_column(views, name)?;
            let values = texts(&column)?;
            let several = values.iter().any(|value| *value != values[0]);
            if several || !PERHAPS_GROUPS.contains(&name) {
                groups.push((name.to_owned(), values, column));
            }
        }
        let mut numbers = BTreeMap::new();
        for name in views.iter().flat_map(|view| view.names()) {
            if !numbers.contains_key(name)
                && let Some(column) = as_numbers(&concat_column(views, name)?)
            {
                numbers.insert(name.to_owned(), column);
            }
        }
        let said = ["reason", "note"].into_iter().find(|name| has(name));
        let reasons = match said {
            Some(name) => Some(texts(&concat_column(views, name)?)?.into_iter().collect()),
            None => None,
        };
        let mut table = Self {
            port,
            groups,
            rows: (0..contrast.len()).collect(),
            contrast,
            numbers,
            reasons,
        };
        if port == "caps" {
            table.keep_answers(views)?;
        }
        Ok(table)
    }

    /// Of the caps, those that were chosen, as reported on the half that they were not chosen on.
    fn keep_answers(&mut self, views: &[&View]) -> Result<(), Error> {
        let has = |name: &str| views.iter().any(|view| view.has(name));
        if !has("half") || !has("chosen") {
            return Ok(());
        }
        let half = texts(&concat_column(views, "half")?)?;
        let chosen = texts(&concat_column(views, "chosen")?)?;
        self.rows
            .retain(|&row| half[row].as_deref() == Some("reporting") && chosen[row].as_deref() == Some("true"));
        Ok(())
    }

    /// A number of a row; null, NaN and a column that is not there are `None`. An entry that the flow does not headline
    /// is none (SCIENCE.md B3).
    pub fn number(&self, row: usize, column: &str) -> Option<f64> {
        if column.starts_with("entry") && self.numbers.contains_key(HEADLINE) {
            self.number(row, HEADLINE)?;
        }
        let column = self.numbers.get(column)?;
        (column.is_valid(row) && !column.value(row).is_nan()).then(|| column.value(row))
    }

    /// The value of a group column as text; the outer `None`: there is no such column.
    pub fn group(&self, name: &str, row: usize) -> Option<Option<&str>> {
        let (_, values, _) = self.groups.iter().find(|(other, ..)| other == name)?;
        Some(values[row].as_deref())
    }

    /// Why a row has no number.
    pub fn why(&self, row: usize) -> String {
        if let Some(reasons) = self.reasons.as_ref().filter(|reasons| reasons.is_valid(row)) {
            return reasons.value(row).to_owned();
        }
        if self.number(row, "n") == Some(0.0) {
            return "no item has a valid score under both regimes".to_owned();
        }
        if self
            .number(row, "unsafe_completions")
            .is_some_and(|count| count < LEAST_UNSAFE)
        {
            return format!("fewer than {LEAST_UNSAFE} unsafe completions");
        }
        match self.number(row, "boundary_auc") {
            Some(auc) if auc < LEAST_AUC => {
                format!("the boundary's held-out AUC is {auc:.2}, below {LEAST_AUC}")
            }
            _ => format!("not defined by `{}`", self.port),
        }
    }

    /// The group columns of a cell that this table lacks, those with several values in the whole join.
    pub fn pooled_over(&self, cell: &Cell) -> Option<String> {
        let lacking: Vec<String> = cell
            .group
            .keys()
            .filter(|name| self.groups.iter().all(|(own, ..)| own != *name))
            .filter(|name| !PERHAPS_GROUPS.contains(&name.as_str()))
            .map(|name| format!("`{name}`"))
            .collect();
        (!lacking.is_empty()).then(|| lacking.join(", "))
    }
}

fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>, Error> {
    let text =
        cast(column, &DataType::LargeUtf8).map_err(|error| Error::task("a group column has no text").cause(error))?;
    let text = text.as_string::<i64>();
    Ok(text.iter().map(|value| value.map(str::to_owned)).collect())
}

/// A column of numbers; `None` for other types.
fn as_numbers(column: &ArrayRef) -> Option<Float64Array> {
    let numeric = column.data_type().is_numeric();
    let numbers = numeric.then(|| cast(column, &DataType::Float64).ok()).flatten()?;
    numbers.as_primitive_opt::<Float64Type>().cloned()
}
