//! What a program wrote: tables of every format, none, several, and halves.

use super::*;

fn message(result: Result<Vec<Value>, Error>) -> String {
    match result {
        Ok(rows) => panic!("{rows:?}"),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Task, "{error}");
            format!("{error} ({})", error.hint.clone().unwrap_or_default())
        }
    }
}

fn yielding(text: &str, yields: &Value) -> Result<Vec<Value>, Error> {
    run(
        &json!({ "run": ["sh", "-c", text], "yields": yields }),
        &Inputs::default(),
        &Project::new(&[]),
    )
}

#[test]
fn rows_come_as_they_were_written_and_nothing_is_added() {
    let csv = script("printf 'score,item\\n2,b\\n1,007\\n' > $OUT/main.csv").unwrap();
    assert_eq!(
        csv,
        [json!({"score": 2, "item": "b"}), json!({"score": 1, "item": "007"})]
    );
    let lines = script(r#"printf '{"x":1.5,"draw":0}\n{"x":null,"draw":0}' > $OUT/main.jsonl"#).unwrap();
    assert_eq!(lines, [json!({"x": 1.5, "draw": 0}), json!({"x": null, "draw": 0})]);
}

#[test]
fn a_column_that_load_would_add_is_kept_where_the_program_wrote_it() {
    let axis: ArrayRef = Arc::new(LargeStringArray::from(vec!["all"]));
    for format in ["parquet", "arrow"] {
        let with = json!({ "run": ["sh", "-c", format!("cp $IN/t.{format} $OUT/main.{format}")], "reads": format });
        let rows = run(
            &with,
            &at("t", vec![view(&[("axis", axis.clone())], &[])]),
            &Project::new(&[]),
        )
        .unwrap();
        assert_eq!(rows, [json!({"axis": "all"})], "{format}");
    }
}

#[test]
fn none_several_and_others_are_named() {
    assert!(message(script("true")).contains("$OUT is empty"));
    let other = message(script("echo a > $OUT/result.csv; echo b > $OUT/main.txt"));
    assert!(other.contains("holds no table, but main.txt, result.csv"), "{other}");
    let two = message(script("printf 'a\\n1\\n' | tee $OUT/main.csv > $OUT/main.jsonl"));
    assert!(two.contains("2 tables: main.csv, main.jsonl"), "{two}");
    assert!(message(script("mkdir $OUT/main.csv")).contains("no plain file"));
    assert!(message(script("ln -s /etc/hosts $OUT/main.csv")).contains("no plain file"));
}

#[test]
fn half_a_file_is_no_table() {
    for (text, expected) in [
        (
            "printf 'a,b\\n1,2\\n3\\n' > $OUT/main.csv",
            "differ in their number of cells",
        ),
        ("printf 'a,b\\n1,2\\n3,4' > $OUT/main.csv", "last line does not end"),
        ("printf 'a,a\\n1,2\\n' > $OUT/main.csv", "two columns have the name `a`"),
        (": > $OUT/main.csv", "no header"),
        (
            r#"printf '{"a":1}\n{"a":' > $OUT/main.jsonl"#,
            "line 2 is no JSON object",
        ),
        (": > $OUT/main.jsonl", "columns are not known"),
        (": > $OUT/main.arrow", "no Arrow IPC file"),
        (": > $OUT/main.parquet", "the file is empty"),
    ] {
        let found = message(script(text));
        assert!(
            found.contains(expected) && found.contains("not written to its end"),
            "{text}: {found}"
        );
    }
    for format in ["arrow", "parquet"] {
        let half = format!("head -c 300 $IN/t.{format} > $OUT/main.{format}");
        let inputs = at("t", vec![scores(&["a", "b"], &[1.0, 2.0], "m")]);
        let with = json!({ "run": ["sh", "-c", half], "reads": format });
        let found = message(run(&with, &inputs, &Project::new(&[])));
        assert!(found.contains(&format!("main.{format} is damaged")), "{found}");
    }
}

#[test]
fn a_result_may_be_empty() {
    assert_eq!(script("echo item,n > $OUT/main.csv").unwrap().len(), 0);
    assert_eq!(
        yielding(": > $OUT/main.jsonl", &json!({"n": "count"})).unwrap().len(),
        0
    );
}

#[test]
fn yields_holds_the_program_to_its_word() {
    let table = "printf 'n,item\\n1,a\\n2,b\\n' > $OUT/main.csv";
    let rows = yielding(table, &json!({"item": "text", "n": "number"})).unwrap();
    assert_eq!(rows[0], json!({"item": "a", "n": 1.0}));
    let more = message(yielding(table, &json!({"item": "text"})));
    assert!(more.contains("yields `n`, which `yields` does not name"), "{more}");
    let fewer = message(yielding(table, &json!({"item": "text", "n": "count", "m": "count"})));
    assert!(
        fewer.contains("does not yield `m`") && fewer.contains("it yields n, item"),
        "{fewer}"
    );
    let other = message(yielding("printf 'n\\n-1\\n' > $OUT/main.csv", &json!({"n": "count"})));
    assert!(other.contains("the column `n` is no count"), "{other}");
    let with = json!({ "run": ["sh", "-c", table], "keys": ["model"] });
    let keys = message(run(&with, &Inputs::default(), &Project::new(&[])));
    assert!(keys.contains("`keys` names `model`"), "{keys}");
}
