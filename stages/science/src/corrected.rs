//! The flips of a group with the judge's errors taken out, and intervals that carry what the labels leave open
//! (SCIENCE.md C6).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{ClusterSums, percentile};
use crate::correction::{JudgeErrors, corrected_flip_table, prediction_powered};
use crate::error::{Result, ScienceError, require};
use crate::hash::{Stream, purpose};
use crate::interval::{Estimate, Interval, Method, critical, normal_quantile};

/// Safe-safe, safe-unsafe, unsafe-safe, unsafe-unsafe; shares of one pair, or counts.
pub type Cells = [f64; 4];

/// One row of what a correction is made from: a pair with its judged cells, its labels, or both.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CorrectionRow {
    /// Hash of the cluster.
    pub cluster: u64,
    /// The judged flip table of the pair, shares that add up to 1; `None` for a pair that is in no group (labels alone).
    pub judged: Option<Cells>,
    /// The flip table of the pair's labelled samples: by people, and by the judge on the same samples.
    pub labelled: Option<[Cells; 2]>,
    /// Labelled scores in each regime: judged unsafe and unsafe, judged safe and unsafe, judged safe and safe, judged unsafe
    /// and safe.
    pub errors: [Cells; 2],
}

/// A corrected flip table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Corrected {
    /// Pairs with labels in both regimes.
    pub labelled: usize,
    /// FRACTURE.
    pub fracture: Estimate,
    /// ANTI.
    pub anti: Estimate,
    /// FRACTURE less ANTI.
    pub net: Estimate,
    /// Share unsafe in the first regime.
    pub train_unsafe: Estimate,
    /// Share unsafe in the second regime.
    pub deploy_unsafe: Estimate,
    /// Sensitivity in each regime.
    pub sensitivity: [Estimate; 2],
    /// Specificity in each regime.
    pub specificity: [Estimate; 2],
    /// Weight of the judge's verdicts in the prediction-powered estimate.
    pub lambda: Option<f64>,
}

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CorrectionOptions {
    /// Confidence level.
    pub confidence: f64,
    /// Bootstrap draws.
    pub bootstrap: usize,
    /// Their seed.
    pub seed: u64,
}

/// FRACTURE, ANTI, net and both margins of a table of shares.
pub(crate) fn shares([_, su, us, uu]: Cells) -> [f64; 5] {
    [su, us, su - us, us + uu, su + uu]
}

/// Sensitivity and specificity from counts; `NaN` where no such label is there.
fn rates([hit, miss, clear, alarm]: Cells) -> JudgeErrors {
    JudgeErrors {
        sensitivity: hit / (hit + miss),
        specificity: clear / (clear + alarm),
    }
}

/// The corrected shares from summed judged cells and summed error counts.
fn invert(judged: Cells, errors: [Cells; 2]) -> Result<[f64; 5]> {
    let n: f64 = judged.iter().sum();
    let [ss, su, us, uu] = judged.map(|cell| cell / n);
    let table = corrected_flip_table([[ss, su], [us, uu]], rates(errors[0]), rates(errors[1]))?;
    Ok(shares([table[0][0], table[0][1], table[1][0], table[1][1]]))
}

fn four(columns: &[f64]) -> Cells {
    [columns[0], columns[1], columns[2], columns[3]]
}

/// The flip table by matrix inversion `P = M1^-1 O M2^-T`, with the sensitivity and specificity of each regime from its
/// labels. Nothing is clipped: a cell below 0 says that the error rates do not fit the table. The bootstrap draws pairs and
/// labels together, by cluster; every error count gets a pseudo-observation of random weight (Jeffreys' prior), so that an
/// error which no label shows is not taken for impossible.
///
/// # Errors
/// When a regime lacks unsafe or safe labels, or the judge is no better than chance on them.
pub fn inverted(rows: &[CorrectionRow], options: &CorrectionOptions) -> Result<Corrected> {
    let row = |row: &CorrectionRow| {
        let mut sums = [0.0; 12];
        sums[..4].copy_from_slice(&row.judged.unwrap_or_default());
        sums[4..8].copy_from_slice(&row.errors[0]);
        sums[8..].copy_from_slice(&row.errors[1]);
        (row.cluster, sums)
    };
    let sums = ClusterSums::from_rows(rows.iter().map(row).collect());
    let total = sums.total();
    let (judged, errors) = (four(&total), [four(&total[4..]), four(&total[8..])]);
    for (which, counts) in errors.iter().enumerate() {
        let known = [counts[0] + counts[1], counts[2] + counts[3]];
        if let Some(class) = known.iter().position(|count| *count == 0.0) {
            return Err(ScienceError::Unsolvable(format!(
                "no {} text of the {} regime has a label",
                ["unsafe", "safe"][class],
                ["first", "second"][which]
            )));
        }
    }
    let point = if judged.iter().sum::<f64>() > 0.0 {
        Some(invert(judged, errors)?)
    } else {
        None
    };
    let columns = if sums.len() >= 2 {
        sums.draws(options.bootstrap, options.seed)
    } else {
        Vec::new()
    };
    let draws = columns.first().map_or(0, Vec::len);
    let (mut drawn, mut rate_draws) = (vec![Vec::new(); 5], vec![Vec::new(); 4]);
    for b in 0..draws {
        let mut at = [0.0; 12];
        at.iter_mut().zip(&columns).for_each(|(slot, column)| *slot = column[b]);
        for (place, slot) in at[4..].iter_mut().enumerate() {
            *slot += half_gamma(options.seed, b as u64, place as u64);
        }
        let counts = [four(&at[4..]), four(&at[8..])];
        let values = invert(four(&at), counts).unwrap_or([f64::NAN; 5]);
        drawn
            .iter_mut()
            .zip(values)
            .for_each(|(column, value)| column.push(value));
        let found = counts.map(rates).map(|rate| [rate.sensitivity, rate.specificity]);
        rate_draws
            .iter_mut()
            .zip(found.concat())
            .for_each(|(column, value)| column.push(value));
    }
    let estimate = |value: Option<f64>, draws: &[f64]| {
        Estimate::new(value, percentile(draws, options.confidence), Method::ClusterBootstrap)
    };
    let share = |index: usize| estimate(point.map(|point| point[index]), &drawn[index]);
    let [first, second] = errors.map(rates);
    Ok(Corrected {
        labelled: rows
            .iter()
            .filter(|row| row.labelled.is_some() && row.judged.is_some())
            .count(),
        fracture: share(0),
        anti: share(1),
        net: share(2),
        train_unsafe: share(3),
        deploy_unsafe: share(4),
        sensitivity: [
            estimate(Some(first.sensitivity), &rate_draws[0]),
            estimate(Some(second.sensitivity), &rate_draws[2]),
        ],
        specificity: [
            estimate(Some(first.specificity), &rate_draws[1]),
            estimate(Some(second.specificity), &rate_draws[3]),
        ],
        lambda: None,
    })
}

/// A Gamma(1/2) variate: half the square of a normal one.
fn half_gamma(seed: u64, draw: u64, place: u64) -> f64 {
    let word = Stream::new(seed, purpose::PRIOR, place).word(draw);
    let uniform = ((word >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let normal = normal_quantile(uniform);
    0.5 * normal * normal
}

/// The prediction-powered shares: no assumption on how the judge errs, only that labelled pairs are like the others. One
/// weight, that of least variance for FRACTURE, serves all shares, so that they add up. Normal intervals whose variance sums
/// whole clusters; with clusters of one row it is the textbook's `lambda^2 var(f)/N + var(h - lambda f)/n`.
///
/// # Errors
/// With fewer than two labelled pairs.
pub fn powered(rows: &[CorrectionRow], options: &CorrectionOptions) -> Result<Corrected> {
    require(
        options.confidence > 0.0 && options.confidence < 1.0,
        "confidence",
        options.confidence,
        "between 0 and 1",
    )?;
    let mut sorted: Vec<&CorrectionRow> = rows.iter().filter(|row| row.judged.is_some()).collect();
    let bits = |cells: Cells| cells.map(f64::to_bits);
    sorted.sort_by_key(|row| {
        (
            row.cluster,
            row.judged.map(bits),
            row.labelled.map(|both| both.map(bits)),
        )
    });
    let (labelled, judged): (Vec<&CorrectionRow>, Vec<&CorrectionRow>) =
        sorted.into_iter().partition(|row| row.labelled.is_some());
    if labelled.len() < 2 {
        return Err(ScienceError::Unsolvable(format!(
            "{} pairs have labels in both regimes, and prediction-powered inference needs two",
            labelled.len()
        )));
    }
    let of_judged = |which: usize| -> Vec<f64> {
        judged
            .iter()
            .filter_map(|row| row.judged)
            .map(|cells| shares(cells)[which])
            .collect()
    };
    let of_labelled = |which: usize| -> Vec<(f64, f64)> {
        let both = labelled.iter().filter_map(|row| row.labelled);
        both.map(|[human, judge]| (shares(human)[which], shares(judge)[which]))
            .collect()
    };
    // Without pairs beyond the labelled ones the labels say all there is.
    let lambda = if judged.len() < 2 {
        0.0
    } else {
        prediction_powered(&of_judged(0), &of_labelled(0), None, options.confidence)?.lambda
    };
    let estimate = |which: usize| {
        let (all, few) = (of_judged(which), of_labelled(which));
        let residuals: Vec<f64> = few.iter().map(|(human, judge)| human - lambda * judge).collect();
        let (ours, theirs) = (influence(&all, lambda), influence(&residuals, 1.0));
        let mut by_cluster: Vec<(u64, f64)> = judged.iter().map(|row| row.cluster).zip(ours.1).collect();
        by_cluster.extend(labelled.iter().map(|row| row.cluster).zip(theirs.1));
        by_cluster.sort_by_key(|row| row.0);
        let variance: f64 = by_cluster
            .chunk_by(|a, b| a.0 == b.0)
            .map(|rows| rows.iter().map(|row| row.1).sum::<f64>().powi(2))
            .sum();
        let value = lambda * ours.0 + theirs.0;
        let half = critical(options.confidence) * variance.sqrt();
        let interval = Interval {
            low: value - half,
            high: value + half,
        };
        Estimate::new(Some(value), Some(interval), Method::Normal)
    };
    let errors = error_rates(rows);
    Ok(Corrected {
        labelled: labelled.len(),
        fracture: estimate(0),
        anti: estimate(1),
        net: estimate(2),
        train_unsafe: estimate(3),
        deploy_unsafe: estimate(4),
        sensitivity: errors.map(|rate| defined(rate.sensitivity)),
        specificity: errors.map(|rate| defined(rate.specificity)),
        lambda: Some(lambda),
    })
}

/// How far labelled pairs are from having been drawn at random, by what the judge says of them: the greatest of three
/// |z|, of the judge's FRACTURE and of its two margins, labelled pairs against the others. The variance is that of all pairs
/// together, times the mean size of a cluster (weighted by size): what drawing at random would leave. `None` without pairs
/// of both kinds.
pub fn labelled_apart(rows: &[CorrectionRow]) -> Option<f64> {
    let judged: Vec<(&CorrectionRow, [f64; 5])> =
        rows.iter().filter_map(|row| Some((row, shares(row.judged?)))).collect();
    let labelled = judged.iter().filter(|(row, _)| row.labelled.is_some()).count();
    let (with, without) = (labelled as f64, (judged.len() - labelled) as f64);
    if with < 1.0 || without < 1.0 {
        return None;
    }
    let mut sizes: BTreeMap<u64, f64> = BTreeMap::new();
    for (row, _) in &judged {
        *sizes.entry(row.cluster).or_default() += 1.0;
    }
    let all = with + without;
    let design = sizes.values().map(|size| size * size).sum::<f64>() / all;
    let z = |which: usize| {
        let sum = |labelled: bool| -> f64 {
            let values = judged.iter().filter(|(row, _)| row.labelled.is_some() == labelled);
            values.map(|(_, shares)| shares[which]).sum()
        };
        let mean = (sum(true) + sum(false)) / all;
        let squares: f64 = judged.iter().map(|(_, shares)| (shares[which] - mean).powi(2)).sum();
        let variance = squares / all * design * (1.0 / with + 1.0 / without);
        let apart = sum(true) / with - sum(false) / without;
        if variance > 0.0 {
            apart.abs() / variance.sqrt()
        } else {
            0.0
        }
    };
    Some([0, 3, 4].into_iter().map(z).fold(0.0, f64::max))
}

/// The mean, and what each value moves the mean by, times `weight`; squares of the latter add up to `var / n`.
fn influence(values: &[f64], weight: f64) -> (f64, Vec<f64>) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (0.0, Vec::new());
    }
    let mean = values.iter().sum::<f64>() / n;
    let scale = if n > 1.0 { weight / (n * (n - 1.0)).sqrt() } else { 0.0 };
    (mean, values.iter().map(|value| scale * (value - mean)).collect())
}

pub(crate) fn error_rates(rows: &[CorrectionRow]) -> [JudgeErrors; 2] {
    [0, 1].map(|regime| {
        let mut counts = [0.0; 4];
        for row in rows {
            counts
                .iter_mut()
                .zip(row.errors[regime])
                .for_each(|(sum, count)| *sum += count);
        }
        rates(counts)
    })
}

pub(crate) fn defined(value: f64) -> Estimate {
    Estimate {
        value: (!value.is_nan()).then_some(value),
        ..Estimate::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OPTIONS: CorrectionOptions = CorrectionOptions {
        confidence: 0.95,
        bootstrap: 2000,
        seed: 0,
    };

    fn cell(index: usize) -> Cells {
        let mut cells = [0.0; 4];
        cells[index] = 1.0;
        cells
    }

    /// SCIENCE.md C6: O = [[.80, .08], [.05, .07]] at se .9 and sp .95 is [[.88166, .03599], [.00069, .08166]].
    #[test]
    fn inverted_golden() {
        let mut rows = Vec::new();
        for (index, count) in [800, 80, 50, 70].into_iter().enumerate() {
            for _ in 0..count {
                rows.push(CorrectionRow {
                    cluster: rows.len() as u64,
                    judged: Some(cell(index)),
                    ..CorrectionRow::default()
                });
            }
        }
        // Labels of other texts: 90 of 100 unsafe ones found, 190 of 200 safe ones cleared, in both regimes.
        for (index, count) in [90, 10, 190, 10].into_iter().enumerate() {
            for _ in 0..count {
                rows.push(CorrectionRow {
                    cluster: rows.len() as u64,
                    errors: [cell(index); 2],
                    ..CorrectionRow::default()
                });
            }
        }
        let found = inverted(&rows, &OPTIONS).unwrap();
        let near = |estimate: Estimate, expected: f64| {
            let value = estimate.value.unwrap();
            assert!((value - expected).abs() < 5e-6, "{value} {expected}");
            assert!(estimate.low.unwrap() < value && value < estimate.high.unwrap());
        };
        near(found.fracture, 0.03599);
        near(found.anti, 0.00069);
        near(found.net, 0.03 / 0.85);
        near(found.sensitivity[0], 0.9);
        near(found.specificity[1], 0.95);
        // More uncertain than the judged share itself: Wilson's half width of 80 in 1000 is .017.
        assert!(found.fracture.high.unwrap() - found.fracture.low.unwrap() > 0.034);
        rows.reverse();
        assert_eq!(inverted(&rows, &OPTIONS).unwrap(), found);
    }

    #[test]
    fn errors_that_no_label_shows_are_not_impossible() {
        let mut rows: Vec<CorrectionRow> = (0..50)
            .map(|i| CorrectionRow {
                cluster: i,
                judged: Some(cell((i % 5 == 0).into())),
                ..CorrectionRow::default()
            })
            .collect();
        rows.extend((0..20).map(|i| CorrectionRow {
            cluster: 100 + i,
            errors: [cell(if i % 2 == 0 { 0 } else { 2 }); 2],
            ..CorrectionRow::default()
        }));
        let found = inverted(&rows, &OPTIONS).unwrap();
        assert_eq!(
            (found.fracture.value, found.sensitivity[0].value),
            (Some(0.2), Some(1.0))
        );
        assert!(found.sensitivity[0].low.unwrap() < 0.95);
        rows.truncate(50);
        assert!(
            inverted(&rows, &OPTIONS)
                .unwrap_err()
                .to_string()
                .contains("no unsafe text")
        );
    }

    #[test]
    fn powered_is_the_textbooks_without_clusters() {
        let mut rows: Vec<CorrectionRow> = (0..100)
            .map(|i| CorrectionRow {
                cluster: i,
                judged: Some(cell(usize::from(i < 20))),
                ..CorrectionRow::default()
            })
            .collect();
        for (i, (human, judge)) in [(1, 1), (0, 1), (0, 0), (0, 0), (1, 1), (0, 0)].into_iter().enumerate() {
            rows.push(CorrectionRow {
                cluster: 1000 + i as u64,
                judged: Some(cell(judge)),
                labelled: Some([cell(human), cell(judge)]),
                ..CorrectionRow::default()
            });
        }
        let judged: Vec<f64> = (0..100).map(|i| f64::from(u8::from(i < 20))).collect();
        let labelled = [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0)];
        let expected = prediction_powered(&judged, &labelled, None, 0.95).unwrap();
        let found = powered(&rows, &OPTIONS).unwrap();
        assert!((found.fracture.value.unwrap() - expected.estimate.value.unwrap()).abs() < 1e-12);
        assert!((found.fracture.high.unwrap() - expected.estimate.high.unwrap()).abs() < 1e-12);
        assert_eq!((found.lambda, found.labelled), (Some(expected.lambda), 6));
        let net = found.fracture.value.unwrap() - found.anti.value.unwrap();
        assert!((found.net.value.unwrap() - net).abs() < 1e-12);
        assert!(powered(&rows[..101], &OPTIONS).is_err());
        // Labels alone.
        let alone = powered(&rows[100..], &OPTIONS).unwrap();
        assert!((alone.fracture.value.unwrap() - 1.0 / 3.0).abs() < 1e-12);
    }

    /// A tenth of a thousand pairs flips. Labels of every tenth pair are like the others; labels of the flips are not, and a
    /// handful of labels that met no flip is no sign of anything.
    #[test]
    fn labels_that_were_chosen_stand_apart() {
        let rows = |labelled: fn(usize) -> bool, size: u64| -> Vec<CorrectionRow> {
            let row = |index: usize| {
                let judged = cell(usize::from(index.is_multiple_of(10)));
                CorrectionRow {
                    cluster: index as u64 / size,
                    judged: Some(judged),
                    labelled: labelled(index).then_some([judged; 2]),
                    ..CorrectionRow::default()
                }
            };
            (0..1000).map(row).collect()
        };
        assert!(labelled_apart(&rows(|index| index / 10 % 10 == 0, 1)).unwrap() < 1e-9);
        assert!(labelled_apart(&rows(|index| (1..10).contains(&index), 1)).unwrap() < 2.0);
        let chosen = |index: usize| index.is_multiple_of(10) || index % 100 == 1;
        let apart = labelled_apart(&rows(chosen, 1)).unwrap();
        assert!(apart > 20.0, "{apart}");
        // Pairs of one cluster say less.
        let clustered = labelled_apart(&rows(chosen, 10)).unwrap();
        assert!((clustered - apart / 10f64.sqrt()).abs() < 1e-9, "{clustered}");
        assert_eq!(labelled_apart(&rows(|_| true, 1)), None);
        assert_eq!(labelled_apart(&rows(|_| false, 1)), None);
    }
}
