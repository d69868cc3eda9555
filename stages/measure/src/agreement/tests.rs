#![allow(clippy::unwrap_used)]

use fracture_stage::{Context, View};
use serde_json::{Value, json};

use super::declaration;
use crate::testing::{
    LabelRow, Row, announced_ports, batch, labels, numbers, result, run, run_ports, texts, view, yielded,
};

/// Twenty pairs; the judge calls unsafe what `harmful` says of (item, deployment).
fn judge(name: &str, harmful: fn(usize, bool) -> bool) -> View {
    let score = |item, deploy| if harmful(item, deploy) { 0.9 } else { 0.1 };
    let rows: Vec<Row> = (0..20)
        .flat_map(|item| {
            [
                Row::new(item, "train", score(item, false)),
                Row::new(item, "deploy", score(item, true)),
            ]
        })
        .collect();
    view(&batch(&rows), &["model", "judge"], &[("judge", json!(name))])
}

fn three() -> Vec<View> {
    vec![
        judge("b", |item, deploy| deploy && item < 10),
        judge("a", |item, deploy| deploy && item < 8),
        judge("c", |item, deploy| deploy && (4..12).contains(&item)),
    ]
}

#[test]
fn pairs_of_judges_and_all_of_them() {
    let product = run(&declaration(), &json!({"bootstrap": 300}), &three()).unwrap();
    let main = result(&product, "main");
    let pairs: Vec<_> = texts(main, "judge_a").into_iter().zip(texts(main, "judge_b")).collect();
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(
        pairs,
        [
            (name("a"), name("b")),
            (name("a"), name("c")),
            (name("b"), name("c")),
            (name("all"), None)
        ]
    );
    // a and b: 8 of 40 texts both unsafe, 2 only b, 30 safe; chance .2 * .25 + .8 * .75 = .65.
    assert_eq!(numbers(main, "n"), [Some(40.0); 4]);
    assert!((numbers(main, "raw")[0].unwrap() - 0.95).abs() < 1e-12);
    assert!((numbers(main, "kappa")[0].unwrap() - 0.30 / 0.35).abs() < 1e-12);
    assert_eq!(
        numbers(main, "flip_jaccard"),
        [Some(0.8), Some(4.0 / 12.0), Some(0.5), None]
    );
    assert_eq!(numbers(main, "fracture_a")[0], Some(0.4));
    assert_eq!(numbers(main, "judges")[3], Some(3.0));
    assert!(numbers(main, "alpha")[3].unwrap() < numbers(main, "alpha")[0].unwrap());
    assert!(numbers(main, "kappa_low")[0].unwrap() < numbers(main, "kappa")[0].unwrap());
    let judges = result(&product, "judges");
    assert_eq!(texts(judges, "judge"), [name("a"), name("b"), name("c")]);
    assert_eq!(numbers(judges, "fracture"), [Some(0.4), Some(0.5), Some(0.4)]);
}

#[test]
fn people_are_one_more_judge() {
    let mut said: Vec<LabelRow> = Vec::new();
    for item in 0..12usize {
        for (regime, harmful) in [("train", false), ("deploy", item < 8)] {
            said.push(LabelRow {
                rater: "ann",
                ..LabelRow::new(item, regime, harmful)
            });
        }
    }
    let ports: [(&str, &[View]); 2] = [("verdicts", &three()[..1]), ("labels", &[labels(&said)])];
    let product = run_ports(&declaration(), &json!({"bootstrap": 200}), &ports).unwrap();
    let main = result(&product, "main");
    assert_eq!(texts(main, "judge_b"), [Some("people: ann".to_owned())]);
    assert_eq!(
        (numbers(main, "n")[0], numbers(main, "both_unsafe")[0]),
        (Some(24.0), Some(8.0))
    );
    assert_eq!(numbers(main, "flip_jaccard")[0], Some(0.8));
    // The judge has twenty pairs, people twelve: both sides of a line speak of those twelve.
    assert_eq!(numbers(main, "pairs"), [Some(12.0)]);
    assert_eq!(
        (numbers(main, "flips_a")[0], numbers(main, "flips_b")[0]),
        (Some(10.0), Some(8.0))
    );
    assert_eq!(numbers(main, "fracture_a")[0], Some(10.0 / 12.0));
    assert_eq!(numbers(main, "fracture_b")[0], Some(8.0 / 12.0));
    let judges = result(&product, "judges");
    assert_eq!(numbers(judges, "sensitivity"), [Some(1.0), None]);
    assert_eq!(numbers(judges, "specificity"), [Some(14.0 / 16.0), None]);
    assert_eq!(numbers(judges, "labelled"), [Some(24.0), Some(0.0)]);
    assert_eq!(numbers(judges, "fracture")[1], Some(8.0 / 12.0));
    assert_eq!(
        announced_ports(&declaration(), &json!({"bootstrap": 200}), &ports).unwrap(),
        yielded(&product)
    );
}

#[test]
fn order_of_tables_and_groups() {
    let with = json!({"bootstrap": 200, "by": ["model"]});
    let mut views = three();
    let forward = run(&declaration(), &with, &views).unwrap();
    views.reverse();
    let backward = run(&declaration(), &with, &views).unwrap();
    for name in ["main", "judges"] {
        assert_eq!(result(&forward, name), result(&backward, name), "{name}");
    }
    let alone = run(&declaration(), &with, &views[..1]).unwrap();
    assert_eq!(result(&alone, "main").num_rows(), 0);
    assert!(
        alone.notes.iter().any(|note| note.contains("single judge")),
        "{:?}",
        alone.notes
    );
}

#[test]
fn parameters_are_checked() {
    let errors = |with: &Value| {
        (declaration().build)(with, &Context::default())
            .err()
            .map_or(0, |errors| errors.len())
    };
    assert_eq!(errors(&json!({"by": ["model"], "aggregate": "first"})), 0);
    for with in [
        json!({"by": ["judge"]}),
        json!({"bootstrap": 5}),
        json!({"confidence": 2}),
        json!({"judges": "x"}),
    ] {
        assert_eq!(errors(&with), 1, "{with}");
    }
}
