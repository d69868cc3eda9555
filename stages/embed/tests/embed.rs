//! The stage on the shipped encoder and on a shipped language model, and what it says when something is wrong.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray};
use arrow::datatypes::Float32Type;
use arrow::record_batch::RecordBatch;
use fracture_cache::{ColumnType, column_digest, column_type};
use fracture_stage::stage::{Incoming, RowState, Work};
use fracture_stage::view::ColumnReader;
use fracture_stage::{
    Context, Error, Files, Inputs, KeyHasher, ModelSpec, Open, Outcome, Output, RowWise, Schemas, Stage, Ticket, View,
};
use serde_json::{Value, json};

use fracture_embed::declarations;

const ENCODER: &str = "examples/encoders/sentence";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The disk, from the project's root.
struct Disk;

impl Files for Disk {
    fn locate(&self, path: &str) -> PathBuf {
        root().join(path)
    }

    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let bytes = std::fs::read(path).map_err(|e| Error::input(path.display().to_string()).cause(e))?;
        Ok(bytes[..bytes.len().min(limit)].to_vec())
    }

    fn size(&self, path: &Path) -> Option<u64> {
        std::fs::metadata(path).ok().map(|metadata| metadata.len())
    }

    fn list(&self, path: &Path) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(path).ok()?.flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Some(names)
    }
}

struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Ok(self.0.column_by_name(column).unwrap().clone())
    }
}

/// A row: `prompt`, `completion` and why it is invalid.
type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// Inputs of texts.
fn inputs(rows: &[Row<'_>]) -> Inputs {
    let column = |read: fn(&Row<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(read).collect::<LargeStringArray>())
    };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("prompt", column(|row| Some(row.0.to_owned())), true),
        ("completion", column(|row| row.1.map(str::to_owned)), true),
        ("invalid", column(|row| row.2.map(str::to_owned)), true),
    ])
    .unwrap();
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let kind = column_type(field.data_type()).unwrap();
        let digest = column_digest(kind, std::slice::from_ref(column)).unwrap();
        (field.name().as_str(), kind, digest)
    });
    let view = View::stored(batch.num_rows(), &reader, columns);
    Inputs {
        ports: vec![("texts".to_owned(), vec![Incoming::Table(view)])],
    }
}

fn texts<'a>(texts: &[&'a str]) -> Vec<Row<'a>> {
    texts.iter().map(|text| ("", Some(*text), None)).collect()
}

fn stage(with: Value) -> Box<dyn Stage> {
    (declarations()[0].build)(&with, &Context::default()).unwrap()
}

fn rows_of(stage: &dyn Stage) -> &dyn RowWise {
    match stage.work() {
        Work::Rows(rows) => rows,
        Work::Whole(_) => panic!("`embed` works row by row"),
    }
}

/// Runs the stage; texts are handed to the executor `chunk` at a time. Gives the table, the notes and the number of requests.
fn run(with: Value, inputs: &Inputs, threads: usize, chunk: usize) -> Result<(RecordBatch, Vec<String>, usize), Error> {
    let stage = stage(with);
    stage.schema(&Schemas::default(), &Disk)?;
    let cancelled = AtomicBool::new(false);
    let open = Open {
        threads,
        offline: false,
        cancelled: &cancelled,
        note: &|_| {},
        progress: &|_, _| {},
        files: &Disk,
    };
    let rows = rows_of(&*stage);
    let plan = rows.plan(inputs, &open)?;
    let mut executor = rows.open(&open)?;
    let mut found: Vec<Option<Outcome>> = vec![None; plan.requests.len()];
    let mut done = |ticket: Ticket, outcome: Outcome| {
        assert!(found[ticket.0 as usize].replace(outcome).is_none(), "a row came twice");
    };
    for (start, requests) in plan.requests.chunks(chunk).enumerate() {
        for (index, request) in requests.iter().enumerate() {
            while executor.room() == 0 {
                executor.step(true, &mut done)?;
            }
            executor.submit(Ticket((start * chunk + index) as u64), request.clone())?;
        }
        executor.step(true, &mut done)?;
    }
    while executor.step(false, &mut done)?.active > 0 {}
    let state = |row: &Option<u32>| match row {
        None => RowState::Absent,
        Some(request) => match found[*request as usize].as_ref().unwrap() {
            Outcome::Raw(bytes) => RowState::Raw(bytes),
            Outcome::Failed(error) => RowState::Failed(error),
        },
    };
    let states: Vec<RowState<'_>> = plan.rows.iter().map(state).collect();
    let product = rows.finish(inputs, &plan, &states)?;
    let Output::Table { batch, parent: None } = product.outputs.main else {
        panic!("`embed` gives a row for each row");
    };
    Ok((batch, product.notes, plan.requests.len()))
}

/// The vectors of a table.
fn vectors(batch: &RecordBatch) -> Vec<Option<Vec<f32>>> {
    let lists = batch.column_by_name("embedding").unwrap().as_fixed_size_list();
    let vector = |list: ArrayRef| list.as_primitive::<Float32Type>().values().to_vec();
    (0..lists.len())
        .map(|row| lists.is_valid(row).then(|| vector(lists.value(row))))
        .collect()
}

fn embed(with: Value, lines: &[&str]) -> Vec<Vec<f32>> {
    let (batch, _, _) = run(with, &inputs(&texts(lines)), 2, 100).unwrap();
    vectors(&batch).into_iter().map(Option::unwrap).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

const SURE: &str = "Sure, here is what to do first.";
const SORRY: &str = "I'm sorry, but I can't help with that.";

const REFERENCE: [[f32; 4]; 2] = [
    [0.11782, 0.137611, 0.120337, 0.026975],
    [-0.023126, 0.083587, 0.184498, -0.152564],
];
/// Of the first text, not scaled: the first two values of the first token's state, and of the largest over tokens.
const CLS: [f32; 2] = [-0.23803225, -0.88256496];
const MAX: [f32; 2] = [1.2333738, 1.7253909];

/// The vectors of `onnxruntime` in Python on unpadded input: the mean of `last_hidden_state`, scaled to length 1.
#[test]
fn vectors_are_those_of_the_python_runtime() {
    let found = embed(json!({"model": ENCODER}), &[SURE, SORRY]);
    for (vector, expected) in found.iter().zip(REFERENCE) {
        assert_eq!(vector.len(), 64);
        for (x, y) in vector.iter().zip(expected) {
            assert!((x - y).abs() < 1e-5, "{x} {y}");
        }
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-6);
        let length: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-6);
    }
    let first = embed(json!({"model": ENCODER, "pooling": "cls", "normalize": false}), &[SURE]);
    assert!(
        (first[0][0] - CLS[0]).abs() < 1e-4 && (first[0][1] - CLS[1]).abs() < 1e-4,
        "{:?}",
        &first[0][..2]
    );
    let most = embed(json!({"model": ENCODER, "pooling": "max", "normalize": false}), &[SURE]);
    assert!(
        (most[0][0] - MAX[0]).abs() < 1e-4 && (most[0][1] - MAX[1]).abs() < 1e-4,
        "{:?}",
        &most[0][..2]
    );
}

fn many() -> Vec<String> {
    (0..70usize)
        .map(|n| ["turn it off", "Sure,", "I can not", "steps"][n % 4].repeat(1 + n * 13 % 29) + &n.to_string())
        .collect()
}

/// What shares a batch, in whatever order and on however many threads, moves no bit.
#[test]
fn bits_do_not_depend_on_company() {
    for model in [ENCODER, "examples/models/pico-faker"] {
        let lines = many();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let with = json!({"model": model});
        let bits = |lines: &[&str], threads: usize, chunk: usize| {
            vectors(&run(with.clone(), &inputs(&texts(lines)), threads, chunk).unwrap().0)
        };
        let together = bits(&lines, 2, 70);
        assert!(together.iter().all(Option::is_some));
        assert_eq!(bits(&lines, 1, 1), together, "{model}: one at a time");
        assert_eq!(bits(&lines[17..18], 1, 1)[0], together[17], "{model}: alone");
        let reversed: Vec<&str> = lines.iter().rev().copied().collect();
        let mut backwards = bits(&reversed, 1, 23);
        backwards.reverse();
        assert_eq!(backwards, together, "{model}: another order");
    }
}

#[test]
fn an_empty_text_lies_nowhere() {
    let rows = [
        ("q", Some(SURE), None),
        ("q", Some("  \n"), None),
        ("q", None, None),
        ("q", Some(SORRY), Some("cut off")),
        ("q", Some(SURE), None),
    ];
    let (batch, _, requests) = run(json!({"model": ENCODER}), &inputs(&rows), 1, 9).unwrap();
    let found = vectors(&batch);
    let reasons = batch.column_by_name("invalid").unwrap().as_string::<i64>();
    let reasons: Vec<Option<&str>> = reasons.iter().collect();
    assert_eq!(
        reasons,
        [None, Some("empty text"), Some("empty text"), Some("cut off"), None]
    );
    assert!(found[0].is_some() && found[0] == found[4]);
    assert_eq!(found[1..4], [None, None, None]);
    assert_eq!(requests, 1, "one text is embedded once");
    let none = run(json!({"model": ENCODER}), &inputs(&rows[1..3]), 1, 9).unwrap();
    assert_eq!((none.0.num_rows(), none.2), (2, 0));
}

#[test]
fn announces_what_it_yields() {
    let stage = stage(json!({"model": ENCODER}));
    let schema = stage.schema(&Schemas::default(), &Disk).unwrap().main;
    let (batch, _, _) = run(json!({"model": ENCODER}), &inputs(&texts(&[SURE])), 1, 1).unwrap();
    let yielded: Vec<(String, Option<ColumnType>)> = batch
        .schema()
        .fields()
        .iter()
        .map(|field| (field.name().clone(), column_type(field.data_type())))
        .collect();
    let announced: Vec<(String, Option<ColumnType>)> = schema
        .fields
        .iter()
        .map(|field| (field.name.clone(), field.kind))
        .collect();
    assert_eq!(announced, yielded);
    assert_eq!(yielded[0].1, Some(ColumnType::Vector(64)));
    let roles: Vec<String> = stage
        .resolve(&Disk)
        .unwrap()
        .into_iter()
        .map(|file| file.role)
        .collect();
    assert!(
        roles.contains(&"model.onnx".to_owned()) && roles.contains(&"pooling".to_owned()),
        "{roles:?}"
    );
    assert_eq!(stage.constants()[0].1, json!("sentence"));
}

/// Answers that go along lie apart from answers that turn down, though the encoder was trained without labels: of texts written
/// by hand, the mean of the other texts of its kind is the nearer one.
#[test]
fn refusals_and_compliances_lie_apart() {
    #[derive(serde::Deserialize)]
    struct Probe {
        label: String,
        text: String,
    }
    let lines = std::fs::read_to_string(root().join("examples/train_judge/probes.jsonl")).unwrap();
    let probes: Vec<Probe> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts: Vec<&str> = probes.iter().map(|probe| probe.text.as_str()).collect();
    let found = embed(json!({"model": ENCODER}), &texts);
    let distance = |at: usize, label: &str| {
        let others = || (0..probes.len()).filter(|other| *other != at && probes[*other].label == label);
        let mean =
            |axis: usize| others().map(|other| f64::from(found[other][axis])).sum::<f64>() / others().count() as f64;
        (0..64)
            .map(|axis| (f64::from(found[at][axis]) - mean(axis)).powi(2))
            .sum::<f64>()
    };
    let right = (0..probes.len()).filter(|at| {
        let nearer = distance(*at, "comply") < distance(*at, "refuse");
        nearer == (probes[*at].label == "comply")
    });
    let share = right.count() as f64 / probes.len() as f64;
    assert!(share > 0.85, "{share}");
}

#[test]
fn a_pair_and_a_template_are_texts_too() {
    let rows = [("How do I stop the alarm?", Some(SURE), None)];
    let one = |text: Value| {
        let with = json!({"model": ENCODER, "text": text});
        vectors(&run(with, &inputs(&rows), 1, 1).unwrap().0).remove(0).unwrap()
    };
    let (plain, pair) = (one(json!("completion")), one(json!(["prompt", "completion"])));
    let template = one(json!("{{ prompt }} {{ completion }}"));
    assert!(plain != pair && pair != template && plain != template);
    let error = run(
        json!({"model": ENCODER, "text": "{{ completion + 1 }}"}),
        &inputs(&rows),
        1,
        1,
    )
    .unwrap_err();
    assert!(error.message.contains("template"), "{error}");
}

#[test]
fn long_texts_are_cut_and_counted() {
    let long = "one step after another ".repeat(100);
    let (batch, notes, _) = run(json!({"model": ENCODER}), &inputs(&texts(&[&long, SURE])), 1, 2).unwrap();
    assert!(vectors(&batch).iter().all(Option::is_some));
    assert!(notes[0].starts_with("1 of 2 texts were longer"), "{notes:?}");
    let error = run(
        json!({"model": ENCODER, "max_length": 4096}),
        &inputs(&texts(&[SURE])),
        1,
        1,
    )
    .unwrap_err();
    assert!(error.to_string().contains("128 positions"), "{error}");
}

#[test]
fn a_language_models_states_are_vectors() {
    let with = json!({"model": "examples/models/pico-honest"});
    let found = embed(with, &[SURE, SORRY, "Sure, here is what to do next."]);
    assert!(cosine(&found[0], &found[2]) > cosine(&found[0], &found[1]));
    let last = embed(
        json!({"model": "examples/models/pico-honest", "pooling": "last"}),
        &[SURE],
    );
    assert!(last[0] != found[0] && last[0].len() == found[0].len());
}

/// Whatever changes a raw vector is in the lineage, whatever does not is not.
#[test]
fn lineage_holds_what_makes_a_vector() {
    let lineage = |with: Value| {
        let stage = stage(with);
        let mut hasher = KeyHasher::new("lineage");
        rows_of(&*stage).lineage(&mut hasher);
        hasher.finish::<fracture_cache::digest::Recipe>()
    };
    let plain = lineage(json!({"model": ENCODER}));
    assert_eq!(
        lineage(json!({"model": ENCODER, "normalize": false, "text": "prompt"})),
        plain
    );
    assert_ne!(lineage(json!({"model": ENCODER, "pooling": "max"})), plain);
    assert_ne!(lineage(json!({"model": ENCODER, "max_length": 9})), plain);
}

#[test]
fn what_is_wrong_is_said() {
    let build = |with: Value, context: &Context| (declarations()[0].build)(&with, context).err().unwrap();
    let errors = build(json!({"model": "sentence", "text": "{{ a"}), &Context::default());
    assert_eq!(errors.len(), 2, "{errors:?}");
    let mut context = Context::default();
    let served = ModelSpec {
        name: "big".to_owned(),
        source: "openai://big".to_owned(),
        ..ModelSpec::default()
    };
    std::sync::Arc::make_mut(&mut context.models).insert("big".to_owned(), served);
    let errors = build(json!({"model": "big"}), &context);
    assert!(errors[0].message.contains("no hidden states"), "{errors:?}");
    let missing = stage(json!({"model": "examples/encoders/none"}))
        .resolve(&Disk)
        .unwrap_err();
    assert!(missing.message.contains("the encoder `none`"), "{missing}");
    // A classifier gives logits, no states.
    let error = run(
        json!({"model": "examples/judges/refusal"}),
        &inputs(&texts(&[SURE])),
        1,
        1,
    )
    .unwrap_err();
    assert!(error.message.contains("gives no states of tokens"), "{error}");
}
