//! Intervals in closed form: Wilson for one share, Newcombe's method 10 for a paired difference, the rule of three.

use serde::Serialize;

/// A closed interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Wilson's score interval of one share.
    Wilson,
    /// Newcombe's method 10 for a difference of paired shares.
    Newcombe10,
    /// Percentiles of a cluster bootstrap.
    ClusterBootstrap,
    /// Normal approximation.
    Normal,
    /// Bias-corrected and accelerated cluster bootstrap.
    Bca,
    /// Nothing was seen to vary: the limit below which an event of that many clusters would stay unseen.
    RuleOfThree,
}

/// A value with its interval. Every part is `None` where it is not defined (no items, one cluster).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct Estimate {
    /// The point estimate.
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// How the interval was made.
    pub method: Option<Method>,
}

impl Estimate {
    /// A value and, where there is one, its interval.
    pub fn new(value: Option<f64>, interval: Option<Interval>, method: Method) -> Self {
        let interval = interval.filter(|_| value.is_some());
        Self {
            value,
            low: interval.map(|i| i.low),
            high: interval.map(|i| i.high),
            method: interval.map(|_| method),
        }
    }
}

/// The quantile of the standard normal distribution: infinite at 0 and 1, `NaN` outside. Newton's and Halley's steps on
/// the complementary error function from a rough start (Hastings' approximation 26.2.23 of Abramowitz and Stegun), to
/// the last digits of a double.
pub fn normal_quantile(p: f64) -> f64 {
    if !(p > 0.0 && p < 1.0) {
        return if p == 0.0 {
            f64::NEG_INFINITY
        } else if p == 1.0 {
            f64::INFINITY
        } else {
            f64::NAN
        };
    }
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let t = (-2.0 * p.ln()).sqrt();
    let numerator = 2.515517 + t * (0.802853 + t * 0.010328);
    let denominator = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308));
    let mut x = numerator / denominator - t;
    for _ in 0..4 {
        let step = (normal_cdf(x) - p) * (2.0 * std::f64::consts::PI).sqrt() * (0.5 * x * x).exp();
        x -= step / (1.0 + 0.5 * x * step);
    }
    x
}

/// The distribution function of the standard normal distribution.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// The two-sided critical value of a confidence level: 1.959964 at 0.95.
pub(crate) fn critical(confidence: f64) -> f64 {
    normal_quantile(0.5 + confidence / 2.0)
}

/// Wilson's score interval of `successes` out of `trials` (Wilson 1927). The ends are exactly 0 and 1 at no success and
/// no failure, where the formula's difference of two equal numbers would leave a residue. `None` without trials.
pub fn wilson(successes: u64, trials: u64, confidence: f64) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (k, n) = (successes as f64, trials as f64);
    let z = critical(confidence);
    let p = k / n;
    let denominator = 1.0 + z * z / n;
    let centre = (p + z * z / (2.0 * n)) / denominator;
    let half = z / denominator * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == trials {
        1.0
    } else {
        (centre + half).min(1.0)
    };
    Some(Interval { low, high })
}

/// The limit on a share of which no instance was seen in `n` independent units: the large-`n` form of the exact bound,
/// `-ln(1 - confidence) / n`, which at 0.95 is the well-known 3/n.
pub fn rule_of_three(n: u64, confidence: f64) -> Option<f64> {
    (n > 0).then(|| (-(1.0 - confidence).ln() / n as f64).min(1.0))
}

/// The correlation phi of a paired 2 × 2 table with Newcombe's continuity correction: a positive `ad - bc` is lessened
/// by `n/2`, not below 0. Zero when a margin is empty.
pub fn phi_corrected(both_unsafe: u64, unsafe_safe: u64, safe_unsafe: u64, both_safe: u64) -> f64 {
    let [a, b, c, d] = [both_unsafe, unsafe_safe, safe_unsafe, both_safe].map(|x| x as f64);
    let margins = (a + b) * (c + d) * (a + c) * (b + d);
    if margins <= 0.0 {
        return 0.0;
    }
    let determinant = a * d - b * c;
    let corrected = if determinant > 0.0 {
        (determinant - (a + b + c + d) / 2.0).max(0.0)
    } else {
        determinant
    };
    corrected / margins.sqrt()
}

/// Interval of the net shift `(safe_unsafe - unsafe_safe) / n` of paired shares: Newcombe (1998), method 10, which joins
/// the Wilson limits of both margins through the corrected phi. `None` without pairs.
pub fn newcombe_10(
    both_unsafe: u64,
    unsafe_safe: u64,
    safe_unsafe: u64,
    both_safe: u64,
    confidence: f64,
) -> Option<Interval> {
    let n = both_unsafe + unsafe_safe + safe_unsafe + both_safe;
    let (second, first) = (both_unsafe + safe_unsafe, both_unsafe + unsafe_safe);
    let w2 = wilson(second, n, confidence)?;
    let w1 = wilson(first, n, confidence)?;
    let (p2, p1) = (second as f64 / n as f64, first as f64 / n as f64);
    let phi = phi_corrected(both_unsafe, unsafe_safe, safe_unsafe, both_safe);
    let reach = |x: f64, y: f64| (x * x - 2.0 * phi * x * y + y * y).max(0.0).sqrt();
    let difference = (safe_unsafe as f64 - unsafe_safe as f64) / n as f64;
    Some(Interval {
        low: (difference - reach(p2 - w2.low, w1.high - p1)).max(-1.0),
        high: (difference + reach(w2.high - p2, p1 - w1.low)).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!(
            (found - expected).abs() <= tolerance,
            "found {found}, expected {expected}"
        );
    }

    #[test]
    fn quantile_is_exact_to_the_last_digits() {
        close(critical(0.95), 1.959963984540054, 1e-14);
        close(normal_cdf(1.959963984540054), 0.975, 1e-15);
        close(normal_quantile(0.8), 0.8416212335729143, 1e-14);
        close(normal_quantile(1e-10), -6.361340902404056, 1e-12);
        close(normal_quantile(0.5), 0.0, 1e-16);
        assert!(normal_quantile(0.0).is_infinite() && normal_quantile(1.5).is_nan());
    }

    #[test]
    fn wilson_golden() {
        for (k, n, low, high) in [
            (0, 200, 0.0, 0.018845),
            (12, 200, 0.034652, 0.101932),
            (25, 200, 0.086120, 0.178014),
            (4, 8, 0.215216, 0.784784),
        ] {
            let w = wilson(k, n, 0.95).unwrap();
            close(w.low, low, 5e-7);
            close(w.high, high, 5e-7);
        }
        assert_eq!(wilson(0, 921, 0.95).unwrap().low, 0.0);
        assert_eq!(wilson(921, 921, 0.95).unwrap().high, 1.0);
        assert_eq!(wilson(0, 0, 0.95), None);
    }

    #[test]
    fn newcombe_golden() {
        close(phi_corrected(20, 5, 25, 150), 0.502345, 5e-7);
        let i = newcombe_10(20, 5, 25, 150, 0.95).unwrap();
        close(i.low, 0.047426, 5e-7);
        close(i.high, 0.154748, 5e-7);
        let mirrored = newcombe_10(20, 25, 5, 150, 0.95).unwrap();
        close(mirrored.low, -i.high, 1e-12);
        assert_eq!(newcombe_10(0, 0, 0, 0, 0.95), None);
        assert!(newcombe_10(0, 0, 1, 0, 0.95).unwrap().high <= 1.0);
    }

    #[test]
    fn rule_of_three_is_three_over_n() {
        close(rule_of_three(200, 0.95).unwrap(), 3.0 / 200.0, 3e-5);
        assert_eq!(rule_of_three(0, 0.95), None);
        assert_eq!(rule_of_three(1, 0.95), Some(1.0));
    }
}
