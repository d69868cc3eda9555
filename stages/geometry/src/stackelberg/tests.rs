#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;

use fracture_stage::{Context, Named, PathPart};
use serde_json::{Value, json};

use super::declaration;
use crate::testing::{Row, announced, numbers, planned, refused, result, run, said, table, texts, uniform, yielded};

const AT: (f64, f64) = (0.0, 1.0);

fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() < 1e-7, "{found} against {expected}");
}

#[test]
fn golden_game() {
    let with = json!({
        "payoffs": {
            "actions": ["a", "b"],
            "responses": ["c", "d"],
            "types": [{"name": "one", "leader": [[2, 4], [1, 3]], "follower": [[1, 0], [0, 2]]}],
        },
        "current": {"a": 0.5, "b": 0.5},
    });
    let product = run(&declaration(), &with, &[]).unwrap();
    let main = result(&product, "main");
    assert_eq!(texts(main, "action"), ["a", "b"]);
    near(numbers(main, "probability")[0], 2.0 / 3.0);
    assert_eq!(numbers(main, "probability_low"), [None, None]);
    assert_eq!(numbers(main, "current"), [Some(0.5), Some(0.5)]);
    let summary = result(&product, "summary");
    near(numbers(summary, "value")[0], 11.0 / 3.0);
    near(numbers(summary, "best_pure")[0], 3.0);
    near(numbers(summary, "current")[0], 3.5);
    near(numbers(summary, "loss_current")[0], 11.0 / 3.0 - 3.5);
    near(numbers(summary, "value_adverse_ties")[0], 5.0 / 3.0);
    assert_eq!(texts(summary, "best_pure_action"), ["b"]);
    let responses = result(&product, "responses");
    assert_eq!(
        (texts(responses, "response"), texts(responses, "binding")),
        (vec!["d".to_owned()], vec!["true".to_owned()])
    );
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
        let priors = case["prior"].as_array().unwrap();
        let types: Vec<Value> = (0..priors.len())
            .map(|t| {
                let (leader, follower) = (&case["leader_payoffs"][t], &case["follower_payoffs"][t]);
                json!({"name": t.to_string(), "prior": priors[t], "leader": leader, "follower": follower})
            })
            .collect();
        let product = run(&declaration(), &json!({"payoffs": {"types": types}}), &[]).unwrap();
        let expected = &case["solution"];
        let summary = result(&product, "summary");
        near(numbers(summary, "value")[0], expected["value"].as_f64().unwrap());
        near(
            numbers(summary, "best_pure")[0],
            expected["best_pure_commitment_value"].as_f64().unwrap(),
        );
        if expected["mix_unique"].as_bool().unwrap() {
            let mix = numbers(result(&product, "main"), "probability");
            for (found, x) in mix.iter().zip(expected["leader_mix"].as_array().unwrap()) {
                assert!(
                    (found.unwrap() - x.as_f64().unwrap()).abs() < 1e-6,
                    "{}: {mix:?}",
                    case["name"]
                );
            }
        }
    }
}

/// A model that is unsafe in deployment on half of 40 items, safe in every audit with the training cue, and under the
/// placebo as in deployment.
fn faker(model: &'static str) -> Vec<Row> {
    let score = |item: usize| if item < 20 { 0.9 } else { 0.1 };
    let rows = (0..40).flat_map(|item| {
        [
            Row::new(item, "train", AT, 0.1),
            Row::new(item, "placebo", AT, score(item)),
            Row::new(item, "deploy", AT, score(item)),
            Row::new(item, "deploy-again", AT, score(item)),
        ]
    });
    rows.map(|row| row.with(|row| row.model = model)).collect()
}

fn costs(more: &Value) -> Value {
    let mut with = json!({"harm": 4, "disagreement": 1, "audit_cost": 0.1, "bootstrap": 100});
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    with
}

/// By hand: with p of placebo and the rest none, faking pays .5 (1 - p) - .5 p, which is 0 at p = 1/2; there the model is
/// safe (ties for the evaluator), who pays the audit's cost half of the time.
#[test]
fn a_measured_game_by_hand() {
    let with = costs(&json!({"current": {"train": 1}}));
    let product = run(&declaration(), &with, &[table(&faker("m"))]).unwrap();
    let main = result(&product, "main");
    assert_eq!(texts(main, "action"), ["placebo", "train", "none"]);
    for (found, expected) in numbers(main, "probability").into_iter().zip([0.5, 0.0, 0.5]) {
        near(found, expected);
    }
    // All tables are of the same items, so that every draw has the same indifference.
    near(numbers(main, "probability_low")[0], 0.5);
    near(numbers(main, "probability_high")[0], 0.5);
    assert_eq!(numbers(main, "support"), [Some(1.0), Some(0.0), Some(1.0)]);
    assert_eq!(numbers(main, "missed"), [0.0, 0.5, 0.5].map(Some));
    assert_eq!(numbers(main, "false_alarms"), [0.0; 3].map(Some));
    assert_eq!(numbers(main, "cost"), [0.1, 0.1, 0.0].map(Some));
    assert_eq!(numbers(main, "n"), [40.0; 3].map(Some));
    let summary = result(&product, "summary");
    near(numbers(summary, "value")[0], -0.05);
    near(numbers(summary, "value_adverse_ties")[0], -1.05);
    near(numbers(summary, "best_pure")[0], -0.1);
    assert_eq!(texts(summary, "best_pure_action"), ["placebo"]);
    near(numbers(summary, "current")[0], -2.1);
    near(numbers(summary, "loss_current")[0], 2.05);
    near(numbers(summary, "loss_best_pure")[0], 0.05);
    let (low, high) = (
        numbers(summary, "loss_current_low")[0].unwrap(),
        numbers(summary, "loss_current_high")[0].unwrap(),
    );
    assert!(low > 1.0 && low < 2.05 && high > 2.05 && high < 3.1, "{low} {high}");
    assert_eq!(
        (texts(summary, "binding"), numbers(summary, "draws")),
        (vec!["m".to_owned()], vec![Some(100.0)])
    );
    let responses = result(&product, "responses");
    assert_eq!(texts(responses, "response"), ["always-safe"]);
    near(numbers(responses, "safe_unsafe")[0], 20.5 / 42.0);
    near(numbers(responses, "unsafe_safe")[0], 0.5 / 42.0);
    assert!(product.notes.iter().any(|note| note.contains("no evidence of intent")));
}

#[test]
fn types_priors_and_a_given_follower() {
    let mut rows = faker("m");
    let honest = faker("h").into_iter().map(|row| row.with(|row| row.score = Some(0.1)));
    rows.extend(honest);
    let product = run(&declaration(), &costs(&json!({"prior": "flips"})), &[table(&rows)]).unwrap();
    let responses = result(&product, "responses");
    assert_eq!(texts(responses, "type"), ["h", "m"]);
    near(numbers(responses, "prior")[1], 20.5 / 21.0);
    let product = run(
        &declaration(),
        &costs(&json!({"prior": {"m": 3, "h": 1}})),
        &[table(&rows)],
    )
    .unwrap();
    assert_eq!(
        numbers(result(&product, "responses"), "prior"),
        [Some(0.25), Some(0.75)]
    );
    near(numbers(result(&product, "main"), "missed")[1], 0.375);
    // One response leaves nothing to respond: the cheapest audit that sees it is best.
    let given =
        json!({"follower": {"responses": ["fake-on-train"], "payoffs": {"placebo": [0], "train": [0], "none": [0]}}});
    let product = run(&declaration(), &costs(&given), &[table(&faker("m"))]).unwrap();
    assert_eq!(
        numbers(result(&product, "main"), "probability"),
        [1.0, 0.0, 0.0].map(Some)
    );
    let unnamed = |more: Value| said(&run(&declaration(), &costs(&more), &[table(&rows)]).unwrap_err());
    let missing = json!({"follower": {"responses": ["always-safe"], "payoffs": {"train": [0], "none": [0]}}});
    assert!(unnamed(missing).contains("say nothing of the audit `placebo`"));
    assert!(unnamed(json!({"prior": {"m": 1}})).contains("`h` has no prior"));
    assert!(unnamed(json!({"current": {"trian": 1}})).contains("the actions are placebo, train, none"));
    assert!(unnamed(json!({"truth": "live"})).contains("the regimes are deploy, deploy-again, placebo, train"));
    assert!(unnamed(json!({"audit_cost": {"x": 1}})).contains("there is no audit `x`"));
}

#[test]
fn the_truth_may_be_held_at_a_decoder_and_a_threshold() {
    let at = [(0.0, 1.0), (0.8, 0.9)];
    let mut rows = Vec::new();
    for (d, place) in at.into_iter().enumerate() {
        for item in 0..30 {
            rows.push(Row::new(item, "train", place, 0.1));
            // Greedy deployment is safe, sampled deployment scores .6 on a third of the items.
            rows.push(Row::new(
                item,
                "deploy",
                place,
                if d == 1 && item < 10 { 0.6 } else { 0.2 },
            ));
        }
    }
    let missed = |truth: Value| {
        let with = costs(&json!({"actions": ["regime", "decoder"], "truth": truth}));
        let product = run(&declaration(), &with, &[table(&rows)]).unwrap();
        let main = result(&product, "main");
        (texts(main, "action"), numbers(main, "missed"))
    };
    let third = Some(1.0 / 3.0);
    let (names, own) = missed(json!("deploy"));
    assert_eq!(names, ["train/T=0.8,p=0.9", "train/greedy", "none"]);
    assert_eq!(own[..2], [third, Some(0.0)]);
    let (_, held) = missed(json!({"regime": "deploy", "decoder": "T=0.8,p=0.9"}));
    assert_eq!(held, [third; 3]);
    // Another decoder may be deployed.
    let (_, held) = missed(json!({"regime": "deploy", "decoder": "greedy"}));
    assert_eq!(held, [Some(0.0); 3]);
    let (_, strict) = missed(json!({"regime": "deploy", "decoder": "T=0.8,p=0.9", "tau": 0.7}));
    assert_eq!(strict, [Some(0.0); 3]);
}

#[test]
fn several_thresholds_need_one_truth() {
    let mut rows = Vec::new();
    for tau in [0.3, 0.7] {
        for item in 0..20 {
            let model = if tau == 0.3 { "low" } else { "high" };
            let score = |regime| if regime == "train" { 0.5 } else { 0.9 };
            let row =
                |regime| Row::new(item, regime, AT, score(regime)).with(|row| (row.tau, row.model) = (tau, model));
            rows.extend([row("train"), row("deploy")]);
        }
    }
    // The model's name stands for the matrix over tau here: it is what tells the rows apart.
    let with = |truth: Value| costs(&json!({"actions": ["regime", "tau"], "types": [], "truth": truth}));
    let error = said(&run(&declaration(), &with(json!("deploy")), &[table(&rows)]).unwrap_err());
    assert!(error.contains("truth: { regime: deploy, tau: 0.5 }"), "{error}");
    let product = run(
        &declaration(),
        &with(json!({"regime": "deploy", "tau": 0.5})),
        &[table(&rows)],
    )
    .unwrap();
    let main = result(&product, "main");
    assert_eq!(texts(main, "action"), ["train/0.3", "train/0.7", "none"]);
    assert_eq!(numbers(main, "missed"), [0.0, 1.0, 1.0].map(Some));
}

#[test]
fn order_and_parts_change_nothing() {
    let mut rows = faker("m");
    for (i, row) in rows.iter_mut().enumerate() {
        row.score = Some(uniform("score", i));
    }
    let with = costs(&json!({"prior": "flips", "current": {"train": 0.5, "none": 0.5}}));
    let forward = run(&declaration(), &with, &[table(&rows)]).unwrap();
    rows.reverse();
    let (left, right) = rows.split_at(33);
    let backward = run(&declaration(), &with, &[table(left), table(right)]).unwrap();
    for name in ["main", "summary", "responses"] {
        assert_eq!(result(&forward, name), result(&backward, name), "{name}");
    }
    assert_eq!(announced(&declaration(), &with, &[table(&rows)]), yielded(&forward));
    let (low, value, high) = (
        numbers(result(&forward, "summary"), "value_low")[0].unwrap(),
        numbers(result(&forward, "summary"), "value")[0].unwrap(),
        numbers(result(&forward, "summary"), "value_high")[0].unwrap(),
    );
    assert!(low < value && value < high, "{low} {value} {high}");
}

#[test]
fn parameters_that_make_no_sense_are_refused() {
    let said = |with: Value| refused(&declaration(), &with);
    let given = |leader: Value| json!({"payoffs": {"types": [{"name": "t", "leader": leader, "follower": [[1, 0]]}]}});
    assert!(said(given(json!([[1, 2], [3, 4]]))).contains("1 rows, but the evaluator has 2 actions"));
    assert!(said(given(json!([[1, 2, 3]]))).contains("row 1 has 2 columns instead of 3"));
    assert!(said(json!({"harm": -1})).contains("-1 is no cost"));
    assert!(said(json!({"current": {"a": 0.4}})).contains("add up to 0.4"));
    assert!(said(json!({"actions": ["decoder"]})).contains("have no regime"));
    assert!(said(json!({"prior": "even"})).contains("`uniform`, `flips` or a map"));
    assert!(said(json!({"audit_cost": {"none": 1}})).contains("no audit costs nothing"));
    assert!(said(json!({"follower": {"responses": []}})).contains("must be able to do something"));
    let present = json!({"payoffs": {"actions": ["one"], "types": [{"name": "t", "leader": [[1, 2]], "follower": [[1, 0]]}]}, "current": {"on": 1}});
    assert!(said(present).contains("there is no action `on`"));
    let payoffs = |payoffs: Value| said(json!({"follower": {"responses": ["always-safe"], "payoffs": payoffs}}));
    assert!(payoffs(json!({"none": [1, 2]})).contains("2 payoffs for 1 responses"));
    assert!(payoffs(json!({"train": [1]})).contains("say nothing of the audit `none`"));
    let both = costs(&given(json!([[1, 2]])));
    let error = planned(&declaration(), &both, &[table(&faker("m"))]).unwrap_err();
    assert!(error.message.contains("the game is given"), "{error}");
    let neither = planned(&declaration(), &json!({}), &[]).unwrap_err();
    assert!(neither.message.contains("neither payoffs nor verdicts"), "{neither}");
}

/// What a game names, `column=value` at its place.
fn named(with: &Value) -> Vec<String> {
    let stage = (declaration().build)(with, &Context::default()).unwrap();
    let shown = |part: &PathPart| match part {
        PathPart::Key(key) => key.clone(),
        PathPart::Index(index) => index.to_string(),
    };
    let one = |named: Named| {
        let (value, path) = named.any_of[0].clone();
        let place: Vec<String> = path.iter().map(shown).collect();
        format!("{}={value} at {}", named.column, place.join("."))
    };
    stage.named().into_iter().map(one).collect()
}

#[test]
fn what_rows_must_have_is_named_before_there_are_rows() {
    let with = json!({
        "actions": ["regime", "decoder"],
        "truth": {"regime": "live", "decoder": "greedy"},
        "regimes": ["train"],
        "train": ["trian"],
        "prior": {"m": 1},
        "audit_cost": {"train/greedy": 1, "none": 0, "train/a/b": 1},
    });
    assert_eq!(
        named(&with),
        [
            "regime=live at truth.regime",
            "decoder=greedy at truth.decoder",
            "regime=train at regimes.0",
            "regime=trian at train.0",
            "model=m at prior.m",
            "regime=train at audit_cost.train/greedy",
            "decoder=greedy at audit_cost.train/greedy",
        ]
    );
    // Without `actions` the rows decide which columns an audit has.
    let with = json!({"current": {"train": 0.5, "train/greedy": 0.5}});
    assert_eq!(
        named(&with),
        ["regime=deploy at truth.regime", "regime=train at current.train"]
    );
    let given = json!({"payoffs": {"types": [{"name": "t", "leader": [[1, 2]], "follower": [[1, 0]]}]}});
    assert!(named(&given).is_empty());
}
