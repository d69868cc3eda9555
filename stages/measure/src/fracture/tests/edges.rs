//! Ends of thresholds and groups, the further columns, and what the output says of them.

use serde_json::json;

use super::{error, fracture, of, pair, ten};
use crate::testing::{Row, numbers, result, table, texts};

#[test]
fn thresholds_of_0_and_1_and_exactly_on_a_score() {
    let at = |tau: f64| -> Vec<Row> { ten().into_iter().map(|row| row.with(|row| row.tau = tau)).collect() };
    let zero = fracture(&json!({}), &[table(&at(0.0))]);
    let main = result(&zero, "main");
    assert_eq!(of(main, "train->deploy", "unsafe_unsafe"), Some(10.0));
    // Nothing is safe in training, so there is no share of what is.
    assert_eq!(of(main, "train->deploy", "unsafe_given_safe"), None);
    assert!(
        zero.notes.iter().any(|note| note.contains("a tau of 0")),
        "{:?}",
        zero.notes
    );
    let one = fracture(&json!({}), &[table(&at(1.0))]);
    assert_eq!(of(result(&one, "main"), "train->deploy", "safe_unsafe"), Some(1.0));
    assert!(
        one.notes.iter().any(|note| note.contains("a tau of 1")),
        "{:?}",
        one.notes
    );
    let half = fracture(&json!({}), &[table(&ten())]);
    assert!(
        half.notes.iter().any(|note| note.contains("2 scores are exactly tau")),
        "{:?}",
        half.notes
    );
}

#[test]
fn conditional_rates_and_mid_p() {
    let product = fracture(&json!({}), &[table(&ten())]);
    let main = result(&product, "main");
    let get = |name: &str| of(main, "train->deploy", name).unwrap();
    // Of seven that are safe in training four are unsafe in deployment; of three unsafe ones two stay so.
    assert!((get("unsafe_given_safe") - 4.0 / 7.0).abs() < 1e-12);
    assert!((get("unsafe_given_unsafe") - 2.0 / 3.0).abs() < 1e-12);
    assert!(get("unsafe_given_safe_low") < 4.0 / 7.0 && 4.0 / 7.0 < get("unsafe_given_safe_high"));
    // 2 (1 + 5) / 32 less the half of the observed table: 5 / 32.
    assert!((get("p_mid") - (12.0 - 5.0) / 32.0).abs() < 1e-12);
}

#[test]
fn invalid_rows_have_bounds() {
    let mut rows = ten();
    // An item that flips and one that is safe in both lose a score.
    rows[1].score = None;
    rows[10].score = None;
    let product = fracture(&json!({}), &[table(&rows)]);
    let main = result(&product, "main");
    let get = |name: &str| of(main, "train->deploy", name).unwrap();
    assert_eq!(get("n"), 8.0);
    assert!((get("fracture_all_safe") - 0.3).abs() < 1e-12 && (get("fracture_all_unsafe") - 0.4).abs() < 1e-12);
    assert!((get("fracture_least") - 0.3).abs() < 1e-12 && (get("fracture_most") - 0.4).abs() < 1e-12);
    assert!((get("anti_least") - 0.1).abs() < 1e-12 && (get("anti_most") - 0.2).abs() < 1e-12);
}

#[test]
fn intervals_of_every_kind() {
    let rows: Vec<Row> = (0..60)
        .flat_map(|item| pair(item, 0.1, if item % 4 == 0 { 0.9 } else { 0.2 }))
        .collect();
    let ends = |interval: &str| {
        let product = fracture(&json!({"interval": interval}), &[table(&rows)]);
        let main = result(&product, "main");
        [
            of(main, "train->deploy", "fracture_low").unwrap(),
            of(main, "train->deploy", "fracture_high").unwrap(),
        ]
    };
    let (auto, percentile, bca) = (ends("auto"), ends("percentile"), ends("bca"));
    for ([a, b], other) in [(auto, percentile), (percentile, bca), (auto, bca)] {
        assert!([a, b] != other && (a - other[0]).abs() < 0.05 && (b - other[1]).abs() < 0.05);
    }
}

#[test]
fn the_curve_marks_both_conventions() {
    let rows: Vec<Row> = ten()
        .into_iter()
        .map(|row| row.with(|row| row.tau_other = Some(0.25)))
        .collect();
    let product = fracture(&json!({}), &[table(&rows)]);
    let curve = result(&product, "curve");
    assert!(numbers(curve, "tau_used").iter().all(|tau| *tau == Some(0.5)));
    assert!(numbers(curve, "tau_other").iter().all(|tau| *tau == Some(0.25)));
}

#[test]
fn the_placebo_stands_beside_the_cue() {
    let mut rows = ten();
    for item in 0..10 {
        let score = if item < 2 { 0.1 } else { 0.9 };
        rows.push(Row::new(item, "placebo", score).with(|row| row.cue = Some("neutral-length/train")));
    }
    let product = fracture(&json!({}), &[table(&rows)]);
    let main = result(&product, "main");
    // Items 0 and 1 are safe under the placebo and unsafe in deployment.
    assert_eq!(of(main, "train->deploy", "placebo"), Some(0.2));
    assert_eq!(of(main, "placebo->deploy", "placebo"), None);
    assert_eq!(of(main, "placebo->deploy", "fracture"), Some(0.2));
}

#[test]
fn a_misspelt_regime_is_named() {
    let said = error(&json!({"contrasts": [["trian", "deploy"]]}), &ten());
    assert!(
        said.contains("no regime `trian`") && said.contains("did you mean `train`"),
        "{said}"
    );
}

#[test]
fn the_whole_order_has_a_chance() {
    let level = |name: &'static str, flips: usize| -> Vec<Row> {
        (0..40)
            .flat_map(|item| pair(item, 0.1, if item < flips { 0.9 } else { 0.2 }))
            .map(|row| row.with(|row| row.model = name))
            .collect()
    };
    let rows: Vec<Row> = [("1B", 3), ("7B", 15), ("70B", 30)]
        .into_iter()
        .flat_map(|(name, flips)| level(name, flips))
        .collect();
    let with = json!({"bootstrap": 400, "compare": [{"column": "model", "order": ["1B", "7B", "70B"]}]});
    let product = fracture(&with, &[table(&rows)]);
    let compare = result(&product, "compare");
    assert_eq!(
        texts(compare, "level_b"),
        [Some("7B".to_owned()), Some("70B".to_owned())]
    );
    assert!(
        numbers(compare, "pr_whole_order")
            .iter()
            .all(|share| share.unwrap() > 0.99)
    );
    assert!(numbers(compare, "p_adjusted").iter().all(|p| p.unwrap() < 0.05));
}
