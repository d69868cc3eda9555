//! A diff as people read it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli::because::change_text;
use crate::cli::failure::printable;
use crate::cli::units::columns;
use crate::engine::diff::{ColumnDiff, Diff, Difference, Move, Side, TableDiff, TaskDiff};
use crate::engine::keys::Change;

/// The whole diff; at most `limit` lines a table.
pub fn diff(sides: &[Side; 2], found: &Diff, limit: usize) -> String {
    let mut text = format!("{} -> {}\n", printable(&sides[0].label), printable(&sides[1].label));
    if !found.files.is_empty() {
        text.push_str("\nfiles\n");
    }
    for file in &found.files {
        let name = format!("{} ({})", printable(&file.source), printable(&file.role));
        let short = |digest: &fracture_cache::Digest<_>| format!("{}…", &digest.hex()[..12]);
        let line = match (&file.was, &file.now) {
            (Some(was), Some(now)) => format!("  changed  {name}: blake3 {} -> {}\n", short(was), short(now)),
            (None, Some(now)) => format!("  added    {name}: blake3 {}\n", short(now)),
            (Some(was), None) => format!("  removed  {name}: blake3 {}\n", short(was)),
            (None, None) => String::new(),
        };
        text.push_str(&line);
    }
    if !found.tasks.is_empty() {
        text.push_str("\ntasks\n");
    }
    found.tasks.iter().for_each(|one| text.push_str(&task(one, limit)));
    let count = |change: Difference| found.tasks.iter().filter(|task| task.change == change).count();
    let counts = [
        Difference::Changed,
        Difference::Added,
        Difference::Removed,
        Difference::SameResult,
    ];
    let mut told: Vec<String> = counts
        .into_iter()
        .filter(|change| count(*change) > 0)
        .map(|change| match change {
            Difference::SameResult => format!("{} described otherwise with the same result", count(change)),
            other => format!("{} {}", count(other), other.name()),
        })
        .collect();
    told.push(format!("{} unchanged", found.unchanged));
    text.push_str(&format!("\n{}\n", told.join(", ")));
    text
}

fn task(task: &TaskDiff, limit: usize) -> String {
    let rows = match (task.change, task.rows) {
        (Difference::Added, (_, Some(rows))) | (Difference::Removed, (Some(rows), _)) => format!(" ({rows} rows)"),
        (Difference::Changed, (Some(was), Some(now))) if was != now => format!(" ({was} -> {now} rows)"),
        _ => String::new(),
    };
    let mut text = format!("  {:11}  {}{rows}\n", task.change.name(), printable(&task.task));
    // What a task is given differs in many columns at once; what differs in the task itself is why.
    let (given, own): (Vec<&Change>, Vec<&Change>) = task.because.iter().partition(|change| given_at(change).is_some());
    let kind = task.kind.as_deref().unwrap_or("its");
    for change in own {
        text.push_str(&format!("    {}\n", printable(&change_text(change, kind))));
    }
    let ports: BTreeSet<&str> = given.iter().filter_map(|change| Some(given_at(change)?.1)).collect();
    for port in ports {
        let here = given
            .iter()
            .filter_map(|change| given_at(change))
            .filter(|(_, at)| *at == port);
        let names: Vec<&str> = here
            .map(|(what, _)| what.strip_prefix("column ").unwrap_or(what))
            .collect();
        text.push_str(&format!(
            "    input {}: {}\n",
            printable(port),
            printable(&some(&names))
        ));
    }
    task.tables.iter().for_each(|one| text.push_str(&table(one, limit)));
    text
}

/// Of a change of an input what differs and the port at which it arrives.
fn given_at(change: &Change) -> Option<(&str, &str)> {
    let own = ["parameter ", "file ", "kind ", "constant "]
        .iter()
        .any(|role| change.part.starts_with(role));
    change
        .part
        .rsplit_once(" of ")
        .filter(|_| !own || change.part.starts_with("constant "))
}

/// A few names, and how many more there are.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

fn table(table: &TableDiff, limit: usize) -> String {
    let mut text = String::new();
    if table.output != "main" {
        text.push_str(&format!("    .{}\n", printable(&table.output)));
    }
    let mut say = |line: String| text.push_str(&format!("    {}\n", printable(&line)));
    for (what, names) in [
        ("new columns", &table.columns_added),
        ("columns gone", &table.columns_removed),
    ] {
        if !names.is_empty() {
            say(format!("{what}: {}", names.join(", ")));
        }
    }
    for (what, rows) in [("new rows", &table.added), ("rows gone", &table.removed)] {
        if !rows.is_empty() {
            let shown: Vec<String> = rows.iter().take(3).map(|row| joined(row.iter())).collect();
            let more = if rows.len() > 3 { ", …" } else { "" };
            say(format!("{what}: {} ({}{more})", rows.len(), shown.join(", ")));
        }
    }
    for column in table.columns.iter().filter(|column| column.rows.is_some()) {
        say(column_text(column, table));
    }
    let whole = table.columns.iter().filter(|column| column.rows.is_none());
    let whole: Vec<&str> = whole.map(|column| column.column.as_str()).collect();
    if !whole.is_empty() {
        say(format!("other values in {}", some(&whole)));
    }
    if table.moved.is_empty() {
        return text;
    }
    let outside = table.moved.iter().filter(|one| one.outside == Some(true)).count();
    let intervals = table.moved.iter().filter(|one| one.outside.is_some()).count();
    if intervals > 0 {
        say(format!(
            "{} numbers moved, {outside} of {intervals} with an interval to outside of it",
            table.moved.len()
        ));
    } else {
        say(format!("{} numbers moved", table.moved.len()));
    }
    text.push_str(&moves(table, limit));
    text
}

/// The numbers that moved, those outside their interval first.
fn moves(table: &TableDiff, limit: usize) -> String {
    let mut sorted: Vec<&Move> = table.moved.iter().collect();
    // Stable: beside this, as the tables have them.
    sorted.sort_by_key(|one| match one.outside {
        Some(true) => 0,
        Some(false) => 1,
        None => 2,
    });
    let heading = [
        "row",
        "column",
        "was ",
        "now ",
        "moved ",
        "interval before",
        "interval now",
        "",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for one in sorted.iter().take(limit) {
        let interval = |ends: Option<(f64, f64)>| {
            ends.map_or_else(String::new, |(low, high)| format!("[{}, {}]", plain(low), plain(high)))
        };
        let by = one.was.zip(one.now).map(|(was, now)| now - was);
        let mark = if one.outside == Some(true) { "OUTSIDE" } else { "" };
        let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), plain);
        rows.push(vec![
            printable(&joined(one.row.iter().map(|(_, value)| value))),
            printable(&one.column),
            number(one.was),
            number(one.now),
            by.map_or_else(String::new, |by| {
                format!("{}{}", if by > 0.0 { "+" } else { "" }, plain(by))
            }),
            interval(one.interval),
            interval(one.interval_now),
            mark.to_owned(),
        ]);
    }
    let mut text: String = columns(&rows).lines().map(|line| format!("      {line}\n")).collect();
    if sorted.len() > limit {
        text.push_str(&format!(
            "      … and {} more (--rows N, --json)\n",
            sorted.len() - limit
        ));
    }
    text
}

fn column_text(column: &ColumnDiff, table: &TableDiff) -> String {
    let name = &column.column;
    match (column.rows, column.most) {
        (Some(rows), Some(most)) => format!(
            "column {name}: {rows} of {} rows moved, by {} at most",
            table.rows.1,
            plain(most)
        ),
        (Some(rows), None) => format!("column {name}: {rows} of {} rows differ", table.rows.1),
        (None, _) => format!("column {name} differs"),
    }
}

fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.map(text).collect::<Vec<_>>().join(" ")
}

/// A number with four digits behind the point, fewer where they are zeros, more where it is small.
fn plain(number: f64) -> String {
    if number != 0.0 && number.abs() < 1e-3 {
        return format!("{number:.2e}");
    }
    let text = format!("{number:.4}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short.is_empty() || short == "-" {
        "0".to_owned()
    } else {
        short.to_owned()
    }
}
