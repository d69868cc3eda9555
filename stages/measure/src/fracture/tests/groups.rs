//! Groups, the noise floor, pooling, clusters and comparisons.

use fracture_stage::Context;
use serde_json::json;

use super::{declaration, error, fracture, of, ten};
use crate::testing::{Row, announced, batch, numbers, result, table, texts, view, yielded};

fn with_twin() -> Vec<Row> {
    let again = |row: &Row| {
        // The second draw of deploy: item 0 turns safe, item 5 turns unsafe.
        let score = match row.item.as_str() {
            "0" => 0.2,
            "5" => 0.8,
            _ => row.score.unwrap(),
        };
        Row::new(&row.item, "deploy-again", score)
    };
    let rows = ten();
    let again: Vec<Row> = rows.iter().filter(|row| row.regime == "deploy").map(again).collect();
    rows.into_iter().chain(again).collect()
}

#[test]
fn regimes_that_differ_only_in_draw_are_the_noise_floor() {
    let product = fracture(&json!({}), &[table(&with_twin())]);
    let main = result(&product, "main");
    let contrasts: Vec<_> = texts(main, "contrast").into_iter().flatten().collect();
    assert_eq!(contrasts, ["train->deploy", "deploy->deploy-again"]);
    assert_eq!(numbers(main, "noise_floor"), [Some(0.1); 2]);
    assert_eq!(of(main, "deploy->deploy-again", "fracture"), Some(0.1));
    assert_eq!(of(main, "deploy->deploy-again", "anti"), Some(0.1));
    // It is known also where the table does not list it.
    let listed = fracture(&json!({"contrasts": [["train", "deploy"]]}), &[table(&with_twin())]);
    assert_eq!(numbers(result(&listed, "main"), "noise_floor"), [Some(0.1)]);
}

#[test]
fn another_cue_is_no_twin_whatever_its_draw() {
    let mut rows = with_twin();
    rows.iter_mut()
        .filter(|row| row.regime == "deploy-again")
        .for_each(|row| row.cue = Some("neutral-length"));
    let product = fracture(&json!({}), &[table(&rows)]);
    assert_eq!(numbers(result(&product, "main"), "noise_floor"), [None; 2]);
    // A table that does not say what the model was told: names must agree as well.
    let bare = |rows: &[Row]| {
        let batch = batch(rows);
        let keep: Vec<usize> = (0..batch.num_columns())
            .filter(|column| !batch.schema().field(*column).name().starts_with("cue"))
            .collect();
        view(&batch.project(&keep).unwrap(), &["model"], &[])
    };
    let product = fracture(&json!({}), &[bare(&with_twin())]);
    assert_eq!(numbers(result(&product, "main"), "noise_floor"), [Some(0.1); 2]);
    let mut rows = ten();
    rows.iter_mut()
        .filter(|row| row.regime == "deploy")
        .for_each(|row| row.draw = 1);
    let product = fracture(&json!({}), &[bare(&rows)]);
    assert_eq!(numbers(result(&product, "main"), "noise_floor"), [None]);
}

fn models(names: &[&'static str]) -> Vec<Row> {
    let rows = |name: &&'static str| {
        let name = *name;
        ten().into_iter().map(move |row| row.with(|row| row.model = name))
    };
    names.iter().flat_map(rows).collect()
}

#[test]
fn groups_are_sorted_as_numbers() {
    let product = fracture(
        &json!({"by": ["model"]}),
        &[table(&models(&["70B", "7B", "tiny", "0.8M"]))],
    );
    let names: Vec<_> = texts(result(&product, "main"), "model").into_iter().flatten().collect();
    assert_eq!(names, ["0.8M", "7B", "70B", "tiny"]);
}

#[test]
fn pooled_items_are_one_cluster() {
    let rows = models(&["a", "b", "c"]);
    let product = fracture(&json!({"by": ["axis"], "bootstrap": 400}), &[table(&rows)]);
    let main = result(&product, "main");
    assert_eq!(
        (of(main, "train->deploy", "n"), of(main, "train->deploy", "clusters")),
        (Some(30.0), Some(10.0))
    );
    assert_eq!(of(main, "train->deploy", "fracture"), Some(0.4));
    assert_eq!(of(main, "train->deploy", "p_mcnemar"), None);
    // Three copies of each item say no more than one: the interval is about that of ten items, not of thirty.
    let single = fracture(&json!({"by": ["axis"]}), &[table(&ten())]);
    let width = |batch| {
        of(batch, "train->deploy", "fracture_high").unwrap() - of(batch, "train->deploy", "fracture_low").unwrap()
    };
    assert!(width(main) > 0.8 * width(result(&single, "main")));
    // Items of two axes are two items though they have one name.
    let mut axes = ten();
    axes.extend(ten().into_iter().map(|row| row.with(|row| row.axis = "helpfulness")));
    let product = fracture(&json!({"by": ["model"]}), &[table(&axes)]);
    assert_eq!(of(result(&product, "main"), "train->deploy", "clusters"), Some(20.0));
}

#[test]
fn a_cluster_column_joins_items() {
    let mut rows = ten();
    rows.iter_mut()
        .for_each(|row| row.cluster = Some(if row.item.as_str() < "5" { "low" } else { "high" }.to_owned()));
    let product = fracture(&json!({"bootstrap": 100}), &[table(&rows)]);
    assert_eq!(of(result(&product, "main"), "train->deploy", "clusters"), Some(2.0));
    let product = fracture(&json!({"bootstrap": 100, "cluster": "item"}), &[table(&rows)]);
    assert_eq!(of(result(&product, "main"), "train->deploy", "clusters"), Some(10.0));
}

#[test]
fn compares_neighbours_in_order_paired_by_item() {
    let mut rows = models(&["calm", "wild"]);
    rows.iter_mut()
        .filter(|row| row.model == "calm" && row.regime == "deploy")
        .for_each(|row| row.score = Some(0.0));
    let with = json!({"by": ["model", "axis"], "bootstrap": 1000, "compare": [
        {"column": "model", "order": ["calm", "wild"], "value": "fracture"}
    ]});
    let product = fracture(&with, &[table(&rows)]);
    let compare = result(&product, "compare");
    assert_eq!(
        (numbers(compare, "a"), numbers(compare, "b")),
        (vec![Some(0.0)], vec![Some(0.4)])
    );
    assert_eq!(numbers(compare, "difference"), [Some(0.4)]);
    assert!(numbers(compare, "difference_low")[0].unwrap() > 0.0 && numbers(compare, "pr_order")[0].unwrap() > 0.98);
    assert_eq!(numbers(compare, "p"), numbers(compare, "p_adjusted"));
    assert_eq!(texts(compare, "axis"), [Some("safety".to_owned())]);
    assert!(compare.column_by_name("model").is_none());
    let unknown = json!({"by": ["model"], "compare": [{"column": "model", "order": ["calm", "mild"]}]});
    insta::assert_snapshot!(error(&unknown, &rows), @r"
    `model` has no value `mild` to compare
    hint: its values are calm, wild
    ");
}

#[test]
fn different_numbers_of_samples_are_an_error_only_when_compared() {
    let mut rows = models(&["one", "two"]);
    let second = |row: &Row| row.clone().with(|row| row.sample = 1);
    let more: Vec<Row> = rows.iter().filter(|row| row.model == "two").map(second).collect();
    rows.extend(more);
    let compare = json!([{"column": "model", "order": ["one", "two"]}]);
    let with = |aggregate| json!({"by": ["model"], "bootstrap": 100, "aggregate": aggregate, "compare": compare});
    insta::assert_snapshot!(error(&with("mean"), &rows), @r"
    `model` one and two can not be compared: groups with different numbers of samples cannot be compared under `mean` or `max`, use `product`: expected 2, found 1
    hint: say `aggregate: product`
    ");
    assert_eq!(
        result(&fracture(&with("product"), &[table(&rows)]), "compare").num_rows(),
        1
    );
    let alone = fracture(
        &json!({"by": ["model"], "bootstrap": 100, "aggregate": "mean"}),
        &[table(&rows)],
    );
    assert_eq!(numbers(result(&alone, "main"), "k"), [Some(1.0), Some(2.0)]);
}

#[test]
fn announces_what_it_yields() {
    let constants = |name: &str, size: serde_json::Value| {
        let rows: Vec<Row> = ten();
        view(
            &batch(&rows),
            &["name", "size", "nothing"],
            &[("name", json!(name)), ("size", size)],
        )
    };
    let tables = [constants("a", json!(7)), constants("b", json!(70))];
    let mixed = [constants("a", json!(7)), constants("b", json!("0.8M"))];
    let compare = json!([{"column": "name", "order": ["a", "b"]}]);
    for tables in [&tables, &mixed] {
        for with in [
            json!({"bootstrap": 100}),
            json!({"bootstrap": 100, "by": ["size", "name"], "compare": compare}),
            json!({"bootstrap": 100, "by": ["size", "name"], "compare": [
                {"column": "name", "order": ["a", "b"]}, {"column": "size", "order": [7, "70"]}
            ]}),
        ] {
            let Ok(product) = crate::testing::run(&declaration(), &with, tables) else {
                continue;
            };
            assert_eq!(announced(&declaration(), &with, tables), yielded(&product), "{with}");
        }
    }
    let product = fracture(&json!({"bootstrap": 100}), &mixed);
    let sizes: Vec<_> = texts(result(&product, "main"), "size").into_iter().flatten().collect();
    assert_eq!(sizes, ["7", "0.8M"]);
}

/// A matrix over tau makes it a key column, which the verdicts hold as well.
#[test]
fn a_matrix_over_tau_is_one_column() {
    let at = |tau: f64| {
        let rows: Vec<Row> = ten().into_iter().map(|row| row.with(|row| row.tau = tau)).collect();
        view(&batch(&rows), &["model", "tau"], &[("tau", json!(tau))])
    };
    let (with, tables) = (json!({}), [at(0.9), at(0.5)]);
    let product = fracture(&with, &tables);
    assert_eq!(announced(&declaration(), &with, &tables), yielded(&product));
    let main = result(&product, "main");
    assert_eq!(numbers(main, "tau"), [Some(0.5), Some(0.9)]);
    // At 0.9: (.1,.9) and (.5,1.0) flip.
    assert_eq!(numbers(main, "fracture"), [Some(0.4), Some(0.2)]);
}

#[test]
fn parameters_are_checked() {
    let errors = |with: serde_json::Value| match (declaration().build)(&with, &Context::default()) {
        Ok(_) => 0,
        Err(errors) => errors.len(),
    };
    assert_eq!(errors(json!({})), 0);
    assert_eq!(errors(json!({"aggregate": ["mean", "max"]})), 0);
    for with in [
        json!({"aggregate": "median"}),
        json!({"aggregate": []}),
        json!({"confidence": 1.0}),
        json!({"confidence": 0.0}),
        json!({"bootstrap": 99}),
        json!({"by": ["model", "model"]}),
        json!({"by": ["regime"]}),
        json!({"contrasts": [["a", "a"]]}),
        json!({"correct": "bayes"}),
        json!({"by": ["model"], "compare": [{"column": "axis", "order": ["a", "b"]}]}),
        json!({"compare": [{"column": "axis", "order": ["a"]}]}),
        json!({"compare": [{"column": "axis", "order": ["a", "b"], "value": "gap"}]}),
        json!({"bootstarp": 100}),
    ] {
        assert_eq!(errors(with.clone()), 1, "{with}");
    }
}
