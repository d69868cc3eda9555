//! `plot: bars`: a value with its interval by one column, coloured by a second, a panel per value of a third.

mod arrange;
mod draw;

use fracture_stage::Error;
use fracture_stage::stage::Need;

use super::{Drawing, Drawn, Input, NOTED, needs};
use crate::caption;
use crate::groups::{MOST, choose, too_many, words};
use crate::order;
use crate::parameters::FigureParameters;
use crate::rows::{Rows, list};

/// What a bar chart reads.
pub fn inputs(parameters: &FigureParameters) -> Vec<Input> {
    let y = height(parameters);
    let drawn = [&parameters.x, &parameters.color, &parameters.panel];
    let mut read: Vec<Need> = drawn.into_iter().flatten().map(|name| Need::any(name)).collect();
    read.push(Need::any(y));
    read.extend(["low", "high"].map(|end| Need::optional(&format!("{y}_{end}"))));
    vec![Input::main(&[], needs(read, NOTED))]
}

/// Draws a bar chart.
///
/// # Errors
/// When the table has no row, or no place for one.
pub fn plot(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    let parameters = drawing.parameters;
    let named = [&parameters.x, &parameters.color, &parameters.panel];
    let shown: Vec<&str> = named.into_iter().flatten().map(String::as_str).collect();
    let (rows, notes) = choose(drawing.main()?.clone(), parameters, &shown)?;
    let bars = gather(&rows, parameters, &notes)?;
    let scene = draw::draw(drawing, &bars);
    Ok(Drawn { table: rows, scene })
}

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
fn height(parameters: &FigureParameters) -> &str {
    parameters.y.as_deref().unwrap_or("fracture")
}

/// Reads the bars from the rows that were chosen.
///
/// # Errors
/// When the value is no number, or several rows belong to one bar and no key column tells them apart.
fn gather(rows: &Rows, parameters: &FigureParameters, notes: &[String]) -> Result<Bars, Error> {
    let y = height(parameters);
    let values = rows.values(y)?;
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
    if titles.len() > MOST {
        return Err(too_many(titles.len(), &panels));
    }
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
    bars.caption = describe(rows, &bars, &panels, notes);
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

/// The caption: what was measured, what whiskers are, and what was chosen.
fn describe(rows: &Rows, bars: &Bars, panels: &[String], notes: &[String]) -> String {
    let mut shown: Vec<&str> = vec![&bars.x.0, &bars.color.0];
    shown.extend(panels.iter().map(String::as_str));
    let facts = caption::facts(rows, "prompts per bar", &shown, notes);
    let mut sentences = Vec::new();
    if bars.all().any(|bar| bar.interval.is_some() && bar.value.is_some()) {
        sentences.push(format!("whiskers: {} intervals", caption::confidence(rows)));
    }
    if bars.all().any(|bar| bar.value.is_none()) {
        sentences.push("×: no value".to_owned());
    }
    sentences.extend(notes.iter().cloned());
    caption::join(&facts, sentences)
}
