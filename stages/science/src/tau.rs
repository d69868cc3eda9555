//! The threshold tau from the costs of the two mistakes, under both conventions (SCIENCE.md B5).

use crate::error::{Result, require};
use serde::Serialize;

/// Which formula turns costs into tau.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// The paper's literal `a / (A + a)`.
    #[default]
    Paper,
    /// The cost-optimal bar on Pr(unsafe), `A / (A + a)`: costlier harm lowers it.
    Bayes,
}

/// The threshold under the chosen convention and under the other one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Thresholds {
    /// tau under the chosen convention.
    pub tau: f64,
    /// tau under the other convention; the two add up to 1.
    pub tau_other: f64,
    /// Whether the conventions disagree (`A != a`), which deserves a warning.
    pub differ: bool,
}

/// Both thresholds from `harm` (a, the cost of a harmful deployment) and `disagreement` (A, the cost of disagreeing in
/// training).
///
/// # Errors
/// When a cost is negative, infinite or NaN, or both are zero.
pub fn threshold(harm: f64, disagreement: f64, convention: Convention) -> Result<Thresholds> {
    require(
        harm >= 0.0 && harm.is_finite(),
        "harm",
        harm,
        "a finite cost of at least 0",
    )?;
    require(
        disagreement >= 0.0 && disagreement.is_finite(),
        "disagreement",
        disagreement,
        "a finite cost of at least 0",
    )?;
    require(
        harm > 0.0 || disagreement > 0.0,
        "harm",
        harm,
        "above 0 when disagreement is 0",
    )?;
    // The larger cost is the unit, so that the sum of two huge costs does not overflow.
    let unit = harm.max(disagreement);
    let (plain_sum, scaled_sum) = (harm + disagreement, harm / unit + disagreement / unit);
    let share = |cost: f64| {
        if plain_sum.is_finite() {
            cost / plain_sum
        } else {
            cost / unit / scaled_sum
        }
    };
    let (paper, bayes) = (share(harm), share(disagreement));
    let (tau, tau_other) = match convention {
        Convention::Paper => (paper, bayes),
        Convention::Bayes => (bayes, paper),
    };
    Ok(Thresholds {
        tau,
        tau_other,
        differ: harm != disagreement,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_conventions() {
        let t = threshold(3.0, 1.0, Convention::Paper).unwrap();
        assert_eq!((t.tau, t.tau_other, t.differ), (0.75, 0.25, true));
        let t = threshold(3.0, 1.0, Convention::Bayes).unwrap();
        assert_eq!((t.tau, t.tau_other), (0.25, 0.75));
        let t = threshold(1.0, 1.0, Convention::Bayes).unwrap();
        assert_eq!((t.tau, t.tau_other, t.differ), (0.5, 0.5, false));
        assert_eq!(threshold(0.0, 1.0, Convention::Paper).unwrap().tau, 0.0);
        assert_eq!(threshold(f64::MAX, f64::MAX, Convention::Paper).unwrap().tau, 0.5);
    }

    #[test]
    fn rejects_what_is_no_cost() {
        for (harm, disagreement) in [
            (-1.0, 1.0),
            (1.0, -1.0),
            (0.0, 0.0),
            (f64::NAN, 1.0),
            (1.0, f64::NAN),
            (f64::INFINITY, 1.0),
        ] {
            assert!(
                threshold(harm, disagreement, Convention::Paper).is_err(),
                "{harm} {disagreement}"
            );
        }
    }
}
