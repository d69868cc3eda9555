//! The four numbers of the paper, as one table with a row per cell of the grid: FRACTURE, the median lift of the frontier
//! (SRF), the entry of the manifold flow, and FRACTURE before and after caps, each with its interval.
//!
//! Each comes from a table of its own. The tables are joined on the group columns that two of them share and on `contrast`;
//! a table with fewer group columns (caps are over all decoders of a grid) stands beside every cell that it agrees with. A
//! number that is not there is null, and `reason` says why.

mod cells;
mod table;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, LargeStringArray};
use arrow::datatypes::{Field as ArrowField, Schema as ArrowSchema};
use arrow::record_batch::RecordBatch;

use crate::error::Error;
use crate::view::View;
use cells::{Cell, join};
use table::Table;

/// Where the numbers come from: the main tables of `fracture`, `frontier` and `flow`, and the table `caps` of `landscape`.
pub const PORTS: [&str; 4] = ["fracture", "frontier", "flow", "caps"];

/// A number with the columns that hold it and its interval.
struct Number {
    /// Its name in the joined table; the interval's ends have it with `_low` and `_high`.
    name: &'static str,
    /// The port that it comes from, an index into [`PORTS`].
    port: usize,
    /// The column at that port.
    column: &'static str,
}

const fn number(name: &'static str, port: usize, column: &'static str) -> Number {
    Number { name, port, column }
}

/// The numbers in order. The fourth is a pair.
const NUMBERS: [Number; 5] = [
    number("fracture", 0, "fracture"),
    number("srf_median_lift", 1, "median_lift"),
    number("manifold_entry", 2, "entry"),
    number("before_caps", 3, "before"),
    number("after_caps", 3, "after"),
];

/// What is said beside the numbers, without an interval.
const BESIDE: [Number; 6] = [
    number("n", 0, "n"),
    number("tau", 0, "tau"),
    number("noise_floor", 0, "noise_floor"),
    number("budget", 3, "budget"),
    number("cap_temperature", 3, "temperature"),
    number("cap_top_p", 3, "top_p"),
];

/// The names of the columns behind the group columns and `contrast`, in order.
pub fn columns() -> Vec<String> {
    let ends = |number: &Number| ["", "_low", "_high"].map(|end| format!("{}{end}", number.name));
    let beside = BESIDE.iter().map(|number| number.name.to_owned());
    let names = NUMBERS.iter().flat_map(ends).chain(beside);
    names.chain(["reason".to_owned()]).collect()
}

/// Joins the tables of the four numbers. `tables` holds the tables at each port ([`PORTS`]); a port that is not connected is
/// left out or empty. Rows are sorted by the group columns (axis, algorithm, model and decoder first), then by contrast;
/// neither the order of ports nor that of tables matters.
///
/// The group columns of a table are those before its column `contrast`, and its key columns.
///
/// # Errors
/// When a port has another name, or a table at it was not made by a stage of the port's kind.
pub fn four_numbers(tables: &[(&str, Vec<&View>)]) -> Result<RecordBatch, Error> {
    if let Some((other, _)) = tables.iter().find(|(port, _)| !PORTS.contains(port)) {
        return Err(Error::pipeline(format!("the four numbers know no table `{other}`"))
            .hint(format!("the tables are {}", PORTS.join(", "))));
    }
    let mut read: [Option<Table>; 4] = [const { None }; 4];
    for (slot, port) in read.iter_mut().zip(PORTS) {
        let views: Vec<&View> = tables
            .iter()
            .filter(|(name, _)| *name == port)
            .flat_map(|(_, views)| views.iter().copied())
            .collect();
        if !views.is_empty() {
            *slot = Some(Table::read(port, &views)?);
        }
    }
    let cells = join(&read);
    let groups = cells::group_columns(&read);
    let mut fields: Vec<(String, ArrayRef)> = Vec::new();
    for name in &groups {
        fields.push((name.clone(), cells::group_array(name, &cells, &read)?));
    }
    let contrasts: LargeStringArray = cells.iter().map(|cell| cell.contrast.as_deref()).collect();
    fields.push(("contrast".to_owned(), Arc::new(contrasts)));
    let values = |number: &Number, end: &str| -> ArrayRef {
        let name = format!("{}{end}", number.column);
        let value = |cell: &Cell| read[number.port].as_ref()?.number(cell.rows[number.port]?, &name);
        Arc::new(cells.iter().map(value).collect::<Float64Array>())
    };
    for number in &NUMBERS {
        for end in ["", "_low", "_high"] {
            fields.push((format!("{}{end}", number.name), values(number, end)));
        }
    }
    for number in &BESIDE {
        if !groups.iter().any(|name| name == number.name) {
            fields.push((number.name.to_owned(), values(number, "")));
        }
    }
    let reasons: LargeStringArray = cells.iter().map(|cell| reason(cell, &read)).collect();
    fields.push(("reason".to_owned(), Arc::new(reasons)));
    let schema: Vec<ArrowField> = fields
        .iter()
        .map(|(name, array)| ArrowField::new(name, array.data_type().clone(), true))
        .collect();
    let arrays = fields.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(schema)), arrays)
        .map_err(|error| Error::internal("the four numbers do not make a table").cause(error))
}

/// Why numbers of a cell are null, and which are of more than the cell; `None` when nothing is to say.
fn reason(cell: &Cell, tables: &[Option<Table>; 4]) -> Option<String> {
    let mut said: Vec<String> = Vec::new();
    for number in &NUMBERS {
        let Some(table) = &tables[number.port] else {
            // One word for the pair of the fourth number.
            if number.name != "after_caps" {
                said.push(format!("{}: no table `{}`", number.name, PORTS[number.port]));
            }
            continue;
        };
        let Some(row) = cell.rows[number.port] else {
            said.push(format!("{}: `{}` has no such row", number.name, PORTS[number.port]));
            continue;
        };
        if table.number(row, number.column).is_none() {
            said.push(format!("{}: {}", number.name, table.why(row)));
        } else if number.port != 3
            && let Some(over) = table.pooled_over(cell)
        {
            said.push(format!("{}: over all of {over}", number.name));
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}

#[cfg(test)]
mod tests;
