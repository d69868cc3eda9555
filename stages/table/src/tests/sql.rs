//! What is said of a statement's names before it runs, against what polars says when it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, LargeStringArray};
use arrow::record_batch::RecordBatch;
use fracture_cache::ColumnType;
use fracture_stage::{Completeness, Context, Error, Field, Files, PathPart, Schema, Schemas};
use serde_json::{Value, json};

use crate::normal;
use crate::query::{Condition, select};
use crate::sql::{Statement, Unknown};

/// The tables `a (item, axis, score)` and `b (item, other, score)`.
fn tables() -> Vec<(&'static str, RecordBatch)> {
    let text = |values: [&str; 2]| -> ArrayRef { Arc::new(LargeStringArray::from(values.to_vec())) };
    let number = |values: [f64; 2]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    let table = |second: &str| {
        let columns = vec![
            ("item".to_owned(), text(["x", "y"])),
            (second.to_owned(), text(["s", "t"])),
            ("score".to_owned(), number([0.5, 1.0])),
        ];
        normal::table(columns, 2).unwrap()
    };
    vec![("a", table("axis")), ("b", table("other"))]
}

fn schema(second: &str) -> Schema {
    Schema::exact([
        ("item", ColumnType::Text),
        (second, ColumnType::Text),
        ("score", ColumnType::F64),
    ])
}

/// What is said before the run.
fn said(sql: &str) -> Option<String> {
    let (a, b) = ([schema("axis")], [schema("other")]);
    let statement = match Statement::read(sql) {
        Ok(statement) => statement,
        Err(problem) => return Some(problem),
    };
    if let Some(table) = statement.unknown_table(&|name| ["a", "b"].contains(&name)) {
        return Some(format!("table {table}"));
    }
    let unknown = statement.unknown_column(&|table| match table {
        "a" => &a,
        "b" => &b,
        _ => &[],
    });
    unknown.map(|Unknown { column, table, .. }| match table {
        Some(table) => format!("{table}.{column}"),
        None => column,
    })
}

fn runs(sql: &str) -> bool {
    select(&tables(), sql).is_ok()
}

#[test]
fn what_is_certain_is_said() {
    for (sql, expected) in [
        ("SELECT completio FROM a", "a.completio"),
        ("SELECT item, AVG(scor) AS mean FROM a GROUP BY item", "a.scor"),
        ("SELECT item FROM a WHERE regime = 'x'", "a.regime"),
        ("SELECT item FROM a ORDER BY scroe", "a.scroe"),
        ("SELECT item, SUM(score) AS s FROM a GROUP BY itm", "a.itm"),
        ("SELECT t.axi FROM a AS t", "a.axi"),
        ("SELECT a.axi FROM a", "a.axi"),
        ("SELECT axis FROM a JOIN b ON a.item = b.itme", "b.itme"),
        ("SELECT nowhere FROM a JOIN b ON a.item = b.item", "nowhere"),
        ("SELECT Item FROM a", "a.Item"),
        ("SELECT \"scor\" FROM a", "a.scor"),
        ("SELECT CASE WHEN scor > 1 THEN 1 ELSE 0 END AS x FROM a", "a.scor"),
        ("SELECT item FROM c", "table c"),
        ("SELECT item FROM a JOIN c ON a.item = c.item", "table c"),
        ("SELECT item FROM c AS c", "table c"),
        ("SELECT item FROM a WHERE item IN (SELECT item FROM c)", "table c"),
        ("WITH t AS (SELECT item FROM c) SELECT item FROM t", "table c"),
        (
            "SELECT item FROM a; SELECT item FROM b",
            "found 2 statements, expected one SELECT",
        ),
        ("DROP TABLE a", "expected a SELECT statement"),
        ("", "found 0 statements, expected one SELECT"),
        (
            "SELECT item, item FROM a",
            "two columns of the result are called `item`",
        ),
        (
            "SELECT item AS x, axis AS x FROM a",
            "two columns of the result are called `x`",
        ),
        (
            "SELECT axis, AVG(score) AS axis FROM a GROUP BY axis",
            "two columns of the result are called `axis`",
        ),
        (
            "SELECT x.item, y.item FROM a AS x JOIN b AS y ON x.item = y.item",
            "two columns of the result are called `item`",
        ),
    ] {
        assert_eq!(said(sql).as_deref(), Some(expected), "{sql}");
        if !sql.starts_with("DROP") {
            assert!(!runs(sql), "{sql} runs");
        }
    }
    assert!(said("SELEC item FROM a").unwrap().starts_with("no SQL: Expected"));
}

#[test]
fn what_runs_is_never_refused() {
    let statements = [
        "SELECT * FROM a",
        "SELECT * FROM a;",
        "SELECT item, score * 2 AS twice FROM a ORDER BY twice",
        "SELECT item AS i, COUNT(*) AS n FROM a GROUP BY i HAVING n > 0 ORDER BY n DESC, i",
        "SELECT COUNT(*) FROM a ORDER BY len",
        "SELECT item, COUNT(*) FROM a GROUP BY item ORDER BY len",
        "SELECT a.item, b.other FROM a JOIN b ON a.item = b.item",
        "SELECT l.item, r.score - l.score AS lift FROM a AS l JOIN a AS r ON l.item = r.item ORDER BY lift",
        "SELECT item, axis, other FROM a JOIN b USING (item)",
        "SELECT * FROM a NATURAL JOIN b",
        "SELECT item, \"score:b\" FROM a JOIN b ON a.item = b.item",
        "SELECT item FROM a LEFT JOIN b ON a.item = b.item WHERE other IS NULL",
        "WITH t AS (SELECT item AS thing, score FROM a) SELECT thing FROM t WHERE score > 0",
        "WITH a AS (SELECT item AS thing FROM b) SELECT thing FROM a",
        "SELECT thing FROM (SELECT item AS thing FROM a) AS t",
        "SELECT item FROM a WHERE item IN (SELECT item FROM b)",
        "SELECT item FROM a UNION ALL SELECT item FROM b ORDER BY item",
        "SELECT item AS x FROM a UNION SELECT other AS x FROM b",
        "SELECT * EXCLUDE (axis) FROM a",
        "SELECT * RENAME (axis AS ground) FROM a ORDER BY ground",
        "SELECT * REPLACE (score * 2 AS score) FROM a",
        "SELECT a.* FROM a",
        "SELECT UPPER(item) AS big, ROUND(score, 1) AS s, CAST(score AS TEXT) AS t FROM a",
        "SELECT item, ROW_NUMBER() OVER (PARTITION BY axis ORDER BY score) AS n FROM a",
        "SELECT item, SUM(score) OVER w AS s FROM a WINDOW w AS (PARTITION BY axis)",
        "SELECT item, score FROM a QUALIFY ROW_NUMBER() OVER (ORDER BY score) = 1",
        "SELECT DISTINCT axis FROM a ORDER BY axis LIMIT 1",
        "SELECT DISTINCT ON (axis) axis, item FROM a",
        "SELECT item, score FROM a ORDER BY ALL",
        "SELECT item, score FROM a GROUP BY ALL",
        "SELECT item, score FROM a ORDER BY 2, 1",
        "SELECT COLUMNS('^s.*$') FROM a",
        "SELECT \"^s.*$\" FROM a",
        "SELECT item, TRUE AS flag, NULL AS nothing, 'text' AS text FROM a",
        "SELECT item FROM a WHERE score BETWEEN 0 AND 1 AND axis LIKE 's%' AND item IS NOT NULL",
        "SELECT item FROM a WHERE axis IN ('s', 't') OR NOT (score > 2)",
        "SELECT NORMALIZE(item, NFKC) AS n FROM a",
        "SELECT t.item FROM a AS t",
        "SELECT t.item FROM a t WHERE t.score > 0 ORDER BY t.item",
        "SELECT item, CASE axis WHEN 's' THEN 'one' ELSE 'two' END AS kind FROM a ORDER BY kind",
        "SELECT a.item FROM a, b WHERE a.item = b.item",
        "SELECT b.other FROM b CROSS JOIN a",
        "SELECT item, score AS s, s FROM (SELECT item, score, score AS s FROM a) AS t",
        "FROM a SELECT item",
        "SELECT item, FROM a",
        "SELECT x.item, y.item AS again FROM a AS x JOIN b AS y ON x.item = y.item",
        "SELECT item FROM a GROUP BY item HAVING MAX(score) > 0",
        "SELECT AVG(score) FILTER (WHERE axis = 's') AS mean FROM a",
        "SELECT (SELECT MAX(score) FROM b) AS most, item FROM a",
        "TABLE a",
        "EXPLAIN SELECT item FROM a",
    ];
    let mut ran = 0;
    for sql in statements {
        if runs(sql) {
            ran += 1;
            assert_eq!(said(sql), None, "{sql}");
        }
    }
    // What this version of polars does not run says nothing.
    assert!(ran > 40, "only {ran} run");
}

/// Every clause with every name: what is refused does not run.
#[test]
fn a_refusal_is_an_error_of_the_run() {
    let names = [
        "item", "axis", "score", "other", "nope", "a", "b", "t", "len", "literal", "a.item", "a.nope", "t.item",
        "t.nope", "b.other", "b.axis", "\"item\"", "ALL", "twice",
    ];
    let clauses = [
        "SELECT {} FROM a",
        "SELECT {} FROM a AS t",
        "SELECT {} AS x, item FROM a AS t",
        "SELECT item FROM a WHERE {} IS NOT NULL",
        "SELECT item, score * 2 AS twice FROM a ORDER BY {}",
        "SELECT item, score * 2 FROM a ORDER BY {}",
        "SELECT COUNT(*) FROM a GROUP BY {}",
        "SELECT axis, COUNT(*) AS twice FROM a GROUP BY axis HAVING {} IS NOT NULL",
        "SELECT {} FROM a JOIN b ON a.item = b.item",
        "SELECT a.item FROM a JOIN b ON a.item = {}",
        "SELECT {} FROM a AS t JOIN b ON t.item = b.item",
        "SELECT {} FROM (SELECT item, score AS twice FROM a) AS t",
        "WITH t AS (SELECT item AS nope FROM a) SELECT {} FROM t",
        "WITH t AS (SELECT item FROM a) SELECT {} FROM t JOIN b ON t.item = b.item",
        "SELECT SUM(score) OVER (PARTITION BY {}) AS x FROM a",
        "SELECT MAX({}) AS twice FROM a",
        "SELECT item FROM a WHERE item IN (SELECT {} FROM b)",
        "SELECT item FROM {}",
        "SELECT item FROM a UNION ALL SELECT {} FROM b",
    ];
    let mut refused = 0;
    for clause in clauses {
        for name in names {
            let sql = clause.replace("{}", name);
            if let Some(told) = said(&sql) {
                refused += 1;
                assert!(!runs(&sql), "`{sql}` runs, though it was said: {told}");
            }
        }
    }
    assert!(refused > 80, "only {refused} refused");
}

#[test]
fn nothing_is_said_of_a_table_that_may_have_more() {
    let open = [Schema {
        completeness: Completeness::AtLeast,
        ..schema("axis")
    }];
    let statement = Statement::read("SELECT nope, a.nope AS again FROM a").unwrap();
    assert_eq!(statement.unknown_column(&|_| &open), None);
    // Tables at one port are joined: a column of one of them is there.
    let more = Field {
        name: "nope".to_owned(),
        kind: None,
    };
    let mut second = schema("axis");
    second.fields.push(more);
    let both = [schema("axis"), second];
    assert_eq!(statement.unknown_column(&|_| &both), None);
}

#[test]
fn conditions_name_columns_of_their_table() {
    let names = ["item", "axis", "score"];
    for condition in [
        "score > 0.5 AND axis = 's'",
        "item LIKE 'x%'",
        "self.item = 'x'",
        "\"axis\" IS NULL",
    ] {
        assert!(Condition::read(condition).unwrap().check(names).is_ok(), "{condition}");
    }
    let error = Condition::read("scor > 0.5").unwrap().check(names).unwrap_err();
    assert_eq!(error.message, "`where` names the column `scor`, which is not there");
    assert_eq!(error.hint.as_deref(), Some("did you mean `score`?"));
    for wrong in ["score >", "1 = 1); SELECT (1", "score > 0.5) OR (true) SELECT"] {
        assert!(Condition::read(wrong).is_err(), "{wrong}");
    }
}

/// What a `query` stage says of its tables before it runs.
fn planned(with: &Value, ports: &[(&str, Schema)]) -> Result<(), Error> {
    let stage = (crate::query::declaration().build)(with, &Context::default()).map_err(|errors| {
        let first = &errors[0];
        Error::pipeline(first.message.clone())
    })?;
    let port = |(name, schema): &(&str, Schema)| ((*name).to_owned(), vec![schema.clone()]);
    let inputs = Schemas {
        ports: ports.iter().map(port).collect(),
    };
    stage.schema(&inputs, &Nowhere).map(drop)
}

#[test]
fn a_query_says_before_it_runs_what_it_can_not_read() {
    let ports = [("a", schema("axis")), ("b", schema("other"))];
    let error = |with: &Value| planned(with, &ports).unwrap_err();
    let column = error(&json!({"sql": "SELECT itm FROM a"}));
    assert_eq!(
        column.message,
        "the statement names the column `itm`, which `a` does not have"
    );
    assert!(column.hint.as_deref() == Some("did you mean `item`?"));
    assert_eq!(column.parameter, [PathPart::Key("sql".to_owned())]);
    let table = error(&json!({"sql": "SELECT a.item FROM a JOIN bb ON a.item = bb.item"}));
    assert_eq!(
        table.message,
        "the statement reads the table `bb`, which is none of its ports"
    );
    assert!(table.hint.unwrap().starts_with("did you mean `b`?"));

    let sql = "SELECT item, score AS value FROM a";
    let missing = error(&json!({"sql": sql, "yields": {"item": "text", "valu": "number"}}));
    assert_eq!(missing.message, "the query does not yield `valu`, which `yields` names");
    assert_eq!(missing.hint.as_deref(), Some("did you mean `value`?"));
    let more = error(&json!({"sql": sql, "yields": {"item": "text"}}));
    assert_eq!(more.message, "the query yields `value`, which `yields` does not name");
    let key = error(&json!({"sql": sql, "keys": ["axis"]}));
    assert_eq!(key.message, "`keys` names `axis`, which the query does not yield");

    for with in [
        json!({"sql": sql, "yields": {"item": "text", "value": "number"}, "keys": ["item"]}),
        json!({"sql": "SELECT * FROM a", "keys": ["axis"]}),
        json!({"sql": "SELECT item, COUNT(*) FROM a GROUP BY item", "yields": {"item": "text", "len": "count"}}),
    ] {
        planned(&with, &ports).unwrap();
    }
}

/// The names that are told of a result are those that it has.
#[test]
fn the_columns_of_a_result_are_told() {
    for (sql, expected) in [
        ("SELECT item, score AS s FROM a", Some("item s")),
        (
            "SELECT x.item, other FROM a AS x JOIN b AS y ON x.item = y.item",
            Some("item other"),
        ),
        (
            "SELECT y.item, y.score FROM a AS x JOIN b AS y ON x.item = y.item",
            Some("item score"),
        ),
        (
            "SELECT axis AS g, AVG(score) AS mean FROM a GROUP BY g ORDER BY mean",
            Some("g mean"),
        ),
        (
            "SELECT AVG(score) AS mean, axis FROM a GROUP BY axis",
            Some("mean axis"),
        ),
        ("SELECT DISTINCT axis FROM a", Some("axis")),
        (
            "SELECT score AS item FROM a WHERE item = 'x' ORDER BY score",
            Some("item"),
        ),
        ("SELECT axis FROM a ORDER BY item", Some("axis")),
        ("SELECT *, score AS s FROM a", None),
        ("SELECT AVG(score) FROM a", None),
        ("SELECT item FROM a UNION SELECT other FROM b", None),
    ] {
        let told = Statement::read(sql).unwrap().result;
        assert_eq!(told.as_ref().map(|names| names.join(" ")).as_deref(), expected, "{sql}");
        let ran = select(&tables(), sql).unwrap();
        if let Some(told) = told {
            let names: Vec<String> = ran.schema().fields().iter().map(|field| field.name().clone()).collect();
            assert_eq!(told, names, "{sql}");
        }
    }
}

/// Plans nothing from files.
struct Nowhere;

impl Files for Nowhere {
    fn locate(&self, path: &str) -> PathBuf {
        PathBuf::from(path)
    }
    fn head(&self, _: &Path, _: usize) -> Result<Vec<u8>, Error> {
        Err(Error::input("there is no file"))
    }
    fn size(&self, _: &Path) -> Option<u64> {
        None
    }
    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}
