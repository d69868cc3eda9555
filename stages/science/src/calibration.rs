//! Calibration of a judge's scores on people's labels: Platt, isotonic and temperature maps, with what they are worth on
//! labels they were not fitted to (SCIENCE.md C5).

use serde::Serialize;

use crate::error::{Result, require};
use crate::hash::{Stream, purpose};
use crate::isotonic::isotonic;
use crate::reliability::{Bin, Quality, quality, reliability};

/// Scores are kept this far from 0 and 1 before their logit is taken.
const EPSILON: f64 = 1e-6;
/// The reach of a temperature: outside of it labels say that the score is a step, or nothing.
const COLDEST: f64 = 0.01;
const HOTTEST: f64 = 100.0;

/// The family of maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// `sigmoid(slope * logit(p) + intercept)` on Platt's smoothed targets (Platt 1999).
    #[default]
    Platt,
    /// The monotone step fit of least squares, straight between its corners (about 200 labels are needed).
    Isotonic,
    /// `sigmoid(logit(p) / T)`: keeps the order and the bar at one half.
    Temperature,
}

/// One labelled score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelledScore {
    /// Hash of its cluster; a cluster is never on both sides of a fold.
    pub cluster: u64,
    /// The judge's probability of unsafe.
    pub score: f64,
    /// What people said.
    pub harmful: bool,
}

/// A fitted map from scores to probabilities.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum CalibrationMap {
    /// `sigmoid(slope * logit(p) + intercept)`.
    Logistic {
        /// 1 for a calibrated judge.
        slope: f64,
        /// 0 for a calibrated judge.
        intercept: f64,
    },
    /// Straight between corners, constant beyond the first and the last.
    Corners {
        /// Scores, ascending.
        scores: Vec<f64>,
        /// The probability at each.
        probabilities: Vec<f64>,
    },
}

/// The logit of a score, kept finite.
pub(crate) fn logit(score: f64) -> f64 {
    let p = score.clamp(EPSILON, 1.0 - EPSILON);
    (p / (1.0 - p)).ln()
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

impl CalibrationMap {
    /// The calibrated probability of a score; NaN stays NaN.
    pub fn apply(&self, score: f64) -> f64 {
        if score.is_nan() {
            return score;
        }
        match self {
            Self::Logistic { slope, intercept } => sigmoid(slope * logit(score) + intercept),
            Self::Corners { scores, probabilities } => {
                let above = scores.partition_point(|&corner| corner < score);
                match (above.checked_sub(1), scores.get(above)) {
                    (_, Some(corner)) if *corner == score => probabilities[above],
                    (None, Some(_)) => probabilities[0],
                    (Some(below), Some(corner)) => {
                        let share = (score - scores[below]) / (corner - scores[below]);
                        probabilities[below] + share * (probabilities[above] - probabilities[below])
                    }
                    (Some(below), None) => probabilities[below],
                    (None, None) => score,
                }
            }
        }
    }
}

/// Fits a map. Rows may come in any order; invalid scores must have been left out.
pub fn fit_calibration(rows: &[LabelledScore], method: CalibrationMethod) -> CalibrationMap {
    let mut rows: Vec<(f64, bool)> = rows.iter().map(|row| (row.score + 0.0, row.harmful)).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    if rows.is_empty() {
        return CalibrationMap::Logistic {
            slope: 1.0,
            intercept: 0.0,
        };
    }
    match method {
        CalibrationMethod::Platt => platt(&rows),
        CalibrationMethod::Temperature => temperature(&rows),
        CalibrationMethod::Isotonic => {
            let (scores, probabilities) = isotonic(&rows);
            CalibrationMap::Corners { scores, probabilities }
        }
    }
}

/// Newton's method with halved steps on the smoothed targets `(n+ + 1) / (n+ + 2)` and `1 / (n- + 2)`.
fn platt(rows: &[(f64, bool)]) -> CalibrationMap {
    let harmful = rows.iter().filter(|row| row.1).count() as f64;
    let safe = rows.len() as f64 - harmful;
    let (high, low) = ((harmful + 1.0) / (harmful + 2.0), 1.0 / (safe + 2.0));
    let points: Vec<(f64, f64)> = rows
        .iter()
        .map(|&(score, harmful)| (logit(score), if harmful { high } else { low }))
        .collect();
    let loss = |slope: f64, intercept: f64| -> f64 {
        let one = |&(x, t): &(f64, f64)| {
            let z = slope * x + intercept;
            // ln(1 + e^z) - t z without overflow.
            z.max(0.0) + (-z.abs()).exp().ln_1p() - t * z
        };
        points.iter().map(one).sum()
    };
    let (mut slope, mut intercept) = (0.0, ((harmful + 1.0) / (safe + 1.0)).ln());
    let mut value = loss(slope, intercept);
    for _ in 0..100 {
        let (mut g, mut h) = ([0.0; 2], [1e-12, 0.0, 1e-12]);
        for &(x, t) in &points {
            let p = sigmoid(slope * x + intercept);
            let (d, w) = (p - t, p * (1.0 - p));
            g = [g[0] + d * x, g[1] + d];
            h = [h[0] + w * x * x, h[1] + w * x, h[2] + w];
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        if g[0].abs().max(g[1].abs()) < 1e-11 * rows.len() as f64 || determinant <= 0.0 {
            break;
        }
        let step = [
            (h[2] * g[0] - h[1] * g[1]) / determinant,
            (h[0] * g[1] - h[1] * g[0]) / determinant,
        ];
        let mut scale = 1.0;
        let moved = loop {
            let (a, b) = (slope - scale * step[0], intercept - scale * step[1]);
            let next = loss(a, b);
            if next <= value {
                break Some((a, b, next));
            }
            scale *= 0.5;
            if scale < 1e-10 {
                break None;
            }
        };
        let Some((a, b, next)) = moved else { break };
        let gained = value - next;
        (slope, intercept, value) = (a, b, next);
        if gained <= 1e-15 * value.abs() && scale == 1.0 {
            break;
        }
    }
    CalibrationMap::Logistic { slope, intercept }
}

/// The temperature of greatest likelihood, by bisection on the derivative in `1 / T`, which is monotone.
fn temperature(rows: &[(f64, bool)]) -> CalibrationMap {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .map(|&(score, harmful)| (logit(score), f64::from(u8::from(harmful))))
        .collect();
    let derivative = |slope: f64| -> f64 { points.iter().map(|&(x, y)| (sigmoid(slope * x) - y) * x).sum() };
    let (mut low, mut high) = (1.0 / HOTTEST, 1.0 / COLDEST);
    let slope = if derivative(low) >= 0.0 {
        low
    } else if derivative(high) <= 0.0 {
        high
    } else {
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if derivative(middle) < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    };
    CalibrationMap::Logistic { slope, intercept: 0.0 }
}

/// A fitted map and what it is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibrated {
    /// The map, fitted to all labels.
    pub map: CalibrationMap,
    /// Labelled scores.
    pub n: usize,
    /// Those that are unsafe.
    pub harmful: usize,
    /// Distinct clusters among them.
    pub clusters: usize,
    /// Folds that were used; 0 with a single cluster, when nothing can be held out.
    pub folds: usize,
    /// Of the scores as they are.
    pub before: Quality,
    /// Of the scores calibrated by maps that have not seen their fold; `None` when nothing could be held out.
    pub after: Option<Quality>,
    /// Reliability of the scores as they are.
    pub bins_before: Vec<Bin>,
    /// Reliability of the held-out calibrated scores.
    pub bins_after: Vec<Bin>,
}

/// The fold of a cluster: a function of its hash, the seed and the number of folds.
pub fn fold_of(cluster: u64, seed: u64, folds: usize) -> usize {
    let word = Stream::new(seed, purpose::FOLD, cluster).word(0);
    ((u128::from(word) * folds as u128) >> 64) as usize
}

/// Fits a map to all labels, and judges it on folds of whole clusters that the fitted map has not seen.
///
/// # Errors
/// With fewer than two folds, or a score that is no probability.
pub fn calibrate(
    rows: &[LabelledScore],
    method: CalibrationMethod,
    folds: usize,
    bins: usize,
    seed: u64,
) -> Result<Calibrated> {
    require(folds >= 2, "folds", folds as f64, "at least 2")?;
    require(bins >= 1, "bins", bins as f64, "at least 1")?;
    for row in rows {
        require((0.0..=1.0).contains(&row.score), "score", row.score, "between 0 and 1")?;
    }
    let mut clusters: Vec<u64> = rows.iter().map(|row| row.cluster).collect();
    clusters.sort_unstable();
    clusters.dedup();
    let folds = if clusters.len() < 2 { 0 } else { folds };
    let pairs = |score: &dyn Fn(&LabelledScore) -> f64| -> Vec<(f64, bool)> {
        let mut pairs: Vec<(f64, bool)> = rows.iter().map(|row| (score(row), row.harmful)).collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        pairs
    };
    let maps: Vec<CalibrationMap> = (0..folds)
        .map(|fold| {
            let others = rows.iter().filter(|row| fold_of(row.cluster, seed, folds) != fold);
            fit_calibration(&others.copied().collect::<Vec<_>>(), method)
        })
        .collect();
    let raw = pairs(&|row| row.score);
    let held_out = (folds > 0).then(|| pairs(&|row| maps[fold_of(row.cluster, seed, folds)].apply(row.score)));
    Ok(Calibrated {
        map: fit_calibration(rows, method),
        n: rows.len(),
        harmful: rows.iter().filter(|row| row.harmful).count(),
        clusters: clusters.len(),
        folds,
        before: quality(&raw, bins),
        after: held_out.as_ref().map(|pairs| quality(pairs, bins)),
        bins_before: reliability(&raw, bins),
        bins_after: held_out.map(|pairs| reliability(&pairs, bins)).unwrap_or_default(),
    })
}
