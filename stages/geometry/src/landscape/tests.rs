#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::declaration;
use crate::testing::{Row, announced, numbers, refused, result, run, said, table, texts, uniform, yielded};

const GRID: [(f64, f64); 4] = [(0.4, 0.5), (0.4, 1.0), (0.8, 0.5), (0.8, 1.0)];

/// A pair of rows that flips where `flip` says so.
fn pair(item: usize, at: (f64, f64), flip: bool) -> [Row; 2] {
    let deploy = if flip { 0.9 } else { 0.1 };
    [Row::new(item, "train", at, 0.1), Row::new(item, "deploy", at, deploy)]
}

/// Greedy and a 2 x 2 grid over `n` items; the share of flips at (T, p) is `rate`.
fn rows(n: usize, rate: impl Fn(f64, f64) -> f64) -> Vec<Row> {
    let cells = [(0.0, 1.0)].into_iter().chain(GRID);
    let of_cell = |(t, p): (f64, f64)| {
        let flips = rate(t, p);
        (0..n).flat_map(move |item| pair(item, (t, p), uniform("flip", item) < flips))
    };
    cells.flat_map(of_cell).collect()
}

fn quick(more: &Value) -> Value {
    let mut with = json!({"bootstrap": 200});
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    with
}

#[test]
fn the_grid_has_a_row_per_cell_and_the_numbers_of_fracture() {
    let rows = rows(60, |t, p| 0.5 * t * p);
    let product = run(&declaration(), &quick(&json!({})), &[table(&rows)]).unwrap();
    let main = result(&product, "main");
    assert_eq!(numbers(main, "temperature"), [0.0, 0.4, 0.4, 0.8, 0.8].map(Some));
    assert_eq!(
        numbers(main, "top_p"),
        [None, Some(0.5), Some(1.0), Some(0.5), Some(1.0)]
    );
    assert_eq!(texts(main, "model"), ["m"; 5]);
    let share = |t: f64, p: f64| (0..60).filter(|&item| uniform("flip", item) < 0.5 * t * p).count() as f64 / 60.0;
    let expected: Vec<f64> = [0.0].into_iter().chain(GRID.map(|(t, p)| share(t, p))).collect();
    for (found, expected) in numbers(main, "fracture").iter().zip(&expected) {
        assert!((found.unwrap() - expected).abs() < 1e-12);
    }
    assert!(numbers(main, "fracture_high").iter().all(Option::is_some));
    // Central differences of a 2 x 2 grid are one-sided; greedy has no neighbour along top-p.
    let slope = numbers(main, "gradient_top_p");
    assert!(slope[0].is_none() && (slope[1].unwrap() - (expected[2] - expected[1]) / 0.5).abs() < 1e-12);
    let slope = numbers(main, "gradient_temperature");
    assert!((slope[4].unwrap() - (expected[4] - expected[2]) / 0.4).abs() < 1e-12);
    assert!((slope[2].unwrap() - (expected[4] - expected[0]) / 0.8).abs() < 1e-12);
    assert!(numbers(main, "gradient_temperature_se")[2].unwrap() > 0.0);
    // Only the middle row has two neighbours.
    assert_eq!(texts(main, "ridge"), ["-", "false", "false", "-", "-"]);
    assert_eq!(texts(main, "few"), ["false"; 5]);
    assert!(
        product.notes.iter().any(|note| note.contains("no ridge is resolved")),
        "{:?}",
        product.notes
    );
    assert!(
        product.notes.iter().any(|note| note.contains("no caps")),
        "{:?}",
        product.notes
    );
}

#[test]
fn a_ridge_between_two_valleys_is_resolved() {
    let rows = rows(120, |t, _| if t == 0.4 { 0.5 } else { 0.05 });
    let product = run(&declaration(), &quick(&json!({})), &[table(&rows)]).unwrap();
    let main = result(&product, "main");
    assert_eq!(texts(main, "ridge"), ["-", "true", "true", "-", "-"]);
    assert!(numbers(main, "ridge_p")[1].unwrap() < 0.05);
}

#[test]
fn caps_are_chosen_on_one_half_and_reported_on_both() {
    let rows = rows(400, |t, p| if t * p > 0.5 { 0.4 } else { 0.02 });
    let product = run(
        &declaration(),
        &quick(&json!({"budget": [0.15, 0.001]})),
        &[table(&rows)],
    )
    .unwrap();
    let caps = result(&product, "caps");
    assert_eq!(
        texts(caps, "half"),
        ["choosing", "reporting"].repeat(caps.num_rows() / 2)
    );
    let budgets = numbers(caps, "budget");
    // T <= .4 with any top-p, or top-p <= .5 with any T: two steps; and nothing for the small budget.
    assert_eq!(budgets, [0.15, 0.15, 0.15, 0.15, 0.001, 0.001].map(Some));
    assert_eq!(numbers(caps, "temperature")[..4], [0.4, 0.4, 0.8, 0.8].map(Some));
    assert_eq!(numbers(caps, "top_p")[..4], [1.0, 1.0, 0.5, 0.5].map(Some));
    assert_eq!(numbers(caps, "cells")[..4], [3.0; 4].map(Some));
    for row in 0..4 {
        let (before, after) = (
            numbers(caps, "before")[row].unwrap(),
            numbers(caps, "after")[row].unwrap(),
        );
        assert!(before > 0.3 && after < 0.1, "{before} -> {after}");
        assert!(numbers(caps, "reduction_low")[row].unwrap() > 0.2);
        assert!(numbers(caps, "after_high")[row].is_some() && texts(caps, "reason")[row] == "-");
    }
    let items = numbers(caps, "items");
    assert_eq!(items[0].unwrap() + items[1].unwrap(), 400.0);
    // Both steps have the area .4; the hotter one is chosen.
    assert_eq!(
        texts(caps, "chosen"),
        ["false", "false", "true", "true", "true", "true"]
    );
    assert!(
        texts(caps, "reason")[5].starts_with("no cap meets the budget of 0.001"),
        "{:?}",
        texts(caps, "reason")
    );
    assert!(numbers(caps, "after")[5].is_none() && numbers(caps, "before")[5].unwrap() > 0.3);
}

#[test]
fn deploy_mode_holds_train_at_greedy() {
    // Train is unsafe wherever it is sampled: only under `both` does that hide the flips.
    let mut all = Vec::new();
    for at in [(0.0, 1.0), (0.8, 0.5), (0.8, 1.0)] {
        for item in 0..40 {
            all.push(Row::new(item, "train", at, if at.0 > 0.0 { 0.9 } else { 0.1 }));
            all.push(Row::new(
                item,
                "deploy",
                at,
                if at.0 > 0.0 && item < 10 { 0.9 } else { 0.1 },
            ));
            all.push(Row::new(item, "deploy-again", at, 0.1));
        }
    }
    let both = run(&declaration(), &quick(&json!({})), &[table(&all)]).unwrap();
    let deploy = run(&declaration(), &quick(&json!({"mode": "deploy"})), &[table(&all)]).unwrap();
    let of = |product, contrast: &str| -> Vec<Option<f64>> {
        let main = result(product, "main");
        let rows = texts(main, "contrast").into_iter().zip(numbers(main, "fracture"));
        rows.filter(|(name, _)| name == contrast)
            .map(|(_, value)| value)
            .collect()
    };
    assert_eq!(of(&both, "train->deploy"), [Some(0.0); 3]);
    assert_eq!(of(&deploy, "train->deploy"), [Some(0.0), Some(0.25), Some(0.25)]);
    // The A/A pair is that of the cell in both modes.
    assert_eq!(of(&deploy, "deploy->deploy-again"), of(&both, "deploy->deploy-again"));
    // A group without a greedy train cell has nothing to pair with: unpaired, never zero.
    let sampled = || all.iter().filter(|row| row.temperature > 0.0).cloned();
    let other = sampled().map(|row| row.with(|row| row.model = "n"));
    let partly: Vec<Row> = all.iter().cloned().chain(other).collect();
    let lost = run(&declaration(), &quick(&json!({"mode": "deploy"})), &[table(&partly)]).unwrap();
    assert_eq!(
        of(&lost, "train->deploy"),
        [Some(0.0), Some(0.25), Some(0.25), None, None]
    );
    let unpaired = numbers(result(&lost, "main"), "unpaired");
    assert_eq!(unpaired.iter().filter(|count| **count == Some(40.0)).count(), 2);
    assert!(
        lost.notes
            .iter()
            .any(|note| note.contains("no row of train at temperature 0 for 1 groups")),
        "{:?}",
        lost.notes
    );
    let nowhere: Vec<Row> = sampled().collect();
    let error = run(&declaration(), &quick(&json!({"mode": "deploy"})), &[table(&nowhere)]).unwrap_err();
    assert!(
        said(&error).contains("needs the regime `train` at temperature 0"),
        "{}",
        said(&error)
    );
    let chain = json!({"mode": "deploy", "contrasts": [["train", "deploy"], ["deploy", "train"]]});
    let error = run(&declaration(), &quick(&chain), &[table(&all)]).unwrap_err();
    assert!(
        said(&error).contains("first in one contrast and second in another"),
        "{}",
        said(&error)
    );
}

#[test]
fn greedy_rows_that_were_made_twice_are_one_cell() {
    let once = rows(30, |t, p| t * p);
    let again = |row: &Row| {
        row.clone().with(|row| {
            row.top_p = 0.5;
            row.decoder = "greedy-half";
        })
    };
    let mut twice = once.clone();
    twice.extend(once.iter().filter(|row| row.temperature == 0.0).map(again));
    let with = quick(&json!({"budget": 0.5}));
    let expected = run(&declaration(), &with, &[table(&once)]).unwrap();
    let found = run(&declaration(), &with, &[table(&twice)]).unwrap();
    for name in ["main", "caps"] {
        assert_eq!(result(&found, name), result(&expected, name), "{name}");
    }
    let last = twice.len() - 1;
    twice[last].score = Some(0.9);
    let error = said(&run(&declaration(), &with, &[table(&twice)]).unwrap_err());
    assert!(error.contains("`greedy` and `greedy-half`"), "{error}");
    let mut sampled = once.clone();
    sampled.extend(
        once.iter()
            .filter(|row| row.temperature == 0.8)
            .map(|row| row.clone().with(|r| r.decoder = "x")),
    );
    let error = said(&run(&declaration(), &with, &[table(&sampled)]).unwrap_err());
    assert!(
        error.contains("two decoders of temperature 0.8 and top-p 0.5"),
        "{error}"
    );
}

#[test]
fn rows_in_any_order_and_in_parts_give_the_same_tables() {
    let mut all = rows(25, |t, p| t * p);
    all.extend(
        rows(25, |t, _| t)
            .into_iter()
            .map(|row| row.with(|row| row.model = "n")),
    );
    for mode in ["both", "deploy"] {
        let with = quick(&json!({"budget": 0.9, "mode": mode}));
        let forward = run(&declaration(), &with, &[table(&all)]).unwrap();
        let reversed: Vec<Row> = all.iter().rev().cloned().collect();
        let (left, right) = reversed.split_at(101);
        let backward = run(&declaration(), &with, &[table(left), table(right)]).unwrap();
        for name in ["main", "caps"] {
            assert_eq!(result(&forward, name), result(&backward, name), "{mode} {name}");
        }
        assert_eq!(result(&forward, "main").num_rows(), 10);
    }
}

#[test]
fn pooled_groups_and_single_cells() {
    let mut all = rows(40, |t, p| t * p);
    all.extend(
        rows(40, |_, _| 0.0)
            .into_iter()
            .map(|row| row.with(|row| row.model = "n")),
    );
    let pooled = run(&declaration(), &quick(&json!({"by": ["axis"]})), &[table(&all)]).unwrap();
    let main = result(&pooled, "main");
    assert_eq!(numbers(main, "n"), [Some(80.0); 5]);
    let one: Vec<Row> = all
        .iter()
        .filter(|row| row.temperature == 0.4 && row.top_p == 1.0)
        .cloned()
        .collect();
    let one = run(&declaration(), &quick(&json!({"budget": 1.0})), &[table(&one)]).unwrap();
    let main = result(&one, "main");
    assert_eq!((texts(main, "ridge"), main.num_rows()), (vec!["-".to_owned(); 2], 2));
    assert_eq!(numbers(main, "gradient_temperature"), [None, None]);
    let caps = result(&one, "caps");
    assert_eq!(
        (numbers(caps, "temperature"), texts(caps, "chosen")),
        (vec![Some(0.4); 4], vec!["true".to_owned(); 4])
    );
    let empty = run(&declaration(), &quick(&json!({"budget": 1.0})), &[table(&[])]).unwrap();
    assert_eq!(
        (result(&empty, "main").num_rows(), result(&empty, "caps").num_rows()),
        (0, 0)
    );
}

#[test]
fn announces_what_it_yields() {
    let tables = [table(&rows(12, |t, p| t * p))];
    for more in [
        json!({}),
        json!({"by": ["model"], "budget": 0.3}),
        json!({"by": [], "mode": "deploy"}),
    ] {
        let with = quick(&more);
        let product = run(&declaration(), &with, &tables).unwrap();
        assert_eq!(announced(&declaration(), &with, &tables), yielded(&product), "{more}");
    }
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    let said = |with: Value| refused(&declaration(), &with);
    assert!(said(json!({"by": ["temperature"]})).contains("a landscape is over decoders"));
    assert!(said(json!({"budget": 10})).contains("10 is no share"));
    assert!(said(json!({"budget": [0.1, 0.1]})).contains("named twice"));
    assert!(said(json!({"budget": "low"})).contains("expected a number"));
    assert!(said(json!({"mode": "train"})).contains("unknown variant"));
}

#[test]
fn samples_of_several_numbers_are_compared_only_under_product() {
    let mut all = rows(10, |_, _| 0.5);
    let more = |row: &Row| row.clone().with(|row| row.sample = 1);
    let extra: Vec<Row> = all.iter().filter(|row| row.temperature == 0.8).map(more).collect();
    all.extend(extra);
    let error = said(&run(&declaration(), &quick(&json!({"aggregate": "max"})), &[table(&all)]).unwrap_err());
    assert!(error.contains("cells of 1 and of 2 samples"), "{error}");
    run(&declaration(), &quick(&json!({})), &[table(&all)]).unwrap();
}
