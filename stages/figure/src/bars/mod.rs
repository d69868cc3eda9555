//! `plot: bars`: a value with its interval by one column, coloured by a second, a panel per value of a third.

mod arrange;
mod caption;
mod draw;

use fracture_stage::Error;

pub use draw::draw;

use crate::order;
use crate::parameters::FigureParameters;
use crate::rows::{Rows, list};

/// Columns of which a bar chart shows one value when `where` does not choose, and the value that is preferred.
const SINGLE: &[(&str, &str)] = &[("contrast", "train->deploy"), ("aggregate", "product")];

/// One bar.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bar {
    /// Its height; `None` where the table has no value.
    pub value: Option<f64>,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
    /// The rate that noise alone would give.
    pub noise: Option<f64>,
}

/// One panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What it shows, empty when there is one panel.
    pub title: String,
    /// Bars by place on the x axis, then by colour; `None` where the table has no row.
    pub bars: Vec<Vec<Option<Bar>>>,
}

/// What a bar chart shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    /// The column along the x axis and its values.
    pub x: (String, Vec<String>),
    /// The column of the colours and its values; an empty name and one value when there is none.
    pub color: (String, Vec<String>),
    /// The column of the heights.
    pub y: String,
    /// The panels in order.
    pub panels: Vec<Panel>,
    /// A line of what a reader needs to know.
    pub caption: String,
}

impl Bars {
    /// All bars.
    pub fn all(&self) -> impl Iterator<Item = &Bar> {
        self.panels
            .iter()
            .flat_map(|panel| panel.bars.iter().flatten().flatten())
    }
}

/// The column of the heights.
pub fn height(parameters: &FigureParameters) -> &str {
    parameters.y.as_deref().unwrap_or("fracture")
}

/// Chooses the rows that a bar chart shows: where a table holds several contrasts or aggregates, the one that is
/// preferred or else the first. Gives notes on what was chosen.
///
/// # Errors
/// When there is no row.
pub fn choose(rows: Rows, parameters: &FigureParameters) -> Result<(Rows, Vec<String>), Error> {
    if rows.count() == 0 {
        return Err(Error::task("there is nothing to draw: the table has no row")
            .hint("`fracture show` the stage that the figure is `from`; are its inputs empty?"));
    }
    let mut rows = rows.chosen(&parameters.filter)?;
    let mut notes = Vec::new();
    for (name, preferred) in SINGLE {
        let drawn = [&parameters.x, &parameters.color, &parameters.panel];
        if parameters.filter.contains_key(*name) || drawn.iter().any(|column| column.as_deref() == Some(name)) {
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

/// Reads the bars from the rows that were chosen.
///
/// # Errors
/// When the value is no number, or several rows belong to one bar and no key column tells them apart.
pub fn gather(rows: &Rows, parameters: &FigureParameters, notes: &[String]) -> Result<Bars, Error> {
    let y = height(parameters);
    let values = rows.numbers(y).ok_or_else(|| match rows.column(y) {
        Some(_) => Error::pipeline(format!("column `{y}` is no number")).hint("name a number with `y`"),
        None => rows.missing(y),
    })?;
    let x = match &parameters.x {
        Some(name) => name.clone(),
        None => default_x(rows, parameters)?,
    };
    let color = parameters.color.clone().unwrap_or_default();
    let mut panels: Vec<String> = parameters.panel.iter().cloned().collect();
    let places = tell_apart(rows, &x, &color, &mut panels)?;
    let xs = rows.distinct(&x);
    let colors = if color.is_empty() {
        vec![String::new()]
    } else {
        rows.distinct(&color)
    };
    let mut titles: Vec<&Vec<String>> = places.iter().map(|place| &place.panel).collect();
    titles.sort_by(|one, other| in_order(&panels, one, other));
    titles.dedup();
    let empty = vec![vec![None; colors.len()]; xs.len()];
    let title = |values: &Vec<String>| {
        let parts = panels
            .iter()
            .zip(values)
            .map(|(name, value)| format!("{}: {value}", words(name)));
        parts.collect::<Vec<_>>().join(", ")
    };
    let mut drawn: Vec<Panel> = titles
        .iter()
        .map(|values| Panel {
            title: title(values),
            bars: empty.clone(),
        })
        .collect();
    let (low, high) = (rows.numbers(&format!("{y}_low")), rows.numbers(&format!("{y}_high")));
    let noise = if y == "fracture" {
        rows.numbers("noise_floor")
    } else {
        None
    };
    let at = |column: &Option<Vec<Option<f64>>>, row: usize| column.as_ref().and_then(|column| column[row]);
    for (row, place) in places.iter().enumerate() {
        let panel = titles.iter().position(|values| **values == place.panel);
        let slot = xs.iter().position(|value| *value == place.x);
        let series = colors.iter().position(|value| *value == place.color);
        // A row whose label is null has no place.
        let (Some(panel), Some(slot), Some(series)) = (panel, slot, series) else {
            continue;
        };
        let bar = Bar {
            value: values[row],
            interval: at(&low, row).zip(at(&high, row)),
            noise: at(&noise, row),
        };
        drawn[panel].bars[slot][series] = Some(bar);
    }
    let mut bars = Bars {
        x: (x, xs),
        color: (color, colors),
        y: y.to_owned(),
        panels: drawn,
        caption: String::new(),
    };
    if bars.all().next().is_none() {
        return Err(Error::task(format!(
            "there is nothing to draw: `{}` has no value",
            bars.x.0
        )));
    }
    bars.caption = caption::caption(rows, &bars, notes);
    Ok(bars)
}

/// Where a row's bar is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    panel: Vec<String>,
    x: String,
    color: String,
}

/// Gives every row a place of its own; key columns that tell rows of one place apart become panels.
fn tell_apart(rows: &Rows, x: &str, color: &str, panels: &mut Vec<String>) -> Result<Vec<Place>, Error> {
    loop {
        let places = places(rows, x, color, panels)?;
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by(|one, other| places[*one].cmp(&places[*other]));
        let twice: Vec<(usize, usize)> = order
            .windows(2)
            .filter(|pair| places[pair[0]] == places[pair[1]])
            .map(|pair| (pair[0], pair[1]))
            .collect();
        let Some(&(one, _)) = twice.first() else {
            return Ok(places);
        };
        let mut found = None;
        for name in rows
            .keys()
            .iter()
            .filter(|name| *name != x && *name != color && !panels.contains(name))
        {
            let texts = rows.texts(name)?;
            if twice.iter().any(|(one, other)| texts[*one] != texts[*other]) {
                found = Some(name.clone());
                break;
            }
        }
        let Some(name) = found else {
            let place = &places[one];
            let what = std::iter::once(&place.x).chain([&place.color]).chain(&place.panel);
            let what: Vec<String> = what.filter(|text| !text.is_empty()).cloned().collect();
            return Err(
                Error::pipeline(format!("several rows belong to one bar, at {}", list(&what)))
                    .hint("choose rows with `where`, or name the column that tells them apart as `color` or `panel`"),
            );
        };
        panels.push(name);
    }
}

fn places(rows: &Rows, x: &str, color: &str, panels: &[String]) -> Result<Vec<Place>, Error> {
    let xs = rows.texts(x)?;
    let colors = if color.is_empty() {
        vec![String::new(); rows.count()]
    } else {
        rows.texts(color)?
    };
    let mut titles = vec![Vec::new(); rows.count()];
    for name in panels {
        for (title, text) in titles.iter_mut().zip(rows.texts(name)?) {
            title.push(text);
        }
    }
    let places = xs.into_iter().zip(colors).zip(titles);
    Ok(places.map(|((x, color), panel)| Place { panel, x, color }).collect())
}

fn in_order(names: &[String], one: &[String], other: &[String]) -> std::cmp::Ordering {
    let pairs = one.iter().zip(other).zip(names);
    let mut orders = pairs.map(|((one, other), name)| order::compare(name, one, other));
    orders.find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
}

/// `axis`, else the first key column with several values that nothing else shows.
fn default_x(rows: &Rows, parameters: &FigureParameters) -> Result<String, Error> {
    let free = |name: &&str| {
        parameters.color.as_deref() != Some(*name)
            && parameters.panel.as_deref() != Some(*name)
            && !rows.distinct(name).is_empty()
    };
    let keys: Vec<&str> = ["axis", "model"]
        .into_iter()
        .chain(rows.keys().iter().map(String::as_str))
        .collect();
    let several = keys
        .iter()
        .copied()
        .filter(free)
        .find(|name| rows.distinct(name).len() > 1);
    several
        .or_else(|| keys.iter().copied().find(free))
        .map(str::to_owned)
        .ok_or_else(|| Error::pipeline("nothing says what is along the x axis").hint("name a column with `x`"))
}

/// What a column is called in a figure.
pub fn words(column: &str) -> String {
    column.replace('_', " ")
}

/// What the y axis is called.
pub fn measure(column: &str) -> String {
    match column {
        "fracture" => "FRACTURE (share of prompts)".to_owned(),
        "fracture_other" => "FRACTURE at the other τ (share of prompts)".to_owned(),
        "anti" => "anti-FRACTURE (share of prompts)".to_owned(),
        "net" => "net FRACTURE (share of prompts)".to_owned(),
        "headline" => "headline rate (share of prompts)".to_owned(),
        "train_unsafe" => "unsafe under train (share)".to_owned(),
        "deploy_unsafe" => "unsafe under deploy (share)".to_owned(),
        "noise_floor" => "noise floor (share of prompts)".to_owned(),
        other => words(other),
    }
}
