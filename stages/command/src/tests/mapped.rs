//! `shape: map`: columns added to a table, and rows dropped or repeated.

use fracture_stage::{Field, Schema};

use super::*;

/// The columns that are added, as rows, and the rows of the input that they come from.
fn mapped(with: &Value) -> Result<(Vec<Value>, Option<Vec<u32>>), Error> {
    let mut with = with.clone();
    with["shape"] = json!("map");
    let inputs = at("scores", vec![scores(&["a", "b", "c"], &[0.25, 0.5, 1.0], "one")]);
    let stage = build(&with);
    let Work::Whole(work) = stage.work() else {
        panic!("not whole")
    };
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &AtomicBool::new(false),
        note: &|_| {},
        progress: &|_, _| {},
        files: &Project::new(&[]),
    };
    match work.run(&inputs, &open)?.outputs.main {
        Output::Table { batch, parent } => Ok((to_json(&[batch]), parent)),
        other => panic!("{other:?}"),
    }
}

fn shell(text: &str, reads: &str) -> Value {
    json!({ "run": ["sh", "-c", text], "reads": reads })
}

#[test]
fn it_reads_the_rows_in_their_order_and_adds_columns_to_them() {
    let twice = "(echo double; tail -n +2 $IN/scores.csv | awk -F, '{print $3 * 2}') > $OUT/main.csv";
    let expected = vec![json!({"double": 0.5}), json!({"double": 1.0}), json!({"double": 2.0})];
    assert_eq!(mapped(&shell(twice, "csv")).unwrap(), (expected, None));
}

#[test]
fn columns_that_come_back_as_they_were_are_not_stored_again() {
    // Item, constant and score come back; one value of the score is another one in the second case.
    let whole = |score: &str| {
        format!("(echo item,model,score,n; echo a,one,0.25,1; echo b,one,{score},2; echo c,one,1,3) > $OUT/main.csv")
    };
    let (rows, parent) = mapped(&shell(&whole("0.5"), "arrow")).unwrap();
    assert_eq!((rows[1].clone(), parent), (json!({"n": 2}), None));
    let (rows, _) = mapped(&shell(&whole("0.75"), "arrow")).unwrap();
    assert_eq!(rows[1], json!({"n": 2, "score": 0.75}));
    // What is declared is stored as declared.
    let mut with = shell(&whole("0.5").replace(",model", "").replace(",one", ""), "arrow");
    with["yields"] = json!({"item": "text", "score": "number", "n": "count"});
    let (rows, _) = mapped(&with).unwrap();
    assert_eq!(rows[1], json!({"item": "b", "n": 2, "score": 0.5}));
}

#[test]
fn rows_are_dropped_and_repeated_by_the_row_that_they_come_from() {
    for (name, text) in [
        ("csv", "(echo _parent,n; echo 2,1; echo 0,2; echo 2,3) > $OUT/main.csv"),
        (
            "jsonl",
            "for p in '2,\"n\":1' '0,\"n\":2' '2,\"n\":3'; do echo \"{\\\"_parent\\\":$p}\"; done > $OUT/main.jsonl",
        ),
    ] {
        let (rows, parent) = mapped(&shell(text, name)).unwrap();
        assert_eq!(rows, [json!({"n": 1}), json!({"n": 2}), json!({"n": 3})], "{name}");
        assert_eq!(parent, Some(vec![2, 0, 2]), "{name}");
    }
    // A filter adds no column, and may drop no row.
    for (rows, expected) in [("1", vec![1]), ("0; echo 1; echo 2", vec![0, 1, 2])] {
        let filter = format!("(echo _parent; echo {rows}) > $OUT/main.csv");
        assert_eq!(mapped(&shell(&filter, "csv")).unwrap().1, Some(expected));
    }
}

#[test]
fn rows_that_are_not_the_inputs_are_an_error() {
    for (text, expected) in [
        (
            "(echo n; echo 1; echo 2) > $OUT/main.csv",
            "wrote 2 rows for the 3 of its input",
        ),
        (
            "(echo _parent; echo 3) > $OUT/main.csv",
            "names row 3, which the input does not have",
        ),
        ("(echo _parent; echo x) > $OUT/main.csv", "does not hold whole numbers"),
        ("(echo item; echo a; echo b; echo c) > $OUT/main.csv", "adds no column"),
    ] {
        let error = mapped(&shell(text, "csv")).unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let error = script("(echo _parent; echo 0) > $OUT/main.csv").unwrap_err();
    assert!(error.to_string().contains("is for `shape: map`"), "{error}");
}

#[test]
fn its_schema_is_what_it_adds_and_keys_may_be_the_inputs() {
    let project = Project::new(&[]);
    let field = |name: &str| Field {
        name: name.to_owned(),
        kind: Some(fracture_cache::ColumnType::Text),
    };
    let input = Schema {
        fields: vec![field("item"), field("wording")],
        ..Schema::exact([])
    };
    let schema = |keys: Value, ports: usize| {
        let with = json!({ "run": ["x"], "shape": "map", "yields": {"n": "count"}, "keys": keys });
        let ports = (0..ports)
            .map(|port| (format!("p{port}"), vec![input.clone()]))
            .collect();
        build(&with)
            .schema(&Schemas { ports }, &project)
            .map(|outputs| outputs.main)
    };
    let added = schema(json!(["n", "wording"]), 1).unwrap();
    assert_eq!(added.completeness, Completeness::Exact);
    assert_eq!((added.fields.len(), added.keys.len()), (1, 2));
    assert!(schema(json!(["other"]), 1).is_err());
    for ports in [0, 2] {
        assert!(
            schema(json!([]), ports)
                .unwrap_err()
                .message
                .contains("adds columns to one table")
        );
    }
}
