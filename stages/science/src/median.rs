//! The median with a cluster bootstrap: weighted medians of every draw without sorting anything twice.

use rayon::prelude::*;

use crate::bootstrap::{bca, weights_of};
use crate::interval::{Estimate, Interval, Method};

/// Draws that one task walks together; a cluster's weights of so many draws fill one cache line.
const LANES: usize = 64;

/// The median: the mean of the two middle values of an even number. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(mean_of(sorted[last / 2], sorted[sorted.len() / 2]))
}

fn mean_of(a: f64, b: f64) -> f64 {
    if a == b { a } else { 0.5 * (a + b) }
}

/// Values sorted, each with the index of its cluster among the sorted cluster hashes.
struct Ranked {
    values: Vec<f64>,
    cluster: Vec<u32>,
    ids: Vec<u64>,
    sizes: Vec<u32>,
}

impl Ranked {
    fn new(rows: &[(u64, f64)]) -> Self {
        let mut ids: Vec<u64> = rows.iter().map(|r| r.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut sorted = rows.to_vec();
        sorted.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let cluster: Vec<u32> = sorted
            .iter()
            .map(|r| ids.binary_search(&r.0).map_or(0, |index| index as u32))
            .collect();
        let mut sizes = vec![0u32; ids.len()];
        cluster.iter().for_each(|&c| sizes[c as usize] += 1);
        Self {
            values: sorted.into_iter().map(|r| r.1).collect(),
            cluster,
            ids,
            sizes,
        }
    }

    /// The ranks among which nearly every draw's median lies: eight standard errors to both sides of the middle, if the
    /// rows of a cluster all fell on one side together. A draw that leaves the window is computed in full.
    fn window(&self) -> std::ops::Range<usize> {
        let n = self.values.len();
        let reach = 4.0
            * self
                .sizes
                .iter()
                .map(|&m| f64::from(m) * f64::from(m))
                .sum::<f64>()
                .sqrt()
            + 8.0;
        let reach = reach as usize;
        (n / 2).saturating_sub(reach)..(n / 2 + reach + 1).min(n)
    }

    /// The medians of `LANES` draws from `first` on; `NaN` where no row weighs anything.
    fn medians(&self, first: u64, seed: u64, window: &std::ops::Range<usize>, below: &[u32]) -> [f64; LANES] {
        let mut weights = vec![[0u8; LANES]; self.ids.len()];
        let (mut total, mut balance) = ([0i32; LANES], [0i32; LANES]);
        for (c, &id) in self.ids.iter().enumerate() {
            weights_of(seed, id, first, &mut weights[c]);
            for j in 0..LANES {
                let w = i32::from(weights[c][j]);
                total[j] += w * self.sizes[c] as i32;
                balance[j] += w * below[c] as i32;
            }
        }
        // From here on: twice the weight passed so far minus the total. The lower middle value is where it stops being
        // negative, the upper one where it becomes positive.
        for j in 0..LANES {
            balance[j] = 2 * balance[j] - total[j];
        }
        let start = balance;
        let (mut lower, mut upper) = ([0u32; LANES], [0u32; LANES]);
        for rank in window.clone() {
            let w = &weights[self.cluster[rank] as usize];
            for j in 0..LANES {
                balance[j] += 2 * i32::from(w[j]);
                lower[j] += u32::from(balance[j] < 0);
                upper[j] += u32::from(balance[j] <= 0);
            }
        }
        let mut medians = [f64::NAN; LANES];
        for j in 0..LANES {
            if total[j] == 0 {
                continue;
            }
            let inside = start[j] < 0 && balance[j] > 0;
            medians[j] = if inside {
                mean_of(
                    self.values[window.start + lower[j] as usize],
                    self.values[window.start + upper[j] as usize],
                )
            } else {
                self.walk(&weights, j, total[j])
            };
        }
        medians
    }

    /// The median of draw `lane` from the first value on.
    fn walk(&self, weights: &[[u8; LANES]], lane: usize, total: i32) -> f64 {
        let (mut passed, mut lower) = (0i32, None);
        for (value, &cluster) in self.values.iter().zip(&self.cluster) {
            passed += 2 * i32::from(weights[cluster as usize][lane]);
            if passed >= total && lower.is_none() {
                lower = Some(*value);
            }
            if passed > total {
                return mean_of(lower.unwrap_or(*value), *value);
            }
        }
        lower.unwrap_or(f64::NAN)
    }

    fn draws(&self, draws: usize, seed: u64) -> Vec<f64> {
        let window = self.window();
        let mut below = vec![0u32; self.ids.len()];
        self.cluster[..window.start]
            .iter()
            .for_each(|&c| below[c as usize] += 1);
        let chunks: Vec<[f64; LANES]> = (0..draws.div_ceil(LANES))
            .into_par_iter()
            .map(|chunk| self.medians((chunk * LANES) as u64, seed, &window, &below))
            .collect();
        let mut medians = chunks.concat();
        medians.truncate(draws);
        medians
    }

    /// The median without each cluster in turn: the removed ranks shift the middle, nothing is sorted again.
    fn jackknife(&self) -> Vec<f64> {
        let mut ranks = vec![Vec::new(); self.ids.len()];
        self.cluster
            .iter()
            .enumerate()
            .for_each(|(rank, &c)| ranks[c as usize].push(rank));
        let remaining = |removed: &[usize], wanted: usize| {
            let mut rank = wanted;
            for &r in removed {
                if r > rank {
                    break;
                }
                rank += 1;
            }
            self.values[rank]
        };
        let left = |removed: &Vec<usize>| self.values.len() - removed.len();
        ranks
            .iter()
            .filter(|removed| left(removed) > 0)
            .map(|removed| {
                let n = left(removed);
                mean_of(remaining(removed, (n - 1) / 2), remaining(removed, n / 2))
            })
            .collect()
    }
}

/// The median of (cluster hash, value) rows with its BCa cluster-bootstrap interval. The interval is missing with fewer
/// than two clusters. `NaN` values must have been left out.
pub fn median_interval(rows: &[(u64, f64)], confidence: f64, draws: usize, seed: u64) -> Estimate {
    let ranked = Ranked::new(rows);
    let Some(value) = middle(&ranked.values) else {
        return Estimate::default();
    };
    if ranked.ids.len() < 2 || draws == 0 {
        return Estimate {
            value: Some(value),
            ..Estimate::default()
        };
    }
    let sampled = ranked.draws(draws, seed);
    let interval = bca(&sampled, value, &ranked.jackknife(), confidence);
    // A median that no draw moves has no width to correct.
    let interval = interval.or(Some(Interval {
        low: value,
        high: value,
    }));
    Estimate::new(Some(value), interval, Method::Bca)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn slow_draw(rows: &[(u64, f64)], draw: u64, seed: u64) -> f64 {
        let mut expanded = Vec::new();
        for &(id, value) in rows {
            let mut weights = [0u8; 2];
            weights_of(seed, id, draw & !1, &mut weights);
            expanded.extend(std::iter::repeat_n(value, usize::from(weights[(draw & 1) as usize])));
        }
        median(&expanded).unwrap_or(f64::NAN)
    }

    proptest! {
        #[test]
        fn draws_are_medians_of_the_expanded_sample(
            rows in prop::collection::vec((0u64..12, -3i32..4), 1..60), seed in 0u64..9
        ) {
            let rows: Vec<(u64, f64)> = rows.into_iter().map(|(c, v)| (c, f64::from(v))).collect();
            let fast = Ranked::new(&rows).draws(100, seed);
            for (draw, &found) in fast.iter().enumerate() {
                let expected = slow_draw(&rows, draw as u64, seed);
                prop_assert!(found == expected || (found.is_nan() && expected.is_nan()), "{found} {expected}");
            }
        }

        #[test]
        fn jackknife_is_the_median_of_the_rest(rows in prop::collection::vec((0u64..6, -3i32..4), 1..40)) {
            let rows: Vec<(u64, f64)> = rows.into_iter().map(|(c, v)| (c, f64::from(v))).collect();
            let ranked = Ranked::new(&rows);
            let slow: Vec<f64> = ranked.ids.iter().filter_map(|id| {
                median(&rows.iter().filter(|r| r.0 != *id).map(|r| r.1).collect::<Vec<_>>())
            }).collect();
            prop_assert_eq!(ranked.jackknife(), slow);
        }
    }

    #[test]
    fn interval_covers_and_narrows() {
        let rows: Vec<(u64, f64)> = (0..2000u64).map(|i| (i, ((i * 7919) % 2000) as f64 / 2000.0)).collect();
        let e = median_interval(&rows, 0.95, 4000, 1);
        let (low, high) = (e.low.unwrap(), e.high.unwrap());
        // Asymptotic SE of the median of a uniform sample: 1 / (2 sqrt(n)).
        let half = 1.96 / (2.0 * 2000f64.sqrt());
        assert!(
            (low - (0.5 - half)).abs() < 0.003 && (high - (0.5 + half)).abs() < 0.003,
            "{low} {high}"
        );
        assert_eq!(median_interval(&rows[..1], 0.95, 100, 1).low, None);
        assert_eq!(median_interval(&[], 0.95, 100, 1).value, None);
    }
}
