//! The plots, one a module, and what they share: the tables that arrive and the columns that they read.

mod bars;
mod colorbar;
mod contour;
mod curve;
mod field;
mod flow;
mod frontier;
mod grid;
mod landscape;
mod mix;
mod numbers;
mod reliability;
mod sheet;
mod steps;

use fracture_stage::Error;
use fracture_stage::stage::Need;

use crate::font::Font;
use crate::groups::nothing;
use crate::parameters::{FigureParameters, Plot};
use crate::rows::Rows;
use crate::scene::Scene;

/// The port that a bare `from: STAGE` fills.
pub const TABLE: &str = "table";

/// What captions and ticks are made from, where the table has it.
pub const NOTED: &[&str] = &[
    "n",
    "tau",
    "contrast",
    "aggregate",
    "k",
    "noise_floor",
    "judge",
    "confidence",
];

/// A table that a plot reads.
#[derive(Debug, Clone)]
pub struct Input {
    /// The ports that it may arrive at; the first table may also be `from: STAGE`.
    pub names: Vec<&'static str>,
    /// Whether the plot can not do without.
    pub required: bool,
    /// The columns that it reads.
    pub needs: Vec<Need>,
    /// Whether it reads every column.
    pub all: bool,
}

impl Input {
    /// The table that is drawn.
    pub fn main(names: &[&'static str], needs: Vec<Need>) -> Self {
        Self {
            names: std::iter::once(TABLE).chain(names.iter().copied()).collect(),
            required: true,
            needs,
            all: false,
        }
    }

    /// A table beside it.
    pub fn beside(name: &'static str, needs: Vec<Need>) -> Self {
        Self {
            names: vec![name],
            required: false,
            needs,
            all: false,
        }
    }
}

/// Columns, each once: those that must be there, then those that are read when they are there.
pub fn needs(required: Vec<Need>, optional: &[&str]) -> Vec<Need> {
    let mut all: Vec<Need> = Vec::new();
    for need in required
        .into_iter()
        .chain(optional.iter().map(|name| Need::optional(name)))
    {
        match all.iter_mut().find(|other| other.column == need.column) {
            Some(other) => other.required |= need.required,
            None => all.push(need),
        }
    }
    all
}

/// Columns that must be there.
pub fn required(names: &[&str]) -> Vec<Need> {
    names.iter().map(|name| Need::any(name)).collect()
}

/// The tables that a plot reads.
pub fn inputs(parameters: &FigureParameters) -> Vec<Input> {
    let mut all = match parameters.plot {
        Plot::Table => sheet::inputs(parameters),
        Plot::Bars => bars::inputs(parameters),
        Plot::Grid => grid::inputs(parameters),
        Plot::Landscape => landscape::inputs(parameters),
        Plot::Contour => contour::inputs(parameters),
        Plot::Frontier => frontier::inputs(parameters),
        Plot::Flow => flow::inputs(parameters),
        Plot::Curve => curve::inputs(parameters),
        Plot::Reliability => reliability::inputs(parameters),
        Plot::Mix => mix::inputs(parameters),
        Plot::Numbers => numbers::inputs(parameters),
    };
    if let Some(first) = all.first_mut() {
        let chosen = parameters
            .filter
            .keys()
            .chain(&parameters.split)
            .chain(&parameters.panel);
        let chosen = chosen.map(|name| Need::any(name)).collect::<Vec<_>>();
        first.needs = needs(
            std::mem::take(&mut first.needs).into_iter().chain(chosen).collect(),
            &[],
        );
    }
    for beside in all.iter_mut().skip(1) {
        let chosen = parameters.filter.keys().chain(&parameters.split).map(String::as_str);
        let chosen: Vec<&str> = chosen.collect();
        beside.needs = needs(std::mem::take(&mut beside.needs), &chosen);
    }
    all
}

/// The tables that arrived, in the order of [`inputs`].
#[derive(Debug, Clone)]
pub struct Tables(pub Vec<Option<Rows>>);

/// What a plot draws from.
pub struct Drawing<'a> {
    /// The font.
    pub font: &'a Font,
    /// What was asked for.
    pub parameters: &'a FigureParameters,
    /// The tables.
    pub tables: &'a Tables,
}

impl Drawing<'_> {
    /// The table that is drawn.
    ///
    /// # Errors
    /// An internal error when it is not there: the compiler connects it.
    pub fn main(&self) -> Result<&Rows, Error> {
        let main = self.tables.0.first().and_then(Option::as_ref);
        main.ok_or_else(|| Error::internal("a figure without its table"))
    }

    /// Another table, by its place among [`inputs`]; `None` when it is not connected.
    pub fn beside(&self, place: usize) -> Option<&Rows> {
        self.tables.0.get(place).and_then(Option::as_ref)
    }

    /// The figure's title.
    pub fn title(&self) -> Option<&str> {
        self.parameters.title.as_deref()
    }
}

/// A plot that was drawn.
pub struct Drawn {
    /// What it shows, as a table.
    pub table: Rows,
    /// The picture.
    pub scene: Scene,
}

/// Draws a figure.
///
/// # Errors
/// When the table has no row, lacks a column, or holds more than a page can show.
pub fn draw(drawing: &Drawing<'_>) -> Result<Drawn, Error> {
    if drawing.main()?.count() == 0 {
        return Err(nothing());
    }
    match drawing.parameters.plot {
        Plot::Table => sheet::plot(drawing),
        Plot::Bars => bars::plot(drawing),
        Plot::Grid => grid::plot(drawing),
        Plot::Landscape => landscape::plot(drawing),
        Plot::Contour => contour::plot(drawing),
        Plot::Frontier => frontier::plot(drawing),
        Plot::Flow => flow::plot(drawing),
        Plot::Curve => curve::plot(drawing),
        Plot::Reliability => reliability::plot(drawing),
        Plot::Mix => mix::plot(drawing),
        Plot::Numbers => numbers::plot(drawing),
    }
}

/// The table that a figure writes as text: of `numbers` the joined one, else the rows that were chosen.
///
/// # Errors
/// As [`draw`], but a table without rows is one.
pub fn table(drawing: &Drawing<'_>) -> Result<Rows, Error> {
    match drawing.parameters.plot {
        Plot::Numbers => numbers::joined(drawing),
        _ => drawing.main()?.clone().chosen(&drawing.parameters.filter),
    }
}
