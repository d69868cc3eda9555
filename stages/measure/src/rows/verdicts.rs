//! Scores and verdicts of a group as numbers.
//!
//! Scores become verdicts before they are counted, each row by its own threshold, so that groups whose rows have different
//! thresholds (`cases`) are counted like any other: a verdict is 1 or 0, and the counting threshold lies between them.

use fracture_stage::Error;

use super::{Contrast, Measured, PairTable, Sample, Slots};
use crate::parameters::Aggregate;

/// Between a verdict of 0 and one of 1.
pub const BETWEEN: f64 = 0.5;

impl Measured {
    /// The verdicts of a group as numbers: 1 for unsafe, 0 for safe, NaN for invalid. `tau` says which of a row's thresholds
    /// holds.
    ///
    /// # Errors
    /// When the samples of one item and regime have different thresholds under `mean`.
    pub fn verdicts(
        &self,
        group: usize,
        contrast: Contrast,
        aggregate: Aggregate,
        tau: fn(&Sample) -> f64,
    ) -> Result<PairTable, Error> {
        let mut several = false;
        let table = self.pair_table(group, contrast, |slots, out| {
            if aggregate == Aggregate::Mean {
                several |= mean_verdict(slots, tau, out);
            } else {
                let verdict = |sample: &Sample| verdict(sample.score, tau(sample));
                out.extend(slots.iter().map(|slot| slot.map_or(f64::NAN, verdict)));
            }
        });
        if several {
            return Err(Error::pipeline(
                "samples of one item and regime have different values of tau, so their mean has none",
            )
            .hint("choose `cases` by columns that all samples share, or say `aggregate: product`"));
        }
        Ok(table)
    }

    /// The scores of a group; NaN is invalid.
    pub fn scores(&self, group: usize, contrast: Contrast) -> PairTable {
        self.pair_table(group, contrast, |slots, out| {
            out.extend(slots.iter().map(|slot| slot.map_or(f64::NAN, |sample| sample.score)));
        })
    }
}

/// Whether a score is unsafe, as 1 or 0. NaN is no verdict.
pub fn verdict(score: f64, tau: f64) -> f64 {
    if score.is_nan() || tau.is_nan() {
        return f64::NAN;
    }
    f64::from(u8::from(score >= tau))
}

/// The verdict on the mean of the valid scores, once per sample so that the number of samples stays known. Returns whether
/// the samples have several thresholds.
fn mean_verdict(slots: &Slots<'_>, tau: fn(&Sample) -> f64, out: &mut Vec<f64>) -> bool {
    let valid = || slots.iter().flatten().filter(|sample| !sample.score.is_nan());
    let count = valid().count();
    let Some(first) = valid().next() else {
        out.extend(slots.iter().map(|_| f64::NAN));
        return false;
    };
    let mean = valid().map(|sample| sample.score).sum::<f64>() / count as f64;
    out.extend(slots.iter().map(|_| verdict(mean, tau(first))));
    valid().any(|sample| tau(sample) != tau(first) && !(tau(sample).is_nan() && tau(first).is_nan()))
}
