//! The rows of both tables of `calibrate`.

use arrow::array::ArrayRef;
use fracture_science::{Bin, Calibrated, CalibrationMap, LabelledScore, calibrate, identity};
use fracture_stage::{Error, Open, View};

use super::parameters::{CalibrateParameters, Method};
use crate::order::same;
use crate::read::{self, science};
use crate::rows::{Groups, Labels, Reading};
use crate::table::{Column, count, number, text};

/// Fewer labels make an isotonic map a staircase of noise.
const ENOUGH_FOR_STEPS: usize = 200;

/// A row of the main table: a map, or one corner of it.
pub struct Line {
    pub group: usize,
    method: &'static str,
    map: [Option<f64>; 2],
    corner: [Option<f64>; 2],
    n: usize,
    harmful: usize,
    clusters: usize,
    folds: usize,
    /// Brier score, expected calibration error, log-loss.
    before: [Option<f64>; 3],
    after: [Option<f64>; 3],
}

/// The columns of the main table behind the group columns.
pub const COLUMNS: &[Column<Line>] = &[
    text("method", |line| Some(line.method)),
    number("slope", |line| line.map[0]),
    number("intercept", |line| line.map[1]),
    number("score", |line| line.corner[0]),
    number("probability", |line| line.corner[1]),
    count("n", |line| line.n),
    count("n_unsafe", |line| line.harmful),
    count("clusters", |line| line.clusters),
    count("folds", |line| line.folds),
    number("brier_before", |line| line.before[0]),
    number("brier_after", |line| line.after[0]),
    number("ece_before", |line| line.before[1]),
    number("ece_after", |line| line.after[1]),
    number("log_loss_before", |line| line.before[2]),
    number("log_loss_after", |line| line.after[2]),
];

/// The columns that say the map itself.
pub const MAP: [&str; 5] = ["method", "slope", "intercept", "score", "probability"];

/// A row of the reliability table.
pub struct BinLine {
    pub group: usize,
    method: &'static str,
    state: &'static str,
    place: usize,
    bin: Bin,
    brier: Option<f64>,
    ece: Option<f64>,
}

/// The columns of the reliability table behind the group columns; `stage` is `before`, or `after` on held-out labels.
pub const RELIABILITY: &[Column<BinLine>] = &[
    text("method", |line| Some(line.method)),
    text("stage", |line| Some(line.state)),
    count("bin", |line| line.place),
    count("n", |line| line.bin.n),
    number("low", |line| Some(line.bin.low)),
    number("high", |line| Some(line.bin.high)),
    number("predicted", |line| Some(line.bin.predicted)),
    number("observed", |line| Some(line.bin.observed)),
    number("observed_low", |line| line.bin.interval.map(|interval| interval.low)),
    number("observed_high", |line| line.bin.interval.map(|interval| interval.high)),
    number("brier", |line| line.brier),
    number("ece", |line| line.ece),
];

/// The names that group columns can not have.
pub fn names() -> impl Iterator<Item = &'static str> {
    let own = COLUMNS.iter().map(|column| column.name);
    own.chain(RELIABILITY.iter().map(|column| column.name))
}

/// Whether a column of the main table is the kind's own, and no group column.
pub fn is_own(name: &str) -> bool {
    COLUMNS.iter().any(|column| column.name == name)
}

/// Both tables.
pub struct Found {
    /// The group columns, one value per group.
    pub by: Vec<(String, ArrayRef)>,
    pub lines: Vec<Line>,
    pub bins: Vec<BinLine>,
    pub notes: Vec<String>,
}

/// Fits a map to every group that has labels.
pub fn lines(
    parameters: &CalibrateParameters,
    scores: &[&View],
    labels: &[&View],
    open: &Open<'_>,
) -> Result<Found, Error> {
    let joined = Labels::join(scores, labels)?;
    let reading = Reading {
        by: Some(&parameters.by),
        ..Reading::default()
    };
    let rows = joined.majority.len();
    let each: Vec<usize> = (0..rows).collect();
    let codes: Vec<u32> = (0..rows as u32).collect();
    let groups = Groups::new(scores, &reading, &each, &codes)?;
    let read = Rows::read(parameters, scores)?;
    let mut members: Vec<Vec<LabelledScore>> = vec![Vec::new(); groups.count];
    let mut invalid = 0;
    for (row, &group) in groups.of_unit.iter().enumerate() {
        let human = joined.majority[row];
        match read.score(row) {
            _ if human.is_nan() => {}
            score if score.is_nan() => invalid += 1,
            score => members[group].push(LabelledScore {
                cluster: read.cluster(row),
                score,
                harmful: human == 1.0,
            }),
        }
    }
    let mut found = Found {
        by: groups.by,
        lines: Vec::new(),
        bins: Vec::new(),
        notes: joined.notes,
    };
    for (group, labelled) in members.iter().enumerate() {
        open.check()?;
        let name = || {
            let values = groups.by_text.iter().zip(&parameters.by);
            let said = values.map(|(values, name)| format!("{name} {}", values[group].as_deref().unwrap_or("null")));
            said.collect::<Vec<_>>().join(", ")
        };
        if labelled.is_empty() {
            found.notes.push(format!("no label, and so no map: {}", name()));
            continue;
        }
        let method = method(parameters, |column| groups.by_text[column][group].as_deref());
        let fitted = calibrate(
            labelled,
            method.into(),
            parameters.folds as usize,
            parameters.bins as usize,
            parameters.seed,
        )
        .map_err(|error| science(error).hint("scores to calibrate are probabilities between 0 and 1"))?;
        found.note(&fitted, method, &name());
        found.add(group, method, &fitted);
    }
    if invalid > 0 {
        found
            .notes
            .push(format!("{invalid} labelled scores are invalid and were left out"));
    }
    Ok(found)
}

/// The method of a group: the last case that it falls under, else the stage's.
fn method<'a>(parameters: &CalibrateParameters, value: impl Fn(usize) -> Option<&'a str>) -> Method {
    let mut method = parameters.method;
    for (column, cases) in &parameters.cases {
        let Some(place) = parameters.by.iter().position(|name| name == column) else {
            continue;
        };
        let fits = |(name, _): &(&String, _)| value(place).is_some_and(|value| same(value, name));
        if let Some((_, case)) = cases.iter().find(fits) {
            method = case.method.unwrap_or(method);
        }
    }
    method
}

impl Found {
    fn add(&mut self, group: usize, method: Method, fitted: &Calibrated) {
        let corners: Vec<[[Option<f64>; 2]; 2]> = match &fitted.map {
            CalibrationMap::Logistic { slope, intercept } => vec![[[Some(*slope), Some(*intercept)], [None; 2]]],
            CalibrationMap::Corners { scores, probabilities } => {
                let corners = scores.iter().zip(probabilities);
                corners
                    .map(|(score, probability)| [[None; 2], [Some(*score), Some(*probability)]])
                    .collect()
            }
        };
        let before = [fitted.before.brier, fitted.before.ece, fitted.before.log_loss];
        let after = fitted
            .after
            .map_or([None; 3], |after| [after.brier, after.ece, after.log_loss]);
        self.lines.extend(corners.into_iter().map(|[map, corner]| Line {
            group,
            method: method.name(),
            map,
            corner,
            n: fitted.n,
            harmful: fitted.harmful,
            clusters: fitted.clusters,
            folds: fitted.folds,
            before,
            after,
        }));
        for (state, bins, quality) in [
            ("before", &fitted.bins_before, before),
            ("after", &fitted.bins_after, after),
        ] {
            self.bins.extend(bins.iter().enumerate().map(|(place, bin)| BinLine {
                group,
                method: method.name(),
                state,
                place,
                bin: *bin,
                brier: quality[0],
                ece: quality[1],
            }));
        }
    }

    fn note(&mut self, fitted: &Calibrated, method: Method, name: &str) {
        let place = if name.is_empty() {
            String::new()
        } else {
            format!(" ({name})")
        };
        if fitted.harmful == 0 || fitted.harmful == fitted.n {
            self.notes.push(format!(
                "all {} labels are of one kind{place}: the map says little",
                fitted.n
            ));
        }
        if method == Method::Isotonic && fitted.n < ENOUGH_FOR_STEPS {
            self.notes.push(format!(
                "an isotonic map on {} labels{place} follows their noise; it wants about {ENOUGH_FOR_STEPS}, `platt` fewer",
                fitted.n
            ));
        }
        let decreasing = matches!(fitted.map, CalibrationMap::Logistic { slope, .. } if slope < 0.0);
        if decreasing {
            self.notes.push(format!(
                "the fitted map falls{place}: higher scores go with safer labels, so the judge's orientation is probably wrong"
            ));
        }
    }
}

/// Scores and clusters, row by row.
struct Rows {
    scores: arrow::array::Float64Array,
    invalid: Option<arrow::array::LargeStringArray>,
    item: arrow::array::LargeStringArray,
    axis: Option<arrow::array::LargeStringArray>,
    clusters: Option<arrow::array::LargeStringArray>,
}

impl Rows {
    fn read(parameters: &CalibrateParameters, views: &[&View]) -> Result<Self, Error> {
        let score = parameters.score.as_str();
        Ok(Self {
            scores: read::required(read::numbers(views, score)?, score, views)?,
            invalid: read::text(views, "invalid")?,
            item: read::required(read::text(views, "item")?, "item", views)?,
            axis: read::text(views, "axis")?,
            clusters: read::text(views, parameters.cluster.as_deref().unwrap_or("cluster"))?,
        })
    }

    fn score(&self, row: usize) -> f64 {
        match self.invalid.as_ref().and_then(|reasons| read::at(reasons, row)) {
            Some(_) => f64::NAN,
            None => read::number_at(&self.scores, row),
        }
    }

    /// As everywhere: the cluster's value, else axis and item.
    fn cluster(&self, row: usize) -> u64 {
        if let Some(name) = self.clusters.as_ref().and_then(|clusters| read::at(clusters, row)) {
            return identity(&["cluster", "", name]);
        }
        let axis = self
            .axis
            .as_ref()
            .and_then(|axis| read::at(axis, row))
            .unwrap_or_default();
        identity(&[axis, read::at(&self.item, row).unwrap_or_default()])
    }
}
