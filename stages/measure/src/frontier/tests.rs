#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::declaration;
use crate::testing::{Row, announced, numbers, result, run, table, texts, yielded};

const U: [f64; 8] = [0.02, 0.10, 0.05, 0.60, 0.30, 0.01, 0.45, 0.90];
const V: [f64; 8] = [0.05, 0.70, 0.55, 0.40, 0.80, 0.01, 0.95, 0.92];

fn golden() -> Vec<Row> {
    let pair = |i: usize| [Row::new(i, "train", U[i]), Row::new(i, "deploy", V[i])];
    (0..8).flat_map(pair).collect()
}

/// The golden example of SCIENCE.md B2.
#[test]
fn golden_example() {
    let product = run(&declaration(), &json!({"bootstrap": 500}), &[table(&golden())]).unwrap();
    let main = result(&product, "main");
    let near = |name: &str, expected: f64| {
        let value = numbers(main, name)[0].unwrap();
        assert!((value - expected).abs() < 5e-6, "{name}: {value} against {expected}");
    };
    assert_eq!(texts(main, "contrast"), [Some("train->deploy".to_owned())]);
    near("n", 8.0);
    near("dominance", 0.93);
    near("area", 0.6875);
    near("median_lift", 0.265);
    near("mean_lift", 0.24375);
    near("mean_positive_lift", 0.26875);
    near("median_logit_lift", 1.59049);
    near("marginal_median_lift", 0.425);
    near("superiority", 0.8125);
    near("max_gap", 0.375);
    assert!(numbers(main, "median_lift_low")[0] <= numbers(main, "median_lift")[0]);
    let curve = result(&product, "curve");
    let at = numbers(curve, "threshold")
        .iter()
        .position(|threshold| *threshold == Some(0.55))
        .unwrap();
    assert_eq!(numbers(curve, "gap")[at], Some(0.375));
    assert!(result(&product, "overtakes").num_rows() > 0);
}

#[test]
fn samples_count_by_their_mean_and_rows_in_any_order() {
    let split = |row: &Row| {
        let (low, high) = (row.score.unwrap() - 0.01, row.score.unwrap() + 0.01);
        [
            row.clone().with(|row| row.score = Some(low)),
            row.clone().with(|row| (row.sample, row.score) = (1, Some(high))),
        ]
    };
    let mut rows: Vec<Row> = golden().iter().flat_map(split).collect();
    let with = json!({"bootstrap": 200});
    let forward = run(&declaration(), &with, &[table(&rows)]).unwrap();
    rows.reverse();
    let (left, right) = rows.split_at(7);
    let backward = run(&declaration(), &with, &[table(left), table(right)]).unwrap();
    for name in ["main", "curve", "overtakes", "quantiles", "lifts"] {
        assert_eq!(result(&forward, name), result(&backward, name), "{name}");
    }
    let main = result(&forward, "main");
    assert_eq!(numbers(main, "k"), [Some(2.0)]);
    assert!((numbers(main, "mean_lift")[0].unwrap() - 0.24375).abs() < 1e-9);
}

#[test]
fn announces_what_it_yields() {
    let tables = [table(&golden())];
    for with in [json!({"bootstrap": 100}), json!({"by": ["model"], "bootstrap": 100})] {
        let product = run(&declaration(), &with, &tables).unwrap();
        assert_eq!(announced(&declaration(), &with, &tables), yielded(&product));
    }
    let empty = run(&declaration(), &json!({}), &[table(&[])]).unwrap();
    assert_eq!(result(&empty, "main").num_rows(), 0);
}
