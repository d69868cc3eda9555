use std::sync::Arc;

use arrow::array::ArrayRef;
use fracture_cache::ColumnType;
use fracture_cache::digest::{Framed, Values};
use fracture_stage::Error;
use fracture_stage::stage::Need;
use fracture_stage::view::ColumnReader;
use serde_json::json;

use super::*;

struct Nothing;

impl ColumnReader for Nothing {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Err(Error::internal(format!("nobody reads `{column}`")))
    }
}

/// A table of one stored column with that content, and key constants.
fn table(content: &str, constants: &[(&str, Value)]) -> View {
    let reader: Arc<dyn ColumnReader> = Arc::new(Nothing);
    let digest: fracture_cache::Digest<Values> = Framed::new("t").text(content).finish();
    let names = constants.iter().map(|(name, _)| (*name).to_owned());
    View::stored(3, &reader, [("item", ColumnType::Text, digest)])
        .with_constants(
            constants
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        )
        .with_keys(["item".to_owned()].into_iter().chain(names))
}

fn port(name: &str, keys: Keys, needs: &[&str]) -> Port {
    Port {
        name: name.to_owned(),
        needs: needs.iter().map(|name| Need::any(name)).collect(),
        keys,
        all: false,
    }
}

fn inputs(ports: Vec<(&str, Vec<View>)>) -> Inputs {
    let tables = |views: Vec<View>| views.into_iter().map(Incoming::Table).collect();
    Inputs {
        ports: ports
            .into_iter()
            .map(|(name, views)| (name.to_owned(), tables(views)))
            .collect(),
    }
}

/// The constants that each input of a port shows, in the order of the inputs.
fn seen(inputs: &Inputs, port: &str) -> Vec<Vec<(String, Value)>> {
    let tables = inputs.tables(port);
    let of = |view: &&View| {
        let constant = |name: &str| Some((name.to_owned(), view.constant(name)?.clone()));
        view.names().filter_map(constant).collect()
    };
    tables.iter().map(of).collect()
}

#[test]
fn names_and_order_do_not_matter() {
    let ports = [port("rows", Keys::Apart, &["item"])];
    let see = |models: [(&'static str, &str); 3]| {
        let views = models
            .iter()
            .map(|(content, model)| table(content, &[("model", json!(model)), ("family", json!("llama"))]));
        let given = veiled(&ports, inputs(vec![("rows", views.collect())]));
        let mut seen: Vec<_> = seen(&given, "rows")
            .into_iter()
            .zip(models.map(|(content, _)| content))
            .collect();
        seen.sort_by_key(|(_, content)| *content);
        seen
    };
    let first = see([("x", "a"), ("y", "b"), ("z", "a")]);
    assert_eq!(first, see([("y", "k"), ("z", "m"), ("x", "m")]));
    // `x` and `z` are of one model.
    assert_eq!(first[0].0, first[2].0);
    assert_ne!(first[0].0, first[1].0);
    assert_ne!(first, see([("x", "a"), ("y", "b"), ("z", "b")]));
}

#[test]
fn what_is_read_stays() {
    let views = || {
        vec![
            table("x", &[("model", json!("a")), ("t", json!(1))]),
            table("y", &[("model", json!("b")), ("t", json!(2))]),
        ]
    };
    // Named in the port: the other columns are one number.
    let named = veiled(
        &[port("rows", Keys::Apart, &["item", "t"])],
        inputs(vec![("rows", views())]),
    );
    assert!(
        named
            .tables("rows")
            .iter()
            .all(|view| view.has("t") && !view.has("model") && view.has("(apart)"))
    );
    // Read by value, or at a port that nobody described.
    for ports in [vec![port("rows", Keys::Values, &["item"])], Vec::new()] {
        let same = veiled(&ports, inputs(vec![("rows", views())]));
        assert!(
            same.tables("rows")
                .iter()
                .all(|view| view.has("model") && view.has("t"))
        );
    }
    // Named by another port.
    let ports = [
        port("rows", Keys::Apart, &["item"]),
        port("other", Keys::None, &["model"]),
    ];
    let given = veiled(&ports, inputs(vec![("rows", views()), ("other", views())]));
    assert!(
        given
            .tables("rows")
            .iter()
            .all(|view| view.has("model") && view.has("(apart)"))
    );
    // A message still knows the names.
    let own = named.tables("rows")[0].unveiled();
    assert_eq!(own.constant("model"), Some(&json!("a")));
}

#[test]
fn a_stored_column_of_the_same_name_keeps_the_names() {
    let reader: Arc<dyn ColumnReader> = Arc::new(Nothing);
    let digest: fracture_cache::Digest<Values> = Framed::new("t").text("m").finish();
    let stored = View::stored(
        3,
        &reader,
        [("item", ColumnType::Text, digest), ("model", ColumnType::Text, digest)],
    )
    .with_keys(["item".to_owned(), "model".to_owned()]);
    let ports = [
        port("rows", Keys::Apart, &["item"]),
        port("labels", Keys::Apart, &["item"]),
    ];
    let verdicts = vec![
        table("x", &[("model", json!("a"))]),
        table("y", &[("model", json!("b"))]),
    ];
    let given = veiled(&ports, inputs(vec![("rows", verdicts), ("labels", vec![stored])]));
    assert_eq!(seen(&given, "rows")[0], vec![("model".to_owned(), json!("a"))]);
}

#[test]
fn ports_that_share_a_column_share_its_numbers() {
    let ports = [
        port("rows", Keys::Apart, &["item"]),
        port("vectors", Keys::Apart, &["item"]),
    ];
    let one = |content: &str, model: &str, judge: Option<&str>| {
        let judge = judge.map(|judge| ("judge", json!(judge)));
        let constants: Vec<_> = [("model", json!(model))].into_iter().chain(judge).collect();
        table(content, &constants)
    };
    let rows = vec![
        one("x", "a", Some("j")),
        one("y", "b", Some("j")),
        one("z", "a", Some("k")),
    ];
    let vectors = vec![one("v", "b", None), one("w", "a", None)];
    let given = veiled(&ports, inputs(vec![("rows", rows), ("vectors", vectors)]));
    let (rows, vectors) = (seen(&given, "rows"), seen(&given, "vectors"));
    // The judge tells texts apart by itself; the models join.
    let number = |seen: &[(String, Value)], name: &str| {
        let found = seen.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.clone())
    };
    assert_eq!(number(&rows[0], "(apart)"), number(&vectors[1], "(apart)"));
    assert_eq!(number(&rows[1], "(apart)"), number(&vectors[0], "(apart)"));
    assert_ne!(number(&rows[0], "(apart)"), number(&rows[1], "(apart)"));
    assert_eq!(number(&rows[0], "(apart)"), number(&rows[2], "(apart)"));
    assert_eq!(number(&rows[0], "judge"), number(&rows[1], "judge"));
    assert_ne!(number(&rows[0], "judge"), number(&rows[2], "judge"));
}

#[test]
fn one_value_is_no_column_and_null_is_a_value() {
    let ports = [port("rows", Keys::Apart, &["item"])];
    let same = |label: Value| veiled(&ports, inputs(vec![("rows", vec![table("x", &[("family", label)])])]));
    assert_eq!(seen(&same(json!("llama")), "rows"), [Vec::new()]);
    assert_eq!(seen(&same(json!(3)), "rows"), [Vec::new()]);
    let views = vec![
        table("x", &[("size", json!(7))]),
        table("y", &[("size", Value::Null)]),
        table("z", &[]),
    ];
    let given = seen(&veiled(&ports, inputs(vec![("rows", views)])), "rows");
    assert_eq!(given[1], given[2]);
    assert_ne!(given[0], given[1]);
    // 1 and 1.0 are one number; a number and a text are not compared.
    let views = vec![table("x", &[("t", json!(1))]), table("y", &[("t", json!(1.0))])];
    assert_eq!(
        seen(&veiled(&ports, inputs(vec![("rows", views)])), "rows"),
        [Vec::new(), Vec::new()]
    );
    let views = vec![table("x", &[("t", json!(1))]), table("y", &[("t", json!("1"))])];
    assert_eq!(
        seen(&veiled(&ports, inputs(vec![("rows", views)])), "rows")[1],
        [("t".to_owned(), json!("1"))]
    );
}
