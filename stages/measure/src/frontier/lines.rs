//! The rows of the three tables of `frontier`.

use fracture_science::{Aggregate, Frontier, FrontierOptions, FrontierPoint, frontier, reduce};
use fracture_stage::{Error, Open};

use super::parameters::FrontierParameters;
use crate::fracture::science;
use crate::rows::{Contrast, Measured};
use crate::table::{Column, count, number, text};

/// A row of the main table.
pub struct Line {
    pub group: usize,
    contrast: String,
    k: usize,
    unpaired: usize,
    frontier: Frontier,
}

/// Its columns behind the group columns.
pub const COLUMNS: &[Column<Line>] = &[
    text("contrast", |line| Some(&line.contrast)),
    count("k", |line| line.k),
    count("n", |line| line.frontier.n),
    count("invalid", |line| line.frontier.invalid),
    count("unpaired", |line| line.unpaired),
    number("dominance", |line| line.frontier.dominance),
    number("area", |line| line.frontier.area),
    number("median_lift", |line| line.frontier.median_lift.value),
    number("median_lift_low", |line| line.frontier.median_lift.low),
    number("median_lift_high", |line| line.frontier.median_lift.high),
    number("mean_lift", |line| line.frontier.mean_lift.value),
    number("mean_positive_lift", |line| line.frontier.mean_positive_lift.value),
    number("median_logit_lift", |line| line.frontier.median_logit_lift),
    number("positive_share", |line| line.frontier.positive_share.value),
    number("superiority", |line| line.frontier.superiority),
    number("max_gap", |line| line.frontier.max_gap),
    number("max_gap_threshold", |line| line.frontier.max_gap_threshold),
    number("marginal_median_lift", |line| line.frontier.marginal_median_lift),
    number("clipped_share", |line| line.frontier.clipped_share),
];

/// A row of the curve.
pub struct Point {
    pub group: usize,
    contrast: String,
    point: FrontierPoint,
}

/// Its columns behind the group columns; `gap_low` and `gap_high` are a simultaneous band.
pub const CURVE: &[Column<Point>] = &[
    text("contrast", |point| Some(&point.contrast)),
    number("threshold", |point| Some(point.point.threshold)),
    number("train", |point| Some(point.point.train)),
    number("deploy", |point| Some(point.point.deploy)),
    number("gap", |point| Some(point.point.gap)),
    number("gap_low", |point| point.point.low),
    number("gap_high", |point| point.point.high),
];

/// A threshold above which deploy risk overtakes train risk.
pub struct Overtake {
    pub group: usize,
    contrast: String,
    threshold: f64,
}

/// Its columns behind the group columns.
pub const OVERTAKES: &[Column<Overtake>] = &[
    text("contrast", |overtake| Some(&overtake.contrast)),
    number("threshold", |overtake| Some(overtake.threshold)),
];

/// The names that group columns can not have.
pub fn names() -> impl Iterator<Item = &'static str> {
    let own = COLUMNS.iter().map(|column| column.name);
    own.chain(CURVE.iter().map(|column| column.name))
        .chain(OVERTAKES.iter().map(|column| column.name))
}

/// The rows of the three tables.
#[derive(Default)]
pub struct Lines {
    pub lines: Vec<Line>,
    pub points: Vec<Point>,
    pub overtakes: Vec<Overtake>,
}

/// The frontier of every group under every contrast.
pub fn lines(
    measured: &Measured,
    contrasts: &[Contrast],
    parameters: &FrontierParameters,
    open: &Open<'_>,
) -> Result<Lines, Error> {
    let options = FrontierOptions {
        confidence: parameters.confidence,
        bootstrap: parameters.bootstrap as usize,
        seed: parameters.seed,
        ..FrontierOptions::default()
    };
    let mut all = Lines::default();
    let total = (measured.groups.len() * contrasts.len()) as u64;
    for group in 0..measured.groups.len() {
        for &contrast in contrasts {
            open.check()?;
            let table = measured.pair_table(group, contrast, |slots, out| {
                out.extend(slots.iter().flatten().map(|sample| sample.score));
            });
            let pairs = table.pairs();
            let mut frontier = frontier(&reduce(&pairs, Aggregate::Mean), &options).map_err(science)?;
            let name = measured.contrast_name(contrast);
            let unpaired = pairs
                .iter()
                .filter(|pair| pair.first.is_empty() || pair.second.is_empty())
                .count();
            let point = |point| Point {
                group,
                contrast: name.clone(),
                point,
            };
            all.points
                .extend(std::mem::take(&mut frontier.curve).into_iter().map(point));
            let overtake = |threshold: &f64| Overtake {
                group,
                contrast: name.clone(),
                threshold: *threshold,
            };
            all.overtakes.extend(frontier.overtakes.iter().map(overtake));
            all.lines.push(Line {
                group,
                contrast: name.clone(),
                k: table.k,
                unpaired,
                frontier,
            });
            (open.progress)(all.lines.len() as u64, total);
        }
    }
    Ok(all)
}
