//! The columns of a loaded file: their names, types and values as the pipeline wants them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use fracture_cache::ColumnType;
use fracture_stage::{Error, YieldType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::normal;
use crate::read::json_column;
use crate::value::cell;

/// Values that an error lists.
const LISTED: usize = 5;

/// Where a column comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Column {
    /// The file's name of it.
    Named(String),
    /// The file's name of it, its type, and what its values mean.
    Made(Made),
}

/// A column that is read in its own way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Made {
    /// The file's name of it; the same name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What each value becomes, `{ harmful: true, harmless: false }`; a value that is not named is an error.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, Value>,
    /// Its type; what does not fit is an error.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<YieldType>,
}

impl Column {
    /// The file's name of the column that is called `name` here.
    pub fn source<'a>(&'a self, name: &'a str) -> &'a str {
        match self {
            Self::Named(from) => from,
            Self::Made(made) => made.from.as_deref().unwrap_or(name),
        }
    }

    /// Its type, where the parameters say it.
    pub fn kind(&self) -> Option<ColumnType> {
        match self {
            Self::Named(_) => None,
            Self::Made(made) => made.kind.map(YieldType::column_type),
        }
    }

    /// Whether its type is another one than the file's.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Made(made) if made.kind.is_some() || !made.map.is_empty())
    }

    /// What is wrong with it, if anything.
    pub fn problem(&self) -> Option<String> {
        let Self::Made(made) = self else { return None };
        let wrong = made.map.values().find(|value| value.is_array() || value.is_object());
        wrong.map(|value| format!("a value of `map` is a name, a number, a flag or null, not {value}"))
    }

    /// The column with its values mapped and its type changed.
    ///
    /// # Errors
    /// When a value is not in `map` or does not fit the type; the error names it.
    pub fn make(&self, name: &str, column: &ArrayRef) -> Result<ArrayRef, Error> {
        let Self::Made(made) = self else {
            return Ok(Arc::clone(column));
        };
        let mapped = match made.map.is_empty() {
            true => Arc::clone(column),
            false => mapped(name, column, &made.map)?,
        };
        match self.kind() {
            Some(kind) => typed(name, &mapped, kind),
            None => Ok(mapped),
        }
    }
}

fn mapped(name: &str, column: &ArrayRef, map: &BTreeMap<String, Value>) -> Result<ArrayRef, Error> {
    let mut unknown: Vec<String> = Vec::new();
    let mut cells: Vec<&Value> = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let text = written(column, row);
        // What is null stays null unless the map says `null: …`.
        let value = match &text {
            Some(text) => map.get(text),
            None => Some(map.get("null").unwrap_or(&Value::Null)),
        };
        cells.push(value.unwrap_or(&Value::Null));
        if let (None, Some(text)) = (value, text)
            && !unknown.contains(&text)
        {
            unknown.push(text);
        }
    }
    if unknown.is_empty() {
        return Ok(json_column(&cells));
    }
    let more = unknown.len().saturating_sub(LISTED);
    unknown.truncate(LISTED);
    let mut listed = unknown.join("`, `");
    if more > 0 {
        listed.push_str(&format!("` and {more} more `"));
    }
    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
    Err(Error::input(format!(
        "`map` of the column `{name}` does not say what `{listed}` means"
    ))
    .parameter(&["columns", name])
    .hint(format!(
        "it names {}; add the value, or map it to null",
        keys.join(", ")
    )))
}

/// A cell as a person writes it: `1`, not `1.0`.
fn written(column: &ArrayRef, row: usize) -> Option<String> {
    match cell(column, row) {
        Value::Null => None,
        Value::String(text) => Some(text),
        Value::Number(number) => Some(match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => format!("{whole:.0}"),
            _ => number.to_string(),
        }),
        other => Some(other.to_string()),
    }
}

fn typed(name: &str, column: &ArrayRef, kind: ColumnType) -> Result<ArrayRef, Error> {
    let failed = |error: Error| {
        let error = error.parameter(&["columns", name]);
        match (0..column.len()).find(|row| !fits(name, column, *row, kind)) {
            Some(row) => {
                let value = written(column, row).unwrap_or_default();
                error.cause(format!("row {} holds `{value}`", row + 1))
            }
            None => error,
        }
    };
    normal::cast(name, column, kind).map_err(failed)
}

fn fits(name: &str, column: &ArrayRef, row: usize, kind: ColumnType) -> bool {
    normal::cast(name, &column.slice(row, 1), kind).is_ok()
}

/// Rows of several files as one table: columns by name, null where a file lacks one.
///
/// # Errors
/// When a column can not be joined.
pub fn stacked(tables: &[Vec<(String, ArrayRef)>]) -> Result<Vec<(String, ArrayRef)>, Error> {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in tables.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let rows = |table: &Vec<(String, ArrayRef)>| table.first().map_or(0, |(_, column)| column.len());
    let column = |name: &String| -> Result<(String, ArrayRef), Error> {
        let parts: Vec<Option<&ArrayRef>> = tables
            .iter()
            .map(|table| table.iter().find(|(other, _)| other == name).map(|(_, column)| column))
            .collect();
        let kind = common(parts.iter().flatten().copied());
        let failed = |error| Error::input(format!("the column `{name}` can not be joined")).cause(error);
        let parts = parts.into_iter().zip(tables).map(|(part, table)| match part {
            Some(part) if part.null_count() < part.len() => arrow::compute::cast(part, &kind).map_err(failed),
            _ => Ok(arrow::array::new_null_array(&kind, rows(table))),
        });
        let parts = parts.collect::<Result<Vec<_>, Error>>()?;
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok((name.clone(), arrow::compute::concat(&parts).map_err(failed)?))
    };
    names.into_iter().map(column).collect()
}

/// The type of a column over several files: numbers of several types are numbers, other mixtures text.
fn common<'a>(parts: impl Iterator<Item = &'a ArrayRef>) -> DataType {
    let mut kinds = parts
        .filter(|part| part.null_count() < part.len())
        .map(|part| part.data_type());
    let Some(first) = kinds.next() else {
        return DataType::LargeUtf8;
    };
    kinds.fold(first.clone(), |joined, kind| match kind {
        same if *same == joined => joined,
        kind if kind.is_numeric() && joined.is_numeric() => DataType::Float64,
        _ => DataType::LargeUtf8,
    })
}

/// The files of a folder whose names fit a pattern with `*` and `?`, sorted.
pub fn matching(pattern: &str, names: Vec<String>) -> Vec<String> {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut found: Vec<String> = names
        .into_iter()
        .filter(|name| {
            // A hidden file is meant only by a pattern that says so.
            let hidden = name.starts_with('.') && pattern.first() != Some(&'.');
            !hidden && fits_pattern(&pattern, &name.chars().collect::<Vec<char>>())
        })
        .collect();
    found.sort();
    found
}

/// Whether a name fits, in time that is linear in both for each star.
fn fits_pattern(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        let names = || {
            ["a.csv", "b.csv", "ab.csv", "a.jsonl", ".a.csv"]
                .map(str::to_owned)
                .to_vec()
        };
        assert_eq!(matching("*.csv", names()), ["a.csv", "ab.csv", "b.csv"]);
        assert_eq!(matching("?.csv", names()), ["a.csv", "b.csv"]);
        assert_eq!(matching("a*", names()), ["a.csv", "a.jsonl", "ab.csv"]);
        assert_eq!(matching("*b*.c*v*", names()), ["ab.csv", "b.csv"]);
        assert_eq!(matching(".*", names()), [".a.csv"]);
        assert!(matching("c*", names()).is_empty());
    }
}
