//! `load` and `query` over real files and views.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, AsArray};
use arrow::record_batch::RecordBatch;
use fracture_cache::{ColumnType, column_digest, column_type};
use fracture_stage::schema::Completeness;
use fracture_stage::stage::Incoming;
use fracture_stage::view::ColumnReader;
use fracture_stage::{Context, Declaration, Error, Files, Inputs, Open, Output, Schema, Schemas, Stage, View, Work};
use serde_json::{Value, json};

use super::every_type;
use crate::{Format, export, to_json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }
}

impl Files for Folder {
    fn locate(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = std::fs::read(path).map_err(|error| Error::input("no such file").cause(error))?;
        bytes.truncate(limit);
        Ok(bytes)
    }
    fn size(&self, path: &Path) -> Option<u64> {
        path.metadata().ok().map(|metadata| metadata.len())
    }
    fn list(&self, path: &Path) -> Option<Vec<String>> {
        let names = std::fs::read_dir(path).ok()?.flatten();
        Some(names.map(|entry| entry.file_name().into_string().unwrap()).collect())
    }
}

fn build(declaration: &Declaration, with: &Value) -> Box<dyn Stage> {
    (declaration.build)(with, &Context::default()).unwrap()
}

fn run(stage: &dyn Stage, inputs: &Inputs, folder: &Folder) -> Result<RecordBatch, Error> {
    let Work::Whole(work) = stage.work() else {
        panic!("not whole")
    };
    let cancelled = AtomicBool::new(false);
    let (note, progress) = (|_: &str| {}, |_, _| {});
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &cancelled,
        note: &note,
        progress: &progress,
        files: folder,
    };
    match work.run(inputs, &open)?.outputs.main {
        Output::Table { batch, .. } => Ok(batch),
        other => panic!("{other:?}"),
    }
}

fn load(folder: &Folder, with: &Value) -> Result<(RecordBatch, Schema), Error> {
    let stage = build(&crate::load::declaration(), with);
    stage.resolve(folder)?;
    let schema = stage.schema(&Schemas::default(), folder)?.main;
    let batch = run(&*stage, &Inputs::default(), folder)?;
    let names: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    for field in &schema.fields {
        let column = batch
            .column_by_name(&field.name)
            .unwrap_or_else(|| panic!("no {}: {names:?}", field.name));
        assert!(
            field
                .kind
                .is_none_or(|kind| column_type(column.data_type()) == Some(kind)),
            "{}",
            field.name
        );
    }
    if schema.completeness == Completeness::Exact {
        assert_eq!(schema.fields.len(), names.len());
    }
    Ok((batch, schema))
}

const CSV: &str = "\u{feff}name,score,note\n7,0.5,\"two\nlines\"\n8,1,\n9,,plain\n";

#[test]
fn a_file_becomes_a_table_with_what_every_table_has() {
    let lines = "{\"name\": 7, \"score\": 0.5, \"note\": \"two\\nlines\"}\n{\"name\": 8, \"score\": 1}\n{\"name\": 9, \"note\": \"plain\"}\n";
    let folder = Folder::new(&[("t.csv", CSV), ("t.jsonl", lines)]);
    for path in ["t.csv", "t.jsonl"] {
        let (batch, schema) = load(
            &folder,
            &json!({"path": path, "columns": {"item": "name"}, "keys": ["note"]}),
        )
        .unwrap();
        assert_eq!(schema.keys, ["note"]);
        assert_eq!(
            to_json(&[batch]),
            [
                json!({"item": "7", "score": 0.5, "note": "two\nlines", "axis": "all", "sample": 0, "draw": 0}),
                json!({"item": "8", "score": 1.0, "note": null, "axis": "all", "sample": 0, "draw": 0}),
                json!({"item": "9", "score": null, "note": "plain", "axis": "all", "sample": 0, "draw": 0}),
            ],
            "{path}"
        );
    }
}

#[test]
fn arrow_files_are_typed_before_the_run() {
    let folder = Folder::new(&[]);
    for name in ["t.arrow", "t.parquet"] {
        let path = folder.locate(name);
        export(&[every_type()], &path, Format::of(&path).unwrap()).unwrap();
    }
    let (_, schema) = load(&folder, &json!({"path": "t.arrow"})).unwrap();
    assert_eq!(schema.completeness, Completeness::Exact);
    assert_eq!(schema.field("vector").unwrap().kind, Some(ColumnType::Vector(2)));
    let (batch, schema) = load(&folder, &json!({"path": "t.parquet"})).unwrap();
    assert_eq!((schema.completeness, batch.num_columns()), (Completeness::AtLeast, 14));
}

#[test]
fn where_and_limit_take_rows_in_the_order_of_the_file() {
    let folder = Folder::new(&[("t.csv", "item,score\nc,3\na,1\nd,4\nb,2\n")]);
    let items = |with: Value| -> Vec<String> {
        let (batch, _) = load(&folder, &with).unwrap();
        batch
            .column_by_name("item")
            .unwrap()
            .as_string::<i64>()
            .iter()
            .map(|item| item.unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        items(json!({"path": "t.csv", "where": "score > 1 AND item <> 'd'"})),
        ["c", "b"]
    );
    assert_eq!(
        items(json!({"path": "t.csv", "where": "score > 1", "limit": 2})),
        ["c", "d"]
    );
    let empty = load(&folder, &json!({"path": "t.csv", "where": "score > 9"})).unwrap_err();
    assert!(empty.to_string().contains("no row is left"), "{empty}");
    let unknown = load(&folder, &json!({"path": "t.csv", "where": "scor > 9"})).unwrap_err();
    assert!(unknown.to_string().contains("scor") && unknown.hint.as_deref() == Some("did you mean `score`?"));
}

#[test]
fn what_can_not_be_loaded_is_said() {
    let folder = Folder::new(&[
        ("t.csv", "item,score\nc,3\n"),
        ("bad.jsonl", "{}\n{\"a\": \n"),
        ("bad.arrow", "no"),
    ]);
    let error = |with: Value| load(&folder, &with).unwrap_err().to_string();
    assert!(error(json!({"path": "none.csv"})).contains("there is no such file"));
    assert!(error(json!({"path": "bad.jsonl"})).contains("line 2 is no JSON object"));
    assert!(error(json!({"path": "bad.arrow"})).contains("no Arrow IPC file"));
    assert!(error(json!({"path": "t.csv", "columns": {"item": "nme"}})).contains("`nme`"));
    assert!(error(json!({"path": "t.csv", "keys": ["colour"]})).contains("`colour`"));
    let parameters = |with: Value| {
        (crate::load::declaration().build)(&with, &Context::default())
            .err()
            .unwrap()
    };
    assert_eq!(parameters(json!({"path": "t.txt"})).len(), 1);
    assert_eq!(
        parameters(json!({"path": "*/x.txt", "where": "a >", "limit": 0, "columns": {"b": {"map": {"x": [1]}}}})).len(),
        5
    );
}

#[test]
fn values_are_mapped_and_typed_as_the_pipeline_says() {
    let folder = Folder::new(&[(
        "t.csv",
        "item,verdict,grade,code\na,harmful,1,7\nb,harmless,2.0,8\nc,,1,9\n",
    )]);
    let with = json!({"path": "t.csv", "columns": {
        "unsafe_human": { "from": "verdict", "map": { "harmful": true, "harmless": false } },
        "grade": { "map": { "1": 0.25, "2": "0.75" }, "type": "number" },
        "code": { "type": "text" },
    }});
    let (batch, schema) = load(&folder, &with).unwrap();
    let rows = to_json(&[batch]);
    assert_eq!(
        rows[1],
        json!({"item": "b", "unsafe_human": false, "grade": 0.75, "code": "8", "axis": "all", "sample": 0, "draw": 0})
    );
    assert_eq!(
        (&rows[0]["unsafe_human"], &rows[2]["unsafe_human"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(schema.field("grade").unwrap().kind, Some(ColumnType::F64));
    let error = |columns: Value| {
        load(&folder, &json!({"path": "t.csv", "columns": columns}))
            .unwrap_err()
            .to_string()
    };
    let told = error(json!({"verdict": {"map": {"harmful": true}}}));
    assert!(told.contains("does not say what `harmless` means"), "{told}");
    let told = error(json!({"verdict": {"type": "number"}}));
    assert!(told.contains("row 1 holds `harmful`"), "{told}");
}

#[test]
fn files_that_fit_a_pattern_are_one_table() {
    let folder = Folder::new(&[
        ("s/b.csv", "item,score\nb,1\n"),
        ("s/a.csv", "item,score,note\na,0.5,x\n"),
        ("s/c.txt", "no"),
    ]);
    let (batch, schema) = load(&folder, &json!({"path": "s/*.csv"})).unwrap();
    let rows = to_json(&[batch]);
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["item"], &rows[0]["note"]),
        (&json!("a"), &json!("x")),
        "in the order of names"
    );
    assert_eq!((&rows[1]["score"], &rows[1]["note"]), (&json!(1.0), &Value::Null));
    assert_eq!(schema.completeness, Completeness::Exact);
    let stage = build(&crate::load::declaration(), &json!({"path": "s/*.csv"}));
    let roles: Vec<String> = stage
        .resolve(&folder)
        .unwrap()
        .into_iter()
        .map(|file| file.role)
        .collect();
    assert_eq!(roles, ["file/a.csv", "file/b.csv"]);
    let error = load(&folder, &json!({"path": "s/*.parquet"})).unwrap_err();
    assert!(error.to_string().contains("no file fits the pattern"), "{error}");
}

struct Memory(BTreeMap<String, ArrayRef>);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Ok(Arc::clone(&self.0[column]))
    }
}

fn view(batch: &RecordBatch, constants: &[(&str, Value)]) -> View {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let columns: Vec<_> = names.zip(batch.columns()).collect();
    let stored: BTreeMap<_, _> = columns
        .iter()
        .map(|(name, column)| ((*name).to_owned(), Arc::clone(column)))
        .collect();
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(stored));
    let typed = columns.iter().map(|(name, column)| {
        let kind = column_type(column.data_type()).unwrap();
        (*name, kind, column_digest(kind, &[Arc::clone(column)]).unwrap())
    });
    View::stored(batch.num_rows(), &reader, typed)
        .with_constants(
            constants
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        )
        .with_keys(["item".to_owned(), "model".to_owned()])
}

fn query(ports: &[(&str, Vec<View>)], with: &Value) -> Result<Vec<Value>, Error> {
    let stage = build(&crate::query::declaration(), with);
    let port =
        |(name, views): &(&str, Vec<View>)| ((*name).to_owned(), views.iter().cloned().map(Incoming::Table).collect());
    let inputs = Inputs {
        ports: ports.iter().map(port).collect(),
    };
    Ok(to_json(&[run(&*stage, &inputs, &Folder::new(&[]))?]))
}

#[test]
fn sql_reads_ports_with_constants_in_any_order() {
    let folder = Folder::new(&[
        ("a.csv", "item,score\nx,0.5\ny,0.25\n"),
        ("b.csv", "item,score\ny,1\nx,0\n"),
    ]);
    let of = |path: &str, model: &str| {
        view(
            &load(&folder, &json!({"path": path})).unwrap().0,
            &[("model", json!(model))],
        )
    };
    let (a, b) = (of("a.csv", "one"), of("b.csv", "two"));
    let with = json!({"sql": "SELECT model, SUM(score) AS total, COUNT(*) AS n FROM scores GROUP BY model"});
    let expected = [
        json!({"model": "one", "total": 0.75, "n": 2}),
        json!({"model": "two", "total": 1.0, "n": 2}),
    ];
    assert_eq!(
        query(&[("scores", vec![a.clone(), b.clone()])], &with).unwrap(),
        expected
    );
    assert_eq!(
        query(&[("scores", vec![b.clone(), a.clone()])], &with).unwrap(),
        expected
    );

    let joined = json!({
        "sql": "SELECT l.item, r.score - l.score AS lift FROM l JOIN r ON l.item = r.item ORDER BY lift DESC",
        "yields": {"item": "text", "lift": "number"},
    });
    let rows = query(&[("l", vec![a.clone()]), ("r", vec![b])], &joined).unwrap();
    assert_eq!(
        rows,
        [json!({"item": "y", "lift": 0.75}), json!({"item": "x", "lift": -0.5})]
    );

    let error = query(&[("scores", vec![a])], &json!({"sql": "SELECT scor FROM scores"})).unwrap_err();
    assert!(
        error
            .hint
            .unwrap()
            .contains("scores (item, score, axis, sample, draw, model)")
    );
    assert!((crate::query::declaration().build)(&json!({"sql": "SELEC"}), &Context::default()).is_err());
}
