//! A table for a terminal.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::record_batch::RecordBatch;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::value::cell;

/// Decimals of a fraction; fewer where all of a column's numbers need fewer.
const DECIMALS: usize = 4;
/// The widest that a column of text is shown where there is a choice.
const WIDEST: usize = 60;
/// The narrowest that it is cut to.
const NARROWEST: usize = 12;
/// Spaces between columns.
const GAP: usize = 2;

struct Column {
    name: String,
    cells: Vec<String>,
    right: bool,
    width: usize,
}

/// The first `max_rows` rows of a table as aligned text, `width` terminal cells wide (0: as wide as it needs). Long texts are
/// cut; columns that do not fit go into further blocks below, each with the leading text columns that name its rows.
/// Control characters are left out: a completion is data, not a command to the terminal.
pub fn display(batches: &[RecordBatch], max_rows: usize, width: usize) -> String {
    let Some(first) = batches.first() else {
        return String::new();
    };
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let schema = first.schema();
    let column = |(index, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| {
        let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(index)).collect();
        Column::new(field.name(), &arrays, max_rows)
    };
    let mut columns: Vec<Column> = schema.fields().iter().enumerate().map(column).collect();
    let mut text = String::new();
    for (number, block) in blocks(&mut columns, width).iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        write_block(&mut text, &columns, block, rows.min(max_rows));
    }
    if rows > max_rows {
        let rest = rows - max_rows;
        text.push_str(&format!(
            "… and {rest} more row{}
",
            if rest == 1 { "" } else { "s" }
        ));
    }
    text
}

impl Column {
    fn new(name: &str, arrays: &[&ArrayRef], max_rows: usize) -> Self {
        let kind = arrays[0].data_type();
        let positions = arrays
            .iter()
            .flat_map(|array| (0..array.len()).map(move |row| (*array, row)))
            .take(max_rows);
        let floating = matches!(kind, DataType::Float64 | DataType::Float32);
        let cells: Vec<String> = if floating {
            numbers(positions.map(|(array, row)| number(array, row)).collect())
        } else {
            positions.map(|(array, row)| plain(array, row)).collect()
        };
        let name = printable(name);
        let width = cells
            .iter()
            .map(|cell| cell.width())
            .max()
            .unwrap_or(0)
            .min(WIDEST)
            .max(name.width().min(WIDEST));
        Self {
            name,
            cells,
            right: floating || kind.is_integer(),
            width,
        }
    }
}

fn number(array: &ArrayRef, row: usize) -> Option<f64> {
    if array.is_null(row) {
        return None;
    }
    let wide = cast(&array.slice(row, 1), &DataType::Float64).ok()?;
    Some(wide.as_primitive::<Float64Type>().value(0))
}

/// Numbers of one column with the same number of decimals.
fn numbers(values: Vec<Option<f64>>) -> Vec<String> {
    let finite = || values.iter().flatten().filter(|value| value.is_finite());
    let exact = |decimals: usize| finite().all(|value| format!("{value:.decimals$}").parse() == Ok(*value));
    let decimals = (0..DECIMALS).find(|decimals| exact(*decimals)).unwrap_or(DECIMALS);
    let show = |value: Option<f64>| match value {
        None => "–".to_owned(),
        Some(value) if value.is_nan() => "NaN".to_owned(),
        // What rounds to nothing is still something: a p-value of 3e-7 is not 0.
        Some(value) if value != 0.0 && value.abs() < 0.5 * 0.1_f64.powi(DECIMALS as i32) => format!("{value:.1e}"),
        Some(value) if value.abs() >= 1e12 => format!("{value:.4e}"),
        // A rounded -0.00001 would read as -0.0000.
        Some(value) => format!("{:.decimals$}", if value == 0.0 { 0.0 } else { value }),
    };
    values.into_iter().map(show).collect()
}

fn plain(array: &ArrayRef, row: usize) -> String {
    match cell(array, row) {
        serde_json::Value::Null => "–".to_owned(),
        serde_json::Value::String(text) => printable(&text),
        serde_json::Value::Array(items) if items.len() > 4 => format!("{} numbers", items.len()),
        other => other.to_string(),
    }
}

/// The text without what could move a terminal's cursor or turn its text around; white space becomes one space.
fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let spaced: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !hidden(*c))
        .collect();
    spaced.trim_end().to_owned()
}

/// Which columns are shown together, and how wide: the columns' widths are cut where that makes all of them fit.
fn blocks(columns: &mut [Column], width: usize) -> Vec<Vec<usize>> {
    let total = |columns: &[Column]| {
        columns
            .iter()
            .map(|column| column.width + GAP)
            .sum::<usize>()
            .saturating_sub(GAP)
    };
    if width == 0 || total(columns) <= width {
        return vec![(0..columns.len()).collect()];
    }
    while total(columns) > width {
        let widest = columns
            .iter_mut()
            .filter(|column| !column.right && column.width > NARROWEST);
        let Some(widest) = widest.max_by_key(|column| column.width) else {
            break;
        };
        widest.width -= 1;
    }
    let leading = columns.iter().take_while(|column| !column.right).count().min(3);
    let lead: usize = columns[..leading].iter().map(|column| column.width + GAP).sum();
    let leading = if lead * 2 > width { 0 } else { leading };
    let start = || {
        (
            (0..leading).collect::<Vec<_>>(),
            columns[..leading].iter().map(|column| column.width + GAP).sum(),
        )
    };
    let (mut blocks, mut block): (Vec<Vec<usize>>, (Vec<usize>, usize)) = (Vec::new(), start());
    for (index, column) in columns.iter().enumerate().skip(leading) {
        if block.1 + column.width > width && block.0.len() > leading {
            blocks.push(std::mem::replace(&mut block, start()).0);
        }
        block.0.push(index);
        block.1 += column.width + GAP;
    }
    blocks.push(block.0);
    blocks
}

fn write_block(text: &mut String, columns: &[Column], block: &[usize], rows: usize) {
    let line = |cells: &mut dyn Iterator<Item = (&Column, &str)>| {
        let cells: Vec<String> = cells
            .map(|(column, cell)| fitted(cell, column.width, column.right))
            .collect();
        format!("{}\n", cells.join(&" ".repeat(GAP)).trim_end())
    };
    let shown = || block.iter().map(|index| &columns[*index]);
    text.push_str(&line(&mut shown().map(|column| (column, column.name.as_str()))));
    let rule: Vec<String> = shown().map(|column| "─".repeat(column.width)).collect();
    text.push_str(&rule.join(&" ".repeat(GAP)));
    text.push('\n');
    for row in 0..rows {
        text.push_str(&line(&mut shown().map(|column| (column, column.cells[row].as_str()))));
    }
}

/// A cell cut or padded to a width.
fn fitted(cell: &str, width: usize, right: bool) -> String {
    let mut shown = cell.to_owned();
    if cell.width() > width {
        let mut used = 0;
        shown = cell
            .chars()
            .take_while(|c| {
                used += c.width().unwrap_or(0);
                used < width
            })
            .collect();
        shown.push('…');
    }
    let padding = " ".repeat(width.saturating_sub(shown.width()));
    if right { padding + &shown } else { shown + &padding }
}
