//! Two rows that nothing tells apart: the error says what would.

use arrow::array::LargeStringArray;
use fracture_cache::ColumnType;
use fracture_stage::view::unveiled;
use fracture_stage::{Error, View};

use super::load::names;
use super::{Reading, TOLD};
use crate::read;

/// Columns that are results or texts, never the name of what differs.
const RESULTS: [&str; 22] = [
    "prompt",
    "messages",
    "completion",
    "reasoning",
    "logprob",
    "entropy",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "invalid",
    "p_unsafe",
    "windows",
    "truncated",
    "tau",
    "tau_other",
    "unsafe",
    "unsafe_human",
    "objective",
    "item",
    "axis",
    "regime",
    "draw",
];

/// The error for two rows (numbers over all tables) that agree in `keys`, regime, draw and sample.
pub fn error(views: &[&View], rows: [usize; 2], reading: &Reading<'_>) -> Error {
    let views = &unveiled(views);
    let keys = names(views);
    let [first, second] = rows.map(|row| Place::of(views, row));
    let (Some(first), Some(second)) = (first, second) else {
        return Error::internal("two equal rows that are in no table");
    };
    let identity = keys.iter().map(String::as_str).chain(["regime", "draw", "sample"]);
    let said = identity.filter_map(|name| Some(format!("{name} {}", first.text(name)?)));
    let said: Vec<String> = said.collect();
    let differing = differing(&first, &second, reading);
    let error = Error::task(format!(
        "two rows are equal in everything that tells rows apart: {}",
        said.join(", ")
    ));
    let hint = match differing.as_slice() {
        [] => {
            "they differ in nothing that could be a key: the same row arrives twice (an id that is not unique, a table \
               named twice in `needs:`), or `sample` is missing"
                .to_owned()
        }
        [one] => {
            format!("they differ in `{one}`: add `{one}` to `keys:` of the stage that makes it, or select one value")
        }
        several => {
            let names: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
            format!(
                "they differ in {}: add what tells them apart to `keys:` of the stage that makes it, or select one value",
                names.join(", ")
            )
        }
    };
    error.hint(hint)
}

struct Place<'a> {
    view: &'a View,
    row: usize,
}

impl<'a> Place<'a> {
    fn of(views: &[&'a View], mut row: usize) -> Option<Self> {
        for view in views {
            if row < view.rows() {
                return Some(Self { view, row });
            }
            row -= view.rows();
        }
        None
    }

    fn text(&self, name: &str) -> Option<String> {
        let column: LargeStringArray = read::text(&[self.view], name).ok()??;
        read::at(&column, self.row).map(str::to_owned)
    }
}

/// The columns that could tell the rows apart and do. The result is an error and in no key, so columns beyond those that
/// are declared may be looked at.
fn differing(first: &Place<'_>, second: &Place<'_>, reading: &Reading<'_>) -> Vec<String> {
    let result = |name: &str| {
        RESULTS.contains(&name) || TOLD.contains(&name) || name == reading.score || name.starts_with("score_")
    };
    let mut names: Vec<&str> = first
        .view
        .names()
        .chain(second.view.names())
        .filter(|name| !result(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let names = names.into_iter().filter(|name| {
        let kind = first.view.column_type(name).or_else(|| second.view.column_type(name));
        let scalar = matches!(
            kind,
            Some(ColumnType::Text | ColumnType::Bool | ColumnType::I64 | ColumnType::U32 | ColumnType::U64)
        ) || first.view.constant(name).is_some();
        scalar && first.text(name) != second.text(name)
    });
    names.map(str::to_owned).collect()
}
