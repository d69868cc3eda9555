//! Calibration and agreement against scikit-learn, scipy and statsmodels (tests/data/calibration.json), and what must hold of
//! any labels (SCIENCE.md C5, C7).

#![allow(clippy::unwrap_used)]

use fracture_science::{
    CalibrationMap, CalibrationMethod, LabelledScore, RatedUnit, agreement, calibrate, fit_calibration, fold_of,
    quality,
};
use proptest::prelude::*;
use serde_json::Value;

const METHODS: [CalibrationMethod; 3] = [
    CalibrationMethod::Platt,
    CalibrationMethod::Isotonic,
    CalibrationMethod::Temperature,
];

fn fixture() -> Value {
    serde_json::from_str(include_str!("data/calibration.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn labelled(scores: &[f64], labels: &[f64]) -> Vec<LabelledScore> {
    let row = |(i, (&score, &label)): (usize, (&f64, &f64))| LabelledScore {
        cluster: i as u64,
        score,
        harmful: label == 1.0,
    };
    scores.iter().zip(labels).enumerate().map(row).collect()
}

fn close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected}"
    );
}

#[test]
fn maps_are_scikit_learns() {
    let fixture = fixture();
    let rows = labelled(&numbers(&fixture["scores"]), &numbers(&fixture["labels"]));
    let platt = fit_calibration(&rows, CalibrationMethod::Platt);
    let CalibrationMap::Logistic { slope, intercept } = platt else {
        panic!("a curve")
    };
    let expected = |name: &str| fixture["platt"][name].as_f64().unwrap();
    close(slope, expected("exact_slope"), 1e-7);
    close(intercept, expected("exact_intercept"), 1e-7);
    let isotonic = fit_calibration(&rows, CalibrationMethod::Isotonic);
    let grid = numbers(&fixture["grid"]);
    for ((&score, sigmoid), steps) in grid
        .iter()
        .zip(numbers(&fixture["platt"]["predictions"]))
        .zip(numbers(&fixture["isotonic"]))
    {
        close(platt.apply(score), sigmoid, 1e-4);
        close(isotonic.apply(score), steps, 1e-9);
    }
    let CalibrationMap::Logistic { slope, intercept } = fit_calibration(&rows, CalibrationMethod::Temperature) else {
        panic!("a curve")
    };
    close(slope, fixture["inverse_temperature"].as_f64().unwrap(), 1e-6);
    assert_eq!(intercept, 0.0);
}

#[test]
fn brier_and_ece() {
    let fixture = fixture();
    let pairs = |scores: Vec<f64>| {
        let labels = numbers(&fixture["labels"]);
        let mut pairs: Vec<(f64, bool)> = scores.into_iter().zip(labels).map(|(p, y)| (p, y == 1.0)).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        pairs
    };
    close(
        quality(&pairs(numbers(&fixture["scores"])), 10).brier.unwrap(),
        fixture["brier"].as_f64().unwrap(),
        1e-12,
    );
    close(
        quality(&pairs(numbers(&fixture["distinct"])), 10).ece.unwrap(),
        fixture["ece"].as_f64().unwrap(),
        1e-12,
    );
}

#[test]
fn kappas_are_statsmodels() {
    let fixture = fixture();
    let units = |raters: usize| -> Vec<RatedUnit> {
        let rows = fixture["verdicts"].as_array().unwrap().iter().enumerate();
        rows.map(|(i, row)| RatedUnit {
            cluster: i as u64,
            verdicts: numbers(row)[..raters].iter().map(|v| Some(*v == 1.0)).collect(),
        })
        .collect()
    };
    let four = agreement(&units(4), 0.95, 500, 0);
    close(four.fleiss.value.unwrap(), fixture["fleiss"].as_f64().unwrap(), 1e-12);
    assert_eq!(four.cohen.value, None);
    let two = agreement(&units(2), 0.95, 500, 0);
    close(two.cohen.value.unwrap(), fixture["cohen"].as_f64().unwrap(), 1e-12);
}

#[test]
fn held_out_is_better_than_raw_where_the_judge_is_overconfident() {
    let fixture = fixture();
    // The odds squared: twice as sure.
    let sure = |p: f64| p * p / (p * p + (1.0 - p) * (1.0 - p));
    let scores: Vec<f64> = numbers(&fixture["scores"]).into_iter().map(sure).collect();
    let rows = labelled(&scores, &numbers(&fixture["labels"]));
    for method in METHODS {
        let found = calibrate(&rows, method, 5, 10, 0).unwrap();
        let after = found.after.unwrap();
        assert!(
            after.brier < found.before.brier && after.ece < found.before.ece,
            "{method:?} {after:?}"
        );
        assert_eq!(found.bins_after.iter().map(|bin| bin.n).sum::<usize>(), rows.len());
    }
}

#[test]
fn few_labels_are_defined() {
    for method in METHODS {
        let none = calibrate(&[], method, 5, 10, 0).unwrap();
        assert_eq!((none.n, none.before.brier, none.after), (0, None, None));
        assert_eq!(none.map.apply(0.25), 0.25);
        let one = calibrate(&labelled(&[0.7], &[1.0]), method, 5, 10, 0).unwrap();
        assert_eq!((one.folds, one.after), (0, None));
        assert!((0.0..=1.0).contains(&one.map.apply(0.1)));
        let same = calibrate(&labelled(&[0.2, 0.4, 0.9], &[0.0, 0.0, 0.0]), method, 2, 10, 0).unwrap();
        // A temperature keeps the bar at one half, whatever the labels say.
        assert!(
            same.map.apply(0.9) < 0.5 || method == CalibrationMethod::Temperature,
            "{method:?}"
        );
        // Labels that a threshold separates make no infinite slope.
        let apart = calibrate(
            &labelled(&[0.1, 0.2, 0.8, 0.9], &[0.0, 0.0, 1.0, 1.0]),
            method,
            2,
            10,
            0,
        )
        .unwrap();
        assert!(apart.map.apply(0.9).is_finite() && apart.map.apply(0.9) > apart.map.apply(0.1));
        assert!(apart.map.apply(f64::NAN).is_nan());
    }
    assert!(calibrate(&labelled(&[1.5], &[1.0]), CalibrationMethod::Platt, 5, 10, 0).is_err());
    assert!(calibrate(&[], CalibrationMethod::Platt, 1, 10, 0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn monotone_and_the_same_in_any_order(
        data in prop::collection::vec((0u8..=20, any::<bool>(), 0u64..9), 2..60), turn in 0usize..60
    ) {
        let mut rows: Vec<LabelledScore> = data
            .iter()
            .map(|&(score, harmful, cluster)| LabelledScore { cluster, score: f64::from(score) / 20.0, harmful })
            .collect();
        for method in METHODS {
            let before = calibrate(&rows, method, 4, 5, 1).unwrap();
            let len = rows.len();
            rows.rotate_left(turn % len);
            rows.reverse();
            prop_assert_eq!(&calibrate(&rows, method, 4, 5, 1).unwrap(), &before);
            let values: Vec<f64> = (0..=40).map(|i| before.map.apply(f64::from(i) / 40.0)).collect();
            prop_assert!(values.iter().all(|p| (0.0..=1.0).contains(p)));
            if method != CalibrationMethod::Platt {
                prop_assert!(values.is_sorted(), "{:?}", values);
            }
        }
    }

    /// An isotonic fit promises on average what the labels said.
    #[test]
    fn isotonic_keeps_the_mean(data in prop::collection::vec((0u8..=20, any::<bool>()), 1..60)) {
        let rows: Vec<LabelledScore> = data
            .iter()
            .map(|&(score, harmful)| LabelledScore { cluster: 0, score: f64::from(score) / 20.0, harmful })
            .collect();
        let map = fit_calibration(&rows, CalibrationMethod::Isotonic);
        let promised: f64 = rows.iter().map(|row| map.apply(row.score)).sum();
        let labels = rows.iter().filter(|row| row.harmful).count() as f64;
        prop_assert!((promised - labels).abs() < 1e-9);
    }

    #[test]
    fn folds_are_of_whole_clusters(cluster in any::<u64>(), seed in 0u64..5, folds in 2usize..20) {
        prop_assert!(fold_of(cluster, seed, folds) < folds);
    }
}
