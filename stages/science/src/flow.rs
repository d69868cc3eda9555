//! The manifold flow: where completions move in embedding space from the first regime to the second (SCIENCE.md B3).

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Result, ScienceError, require};
use crate::hash::{Stream, purpose};
use crate::interval::Estimate;
use crate::linear::dot;
use crate::median::median_interval;
use crate::pca::first_share;
use crate::product::{Matrix, product};

/// One item's embedding in both regimes, each the (re-normalised) mean of its samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowItem<'a> {
    /// Hash of the item's identity.
    pub item: u64,
    /// Hash of its cluster.
    pub cluster: u64,
    /// Embedding under the first regime.
    pub first: &'a [f64],
    /// Embedding under the second regime.
    pub second: &'a [f64],
    /// Whether the completion was judged unsafe in the first and in the second regime; `None` where invalid.
    pub labels: [Option<bool>; 2],
}

/// How far and how uniformly the items move.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Displacement {
    /// Items.
    pub n: usize,
    /// Median length of the displacement, with its BCa interval.
    pub med_drift: Estimate,
    /// Median cosine distance, half the squared length for unit vectors.
    pub med_cosine_drift: Option<f64>,
    /// Length of the mean direction, in [0, 1]; items that do not move have no direction and count as 0.
    pub resultant: Option<f64>,
    /// Share of the squared displacement along its first (uncentred) principal direction.
    pub first_direction_share: Option<f64>,
    /// Sign-flip permutation p of the length of the mean displacement, clusters as wholes.
    pub p_drift: Option<f64>,
}

/// The mean of embeddings, scaled to length 1; `None` when there is none or they cancel.
pub fn embed_mean<'a>(samples: impl IntoIterator<Item = &'a [f64]>) -> Option<Vec<f64>> {
    let mut sum: Vec<f64> = Vec::new();
    for sample in samples {
        if sum.is_empty() {
            sum = vec![0.0; sample.len()];
        }
        sum.iter_mut().zip(sample).for_each(|(s, x)| *s += x);
    }
    let length = dot(&sum, &sum).sqrt();
    (length > 0.0).then(|| sum.into_iter().map(|x| x / length).collect())
}

/// The order of items: by identity, and where one item stands in a group several times (under several models), by what it
/// holds, so that the order of the input is in no sum.
pub(crate) fn order(a: &FlowItem, b: &FlowItem) -> Ordering {
    let points = |i: &FlowItem| [i.first.to_vec(), i.second.to_vec()].concat();
    (a.cluster, a.item).cmp(&(b.cluster, b.item)).then_with(|| {
        let (a, b) = ((points(a), a.labels), (points(b), b.labels));
        let differs = a.0.iter().zip(&b.0).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne());
        differs.unwrap_or_else(|| a.1.cmp(&b.1))
    })
}

/// Where the items lie in the order of their identity: sums over floats depend on their order.
pub(crate) fn by_identity(items: &[FlowItem]) -> Result<Vec<usize>> {
    let dimension = items.first().map_or(0, |i| i.first.len());
    for side in items.iter().flat_map(|i| [i.first, i.second]) {
        check_point(side, dimension)?;
    }
    let mut places: Vec<usize> = (0..items.len()).collect();
    places.sort_by(|&a, &b| order(&items[a], &items[b]));
    Ok(places)
}

/// A point must have the group's dimension and be finite.
pub(crate) fn check_point(point: &[f64], dimension: usize) -> Result<()> {
    if point.len() != dimension {
        return Err(ScienceError::Shape {
            what: "embeddings of one group must have one dimension".to_owned(),
            expected: dimension,
            found: point.len(),
        });
    }
    match point.iter().find(|x| !x.is_finite()) {
        Some(&bad) => require(false, "embedding", bad, "finite").map(drop),
        None => Ok(()),
    }
}

/// The displacements `delta = x_second - x_first` of a group. The drift of the A/A pair is the same computation; the
/// relative drift is the quotient of the two medians.
///
/// # Errors
/// When embeddings differ in dimension or are not finite, or the confidence is outside (0, 1).
pub fn displacement(items: &[FlowItem], confidence: f64, draws: usize, seed: u64) -> Result<Displacement> {
    require(
        confidence > 0.0 && confidence < 1.0,
        "confidence",
        confidence,
        "between 0 and 1",
    )?;
    let items: Vec<FlowItem> = by_identity(items)?.into_iter().map(|place| items[place]).collect();
    let deltas: Vec<Vec<f64>> = items
        .iter()
        .map(|i| i.second.iter().zip(i.first).map(|(d, t)| d - t).collect())
        .collect();
    let lengths: Vec<(u64, f64)> = items
        .iter()
        .zip(&deltas)
        .map(|(i, d)| (i.cluster, dot(d, d).sqrt()))
        .collect();
    let cosine: Vec<f64> = items.iter().map(|i| 1.0 - cosine(i.first, i.second)).collect();
    Ok(Displacement {
        n: items.len(),
        med_drift: median_interval(&lengths, confidence, draws, seed),
        med_cosine_drift: crate::median::median(&cosine),
        resultant: resultant(&deltas),
        first_direction_share: first_share(&deltas),
        p_drift: sign_flip_length(&items, &deltas, draws, seed),
    })
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Length of the mean unit displacement.
fn resultant(deltas: &[Vec<f64>]) -> Option<f64> {
    let mut sum = vec![0.0; deltas.first()?.len()];
    for delta in deltas {
        let length = dot(delta, delta).sqrt();
        if length > 0.0 {
            sum.iter_mut().zip(delta).for_each(|(s, x)| *s += x / length);
        }
    }
    Some(dot(&sum, &sum).sqrt() / deltas.len() as f64)
}

/// Draws of signs that one product takes.
const SIGNS: usize = 256;

/// Two-sided sign-flip p of `|sum of deltas|`: `delta -> +-delta`, clusters together.
fn sign_flip_length(items: &[FlowItem], deltas: &[Vec<f64>], draws: usize, seed: u64) -> Option<f64> {
    let dimension = deltas.first()?.len();
    let (mut ids, mut sums) = (Vec::<u64>::new(), Vec::<f64>::new());
    for (item, delta) in items.iter().zip(deltas) {
        if ids.last() != Some(&item.cluster) {
            ids.push(item.cluster);
            sums.resize(sums.len() + dimension, 0.0);
        }
        let start = sums.len() - dimension;
        sums[start..].iter_mut().zip(delta).for_each(|(s, x)| *s += x);
    }
    let lengths: f64 = sums
        .chunks_exact(dimension.max(1))
        .map(|row| dot(row, row).sqrt())
        .sum();
    if lengths == 0.0 {
        return Some(1.0);
    }
    if draws == 0 {
        return None;
    }
    let mut total = vec![0.0; dimension];
    for row in sums.chunks_exact(dimension) {
        total.iter_mut().zip(row).for_each(|(t, x)| *t += x);
    }
    // Rounding must not count against a draw that flips everything or nothing.
    let bar = dot(&total, &total) - 1e-12 * lengths * lengths;
    let reached: usize = (0..draws.div_ceil(SIGNS))
        .into_par_iter()
        .map(|chunk| {
            let first = chunk * SIGNS;
            let count = SIGNS.min(draws - first);
            reached(&sums, &ids, seed, first..first + count, bar)
        })
        .sum();
    Some((reached + 1) as f64 / (draws + 1) as f64)
}

/// How many of these draws of signs give a sum whose squared length reaches the bar. A draw is one row of a product of signs
/// with the clusters' sums `[clusters, dimension]`.
fn reached(sums: &[f64], ids: &[u64], seed: u64, draws: std::ops::Range<usize>, bar: f64) -> usize {
    let (count, dimension) = (draws.len(), sums.len() / ids.len());
    let mut signs = vec![0.0; count * ids.len()];
    for (cluster, &id) in ids.iter().enumerate() {
        let stream = Stream::new(seed, purpose::SIGN_FLIP, id);
        for (row, draw) in draws.clone().enumerate() {
            let flipped = stream.word(draw as u64 / 64) >> (draw % 64) & 1 == 1;
            signs[row * ids.len() + cluster] = if flipped { -1.0 } else { 1.0 };
        }
    }
    let mut out = vec![0.0; count * dimension];
    let clusters = ids.len();
    product(
        Matrix::rows(&signs, count, clusters, 0),
        Matrix::rows(sums, clusters, dimension, 0),
        &mut out,
    );
    out.chunks_exact(dimension).filter(|sum| dot(sum, sum) >= bar).count()
}
