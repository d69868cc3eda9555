//! The flips of a group with the judge's errors taken out by labels within each cell of the judged table: the
//! post-stratified form of the prediction-powered estimate (SCIENCE.md C6).

use crate::corrected::{Cells, Corrected, CorrectionOptions, CorrectionRow, defined, error_rates, shares};
use crate::error::{Result, ScienceError, require};
use crate::interval::{Estimate, Interval, Method, critical};

/// Strata: the cells of the judged flip table.
const CELLS: usize = 4;
/// A stratum needs this many labelled pairs for a variance.
const ENOUGH: usize = 2;

/// A pair that is judged.
struct Pair {
    cluster: u64,
    stratum: usize,
    judged: [f64; 5],
    /// What people say less what the judge says of the same samples.
    residual: Option<[f64; 5]>,
}

/// The post-stratified shares. Each pair falls into the stratum of the cell that holds most of it (the first of equals); of
/// each stratum the judge's mean is moved by the mean of what its labelled pairs differ by. The labelled pairs of a stratum
/// must be like its others, which allows labelling more of the pairs that the judge calls flips. Strata with fewer than two
/// labelled pairs are one. Normal intervals whose variance sums whole clusters.
///
/// # Errors
/// With fewer than two labelled pairs.
pub fn stratified(rows: &[CorrectionRow], options: &CorrectionOptions) -> Result<Corrected> {
    require(
        options.confidence > 0.0 && options.confidence < 1.0,
        "confidence",
        options.confidence,
        "between 0 and 1",
    )?;
    let mut pairs: Vec<Pair> = rows.iter().filter_map(pair).collect();
    let bits = |values: [f64; 5]| values.map(f64::to_bits);
    pairs.sort_by_key(|pair| (pair.cluster, bits(pair.judged), pair.residual.map(bits)));
    let labelled = pairs.iter().filter(|pair| pair.residual.is_some()).count();
    if labelled < ENOUGH {
        return Err(ScienceError::Unsolvable(format!(
            "{labelled} pairs have labels in both regimes, and a correction by strata needs two"
        )));
    }
    merge(&mut pairs);
    let errors = error_rates(rows);
    let estimate = |which: usize| estimate(&pairs, which, options.confidence);
    Ok(Corrected {
        labelled,
        fracture: estimate(0),
        anti: estimate(1),
        net: estimate(2),
        train_unsafe: estimate(3),
        deploy_unsafe: estimate(4),
        sensitivity: errors.map(|rate| defined(rate.sensitivity)),
        specificity: errors.map(|rate| defined(rate.specificity)),
        lambda: None,
    })
}

fn pair(row: &CorrectionRow) -> Option<Pair> {
    let cells = row.judged?;
    let residual = row.labelled.map(|[human, judge]| {
        let (human, judge) = (shares(human), shares(judge));
        std::array::from_fn(|which| human[which] - judge[which])
    });
    Some(Pair {
        cluster: row.cluster,
        stratum: largest(cells),
        judged: shares(cells),
        residual,
    })
}

fn largest(cells: Cells) -> usize {
    (1..CELLS).fold(0, |best, cell| if cells[cell] > cells[best] { cell } else { best })
}

/// Puts strata with too few labels together, and with the others from the one with fewest labels on, until all have enough.
fn merge(pairs: &mut [Pair]) {
    let mut labels = [0; CELLS];
    let mut sizes = [0; CELLS];
    for pair in pairs.iter() {
        sizes[pair.stratum] += 1;
        labels[pair.stratum] += usize::from(pair.residual.is_some());
    }
    let mut order: Vec<usize> = (0..CELLS).filter(|stratum| sizes[*stratum] > 0).collect();
    order.sort_by_key(|stratum| (labels[*stratum], *stratum));
    let mut together: Vec<usize> = Vec::new();
    for stratum in order {
        let so_far: usize = together.iter().map(|stratum| labels[*stratum]).sum();
        if labels[stratum] < ENOUGH || (!together.is_empty() && so_far < ENOUGH) {
            together.push(stratum);
        }
    }
    if let Some(&first) = together.first() {
        for pair in pairs.iter_mut().filter(|pair| together.contains(&pair.stratum)) {
            pair.stratum = first;
        }
    }
}

fn estimate(pairs: &[Pair], which: usize, confidence: f64) -> Estimate {
    let n = pairs.len() as f64;
    let mut sums = [0.0; CELLS];
    let mut counts = [[0.0; 2]; CELLS];
    for pair in pairs {
        counts[pair.stratum][0] += 1.0;
        if let Some(residual) = pair.residual {
            counts[pair.stratum][1] += 1.0;
            sums[pair.stratum] += residual[which];
        }
    }
    let mean = |stratum: usize| sums[stratum] / counts[stratum][1];
    let moved = |pair: &Pair| pair.judged[which] + mean(pair.stratum);
    let value = pairs.iter().map(moved).sum::<f64>() / n;
    // What each pair moves the estimate by: as one of all pairs, and as a labelled one of its stratum.
    let influence = |pair: &Pair| {
        let [all, labelled] = counts[pair.stratum];
        let own = pair.residual.map_or(0.0, |residual| {
            all / n * (residual[which] - mean(pair.stratum)) / (labelled * (labelled - 1.0)).sqrt()
        });
        let small = if n > 1.0 { (n * (n - 1.0)).sqrt() } else { n };
        (moved(pair) - value) / small + own
    };
    let variance: f64 = pairs
        .chunk_by(|a, b| a.cluster == b.cluster)
        .map(|pairs| pairs.iter().map(influence).sum::<f64>().powi(2))
        .sum();
    let half = critical(confidence) * variance.sqrt();
    let interval = Interval {
        low: value - half,
        high: value + half,
    };
    Estimate::new(Some(value), Some(interval), Method::Normal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OPTIONS: CorrectionOptions = CorrectionOptions {
        confidence: 0.95,
        bootstrap: 0,
        seed: 0,
    };

    fn cell(index: usize) -> Cells {
        let mut cells = [0.0; 4];
        cells[index] = 1.0;
        cells
    }

    /// `(judged cell, what people say, how many)`; without labels where people say nothing.
    fn rows(groups: &[(usize, Option<usize>, usize)]) -> Vec<CorrectionRow> {
        let mut rows = Vec::new();
        for &(judged, human, count) in groups {
            for _ in 0..count {
                rows.push(CorrectionRow {
                    cluster: rows.len() as u64,
                    judged: Some(cell(judged)),
                    labelled: human.map(|human| [cell(human), cell(judged)]),
                    ..CorrectionRow::default()
                });
            }
        }
        rows
    }

    /// Of 1 000 pairs the judge calls 200 flips; half of the labelled ones are, and a tenth of those it calls safe in both.
    #[test]
    fn each_cell_is_corrected_by_its_own_labels() {
        let flips = [(1, Some(1), 20), (1, Some(0), 20), (1, None, 160)];
        let safe = [(0, Some(0), 36), (0, Some(1), 4), (0, None, 760)];
        let all = rows(&[&flips[..], &safe[..]].concat());
        let found = stratified(&all, &OPTIONS).unwrap();
        assert!((found.fracture.value.unwrap() - (0.2 * 0.5 + 0.8 * 0.1)).abs() < 1e-12);
        assert_eq!((found.labelled, found.anti.value, found.lambda), (80, Some(0.0), None));
        // Var = sum of W^2 s^2 / n within, and between strata over N.
        let within = 0.04 * (0.25 * 40.0 / 39.0) / 40.0 + 0.64 * (0.09 * 40.0 / 39.0) / 40.0;
        let between = (0.2 * 0.32f64.powi(2) + 0.8 * 0.08f64.powi(2)) / 999.0;
        let half = found.fracture.high.unwrap() - found.fracture.value.unwrap();
        assert!(
            (half - critical(0.95) * (within + between).sqrt()).abs() < 1e-4,
            "{half}"
        );
        let mut shuffled = all;
        shuffled.reverse();
        assert_eq!(stratified(&shuffled, &OPTIONS).unwrap(), found, "in any order");
    }

    #[test]
    fn strata_without_labels_are_put_together() {
        let all = rows(&[
            (0, Some(0), 8),
            (0, Some(1), 2),
            (0, None, 70),
            (1, None, 15),
            (3, Some(3), 1),
            (3, None, 4),
        ]);
        let found = stratified(&all, &OPTIONS).unwrap();
        // One stratum: ten of eleven labelled pairs right, one in five and a half moved to a flip.
        assert!(
            (found.fracture.value.unwrap() - (0.15 + 2.0 / 11.0)).abs() < 1e-12,
            "{found:?}"
        );
        let none = stratified(&rows(&[(0, Some(0), 1), (0, None, 9)]), &OPTIONS).unwrap_err();
        assert!(none.to_string().contains("needs two"), "{none}");
    }

    /// With every pair labelled the labels are all there is.
    #[test]
    fn all_labels_are_the_labels() {
        let all = rows(&[(0, Some(0), 50), (0, Some(1), 10), (1, Some(1), 20), (1, Some(2), 20)]);
        let found = stratified(&all, &OPTIONS).unwrap();
        let close = |estimate: Estimate, expected: f64| (estimate.value.unwrap() - expected).abs() < 1e-12;
        assert!(close(found.fracture, 0.3) && close(found.anti, 0.2) && close(found.net, 0.1));
    }
}
