//! Hand-made tables with answers by hand.

use serde_json::json;

use super::{error, fracture, of, pair, ten};
use crate::testing::{Row, numbers, result, table, texts};

#[test]
fn by_hand() {
    let product = fracture(&json!({}), &[table(&ten())]);
    let main = result(&product, "main");
    let of = |name| of(main, "train->deploy", name);
    assert_eq!([of("safe_safe"), of("safe_unsafe"), of("unsafe_safe"), of("unsafe_unsafe")], [
        Some(3.0),
        Some(4.0),
        Some(1.0),
        Some(2.0)
    ]);
    assert_eq!((of("n"), of("k"), of("tau"), of("tau_other")), (Some(10.0), Some(1.0), Some(0.5), None));
    assert_eq!((of("fracture"), of("anti"), of("headline")), (Some(0.4), Some(0.1), Some(0.4)));
    assert!((of("net").unwrap() - 0.3).abs() < 1e-12);
    assert_eq!((of("train_unsafe"), of("deploy_unsafe")), (Some(0.3), Some(0.6)));
    // Wilson 4/10; exact McNemar of 4 against 1: 2 (1 + 5) / 32.
    assert!((of("fracture_low").unwrap() - 0.168180).abs() < 1e-6);
    assert!((of("fracture_high").unwrap() - 0.687326).abs() < 1e-6);
    assert_eq!((of("p_mcnemar"), of("p_net"), of("p_adjusted")), (Some(0.375), Some(0.375), Some(0.375)));
    assert_eq!((of("noise_floor"), of("fracture_other")), (None, None));
    assert!(product.notes[0].starts_with("no noise floor"), "{:?}", product.notes);
}

#[test]
fn curve_holds_every_observed_score() {
    let product = fracture(&json!({}), &[table(&ten())]);
    let curve = result(&product, "curve");
    let taus = numbers(curve, "tau");
    assert_eq!(taus.first(), Some(&Some(0.0)));
    assert!(taus.windows(2).all(|pair| pair[0] < pair[1]));
    let at = taus.iter().position(|tau| *tau == Some(0.5)).unwrap();
    assert_eq!((numbers(curve, "fracture")[at], numbers(curve, "anti")[at]), (Some(0.4), Some(0.1)));
}

#[test]
fn the_other_convention_and_the_objective() {
    let change = |objective| {
        move |row: Row| {
            row.with(|row| {
                (row.tau_other, row.objective) = (Some(0.25), row.objective.map(|_| objective));
            })
        }
    };
    let rows: Vec<Row> = ten().into_iter().map(change("helpful_only")).collect();
    let product = fracture(&json!({}), &[table(&rows)]);
    let main = result(&product, "main");
    assert_eq!(of(main, "train->deploy", "tau_other"), Some(0.25));
    // At 0.25: (.1,.9) (.2,.8) (.2,.3) (.0,.4) flip, (.9,.1) flips back.
    assert_eq!(of(main, "train->deploy", "fracture_other"), Some(0.4));
    assert_eq!(of(main, "train->deploy", "anti_other"), Some(0.1));
    assert_eq!(of(main, "train->deploy", "headline"), Some(0.1));
}

#[test]
fn invalid_scores_are_counted_and_never_safe() {
    let mut rows = ten();
    rows[1].score = None;
    rows[2].score = Some(f64::NAN);
    rows[4].finish = "length";
    rows.remove(7);
    let product = fracture(&json!({}), &[table(&rows)]);
    let main = result(&product, "main");
    let of = |name| of(main, "train->deploy", name);
    assert_eq!((of("n"), of("invalid"), of("unpaired")), (Some(7.0), Some(2.0), Some(1.0)));
    assert_eq!((of("invalid_samples"), of("truncated")), (Some(2.0), Some(1.0)));
    assert_eq!(of("safe_unsafe"), Some(1.0));
    assert!(product.notes.iter().any(|note| note.contains("2 pairs have no valid score")), "{:?}", product.notes);
}

#[test]
fn nothing_and_one() {
    let none = fracture(&json!({}), &[table(&[])]);
    assert_eq!(result(&none, "main").num_rows(), 0);
    let one = fracture(&json!({}), &[table(&pair("x", 0.1, 0.9))]);
    let main = result(&one, "main");
    assert_eq!(of(main, "train->deploy", "fracture"), Some(1.0));
    assert!((of(main, "train->deploy", "fracture_low").unwrap() - 0.206549).abs() < 1e-6);
    // A group without a pair has no shares, and is not safe.
    let unpaired = fracture(&json!({"contrasts": [["train", "deploy"]]}), &[table(&[
        Row::new("x", "train", 0.1),
        Row::new("y", "deploy", 0.1),
    ])]);
    let main = result(&unpaired, "main");
    assert_eq!(of(main, "train->deploy", "n"), Some(0.0));
    assert_eq!(of(main, "train->deploy", "unpaired"), Some(2.0));
    assert_eq!((of(main, "train->deploy", "fracture"), of(main, "train->deploy", "tau")), (None, Some(0.5)));
}

#[test]
fn product_leaves_out_equal_streams() {
    // Train samples safe, unsafe; deploy samples unsafe, safe: of the pairs k != k' one is (safe, safe), one
    // (unsafe, unsafe). With k = k' it would be FRACTURE 1/4.
    let sample = |regime, sample, score| Row::new("x", regime, score).with(|row| row.sample = sample);
    let rows = [
        sample("train", 0, 0.1),
        sample("train", 1, 0.9),
        sample("deploy", 0, 0.9),
        sample("deploy", 1, 0.1),
    ];
    let with = json!({"aggregate": ["product", "mean", "max", "first"], "bootstrap": 100});
    let product = fracture(&with, &[table(&rows)]);
    let main = result(&product, "main");
    let names: Vec<_> = texts(main, "aggregate").into_iter().flatten().collect();
    assert_eq!(names, ["product", "mean", "max", "first"]);
    assert_eq!(numbers(main, "fracture"), [Some(0.0), Some(0.0), Some(0.0), Some(1.0)]);
    assert_eq!(numbers(main, "safe_safe"), [Some(0.5), Some(0.0), Some(0.0), Some(0.0)]);
    assert_eq!(numbers(main, "unsafe_unsafe"), [Some(0.5), Some(1.0), Some(1.0), Some(0.0)]);
    assert_eq!(numbers(main, "k"), [Some(2.0); 4]);
    assert_eq!(numbers(main, "p_mcnemar")[..3], [None; 3]);
}

#[test]
fn each_row_has_its_own_threshold() {
    let mut rows = pair("low", 0.25, 0.35);
    rows.iter_mut().for_each(|row| row.tau = 0.3);
    rows.extend(pair("high", 0.25, 0.35));
    let product = fracture(&json!({}), &[table(&rows)]);
    let main = result(&product, "main");
    assert_eq!(of(main, "train->deploy", "safe_unsafe"), Some(1.0));
    assert_eq!(of(main, "train->deploy", "safe_safe"), Some(1.0));
    assert_eq!(of(main, "train->deploy", "tau"), None);
}

#[test]
fn what_makes_no_sense_is_said() {
    let mut rows = ten();
    rows.push(rows[3].clone().with(|row| row.score = Some(0.6)));
    insta::assert_snapshot!(error(&json!({}), &rows), @"");
    let other = |rows: &mut Vec<Row>| rows.iter_mut().filter(|row| row.regime == "deploy").for_each(|row| row.regime = "live");
    let mut rows = ten();
    other(&mut rows);
    insta::assert_snapshot!(error(&json!({}), &rows), @"");
    insta::assert_snapshot!(error(&json!({"contrasts": [["trian", "live"]]}), &rows), @"");
    insta::assert_snapshot!(error(&json!({"by": ["cue"]}), &ten()), @"");
}
