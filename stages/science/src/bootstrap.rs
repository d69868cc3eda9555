//! The cluster bootstrap: whole clusters are drawn, and a statistic is recomputed from the weighted cluster sums.
//!
//! The weight of a cluster in a draw is Poisson(1), a function of (seed, cluster hash, draw number) alone. A multinomial
//! would have to know how many clusters there are and in which order they stand; Poisson weights need neither, so that a
//! cluster weighs the same in every group it occurs in, which makes differences between groups paired draw by draw.
//! Statistics are ratios of weighted sums, which takes out the random total: to the order 1/n the distribution is the
//! multinomial one (the oracle of numpy's multinomial bootstrap agrees within its seed-to-seed spread).

use std::sync::OnceLock;

use rayon::prelude::*;

use crate::hash::{Stream, purpose};
use crate::interval::{Interval, critical, normal_cdf, normal_quantile};

/// Draws that one task computes together: small enough that its sums stay in the first-level cache.
const CHUNK: usize = 256;

/// One row's contribution: the hash of its cluster and the values that are summed.
pub type ClusterRow<const S: usize> = (u64, [f64; S]);

/// Sums per cluster, sorted by cluster hash: all that a ratio statistic needs from the data.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSums {
    ids: Vec<u64>,
    /// `[clusters, width]`, row by row.
    sums: Vec<f64>,
    width: usize,
}

impl ClusterSums {
    /// Sums `rows` by cluster. The order of the rows does not matter to the last bit: they are sorted by cluster and
    /// value before they are added.
    pub fn from_rows<const S: usize>(mut rows: Vec<ClusterRow<S>>) -> Self {
        rows.par_sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| {
                a.1.iter()
                    .zip(&b.1)
                    .map(|(x, y)| x.total_cmp(y))
                    .find(|o| o.is_ne())
                    .unwrap_or(std::cmp::Ordering::Equal)
            })
        });
        let (mut ids, mut sums) = (Vec::new(), Vec::<f64>::new());
        for (id, values) in rows {
            if ids.last() == Some(&id) {
                let start = sums.len() - S;
                sums[start..]
                    .iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value);
            } else {
                ids.push(id);
                sums.extend(values);
            }
        }
        Self { ids, sums, width: S }
    }

    /// From sums that are there already: `sums` is `[ids, width]` row by row, `ids` strictly ascending.
    pub(crate) fn from_sorted(ids: Vec<u64>, sums: Vec<f64>, width: usize) -> Self {
        debug_assert!(ids.is_sorted_by(|a, b| a < b) && sums.len() == ids.len() * width);
        Self { ids, sums, width }
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no cluster.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Cluster hashes, ascending.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The sums of cluster number `index`.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.sums[index * self.width..(index + 1) * self.width]
    }

    /// The sums over all clusters.
    pub fn total(&self) -> Vec<f64> {
        let mut total = vec![0.0; self.width];
        for row in self.sums.chunks_exact(self.width.max(1)) {
            total.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        total
    }

    /// The weighted sums of every draw, `[width][draws]`: one pass of weights serves all statistics.
    pub fn draws(&self, draws: usize, seed: u64) -> Vec<Vec<f64>> {
        let alike = self.alike();
        let chunks: Vec<Vec<f64>> = (0..draws.div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| match &alike {
                Some(alike) => self.chunk_alike(alike, (chunk * CHUNK) as u64, seed),
                None => self.chunk((chunk * CHUNK) as u64, seed),
            })
            .collect();
        let mut columns = vec![Vec::with_capacity(draws.next_multiple_of(CHUNK)); self.width];
        for chunk in chunks {
            for (column, part) in columns.iter_mut().zip(chunk.chunks_exact(CHUNK)) {
                column.extend_from_slice(part);
            }
        }
        columns.iter_mut().for_each(|column| column.truncate(draws));
        columns
    }

    /// The clusters in the order of their sums, where many have the same ones (flip counts of small clusters do): the
    /// weights of those can be added as whole numbers before anything is multiplied. `None` where sums differ too much for
    /// that to pay.
    fn alike(&self) -> Option<Vec<u32>> {
        let mut order: Vec<u32> = (0..self.ids.len() as u32).collect();
        let bits = |index: u32| self.row(index as usize).iter().map(|value| value.to_bits());
        order.sort_by(|&a, &b| bits(a).cmp(bits(b)));
        let patterns = order
            .chunk_by(|&a, &b| self.row(a as usize) == self.row(b as usize))
            .count();
        (patterns * 4 <= self.ids.len()).then_some(order)
    }

    /// As [`Self::chunk`], for clusters in the order of their sums: whole numbers are exact in any order, and the products
    /// are added in the order of the sums.
    fn chunk_alike(&self, order: &[u32], first: u64, seed: u64) -> Vec<f64> {
        let mut sums = vec![0.0f64; self.width * CHUNK];
        let mut weights = [0u8; CHUNK];
        for same in order.chunk_by(|&a, &b| self.row(a as usize) == self.row(b as usize)) {
            // A weight is at most 16: so many of them fit 16 bits.
            for part in same.chunks(4_000) {
                let mut total = [0u16; CHUNK];
                for &index in part {
                    weights_of(seed, self.ids[index as usize], first, &mut weights);
                    total
                        .iter_mut()
                        .zip(weights)
                        .for_each(|(sum, weight)| *sum += u16::from(weight));
                }
                let wide = total.map(f64::from);
                for (&value, out) in self.row(same[0] as usize).iter().zip(sums.as_chunks_mut::<CHUNK>().0) {
                    if value != 0.0 {
                        out.iter_mut()
                            .zip(&wide)
                            .for_each(|(sum, weight)| *sum += weight * value);
                    }
                }
            }
        }
        sums
    }

    /// The weighted sums of `CHUNK` draws from `first` on, `[width, CHUNK]`. Clusters are added in the order of their
    /// hashes, so that the sum is the same on any number of threads.
    fn chunk(&self, first: u64, seed: u64) -> Vec<f64> {
        let mut sums = vec![0.0f64; self.width * CHUNK];
        let mut weights = [0u8; CHUNK];
        let mut wide = [0.0f64; CHUNK];
        for (index, &id) in self.ids.iter().enumerate() {
            weights_of(seed, id, first, &mut weights);
            wide.iter_mut()
                .zip(weights)
                .for_each(|(w, weight)| *w = f64::from(weight));
            for (&value, out) in self.row(index).iter().zip(sums.as_chunks_mut::<CHUNK>().0) {
                if value != 0.0 {
                    out.iter_mut()
                        .zip(&wide)
                        .for_each(|(sum, weight)| *sum += weight * value);
                }
            }
        }
        sums
    }
}

/// The Poisson(1) weights of one cluster in the draws `first..first + out.len()`; `first` is even.
#[inline]
pub(crate) fn weights_of(seed: u64, cluster: u64, first: u64, out: &mut [u8]) {
    let stream = Stream::new(seed, purpose::BOOTSTRAP, cluster);
    let table = poisson_table();
    let (pairs, rest) = out.as_chunks_mut::<2>();
    let mut counter = first / 2;
    for slots in pairs {
        let word = stream.word(counter);
        *slots = [table.weight(word as u32), table.weight((word >> 32) as u32)];
        counter += 1;
    }
    if let [last] = rest {
        *last = table.weight(stream.word(counter) as u32);
    }
}

/// The inverse of the Poisson(1) distribution function on 32-bit uniforms.
struct PoissonTable {
    /// The weight by the uniform's top 12 bits, or `STRADDLES` where they do not decide it.
    coarse: [u8; 4096],
    /// Pr(X <= k) times 2^32.
    cumulative: [u64; 16],
}

const STRADDLES: u8 = u8::MAX;

impl PoissonTable {
    #[cold]
    #[inline(never)]
    fn exact(cumulative: &[u64; 16], uniform: u32) -> u8 {
        cumulative.iter().take_while(|&&bar| u64::from(uniform) >= bar).count() as u8
    }

    #[inline(always)]
    fn weight(&self, uniform: u32) -> u8 {
        match self.coarse[(uniform >> 20) as usize] {
            STRADDLES => Self::exact(&self.cumulative, uniform),
            weight => weight,
        }
    }
}

fn poisson_table() -> &'static PoissonTable {
    static TABLE: OnceLock<PoissonTable> = OnceLock::new();
    TABLE.get_or_init(|| {
        let (mut cumulative, mut term, mut sum) = ([0u64; 16], (-1.0f64).exp(), 0.0);
        for (k, slot) in cumulative.iter_mut().enumerate() {
            sum += term;
            term /= (k + 1) as f64;
            *slot = (sum * 2f64.powi(32)).round() as u64;
        }
        let mut coarse = [0u8; 4096];
        for (top, slot) in coarse.iter_mut().enumerate() {
            let (low, high) = ((top as u32) << 20, ((top as u32) << 20) | 0xF_FFFF);
            let (a, b) = (
                PoissonTable::exact(&cumulative, low),
                PoissonTable::exact(&cumulative, high),
            );
            *slot = if a == b { a } else { STRADDLES };
        }
        PoissonTable { coarse, cumulative }
    })
}

/// The quantile of sorted values with linear interpolation (type 7, numpy's default). `None` without values.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (a, b) = (sorted[below], sorted[(below + 1).min(last)]);
    let fraction = position - below as f64;
    Some(if a == b { a } else { a + fraction * (b - a) })
}

/// Values that are numbers, ascending: a draw in which no cluster weighed anything has no ratio.
fn defined(draws: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = draws.iter().copied().filter(|d| !d.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The percentile interval of bootstrap draws; `NaN` draws are left out.
pub fn percentile(draws: &[f64], confidence: f64) -> Option<Interval> {
    let mut values: Vec<f64> = draws.iter().copied().filter(|d| !d.is_nan()).collect();
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval {
        low: selected(&mut values, tail)?,
        high: selected(&mut values, 1.0 - tail)?,
    })
}

/// [`quantile`] of values in any order, which it moves about: two ranks are all that is needed of them.
fn selected(values: &mut [f64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (_, &mut a, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let b = above.iter().copied().min_by(f64::total_cmp).unwrap_or(a);
    let fraction = position - below as f64;
    Some(if a == b { a } else { a + fraction * (b - a) })
}

/// The bias-corrected and accelerated interval (Efron 1987). `jackknife` holds the statistic without each cluster in
/// turn. Draws equal to the estimate count half, as they must for a median of few distinct values. Falls back to the
/// percentile interval's levels where the jackknife does not vary.
pub fn bca(draws: &[f64], estimate: f64, jackknife: &[f64], confidence: f64) -> Option<Interval> {
    let sorted = defined(draws);
    if sorted.is_empty() || estimate.is_nan() {
        return None;
    }
    let below = sorted.partition_point(|&d| d < estimate);
    let ties = sorted.partition_point(|&d| d <= estimate) - below;
    let share = (below as f64 + 0.5 * ties as f64) / sorted.len() as f64;
    let edge = 0.5 / sorted.len() as f64;
    let bias = normal_quantile(share.clamp(edge, 1.0 - edge));
    let mean = jackknife.iter().sum::<f64>() / jackknife.len().max(1) as f64;
    let square: f64 = jackknife.iter().map(|j| (mean - j).powi(2)).sum();
    let cube: f64 = jackknife.iter().map(|j| (mean - j).powi(3)).sum();
    let acceleration = if square > 0.0 {
        cube / (6.0 * square.powf(1.5))
    } else {
        0.0
    };
    let level = |z: f64| {
        let shifted = bias + z;
        normal_cdf(bias + shifted / (1.0 - acceleration * shifted))
    };
    let z = critical(confidence);
    let (low, high) = (quantile(&sorted, level(-z))?, quantile(&sorted, level(z))?);
    Some(Interval {
        low: low.min(high),
        high: high.max(low),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn weights_are_poisson() {
        let mut counts = [0usize; 16];
        let mut weights = [0u8; 1000];
        for cluster in 0..1000u64 {
            weights_of(1, cluster, 0, &mut weights);
            weights.iter().for_each(|&w| counts[w as usize] += 1);
        }
        let mut p = (-1.0f64).exp();
        for (k, &count) in counts.iter().enumerate().take(7) {
            let expected = p * 1e6;
            assert!(
                (count as f64 - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                "{k}: {count} against {expected}"
            );
            p /= (k + 1) as f64;
        }
    }

    #[test]
    fn a_draw_is_the_same_in_any_company_order_and_thread_count() {
        let rows: Vec<ClusterRow<2>> = (0..500u64).map(|i| (i % 90, [1.0, (i as f64 * 0.37).sin()])).collect();
        let draws = ClusterSums::from_rows(rows.clone()).draws(1000, 9);
        let reversed: Vec<_> = rows.iter().rev().copied().collect();
        assert_eq!(ClusterSums::from_rows(reversed).draws(1000, 9), draws);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(
            pool.install(|| ClusterSums::from_rows(rows.clone()).draws(1000, 9)),
            draws
        );
        let fewer = ClusterSums::from_rows(rows).draws(300, 9);
        assert_eq!(fewer[1][..], draws[1][..300]);
    }

    #[test]
    fn equal_clusters_are_added_as_whole_numbers() {
        let rows: Vec<ClusterRow<3>> = (0..9000u64)
            .map(|i| {
                (
                    i,
                    [1.0, f64::from(u8::from(i % 3 == 0)), f64::from(u8::from(i % 5 == 0))],
                )
            })
            .collect();
        let sums = ClusterSums::from_rows(rows);
        let order = sums.alike().unwrap();
        assert_eq!(sums.chunk_alike(&order, 512, 3), sums.chunk(512, 3));
        let apart: Vec<ClusterRow<1>> = (0..90u64).map(|i| (i, [i as f64])).collect();
        assert_eq!(ClusterSums::from_rows(apart).alike(), None);
    }

    #[test]
    fn selected_ranks_are_those_of_the_sorted_values() {
        let values: Vec<f64> = (0..997).map(|i| f64::from((i * 7919) % 499)).collect();
        let sorted = defined(&values);
        for q in [0.0, 0.025, 0.3337, 0.5, 0.975, 1.0] {
            assert_eq!(selected(&mut values.clone(), q), quantile(&sorted, q));
        }
        assert_eq!(selected(&mut [], 0.5), None);
    }

    #[test]
    fn quantiles_are_numpys() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.4), Some(2.2));
        assert_eq!(quantile(&[], 0.4), None);
        assert_eq!(quantile(&[5.0], 0.9), Some(5.0));
    }

    #[test]
    fn bca_without_bias_or_skew_is_the_percentile_interval() {
        let draws: Vec<f64> = (-5000..=5000).map(f64::from).collect();
        let b = bca(&draws, 0.0, &[-1.0, 0.0, 1.0], 0.95).unwrap();
        let p = percentile(&draws, 0.95).unwrap();
        assert!((b.low - p.low).abs() < 1e-6 && (b.high - p.high).abs() < 1e-6);
        // Skew to the right moves both ends to the right.
        let skewed = bca(&draws, 0.0, &[-1.0, -1.0, 1.0, 1.0, -6.0], 0.95).unwrap();
        assert!(skewed.low > p.low && skewed.high > p.high);
    }
}
