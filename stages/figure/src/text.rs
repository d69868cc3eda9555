//! Tables as files of text: CSV (RFC 4180) and Markdown.

use fracture_stage::Error;

use crate::rows::{Rows, cell};

/// The columns that a table shows: those that were asked for, else all.
///
/// # Errors
/// When one is not there.
pub fn columns(rows: &Rows, asked: &[String]) -> Result<Vec<String>, Error> {
    if asked.is_empty() {
        return Ok(rows.names().map(str::to_owned).collect());
    }
    match asked.iter().find(|name| rows.column(name).is_none()) {
        Some(name) => Err(rows.missing(name)),
        None => Ok(asked.to_vec()),
    }
}

/// The rows as CSV: a header, lines that end in CRLF, numbers in full, null as nothing.
pub fn csv(rows: &Rows, columns: &[String]) -> Vec<u8> {
    let mut text = String::new();
    let line = |cells: &mut dyn Iterator<Item = String>, text: &mut String| {
        let cells: Vec<String> = cells.collect();
        // A line of one empty cell would read as no line at all.
        if cells.len() == 1 && cells[0].is_empty() {
            text.push_str("\"\"");
        }
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    };
    line(&mut columns.iter().map(|name| quoted(name)), &mut text);
    for row in 0..rows.count() {
        let cells = columns.iter().filter_map(|name| rows.column(name));
        line(&mut cells.map(|column| quoted(&cell(column, row))), &mut text);
    }
    text.into_bytes()
}

fn quoted(cell: &str) -> String {
    let special = cell.contains(['"', ',', '\n', '\r']) || cell.starts_with(' ') || cell.ends_with(' ');
    if special {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// The rows as a Markdown table; numbers are aligned to the right.
pub fn markdown(rows: &Rows, columns: &[String], title: Option<&str>) -> Vec<u8> {
    let mut text = String::new();
    if let Some(title) = title {
        text.push_str(&format!("**{}**\n\n", escaped(title)));
    }
    let header: Vec<String> = columns.iter().map(|name| escaped(name)).collect();
    let rule: Vec<&str> = columns
        .iter()
        .map(|name| if rows.numbers(name).is_some() { "---:" } else { "---" })
        .collect();
    text.push_str(&format!("| {} |\n| {} |\n", header.join(" | "), rule.join(" | ")));
    for row in 0..rows.count() {
        let cells: Vec<String> = columns
            .iter()
            .filter_map(|name| rows.column(name))
            .map(|column| escaped(&cell(column, row)))
            .collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.into_bytes()
}

fn escaped(cell: &str) -> String {
    cell.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace("\r\n", "<br>")
        .replace(['\n', '\r'], "<br>")
}
