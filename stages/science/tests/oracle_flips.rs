//! Agreement with statsmodels, scipy and numpy on the pairs under `../shared/oracles/stats`.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use fracture_science::{ClusterSums, FlipOptions, FlipSummary, Pair, flips, percentile};
use serde_json::Value;

fn oracles() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracles/stats");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: no oracles at {}", path.display());
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn read_pairs(path: &Path) -> Vec<[f64; 2]> {
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let cells: Vec<f64> = line.split(',').map(|c| c.parse().unwrap()).collect();
        [cells[cells.len() - 2], cells[cells.len() - 1]]
    };
    text.lines().skip(1).map(row).collect()
}

fn summary(scores: &[[f64; 2]], tau: f64) -> FlipSummary {
    let pairs: Vec<Pair> = scores
        .iter()
        .enumerate()
        .map(|(i, s)| Pair {
            item: i as u64,
            cluster: i as u64,
            first: &s[..1],
            second: &s[1..],
        })
        .collect();
    flips(
        &pairs,
        &FlipOptions {
            tau,
            ..FlipOptions::default()
        },
    )
    .unwrap()
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn close(found: Option<f64>, expected: Option<f64>, what: &str) {
    match (found, expected) {
        (Some(f), Some(e)) => assert!(
            (f - e).abs() <= 1e-11 + 1e-9 * e.abs(),
            "{what}: found {f}, expected {e}"
        ),
        (found, expected) => assert_eq!(found, expected, "{what}"),
    }
}

fn check(found: &FlipSummary, expected: &Value, what: &str) {
    assert_eq!(found.n as u64, expected["n"].as_u64().unwrap(), "{what}");
    let counts = [
        (found.safe_unsafe, "fracture"),
        (found.unsafe_safe, "reverse"),
        (found.unsafe_unsafe, "both_unsafe"),
        (found.safe_safe, "both_safe"),
        (found.unsafe_safe + found.unsafe_unsafe, "train_unsafe"),
        (found.safe_unsafe + found.unsafe_unsafe, "deploy_unsafe"),
    ];
    for (count, name) in counts {
        assert_eq!(count, number(&expected[name]).unwrap(), "{what} {name}");
    }
    let rates = [
        (found.fracture.value, "fracture_rate"),
        (found.anti.value, "reverse_rate"),
        (found.train_unsafe.value, "train_unsafe_rate"),
        (found.deploy_unsafe.value, "deploy_unsafe_rate"),
        (found.net.value, "net_shift"),
        (found.deploy_unsafe_given_safe.value, "fracture_given_train_safe"),
        (found.p_mcnemar, "mcnemar_exact_p"),
    ];
    for (rate, name) in rates {
        close(rate, number(&expected[name]), &format!("{what} {name}"));
    }
    let intervals = [
        (found.fracture, "fracture_wilson95"),
        (found.anti, "reverse_wilson95"),
        (found.train_unsafe, "train_unsafe_wilson95"),
    ];
    for (estimate, name) in intervals {
        close(estimate.low, number(&expected[name][0]), &format!("{what} {name} low"));
        close(
            estimate.high,
            number(&expected[name][1]),
            &format!("{what} {name} high"),
        );
    }
    if found.safe_unsafe == 0.0 {
        assert_eq!(found.fracture.low, Some(0.0), "{what}: an end that is exactly 0");
    }
}

#[test]
fn flips_at_every_tau() {
    let Some(dir) = oracles() else { return };
    let expected = json(&dir.join("expected_flips.json"));
    for group in expected["groups"].as_array().unwrap() {
        let key = |k: &str| group[k].as_str().unwrap().to_owned();
        let name = ["model", "algorithm", "axis", "decoder"].map(key).join("__");
        let scores = read_pairs(&dir.join("pairs").join(format!("{name}.csv")));
        for result in group["results"].as_array().unwrap() {
            let tau = result["tau"].as_f64().unwrap();
            check(&summary(&scores, tau), result, &format!("{name} at {tau}"));
        }
    }
}

#[test]
fn nan_pairs_are_dropped_and_counted() {
    let Some(dir) = oracles() else { return };
    let expected = json(&dir.join("expected_nan.json"));
    let scores = read_pairs(&dir.join("pairs_nan.csv"));
    for result in expected["results"].as_array().unwrap() {
        let found = summary(&scores, result["tau"].as_f64().unwrap());
        assert_eq!(found.invalid as u64, expected["n_dropped"].as_u64().unwrap());
        let nans = expected["n_nan_u"].as_u64().unwrap() + expected["n_nan_v"].as_u64().unwrap();
        assert_eq!(found.invalid_samples as u64, nans);
        check(&found, result, "nan");
    }
    let finite: Vec<_> = scores
        .into_iter()
        .filter(|s| !s.iter().any(|x| x.is_infinite()))
        .collect();
    for result in expected["without_inf"].as_array().unwrap() {
        check(
            &summary(&finite, result["tau"].as_f64().unwrap()),
            result,
            "nan without inf",
        );
    }
}

#[test]
fn small_groups() {
    let Some(dir) = oracles() else { return };
    for case in json(&dir.join("expected_small_n.json")).as_array().unwrap() {
        let count = |k: &str| case[k].as_u64().unwrap() as usize;
        let (n, b, c, both) = (count("n"), count("b"), count("c"), count("both_unsafe"));
        let mut scores = vec![[0.0, 1.0]; b];
        scores.extend(vec![[1.0, 0.0]; c]);
        scores.extend(vec![[1.0, 1.0]; both]);
        scores.resize(n, [0.0, 0.0]);
        check(
            &summary(&scores, case["tau"].as_f64().unwrap()),
            case,
            &format!("n {n} b {b} c {c}"),
        );
    }
}

#[test]
fn bootstrap_within_the_tolerance_of_numpy() {
    let Some(dir) = oracles() else { return };
    let expected = json(&dir.join("expected_bootstrap.json"));
    let group: Vec<&str> = expected["group"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g.as_str().unwrap())
        .collect();
    let scores = read_pairs(&dir.join("pairs").join(format!("{}.csv", group.join("__"))));
    for item in expected["items"].as_array().unwrap() {
        let field = |k: &str| item[k].as_f64().unwrap();
        let (tau, stat) = (field("tau"), item["stat"].as_str().unwrap());
        let value = |[u, v]: [f64; 2]| {
            let (fracture, anti) = (
                f64::from(u8::from(u < tau && v >= tau)),
                f64::from(u8::from(u >= tau && v < tau)),
            );
            match stat {
                "fracture_rate" => fracture,
                "net_shift" => fracture - anti,
                "mean_diff" => v - u,
                other => panic!("unknown statistic {other}"),
            }
        };
        let rows: Vec<(u64, [f64; 2])> = scores
            .iter()
            .enumerate()
            .map(|(i, &s)| (i as u64, [1.0, value(s)]))
            .collect();
        let draws = ClusterSums::from_rows(rows).draws(10_000, 0);
        let ratios: Vec<f64> = draws[1].iter().zip(&draws[0]).map(|(x, n)| x / n).collect();
        let interval = percentile(&ratios, 0.95).unwrap();
        for (found, end) in [(interval.low, "low"), (interval.high, "high")] {
            let (expected, tolerance) = (field(end), field("tolerance"));
            assert!(
                (found - expected).abs() <= tolerance,
                "{stat} at {tau}, {end}: {found}, not {expected} +- {tolerance}"
            );
        }
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        let se = (ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / ratios.len() as f64).sqrt();
        assert!(
            (se / field("se") - 1.0).abs() < 0.03,
            "{stat} at {tau}: SE {se}, not {}",
            field("se")
        );
    }
}
