//! Agreement of several raters on the same texts, each statistic with its cluster-bootstrap interval (SCIENCE.md C7).

use serde::Serialize;

use crate::agreement::{Confusion, cohen_kappa};
use crate::bootstrap::{ClusterRow, ClusterSums, percentile};
use crate::interval::{Estimate, Method};

/// One text with the verdict of each rater; `None` is a missing one.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedUnit {
    /// Hash of its cluster.
    pub cluster: u64,
    /// One verdict per rater, raters in the same order everywhere.
    pub verdicts: Vec<Option<bool>>,
}

/// Agreement of raters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Texts with at least two verdicts.
    pub n: usize,
    /// Of two raters, on texts both have judged.
    pub confusion: Option<Confusion>,
    /// Share of equal verdicts among pairs of raters, mean over texts.
    pub raw: Estimate,
    /// Cohen's kappa; only of two raters.
    pub cohen: Estimate,
    /// Fleiss' kappa (1971), texts weighed alike when they have different numbers of verdicts.
    pub fleiss: Estimate,
    /// Krippendorff's alpha, nominal; missing verdicts are no disagreement.
    pub alpha: Estimate,
}

/// Columns of the sums of a cluster.
const UNITS: usize = 0;
const AGREEING: usize = 1;
const VERDICTS: usize = 2;
const HARMFUL: usize = 3;
const DISAGREEMENT: usize = 4;
/// Both unsafe, first only, second only, both safe.
const CELLS: usize = 5;

fn row(unit: &RatedUnit) -> Option<ClusterRow<9>> {
    let harmful = unit.verdicts.iter().flatten().filter(|harmful| **harmful).count() as f64;
    let m = unit.verdicts.iter().flatten().count() as f64;
    if m < 2.0 {
        return None;
    }
    let apart = 2.0 * harmful * (m - harmful);
    let mut sums = [0.0; 9];
    sums[UNITS] = 1.0;
    sums[AGREEING] = 1.0 - apart / (m * (m - 1.0));
    sums[VERDICTS] = m;
    sums[HARMFUL] = harmful;
    sums[DISAGREEMENT] = apart / (m - 1.0);
    if let [Some(first), Some(second)] = unit.verdicts[..] {
        sums[CELLS + usize::from(!first) * 2 + usize::from(!second)] = 1.0;
    }
    Some((unit.cluster, sums))
}

fn raw(sums: &[f64]) -> f64 {
    sums[AGREEING] / sums[UNITS]
}

fn cohen(sums: &[f64]) -> f64 {
    let [a, b, c, d] = [sums[CELLS], sums[CELLS + 1], sums[CELLS + 2], sums[CELLS + 3]];
    let n = a + b + c + d;
    let (first, second) = ((a + b) / n, (a + c) / n);
    let chance = first * second + (1.0 - first) * (1.0 - second);
    chance_corrected((a + d) / n, chance)
}

fn fleiss(sums: &[f64]) -> f64 {
    let p = sums[HARMFUL] / sums[VERDICTS];
    chance_corrected(raw(sums), p * p + (1.0 - p) * (1.0 - p))
}

fn alpha(sums: &[f64]) -> f64 {
    let (harmful, safe) = (sums[HARMFUL], sums[VERDICTS] - sums[HARMFUL]);
    let expected = 2.0 * harmful * safe;
    if expected > 0.0 {
        1.0 - (sums[VERDICTS] - 1.0) * sums[DISAGREEMENT] / expected
    } else {
        f64::NAN
    }
}

/// NaN where agreement is certain by chance, so that nothing can be told.
fn chance_corrected(observed: f64, chance: f64) -> f64 {
    if chance < 1.0 {
        (observed - chance) / (1.0 - chance)
    } else {
        f64::NAN
    }
}

/// Agreement of the raters over texts. Statistics that are not defined (a single category, no text with two verdicts) are
/// `None`; intervals need two clusters.
pub fn agreement(units: &[RatedUnit], confidence: f64, bootstrap: usize, seed: u64) -> Agreement {
    let rows: Vec<ClusterRow<9>> = units.iter().filter_map(row).collect();
    let n = rows.len();
    let sums = ClusterSums::from_rows(rows);
    let total = sums.total();
    let two = units.iter().any(|unit| unit.verdicts.len() == 2);
    let columns = if sums.len() >= 2 {
        sums.draws(bootstrap, seed)
    } else {
        Vec::new()
    };
    let estimate = |of: fn(&[f64]) -> f64| {
        let value = (n > 0).then(|| of(&total)).filter(|value| !value.is_nan());
        let draws = columns.first().map_or(0, Vec::len);
        let draw = |b: usize| {
            let mut at = [0.0; 9];
            at.iter_mut().zip(&columns).for_each(|(slot, column)| *slot = column[b]);
            of(&at)
        };
        let drawn: Vec<f64> = (0..draws).map(draw).collect();
        Estimate::new(value, percentile(&drawn, confidence), Method::ClusterBootstrap)
    };
    let count = |cell: usize| total.get(CELLS + cell).map_or(0, |count| *count as usize);
    let confusion = (two && n > 0).then(|| Confusion {
        both_unsafe: count(0),
        first_only: count(1),
        second_only: count(2),
        both_safe: count(3),
    });
    let cohen = if two { estimate(cohen) } else { Estimate::default() };
    debug_assert!(confusion.as_ref().and_then(cohen_kappa).is_some() || cohen.value.is_none());
    Agreement {
        n,
        confusion,
        raw: estimate(raw),
        cohen,
        fleiss: estimate(fleiss),
        alpha: estimate(alpha),
    }
}

/// Overlap of the flips that two judges find: the sum over pairs of the lesser share of flips over that of the greater.
/// With one sample it is the Jaccard index of the two flip sets. `pairs` holds (cluster, share of the first judge, of the
/// second). `None` when none flips under either.
pub fn flip_overlap(pairs: &[(u64, f64, f64)], confidence: f64, bootstrap: usize, seed: u64) -> Estimate {
    let rows = pairs.iter().map(|&(cluster, a, b)| (cluster, [a.min(b), a.max(b)]));
    let sums = ClusterSums::from_rows(rows.collect::<Vec<ClusterRow<2>>>());
    let total = sums.total();
    let value = (!pairs.is_empty() && total[1] > 0.0).then(|| total[0] / total[1]);
    let drawn: Vec<f64> = if sums.len() >= 2 {
        let columns = sums.draws(bootstrap, seed);
        columns[0]
            .iter()
            .zip(&columns[1])
            .map(|(both, either)| both / either)
            .collect()
    } else {
        Vec::new()
    };
    Estimate::new(value, percentile(&drawn, confidence), Method::ClusterBootstrap)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agreement::krippendorff_alpha;
    use proptest::prelude::*;

    fn units(verdicts: &[Vec<Option<bool>>]) -> Vec<RatedUnit> {
        let unit = |(i, verdicts): (usize, &Vec<Option<bool>>)| RatedUnit {
            cluster: i as u64,
            verdicts: verdicts.clone(),
        };
        verdicts.iter().enumerate().map(unit).collect()
    }

    #[test]
    fn two_raters_by_hand() {
        // 20 and 15 of 50 agree, margins 25/25 and 30/20: agreement .7, chance .5.
        let both = |a, b, times| std::iter::repeat_n(vec![Some(a), Some(b)], times);
        let table: Vec<_> = both(true, true, 20)
            .chain(both(true, false, 5))
            .chain(both(false, true, 10))
            .chain(both(false, false, 15))
            .collect();
        let found = agreement(&units(&table), 0.95, 1000, 0);
        assert!((found.cohen.value.unwrap() - 0.4).abs() < 1e-12);
        assert!((found.raw.value.unwrap() - 0.7).abs() < 1e-12);
        // Scott's pi: chance .55^2 + .45^2 = .505.
        assert!((found.fleiss.value.unwrap() - (0.7 - 0.505) / 0.495).abs() < 1e-12);
        assert!(found.cohen.low.unwrap() < 0.3 && found.cohen.high.unwrap() > 0.5);
        assert_eq!(found.confusion.unwrap().first_only, 5);
    }

    #[test]
    fn one_category_and_nothing() {
        let same = agreement(&units(&[vec![Some(true); 3], vec![Some(true); 3]]), 0.95, 200, 0);
        assert_eq!(
            (same.n, same.raw.value, same.alpha.value, same.fleiss.value),
            (2, Some(1.0), None, None)
        );
        let none = agreement(&units(&[vec![Some(true), None]]), 0.95, 200, 0);
        assert_eq!((none.n, none.raw.value, none.cohen.value), (0, None, None));
        assert_eq!(flip_overlap(&[], 0.95, 200, 0).value, None);
        assert_eq!(
            flip_overlap(&[(1, 1.0, 0.0), (2, 1.0, 1.0), (3, 0.0, 0.0)], 0.95, 200, 0).value,
            Some(0.5)
        );
    }

    proptest! {
        #[test]
        fn alpha_is_krippendorffs(
            verdicts in prop::collection::vec(prop::collection::vec(prop::option::of(any::<bool>()), 3), 1..20)
        ) {
            let found = agreement(&units(&verdicts), 0.95, 100, 0).alpha.value;
            let coded: Vec<Vec<Option<u32>>> =
                verdicts.iter().map(|unit| unit.iter().map(|v| v.map(u32::from)).collect()).collect();
            match (found, krippendorff_alpha(&coded)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-9, "{a} {b}"),
                (a, b) => prop_assert_eq!(a, b),
            }
        }
    }
}
