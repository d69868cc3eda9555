//! The whole stage on the pairs of the oracle, which scipy and statsmodels have counted.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{fracture, of};
use crate::testing::{Row, result, table};

fn oracle() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracles/stats");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no oracles at {}", folder.display());
    None
}

/// Rows of a file of pairs, whose last two columns are u and v.
fn rows(text: &str, tau: f64) -> Vec<Row> {
    let pair = |(item, line): (usize, &str)| {
        let scores: Vec<f64> = line
            .rsplit(',')
            .take(2)
            .map(|field| field.trim().parse().unwrap())
            .collect();
        let row = |regime, score| Row::new(item, regime, score).with(|row| row.tau = tau);
        [row("train", scores[1]), row("deploy", scores[0])]
    };
    text.lines().skip(1).enumerate().flat_map(pair).collect()
}

fn check(expected: &Value, text: &str) {
    let number = |name: &str| expected[name].as_f64();
    let product = fracture(&json!({}), &[table(&rows(text, number("tau").unwrap()))]);
    let main = result(&product, "main");
    let of = |name| of(main, "train->deploy", name);
    assert_eq!((of("n"), of("tau")), (number("n"), number("tau")));
    let counts = ["both_safe", "fracture", "reverse", "both_unsafe"].map(number);
    assert_eq!(
        ["safe_safe", "safe_unsafe", "unsafe_safe", "unsafe_unsafe"].map(of),
        counts
    );
    let near = |name, expected: Option<f64>| {
        let (value, expected) = (of(name).unwrap(), expected.unwrap());
        assert!((value - expected).abs() < 1e-9, "{name}: {value} against {expected}");
    };
    near("fracture", number("fracture_rate"));
    near("fracture_low", expected["fracture_wilson95"][0].as_f64());
    near("fracture_high", expected["fracture_wilson95"][1].as_f64());
    near("anti_low", expected["reverse_wilson95"][0].as_f64());
    near("net", number("net_shift"));
    near("train_unsafe", number("train_unsafe_rate"));
    near("deploy_unsafe", number("deploy_unsafe_rate"));
    near("p_mcnemar", number("mcnemar_exact_p"));
}

#[test]
fn five_thousand_pairs_at_one_threshold() {
    let Some(folder) = oracle() else { return };
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected_flips.json")).unwrap()).unwrap();
    for group in expected["groups"].as_array().unwrap() {
        let name = ["model", "algorithm", "axis", "decoder"].map(|part| group[part].as_str().unwrap());
        let text = std::fs::read_to_string(folder.join("pairs").join(format!("{}.csv", name.join("__")))).unwrap();
        let results = group["results"].as_array().unwrap();
        check(
            results.iter().find(|result| result["tau"] == json!(0.25)).unwrap(),
            &text,
        );
    }
}

#[test]
fn invalid_scores_as_the_oracle_drops_them() {
    let Some(folder) = oracle() else { return };
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected_nan.json")).unwrap()).unwrap();
    let text = std::fs::read_to_string(folder.join("pairs_nan.csv")).unwrap();
    for result in expected["results"].as_array().unwrap() {
        check(result, &text);
    }
    let product = fracture(&json!({}), &[table(&rows(&text, 0.5))]);
    assert_eq!(
        of(result(&product, "main"), "train->deploy", "invalid"),
        expected["n_dropped"].as_f64()
    );
}
