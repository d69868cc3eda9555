//! SRF, the train-to-deploy frontier of risk (SCIENCE.md B2): exceedance curves, dominance, paired lifts.

use serde::Serialize;

use crate::bands::simultaneous_band;
use crate::bootstrap::{ClusterRow, ClusterSums, percentile};
use crate::error::{Result, require};
use crate::fracture::{Aggregate, Pair, reduce_samples};
use crate::interval::{Estimate, Method};
use crate::median::{median, median_interval};
use crate::quantiles::{QuantileLift, quantile_lifts};

/// Scores are kept this far from 0 and 1 before a logit is taken.
pub(crate) const LOGIT_EPSILON: f64 = 1e-4;

/// One item with a single score in each regime.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemScore {
    /// Hash of the item's identity.
    pub item: u64,
    /// Hash of its cluster.
    pub cluster: u64,
    /// Score under the first regime (u).
    pub first: f64,
    /// Score under the second regime (v).
    pub second: f64,
}

/// What a frontier is computed with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontierOptions {
    /// Confidence level of intervals and bands.
    pub confidence: f64,
    /// Bootstrap draws.
    pub bootstrap: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Whether the simultaneous band of the gap is computed (the costliest part on many items).
    pub bands: bool,
}

impl Default for FrontierOptions {
    fn default() -> Self {
        Self {
            confidence: 0.95,
            bootstrap: 10_000,
            seed: 0,
            bands: true,
        }
    }
}

/// The frontier at one observed score: shares at or above the threshold. Between two thresholds the values are those of
/// the higher one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FrontierPoint {
    /// The threshold, an observed score.
    pub threshold: f64,
    /// `S_u`: share at or above it in the first regime.
    pub train: f64,
    /// `S_v`: share at or above it in the second regime.
    pub deploy: f64,
    /// `D = S_v - S_u`.
    pub gap: f64,
    /// Lower end of the simultaneous band of the gap.
    pub low: Option<f64>,
    /// Upper end of the simultaneous band of the gap.
    pub high: Option<f64>,
}

/// The frontier of one group. Every statistic is `None` without items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frontier {
    /// Items with a valid score in both regimes.
    pub n: usize,
    /// Items left out because a score is invalid.
    pub invalid: usize,
    /// Share of thresholds in [0, 1] at which deploy risk exceeds train risk.
    pub dominance: Option<f64>,
    /// Whether the gap is nowhere negative and somewhere positive.
    pub strictly_dominant: bool,
    /// Area under the frontier: Pr(V > U') + Pr(V = U') / 2 over independent draws (Mann–Whitney).
    pub area: Option<f64>,
    /// Median of the paired lifts `v - u`, with its BCa interval. The headline.
    pub median_lift: Estimate,
    /// Mean lift.
    pub mean_lift: Estimate,
    /// Mean positive part of the lift, the area under FRACTURE(tau).
    pub mean_positive_lift: Estimate,
    /// Median of the lifts of the logits, with its BCa interval.
    pub median_logit_lift: Estimate,
    /// Share of scores that had to be clipped for their logit.
    pub clipped_share: Option<f64>,
    /// Difference of the two medians; not the median lift.
    pub marginal_median_lift: Option<f64>,
    /// Share of items with a positive lift.
    pub positive_share: Estimate,
    /// Paired superiority: share of `v > u` plus half the share of `v = u`.
    pub superiority: Option<f64>,
    /// Greatest gap.
    pub max_gap: Option<f64>,
    /// The highest threshold at which it is reached.
    pub max_gap_threshold: Option<f64>,
    /// Thresholds above which deploy risk overtakes train risk: the gap turns from not positive to positive.
    pub overtakes: Vec<f64>,
    /// One-sided p of the largest gap (max-t over thresholds, cluster bootstrap); `None` without bands.
    pub p_dominance: Option<f64>,
    /// Share of items whose deploy risk exceeds the confidence in training, `v > 1 - u`. A secondary view.
    pub confidence_overtaken: Option<f64>,
    /// Lifts of the nine deciles (the shift function).
    pub quantiles: Vec<QuantileLift>,
    /// The frontier, thresholds ascending.
    pub curve: Vec<FrontierPoint>,
}

/// Reduces the samples of every item to one score a regime, the mean unless told otherwise; rows that lack a regime are
/// left out, invalid ones are `NaN`.
pub fn reduce(pairs: &[Pair], aggregate: Aggregate) -> Vec<ItemScore> {
    let aggregate = if aggregate == Aggregate::Product {
        Aggregate::Mean
    } else {
        aggregate
    };
    let score = |samples: &[f64]| reduce_samples(samples, aggregate, f64::NAN);
    let paired = pairs.iter().filter(|p| !p.first.is_empty() && !p.second.is_empty());
    paired
        .map(|p| ItemScore {
            item: p.item,
            cluster: p.cluster,
            first: score(p.first),
            second: score(p.second),
        })
        .collect()
}

/// The frontier of one group between two regimes.
///
/// # Errors
/// When the confidence is outside (0, 1).
pub fn frontier(scores: &[ItemScore], options: &FrontierOptions) -> Result<Frontier> {
    require(
        options.confidence > 0.0 && options.confidence < 1.0,
        "confidence",
        options.confidence,
        "between 0 and 1",
    )?;
    let mut valid: Vec<ItemScore> = scores
        .iter()
        .copied()
        .filter(|s| !s.first.is_nan() && !s.second.is_nan())
        .collect();
    // Sums over floats depend on their order: fix it by identity.
    valid.sort_unstable_by(|a, b| {
        (a.cluster, a.item)
            .cmp(&(b.cluster, b.item))
            .then(a.first.total_cmp(&b.first))
            .then(a.second.total_cmp(&b.second))
    });
    let (mut u, mut v): (Vec<f64>, Vec<f64>) = valid.iter().map(|s| (s.first + 0.0, s.second + 0.0)).unzip();
    u.sort_unstable_by(f64::total_cmp);
    v.sort_unstable_by(f64::total_cmp);
    let mut points = exceedance(&u, &v);
    let p_dominance = if options.bands {
        simultaneous_band(&valid, &mut points, options)
    } else {
        None
    };
    let n = valid.len();
    let share = |count: f64| (n > 0).then(|| count / n as f64);
    let lifts: Vec<(u64, f64)> = valid.iter().map(|s| (s.cluster, s.second - s.first)).collect();
    let above = lifts.iter().filter(|l| l.1 > 0.0).count() as f64;
    let equal = valid.iter().filter(|s| s.first == s.second).count() as f64;
    let overtaken = valid.iter().filter(|s| s.second > 1.0 - s.first).count() as f64;
    let (logit_lift, clipped_share) = logit_lift(&valid, options);
    let [mean_lift, mean_positive_lift, positive_share] = means(&lifts, options);
    let max = max_gap(&points);
    Ok(Frontier {
        n,
        invalid: scores.len() - n,
        dominance: (n > 0).then(|| dominance(&points)),
        strictly_dominant: points.iter().all(|p| p.gap >= 0.0) && points.iter().any(|p| p.gap > 0.0),
        area: area(&u, &v),
        median_lift: median_interval(&lifts, options.confidence, options.bootstrap, options.seed),
        mean_lift,
        mean_positive_lift,
        median_logit_lift: logit_lift,
        clipped_share,
        marginal_median_lift: median(&v).zip(median(&u)).map(|(v, u)| v - u),
        positive_share,
        superiority: share(above + 0.5 * equal),
        max_gap: max.map(|m| m.gap),
        max_gap_threshold: max.map(|m| m.threshold),
        overtakes: overtakes(&points),
        p_dominance,
        confidence_overtaken: share(overtaken),
        quantiles: quantile_lifts(&valid, options),
        curve: points,
    })
}

/// Both exceedance shares at every observed score, from sorted scores.
fn exceedance(u: &[f64], v: &[f64]) -> Vec<FrontierPoint> {
    let mut thresholds: Vec<f64> = u.iter().chain(v).copied().collect();
    thresholds.sort_unstable_by(f64::total_cmp);
    thresholds.dedup();
    let n = u.len() as f64;
    let (mut below_u, mut below_v) = (0, 0);
    let point = |threshold: f64| {
        while below_u < u.len() && u[below_u] < threshold {
            below_u += 1;
        }
        while below_v < v.len() && v[below_v] < threshold {
            below_v += 1;
        }
        FrontierPoint {
            threshold,
            train: (u.len() - below_u) as f64 / n,
            deploy: (v.len() - below_v) as f64 / n,
            gap: (below_u as f64 - below_v as f64) / n,
            low: None,
            high: None,
        }
    };
    thresholds.into_iter().map(point).collect()
}

/// The Lebesgue measure of the thresholds in [0, 1] with a positive gap; the gap of a point holds on the half-open
/// stretch below it and is 0 outside the observed scores.
fn dominance(points: &[FrontierPoint]) -> f64 {
    let inside = |t: f64| t.clamp(0.0, 1.0);
    points
        .windows(2)
        .filter(|w| w[1].gap > 0.0)
        .map(|w| inside(w[1].threshold) - inside(w[0].threshold))
        .sum()
}

/// The point of the greatest gap, the highest threshold among equals. Without a positive gap it is the highest point.
fn max_gap(points: &[FrontierPoint]) -> Option<FrontierPoint> {
    points
        .iter()
        .copied()
        .max_by(|a, b| a.gap.total_cmp(&b.gap).then(a.threshold.total_cmp(&b.threshold)))
}

/// Where, walking up, the gap turns positive: just above the returned score, which itself still has a gap of at most 0.
fn overtakes(points: &[FrontierPoint]) -> Vec<f64> {
    points
        .windows(2)
        .filter(|w| w[0].gap <= 0.0 && w[1].gap > 0.0)
        .map(|w| w[0].threshold)
        .collect()
}

/// Mann–Whitney's Pr(V > U') + Pr(V = U') / 2, from sorted scores.
fn area(u: &[f64], v: &[f64]) -> Option<f64> {
    let pairs = u.len() as f64 * v.len() as f64;
    let (mut below, mut upto, mut halves) = (0usize, 0usize, 0u128);
    for &score in v {
        while below < u.len() && u[below] < score {
            below += 1;
        }
        while upto < u.len() && u[upto] <= score {
            upto += 1;
        }
        halves += (below + upto) as u128;
    }
    (pairs > 0.0).then(|| halves as f64 / (2.0 * pairs))
}

/// Median lift of the logits and the share of clipped scores.
fn logit_lift(scores: &[ItemScore], options: &FrontierOptions) -> (Estimate, Option<f64>) {
    let clip = |s: f64| s.clamp(LOGIT_EPSILON, 1.0 - LOGIT_EPSILON);
    let logit = |s: f64| (clip(s) / (1.0 - clip(s))).ln();
    let lifts: Vec<(u64, f64)> = scores
        .iter()
        .map(|s| (s.cluster, logit(s.second) - logit(s.first)))
        .collect();
    let clipped = scores
        .iter()
        .flat_map(|s| [s.first, s.second])
        .filter(|&s| clip(s) != s)
        .count();
    let share = (!scores.is_empty()).then(|| clipped as f64 / (2 * scores.len()) as f64);
    (
        median_interval(&lifts, options.confidence, options.bootstrap, options.seed),
        share,
    )
}

/// Mean lift, mean positive lift and share of positive lifts with cluster-bootstrap intervals.
fn means(lifts: &[(u64, f64)], options: &FrontierOptions) -> [Estimate; 3] {
    let row = |&(cluster, lift): &(u64, f64)| -> ClusterRow<4> {
        (cluster, [1.0, lift, lift.max(0.0), f64::from(u8::from(lift > 0.0))])
    };
    let sums = ClusterSums::from_rows(lifts.iter().map(row).collect());
    let total = sums.total();
    if lifts.is_empty() {
        return [Estimate::default(); 3];
    }
    let columns = if sums.len() >= 2 {
        sums.draws(options.bootstrap, options.seed)
    } else {
        vec![Vec::new(); 4]
    };
    [1, 2, 3].map(|statistic| {
        let ratios: Vec<f64> = columns[statistic].iter().zip(&columns[0]).map(|(x, n)| x / n).collect();
        let interval = percentile(&ratios, options.confidence);
        Estimate::new(Some(total[statistic] / total[0]), interval, Method::ClusterBootstrap)
    })
}
