//! Principal components, deterministic to the bit: the second moment by blocks of rows, its eigenvectors with fixed signs.
//!
//! Rows are taken in spans of [`SPAN`], each by one thread, whose sums are added in order, so that the number of threads is in
//! no bit. Points are centred before they are multiplied. Large tables are multiplied in f32 within a block of rows and added up
//! in f64, by tiles of our own where the processor has AVX-512 ([`crate::tiles`]); small ones in f64 throughout.

use rayon::prelude::*;
use serde::Serialize;

use crate::linear::{Plane, dot, oriented, symmetric_eigen};
use crate::product::{Element, Matrix, product};
use crate::tiles;

/// Rows of one product.
const BLOCK: usize = 512;
/// Rows whose sums one task adds.
const SPAN: usize = 8 * BLOCK;
/// Columns of one product: only the blocks on and right of the diagonal are computed.
const TILE: usize = 96;
/// Values up to which products are taken in f64: there they cost nothing, beyond it memory and time.
const WIDE: usize = 1 << 22;
/// Rows from which the centre is guessed; what it misses is corrected exactly afterwards.
const PILOT: usize = 1024;
/// A component with less than this share of the variance is noise of the arithmetic.
const NOTHING: f64 = 1e-14;

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

    /// Where a boundary meets the plane of the first two directions through the mean: `(a, b, c)` of `a x + b y + c = 0`,
    /// positive on the unsafe side. `None` with fewer than two directions.
    pub fn line(&self, boundary: &Plane) -> Option<[f64; 3]> {
        let [x, y, ..] = self.directions.as_slice() else {
            return None;
        };
        let weights = &boundary.weights;
        Some([dot(weights, x), dot(weights, y), boundary.score(&self.mean)])
    }
}

/// The first `count` principal components of points of one dimension, f32 or f64, deterministic to the bit. Pass the points
/// of both regimes in the order of their identity: the last bits of a sum depend on it. Directions without variance are left
/// out.
pub fn principal_components<T: Copy + Into<f64> + Sync>(points: &[&[T]], count: usize) -> Principal {
    let dimension = points.first().map_or(0, |p| p.len());
    if points.len().saturating_mul(dimension) <= WIDE {
        components::<T, f64>(points, dimension, count)
    } else {
        components::<T, f32>(points, dimension, count)
    }
}

fn components<T: Copy + Into<f64> + Sync, E: Element>(points: &[&[T]], dimension: usize, count: usize) -> Principal {
    if points.len() < dimension {
        return by_gram(points, mean_of(points, dimension, 1), count);
    }
    let pilot = mean_of(points, dimension, points.len().div_ceil(PILOT).max(1));
    let Moment { sum, second } = moment::<T, E>(points, &pilot);
    let n = points.len().max(1) as f64;
    let off: Vec<f64> = sum.iter().map(|s| s / n).collect();
    let mut covariance = second;
    for i in 0..dimension {
        for j in 0..dimension {
            covariance[i * dimension + j] -= n * off[i] * off[j];
        }
    }
    let whole: f64 = (0..dimension).map(|i| covariance[i * dimension + i]).sum();
    let mean: Vec<f64> = pilot.iter().zip(&off).map(|(p, o)| p + o).collect();
    let (values, vectors) = symmetric_eigen(&covariance, dimension, count);
    kept(mean, whole, values, vectors)
}

/// Fewer points than dimensions: the eigenvectors of the points' products with each other give the directions.
fn by_gram<T: Copy + Into<f64>>(points: &[&[T]], mean: Vec<f64>, count: usize) -> Principal {
    let (n, dimension) = (points.len(), mean.len());
    let centred: Vec<f64> = points
        .iter()
        .flat_map(|p| p.iter().zip(&mean).map(|(x, m)| wide(*x) - m))
        .collect();
    let gram = gram(&centred, n, dimension);
    let whole: f64 = (0..n).map(|i| gram[i * n + i]).sum();
    let (values, vectors) = symmetric_eigen(&gram, n, count);
    let direction = |v: &Vec<f64>| {
        let mut out = vec![0.0; dimension];
        for (row, weight) in centred.chunks_exact(dimension.max(1)).zip(v) {
            out.iter_mut().zip(row).for_each(|(o, x)| *o += weight * x);
        }
        let length = dot(&out, &out).sqrt();
        oriented(out.into_iter().map(|x| x / length).collect())
    };
    let kept_values = values.iter().take_while(|value| **value > NOTHING * whole).count();
    let vectors = vectors[..kept_values].iter().map(direction).collect();
    kept(mean, whole, values, vectors)
}

/// Keeps the directions that have variance.
fn kept(mean: Vec<f64>, whole: f64, values: Vec<f64>, vectors: Vec<Vec<f64>>) -> Principal {
    let real = values.iter().take_while(|value| **value > NOTHING * whole).count();
    let real = if whole > 0.0 { real.min(vectors.len()) } else { 0 };
    Principal {
        mean,
        directions: vectors.into_iter().take(real).collect(),
        shares: values.iter().take(real).map(|value| value / whole).collect(),
    }
}

/// The products of rows with each other, `[n, n]`.
fn gram(rows: &[f64], n: usize, dimension: usize) -> Vec<f64> {
    let matrix = Matrix::rows(rows, n, dimension, 0);
    let mut out = vec![0.0; n * n];
    product(matrix, matrix.transposed(), &mut out);
    out
}

/// The share of the squared length of `rows` along its first direction (uncentred); `None` where all are zero.
pub(crate) fn first_share(rows: &[Vec<f64>]) -> Option<f64> {
    let dimension = rows.first()?.len();
    let whole: f64 = rows.iter().map(|row| dot(row, row)).sum();
    if whole <= 0.0 {
        return None;
    }
    let (matrix, n) = if rows.len() < dimension {
        (gram(&rows.concat(), rows.len(), dimension), rows.len())
    } else {
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        (moment::<f64, f64>(&rows, &vec![0.0; dimension]).second, dimension)
    };
    let (values, _) = symmetric_eigen(&matrix, n, 1);
    values.first().map(|value| (value / whole).clamp(0.0, 1.0))
}

/// A value as f64.
#[inline(always)]
fn wide<T: Into<f64>>(value: T) -> f64 {
    value.into()
}

/// The mean of every `step`-th point.
fn mean_of<T: Copy + Into<f64>>(points: &[&[T]], dimension: usize, step: usize) -> Vec<f64> {
    let mut mean = vec![0.0; dimension];
    let taken = points.iter().step_by(step);
    let n = taken.len().max(1) as f64;
    taken.for_each(|p| mean.iter_mut().zip(*p).for_each(|(m, x)| *m += wide(*x)));
    mean.iter_mut().for_each(|m| *m /= n);
    mean
}

/// Sums over points less a centre.
struct Moment {
    /// `sum of (x - c)`.
    sum: Vec<f64>,
    /// `sum of (x - c)(x - c)^T`, `[dimension, dimension]`.
    second: Vec<f64>,
}

fn moment<T: Copy + Into<f64> + Sync, E: Element>(points: &[&[T]], centre: &[f64]) -> Moment {
    let dimension = centre.len();
    let mut total = Moment {
        sum: vec![0.0; dimension],
        second: vec![0.0; dimension * dimension],
    };
    // A wave of spans at a time, so that memory does not grow with the points.
    for wave in points.chunks(64 * SPAN) {
        let spans: Vec<Moment> = wave
            .par_chunks(SPAN)
            .map(|span| moment_of_span::<T, E>(span, centre))
            .collect();
        for span in spans {
            total.sum.iter_mut().zip(&span.sum).for_each(|(t, s)| *t += s);
            total.second.iter_mut().zip(&span.second).for_each(|(t, s)| *t += s);
        }
    }
    for i in 0..dimension {
        for j in 0..i {
            total.second[i * dimension + j] = total.second[j * dimension + i];
        }
    }
    total
}

/// The sums of a span; of `second` only what lies on and right of the diagonal's tiles.
fn moment_of_span<T: Copy + Into<f64>, E: Element>(span: &[&[T]], centre: &[f64]) -> Moment {
    let dimension = centre.len();
    let mut moment = Moment {
        sum: vec![0.0; dimension],
        second: vec![0.0; dimension * dimension],
    };
    if E::NARROW && tiles::available() {
        tiles::second_moment(span, centre, &mut moment.sum, &mut moment.second);
        return moment;
    }
    let mut block = vec![E::default(); BLOCK.min(span.len()) * dimension];
    let mut tile = vec![E::default(); TILE * dimension];
    for points in span.chunks(BLOCK) {
        for (row, point) in block.chunks_exact_mut(dimension.max(1)).zip(points) {
            for ((x, value), (c, sum)) in row.iter_mut().zip(*point).zip(centre.iter().zip(&mut moment.sum)) {
                let centred = wide(*value) - c;
                *sum += centred;
                *x = E::nearest(centred);
            }
        }
        for from in (0..dimension).step_by(TILE) {
            let right = Matrix::rows(&block, points.len(), dimension, from);
            let rows = TILE.min(dimension - from);
            let out = &mut tile[..rows * (dimension - from)];
            product(right.first(rows).transposed(), right, out);
            for (i, products) in out.chunks_exact(dimension - from).enumerate() {
                let start = (from + i) * dimension + from;
                let sums = &mut moment.second[start..start + dimension - from];
                sums.iter_mut().zip(products).for_each(|(s, p)| *s += wide(*p));
            }
        }
    }
    moment
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn points(n: usize, dimension: usize) -> Vec<Vec<f64>> {
        let value = |i: usize, j: usize| {
            let wave = ((i * (j + 3)) as f64 * 0.37).sin() + 0.2 * ((i * i + 7 * j) as f64 * 0.11).cos();
            wave / (j + 1) as f64 + 3.0
        };
        (0..n).map(|i| (0..dimension).map(|j| value(i, j)).collect()).collect()
    }

    fn slices(points: &[Vec<f64>]) -> Vec<&[f64]> {
        points.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn products_in_f32_move_little_and_threads_nothing() {
        let points = points(9001, 100);
        let (wide, narrow) = (
            components::<f64, f64>(&slices(&points), 100, 4),
            components::<f64, f32>(&slices(&points), 100, 4),
        );
        for (a, b) in wide.shares.iter().zip(&narrow.shares) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        for (a, b) in wide.directions[0].iter().zip(&narrow.directions[0]) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(
                pool.install(|| components::<f64, f32>(&slices(&points), 100, 4)),
                narrow
            );
        }
    }

    #[test]
    fn few_points_give_what_the_covariance_gives() {
        let points = points(20, 30);
        let few = principal_components(&slices(&points), 3);
        let mean = mean_of(&slices(&points), 30, 1);
        let second = moment::<f64, f64>(&slices(&points), &mean).second;
        let (values, vectors) = symmetric_eigen(&second, 30, 3);
        let whole: f64 = (0..30).map(|i| second[i * 31]).sum();
        for k in 0..3 {
            assert!((few.shares[k] - values[k] / whole).abs() < 1e-12);
            assert!((dot(&few.directions[k], &vectors[k]) - 1.0).abs() < 1e-10);
        }
    }

    #[test]
    fn the_variance_along_a_direction_is_its_share() {
        let points = points(300, 7);
        let p = principal_components(&slices(&points), 7);
        assert!((p.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let coordinates: Vec<Vec<f64>> = points.iter().map(|x| p.project(x)).collect();
        let variance = |k: usize| coordinates.iter().map(|c| c[k] * c[k]).sum::<f64>();
        let whole: f64 = (0..7).map(variance).sum();
        for k in 0..7 {
            assert!((variance(k) / whole - p.shares[k]).abs() < 1e-10);
        }
    }
}
