//! The game of the oracle and the properties of its equilibrium (SCIENCE.md B6).

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;

use fracture_science::{FollowerType, Game, audit_payoff, dirichlet_posterior, solve, value_of};
use proptest::prelude::*;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(numbers).collect()
}

#[test]
fn golden_game() {
    let kind = FollowerType {
        prior: 1.0,
        leader: vec![vec![2.0, 4.0], vec![1.0, 3.0]],
        follower: vec![vec![1.0, 0.0], vec![0.0, 2.0]],
    };
    let game = Game::new(vec![kind]).unwrap();
    let s = solve(&game).unwrap();
    assert!((s.value - 11.0 / 3.0).abs() < 1e-9 && (s.mix[0] - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(
        (s.responses.as_slice(), s.best_pure.value, s.best_pure.action),
        ([1].as_slice(), 3.0, 1)
    );
    assert_eq!(s.binding, [true]);
    // Against the leader the type plays the other column: 2/3 * 2 + 1/3 * 1.
    assert!((s.value_adverse_ties - 5.0 / 3.0).abs() < 1e-9);
    assert_eq!(value_of(&game, &[0.5, 0.5], false, 0.0).unwrap().0, 3.5);
}

#[test]
fn oracle() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracles/stackelberg/games.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no oracle at {}", path.display());
        return;
    };
    let document: Value = serde_json::from_str(&text).unwrap();
    for case in document["games"].as_array().unwrap() {
        let (name, expected) = (case["name"].as_str().unwrap(), &case["solution"]);
        let types = numbers(&case["prior"])
            .into_iter()
            .enumerate()
            .map(|(t, prior)| FollowerType {
                prior,
                leader: matrix(&case["leader_payoffs"][t]),
                follower: matrix(&case["follower_payoffs"][t]),
            });
        let game = Game::new(types.collect()).unwrap();
        let s = solve(&game).unwrap();
        let value = expected["value"].as_f64().unwrap();
        assert!((s.value - value).abs() < 1e-7, "{name}: {} not {value}", s.value);
        assert!((s.mix.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{name}");
        let achieved = value_of(&game, &s.mix, false, 1e-8).unwrap().0;
        assert!((achieved - value).abs() < 1e-7, "{name}: the mix achieves {achieved}");
        if expected["mix_unique"].as_bool().unwrap() {
            for (found, x) in s.mix.iter().zip(numbers(&expected["leader_mix"])) {
                assert!((found - x).abs() < 1e-6, "{name}: {:?}", s.mix);
            }
            for (found, x) in s.follower_values.iter().zip(numbers(&expected["follower_values"])) {
                assert!((found - x).abs() < 1e-6, "{name}: {:?}", s.follower_values);
            }
        }
        let pure = expected["best_pure_commitment_value"].as_f64().unwrap();
        assert!(
            (s.best_pure.value - pure).abs() < 1e-9,
            "{name}: {:?} not {pure}",
            s.best_pure
        );
        assert!(s.value_adverse_ties <= s.value + 1e-9, "{name}");
    }
}

#[test]
fn what_is_no_game() {
    let kind = |prior, leader: Vec<Vec<f64>>, follower| FollowerType {
        prior,
        leader,
        follower,
    };
    assert!(Game::new(vec![]).is_err());
    assert!(Game::new(vec![kind(1.0, vec![vec![1.0]], vec![vec![1.0], vec![2.0]])]).is_err());
    assert!(Game::new(vec![kind(1.0, vec![vec![f64::NAN]], vec![vec![1.0]])]).is_err());
    assert!(Game::new(vec![kind(-1.0, vec![vec![1.0]], vec![vec![1.0]])]).is_err());
    assert!(Game::new(vec![kind(1.0, vec![vec![]], vec![vec![]])]).is_err());
}

#[test]
fn payoffs_and_posteriors() {
    assert_eq!(audit_payoff(0.25, 0.5, 4.0, 2.0, 0.5), -2.5);
    assert_eq!(dirichlet_posterior([8.0, 0.0, 0.0, 0.0], 0.5), [0.85, 0.05, 0.05, 0.05]);
}

fn game() -> impl Strategy<Value = Vec<FollowerType>> {
    let payoffs = || prop::collection::vec(prop::collection::vec(-5i8..=5, 3), 3);
    let kind = (1u8..5, payoffs(), payoffs()).prop_map(|(prior, leader, follower)| {
        let wide = |m: Vec<Vec<i8>>| m.into_iter().map(|r| r.into_iter().map(f64::from).collect()).collect();
        FollowerType {
            prior: f64::from(prior),
            leader: wide(leader),
            follower: wide(follower),
        }
    });
    prop::collection::vec(kind, 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// No mix on a fine grid beats the equilibrium, and it beats every pure commitment.
    #[test]
    fn nothing_on_a_grid_is_better(types in game()) {
        let game = Game::new(types).unwrap();
        let s = solve(&game).unwrap();
        prop_assert!(s.value >= s.best_pure.value - 1e-7);
        for i in 0..=12 {
            for j in 0..=12 - i {
                let mix = [f64::from(i) / 12.0, f64::from(j) / 12.0, f64::from(12 - i - j) / 12.0];
                let value = value_of(&game, &mix, false, 0.0).unwrap().0;
                prop_assert!(value <= s.value + 1e-7, "{mix:?} gives {value}, more than {}", s.value);
            }
        }
    }
}
