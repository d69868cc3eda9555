//! The rows of the five tables of `frontier`.

use fracture_science::{
    Aggregate, Frontier, FrontierOptions, FrontierPoint, ItemScore, QuantileLift, frontier, reduce,
};
use fracture_stage::{Error, Open};

use super::parameters::FrontierParameters;
use crate::read::science;
use crate::rows::{Contrast, Measured};
use crate::table::{Column, count, flag, number, text};

/// A row of the main table.
pub struct Line {
    pub group: usize,
    contrast: String,
    k: usize,
    unpaired: usize,
    frontier: Frontier,
    /// The level of intervals and bands.
    confidence: f64,
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
    number("median_logit_lift", |line| line.frontier.median_logit_lift.value),
    number("positive_share", |line| line.frontier.positive_share.value),
    number("superiority", |line| line.frontier.superiority),
    number("max_gap", |line| line.frontier.max_gap),
    number("max_gap_threshold", |line| line.frontier.max_gap_threshold),
    number("marginal_median_lift", |line| line.frontier.marginal_median_lift),
    number("clipped_share", |line| line.frontier.clipped_share),
    number("mean_lift_low", |line| line.frontier.mean_lift.low),
    number("mean_lift_high", |line| line.frontier.mean_lift.high),
    number("mean_positive_lift_low", |line| line.frontier.mean_positive_lift.low),
    number("mean_positive_lift_high", |line| line.frontier.mean_positive_lift.high),
    number("median_logit_lift_low", |line| line.frontier.median_logit_lift.low),
    number("median_logit_lift_high", |line| line.frontier.median_logit_lift.high),
    number("positive_share_low", |line| line.frontier.positive_share.low),
    number("positive_share_high", |line| line.frontier.positive_share.high),
    flag("dominant", |line| {
        (line.frontier.n > 0).then_some(line.frontier.strictly_dominant)
    }),
    number("p_dominance", |line| line.frontier.p_dominance),
    number("confidence_overtaken", |line| line.frontier.confidence_overtaken),
    count("overtakes", |line| line.frontier.overtakes.len()),
    text("aggregate", |_| Some("mean")),
    number("confidence", |line| Some(line.confidence)),
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

/// A quantile of both regimes.
pub struct Quantile {
    pub group: usize,
    contrast: String,
    lift: QuantileLift,
}

/// Its columns behind the group columns: the shift function, decile by decile.
pub const QUANTILES: &[Column<Quantile>] = &[
    text("contrast", |quantile| Some(&quantile.contrast)),
    number("quantile", |quantile| Some(quantile.lift.level)),
    number("train", |quantile| Some(quantile.lift.train)),
    number("deploy", |quantile| Some(quantile.lift.deploy)),
    number("lift", |quantile| quantile.lift.lift.value),
    number("lift_low", |quantile| quantile.lift.lift.low),
    number("lift_high", |quantile| quantile.lift.lift.high),
];

/// The lift of one item.
pub struct Lift {
    pub group: usize,
    contrast: String,
    scores: [f64; 2],
}

/// Its columns behind the group columns, from the least lift to the greatest.
pub const LIFTS: &[Column<Lift>] = &[
    text("contrast", |lift| Some(&lift.contrast)),
    number("train", |lift| Some(lift.scores[0])),
    number("deploy", |lift| Some(lift.scores[1])),
    number("lift", |lift| Some(lift.scores[1] - lift.scores[0])),
];

/// The names that group columns can not have.
pub fn names() -> impl Iterator<Item = &'static str> {
    let own = COLUMNS.iter().map(|column| column.name);
    own.chain(CURVE.iter().map(|column| column.name))
        .chain(OVERTAKES.iter().map(|column| column.name))
        .chain(QUANTILES.iter().map(|column| column.name))
        .chain(LIFTS.iter().map(|column| column.name))
}

/// The rows of the five tables.
#[derive(Default)]
pub struct Lines {
    pub lines: Vec<Line>,
    pub points: Vec<Point>,
    pub overtakes: Vec<Overtake>,
    pub quantiles: Vec<Quantile>,
    pub lifts: Vec<Lift>,
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
            let scores = reduce(&pairs, Aggregate::Mean);
            let mut frontier = frontier(&scores, &options).map_err(science)?;
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
            let quantile = |lift| Quantile {
                group,
                contrast: name.clone(),
                lift,
            };
            all.quantiles
                .extend(std::mem::take(&mut frontier.quantiles).into_iter().map(quantile));
            all.lifts.extend(lifts(&scores, group, &name));
            all.overtakes.extend(frontier.overtakes.iter().map(overtake));
            all.lines.push(Line {
                group,
                contrast: name.clone(),
                k: table.k,
                unpaired,
                frontier,
                confidence: parameters.confidence,
            });
            (open.progress)(all.lines.len() as u64, total);
        }
    }
    Ok(all)
}

/// The lifts of all items with both scores, in an order that is theirs alone.
fn lifts(scores: &[ItemScore], group: usize, contrast: &str) -> Vec<Lift> {
    let valid = scores.iter().map(|score| [score.first, score.second]);
    let mut valid: Vec<[f64; 2]> = valid.filter(|[u, v]| !u.is_nan() && !v.is_nan()).collect();
    valid.sort_unstable_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0])).then(a[0].total_cmp(&b[0])));
    let lift = |scores| Lift {
        group,
        contrast: contrast.to_owned(),
        scores,
    };
    valid.into_iter().map(lift).collect()
}

/// What a person should know of the lines.
pub fn notes(lines: &[Line]) -> Vec<String> {
    let total = |read: fn(&Line) -> usize| lines.iter().map(read).sum::<usize>();
    let said: [(usize, &str); 4] = [
        (
            total(|line| line.unpaired),
            "items lack one of the regimes (`unpaired`)",
        ),
        (
            total(|line| line.frontier.invalid),
            "items have no valid score in one regime (`invalid`)",
        ),
        (
            total(|line| usize::from(line.frontier.n == 0)),
            "rows have no item with both scores: their numbers are null",
        ),
        (
            total(|line| usize::from(line.frontier.clipped_share.is_some_and(|share| share > 0.1))),
            "rows had more than a tenth of their scores clipped before the logit: there the median logit lift says little \
             (`clipped_share`)",
        ),
    ];
    let said = said.iter().filter(|(count, _)| *count > 0);
    said.map(|(count, what)| format!("{count} {what}")).collect()
}
