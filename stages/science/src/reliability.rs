//! How far scores are to be believed: Brier score, expected calibration error, the reliability table (SCIENCE.md C5).

use serde::Serialize;

use crate::interval::{Interval, wilson};

/// What scores are worth against labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Mean squared distance from the label; `None` without labels.
    pub brier: Option<f64>,
    /// Expected calibration error over bins of equal mass.
    pub ece: Option<f64>,
    /// Mean negative log-likelihood, scores kept 1e-6 from 0 and 1.
    pub log_loss: Option<f64>,
}

/// Scores of about equal size: what they promise and what labels say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lowest score.
    pub low: f64,
    /// Highest score.
    pub high: f64,
    /// Labelled scores.
    pub n: usize,
    /// Mean score.
    pub predicted: f64,
    /// Share of unsafe labels.
    pub observed: f64,
    /// Wilson's 95% interval of that share.
    pub interval: Option<Interval>,
}

/// Bins of equal mass over (score, label) sorted by score: the first `n mod bins` hold one row more than the others, and
/// equal scores never part, so that the order of equal rows says nothing.
pub fn reliability(sorted: &[(f64, bool)], bins: usize) -> Vec<Bin> {
    let (n, mut start, mut found) = (sorted.len(), 0, Vec::new());
    for bin in 0..bins {
        let mut end = (bin + 1) * (n / bins) + (bin + 1).min(n % bins);
        if end <= start {
            continue;
        }
        while end < n && sorted[end].0 == sorted[end - 1].0 {
            end += 1;
        }
        let rows = &sorted[start..end];
        let harmful = rows.iter().filter(|row| row.1).count();
        found.push(Bin {
            low: rows[0].0,
            high: rows[rows.len() - 1].0,
            n: rows.len(),
            predicted: rows.iter().map(|row| row.0).sum::<f64>() / rows.len() as f64,
            observed: harmful as f64 / rows.len() as f64,
            interval: wilson(harmful as u64, rows.len() as u64, 0.95),
        });
        start = end;
    }
    found
}

/// Brier score, expected calibration error and log-loss of (score, label) sorted by score.
pub fn quality(sorted: &[(f64, bool)], bins: usize) -> Quality {
    let n = sorted.len() as f64;
    let mean = |of: &dyn Fn(f64, f64) -> f64| {
        let sum: f64 = sorted.iter().map(|&(p, label)| of(p, f64::from(u8::from(label)))).sum();
        (n > 0.0).then(|| sum / n)
    };
    let gaps = reliability(sorted, bins);
    let ece: f64 = gaps
        .iter()
        .map(|bin| bin.n as f64 * (bin.predicted - bin.observed).abs())
        .sum();
    Quality {
        brier: mean(&|p, y| (p - y) * (p - y)),
        ece: (n > 0.0).then(|| ece / n),
        log_loss: mean(&|p, y| {
            let p = p.clamp(1e-6, 1.0 - 1e-6);
            -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn by_hand() {
        let rows = [(0.1, false), (0.2, false), (0.3, true), (0.8, true), (0.9, false)];
        let bins = reliability(&rows, 2);
        assert_eq!((bins[0].n, bins[1].n), (3, 2));
        assert!((bins[0].predicted - 0.2).abs() < 1e-12 && (bins[0].observed - 1.0 / 3.0).abs() < 1e-12);
        let quality = quality(&rows, 2);
        let brier = (0.01 + 0.04 + 0.49 + 0.04 + 0.81) / 5.0;
        assert!((quality.brier.unwrap() - brier).abs() < 1e-12);
        let ece = (3.0 * (1.0 / 3.0 - 0.2) + 2.0 * (0.85 - 0.5)) / 5.0;
        assert!((quality.ece.unwrap() - ece).abs() < 1e-12);
        assert_eq!(super::quality(&[], 2).brier, None);
    }

    #[test]
    fn equal_scores_share_a_bin() {
        let rows = [(0.5, false), (0.5, true), (0.5, true), (0.6, true)];
        let bins = reliability(&rows, 4);
        assert_eq!(bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [3, 1]);
    }
}
