//! Quantile lifts: how far each decile of the scores moves between the regimes (the shift function, SCIENCE.md B2).

use rayon::prelude::*;
use serde::Serialize;

use crate::bootstrap::{percentile, quantile, weights_of};
use crate::frontier::{FrontierOptions, ItemScore};
use crate::interval::{Estimate, Method};

/// The deciles.
const LEVELS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Draws at most: nine quantiles of two samples need no finer interval.
const DRAWS: usize = 1_000;
/// Draws that are walked together.
const LANES: usize = 64;

/// One quantile of both regimes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct QuantileLift {
    /// The level, between 0 and 1.
    pub level: f64,
    /// The quantile in the first regime.
    pub train: f64,
    /// The quantile in the second regime.
    pub deploy: f64,
    /// The second less the first, with its percentile interval.
    pub lift: Estimate,
}

/// The lifts of the nine deciles; empty without items. `scores` come sorted by cluster.
pub(crate) fn quantile_lifts(scores: &[ItemScore], options: &FrontierOptions) -> Vec<QuantileLift> {
    if scores.is_empty() {
        return Vec::new();
    }
    let mut ids: Vec<u64> = scores.iter().map(|score| score.cluster).collect();
    ids.dedup();
    let sides = [
        Ranks::new(scores, &ids, |s| s.first),
        Ranks::new(scores, &ids, |s| s.second),
    ];
    let draws = if ids.len() < 2 { 0 } else { options.bootstrap.min(DRAWS) };
    let chunks: Vec<[[f64; LANES]; 9]> = (0..draws.div_ceil(LANES))
        .into_par_iter()
        .map(|chunk| {
            let mut weights = vec![[0u8; LANES]; ids.len()];
            for (slot, &id) in weights.iter_mut().zip(&ids) {
                weights_of(options.seed, id, (chunk * LANES) as u64, slot);
            }
            let [first, second] = [sides[0].quantiles(&weights), sides[1].quantiles(&weights)];
            let mut lifts = second;
            for (lift, first) in lifts.iter_mut().flatten().zip(first.iter().flatten()) {
                *lift -= first;
            }
            lifts
        })
        .collect();
    let estimate = |(level, q): (usize, &f64)| {
        let [train, deploy] = [&sides[0], &sides[1]].map(|side| quantile(&side.values, *q).unwrap_or(f64::NAN));
        let drawn: Vec<f64> = chunks.iter().flat_map(|chunk| chunk[level]).take(draws).collect();
        QuantileLift {
            level: *q,
            train,
            deploy,
            lift: Estimate::new(
                Some(deploy - train),
                percentile(&drawn, options.confidence),
                Method::ClusterBootstrap,
            ),
        }
    };
    LEVELS.iter().enumerate().map(estimate).collect()
}

/// The scores of one regime, ascending, each with the place of its cluster.
struct Ranks {
    values: Vec<f64>,
    cluster: Vec<u32>,
}

impl Ranks {
    fn new(scores: &[ItemScore], ids: &[u64], of: fn(&ItemScore) -> f64) -> Self {
        let mut rows: Vec<(f64, u32)> = scores
            .iter()
            .map(|score| (of(score) + 0.0, ids.partition_point(|id| *id < score.cluster) as u32))
            .collect();
        rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (values, cluster) = rows.into_iter().unzip();
        Self { values, cluster }
    }

    /// The quantiles of every lane's weighted sample, with linear interpolation as if each row stood there as often as it
    /// weighs; NaN in a lane without weight.
    fn quantiles(&self, weights: &[[u8; LANES]]) -> [[f64; LANES]; 9] {
        let mut total = [0u32; LANES];
        for &cluster in &self.cluster {
            for (sum, weight) in total.iter_mut().zip(&weights[cluster as usize]) {
                *sum += u32::from(*weight);
            }
        }
        let mut found = [[f64::NAN; LANES]; 9];
        for lane in (0..LANES).filter(|lane| total[*lane] > 0) {
            self.lane(weights, lane, total[lane], &mut found);
        }
        found
    }

    fn lane(&self, weights: &[[u8; LANES]], lane: usize, total: u32, found: &mut [[f64; LANES]; 9]) {
        let last = f64::from(total - 1);
        let (mut level, mut passed, mut lower) = (0, 0u32, None);
        for (&value, &cluster) in self.values.iter().zip(&self.cluster) {
            passed += u32::from(weights[cluster as usize][lane]);
            while level < LEVELS.len() {
                let position = LEVELS[level] * last;
                let below = position.floor();
                if lower.is_none() && f64::from(passed) > below {
                    lower = Some(value);
                }
                let Some(low) = lower else { break };
                let upper = (below + 1.0).min(last);
                if f64::from(passed) <= upper {
                    break;
                }
                let share = position - below;
                found[level][lane] = if low == value { low } else { low + share * (value - low) };
                level += 1;
                // The next level may stand between the same two rows.
                let same = LEVELS.get(level).is_some_and(|next| (next * last).floor() == below);
                lower = same.then_some(low);
            }
            if level == LEVELS.len() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weighted_quantiles_are_those_of_the_expanded_sample(
            rows in prop::collection::vec((0u64..8, -5i32..6), 1..40), seed in 0u64..5
        ) {
            let scores: Vec<ItemScore> = rows
                .iter()
                .map(|&(cluster, value)| ItemScore { item: 0, cluster, first: f64::from(value), second: 0.0 })
                .collect();
            let mut ids: Vec<u64> = scores.iter().map(|s| s.cluster).collect();
            ids.sort_unstable();
            ids.dedup();
            let mut weights = vec![[0u8; LANES]; ids.len()];
            for (slot, &id) in weights.iter_mut().zip(&ids) {
                weights_of(seed, id, 0, slot);
            }
            let ranks = Ranks::new(&scores, &ids, |s| s.first);
            let found = ranks.quantiles(&weights);
            for lane in 0..LANES {
                let mut expanded: Vec<f64> = Vec::new();
                for (value, cluster) in ranks.values.iter().zip(&ranks.cluster) {
                    expanded.extend(std::iter::repeat_n(*value, usize::from(weights[*cluster as usize][lane])));
                }
                for (level, q) in LEVELS.iter().enumerate() {
                    match quantile(&expanded, *q) {
                        Some(expected) => prop_assert!((found[level][lane] - expected).abs() < 1e-12),
                        None => prop_assert!(found[level][lane].is_nan()),
                    }
                }
            }
        }
    }
}
