//! Small dense linear algebra in f64: symmetric eigenvectors, ridge logistic regression. Deterministic, no threads.

use nalgebra::{DMatrix, SymmetricEigen};
use serde::Serialize;

/// The largest `count` eigenvalues of a symmetric `[n, n]` matrix, largest first, and their eigenvectors. Every vector's
/// largest component is positive, so that a sign says something.
pub(crate) fn symmetric_eigen(matrix: &[f64], n: usize, count: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    if n == 0 {
        return (Vec::new(), Vec::new());
    }
    let eigen = SymmetricEigen::new(DMatrix::from_row_slice(n, n, matrix));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
    order.truncate(count);
    let values = order.iter().map(|&i| eigen.eigenvalues[i]).collect();
    let vectors = order
        .iter()
        .map(|&i| oriented(eigen.eigenvectors.column(i).iter().copied().collect()))
        .collect();
    (values, vectors)
}

/// The vector with its largest component (the first among equals) positive.
pub(crate) fn oriented(mut vector: Vec<f64>) -> Vec<f64> {
    let largest = vector
        .iter()
        .copied()
        .fold(0.0f64, |held, x| if x.abs() > held.abs() + 1e-12 { x } else { held });
    if largest < 0.0 {
        vector.iter_mut().for_each(|x| *x = -*x);
    }
    vector
}

/// The product of two vectors, added in eight lanes so that the order is one the processor can keep up with.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut lanes = [0.0f64; 8];
    for (x, y) in a.iter().zip(b) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    let [p, q, r, s, t, u, v, w] = lanes;
    ((p + t) + (q + u)) + ((r + v) + (s + w)) + rest
}

/// A linear score `weights · x + bias`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plane {
    /// The direction in which the score grows.
    pub weights: Vec<f64>,
    /// The score at the origin.
    pub bias: f64,
}

impl Plane {
    /// The score of a point: 0 on the boundary, positive on the unsafe side.
    pub fn score(&self, x: &[f64]) -> f64 {
        dot(&self.weights, x) + self.bias
    }
}

/// Logistic regression with an L2 penalty `0.5 * penalty * |w|^2` on the weights (not the bias), classes balanced by
/// weight. Nesterov's accelerated gradient with the fixed step of the Lipschitz bound and gradient restart: no line
/// search, so that the same data give the same bits.
pub(crate) fn logistic(rows: &[(&[f64], bool)], penalty: f64) -> Plane {
    let dimension = rows.first().map_or(0, |r| r.0.len());
    let positives = rows.iter().filter(|r| r.1).count().max(1) as f64;
    let negatives = rows.iter().filter(|r| !r.1).count().max(1) as f64;
    let weight = |unsafe_: bool| 0.5 / if unsafe_ { positives } else { negatives };
    let curvature: f64 = rows.iter().map(|(x, y)| weight(*y) * (dot(x, x) + 1.0)).sum::<f64>() / 4.0 + penalty;
    let (mut current, mut ahead, mut momentum) = (vec![0.0; dimension + 1], vec![0.0; dimension + 1], 1.0f64);
    for _ in 0..2000 {
        let mut gradient: Vec<f64> = ahead[..dimension].iter().map(|w| penalty * w).chain([0.0]).collect();
        for (x, y) in rows {
            let margin = dot(&ahead[..dimension], x) + ahead[dimension];
            let residual = weight(*y) * (1.0 / (1.0 + (-margin).exp()) - f64::from(u8::from(*y)));
            gradient[..dimension]
                .iter_mut()
                .zip(*x)
                .for_each(|(g, x)| *g += residual * x);
            gradient[dimension] += residual;
        }
        let next: Vec<f64> = ahead.iter().zip(&gradient).map(|(w, g)| w - g / curvature).collect();
        let uphill: f64 = gradient
            .iter()
            .zip(next.iter().zip(&current))
            .map(|(g, (n, c))| g * (n - c))
            .sum();
        let faster = if uphill > 0.0 {
            1.0
        } else {
            0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt())
        };
        let carry = if uphill > 0.0 { 0.0 } else { (momentum - 1.0) / faster };
        ahead = next.iter().zip(&current).map(|(n, c)| n + carry * (n - c)).collect();
        (current, momentum) = (next, faster);
        if dot(&gradient, &gradient).sqrt() < 1e-9 {
            break;
        }
    }
    let bias = current.pop().unwrap_or(0.0);
    Plane { weights: current, bias }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        let n = 6;
        let mut m = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                m[i * n + j] = ((i * j + i + j) as f64 * 0.7).sin();
            }
        }
        let (values, vectors) = symmetric_eigen(&m, n, n);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for i in 0..n {
            for j in 0..n {
                let rebuilt: f64 = (0..n).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                assert!((rebuilt - m[i * n + j]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn logistic_meets_its_own_condition() {
        let x: Vec<Vec<f64>> = (0..60)
            .map(|i| vec![(i as f64 * 0.9).sin(), (i as f64 * 0.31).cos()])
            .collect();
        let rows: Vec<(&[f64], bool)> = x
            .iter()
            .enumerate()
            .map(|(i, x)| (x.as_slice(), x[0] + 0.3 * ((i % 5) as f64 - 2.0) > 0.2))
            .collect();
        let fit = logistic(&rows, 0.01);
        let (p, n) = (
            rows.iter().filter(|r| r.1).count() as f64,
            rows.iter().filter(|r| !r.1).count() as f64,
        );
        let mut gradient = [0.01 * fit.weights[0], 0.01 * fit.weights[1], 0.0];
        for (x, y) in &rows {
            let r = (1.0 / (1.0 + (-fit.score(x)).exp()) - f64::from(u8::from(*y))) * 0.5 / if *y { p } else { n };
            gradient[0] += r * x[0];
            gradient[1] += r * x[1];
            gradient[2] += r;
        }
        assert!(gradient.iter().all(|g| g.abs() < 1e-8), "{gradient:?}");
    }
}
