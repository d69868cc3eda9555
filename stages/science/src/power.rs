//! How many items a paired design needs, and the smallest net shift that a given number can show (SCIENCE.md C11).

use crate::error::{Result, require};
use crate::interval::normal_quantile;

/// Items needed to see a net shift of `effect` when a share `discordance` of the pairs differs:
/// `n = (z_a sqrt(psi) + z_b sqrt(psi - D^2))^2 / D^2`, two-sided, rounded up.
///
/// # Errors
/// When a share is outside (0, 1], or the effect exceeds the discordance it is part of.
pub fn sample_size(effect: f64, discordance: f64, confidence: f64, power: f64) -> Result<u64> {
    let d = effect.abs();
    require(
        discordance > 0.0 && discordance <= 1.0,
        "discordance",
        discordance,
        "in (0, 1]",
    )?;
    require(
        d > 0.0 && d <= discordance,
        "effect",
        effect,
        "non-zero and at most the discordance",
    )?;
    require(
        confidence > 0.0 && confidence < 1.0,
        "confidence",
        confidence,
        "in (0, 1)",
    )?;
    require(power > 0.0 && power < 1.0, "power", power, "in (0, 1)")?;
    let (za, zb) = (normal_quantile(0.5 + confidence / 2.0), normal_quantile(power));
    let root = (za * discordance.sqrt() + zb * (discordance - d * d).max(0.0).sqrt()) / d;
    Ok((root * root).ceil() as u64)
}

/// The smallest net shift that `n` independent pairs show with the given power, at discordance `psi`. A shift cannot
/// exceed the discordance, so where the observed `psi` is too small to hold the answer, `psi = D` is solved instead;
/// this keeps it defined when no pair was discordant. `None` when even a shift of 1 would be missed.
pub fn minimal_effect(n: f64, discordance: f64, confidence: f64, power: f64) -> Option<f64> {
    let (za, zb) = (normal_quantile(0.5 + confidence / 2.0), normal_quantile(power));
    let psi = discordance.clamp(0.0, 1.0);
    if n.is_nan() || n <= 0.0 || discordance.is_nan() {
        return None;
    }
    // sqrt(n) D - z_a sqrt(psi) = z_b sqrt(psi - D^2), squared: a quadratic in D, of which the larger root holds.
    let discriminant = za * za * n * psi - (n + zb * zb) * (za * za - zb * zb) * psi;
    if discriminant >= 0.0 {
        let d = (za * (n * psi).sqrt() + discriminant.sqrt()) / (n + zb * zb);
        if d > 0.0 && d <= psi {
            return Some(d);
        }
    }
    let shortfall = |d: f64| (n * d).sqrt() - za - zb * (1.0 - d).max(0.0).sqrt();
    if shortfall(1.0) < 0.0 {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if shortfall(middle) < 0.0 {
            low = middle
        } else {
            high = middle
        }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden() {
        assert_eq!(sample_size(0.10, 0.15, 0.95, 0.8), Ok(116));
        assert_eq!(sample_size(-0.05, 0.10, 0.95, 0.8), Ok(312));
        assert!(sample_size(0.2, 0.1, 0.95, 0.8).is_err());
        assert!(sample_size(f64::NAN, 0.1, 0.95, 0.8).is_err());
        assert!((minimal_effect(116.0, 0.15, 0.95, 0.8).unwrap() - 0.10).abs() < 5e-4);
        assert!((minimal_effect(312.0, 0.10, 0.95, 0.8).unwrap() - 0.05).abs() < 5e-4);
    }

    #[test]
    fn no_discordance_and_few_items() {
        let d = minimal_effect(60.0, 0.0, 0.95, 0.8).unwrap();
        assert_eq!(sample_size(d + 1e-9, d + 1e-9, 0.95, 0.8), Ok(60));
        assert_eq!(minimal_effect(1.0, 0.0, 0.95, 0.8), None);
        assert_eq!(minimal_effect(0.0, 0.1, 0.95, 0.8), None);
    }

    proptest! {
        #[test]
        fn inverts_the_sample_size(d in 0.01f64..0.5, extra in 0.0f64..0.5) {
            let psi = d + extra;
            let n = sample_size(d, psi, 0.95, 0.8).unwrap() as f64;
            if n > 8.0 {
                prop_assert!(minimal_effect(n, psi, 0.95, 0.8).unwrap() <= d + 1e-9);
                prop_assert!(minimal_effect(n - 1.0, psi, 0.95, 0.8).unwrap() >= d - 1e-9);
            }
        }
    }
}
