//! Which rows a figure shows, and which panel each belongs to.

use fracture_stage::Error;

use crate::order;
use crate::parameters::FigureParameters;
use crate::rows::{Rows, list};

/// Columns of which a figure shows one value when `where` does not choose, and the value that is preferred.
const SINGLE: &[(&str, &str)] = &[("contrast", "train->deploy"), ("aggregate", "product")];

/// Key columns that tell apart what one panel shows, not panels.
const WITHIN: &[&str] = &["item", "sample", "draw", "regime"];

/// The most panels that a page can hold and still be read.
pub const MOST: usize = 24;

/// What a column is called in a figure.
pub fn words(column: &str) -> String {
    column.replace('_', " ")
}

/// The error for a table without rows.
pub fn nothing() -> Error {
    Error::task("there is nothing to draw: the table has no row")
        .hint("`fracture show` the stage that the figure is `from`; are its inputs empty?")
}

/// Chooses the rows that a figure shows: where a table holds several contrasts or aggregates, the one that is preferred or
/// else the first. `drawn` are the columns that the figure shows. Gives notes on what was chosen.
///
/// # Errors
/// When there is no row.
pub fn choose(rows: Rows, parameters: &FigureParameters, drawn: &[&str]) -> Result<(Rows, Vec<String>), Error> {
    if rows.count() == 0 {
        return Err(nothing());
    }
    let mut rows = rows.chosen(&parameters.filter)?;
    let mut notes = Vec::new();
    for (name, preferred) in SINGLE {
        if parameters.filter.contains_key(*name) || drawn.contains(name) {
            continue;
        }
        let values = rows.distinct(name);
        if values.len() < 2 {
            continue;
        }
        let kept = values.iter().find(|value| value == preferred).unwrap_or(&values[0]);
        let mask: Vec<bool> = rows.texts(name)?.iter().map(|text| text == kept).collect();
        rows = rows.kept(&mask)?;
        notes.push(format!("{kept} is shown, one of {} {name}s", values.len()));
    }
    Ok((rows, notes))
}

/// Rows of a table that accompanies the one that is drawn: those of the contrast and the aggregate that it shows, and of
/// what `where` chooses, as far as it has these columns.
///
/// # Errors
/// An internal error when a mask does not fit.
pub fn beside(rows: &Rows, main: &Rows, parameters: &FigureParameters) -> Result<Rows, Error> {
    let mut kept = rows.clone();
    for (name, chosen) in &parameters.filter {
        if kept.column(name).is_some() {
            kept = kept.any_of(name, &chosen.texts())?;
        }
    }
    for (name, _) in SINGLE {
        let values = main.distinct(name);
        if kept.column(name).is_some() && !values.is_empty() {
            kept = kept.any_of(name, &values)?;
        }
    }
    Ok(kept)
}

/// The rows of one panel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panel {
    /// What it shows, as `column: value` pairs; empty when there is one panel.
    pub title: String,
    /// The columns that tell it from the others, with its values.
    pub values: Vec<(String, String)>,
    /// Its rows.
    pub rows: Vec<usize>,
}

impl Panel {
    /// What a caption calls it: its values.
    pub fn name(&self) -> String {
        let values: Vec<&str> = self.values.iter().map(|(_, value)| value.as_str()).collect();
        values.join(" × ").replace("->", "→")
    }

    /// The rows of another table that belong to this panel: those that agree in the columns both have.
    ///
    /// # Errors
    /// An internal error when a mask does not fit.
    pub fn of(&self, other: &Rows) -> Result<Rows, Error> {
        let mut kept = other.clone();
        for (name, value) in &self.values {
            if kept.column(name).is_some() {
                kept = kept.any_of(name, std::slice::from_ref(value))?;
            }
        }
        Ok(kept)
    }
}

/// Splits rows into panels by the columns that were asked for and by every key column with several values that the plot
/// does not show. A column that the others determine (a label of a model) is left out; `labels` are columns that the plot
/// shows as categories, which determine others, too.
///
/// # Errors
/// When a column is not there, or there are more panels than a page can hold.
pub fn panels(
    rows: &Rows,
    parameters: &FigureParameters,
    shown: &[&str],
    labels: &[&str],
) -> Result<Vec<Panel>, Error> {
    let mut names: Vec<String> = parameters.panel.iter().cloned().collect();
    let free = |name: &&String| {
        !shown.contains(&name.as_str()) && !WITHIN.contains(&name.as_str()) && rows.distinct(name).len() > 1
    };
    for name in rows.keys().iter().filter(free) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut texts = Vec::new();
    for name in &names {
        texts.push(rows.texts(name)?);
    }
    let mut fixed = Vec::new();
    for name in labels {
        fixed.push(rows.texts(name)?);
    }
    needless(&mut names, &mut texts, &fixed, usize::from(parameters.panel.is_some()));
    let mut tuples: Vec<Vec<&str>> = (0..rows.count()).map(|row| tuple(&texts, row)).collect();
    tuples.sort_by(|one, other| in_order(&names, one, other));
    tuples.dedup();
    if tuples.len() > MOST {
        return Err(too_many(tuples.len(), &names));
    }
    let panel = |values: &Vec<&str>| Panel {
        title: title(&names, values),
        values: names
            .iter()
            .cloned()
            .zip(values.iter().map(|value| (*value).to_owned()))
            .collect(),
        rows: (0..rows.count()).filter(|row| tuple(&texts, *row) == *values).collect(),
    };
    Ok(tuples.iter().map(panel).collect())
}

/// What a caption says of the panels, each with its name; once where all say the same, and nothing where there are more
/// than can be read.
pub fn each<'a>(said: impl IntoIterator<Item = (&'a Panel, Option<String>)>) -> Vec<String> {
    const READ: usize = 6;
    let said: Vec<(&Panel, Option<String>)> = said.into_iter().collect();
    if said.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        return said.into_iter().next().and_then(|(_, text)| text).into_iter().collect();
    }
    if said.len() > READ {
        return Vec::new();
    }
    let named = said
        .into_iter()
        .filter_map(|(panel, text)| Some(format!("{}: {}", panel.name(), text?)));
    named.collect()
}

/// The error for more panels than a page holds.
pub fn too_many(count: usize, names: &[String]) -> Error {
    Error::pipeline(format!("{count} panels do not fit on a page, {MOST} do")).hint(format!(
        "choose rows with `where`, or write one file each with `split: [{}]`; the panels differ in {}",
        names.first().map_or("model", String::as_str),
        list(names)
    ))
}

fn tuple(texts: &[Vec<String>], row: usize) -> Vec<&str> {
    texts.iter().map(|column| column[row].as_str()).collect()
}

/// Leaves out, from the last one forward, the columns whose value follows from the others' and from those that are `fixed`.
pub fn needless(names: &mut Vec<String>, texts: &mut Vec<Vec<String>>, fixed: &[Vec<String>], first: usize) {
    let rows = texts.first().map_or(0, Vec::len);
    let count = |texts: &[Vec<String>]| {
        let whole = |row: usize| [tuple(texts, row), tuple(fixed, row)];
        let mut all: Vec<[Vec<&str>; 2]> = (0..rows).map(whole).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    };
    let whole = count(texts);
    // What a reader knows a group by stays; labels go first.
    let keep = |name: &str| matches!(name, "model" | "axis" | "decoder" | "algorithm");
    for last in [false, true] {
        for index in (first..names.len()).rev() {
            if keep(&names[index]) != last {
                continue;
            }
            let mut without = texts.clone();
            without.remove(index);
            if count(&without) == whole {
                names.remove(index);
                *texts = without;
            }
        }
    }
}

fn title(names: &[String], values: &[&str]) -> String {
    let parts = names.iter().zip(values).map(|(name, value)| match *value {
        "" => format!("{}: none", words(name)),
        value => format!("{}: {value}", words(name)),
    });
    parts.collect::<Vec<_>>().join(", ").replace("->", "→")
}

fn in_order(names: &[String], one: &[&str], other: &[&str]) -> std::cmp::Ordering {
    let pairs = one.iter().zip(other).zip(names);
    let mut orders = pairs.map(|((one, other), name)| order::compare(name, one, other));
    orders.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
}
