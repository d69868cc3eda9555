#![allow(clippy::unwrap_used)]

use fracture_stage::{Context, Product, View};
use serde_json::{Value, json};

use super::declaration;
use crate::testing::{
    LabelRow, Row, announced_ports, batch, labels, numbers, result, run_ports, table, texts, view, yielded,
};
use crate::threshold;

/// An overconfident judge: of the texts it scores .9, 60% are unsafe, of those it scores .1, 20%.
fn scored() -> (Vec<Row>, Vec<LabelRow>) {
    let (mut rows, mut said) = (Vec::new(), Vec::new());
    for item in 0..200usize {
        let (score, harmful) = if item < 100 {
            (0.9, item % 10 < 6)
        } else {
            (0.1, item % 10 < 2)
        };
        rows.push(
            Row::new(item, "train", score).with(|row| row.axis = if item % 2 == 0 { "safety" } else { "helpfulness" }),
        );
        said.push(LabelRow::new(item, "train", harmful));
    }
    (rows, said)
}

fn calibrated(with: &Value, rows: &[Row], said: &[LabelRow]) -> Product {
    run_ports(
        &declaration(),
        with,
        &[("scores", &[table(rows)]), ("labels", &[labels(said)])],
    )
    .unwrap()
}

/// The main table as a view, as `threshold` gets it.
fn maps(product: &Product) -> View {
    view(result(product, "main"), &[], &[])
}

fn thresholded(with: &Value, rows: &[Row], maps: View) -> Result<Product, fracture_stage::Error> {
    run_ports(
        &threshold::declaration(),
        with,
        &[("scores", &[table(rows)]), ("calibration", &[maps])],
    )
}

#[test]
fn maps_say_what_the_labels_say_and_are_applied() {
    let (rows, said) = scored();
    for method in ["platt", "isotonic"] {
        let product = calibrated(&json!({"method": method}), &rows, &said);
        let main = result(&product, "main");
        assert_eq!(numbers(main, "n")[0], Some(200.0));
        assert!(numbers(main, "brier_after")[0] < numbers(main, "brier_before")[0]);
        assert!(numbers(main, "ece_after")[0] < numbers(main, "ece_before")[0]);
        let verdicts = thresholded(&json!({"tau": 0.5}), &rows, maps(&product)).unwrap();
        let main = result(&verdicts, "main");
        let (scores, raw) = (numbers(main, "p_unsafe"), numbers(main, "p_raw"));
        assert!(
            (scores[0].unwrap() - 0.6).abs() < 0.02 && (scores[150].unwrap() - 0.2).abs() < 0.02,
            "{method}"
        );
        assert_eq!((raw[0], raw[150]), (Some(0.9), Some(0.1)));
        // A bar between the raw and the calibrated score.
        let above = thresholded(&json!({"tau": 0.7}), &rows, maps(&product)).unwrap();
        assert_eq!(texts(result(&above, "main"), "unsafe")[0].as_deref(), Some("false"));
    }
}

#[test]
fn a_map_per_group() {
    let (rows, mut said) = scored();
    // In helpfulness the labels are the other way round.
    for row in said
        .iter_mut()
        .filter(|row| row.item.parse::<usize>().unwrap() % 2 == 1)
    {
        row.harmful = row.harmful.map(|harmful| !harmful);
    }
    let with = json!({"by": ["axis"], "cases": {"axis": {"safety": {"method": "isotonic"}}}});
    let product = calibrated(&with, &rows, &said);
    let main = result(&product, "main");
    assert_eq!(texts(main, "method")[0].as_deref(), Some("platt"));
    assert!(
        texts(main, "method")[1..]
            .iter()
            .all(|method| method.as_deref() == Some("isotonic"))
    );
    assert!(
        product
            .notes
            .iter()
            .any(|note| note.contains("the fitted map falls (axis helpfulness)")),
        "{:?}",
        product.notes
    );
    let verdicts = thresholded(&json!({"tau": 0.5, "by": ["axis"]}), &rows, maps(&product)).unwrap();
    let scores = numbers(result(&verdicts, "main"), "p_unsafe");
    assert!(scores[0].unwrap() > 0.5 && scores[1].unwrap() < 0.5);
    let unsaid = thresholded(&json!({"tau": 0.5}), &rows, maps(&product)).unwrap_err();
    assert!(unsaid.to_string().contains("several maps"), "{unsaid}");
    // A group without a label has no map, and its rows are no silent copies.
    let few: Vec<LabelRow> = said
        .into_iter()
        .filter(|row| row.item.parse::<usize>().unwrap() % 2 == 0)
        .collect();
    let product = calibrated(&json!({"by": ["axis"]}), &rows, &few);
    assert!(
        product
            .notes
            .iter()
            .any(|note| note.contains("no label, and so no map: axis helpfulness")),
        "{:?}",
        product.notes
    );
    let lost = thresholded(&json!({"tau": 0.5, "by": ["axis"]}), &rows, maps(&product)).unwrap_err();
    assert!(lost.to_string().contains("no map for axis helpfulness"), "{lost}");
}

#[test]
fn reliability_before_and_after() {
    let (rows, said) = scored();
    let product = calibrated(&json!({"bins": 4}), &rows, &said);
    let bins = result(&product, "reliability");
    let state = texts(bins, "stage");
    let counts = numbers(bins, "n");
    for wanted in ["before", "after"] {
        let total: f64 = state
            .iter()
            .zip(&counts)
            .filter(|(s, _)| s.as_deref() == Some(wanted))
            .filter_map(|(_, n)| *n)
            .sum();
        assert_eq!(total, 200.0, "{wanted}");
    }
    assert_eq!(numbers(bins, "observed")[0], Some(0.2));
}

#[test]
fn rows_in_any_order_and_what_is_announced() {
    let (mut rows, mut said) = scored();
    let with = json!({"by": ["axis"]});
    let forward = calibrated(&with, &rows, &said);
    rows.reverse();
    said.reverse();
    let backward = calibrated(&with, &rows, &said);
    for name in ["main", "reliability"] {
        assert_eq!(result(&forward, name), result(&backward, name), "{name}");
    }
    let ports: [(&str, &[View]); 2] = [("scores", &[table(&rows)]), ("labels", &[labels(&said)])];
    assert_eq!(
        announced_ports(&declaration(), &with, &ports).unwrap(),
        yielded(&forward)
    );
    let ports: [(&str, &[View]); 2] = [("scores", &[table(&rows)]), ("calibration", &[maps(&forward)])];
    let with = json!({"tau": 0.5, "by": ["axis"]});
    let verdicts = run_ports(&threshold::declaration(), &with, &ports).unwrap();
    assert_eq!(
        announced_ports(&threshold::declaration(), &with, &ports).unwrap(),
        yielded(&verdicts)
    );
    let alone = announced_ports(&threshold::declaration(), &with, &ports[..1]).unwrap_err();
    assert!(alone.to_string().contains("nothing is connected"), "{alone}");
}

#[test]
fn labels_that_fit_several_texts_are_refused() {
    let (rows, said) = scored();
    let other: Vec<Row> = rows
        .iter()
        .map(|row| row.clone().with(|row| row.model = "other"))
        .collect();
    let both = [table(&rows), table(&other)];
    let error = run_ports(
        &declaration(),
        &json!({}),
        &[("scores", &both), ("labels", &[labels(&said)])],
    )
    .unwrap_err();
    assert!(error.to_string().contains("differ in `model`"), "{error}");
    // Two judges of one text share its label.
    let judged = |name: &str| view(&batch(&rows), &["model", "judge"], &[("judge", json!(name))]);
    let both = [judged("a"), judged("b")];
    let product = run_ports(
        &declaration(),
        &json!({}),
        &[("scores", &both), ("labels", &[labels(&said)])],
    )
    .unwrap();
    assert_eq!(numbers(result(&product, "main"), "n"), [Some(400.0)]);
}

#[test]
fn parameters_are_checked() {
    let errors = |with: &Value| {
        (declaration().build)(with, &Context::default())
            .err()
            .map_or(0, |errors| errors.len())
    };
    assert_eq!(errors(&json!({"method": "temperature", "folds": 3})), 0);
    for with in [
        json!({"method": "beta"}),
        json!({"folds": 1}),
        json!({"bins": 0}),
        json!({"by": ["regime"]}),
        json!({"cases": {"axis": {"safety": {"method": "platt"}}}}),
    ] {
        assert_eq!(errors(&with), 1, "{with}");
    }
}
