//! `plot: numbers`: the paper's four numbers a cell of the grid, each with its interval: FRACTURE, SRF median lift, Manifold
//! Entry, and FRACTURE before and after caps.

mod join;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, LargeStringArray};
use fracture_stage::Error;

use self::join::join;
use super::sheet::{Cell, Head, dash, typeset};
use super::{Drawing, Drawn, Input, NOTED, needs, required};
use crate::caption;
use crate::groups::words;
use crate::parameters::FigureParameters;
use crate::rows::Rows;

/// Key columns that tell decoders apart, over which the caps are chosen.
const DECODERS: &[&str] = &["decoder", "temperature", "top_p", "min_p", "top_k"];
/// Key columns that no cell of the grid has.
const WITHIN: &[&str] = &["item", "sample", "draw", "regime"];

/// What a table that has all numbers (`uses: numbers`) calls them.
const JOINED: &[(&str, &str)] = &[
    ("median_lift", "srf_median_lift"),
    ("entry", "manifold_entry"),
    ("before", "before_caps"),
    ("after", "after_caps"),
];

/// A number: the column, what it is called, and the table that has it (a place among [`inputs`]).
const NUMBERS: &[(&str, &str, usize)] = &[
    ("fracture", "FRACTURE", 0),
    ("noise_floor", "noise floor", 0),
    ("median_lift", "SRF median lift", 1),
    ("entry", "Manifold Entry", 2),
    ("before", "before caps", 3),
    ("after", "after caps", 3),
];

/// What the table reads: `fracture`, and each of `frontier`, `flow` and `caps` where it is connected.
pub fn inputs(_: &FigureParameters) -> Vec<Input> {
    let with_ends = |names: &[&str]| -> Vec<String> {
        let ends =
            |name: &&str| [String::new(), "_low".to_owned(), "_high".to_owned()].map(|end| format!("{name}{end}"));
        names.iter().flat_map(ends).collect()
    };
    let optional = |names: &[&str], more: &[&str]| {
        let all = with_ends(names);
        let all: Vec<&str> = all.iter().map(String::as_str).chain(more.iter().copied()).collect();
        needs(Vec::new(), &all)
    };
    let own = with_ends(&[
        "fracture",
        "median_lift",
        "entry",
        "before",
        "after",
        "srf_median_lift",
        "manifold_entry",
        "before_caps",
        "after_caps",
    ]);
    let own: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .chain(["headline", "budget"])
        .chain(NOTED.iter().copied())
        .collect();
    vec![
        Input::main(&["fracture", "numbers"], needs(required(&["fracture"]), &own)),
        Input::beside("frontier", optional(&["median_lift"], &["contrast"])),
        Input::beside("flow", optional(&["entry"], &["headline", "boundary_auc", "contrast"])),
        Input::beside(
            "caps",
            optional(
                &["before", "after"],
                &["chosen", "half", "budget", "contrast", "aggregate"],
            ),
        ),
    ]
}

/// A number of a row with its interval.
type Number = [Option<f64>; 3];

/// The joined table.
struct Joined {
    keys: Vec<(String, Vec<String>)>,
    /// By number, then by row.
    numbers: Vec<Vec<Number>>,
    /// Entries that were measured but may be no headline.
    withheld: bool,
    rows: Rows,
    notes: Vec<String>,
}

/// The table of the four numbers as rows.
///
/// # Errors
/// When two rows of a table belong to one cell.
pub fn joined(drawing: &Drawing<'_>) -> Result<Rows, Error> {
    Ok(table(&join(drawing)?))
}

/// The table of the four numbers as a picture.
///
/// # Errors
/// When two rows of a table belong to one cell, or there are more rows than a page can hold.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let joined = join(drawing)?;
    let mut heads: Vec<Head> = Vec::new();
    let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); joined.rows.count()];
    for (name, texts) in &joined.keys {
        heads.push(Head {
            text: words(name),
            number: false,
        });
        for (line, text) in cells.iter_mut().zip(texts) {
            line.push(Cell {
                text: text.clone(),
                more: String::new(),
            });
        }
    }
    for (place, (column, name, _)) in NUMBERS.iter().enumerate() {
        let values = &joined.numbers[place];
        let empty = values.iter().all(|value| value[0].is_none());
        if empty && !(*column == "entry" && joined.withheld) {
            continue;
        }
        heads.push(Head {
            text: (*name).to_owned(),
            number: true,
        });
        for (value, line) in values.iter().zip(&mut cells) {
            line.push(written(*value));
        }
    }
    let mut shown: Vec<&str> = joined.keys.iter().map(|(name, _)| name.as_str()).collect();
    shown.push("noise_floor");
    let facts = caption::facts(&joined.rows, "prompts per row", &shown, &joined.notes);
    let mut sentences = vec![format!("in brackets {} intervals", caption::confidence(&joined.rows))];
    if joined.withheld {
        sentences
            .push("no Entry where the boundary's AUC is below 0.7 or fewer than 20 completions are unsafe".to_owned());
    }
    if cells.iter().flatten().any(|cell| cell.text == dash()) {
        sentences.push("–: not measured".to_owned());
    }
    sentences.extend(joined.notes.iter().cloned());
    let caption = caption::join(&facts, sentences);
    let scene = typeset(drawing, &heads, &cells, "The four numbers", &caption)?;
    Ok(Drawn {
        table: table(&joined),
        scene,
    })
}

fn written([value, low, high]: Number) -> Cell {
    Cell {
        text: value.map_or_else(dash, digits),
        more: match (value, low, high) {
            (Some(_), Some(low), Some(high)) => format!("[{}, {}]", digits(low), digits(high)),
            _ => String::new(),
        },
    }
}

fn digits(value: f64) -> String {
    let text = format!("{:.2}", value.abs());
    if value < 0.0 && text != "0.00" {
        format!("−{text}")
    } else {
        text
    }
}

/// The joined table with a column a number, for CSV and Markdown.
fn table(joined: &Joined) -> Rows {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for key in joined.rows.keys().iter().filter(|key| !WITHIN.contains(&key.as_str())) {
        columns.extend(joined.rows.column(key).map(|column| (key.clone(), Arc::clone(column))));
    }
    for name in ["contrast", "aggregate", "n", "tau"] {
        columns.extend(
            joined
                .rows
                .column(name)
                .map(|column| (name.to_owned(), Arc::clone(column))),
        );
    }
    for (place, (name, ..)) in NUMBERS.iter().enumerate() {
        let name = match *name {
            "before" => "fracture_before",
            "after" => "fracture_after",
            other => other,
        };
        let ends: &[&str] = if name == "noise_floor" {
            &[""]
        } else {
            &["", "_low", "_high"]
        };
        for (part, end) in ends.iter().enumerate() {
            let values: Vec<Option<f64>> = joined.numbers[place].iter().map(|number| number[part]).collect();
            if part == 0 || values.iter().any(Option::is_some) {
                let array: ArrayRef = Arc::new(Float64Array::from(values));
                columns.push((format!("{name}{end}"), array));
            }
        }
    }
    let count = joined.rows.count();
    if columns.is_empty() {
        columns.push(("row".to_owned(), Arc::new(LargeStringArray::from(vec![""; count]))));
    }
    Rows::made(count, columns, joined.rows.keys().to_vec())
}
