//! The shape of every landscape: gradient and ridges of its cells, and its caps.

use fracture_measure::parameters::Aggregate;
use fracture_measure::read::science;
use fracture_measure::rows::{BETWEEN, Contrast, Measured, PairTable};
use fracture_measure::table::{Column, count, number, text};
use fracture_science::{
    CHOOSING, CappedRisk, Caps, Estimate, FlipOptions, LandscapeCell, REPORTING, SurfaceCell, caps, surface,
};
use fracture_stage::{Error, Open};

use super::parameters::LandscapeParameters;

/// The names of the halves of the items.
pub const HALVES: [&str; 2] = ["choosing", "reporting"];
/// A cell with fewer rows is flagged: its interval says more about the prior than about the decoder.
const FEW: usize = 30;

/// The shape of a landscape at one row of the main table.
#[derive(Clone)]
pub struct Shape(Option<LandscapeCell>);

/// The columns behind those of `fracture`. Null where a cell has no neighbour to compare with.
pub const SHAPE: &[Column<Shape>] = &[
    number("gradient_temperature", |shape| shape.0.as_ref()?.gradient_temperature),
    number("gradient_temperature_se", |shape| {
        shape.0.as_ref()?.gradient_temperature_se
    }),
    number("gradient_top_p", |shape| shape.0.as_ref()?.gradient_top_p),
    number("gradient_top_p_se", |shape| shape.0.as_ref()?.gradient_top_p_se),
    number("ridge_p", |shape| shape.0.as_ref()?.ridge_p),
];

impl Shape {
    /// Whether the cell is a ridge; `None` where it can not be one, having no two neighbours on any axis.
    pub fn ridge(&self) -> Option<bool> {
        let cell = self.0.as_ref()?;
        cell.ridge_p.map(|_| cell.ridge)
    }

    /// Whether the cell has few rows.
    pub fn few(&self) -> bool {
        self.0.as_ref().is_none_or(|cell| cell.n < FEW)
    }
}

/// A row of the caps.
pub struct Line {
    pub landscape: usize,
    contrast: String,
    budget: f64,
    temperature: Option<f64>,
    top_p: Option<f64>,
    cells: usize,
    half: usize,
    pub chosen: bool,
    items: usize,
    before: Estimate,
    risk: Option<CappedRisk>,
    reason: Option<String>,
    confidence: f64,
}

/// The columns of the caps behind the group columns; `chosen` stands before `reason`.
pub const CAPS: &[Column<Line>] = &[
    text("contrast", |line| Some(&line.contrast)),
    number("budget", |line| Some(line.budget)),
    number("temperature", |line| line.temperature),
    number("top_p", |line| line.top_p),
    count("cells", |line| line.cells),
    text("half", |line| Some(HALVES[line.half])),
    count("items", |line| line.items),
    number("before", |line| line.before.value),
    number("before_low", |line| line.before.low),
    number("before_high", |line| line.before.high),
    number("after", |line| line.risk.as_ref()?.after.value),
    number("after_low", |line| line.risk.as_ref()?.after.low),
    number("after_high", |line| line.risk.as_ref()?.after.high),
    number("reduction", |line| line.risk.as_ref()?.reduction.value),
    number("reduction_low", |line| line.risk.as_ref()?.reduction.low),
    number("reduction_high", |line| line.risk.as_ref()?.reduction.high),
    number("confidence", |line| Some(line.confidence)),
    text("reason", |line| line.reason.as_deref()),
];

/// What is computed beside the columns of `fracture`.
pub struct Shapes {
    /// One per row of the main table: groups, and contrasts within them.
    pub shapes: Vec<Shape>,
    /// The rows of the caps.
    pub caps: Vec<Line>,
    /// The first group of each landscape.
    pub landscapes: Vec<usize>,
}

/// The landscapes of the groups: those that agree in all group columns but the last two, temperature and top-p.
fn landscapes(measured: &Measured) -> Vec<std::ops::Range<usize>> {
    let width = measured.by_text.len().saturating_sub(2);
    let same = |a: usize, b: usize| measured.by_text[..width].iter().all(|column| column[a] == column[b]);
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for group in 0..measured.groups.len() {
        match ranges.last_mut() {
            Some(range) if same(range.start, group) => range.end = group + 1,
            _ => ranges.push(group..group + 1),
        }
    }
    ranges
}

/// Computes gradients, ridges and caps of every landscape under every contrast.
///
/// # Errors
/// When cells hold different numbers of samples under an aggregate that can not compare them.
pub fn shapes(
    measured: &Measured,
    contrasts: &[Contrast],
    parameters: &LandscapeParameters,
    open: &Open<'_>,
) -> Result<Shapes, Error> {
    let options = FlipOptions {
        tau: BETWEEN,
        aggregate: parameters.aggregate.into(),
        confidence: parameters.confidence,
        bootstrap: parameters.bootstrap as usize,
        seed: parameters.seed,
        ..FlipOptions::default()
    };
    let ranges = landscapes(measured);
    let mut all = Shapes {
        shapes: vec![Shape(None); measured.groups.len() * contrasts.len()],
        caps: Vec::new(),
        landscapes: ranges.iter().map(|range| range.start).collect(),
    };
    let total = (ranges.len() * contrasts.len()) as u64;
    for (landscape, range) in ranges.into_iter().enumerate() {
        for (place, &contrast) in contrasts.iter().enumerate() {
            open.check()?;
            let tables: Vec<PairTable> = range
                .clone()
                .map(|group| measured.verdicts(group, contrast, parameters.aggregate, |sample| sample.tau))
                .collect::<Result<_, _>>()?;
            let cells: Vec<SurfaceCell<'_>> = range
                .clone()
                .zip(&tables)
                .map(|(group, table)| cell(measured, group, table))
                .collect::<Result<_, _>>()?;
            comparable(&cells, &tables, parameters.aggregate)?;
            let surface = surface(&cells, parameters.metric.into(), &options).map_err(science)?;
            for (group, cell) in range.clone().zip(surface) {
                all.shapes[group * contrasts.len() + place] = Shape(Some(cell));
            }
            let chosen = caps(&cells, &parameters.budget, parameters.metric.into(), &options).map_err(science)?;
            for of_budget in chosen {
                let name = measured.contrast_name(contrast);
                all.caps
                    .extend(lines(landscape, &name, of_budget, parameters.confidence));
            }
            (open.progress)((landscape * contrasts.len() + place + 1) as u64, total);
        }
    }
    Ok(all)
}

fn cell<'a>(measured: &Measured, group: usize, table: &'a PairTable) -> Result<SurfaceCell<'a>, Error> {
    let width = measured.by_text.len();
    let value = |column: usize| -> Option<f64> { measured.by_text[column].get(group)?.as_ref()?.parse().ok() };
    let temperature = value(width - 2).ok_or_else(|| Error::internal("a cell of a landscape without temperature"))?;
    Ok(SurfaceCell {
        temperature,
        // A greedy cell has none, and what stands here has no effect.
        top_p: value(width - 1).unwrap_or(1.0),
        pairs: table.pairs(),
    })
}

/// Under `mean` and `max` cells of different numbers of samples can not be compared. A greedy answer is the same however
/// often it is drawn.
fn comparable(cells: &[SurfaceCell<'_>], tables: &[PairTable], aggregate: Aggregate) -> Result<(), Error> {
    if !matches!(aggregate, Aggregate::Mean | Aggregate::Max) {
        return Ok(());
    }
    let mut samples: Vec<usize> = cells
        .iter()
        .zip(tables)
        .filter(|(cell, table)| cell.temperature > 0.0 && table.k > 0)
        .map(|(_, table)| table.k)
        .collect();
    samples.sort_unstable();
    samples.dedup();
    if let [few, .., many] = samples[..] {
        let message = format!(
            "cells of {few} and of {many} samples can not be compared under `{}`",
            aggregate.name()
        );
        return Err(Error::pipeline(message).hint("say `aggregate: product`"));
    }
    Ok(())
}

/// The rows of one budget: each cap on both halves, or what the grid had where no cap meets the budget.
fn lines(landscape: usize, contrast: &str, caps: Caps, confidence: f64) -> Vec<Line> {
    let line = |half: usize| Line {
        landscape,
        contrast: contrast.to_owned(),
        budget: caps.budget,
        temperature: None,
        top_p: None,
        cells: 0,
        half,
        chosen: true,
        items: caps.items[half],
        before: caps.before[half],
        risk: None,
        reason: None,
        confidence,
    };
    let halves = [CHOOSING, REPORTING];
    if caps.staircase.is_empty() {
        let reason = none_meets(&caps);
        let none = |half| Line {
            reason: Some(reason.clone()),
            ..line(half)
        };
        return halves.map(none).into();
    }
    let step = |(index, cap): (usize, &fracture_science::Cap)| {
        halves.map(|half| Line {
            temperature: Some(cap.temperature),
            top_p: (cap.temperature > 0.0).then_some(cap.top_p),
            cells: cap.cells,
            chosen: caps.chosen == Some(index),
            risk: Some(cap.halves[half].clone()),
            ..line(half)
        })
    };
    caps.staircase.iter().enumerate().flat_map(step).collect()
}

fn none_meets(caps: &Caps) -> String {
    let budget = caps.budget;
    if caps.items[CHOOSING] < 2 {
        return format!(
            "no cap was chosen: {} items are too few to choose on",
            caps.items[CHOOSING]
        );
    }
    let lowest = caps.upper.iter().flatten().copied().reduce(f64::min);
    let limit = lowest.map_or(String::new(), |limit| {
        format!("; the lowest upper limit of a cell is {limit:.3}")
    });
    format!("no cap meets the budget of {budget}{limit}")
}
