//! A simultaneous band of the gap of the frontier: max-t over all thresholds, from the cluster bootstrap.

use crate::bootstrap::{ClusterSums, quantile};
use crate::frontier::{FrontierOptions, FrontierPoint, ItemScore};

/// The most thresholds at which the band is computed; between them it takes the wider of the two neighbours. A gap of
/// many thousand items moves by less than its standard error between neighbours so far apart.
const NODES: usize = 200;

/// Draws of the band at most: the maximum over thresholds needs a quantile, not its tail's last digit.
const DRAWS: usize = 2_000;

/// Fills `low` and `high` of the points with a band that holds the whole gap at once: the gap plus and minus its
/// bootstrap SE times the quantile of the largest standardised deviation over thresholds. Nothing is filled with fewer
/// than two clusters. Returns the one-sided p of the largest standardised gap: the share of draws whose largest deviation
/// upwards reaches it, so a small one says that deploy risk exceeds train risk at some threshold.
pub(crate) fn simultaneous_band(
    scores: &[ItemScore],
    points: &mut [FrontierPoint],
    options: &FrontierOptions,
) -> Option<f64> {
    let nodes = nodes(points.len());
    let sums = gap_sums(scores, points, &nodes);
    let draws = options.bootstrap.min(DRAWS);
    if sums.len() < 2 || draws == 0 {
        return None;
    }
    let mut columns = sums.draws(draws, options.seed);
    let weights = columns.pop().unwrap_or_default();
    let (mut largest, mut upwards, mut observed) = (vec![0.0f64; draws], vec![0.0f64; draws], 0.0f64);
    let mut errors = Vec::with_capacity(nodes.len());
    for (column, &node) in columns.iter().zip(&nodes) {
        let gap = points[node].gap;
        let deviations: Vec<f64> = column.iter().zip(&weights).map(|(x, n)| x / n - gap).collect();
        let defined = deviations.iter().filter(|d| !d.is_nan()).count().max(1) as f64;
        let error = (deviations.iter().filter(|d| !d.is_nan()).map(|d| d * d).sum::<f64>() / defined).sqrt();
        if error > 0.0 {
            observed = observed.max(gap / error);
            for ((largest, upwards), d) in largest.iter_mut().zip(&mut upwards).zip(&deviations) {
                *largest = largest.max(d.abs() / error);
                *upwards = upwards.max(d / error);
            }
        }
        errors.push(error);
    }
    largest.sort_unstable_by(f64::total_cmp);
    let reach = quantile(&largest, options.confidence).unwrap_or(0.0);
    for (between, error) in nodes.windows(2).zip(errors.windows(2)) {
        let error = error[0].max(error[1]);
        points[between[0]..=between[1]]
            .iter_mut()
            .for_each(|point| widen(point, reach * error));
    }
    for (&node, error) in nodes.iter().zip(&errors) {
        widen(&mut points[node], reach * error);
    }
    // A rounding error below counts as reached: the bootstrap repeats the sample itself.
    let reached = upwards.iter().filter(|up| **up >= observed * (1.0 - 1e-12)).count();
    Some((reached + 1) as f64 / (draws + 1) as f64)
}

fn widen(point: &mut FrontierPoint, half: f64) {
    point.low = Some((point.gap - half).max(-1.0));
    point.high = Some((point.gap + half).min(1.0));
}

/// Evenly spaced indices of at most `NODES` points, both ends among them.
fn nodes(points: usize) -> Vec<usize> {
    if points <= NODES {
        return (0..points).collect();
    }
    (0..NODES).map(|i| i * (points - 1) / (NODES - 1)).collect()
}

/// Per cluster: the sum of `[v >= t] - [u >= t]` at every node, then the number of items.
fn gap_sums(scores: &[ItemScore], points: &[FrontierPoint], nodes: &[usize]) -> ClusterSums {
    let thresholds: Vec<f64> = nodes.iter().map(|&node| points[node].threshold).collect();
    let width = thresholds.len() + 1;
    let (mut ids, mut sums) = (Vec::<u64>::new(), Vec::<f64>::new());
    // `scores` come sorted by cluster.
    for score in scores {
        if ids.last() != Some(&score.cluster) {
            ids.push(score.cluster);
            sums.resize(sums.len() + width, 0.0);
        }
        let start = sums.len() - width;
        let row = &mut sums[start..];
        let upto = |s: f64| thresholds.partition_point(|&t| t <= s);
        let (u, v) = (upto(score.first), upto(score.second));
        let (range, step) = if u <= v { (u..v, 1.0) } else { (v..u, -1.0) };
        row[range].iter_mut().for_each(|sum| *sum += step);
        row[width - 1] += 1.0;
    }
    ClusterSums::from_sorted(ids, sums, width)
}
