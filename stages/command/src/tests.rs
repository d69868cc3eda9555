//! Programs that are really run: what they see, what they may write, and how they come to their end.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, LargeStringArray};
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};
use fracture_stage::stage::Incoming;
use fracture_stage::view::ColumnReader;
use fracture_stage::{
    Completeness, Context, Error, ErrorKind, Files, Inputs, Open, Output, Parts, Role, Schemas, Stage, View, Work,
};
use fracture_table::to_json;
use serde_json::{Value, json};

use crate::declaration;
use crate::quote::Passed;

mod endings;
mod mapped;
mod outputs;

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }
}

impl Files for Project {
    fn locate(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
    fn head(&self, path: &Path, _limit: usize) -> Result<Vec<u8>, Error> {
        Ok(fs::read(path).unwrap())
    }
    fn size(&self, path: &Path) -> Option<u64> {
        fs::metadata(path)
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|metadata| metadata.len())
    }
    fn list(&self, path: &Path) -> Option<Vec<String>> {
        let entries = fs::read_dir(path).ok()?;
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        Some(names)
    }
}

struct Memory(BTreeMap<String, ArrayRef>);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Ok(Arc::clone(&self.0[column]))
    }
}

fn view(columns: &[(&str, ArrayRef)], constants: &[(&str, Value)]) -> Incoming {
    let stored = columns
        .iter()
        .map(|(name, column)| ((*name).to_owned(), Arc::clone(column)));
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(stored.collect()));
    let described = columns.iter().map(|(name, column)| {
        let kind = column_type(column.data_type()).unwrap();
        (*name, kind, column_digest(kind, &[Arc::clone(column)]).unwrap())
    });
    let view = View::stored(columns[0].1.len(), &reader, described);
    Incoming::Table(
        view.with_constants(
            constants
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        ),
    )
}

fn scores(items: &[&str], values: &[f64], model: &str) -> Incoming {
    let items: ArrayRef = Arc::new(LargeStringArray::from(items.to_vec()));
    let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    view(&[("score", values), ("item", items)], &[("model", json!(model))])
}

fn at(port: &str, arriving: Vec<Incoming>) -> Inputs {
    Inputs {
        ports: vec![(port.to_owned(), arriving)],
    }
}

fn build(with: &Value) -> Box<dyn Stage> {
    (declaration().build)(with, &Context::default()).unwrap()
}

fn wrong(with: &Value) -> String {
    match (declaration().build)(with, &Context::default()) {
        Ok(_) => panic!("{with} is accepted"),
        Err(errors) => errors
            .into_iter()
            .map(|error| error.message)
            .collect::<Vec<_>>()
            .join("; "),
    }
}

fn run_until(with: &Value, inputs: &Inputs, files: &Project, cancelled: &AtomicBool) -> Result<RecordBatch, Error> {
    let stage = build(with);
    let Work::Whole(work) = stage.work() else {
        panic!("not whole")
    };
    let open = Open {
        threads: 1,
        offline: true,
        cancelled,
        note: &|_| {},
        progress: &|_, _| {},
        files,
    };
    match work.run(inputs, &open)?.outputs.main {
        Output::Table { batch, .. } => Ok(batch),
        other => panic!("{other:?}"),
    }
}

fn run(with: &Value, inputs: &Inputs, files: &Project) -> Result<Vec<Value>, Error> {
    run_until(with, inputs, files, &AtomicBool::new(false)).map(|batch| to_json(&[batch]))
}

/// What a shell script gives that is run without inputs and files.
fn script(text: &str) -> Result<Vec<Value>, Error> {
    run(
        &json!({ "run": ["sh", "-c", text] }),
        &Inputs::default(),
        &Project::new(&[]),
    )
}

#[test]
fn several_tasks_are_one_table_with_constants_whatever_their_order() {
    let tasks = || vec![scores(&["b", "a"], &[0.5, 1.0], "two"), scores(&["c"], &[0.25], "one")];
    let reversed = || tasks().into_iter().rev().collect();
    let expected = [
        json!({"item": "c", "model": "one", "score": 0.25}),
        json!({"item": "b", "model": "two", "score": 0.5}),
        json!({"item": "a", "model": "two", "score": 1.0}),
    ];
    for format in ["arrow", "parquet", "csv", "jsonl"] {
        let copy = format!("cp $IN/scores.{format} $OUT/main.{format}");
        let with = json!({ "run": ["sh", "-c", copy], "reads": format });
        for arriving in [tasks(), reversed()] {
            let rows = run(&with, &at("scores", arriving), &Project::new(&[])).unwrap();
            assert_eq!(rows, expected, "{format}");
            assert_eq!(
                rows[0].as_object().unwrap().keys().collect::<Vec<_>>(),
                ["item", "model", "score"]
            );
        }
    }
}

#[test]
fn it_sees_what_it_lists_and_nothing_else() {
    let project = Project::new(&[
        ("lib/a.txt", "a"),
        ("lib/deep/b.txt", "b"),
        ("other.txt", "secret"),
        ("x.sh", ""),
    ]);
    let list = "find . -type f | sort | sed 's/^/f,/' > $OUT/list; (echo kind,name; cat $OUT/list) > $OUT/main.csv";
    let with = json!({ "run": ["sh", "-c", list], "files": ["./lib", "x.sh", "x.sh"] });
    let rows = run(&with, &Inputs::default(), &project).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["./lib/a.txt", "./lib/deep/b.txt", "./x.sh"]);

    let names = "(echo name; env | sed 's/=.*//' | grep -v -e '^_$' -e PWD -e SHLVL | sort) > $OUT/main.csv";
    let given: Vec<Value> = script(names).unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(given, ["IN", "OUT", "PATH", "TMPDIR"]);
}

#[test]
fn a_program_of_the_project_is_run_and_can_not_change_its_files() {
    let text = "#!/bin/sh\necho changed > data.txt\n(echo arguments; echo \"$*\") > $OUT/main.csv\n";
    let project = Project::new(&[("bin/tool", text), ("data.txt", "as it was")]);
    let with = json!({ "run": ["./bin/tool", "-k", 3, 0.5, true], "files": ["bin/tool", "data.txt"] });
    assert_eq!(
        run(&with, &Inputs::default(), &project).unwrap(),
        [json!({"arguments": "-k 3 0.5 true"})]
    );
    assert_eq!(fs::read_to_string(project.locate("data.txt")).unwrap(), "as it was");
}

#[test]
fn a_large_file_is_not_copied() {
    let project = Project::new(&[("small.bin", "small")]);
    let large = fs::File::create(project.locate("large.bin")).unwrap();
    large.set_len(1 << 40).unwrap();
    let sizes = "(echo size; for f in large small; do stat -L -c %s $f.bin; done) > $OUT/main.csv; [ -L large.bin ] && [ ! -L small.bin ]";
    let with = json!({ "run": ["sh", "-c", sizes], "files": ["large.bin", "small.bin"] });
    let rows = run(&with, &Inputs::default(), &project).unwrap();
    assert_eq!(rows, [json!({"size": 1_i64 << 40}), json!({"size": 5})]);
}

#[test]
fn files_are_in_the_key_by_their_relative_path() {
    let project = Project::new(&[("lib/a.txt", "a"), ("lib/b.txt", "b")]);
    let uses = build(&json!({ "run": ["true"], "files": ["lib/b.txt", "lib"] }))
        .resolve(&project)
        .unwrap();
    let roles: Vec<&str> = uses.iter().map(|file| file.role.as_str()).collect();
    assert_eq!(roles, ["lib/a.txt", "lib/b.txt"]);
    let error = build(&json!({ "run": ["true"], "files": ["gone.py"] }))
        .resolve(&project)
        .unwrap_err();
    assert!(error.message.contains("gone.py"), "{error}");
}

#[test]
fn the_key_knows_what_the_result_depends_on() {
    let parts = |with: &Value| {
        let mut parts = Parts::default();
        build(with).describe(&mut parts);
        parts
            .0
            .into_iter()
            .map(|part| (part.role, part.name, part.value))
            .collect::<Vec<_>>()
    };
    let plain = json!({ "run": ["tool"], "env": ["B", "A", "A"], "files": ["x"] });
    let expected = [("run", json!(["tool"])), ("env", json!(["A", "B"]))];
    assert_eq!(
        parts(&plain),
        expected.map(|(name, value)| (Role::Parameter, name.to_owned(), value))
    );
    let same = json!({ "run": ["tool"], "env": ["A", "B"], "files": [], "timeout": "2m", "shape": "reduce", "reads": "arrow" });
    assert_eq!(parts(&plain), parts(&same));
    let base = json!({ "run": ["tool"] });
    for (name, value) in [
        ("run", json!(["tool", "x"])),
        ("shape", json!("map")),
        ("reads", json!("csv")),
        ("yields", json!({"a": "text"})),
        ("keys", json!(["a"])),
        ("env", json!(["HOME"])),
    ] {
        let mut other = base.clone();
        other[name] = value;
        assert_ne!(parts(&base), parts(&other), "{name}");
    }
}

#[test]
fn what_is_wrong_with_the_parameters_is_said_before_anything_runs() {
    for (with, expected) in [
        (json!({ "run": [] }), "names no program"),
        (
            json!({ "run": ["x"], "files": ["../up"] }),
            "no path inside the project",
        ),
        (
            json!({ "run": ["x"], "files": ["/etc/passwd"] }),
            "no path inside the project",
        ),
        (json!({ "run": ["x"], "files": ["~/x"] }), "no path inside the project"),
        (
            json!({ "run": ["x"], "files": ["a/*.py"] }),
            "patterns are not in this version",
        ),
        (
            json!({ "run": ["bin/x"], "files": ["bin/y", "bi"] }),
            "`bin/x` is no file that `files` lists",
        ),
        (json!({ "run": ["x"], "env": ["A=b"] }), "`A` is no name of a variable"),
        (json!({ "run": ["x"], "env": ["OUT"] }), "every program gets `OUT`"),
        (json!({ "run": ["x"], "timeout": "soon" }), "expected seconds"),
        (json!({ "run": ["x"], "timeout": 0 }), "expected seconds"),
        (json!({ "run": ["x", []] }), "expected a text"),
    ] {
        let found = wrong(&with);
        assert!(found.contains(expected), "{with}: {found}");
    }
    for program in ["x", "/bin/x", "./bin/x", "bin/deep/x"] {
        build(&json!({ "run": [program], "files": ["bin"] }));
    }
    // A value that was put into the list by mistake is not repeated.
    assert!(!wrong(&json!({ "run": ["x"], "env": ["API_KEY=hunter2"] })).contains("hunter2"));
}

#[test]
fn yields_is_the_schema_and_without_it_nothing_is_known() {
    let project = Project::new(&[]);
    let schema = |with: Value| {
        build(&with)
            .schema(&Schemas::default(), &project)
            .map(|outputs| outputs.main)
    };
    assert_eq!(
        schema(json!({ "run": ["x"] })).unwrap().completeness,
        Completeness::Unknown
    );
    let exact = schema(json!({ "run": ["x"], "yields": {"n": "count"}, "keys": ["n"] })).unwrap();
    assert_eq!(
        (exact.completeness, exact.keys),
        (Completeness::Exact, vec!["n".to_owned()])
    );
    assert_eq!(exact.fields[0].kind, Some(fracture_cache::ColumnType::U32));
    assert!(schema(json!({ "run": ["x"], "yields": {"n": "count"}, "keys": ["m"] })).is_err());
    let ports = Schemas {
        ports: vec![("../up".to_owned(), Vec::new())],
    };
    assert!(build(&json!({ "run": ["x"] })).schema(&ports, &project).is_err());
}
