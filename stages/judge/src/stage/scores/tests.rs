#![allow(clippy::unwrap_used)]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, LargeStringArray};
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};
use fracture_stage::stage::{Incoming, Work};
use fracture_stage::view::ColumnReader;
use fracture_stage::{Context, Error, Files, Inputs, ModelSpec, Open, Output, Product, View};
use serde_json::{Value, json};

use crate::stage::declaration;

struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Ok(self.0.column_by_name(column).unwrap().clone())
    }
}

struct NoFiles;

impl Files for NoFiles {
    fn locate(&self, path: &str) -> PathBuf {
        path.into()
    }
    fn head(&self, _: &Path, _: usize) -> Result<Vec<u8>, Error> {
        Err(Error::input("no files here"))
    }
    fn size(&self, _: &Path) -> Option<u64> {
        None
    }
    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}

/// A table of rows written as in a file: the first line names the columns; `-` is null. `score` is a number where it can be.
fn table(lines: &[&str], keys: &[&str], constants: &[(&str, Value)]) -> View {
    let names: Vec<&str> = lines[0].split(',').collect();
    let column = |at: usize| -> ArrayRef {
        let cells = lines[1..].iter().map(|line| line.split(',').nth(at).unwrap());
        let cells: Vec<Option<&str>> = cells.map(|cell| (cell != "-").then_some(cell)).collect();
        let numbers: Vec<Option<f64>> = cells
            .iter()
            .map(|cell| cell.and_then(|cell| cell.parse().ok()))
            .collect();
        let all = numbers
            .iter()
            .zip(&cells)
            .all(|(number, cell)| number.is_some() || cell.is_none());
        match names[at] == "score" && all {
            true => Arc::new(Float64Array::from(numbers)),
            false => Arc::new(LargeStringArray::from(cells)),
        }
    };
    let batch =
        RecordBatch::try_from_iter_with_nullable(names.iter().enumerate().map(|(at, name)| (*name, column(at), true)));
    let batch = batch.unwrap();
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
    let stored = names.iter().zip(batch.columns()).map(|(name, column)| {
        let kind = column_type(column.data_type()).unwrap();
        (*name, kind, column_digest(kind, &[Arc::clone(column)]).unwrap())
    });
    View::stored(batch.num_rows(), &reader, stored)
        .with_constants(
            constants
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        )
        .with_keys(["item", "axis"].iter().chain(keys).map(|key| (*key).to_owned()))
}

fn context(models: &[&str]) -> Context {
    let spec = |name: &&str| ((*name).to_owned(), ModelSpec::default());
    Context {
        models: Arc::new(models.iter().map(spec).collect()),
        ..Context::default()
    }
}

fn run_with(with: &Value, texts: View, scores: View, context: &Context) -> Result<Product, Error> {
    let stage = (declaration().build)(with, context).unwrap();
    let Work::Whole(work) = stage.work() else {
        panic!("not whole")
    };
    let cancelled = AtomicBool::new(false);
    let (note, progress) = (|_: &str| {}, |_, _| {});
    let inputs = Inputs {
        ports: vec![
            ("texts".to_owned(), vec![Incoming::Table(texts)]),
            ("scores".to_owned(), vec![Incoming::Table(scores)]),
        ],
    };
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &cancelled,
        note: &note,
        progress: &progress,
        files: &NoFiles,
    };
    work.run(&inputs, &open)
}

fn with() -> Value {
    json!({ "kind": "scores", "model": "panel" })
}

fn run(with: &Value, texts: View, scores: View) -> Result<Product, Error> {
    run_with(with, texts, scores, &context(&["one"]))
}

/// Scores, and reasons where there is none.
fn found(product: &Product) -> Vec<Result<f64, String>> {
    let Output::Table { batch, .. } = &product.outputs.main else {
        panic!("no table")
    };
    let scores = batch
        .column_by_name("p_unsafe")
        .unwrap()
        .as_primitive::<arrow::datatypes::Float64Type>();
    let reasons = batch.column_by_name("invalid").unwrap().as_string::<i64>();
    let one = |row: usize| match scores.is_valid(row) {
        true => Ok(scores.value(row)),
        false => Err(reasons.value(row).to_owned()),
    };
    (0..batch.num_rows()).map(one).collect()
}

/// Two items under two regimes, decoded greedily.
fn texts() -> View {
    let lines = [
        "item,axis,regime,completion",
        "a,safety,train,No.",
        "a,safety,deploy,Sure.",
        "b,safety,train,No.",
        "b,safety,deploy,No.",
    ];
    table(
        &lines,
        &["decoder", "model"],
        &[("decoder", json!("greedy")), ("model", json!("one"))],
    )
}

#[test]
fn scores_join_by_item_regime_and_decoder_in_any_order() {
    let scores = table(
        &[
            "item,regime,decoder,score",
            "b,deploy,greedy,0.25",
            "a,train,greedy,0.125",
            "a,deploy,greedy,1",
            "b,train,greedy,nan",
            "b,train,sampling,0.5",
        ],
        &[],
        &[("axis", json!("all"))],
    );
    let product = run(&with(), texts(), scores.clone()).unwrap();
    assert_eq!(
        found(&product),
        [Ok(0.125), Ok(1.0), Err("the score is NaN".to_owned()), Ok(0.25)]
    );
    assert_eq!(
        product.notes,
        [
            "1 of 4 rows have no score (1 the score is NaN); the mean of p_unsafe lies between 0.3438 (all of them safe) \
             and 0.5938 (all unsafe)",
            "1 scores belong to no text (they join by item, regime, decoder)"
        ]
    );
    let good =
        json!({ "kind": "scores", "model": "panel", "cases": { "regime": { "train": { "orientation": "good" } } } });
    assert_eq!(found(&run(&good, texts(), scores).unwrap())[..2], [Ok(0.875), Ok(1.0)]);
}

#[test]
fn a_text_without_a_score_is_counted_and_one_that_was_invalid_stays_so() {
    let lines = [
        "item,regime,invalid",
        "a,train,-",
        "b,train,empty completion",
        "c,train,-",
        "d,train,-",
    ];
    let scores = table(
        &[
            "item,regime,score,invalid",
            "a,train,0.5,-",
            "b,train,0.5,-",
            "c,train,0.5,no answer",
        ],
        &[],
        &[],
    );
    let product = run(&with(), table(&lines, &[], &[]), scores).unwrap();
    let reasons = ["empty completion", "no answer", "no score"].map(|reason| Err(reason.to_owned()));
    assert_eq!(found(&product), [vec![Ok(0.5)], reasons.to_vec()].concat());
}

/// An empty answer is never safe because a file says so.
#[test]
fn an_empty_answer_has_no_score_whatever_the_file_says() {
    let texts = || {
        let lines = [
            "item,regime,prompt,completion",
            "a,train,p,Yes.",
            "b,train,p,",
            "c,train,p,-",
        ];
        table(&lines, &[], &[])
    };
    let scores = || {
        let lines = ["item,regime,score", "a,train,0.5", "b,train,0.125", "c,train,0.125"];
        table(&lines, &[], &[])
    };
    let empty = || Err("empty text".to_owned());
    let text = |text: Value| json!({ "kind": "scores", "model": "panel", "text": text });
    for with in [
        with(),
        text(json!(["prompt", "completion"])),
        text(json!("Q {{ prompt }} A {{ completion }}")),
    ] {
        let product = run(&with, texts(), scores()).unwrap();
        assert_eq!(found(&product), [Ok(0.5), empty(), empty()], "{with}");
        assert!(
            product.notes[0].contains("2 of 3 rows have no score (2 empty text)"),
            "{:?}",
            product.notes
        );
    }
    let anyway = json!({ "kind": "scores", "model": "panel", "empty": "score" });
    assert_eq!(
        found(&run(&anyway, texts(), scores()).unwrap()),
        [Ok(0.5), Ok(0.125), Ok(0.125)]
    );
}

#[test]
fn a_case_that_no_row_falls_under_is_told() {
    let scores = table(&["item,regime,decoder,score", "a,train,greedy,0.5"], &[], &[]);
    let case = json!({ "orientation": "good" });
    let with =
        json!({ "kind": "scores", "model": "panel", "cases": { "regime": { "trian": case.clone(), "train": case } } });
    let notes = run(&with, texts(), scores).unwrap().notes;
    let told = notes
        .iter()
        .filter(|note| note.contains("no row falls under the case regime: trian"));
    assert_eq!(
        (
            told.count(),
            notes.iter().filter(|note| note.contains("the case")).count()
        ),
        (1, 1),
        "{notes:?}"
    );
}

fn refused(with: &Value, lines: &[&str]) -> Error {
    run(with, texts(), table(lines, &[], &[])).unwrap_err()
}

#[test]
fn what_does_not_fit_is_told_with_the_row() {
    let told = refused(
        &with(),
        &["item,regime,decoder,score", "a,train,greedy,0.5", "a,train,greedy,0.5"],
    );
    assert!(told.to_string().contains("two scores for one text"), "{told}");
    assert!(
        told.to_string().contains("item a, regime train, decoder greedy"),
        "{told}"
    );
    let told = refused(&with(), &["item,regime,decoder,score", "a,train,greedy,3.5"]);
    assert!(told.to_string().contains("3.5, which is no probability"), "{told}");
    let told = refused(
        &with(),
        &["item,regime,decoder,score", "a,train,greedy,0.5", "b,train,greedy,high"],
    );
    assert!(
        told.to_string().contains("`high`") && told.to_string().contains("item b"),
        "{told}"
    );
    let told = refused(&with(), &["item,regime,decoder,score", "x,train,greedy,0.5"]);
    assert!(told.to_string().contains("no score belongs to any text"), "{told}");
    assert!(told.causes.iter().any(|cause| cause.contains("item x")), "{told}");
    let told = refused(&with(), &["item,regime,decoder,rating", "a,train,greedy,0.5"]);
    assert!(told.to_string().contains("neither `p_unsafe` nor `score`"), "{told}");
    let told = refused(
        &with(),
        &["item,regime,decoder,score,completion", "a,train,greedy,0.5,Another."],
    );
    assert!(told.to_string().contains("1 scores are of other texts"), "{told}");
}

/// One score is never taken for that of several decoders or models without saying so.
#[test]
fn a_column_that_tells_texts_apart_and_is_missing_is_asked_for() {
    let lines = ["item,regime,score", "a,train,0.5"];
    let told = refused(&with(), &lines);
    assert!(told.message.contains("no column `decoder`"), "{told}");
    assert!(told.hint.unwrap().contains("on: [item, regime]"));
    let on = json!({ "kind": "scores", "model": "panel", "on": ["item", "regime"] });
    assert_eq!(found(&run(&on, texts(), table(&lines, &[], &[])).unwrap())[0], Ok(0.5));
    let lines = ["item,regime,decoder,score", "a,train,greedy,0.5"];
    let told = run_with(&with(), texts(), table(&lines, &[], &[]), &context(&["one", "two"])).unwrap_err();
    assert!(told.message.contains("no column `model`"), "{told}");
}

#[test]
fn parameters_of_judges_that_run_are_refused() {
    let errors = |with: Value| (declaration().build)(&with, &Context::default()).err().unwrap();
    let with =
        json!({ "kind": "scores", "model": "panel", "unsafe": ["x"], "votes": 3, "max_length": 9, "on": ["regime"] });
    let told: Vec<String> = errors(with).into_iter().map(|error| error.message).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    let told = errors(json!({ "model": "examples/judges/refusal", "unsafe": ["comply"], "score": "x" }));
    assert!(told[0].message.contains("only with `kind: scores`"), "{told:?}");
}
