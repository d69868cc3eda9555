#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn names(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn row(logits: &[&[f32]]) -> RawRow {
    RawRow {
        logits: logits.iter().map(|window| window.to_vec()).collect(),
        truncated: false,
    }
}

fn scoring(
    labels: &[&str],
    activation: Activation,
    unsafe_: &[&str],
    orientation: Orientation,
    reduce: Reduce,
) -> Scoring {
    Scoring::new(names(labels), activation, &names(unsafe_), orientation, reduce).unwrap()
}

#[test]
fn golden_values() {
    let three = |labels: &[&str]| {
        scoring(
            &["a", "b", "c"],
            Activation::Softmax,
            labels,
            Orientation::Bad,
            Reduce::Max,
        )
    };
    // softmax(1, 2, 3) = (0.0900306, 0.2447285, 0.6652410)
    let logits = row(&[&[1.0, 2.0, 3.0]]);
    assert!((three(&["c"]).apply(&logits).unwrap().p_unsafe - 0.665_240_955_774_821_9).abs() < 1e-15);
    assert!((three(&["c", "a"]).apply(&logits).unwrap().p_unsafe - 0.755_271_528_945_202_4).abs() < 1e-9);
    let multi = scoring(
        &["a", "b", "c"],
        Activation::Sigmoid,
        &["a", "b"],
        Orientation::Bad,
        Reduce::Max,
    );
    // sigmoid(2) = 0.8807970779778823; the greatest, not the sum.
    assert!((multi.apply(&logits).unwrap().p_unsafe - 0.880_797_077_977_882_3).abs() < 1e-15);
    let single = scoring(
        &["toxic"],
        Activation::Sigmoid,
        &["toxic"],
        Orientation::Bad,
        Reduce::Max,
    );
    assert!((single.apply(&row(&[&[-2.0]])).unwrap().p_unsafe - 0.119_202_922_022_117_55).abs() < 1e-15);
    let binary = scoring(
        &["safe", "unsafe"],
        Activation::Sigmoid,
        &["safe"],
        Orientation::Good,
        Reduce::Max,
    );
    assert!((binary.apply(&row(&[&[2.0]])).unwrap().p_unsafe - 0.880_797_077_977_882_3).abs() < 1e-15);
}

#[test]
fn windows_reduce_to_the_worst_the_first_or_the_mean() {
    let logits = row(&[&[0.0, 0.0], &[0.0, 5.0], &[5.0, 0.0]]);
    let p = |orientation, reduce| {
        scoring(&["ok", "bad"], Activation::Softmax, &["bad"], orientation, reduce)
            .apply(&logits)
            .unwrap()
            .p_unsafe
    };
    let high = 1.0 / (1.0 + (-5.0f64).exp());
    assert!((p(Orientation::Bad, Reduce::Max) - high).abs() < 1e-12);
    assert!(
        (p(Orientation::Good, Reduce::Max) - high).abs() < 1e-12,
        "the worst is found after orientation"
    );
    assert!((p(Orientation::Bad, Reduce::First) - 0.5).abs() < 1e-12);
    assert!((p(Orientation::Bad, Reduce::Mean) - 0.5).abs() < 1e-12);
}

#[test]
fn labels_that_do_not_exist_are_refused_with_the_nearest_name() {
    let new = |labels: &[&str], named: &[&str]| {
        Scoring::new(
            names(labels),
            Activation::Softmax,
            &names(named),
            Orientation::Bad,
            Reduce::Max,
        )
        .unwrap_err()
    };
    let error = new(&["safe", "unsafe"], &["Unsaef"]);
    assert_eq!(error.hint.as_deref(), Some("did you mean `unsafe`?"));
    assert!(error.causes[0].contains("safe, unsafe"), "{error}");
    assert!(
        new(&["LABEL_0", "LABEL_1"], &["unsafe"])
            .hint
            .unwrap()
            .contains("never guessed")
    );
    assert!(
        new(&["LABEL_0", "LABEL_1"], &[])
            .hint
            .unwrap()
            .contains("never guessed")
    );
    assert!(
        new(&["safe", "unsafe"], &["unsafe", "unsafe"])
            .message
            .contains("twice")
    );
}

#[test]
fn what_is_no_number_is_never_a_score() {
    let judge = scoring(
        &["safe", "unsafe"],
        Activation::Softmax,
        &["unsafe"],
        Orientation::Bad,
        Reduce::Max,
    );
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(
            judge
                .apply(&row(&[&[0.0, 1.0], &[0.0, bad]]))
                .unwrap_err()
                .message
                .contains("`unsafe`")
        );
    }
    assert!(
        judge
            .apply(&row(&[&[0.0, 1.0, 2.0]]))
            .unwrap_err()
            .message
            .contains("3 logits")
    );
    assert!(judge.apply(&row(&[])).is_err());
}

proptest! {
    #[test]
    fn probabilities_are_in_the_unit_interval_and_orientations_complement(
        logits in proptest::collection::vec(-1e4f32..1e4, 3), shift in -50f32..50.0,
    ) {
        for activation in [Activation::Softmax, Activation::Sigmoid] {
            let p = |named: &[&str], orientation| {
                scoring(&["a", "b", "c"], activation, named, orientation, Reduce::Max).apply(&row(&[&logits])).unwrap()
            };
            let (bad, good) = (p(&["a", "c"], Orientation::Bad), p(&["c", "a"], Orientation::Good));
            prop_assert!((0.0..=1.0).contains(&bad.p_unsafe) && bad.labels.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert_eq!(good.p_unsafe, 1.0 - bad.p_unsafe);
            if activation == Activation::Softmax {
                prop_assert!((bad.labels.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                let small: Vec<f32> = logits.iter().map(|x| x / 1e3).collect();
                let moved: Vec<f32> = small.iter().map(|x| x + shift).collect();
                let softmax_of = |x: &[f32]| softmax(x);
                for (a, b) in softmax_of(&small).iter().zip(softmax_of(&moved)) {
                    prop_assert!((a - b).abs() < 1e-4);
                }
            }
        }
    }
}
