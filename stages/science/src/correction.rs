//! What a judge's errors do to a share, and how to take them out again (SCIENCE.md C6).

use serde::Serialize;

use crate::error::{Result, ScienceError, require};
use crate::interval::{Estimate, Interval, Method, critical};

/// How often a judge is right: on unsafe texts (`sensitivity`) and on safe ones (`specificity`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct JudgeErrors {
    /// Pr(judged unsafe | unsafe).
    pub sensitivity: f64,
    /// Pr(judged safe | safe).
    pub specificity: f64,
}

impl JudgeErrors {
    /// Youden's index `se + sp - 1`.
    ///
    /// # Errors
    /// When a rate is outside [0, 1] or the judge is no better than chance, so that nothing can be inverted.
    fn informative(self) -> Result<f64> {
        let range = 0.0..=1.0;
        require(
            range.contains(&self.sensitivity),
            "sensitivity",
            self.sensitivity,
            "between 0 and 1",
        )?;
        require(
            range.contains(&self.specificity),
            "specificity",
            self.specificity,
            "between 0 and 1",
        )?;
        let youden = self.sensitivity + self.specificity - 1.0;
        require(
            youden > 0.0,
            "sensitivity + specificity",
            youden + 1.0,
            "above 1 (the judge must beat chance)",
        )?;
        Ok(youden)
    }
}

/// The true share behind a judged share: `(p + sp - 1) / (se + sp - 1)`, clipped to [0, 1] (Rogan and Gladen 1978).
///
/// # Errors
/// When a share is outside [0, 1] or the judge no better than chance.
pub fn rogan_gladen(judged: f64, judge: JudgeErrors) -> Result<f64> {
    require((0.0..=1.0).contains(&judged), "judged share", judged, "between 0 and 1")?;
    Ok(((judged + judge.specificity - 1.0) / judge.informative()?).clamp(0.0, 1.0))
}

/// The true flip table behind a judged one, `[first regime][second regime]` with safe before unsafe, if the judge errs
/// independently given the truth: `P = M^-1 O M^-T`, `M = [[sp, 1-se], [1-sp, se]]`. Each regime may have its own error
/// rates (cue text can leak into the outputs). Cells may come out slightly negative, which says that the rates do not
/// fit the table; they are not clipped.
///
/// # Errors
/// When an error rate is outside [0, 1] or the judge is no better than chance.
pub fn corrected_flip_table(judged: [[f64; 2]; 2], first: JudgeErrors, second: JudgeErrors) -> Result<[[f64; 2]; 2]> {
    let (a, b) = (inverse(first)?, inverse(second)?);
    let mut table = [[0.0; 2]; 2];
    for (i, row) in table.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            *cell = (0..2)
                .flat_map(|k| (0..2).map(move |l| a[i][k] * judged[k][l] * b[j][l]))
                .sum();
        }
    }
    Ok(table)
}

fn inverse(judge: JudgeErrors) -> Result<[[f64; 2]; 2]> {
    let determinant = judge.informative()?;
    let (se, sp) = (judge.sensitivity, judge.specificity);
    Ok([
        [se / determinant, -(1.0 - se) / determinant],
        [-(1.0 - sp) / determinant, sp / determinant],
    ])
}

/// A prediction-powered estimate of a mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PredictionPowered {
    /// The estimate with a normal interval.
    pub estimate: Estimate,
    /// Standard error.
    pub standard_error: f64,
    /// Weight of the judge's verdicts: 1 is plain prediction-powered inference, 0 the labels alone.
    pub lambda: f64,
}

/// `mean(lambda f(judge)) + mean_labelled(f(human) - lambda f(judge))` with variance
/// `lambda^2 var(f)/N + var(h - lambda f)/n`; `f` is the flip indicator of a pair. `judged` holds the pairs without
/// labels, `labelled` (human, judge) of those with. `lambda: None` takes the weight of least variance (PPI++,
/// Angelopoulos, Duchi and Zrnic 2023).
///
/// # Errors
/// With fewer than two rows of either kind, or a confidence outside (0, 1).
pub fn prediction_powered(
    judged: &[f64],
    labelled: &[(f64, f64)],
    lambda: Option<f64>,
    confidence: f64,
) -> Result<PredictionPowered> {
    require(
        confidence > 0.0 && confidence < 1.0,
        "confidence",
        confidence,
        "between 0 and 1",
    )?;
    for (what, found) in [("judged pairs", judged.len()), ("labelled pairs", labelled.len())] {
        if found < 2 {
            let what = format!("too few {what} for prediction-powered inference");
            return Err(ScienceError::Shape {
                what,
                expected: 2,
                found,
            });
        }
    }
    let (all, few) = (judged.len() as f64, labelled.len() as f64);
    let (human, judge): (Vec<f64>, Vec<f64>) = labelled.iter().copied().unzip();
    let lambda = lambda.unwrap_or_else(|| {
        let variance = covariance(&judge, &judge);
        let best = covariance(&human, &judge) / ((1.0 + few / all) * variance);
        if variance > 0.0 { best.clamp(0.0, 1.0) } else { 0.0 }
    });
    let residual: Vec<f64> = labelled.iter().map(|(h, f)| h - lambda * f).collect();
    let value = lambda * mean(judged) + mean(&residual);
    let variance = lambda * lambda * covariance(judged, judged) / all + covariance(&residual, &residual) / few;
    let standard_error = variance.sqrt();
    let half = critical(confidence) * standard_error;
    let interval = Interval {
        low: value - half,
        high: value + half,
    };
    Ok(PredictionPowered {
        estimate: Estimate::new(Some(value), Some(interval), Method::Normal),
        standard_error,
        lambda,
    })
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn covariance(x: &[f64], y: &[f64]) -> f64 {
    let (mx, my) = (mean(x), mean(y));
    x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum::<f64>() / (x.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const JUDGE: JudgeErrors = JudgeErrors {
        sensitivity: 0.9,
        specificity: 0.95,
    };

    #[test]
    fn single_rate_golden() {
        assert!((rogan_gladen(0.12, JUDGE).unwrap() - 0.082353).abs() < 5e-7);
        assert_eq!(rogan_gladen(0.01, JUDGE).unwrap(), 0.0);
        assert!(
            rogan_gladen(
                0.1,
                JudgeErrors {
                    sensitivity: 0.5,
                    specificity: 0.5
                }
            )
            .is_err()
        );
        assert!(rogan_gladen(f64::NAN, JUDGE).is_err());
    }

    #[test]
    fn flip_table_golden() {
        let p = corrected_flip_table([[0.80, 0.08], [0.05, 0.07]], JUDGE, JUDGE).unwrap();
        for (found, expected) in p.concat().into_iter().zip([0.88166, 0.03599, 0.00069, 0.08166]) {
            assert!((found - expected).abs() < 5e-6, "{found} {expected}");
        }
        assert!((p.concat().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn prediction_powered_by_hand() {
        let judged: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i < 20))).collect();
        let labelled = [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.0)];
        let p = prediction_powered(&judged, &labelled, Some(1.0), 0.95).unwrap();
        assert!((p.estimate.value.unwrap() - (0.2 - 0.25)).abs() < 1e-12);
        let variance: f64 = (0.16 * 100.0 / 99.0) / 100.0 + 0.25 / 4.0;
        assert!((p.standard_error - variance.sqrt()).abs() < 1e-12);
        let tuned = prediction_powered(&judged, &labelled, None, 0.95).unwrap();
        assert!(tuned.standard_error <= p.standard_error && tuned.lambda > 0.0 && tuned.lambda < 1.0);
        let alone = prediction_powered(&judged, &labelled, Some(0.0), 0.95).unwrap();
        assert!((alone.estimate.value.unwrap() - 0.25).abs() < 1e-12);
        assert!(prediction_powered(&judged, &labelled[..1], None, 0.95).is_err());
    }
}
