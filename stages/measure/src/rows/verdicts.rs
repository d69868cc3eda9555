//! Scores and verdicts of a group as numbers.
//!
//! Scores become verdicts before they are counted, each row by its own threshold, so that groups whose rows have different
//! thresholds (`cases`) are counted like any other: a verdict is 1 or 0, and the counting threshold lies between them.

use fracture_science::{Bounds, bounds_between};
use fracture_stage::Error;

use super::{Contrast, Measured, PairTable, Sample, Slots};
use crate::parameters::Aggregate;

/// Between a verdict of 0 and one of 1.
pub const BETWEEN: f64 = 0.5;

/// What stands for an invalid score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Nothing: it takes no part.
    Out,
    /// A safe one; in a mean, 0.
    Safe,
    /// An unsafe one; in a mean, 1.
    Unsafe,
}

impl Invalid {
    fn verdict(self) -> f64 {
        match self {
            Self::Out => f64::NAN,
            Self::Safe => 0.0,
            Self::Unsafe => 1.0,
        }
    }
}

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
        self.verdicts_with(group, contrast, aggregate, tau, Invalid::Out)
    }

    /// What invalid scores could change. A sample that one regime lacks was never scored: it stays out.
    ///
    /// # Errors
    /// As [`Self::verdicts`].
    pub fn bounds(&self, group: usize, contrast: Contrast, aggregate: Aggregate) -> Result<Option<Bounds>, Error> {
        let all = |invalid| self.verdicts_with(group, contrast, aggregate, |sample| sample.tau, invalid);
        let (safe, harmful) = (all(Invalid::Safe)?, all(Invalid::Unsafe)?);
        Ok(bounds_between(
            &safe.pairs(),
            &harmful.pairs(),
            BETWEEN,
            aggregate.into(),
        ))
    }

    fn verdicts_with(
        &self,
        group: usize,
        contrast: Contrast,
        aggregate: Aggregate,
        tau: fn(&Sample) -> f64,
        invalid: Invalid,
    ) -> Result<PairTable, Error> {
        let mut several = false;
        let table = self.pair_table(group, contrast, |slots, out| {
            if aggregate == Aggregate::Mean {
                several |= mean_verdict(slots, tau, invalid, out);
            } else {
                let verdict = |sample: &Sample| match verdict(sample.score, tau(sample)) {
                    none if none.is_nan() => invalid.verdict(),
                    verdict => verdict,
                };
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

/// The verdict on the mean of the scores, once per sample so that the number of samples stays known. Returns whether the
/// valid samples have several thresholds.
fn mean_verdict(slots: &Slots<'_>, tau: fn(&Sample) -> f64, invalid: Invalid, out: &mut Vec<f64>) -> bool {
    let valid = || slots.iter().flatten().filter(|sample| !sample.score.is_nan());
    let (mut sum, mut count) = (0.0, 0u32);
    for sample in slots.iter().flatten() {
        let score = if sample.score.is_nan() {
            invalid.verdict()
        } else {
            sample.score
        };
        if !score.is_nan() {
            sum += score;
            count += 1;
        }
    }
    let mut known = slots.iter().flatten().map(|sample| tau(sample));
    let threshold = match valid().next() {
        Some(first) => tau(first),
        // Rows without a score may lack the threshold too; any other one of theirs is as good as the first.
        None => known.find(|tau| !tau.is_nan()).unwrap_or(BETWEEN),
    };
    let mean = if count == 0 { f64::NAN } else { sum / f64::from(count) };
    out.extend(slots.iter().map(|_| verdict(mean, threshold)));
    valid().any(|sample| tau(sample) != threshold && !(tau(sample).is_nan() && threshold.is_nan()))
}
