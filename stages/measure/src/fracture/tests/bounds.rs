//! What invalid scores could change, against every way in which they could be filled.

use proptest::prelude::*;
use serde_json::json;

use super::{fracture, of};
use crate::testing::{Row, numbers, result, table, texts};

const AGGREGATES: [&str; 4] = ["product", "mean", "max", "first"];

/// Scores of the samples of both regimes, item by item; `None` is invalid.
type Items = Vec<[Vec<Option<f64>>; 2]>;

fn rows(items: &Items) -> Vec<Row> {
    let mut rows = Vec::new();
    for (item, sides) in items.iter().enumerate() {
        for (regime, side) in ["train", "deploy"].into_iter().zip(sides) {
            for (sample, score) in side.iter().enumerate() {
                rows.push(Row::new(item, regime, 0.0).with(|row| {
                    row.sample = sample as u32;
                    row.score = *score;
                }));
            }
        }
    }
    rows
}

/// FRACTURE and ANTI of an item whose scores are all valid, by definition.
fn flips([first, second]: &[Vec<f64>; 2], aggregate: &str) -> Option<[f64; 2]> {
    let one = |side: &[f64]| match aggregate {
        "mean" => side.iter().sum::<f64>() / side.len() as f64,
        "max" => side.iter().copied().fold(0.0, f64::max),
        _ => side[0],
    };
    let flip = |u: f64, v: f64| [u < 0.5 && v >= 0.5, u >= 0.5 && v < 0.5].map(|flip| f64::from(u8::from(flip)));
    if aggregate != "product" {
        return Some(flip(one(first), one(second)));
    }
    let (mut sums, mut count) = ([0.0; 2], 0.0);
    for (k, u) in first.iter().enumerate() {
        for (l, v) in second.iter().enumerate() {
            if k != l || first.len() < 2 || second.len() < 2 {
                count += 1.0;
                let found = flip(*u, *v);
                sums.iter_mut().zip(found).for_each(|(sum, flip)| *sum += flip);
            }
        }
    }
    (count > 0.0).then(|| sums.map(|sum| sum / count))
}

/// The shares when the invalid scores are 0 or 1 as the bits of `fill` say.
fn filled(items: &Items, fill: u32, aggregate: &str) -> [f64; 2] {
    let mut place = 0;
    let mut whole = |side: &Vec<Option<f64>>| -> Vec<f64> {
        let score = |score: &Option<f64>| {
            score.unwrap_or_else(|| {
                place += 1;
                f64::from(fill >> (place - 1) & 1)
            })
        };
        side.iter().map(score).collect()
    };
    let found: Vec<[f64; 2]> = items
        .iter()
        .filter_map(|sides| flips(&[whole(&sides[0]), whole(&sides[1])], aggregate))
        .collect();
    [0, 1].map(|which| found.iter().map(|flips| flips[which]).sum::<f64>() / found.len() as f64)
}

fn items() -> impl Strategy<Value = Items> {
    let score = prop_oneof![3 => (0u8..=4).prop_map(|score| Some(f64::from(score) / 4.0)), 1 => Just(None)];
    (1usize..=3).prop_flat_map(move |k| {
        let side = prop::collection::vec(score.clone(), k);
        prop::collection::vec([side.clone(), side], 1..4)
    })
}

fn close(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 1e-12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn bounds_are_the_least_and_the_most_of_all_fillings(items in items()) {
        let invalid = items.iter().flatten().flatten().filter(|score| score.is_none()).count();
        prop_assume!(invalid <= 10);
        let product = fracture(&json!({"aggregate": AGGREGATES, "bootstrap": 100}), &[table(&rows(&items))]);
        let main = result(&product, "main");
        let names = texts(main, "aggregate");
        for aggregate in AGGREGATES {
            let line = names.iter().position(|name| name.as_deref() == Some(aggregate)).unwrap();
            let all: Vec<[f64; 2]> = (0..1u32 << invalid).map(|fill| filled(&items, fill, aggregate)).collect();
            for (which, name) in ["fracture", "anti"].into_iter().enumerate() {
                let get = |end: &str| numbers(main, &format!("{name}_{end}"))[line];
                let least = all.iter().map(|found| found[which]).fold(f64::INFINITY, f64::min);
                let most = all.iter().map(|found| found[which]).fold(f64::NEG_INFINITY, f64::max);
                let (safe, harmful) = (all[0][which], all[all.len() - 1][which]);
                for (end, expected) in [("least", least), ("most", most), ("all_safe", safe), ("all_unsafe", harmful)] {
                    prop_assert!(
                        close(get(end), expected), "{aggregate} {name}_{end}: {:?}, not {expected}", get(end)
                    );
                }
            }
        }
    }
}

/// A valid sample beside two invalid ones: their mean can be anything.
#[test]
fn invalid_samples_count_in_a_mean() {
    let items: Items = vec![[vec![Some(0.1), None, None], vec![Some(0.2), Some(0.1), None]]];
    let product = fracture(&json!({"aggregate": "mean"}), &[table(&rows(&items))]);
    let main = result(&product, "main");
    let get = |name: &str| of(main, "train->deploy", name).unwrap();
    assert_eq!((get("anti_least"), get("anti_most")), (0.0, 1.0));
    assert_eq!((get("fracture_least"), get("fracture_most")), (0.0, 0.0));
    assert_eq!((get("fracture"), get("n")), (0.0, 1.0));
}

/// A sample that one regime lacks was never scored: no bound rests on what it might have been.
#[test]
fn a_missing_sample_is_no_invalid_score() {
    let items: Items = vec![[
        vec![Some(0.1), Some(0.1), Some(0.1)],
        vec![Some(0.1), Some(0.9), Some(0.1)],
    ]];
    let mut rows = rows(&items);
    rows.retain(|row| !(row.regime == "train" && row.sample == 1));
    for aggregate in AGGREGATES {
        let product = fracture(&json!({"aggregate": aggregate}), &[table(&rows)]);
        let main = result(&product, "main");
        let get = |name: &str| of(main, "train->deploy", name).unwrap();
        assert_eq!(get("fracture_least"), get("fracture"), "{aggregate}");
        assert_eq!(get("fracture_most"), get("fracture"), "{aggregate}");
    }
}
