//! A few leading eigenvectors of a symmetric matrix, cheaper than all of them: tridiagonal form, bisection, inverse iteration
//! (Golub and Van Loan, 8.4 and 8.2). What it finds is checked against the matrix; the caller computes all where it is not good.

use nalgebra::{DMatrix, SymmetricTridiagonal};

use crate::hash::{Stream, purpose};
use crate::linear::dot;

/// How far from an eigenvector, as a share of the matrix's largest row, counts as none.
const RESIDUAL: f64 = 1e-11;
/// How far from orthogonal two vectors may be.
const SKEW: f64 = 1e-11;

/// The largest `count` eigenvalues of a symmetric `[n, n]` matrix, largest first, and unit eigenvectors. `None` where they
/// could not be told apart well.
pub(crate) fn leading(matrix: &[f64], n: usize, count: usize) -> Option<(Vec<f64>, Vec<Vec<f64>>)> {
    let (q, diagonal, off) = SymmetricTridiagonal::new(DMatrix::from_row_slice(n, n, matrix)).unpack();
    let form = Tridiagonal {
        diagonal: diagonal.iter().copied().collect(),
        off: off.iter().copied().collect(),
    };
    let values: Vec<f64> = (0..count).map(|rank| form.value(n - 1 - rank)).collect();
    let mut inner: Vec<Vec<f64>> = Vec::with_capacity(count);
    for (rank, value) in values.iter().enumerate() {
        let vector = form.vector(*value, rank as u64, &inner)?;
        inner.push(vector);
    }
    let outer = |v: &Vec<f64>| {
        let mut out = vec![0.0; n];
        for (column, weight) in q.column_iter().zip(v) {
            out.iter_mut().zip(column.iter()).for_each(|(o, x)| *o += weight * x);
        }
        out
    };
    let vectors: Vec<Vec<f64>> = inner.iter().map(outer).collect();
    sound(matrix, n, &values, &vectors).then_some((values, vectors))
}

/// Whether these are eigenvectors, at right angles to each other.
fn sound(matrix: &[f64], n: usize, values: &[f64], vectors: &[Vec<f64>]) -> bool {
    let scale = matrix
        .chunks_exact(n)
        .map(|row| row.iter().map(|x| x.abs()).sum::<f64>())
        .fold(0.0, f64::max);
    let good = |value: &f64, vector: &Vec<f64>| {
        let rows = matrix.chunks_exact(n).zip(vector);
        rows.map(|(row, x)| (dot(row, vector) - value * x).abs())
            .fold(0.0, f64::max)
            <= RESIDUAL * scale
    };
    let straight = |at: usize| {
        let before = vectors[..at].iter().map(|other| dot(other, &vectors[at]).abs());
        before.fold(0.0, f64::max) <= SKEW && (dot(&vectors[at], &vectors[at]) - 1.0).abs() <= SKEW
    };
    values.iter().zip(vectors).all(|(value, vector)| good(value, vector)) && (0..vectors.len()).all(straight)
}

/// A symmetric tridiagonal matrix.
struct Tridiagonal {
    diagonal: Vec<f64>,
    off: Vec<f64>,
}

impl Tridiagonal {
    /// A bound of its eigenvalues' size.
    fn reach(&self) -> f64 {
        let beside = |at: usize| self.off.get(at).map_or(0.0, |x| x.abs());
        let row = |at: usize| self.diagonal[at].abs() + beside(at) + if at > 0 { beside(at - 1) } else { 0.0 };
        (0..self.diagonal.len()).map(row).fold(0.0, f64::max)
    }

    /// How many eigenvalues lie below `x` (Sturm's sequence).
    fn below(&self, x: f64, least: f64) -> usize {
        let (mut count, mut pivot) = (0, 1.0);
        for (at, d) in self.diagonal.iter().enumerate() {
            let before = if at > 0 { self.off[at - 1] } else { 0.0 };
            pivot = d - x - before * before / pivot;
            if pivot.abs() < least {
                pivot = -least;
            }
            count += usize::from(pivot < 0.0);
        }
        count
    }

    /// The eigenvalue number `index`, the smallest is 0, by bisection to the last bits.
    fn value(&self, index: usize) -> f64 {
        let reach = self.reach();
        let least = (reach * f64::EPSILON * f64::EPSILON).max(f64::MIN_POSITIVE);
        let (mut low, mut high) = (-reach * 1.001, reach * 1.001);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                break;
            }
            if self.below(middle, least) > index {
                high = middle;
            } else {
                low = middle;
            }
        }
        0.5 * (low + high)
    }

    /// The unit eigenvector of an eigenvalue, at right angles to those before; `None` where nothing is left of it.
    fn vector(&self, value: f64, number: u64, before: &[Vec<f64>]) -> Option<Vec<f64>> {
        let n = self.diagonal.len();
        let stream = Stream::new(0, purpose::BASIS, number);
        let mut x: Vec<f64> = (0..n as u64)
            .map(|j| stream.word(j) as f64 / u64::MAX as f64 - 0.5)
            .collect();
        for _ in 0..4 {
            x = self.solve(value, x);
            let largest = x.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            x.iter_mut().for_each(|x| *x /= largest);
            for _ in 0..2 {
                for other in before {
                    let along = dot(&x, other);
                    x.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
                }
            }
            let length = dot(&x, &x).sqrt();
            if length.is_nan() || length <= 1e-8 {
                return None;
            }
            x.iter_mut().for_each(|x| *x /= length);
        }
        Some(x)
    }

    /// Solves `(T - value) y = x` by elimination with row exchanges; a vanishing pivot becomes a tiny one.
    fn solve(&self, value: f64, mut x: Vec<f64>) -> Vec<f64> {
        let n = self.diagonal.len();
        let tiny = self.reach() * f64::EPSILON;
        let off = |at: usize| self.off.get(at).copied().unwrap_or(0.0);
        // The current row holds columns at, at + 1, at + 2.
        let mut rows: Vec<[f64; 3]> = Vec::with_capacity(n);
        let mut current = [self.diagonal[0] - value, off(0), 0.0];
        for at in 0..n - 1 {
            let next = [off(at), self.diagonal[at + 1] - value, off(at + 1)];
            let (pivot, other) = if next[0].abs() > current[0].abs() {
                x.swap(at, at + 1);
                (next, current)
            } else {
                (current, next)
            };
            let head = if pivot[0].abs() < tiny { tiny } else { pivot[0] };
            let factor = other[0] / head;
            rows.push([head, pivot[1], pivot[2]]);
            current = [other[1] - factor * pivot[1], other[2] - factor * pivot[2], 0.0];
            x[at + 1] -= factor * x[at];
        }
        let head = if current[0].abs() < tiny { tiny } else { current[0] };
        rows.push([head, 0.0, 0.0]);
        for at in (0..n).rev() {
            let right = |ahead: usize, x: &[f64]| x.get(at + ahead).map_or(0.0, |x| rows[at][ahead] * x);
            x[at] = (x[at] - right(1, &x) - right(2, &x)) / rows[at][0];
        }
        x
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linear::symmetric_eigen;

    #[test]
    fn leading_vectors_are_those_of_the_whole() {
        let n = 80;
        let entry = |i: usize, j: usize| {
            let wave = (((i * j) % 97 + i + j) as f64 * 0.7).sin() * 0.3;
            if i == j { 20.0 / (i + 1) as f64 + wave } else { wave }
        };
        let matrix: Vec<f64> = (0..n * n).map(|ij| entry(ij / n, ij % n)).collect();
        let (values, vectors) = leading(&matrix, n, 8).unwrap();
        // All of them: the path without short cuts.
        let (all, whole) = symmetric_eigen(&matrix, n, n);
        for k in 0..8 {
            assert!((values[k] - all[k]).abs() < 1e-12 * all[0]);
            assert!((dot(&vectors[k], &whole[k]).abs() - 1.0).abs() < 1e-9, "{k}");
        }
    }

    #[test]
    fn equal_eigenvalues_are_found_at_right_angles_or_not_at_all() {
        let n = 70;
        let mut matrix = vec![0.0; n * n];
        (0..n).for_each(|i| matrix[i * n + i] = if i < 5 { 3.0 } else { 1.0 });
        if let Some((values, vectors)) = leading(&matrix, n, 4) {
            assert!(values.iter().all(|value| (value - 3.0).abs() < 1e-12));
            assert!(sound(&matrix, n, &values, &vectors));
        }
        assert!(leading(&vec![0.0; n * n], n, 2).is_none_or(|(values, _)| values == [0.0; 2]));
    }
}
