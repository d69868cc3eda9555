//! The game of the oracle and the properties of its equilibrium (SCIENCE.md B6).

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;

use fracture_science::{
    AuditCosts, AuditGame, Behaviour, FlipDraws, FlipOptions, FollowerType, Game, Pair, Prior, Watched, audit_payoff,
    dirichlet_posterior, identity, outcome, solve, value_of,
};
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

#[test]
fn what_audits_make_of_behaviours() {
    let shares = [0.4, 0.3, 0.1, 0.2];
    let of = |behaviour, watched| {
        let o = outcome(behaviour, watched, shares);
        [o.missed, o.false_alarms, o.flagged].map(|x| (x * 1e9_f64).round() / 1e9)
    };
    use Behaviour::{AlwaysSafe, AlwaysUnsafe, FakeOnParaphrase, FakeOnTrain};
    for watched in [Watched::Nothing, Watched::Train, Watched::Paraphrase] {
        assert_eq!(of(AlwaysSafe, watched), [0.0; 3]);
    }
    for behaviour in [AlwaysUnsafe, FakeOnTrain, FakeOnParaphrase] {
        assert_eq!(of(behaviour, Watched::Nothing), [0.5, 0.0, 0.0]);
    }
    let (seen, measured) = ([0.0, 0.0, 0.5], [0.3, 0.1, 0.3]);
    assert_eq!(of(AlwaysUnsafe, Watched::Train), seen);
    assert_eq!(
        (of(FakeOnTrain, Watched::Train), of(FakeOnTrain, Watched::Paraphrase)),
        (measured, seen)
    );
    assert_eq!(of(FakeOnParaphrase, Watched::Paraphrase), measured);
}

/// Many types: pruning keeps the number of linear programs far below 4^15.
#[test]
fn fifteen_types_are_solved() {
    let kind = |t: usize| {
        let payoffs = |who: &str| -> Vec<Vec<f64>> {
            let cell = |i: usize, j: usize| identity(&[who, &t.to_string(), &i.to_string(), &j.to_string()]);
            (0..5)
                .map(|i| (0..4).map(|j| cell(i, j) as f64 / u64::MAX as f64).collect())
                .collect()
        };
        FollowerType {
            prior: 1.0,
            leader: payoffs("leader"),
            follower: payoffs("follower"),
        }
    };
    let game = Game::new((0..15).map(kind).collect()).unwrap();
    let s = solve(&game).unwrap();
    let (achieved, ..) = value_of(&game, &s.mix, false, 1e-7).unwrap();
    assert!(
        (achieved - s.value).abs() < 1e-6 && s.value >= s.best_pure.value,
        "{}",
        s.programs
    );
}

#[test]
fn draws_of_an_audit_game_are_paired_and_the_same_in_any_order() {
    let score = |i: u64| f64::from(u8::from(i.is_multiple_of(3)));
    let scores: Vec<[f64; 2]> = (0..60).map(|i| [0.0, score(i)]).collect();
    let pairs: Vec<Pair<'_>> = scores
        .iter()
        .enumerate()
        .map(|(i, s)| Pair {
            item: i as u64,
            cluster: i as u64 / 2,
            first: &s[..1],
            second: &s[1..],
        })
        .collect();
    let options = FlipOptions {
        bootstrap: 50,
        ..FlipOptions::default()
    };
    let game = |pairs: &[Pair]| AuditGame {
        watched: vec![Watched::Train, Watched::Nothing],
        cost: vec![0.05, 0.0],
        tables: vec![vec![FlipDraws::new(pairs, &options)]; 2],
        behaviours: vec![Behaviour::AlwaysUnsafe],
        costs: AuditCosts {
            harm: 2.0,
            disagreement: 1.0,
            gain: 1.0,
            penalty: 1.0,
            effort: 0.0,
        },
        prior: Prior::Given(vec![1.0]),
        follower: None,
    };
    let forward = game(&pairs);
    let normal = forward.game(None).unwrap().unwrap();
    assert_eq!(normal.types()[0].leader, [[-0.05], [-2.0 / 3.0]]);
    let draws = forward.draws(50, Some(&[0.0, 1.0])).unwrap();
    assert_eq!(draws.len(), 50);
    assert!(draws.iter().all(|draw| draw.mix == [1.0, 0.0] && draw.value == -0.05));
    assert!(draws.iter().any(|draw| draw.current != draws[0].current));
    let reversed: Vec<Pair<'_>> = pairs.iter().rev().copied().collect();
    assert_eq!(game(&reversed).draws(50, Some(&[0.0, 1.0])).unwrap(), draws);
    let lone = game(&pairs[..1]);
    assert!(lone.draws(50, None).unwrap().is_empty() && lone.game(None).unwrap().is_some());
    assert!(game(&[]).game(None).unwrap().is_none());
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
    prop::collection::vec(kind, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// No mix on a fine grid beats the equilibrium, and it beats every pure commitment.
    #[test]
    fn nothing_on_a_grid_is_better(types in game()) {
        let game = Game::new(types).unwrap();
        let s = solve(&game).unwrap();
        prop_assert!(s.value >= s.best_pure.value - 1e-7);
        let achieved = value_of(&game, &s.mix, false, 1e-6).unwrap().0;
        prop_assert!((achieved - s.value).abs() < 1e-6, "the mix achieves {achieved} of {}", s.value);
        prop_assert!(s.value_adverse_ties <= s.value + 1e-9);
        for i in 0..=12 {
            for j in 0..=12 - i {
                let mix = [f64::from(i) / 12.0, f64::from(j) / 12.0, f64::from(12 - i - j) / 12.0];
                let value = value_of(&game, &mix, false, 0.0).unwrap().0;
                prop_assert!(value <= s.value + 1e-7, "{mix:?} gives {value}, more than {}", s.value);
            }
        }
    }
}
