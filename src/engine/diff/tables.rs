//! How the numbers of two tables differ, each beside its interval.
//!
//! Rows of a table of results are joined by its first columns: texts and flags up to the first number, and as many columns
//! more as it takes to tell every row from the others. Tables that belong row by row to another one (those of map stages)
//! have no such columns; they are compared row by row when their rows are as many.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{DataType, Float64Type};
use fracture_cache::{ColumnType, Store, Table};
use fracture_stage::Error;
use serde::Serialize;
use serde_json::Value;

use crate::engine::store_error;
use crate::engine::views::PARENT;

/// Tables with more rows are compared column by column.
const LISTED: u64 = 100_000;

/// Rows are told apart by at most so many columns.
const KEYS: usize = 16;

/// A number that moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Move {
    /// The row: the columns that tell it from the others, with their values.
    pub row: Vec<(String, Value)>,
    /// The column.
    pub column: String,
    /// The number before; `None` when there was none.
    pub was: Option<f64>,
    /// The number now.
    pub now: Option<f64>,
    /// The interval before, from `COLUMN_low` to `COLUMN_high`.
    pub interval: Option<(f64, f64)>,
    /// The interval now.
    pub interval_now: Option<(f64, f64)>,
    /// Whether it lies outside the interval before; `None` without one.
    pub outside: Option<bool>,
}

/// A column whose values differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnDiff {
    /// The column.
    pub column: String,
    /// In how many rows it differs; `None` when rows can not be compared.
    pub rows: Option<u64>,
    /// By how much a number differs at most.
    pub most: Option<f64>,
}

/// How a table differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableDiff {
    /// The output.
    pub output: String,
    /// Rows before and now.
    pub rows: (u64, u64),
    /// The columns that tell rows apart; empty when rows were not joined.
    pub key: Vec<String>,
    /// The numbers that moved, row by row.
    pub moved: Vec<Move>,
    /// Columns whose values differ; of joined tables only those that are no numbers.
    pub columns: Vec<ColumnDiff>,
    /// Rows that only the second table has, by their key columns.
    pub added: Vec<Vec<Value>>,
    /// Rows that only the first table has.
    pub removed: Vec<Vec<Value>>,
    /// Columns that only the second table has.
    pub columns_added: Vec<String>,
    /// Columns that only the first table has.
    pub columns_removed: Vec<String>,
}

/// Compares two tables of one output.
///
/// # Errors
/// When the store can not deliver one.
pub fn compare(output: &str, tables: [&Table; 2], store: &Store) -> Result<TableDiff, Error> {
    let [was, now] = tables;
    let only = |one: &Table, other: &Table| {
        let names = one.columns.iter().map(|column| column.name.clone());
        names
            .filter(|name| other.column(name).is_none() && name != PARENT)
            .collect()
    };
    let mut found = TableDiff {
        output: output.to_owned(),
        rows: (was.rows, now.rows),
        columns_added: only(now, was),
        columns_removed: only(was, now),
        ..TableDiff::default()
    };
    let listed = was.rows.max(now.rows) <= LISTED && was.column(PARENT).is_none();
    let joined = listed && identified(was) && identified(now) && {
        let read = |table| store.read_table(table, None).map_err(store_error);
        let (before, after) = (read(was)?, read(now)?);
        let pair = [fracture_table::to_json(&before), fracture_table::to_json(&after)];
        join(&mut found, tables, &pair)
    };
    if !joined {
        found.columns = by_column(tables, store)?;
    }
    Ok(found)
}

/// Whether a table begins with what tells its rows apart: a table of results begins with a name.
fn identified(table: &Table) -> bool {
    let first = table.columns.first();
    table.rows <= 1 || first.is_some_and(|column| matches!(column.kind, ColumnType::Text | ColumnType::Bool))
}

fn is_number(kind: ColumnType) -> bool {
    use ColumnType::{F32, F64, I64, U32, U64};
    matches!(kind, F32 | F64 | I64 | U32 | U64)
}

/// Joins rows by key columns; `false` when no columns tell them apart.
fn join(found: &mut TableDiff, tables: [&Table; 2], rows: &[Vec<Value>; 2]) -> bool {
    let [was, now] = tables;
    let shared: Vec<&str> = was
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .filter(|name| now.column(name).is_some())
        .collect();
    let Some(key) = key(&shared, was, rows) else {
        return false;
    };
    let index: HashMap<String, &Value> = rows[0].iter().map(|row| (identity(row, key), row)).collect();
    let mut seen = HashSet::new();
    let values = |row: &Value| key.iter().map(|name| row[*name].clone()).collect::<Vec<Value>>();
    let mut texts: Vec<(&str, u64)> = Vec::new();
    for row in &rows[1] {
        let id = identity(row, key);
        let Some(before) = index.get(&id) else {
            found.added.push(values(row));
            continue;
        };
        seen.insert(id);
        for name in shared
            .iter()
            .filter(|name| !key.contains(name) && before[**name] != row[**name])
        {
            let numbers = [was, now]
                .iter()
                .all(|table| table.column(name).is_some_and(|column| is_number(column.kind)));
            if !numbers {
                match texts.iter_mut().find(|(other, _)| other == name) {
                    Some((_, count)) => *count += 1,
                    None => texts.push((name, 1)),
                }
            } else if !is_end(name, &shared) {
                found.moved.push(moved(name, key, before, row));
            }
        }
    }
    let gone = rows[0].iter().filter(|row| !seen.contains(&identity(row, key)));
    found.removed = gone.map(values).collect();
    found.key = key.iter().map(|name| (*name).to_owned()).collect();
    found.columns = texts
        .into_iter()
        .map(|(column, rows)| ColumnDiff {
            column: column.to_owned(),
            rows: Some(rows),
            most: None,
        })
        .collect();
    true
}

/// The shortest list of first columns, texts and flags at least, that tells all rows of each table apart.
fn key<'a>(shared: &'a [&'a str], table: &Table, rows: &[Vec<Value>; 2]) -> Option<&'a [&'a str]> {
    let names = |name: &&&str| {
        let kind = table.column(name).map(|column| column.kind);
        matches!(kind, Some(ColumnType::Text | ColumnType::Bool))
    };
    let least = shared.iter().take_while(names).count().min(KEYS);
    let unique = |key: &[&str]| {
        rows.iter().all(|rows| {
            let mut seen = HashSet::new();
            rows.iter().all(|row| seen.insert(identity(row, key)))
        })
    };
    (least..=shared.len().min(KEYS))
        .map(|count| &shared[..count])
        .find(|key| unique(key))
}

fn identity(row: &Value, key: &[&str]) -> String {
    key.iter().map(|name| format!("{}\u{1f}", row[*name])).collect()
}

/// Whether a column is an end of another column's interval.
fn is_end(name: &str, all: &[&str]) -> bool {
    let base = name.strip_suffix("_low").or(name.strip_suffix("_high"));
    base.is_some_and(|base| all.contains(&base))
}

fn moved(name: &str, key: &[&str], before: &Value, after: &Value) -> Move {
    let interval = |row: &Value| {
        let end = |end: &str| row.get(format!("{name}_{end}")).and_then(Value::as_f64);
        end("low").zip(end("high"))
    };
    let (was, now, old) = (before[name].as_f64(), after[name].as_f64(), interval(before));
    Move {
        row: key
            .iter()
            .map(|name| ((*name).to_owned(), after[*name].clone()))
            .collect(),
        column: name.to_owned(),
        was,
        now,
        interval: old,
        interval_now: interval(after),
        outside: old.zip(now).map(|((low, high), now)| now < low || now > high),
    }
}

/// The columns that differ, row by row where rows are as many and come from the same rows.
fn by_column(tables: [&Table; 2], store: &Store) -> Result<Vec<ColumnDiff>, Error> {
    let [was, now] = tables;
    let parent = |table: &Table| table.column(PARENT).map(|column| column.content);
    let aligned = was.rows == now.rows && parent(was) == parent(now);
    let mut found = Vec::new();
    for column in now.columns.iter().filter(|column| column.name != PARENT) {
        let Some(before) = was.column(&column.name) else {
            continue;
        };
        if before.content == column.content {
            continue;
        }
        let mut diff = ColumnDiff {
            column: column.name.clone(),
            rows: None,
            most: None,
        };
        if aligned {
            let read = |table| store.read_column(table, &column.name).map_err(store_error);
            let (before, after) = (read(was)?, read(now)?);
            let numbers = is_number(before_kind(was, &column.name)) && is_number(column.kind);
            (diff.rows, diff.most) = if numbers {
                numbers_moved(&before, &after)
            } else {
                texts_moved(&before, &after)
            };
        }
        found.push(diff);
    }
    Ok(found)
}

fn before_kind(table: &Table, name: &str) -> ColumnType {
    table.column(name).map_or(ColumnType::Text, |column| column.kind)
}

fn numbers_moved(before: &ArrayRef, after: &ArrayRef) -> (Option<u64>, Option<f64>) {
    let cast = |array: &ArrayRef| arrow::compute::cast(array, &DataType::Float64).ok();
    let (Some(before), Some(after)) = (cast(before), cast(after)) else {
        return (None, None);
    };
    let (mut rows, mut most) = (0, None::<f64>);
    for pair in before
        .as_primitive::<Float64Type>()
        .iter()
        .zip(after.as_primitive::<Float64Type>())
    {
        match pair {
            (Some(was), Some(now)) if was.to_bits() != now.to_bits() => {
                rows += 1;
                let by = (now - was).abs();
                most = Some(most.map_or(by, |most| most.max(by)));
            }
            (Some(_), None) | (None, Some(_)) => rows += 1,
            _ => {}
        }
    }
    (Some(rows), most)
}

fn texts_moved(before: &ArrayRef, after: &ArrayRef) -> (Option<u64>, Option<f64>) {
    let rows = (0..before.len().min(after.len()))
        .filter(|row| before.slice(*row, 1).to_data() != after.slice(*row, 1).to_data())
        .count();
    (Some(rows as u64), None)
}
