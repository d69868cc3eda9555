//! The judge's errors, and labels that say what they are.

use serde_json::{Value, json};

use super::{declaration, of, pair, ten};
use crate::testing::{LabelRow, Row, announced_ports, labels, numbers, result, run_ports, table, yielded};

fn corrected(with: &Value, rows: &[Row], said: &[LabelRow]) -> fracture_stage::Product {
    run_ports(
        &declaration(),
        with,
        &[("verdicts", &[table(rows)]), ("labels", &[labels(said)])],
    )
    .unwrap()
}

/// A judge with sensitivity .9 and specificity .95 in both regimes, on 400 pairs that flip in a tenth; every text is
/// labelled.
fn noisy() -> (Vec<Row>, Vec<LabelRow>) {
    let (mut rows, mut said) = (Vec::new(), Vec::new());
    for item in 0..400usize {
        let truth = [item % 20 == 0, item % 10 < 2];
        let judged = |harmful: bool, place: usize| {
            let wrong = if harmful {
                place.is_multiple_of(10)
            } else {
                place % 20 == 1
            };
            if harmful != wrong { 0.9 } else { 0.1 }
        };
        let scores = [judged(truth[0], item / 20), judged(truth[1], item / 7)];
        rows.extend(pair(item, scores[0], scores[1]));
        said.push(LabelRow::new(item, "train", truth[0]));
        said.push(LabelRow::new(item, "deploy", truth[1]));
    }
    (rows, said)
}

#[test]
fn inversion_gives_back_the_margins_of_the_labels() {
    let (rows, said) = noisy();
    let product = corrected(&json!({"correct": "rogan-gladen", "bootstrap": 500}), &rows, &said);
    let main = result(&product, "main");
    let get = |name: &str| of(main, "train->deploy", name).unwrap();
    // With every text labelled the corrected margins are those of the labels, exactly.
    assert!((get("train_unsafe_corrected") - 0.05).abs() < 1e-9);
    assert!((get("deploy_unsafe_corrected") - 0.2).abs() < 1e-9);
    assert!((get("net_corrected") - 0.15).abs() < 1e-9);
    let identity = get("fracture_corrected") - get("anti_corrected") - get("net_corrected");
    assert!(identity.abs() < 1e-9);
    for name in [
        "fracture_corrected",
        "net_corrected",
        "sensitivity_train",
        "specificity_deploy",
    ] {
        let [low, value, high] = ["_low", "", "_high"].map(|end| get(&format!("{name}{end}")));
        assert!(low < value && value < high, "{name}");
    }
    assert_eq!(get("labelled"), 400.0);
    assert_eq!(crate::testing::texts(main, "errors_from"), [Some("group".to_owned())]);
}

#[test]
fn prediction_powered_with_all_labels_is_the_labels() {
    let (rows, said) = noisy();
    let product = corrected(&json!({"correct": "ppi"}), &rows, &said);
    let main = result(&product, "main");
    let get = |name: &str| of(main, "train->deploy", name).unwrap();
    // True flips: items of 10 k + 1, and 10 k where that is no multiple of 20.
    assert!((get("fracture_corrected") - 0.15).abs() < 1e-12);
    assert_eq!((get("anti_corrected"), get("lambda")), (0.0, 0.0));
    // Half of the labels: still near, and wider.
    let half: Vec<LabelRow> = said
        .iter()
        .filter(|row| row.item.parse::<usize>().unwrap() % 3 == 0)
        .cloned()
        .collect();
    let product = corrected(&json!({"correct": "ppi"}), &rows, &half);
    let main = result(&product, "main");
    let fewer = |name: &str| of(main, "train->deploy", name).unwrap();
    assert!((fewer("fracture_corrected") - 0.15).abs() < 0.05);
    assert!(
        fewer("fracture_corrected_high") - fewer("fracture_corrected_low")
            > get("fracture_corrected_high") - get("fracture_corrected_low")
    );
    assert!(fewer("lambda") > 0.0);
}

/// Labels of every flip that the judge finds and of a tenth of the rest: plain labels mislead, strata do not.
#[test]
fn labels_that_were_chosen_by_what_the_judge_says_are_weighed_by_stratum() {
    let (rows, said) = noisy();
    let judged = |item: &str, regime: &str| {
        let row = rows
            .iter()
            .find(|row| row.item == item && row.regime == regime)
            .unwrap();
        row.score.unwrap() >= 0.5
    };
    let chosen = |row: &&LabelRow| {
        let flips = !judged(&row.item, "train") && judged(&row.item, "deploy");
        // Of the others a quarter, by a hash that knows nothing of them.
        let number: u32 = row.item.parse().unwrap();
        flips || (number.wrapping_mul(2_654_435_761) >> 20).is_multiple_of(4)
    };
    let few: Vec<LabelRow> = said.iter().filter(chosen).cloned().collect();
    let found = |how: &str| {
        let product = corrected(&json!({"correct": how}), &rows, &few);
        let main = result(&product, "main");
        ["", "_low", "_high"].map(|end| of(main, "train->deploy", &format!("fracture_corrected{end}")).unwrap())
    };
    let [value, low, high] = found("stratified");
    assert!(low < 0.15 && 0.15 < high, "{low} {value} {high}");
    let plain = found("ppi")[0];
    assert!((plain - 0.15).abs() > (value - 0.15).abs(), "{plain} {value}");
    // And it is said that they mislead, where they do.
    let told = |how: &str, said: &[LabelRow]| {
        let product = corrected(&json!({"correct": how}), &rows, said);
        product.notes.iter().any(|note| note.contains("drawn at random"))
    };
    let half: Vec<LabelRow> = said
        .iter()
        .filter(|row| (row.item.parse::<u32>().unwrap().wrapping_mul(2_654_435_761) >> 20).is_multiple_of(2))
        .cloned()
        .collect();
    assert!(told("ppi", &few) && !told("stratified", &few) && !told("ppi", &half));
    let all = corrected(&json!({"correct": "stratified"}), &rows, &said);
    assert!((of(result(&all, "main"), "train->deploy", "fracture_corrected").unwrap() - 0.15).abs() < 1e-12);
}

#[test]
fn few_labels_are_said_and_borrowed() {
    let (mut rows, said) = noisy();
    let other: Vec<Row> = ten()
        .into_iter()
        .map(|row| {
            row.with(|row| {
                row.item = format!("other-{}", row.item);
                row.model = "unlabelled";
            })
        })
        .collect();
    rows.extend(other);
    let product = corrected(&json!({"correct": "rogan-gladen", "bootstrap": 200}), &rows, &said);
    let main = result(&product, "main");
    assert_eq!(
        crate::testing::texts(main, "errors_from"),
        [Some("group".to_owned()), Some("all groups".to_owned())]
    );
    assert!(numbers(main, "fracture_corrected")[1].is_some());
    assert!(
        product.notes.iter().any(|note| note.contains("labels of other groups")),
        "{:?}",
        product.notes
    );
    let none = corrected(&json!({"correct": "ppi"}), &ten(), &[LabelRow::new(1, "train", true)]);
    assert_eq!(of(result(&none, "main"), "train->deploy", "fracture_corrected"), None);
    assert!(
        none.notes.iter().any(|note| note.contains("needs two")),
        "{:?}",
        none.notes
    );
}

#[test]
fn raters_labels_and_what_does_not_fit() {
    let said = |rater, harmful| LabelRow {
        rater,
        harmful: Some(harmful),
        ..LabelRow::new(0, "train", false)
    };
    let with = json!({"correct": "ppi"});
    let run = |said: &[LabelRow]| {
        run_ports(
            &declaration(),
            &with,
            &[("verdicts", &[table(&ten())]), ("labels", &[labels(said)])],
        )
    };
    let tie = run(&[
        said("ann", true),
        said("ben", false),
        LabelRow {
            rater: "ann",
            ..LabelRow::new(99, "train", true)
        },
    ])
    .unwrap();
    assert!(
        tie.notes.iter().any(|note| note.contains("as many raters")),
        "{:?}",
        tie.notes
    );
    assert!(
        tie.notes.iter().any(|note| note.contains("1 labels belong to no row")),
        "{:?}",
        tie.notes
    );
    let twice = run(&[said("ann", true), said("ann", false)]).unwrap_err();
    assert!(twice.to_string().contains("two labels for one text"), "{twice}");
    let lost = run(&[LabelRow::new("nobody", "train", true)]).unwrap_err();
    assert!(lost.to_string().contains("no label belongs to any row"), "{lost}");
}

#[test]
fn announces_what_it_yields() {
    let (rows, said) = noisy();
    let ports: [(&str, &[_]); 2] = [("verdicts", &[table(&rows)]), ("labels", &[labels(&said)])];
    for with in [
        json!({"correct": "ppi", "bootstrap": 100}),
        json!({"correct": "rogan-gladen", "bootstrap": 100}),
    ] {
        let product = run_ports(&declaration(), &with, &ports).unwrap();
        assert_eq!(
            announced_ports(&declaration(), &with, &ports).unwrap(),
            yielded(&product)
        );
    }
    let unsaid = announced_ports(&declaration(), &json!({}), &ports).unwrap_err();
    assert!(unsaid.to_string().contains("labels are connected"), "{unsaid}");
    let missing = announced_ports(&declaration(), &json!({"correct": "ppi"}), &ports[..1]).unwrap_err();
    assert!(missing.to_string().contains("needs labels"), "{missing}");
}
