//! The manifold flow: where completions move in embedding space from the first regime to the second (SCIENCE.md B3).

use serde::Serialize;

use crate::bootstrap::ClusterSums;
use crate::error::{Result, ScienceError, require};
use crate::hash::{Stream, purpose};
use crate::interval::Estimate;
use crate::linear::{dot, symmetric_eigen};
use crate::median::median_interval;

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

/// Items in the order of their identity: sums over floats depend on their order.
pub(crate) fn by_identity<'a>(items: &[FlowItem<'a>]) -> Result<Vec<FlowItem<'a>>> {
    let mut sorted = items.to_vec();
    sorted.sort_by_key(|i| (i.cluster, i.item));
    let dimension = items.first().map_or(0, |i| i.first.len());
    for side in sorted.iter().flat_map(|i| [i.first, i.second]) {
        if side.len() != dimension {
            let what = "embeddings of one group must have one dimension".to_owned();
            return Err(ScienceError::Shape {
                what,
                expected: dimension,
                found: side.len(),
            });
        }
        if let Some(&bad) = side.iter().find(|x| !x.is_finite()) {
            require(false, "embedding", bad, "finite")?;
        }
    }
    Ok(sorted)
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
    let items = by_identity(items)?;
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
        first_direction_share: first_direction_share(&deltas),
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

/// The largest eigenvalue of the uncentred second moment over its trace, by the smaller of the two Gram matrices.
fn first_direction_share(deltas: &[Vec<f64>]) -> Option<f64> {
    let trace: f64 = deltas.iter().map(|d| dot(d, d)).sum();
    if trace <= 0.0 {
        return None;
    }
    leading(deltas, 1).first().map(|(value, _)| value / trace)
}

/// The leading `count` eigenpairs of `X^T X` (rows of `rows` are observations), by subspace iteration from a fixed start.
pub(crate) fn leading(rows: &[Vec<f64>], count: usize) -> Vec<(f64, Vec<f64>)> {
    let dimension = rows.first().map_or(0, Vec::len);
    let width = (count + 4).min(dimension).min(rows.len().max(1));
    let start = |k: usize| Stream::new(0, purpose::BASIS, k as u64);
    let mut basis: Vec<Vec<f64>> = (0..width)
        .map(|k| {
            (0..dimension as u64)
                .map(|j| start(k).word(j) as f64 / u64::MAX as f64 - 0.5)
                .collect()
        })
        .collect();
    orthonormalise(&mut basis);
    let mut previous = vec![0.0; width];
    for _ in 0..300 {
        let mut image = vec![vec![0.0; dimension]; basis.len()];
        for row in rows {
            for (b, out) in basis.iter().zip(&mut image) {
                let along = dot(row, b);
                out.iter_mut().zip(row).for_each(|(o, x)| *o += along * x);
            }
        }
        // Rayleigh-Ritz: the small projected matrix orders the directions, so that close eigenvalues come apart.
        let n = basis.len();
        let projected: Vec<f64> = (0..n * n).map(|ij| dot(&basis[ij / n], &image[ij % n])).collect();
        let (values, vectors) = symmetric_eigen(&projected, n);
        basis = vectors
            .iter()
            .map(|v| {
                (0..dimension)
                    .map(|j| v.iter().zip(&image).map(|(c, row)| c * row[j]).sum())
                    .collect()
            })
            .collect();
        orthonormalise(&mut basis);
        let moved = values
            .iter()
            .zip(&previous)
            .take(count)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        let done = moved <= 1e-13 * values.first().copied().unwrap_or(0.0);
        previous = values;
        if done {
            break;
        }
    }
    previous
        .into_iter()
        .zip(basis)
        .take(count)
        .map(|(value, v)| (value, crate::linear::oriented(v)))
        .collect()
}

/// Modified Gram–Schmidt, twice for accuracy; a vector that vanishes is dropped.
fn orthonormalise(basis: &mut Vec<Vec<f64>>) {
    let mut done: Vec<Vec<f64>> = Vec::with_capacity(basis.len());
    for mut vector in basis.drain(..) {
        let before = dot(&vector, &vector).sqrt();
        for _ in 0..2 {
            for other in &done {
                let along = dot(&vector, other);
                vector.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let length = dot(&vector, &vector).sqrt();
        if length > 1e-12 * before && length > 0.0 {
            vector.iter_mut().for_each(|x| *x /= length);
            done.push(vector);
        }
    }
    *basis = done;
}

/// Two-sided sign-flip p of `|sum of deltas|`: `delta -> +-delta`, clusters together. By the clusters' Gram matrix where
/// there are few clusters, so that a draw costs nothing in the dimension.
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
    let clusters = ClusterSums::from_sorted(ids, sums, dimension);
    let total = clusters.total();
    let observed = dot(&total, &total);
    let scale: f64 = (0..clusters.len())
        .map(|c| dot(clusters.row(c), clusters.row(c)).sqrt())
        .sum();
    if scale == 0.0 {
        return Some(1.0);
    }
    if draws == 0 {
        return None;
    }
    let bar = observed - 1e-12 * scale * scale;
    let reached = (0..draws as u64)
        .filter(|&draw| {
            let mut sum = vec![0.0; dimension];
            for (c, &id) in clusters.ids().iter().enumerate() {
                let sign = if Stream::new(seed, purpose::SIGN_FLIP, id).word(draw / 64) >> (draw % 64) & 1 == 1 {
                    -1.0
                } else {
                    1.0
                };
                sum.iter_mut().zip(clusters.row(c)).for_each(|(s, x)| *s += sign * x);
            }
            dot(&sum, &sum) >= bar
        })
        .count();
    Some((reached + 1) as f64 / (draws + 1) as f64)
}

/// Principal components of pooled points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Principal {
    /// The mean that was taken away.
    pub mean: Vec<f64>,
    /// Unit directions, largest variance first; their largest component is positive.
    pub directions: Vec<Vec<f64>>,
    /// Each direction's share of the whole variance.
    pub shares: Vec<f64>,
}

impl Principal {
    /// The coordinates of a point along the directions.
    pub fn project(&self, point: &[f64]) -> Vec<f64> {
        let centred: Vec<f64> = point.iter().zip(&self.mean).map(|(x, m)| x - m).collect();
        self.directions
            .iter()
            .map(|direction| dot(&centred, direction))
            .collect()
    }
}

/// The first `count` principal components of points, deterministic to the bit. Pass the points of both regimes in the
/// order of their identity.
pub fn principal_components(points: &[&[f64]], count: usize) -> Principal {
    let dimension = points.first().map_or(0, |p| p.len());
    let mut mean = vec![0.0; dimension];
    points
        .iter()
        .for_each(|p| mean.iter_mut().zip(*p).for_each(|(m, x)| *m += x));
    mean.iter_mut().for_each(|m| *m /= points.len().max(1) as f64);
    let centred: Vec<Vec<f64>> = points
        .iter()
        .map(|p| p.iter().zip(&mean).map(|(x, m)| x - m).collect())
        .collect();
    let whole: f64 = centred.iter().map(|c| dot(c, c)).sum();
    let pairs = if whole > 0.0 {
        leading(&centred, count)
    } else {
        Vec::new()
    };
    let shares = pairs.iter().map(|(value, _)| value / whole).collect();
    Principal {
        mean,
        directions: pairs.into_iter().map(|(_, direction)| direction).collect(),
        shares,
    }
}
