//! The cells that the tables have rows for, and which row of each table belongs to a cell.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::DataType;

use super::table::Table;
use crate::error::Error;
use crate::order;

/// The columns that come first, in the words of the paper's rubric.
const FIRST: [&str; 4] = ["axis", "algorithm", "model", "decoder"];

/// One row of the joined table.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The values of the group columns that say something of the cell.
    pub group: BTreeMap<String, Option<String>>,
    /// The contrast.
    pub contrast: Option<String>,
    /// The row of each table.
    pub rows: [Option<usize>; 4],
}

/// The group columns of all tables: axis, algorithm, model, decoder, then the others by name.
pub fn group_columns(tables: &[Option<Table>; 4]) -> Vec<String> {
    let mut names: Vec<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.groups.iter().map(|(name, ..)| name.clone()))
        .collect();
    let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    names.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
    names.dedup();
    names
}

/// The natural full outer join of the tables on their shared group columns and the contrast, sorted.
pub fn join(tables: &[Option<Table>; 4]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for (port, table) in tables.iter().enumerate() {
        let Some(table) = table else { continue };
        let mut joined: Vec<Cell> = Vec::new();
        let mut partnered = vec![false; table.contrast.len()];
        for cell in cells {
            let before = joined.len();
            for &row in table.rows.iter().filter(|&&row| agrees(table, row, &cell)) {
                partnered[row] = true;
                joined.push(extended(&cell, port, table, row));
            }
            if joined.len() == before {
                joined.push(cell);
            }
        }
        let nothing = |row: usize| Cell {
            group: BTreeMap::new(),
            contrast: table.contrast[row].clone(),
            rows: [None; 4],
        };
        let alone = table.rows.iter().filter(|&&row| !partnered[row]);
        joined.extend(alone.map(|&row| extended(&nothing(row), port, table, row)));
        cells = joined;
    }
    let names = group_columns(tables);
    let value = |cell: &Cell, name: &str| cell.group.get(name).cloned().flatten();
    cells.sort_by(|a, b| {
        let by_group = names
            .iter()
            .map(|name| order::compare(value(a, name).as_deref(), value(b, name).as_deref()));
        by_group
            .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
            .then_with(|| a.contrast.cmp(&b.contrast))
    });
    cells
}

fn agrees(table: &Table, row: usize, cell: &Cell) -> bool {
    table.contrast[row] == cell.contrast
        && cell.group.iter().all(|(name, known)| match table.group(name, row) {
            Some(value) => value == known.as_deref(),
            None => true,
        })
}

fn extended(cell: &Cell, port: usize, table: &Table, row: usize) -> Cell {
    let mut cell = cell.clone();
    cell.rows[port] = Some(row);
    for (name, values, _) in &table.groups {
        cell.group.entry(name.clone()).or_insert_with(|| values[row].clone());
    }
    cell
}

/// The values of a group column for all cells, of the type that the tables have for it; text where they differ.
///
/// # Errors
/// An internal error when a value can not be gathered.
pub fn group_array(name: &str, cells: &[Cell], tables: &[Option<Table>; 4]) -> Result<ArrayRef, Error> {
    let failed = |error| Error::internal(format!("the group column `{name}` can not be joined")).cause(error);
    let mut sources: Vec<(usize, ArrayRef)> = Vec::new();
    for (port, table) in tables.iter().enumerate() {
        let column = table
            .as_ref()
            .and_then(|table| table.groups.iter().find(|(own, ..)| own == name));
        if let Some((_, _, array)) = column {
            sources.push((port, array.clone()));
        }
    }
    let same = sources
        .windows(2)
        .all(|pair| pair[0].1.data_type() == pair[1].1.data_type());
    if !same {
        for (_, array) in &mut sources {
            *array = cast(array, &DataType::LargeUtf8).map_err(failed)?;
        }
    }
    let arrays: Vec<&dyn Array> = sources.iter().map(|(_, array)| array.as_ref()).collect();
    let all = concat(&arrays).map_err(failed)?;
    let place = |cell: &Cell| {
        let mut offset = 0;
        for (port, array) in &sources {
            if let Some(row) = cell.rows[*port] {
                return Some((offset + row) as u32);
            }
            offset += array.len();
        }
        None
    };
    take(&all, &cells.iter().map(place).collect::<UInt32Array>(), None).map_err(failed)
}
