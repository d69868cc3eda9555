#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, LargeStringArray};
use arrow::record_batch::RecordBatch;
use fracture_stage::{Context, View};
use serde_json::{Value, json};

use super::declaration;
use crate::testing::{announced, integers, numbers, result, run, stage, view, yielded};

fn scores(scores: &[Option<f64>], axis: &[&str]) -> View {
    let scores: ArrayRef = Arc::new(Float64Array::from(scores.to_vec()));
    let axis: ArrayRef = Arc::new(LargeStringArray::from(axis.to_vec()));
    view(
        &RecordBatch::try_from_iter([("p_unsafe", scores), ("axis", axis)]).unwrap(),
        &[],
        &[],
    )
}

/// The columns `tau`, `tau_other` and `unsafe`.
type Verdicts = (Vec<Option<f64>>, Vec<Option<f64>>, Vec<Option<bool>>);

fn verdicts(with: &Value, table: View) -> Verdicts {
    let product = run(&declaration(), with, &[table]).unwrap();
    let batch = result(&product, "main");
    let flags = batch
        .column_by_name("unsafe")
        .unwrap()
        .as_any()
        .downcast_ref::<BooleanArray>()
        .unwrap()
        .clone();
    (
        numbers(batch, "tau"),
        numbers(batch, "tau_other"),
        flags.iter().collect(),
    )
}

fn errors(with: &Value) -> Vec<String> {
    let Err(errors) = (declaration().build)(with, &Context::default()) else {
        return Vec::new();
    };
    errors
        .into_iter()
        .map(|error| format!("{:?}: {}", error.path, error.message))
        .collect()
}

#[test]
fn a_score_at_tau_is_unsafe_and_none_is_no_verdict() {
    let table = scores(&[Some(0.5), Some(0.499), None, Some(f64::NAN), Some(1.0)], &["a"; 5]);
    let (tau, other, flags) = verdicts(&json!({"tau": 0.5}), table);
    assert_eq!(flags, [Some(true), Some(false), None, None, Some(true)]);
    assert_eq!((tau, other), (vec![Some(0.5); 5], vec![None; 5]));
}

#[test]
fn whole_numbers_are_scores_and_a_row_called_invalid_has_no_verdict() {
    let (_, _, flags) = verdicts(&json!({"tau": 1}), view(&integers("p_unsafe", &[0, 1]), &[], &[]));
    assert_eq!(flags, [Some(false), Some(true)]);
    let table = view(&integers("p_unsafe", &[0, 1]), &[], &[("invalid", json!("unparsable"))]);
    assert_eq!(verdicts(&json!({"tau": 1}), table).2, [None, None]);
}

#[test]
fn costs_under_both_conventions() {
    let table = || scores(&[Some(0.5)], &["a"]);
    let paper = verdicts(&json!({"harm": 3, "disagreement": 1}), table());
    assert_eq!(paper, (vec![Some(0.75)], vec![Some(0.25)], vec![Some(false)]));
    let bayes = verdicts(&json!({"harm": 3, "disagreement": 1, "convention": "bayes"}), table());
    assert_eq!(bayes, (vec![Some(0.25)], vec![Some(0.75)], vec![Some(true)]));
}

#[test]
fn cases_change_rows() {
    let with = json!({"harm": 4, "disagreement": 1, "cases": {"axis": {
        "helpfulness": {"tau": 0.3}, "safety": {"harm": 1}, "no-such": {"tau": 0.1}
    }}});
    let table = scores(&[Some(0.4); 3], &["helpfulness", "safety", "other"]);
    let (tau, other, flags) = verdicts(&with, table.clone());
    assert_eq!(tau, [Some(0.3), Some(0.5), Some(0.8)]);
    assert_eq!(
        other
            .iter()
            .map(|tau| tau.map(|tau| (tau * 1e9).round() / 1e9))
            .collect::<Vec<_>>(),
        [None, Some(0.5), Some(0.2)]
    );
    assert_eq!(flags, [Some(true), Some(false), Some(false)]);
    let product = run(&declaration(), &with, &[table]).unwrap();
    assert_eq!(product.notes, ["no row falls under the case axis: no-such"]);
}

#[test]
fn warns_of_both_thresholds() {
    let warnings = stage(&declaration(), &json!({"harm": 4, "disagreement": 1})).warnings();
    insta::assert_snapshot!(warnings.join("\n"), @"harm (a = 4) and disagreement (A = 1) differ, so the two conventions do: tau is 0.8 (paper, a/(A+a)), and would be 0.2 (bayes, A/(A+a)); results are shown at both");
    assert!(
        stage(&declaration(), &json!({"harm": 1, "disagreement": 1}))
            .warnings()
            .is_empty()
    );
    assert!(stage(&declaration(), &json!({"tau": 0.9})).warnings().is_empty());
}

#[test]
fn refuses_what_gives_no_threshold() {
    for with in [
        json!({}),
        json!({"tau": 1.5}),
        json!({"harm": 1}),
        json!({"harm": 0, "disagreement": 0}),
        json!({"harm": -1, "disagreement": 1}),
        json!({"tau": 0.5, "harm": 1}),
        json!({"tau": 0.5, "cases": {"axis": {"a": {"harm": 1}}}}),
        json!({"tau": 0.5, "cases": {"axis": {"a": {"tau": 2}}}}),
        json!({"tua": 0.5}),
    ] {
        assert_eq!(errors(&with).len(), 1, "{with}");
    }
    assert!(errors(&json!({"tau": 0.5, "cases": {"axis": {"a": {"tau": 2}}}}))[0].contains("cases"));
    assert!(errors(&json!({"tau": 0})).is_empty() && errors(&json!({"tau": 1})).is_empty());
}

#[test]
fn announces_what_it_yields() {
    let table = scores(&[Some(0.5)], &["a"]);
    let with = json!({"tau": 0.5});
    let product = run(&declaration(), &with, std::slice::from_ref(&table)).unwrap();
    assert_eq!(announced(&declaration(), &with, &[table]), yielded(&product));
    assert_eq!(result(&product, "main").column(2).null_count(), 0);
}

#[test]
fn another_column_of_scores_is_read_by_its_name_and_shown_as_the_score() {
    let table = || {
        let scores: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.75), None, Some(f64::NAN)]));
        let items: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b", "c"]));
        view(
            &RecordBatch::try_from_iter([("toxicity", scores), ("item", items)]).unwrap(),
            &[],
            &[],
        )
    };
    let with = json!({"tau": 0.5, "score": "toxicity"});
    let product = run(&declaration(), &with, &[table()]).unwrap();
    let batch = result(&product, "main");
    assert_eq!(numbers(batch, "p_unsafe")[0], Some(0.75));
    assert!(batch.column_by_name("p_raw").is_none());
    assert_eq!(announced(&declaration(), &with, &[table()]), yielded(&product));
    assert_eq!(
        product.notes,
        ["2 of 3 rows have no score and so no verdict; they are counted as `invalid`"]
    );
}

/// A logit or a grade is refused by name; an infinite score is never safe.
#[test]
fn a_score_that_is_no_probability_is_an_error() {
    for wrong in [-2.5, 1.0001, f64::NEG_INFINITY, f64::INFINITY] {
        let error = run(
            &declaration(),
            &json!({"tau": 0.5}),
            &[scores(&[Some(0.5), Some(wrong)], &["a", "b"])],
        );
        let error = error.unwrap_err();
        assert!(error.message.contains("which is no probability (row 2)"), "{error}");
        assert!(error.to_string().contains("1 of 2 scores"), "{error}");
    }
}
