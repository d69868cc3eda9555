//! A declared contrast between two groups: does one flip more than the other?

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{ClusterRow, ClusterSums, percentile};
use crate::error::{Result, ScienceError};
use crate::fracture::{Aggregate, FlipOptions, Pair, number, table_of};
use crate::interval::{Estimate, Method};
use crate::mcnemar::sign_flip_p;

/// Which share two groups are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Safe, then unsafe.
    #[default]
    Fracture,
    /// Unsafe, then safe.
    Anti,
    /// FRACTURE - ANTI.
    Net,
}

/// Two groups side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Whether the groups share items and were compared on those alone.
    pub paired: bool,
    /// Items compared: the shared ones, else those of both groups together.
    pub n: usize,
    /// The metric in the first group.
    pub a: Option<f64>,
    /// The metric in the second group.
    pub b: Option<f64>,
    /// `a - b` with its interval.
    pub difference: Estimate,
    /// Two-sided p: sign flips by cluster when paired, else twice the smaller tail of the bootstrap.
    pub p: Option<f64>,
    /// Share of bootstrap draws in which the first group is the higher one, ties half: Pr(order).
    pub pr_order: Option<f64>,
}

/// Cluster, sum of the metric and number of rows of each item.
type Items = BTreeMap<u64, (u64, f64, f64)>;

fn items(pairs: &[Pair], metric: Metric, options: &FlipOptions) -> Items {
    let mut rows: Vec<(u64, u64, i128)> = pairs
        .iter()
        .filter(|p| !p.first.is_empty() && !p.second.is_empty())
        .filter_map(|p| {
            let [_, su, us, _] = table_of(p, options.tau, options.aggregate, [f64::NAN; 2])?;
            let value = match metric {
                Metric::Fracture => su,
                Metric::Anti => us,
                Metric::Net => su - us,
            };
            Some((p.item, p.cluster, value))
        })
        .collect();
    rows.sort_unstable();
    let mut items = Items::new();
    for rows in rows.chunk_by(|a, b| a.0 == b.0) {
        items.insert(
            rows[0].0,
            (rows[0].1, number(rows.iter().map(|r| r.2).sum()), rows.len() as f64),
        );
    }
    items
}

/// Sums per cluster `[metric, rows]` of a group, and its number of valid rows.
pub(crate) fn metric_sums(pairs: &[Pair], metric: Metric, options: &FlipOptions) -> (ClusterSums, usize) {
    let items = items(pairs, metric, options);
    let n = items.values().map(|item| item.2 as usize).sum();
    let rows: Vec<ClusterRow<2>> = items
        .values()
        .map(|&(cluster, sum, rows)| (cluster, [sum, rows]))
        .collect();
    (ClusterSums::from_rows(rows), n)
}

/// Cluster and mean of the metric of every item.
pub(crate) fn item_means(pairs: &[Pair], metric: Metric, options: &FlipOptions) -> BTreeMap<u64, (u64, f64)> {
    let items = items(pairs, metric, options);
    items
        .into_iter()
        .map(|(item, (cluster, sum, rows))| (item, (cluster, sum / rows)))
        .collect()
}

/// Compares two groups by one metric: on the items both hold, each item's own mean counting once, or, where they share
/// none (two axes), each group on its own items.
///
/// # Errors
/// When the groups have different numbers of samples under `mean` or `max`, which are not comparable then.
pub fn compare(a: &[Pair], b: &[Pair], metric: Metric, options: &FlipOptions) -> Result<Comparison> {
    let samples = |pairs: &[Pair]| pairs.iter().map(|p| p.first.len().max(p.second.len())).max();
    if let (Some(ka), Some(kb), Aggregate::Mean | Aggregate::Max) = (samples(a), samples(b), options.aggregate)
        && ka != kb
    {
        let what = "groups with different numbers of samples cannot be compared under `mean` or `max`, use `product`";
        return Err(ScienceError::Shape {
            what: what.to_owned(),
            expected: ka,
            found: kb,
        });
    }
    let (mut a, mut b) = (items(a, metric, options), items(b, metric, options));
    let paired = a.keys().any(|item| b.contains_key(item));
    if paired {
        let shared = |own: &Items, other: &Items| -> Items {
            let kept = own.iter().filter(|(item, _)| other.contains_key(item));
            kept.map(|(&item, &(cluster, sum, rows))| (item, (cluster, sum / rows, 1.0)))
                .collect()
        };
        (a, b) = (shared(&a, &b), shared(&b, &a));
    }
    let row = |(cluster, sum, rows): (u64, f64, f64), side: usize| -> ClusterRow<4> {
        let mut columns = [0.0; 4];
        (columns[2 * side], columns[2 * side + 1]) = (sum, rows);
        (cluster, columns)
    };
    let rows: Vec<ClusterRow<4>> = a
        .values()
        .map(|&i| row(i, 0))
        .chain(b.values().map(|&i| row(i, 1)))
        .collect();
    let n = if paired { a.len() } else { a.len() + b.len() };
    Ok(contrast(ClusterSums::from_rows(rows), n, paired, options))
}

/// Pr(order): over bootstrap draws, the chance that the metric rises from each group to the next, ties half. The draws of a
/// cluster are the same in every group. `None` with fewer than two groups, an empty one, or a single cluster.
pub fn pr_ascending(groups: &[Vec<Pair>], metric: Metric, options: &FlipOptions) -> Option<f64> {
    let sums: Vec<ClusterSums> = groups
        .iter()
        .map(|pairs| metric_sums(pairs, metric, options).0)
        .collect();
    if sums.len() < 2 || sums.iter().any(ClusterSums::is_empty) || sums.iter().all(|sums| sums.len() < 2) {
        return None;
    }
    let values: Vec<Vec<f64>> = sums
        .iter()
        .map(|sums| {
            let columns = sums.draws(options.bootstrap, options.seed);
            columns[0]
                .iter()
                .zip(&columns[1])
                .map(|(sum, rows)| sum / rows)
                .collect()
        })
        .collect();
    let (mut total, mut defined) = (0.0, 0usize);
    for draw in 0..options.bootstrap {
        if values.iter().any(|column| column[draw].is_nan()) {
            continue;
        }
        defined += 1;
        let rises = values
            .windows(2)
            .map(|pair| match pair[0][draw].total_cmp(&pair[1][draw]) {
                std::cmp::Ordering::Less => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => 0.0,
            });
        total += rises.product::<f64>();
    }
    (defined > 0).then(|| total / defined as f64)
}

/// The contrast from cluster sums `[sum_a, rows_a, sum_b, rows_b]`.
fn contrast(sums: ClusterSums, n: usize, paired: bool, options: &FlipOptions) -> Comparison {
    let total = sums.total();
    let ratio = |over: f64, under: f64| (under > 0.0).then(|| over / under);
    let (a, b) = (ratio(total[0], total[1]), ratio(total[2], total[3]));
    let difference = a.zip(b).map(|(a, b)| a - b);
    let empty = Comparison {
        paired,
        n,
        a,
        b,
        difference: Estimate::default(),
        p: None,
        pr_order: None,
    };
    let Some(difference) = difference else { return empty };
    if sums.len() < 2 || options.bootstrap == 0 {
        return Comparison {
            difference: Estimate {
                value: Some(difference),
                ..Estimate::default()
            },
            ..empty
        };
    }
    let columns = sums.draws(options.bootstrap, options.seed);
    let draws: Vec<f64> = (0..options.bootstrap)
        .map(|i| columns[0][i] / columns[1][i] - columns[2][i] / columns[3][i])
        .collect();
    let defined = draws.iter().filter(|d| !d.is_nan()).count();
    let share = |keep: &dyn Fn(f64) -> bool| draws.iter().filter(|&&d| keep(d)).count() as f64;
    let (above, below) = (share(&|d| d > 0.0), share(&|d| d < 0.0));
    let ties = defined as f64 - above - below;
    let p = if paired {
        let moved: Vec<(u64, f64)> = sums
            .ids()
            .iter()
            .enumerate()
            .map(|(i, &id)| (id, sums.row(i)[0] - sums.row(i)[2]))
            .collect();
        sign_flip_p(&moved, options.bootstrap, options.seed)
    } else {
        Some((2.0 * (above.min(below) + ties + 1.0) / (defined as f64 + 1.0)).min(1.0))
    };
    Comparison {
        difference: Estimate::new(
            Some(difference),
            percentile(&draws, options.confidence),
            Method::ClusterBootstrap,
        ),
        p,
        pr_order: (defined > 0).then(|| (above + 0.5 * ties) / defined as f64),
        ..empty
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn group(scores: &[[f64; 2]]) -> Vec<Pair<'_>> {
        scores
            .iter()
            .enumerate()
            .map(|(i, s)| Pair {
                item: i as u64,
                cluster: i as u64,
                first: &s[..1],
                second: &s[1..],
            })
            .collect()
    }

    #[test]
    fn paired_on_shared_items() {
        let (flip, calm) = ([0.1, 0.9], [0.1, 0.1]);
        let a: Vec<_> = (0..60).map(|i| if i < 30 { flip } else { calm }).collect();
        let b: Vec<_> = (0..50).map(|i| if i < 5 { flip } else { calm }).collect();
        let options = FlipOptions {
            bootstrap: 2000,
            ..FlipOptions::default()
        };
        let c = compare(&group(&a), &group(&b), Metric::Fracture, &options).unwrap();
        assert_eq!(
            (c.paired, c.n, c.a, c.b, c.difference.value),
            (true, 50, Some(0.6), Some(0.1), Some(0.5))
        );
        assert!(c.difference.low.unwrap() > 0.3 && c.p.unwrap() < 0.01 && c.pr_order.unwrap() > 0.99);
        let back = compare(&group(&b), &group(&a), Metric::Fracture, &options).unwrap();
        assert_eq!((back.difference.value, back.p), (Some(-0.5), c.p));
        assert!((back.pr_order.unwrap() + c.pr_order.unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_whole_order() {
        let scores = |flips: usize| -> Vec<[f64; 2]> {
            (0..80)
                .map(|i| if i < flips { [0.1, 0.9] } else { [0.1, 0.1] })
                .collect()
        };
        let all: Vec<Vec<[f64; 2]>> = [5, 30, 60].map(scores).to_vec();
        let groups: Vec<Vec<Pair>> = all.iter().map(|scores| group(scores)).collect();
        let options = FlipOptions {
            bootstrap: 1000,
            ..FlipOptions::default()
        };
        assert!(pr_ascending(&groups, Metric::Fracture, &options).unwrap() > 0.99);
        let back: Vec<_> = groups.iter().rev().cloned().collect();
        assert!(pr_ascending(&back, Metric::Fracture, &options).unwrap() < 0.01);
        // A group against itself ties in every draw.
        let twice = [groups[0].clone(), groups[0].clone()];
        assert_eq!(pr_ascending(&twice, Metric::Net, &options), Some(0.5));
        assert_eq!(pr_ascending(&groups[..1], Metric::Net, &options), None);
    }

    #[test]
    fn unpaired_and_incomparable() {
        let scores = [[0.1, 0.9]; 20];
        let a = group(&scores);
        let b: Vec<_> = a
            .iter()
            .map(|p| Pair {
                item: p.item + 100,
                cluster: p.cluster + 100,
                ..*p
            })
            .collect();
        let options = FlipOptions {
            bootstrap: 500,
            ..FlipOptions::default()
        };
        let c = compare(&a, &b, Metric::Net, &options).unwrap();
        assert_eq!(
            (c.paired, c.n, c.difference.value, c.p, c.pr_order),
            (false, 40, Some(0.0), Some(1.0), Some(0.5))
        );
        let more = [Pair {
            item: 0,
            cluster: 0,
            first: &[0.1, 0.2],
            second: &[0.9, 0.1],
        }];
        let mean = FlipOptions {
            aggregate: Aggregate::Mean,
            ..options
        };
        assert!(compare(&a, &more, Metric::Net, &mean).is_err());
        assert!(compare(&a, &more, Metric::Net, &options).is_ok());
        assert_eq!(compare(&[], &[], Metric::Net, &options).unwrap().difference.value, None);
    }
}
