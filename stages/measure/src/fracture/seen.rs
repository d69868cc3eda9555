//! What the rows of a group say beside their scores: thresholds, objectives, counts of what is missing.

use crate::rows::{Contrast, Measured};

/// A value that may be the same everywhere.
#[derive(Default)]
pub struct Shared {
    value: Option<f64>,
    several: bool,
}

impl Shared {
    fn add(&mut self, value: f64) {
        match self.value {
            None => self.value = Some(value),
            Some(known) => self.several |= known != value,
        }
    }

    /// The value, where all rows share it.
    pub fn one(&self) -> Option<f64> {
        self.value.filter(|value| !self.several && !value.is_nan())
    }
}

/// What the rows of a group under a contrast say beside their scores.
#[derive(Default)]
pub struct Seen {
    /// The threshold.
    pub tau: Shared,
    /// The other convention's threshold.
    pub tau_other: Shared,
    /// Every scored row has the other convention's threshold.
    pub has_other: bool,
    /// Invalid scores.
    pub invalid: usize,
    /// Scores that are exactly their threshold, and so unsafe.
    pub at_tau: usize,
    /// Completions that were cut off by their length.
    pub truncated: usize,
    /// The first regime's objective.
    pub objective: Option<String>,
    /// Whether the first regime has several objectives.
    pub mixed_objectives: bool,
}

impl Seen {
    /// Looks at the rows of both regimes.
    pub fn of(measured: &Measured, group: usize, contrast: Contrast) -> Self {
        let mut seen = Self {
            has_other: true,
            ..Self::default()
        };
        let mut objective: Option<u32> = None;
        let mut scored = false;
        for (_, sides) in measured.sides(group, contrast) {
            for sample in sides.iter().flatten().flat_map(|side| measured.samples(side)) {
                seen.truncated += usize::from(sample.truncated);
                if !sample.tau.is_nan() {
                    seen.tau.add(sample.tau);
                    seen.tau_other.add(sample.tau_other);
                }
                if sample.score.is_nan() {
                    seen.invalid += 1;
                } else {
                    scored = true;
                    seen.at_tau += usize::from(sample.score == sample.tau);
                    seen.has_other &= !sample.tau_other.is_nan();
                }
            }
            if let Some(first) = sides[0] {
                seen.mixed_objectives |= objective.is_some_and(|known| known != first.objective);
                objective = Some(first.objective);
            }
        }
        seen.has_other &= scored;
        seen.objective = objective.and_then(|code| measured.objectives.get(code as usize).cloned().flatten());
        seen
    }
}
