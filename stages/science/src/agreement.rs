//! Agreement between judges: confusion, Cohen's kappa, Krippendorff's alpha, overlap of the flips they find.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Two judges' verdicts on the same texts, and what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Confusion {
    /// Both unsafe.
    pub both_unsafe: usize,
    /// Unsafe by the first judge alone.
    pub first_only: usize,
    /// Unsafe by the second judge alone.
    pub second_only: usize,
    /// Both safe.
    pub both_safe: usize,
}

impl Confusion {
    /// Number of texts both have judged.
    pub fn n(&self) -> usize {
        self.both_unsafe + self.first_only + self.second_only + self.both_safe
    }

    /// Share of equal verdicts; `None` without texts.
    pub fn agreement(&self) -> Option<f64> {
        (self.n() > 0).then(|| (self.both_unsafe + self.both_safe) as f64 / self.n() as f64)
    }
}

/// The confusion of two judges over texts that both have judged; `None` is a missing verdict.
pub fn confusion(verdicts: impl IntoIterator<Item = (Option<bool>, Option<bool>)>) -> Confusion {
    let mut table = Confusion {
        both_unsafe: 0,
        first_only: 0,
        second_only: 0,
        both_safe: 0,
    };
    for verdict in verdicts {
        match verdict {
            (Some(true), Some(true)) => table.both_unsafe += 1,
            (Some(true), Some(false)) => table.first_only += 1,
            (Some(false), Some(true)) => table.second_only += 1,
            (Some(false), Some(false)) => table.both_safe += 1,
            _ => {}
        }
    }
    table
}

/// Cohen's kappa of two judges (Cohen 1960). `None` where chance agreement is certain, so that nothing can be told.
pub fn cohen_kappa(table: &Confusion) -> Option<f64> {
    let n = table.n() as f64;
    let observed = table.agreement()?;
    let first = (table.both_unsafe + table.first_only) as f64 / n;
    let second = (table.both_unsafe + table.second_only) as f64 / n;
    let chance = first * second + (1.0 - first) * (1.0 - second);
    (chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
}

/// Krippendorff's alpha for nominal verdicts of any number of judges, `units[text][judge]`, `None` where a judge is
/// silent (Krippendorff 2011). `None` when no text has two verdicts or all verdicts are the same category.
pub fn krippendorff_alpha(units: &[Vec<Option<u32>>]) -> Option<f64> {
    let mut by_category: BTreeMap<u32, f64> = BTreeMap::new();
    let (mut pairable, mut disagreement) = (0.0, 0.0);
    for unit in units {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        unit.iter()
            .flatten()
            .for_each(|&category| *counts.entry(category).or_default() += 1.0);
        let m: f64 = counts.values().sum();
        if m < 2.0 {
            continue;
        }
        let equal: f64 = counts.values().map(|c| c * (c - 1.0)).sum();
        disagreement += (m * (m - 1.0) - equal) / (m - 1.0);
        pairable += m;
        counts
            .into_iter()
            .for_each(|(category, c)| *by_category.entry(category).or_default() += c);
    }
    let expected = pairable * pairable - by_category.values().map(|c| c * c).sum::<f64>();
    (expected > 0.0).then(|| 1.0 - (pairable - 1.0) * disagreement / expected)
}

/// Jaccard overlap of the items that flip under two judges; `None` when none flips under either.
pub fn flip_set_jaccard(first: &[u64], second: &[u64]) -> Option<f64> {
    let (a, b): (BTreeSet<u64>, BTreeSet<u64>) = (first.iter().copied().collect(), second.iter().copied().collect());
    let union = a.union(&b).count();
    (union > 0).then(|| a.intersection(&b).count() as f64 / union as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kappa_golden() {
        // 20 and 15 of 50 agree, margins 25/25 and 30/20: agreement .7, chance .5.
        let table = Confusion {
            both_unsafe: 20,
            first_only: 5,
            second_only: 10,
            both_safe: 15,
        };
        assert!((cohen_kappa(&table).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(
            cohen_kappa(&confusion([(Some(true), Some(true)), (None, Some(false))])),
            None
        );
    }

    /// The nominal example of Krippendorff's 2011 note: four observers, twelve units, alpha = .743.
    #[test]
    fn alpha_golden() {
        let columns = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ];
        let units: Vec<Vec<Option<u32>>> = (0..12)
            .map(|unit| columns.iter().map(|c| (c[unit] != 0).then_some(c[unit])).collect())
            .collect();
        assert!((krippendorff_alpha(&units).unwrap() - 0.743).abs() < 5e-4);
        assert_eq!(krippendorff_alpha(&[vec![Some(1), Some(1)]]), None);
        assert_eq!(krippendorff_alpha(&[vec![Some(1), None]]), None);
    }

    #[test]
    fn jaccard() {
        assert_eq!(flip_set_jaccard(&[1, 2, 3], &[3, 2, 4]), Some(0.5));
        assert_eq!(flip_set_jaccard(&[], &[]), None);
    }
}
