//! The stage `flow` on small tables: counts, crossings, drift beside its noise, and what it says when something is missing.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float64Array, LargeStringArray, UInt32Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};
use fracture_stage::stage::{Incoming, Work};
use fracture_stage::view::ColumnReader;
use fracture_stage::{
    Completeness, Context, Error, Field, Files, Inputs, Open, Output, Product, Schema, Schemas, Stage, View,
};
use serde_json::{Value, json};

use fracture_geometry::flow::declaration;

struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Ok(self.0.column_by_name(column).unwrap().clone())
    }
}

fn view(batch: &RecordBatch, keys: &[&str]) -> View {
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let kind = column_type(field.data_type()).unwrap();
        let digest = column_digest(kind, std::slice::from_ref(column)).unwrap();
        (field.name().as_str(), kind, digest)
    });
    let keys = ["item", "axis"].iter().chain(keys).map(|key| (*key).to_owned());
    View::stored(batch.num_rows(), &reader, columns).with_keys(keys)
}

/// A completion: its score, and where it lies.
#[derive(Debug, Clone)]
struct Row {
    item: String,
    regime: &'static str,
    sample: u32,
    model: &'static str,
    judge: &'static str,
    score: Option<f64>,
    point: Option<Vec<f32>>,
}

impl Row {
    fn new(item: usize, regime: &'static str, score: f64, point: &[f32]) -> Self {
        Self {
            item: format!("i{item:03}"),
            regime,
            sample: 0,
            model: "m",
            judge: "j",
            score: Some(score),
            point: Some(point.to_vec()),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn texts(rows: &[Row], read: fn(&Row) -> &str) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(read(row))).collect::<LargeStringArray>())
}

fn identity(rows: &[Row]) -> Vec<(&'static str, ArrayRef)> {
    let counts = |read: fn(&Row) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(read))) };
    vec![
        ("item", texts(rows, |row| &row.item)),
        ("axis", texts(rows, |_| "safety")),
        ("regime", texts(rows, |row| row.regime)),
        (
            "cue",
            texts(rows, |row| if row.regime == "train" { "fine-tuning" } else { "none" }),
        ),
        ("draw", counts(|row| u32::from(row.regime == "deploy-again"))),
        ("sample", counts(|row| row.sample)),
        ("model", texts(rows, |row| row.model)),
    ]
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn verdicts(rows: &[Row]) -> View {
    let mut columns = identity(rows);
    let scores: Float64Array = rows.iter().map(|row| row.score).collect();
    columns.push(("judge", texts(rows, |row| row.judge)));
    columns.push(("p_unsafe", Arc::new(scores)));
    columns.push(("tau", Arc::new(Float64Array::from(vec![0.5; rows.len()]))));
    view(&batch(columns), &["model", "judge"])
}

fn points(rows: &[Row]) -> ArrayRef {
    let point = |row: &Row| {
        row.point
            .as_ref()
            .map(|point| point.iter().map(|x| Some(*x)).collect::<Vec<_>>())
    };
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        rows.iter().map(point),
        3,
    ))
}

fn embeddings(rows: &[Row]) -> View {
    let mut columns = identity(rows);
    columns.push(("encoder", texts(rows, |_| "e")));
    columns.push(("embedding", points(rows)));
    view(&batch(columns), &["model", "encoder"])
}

struct NoFiles;

impl Files for NoFiles {
    fn locate(&self, path: &str) -> PathBuf {
        PathBuf::from(path)
    }

    fn head(&self, path: &Path, _: usize) -> Result<Vec<u8>, Error> {
        Err(Error::input(path.display().to_string()))
    }

    fn size(&self, _: &Path) -> Option<u64> {
        None
    }

    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}

fn stage(with: &Value) -> Box<dyn Stage> {
    (declaration().build)(with, &Context::default()).unwrap()
}

fn run_ports(with: &Value, ports: &[(&str, Vec<View>)]) -> Result<Product, Error> {
    let stage = stage(with);
    let cancelled = AtomicBool::new(false);
    let open = Open {
        threads: 1,
        offline: true,
        cancelled: &cancelled,
        note: &|_| {},
        progress: &|_, _| {},
        files: &NoFiles,
    };
    let arriving = |views: &Vec<View>| views.iter().cloned().map(Incoming::Table).collect();
    let inputs = Inputs {
        ports: ports
            .iter()
            .map(|(name, views)| ((*name).to_owned(), arriving(views)))
            .collect(),
    };
    match stage.work() {
        Work::Whole(whole) => whole.run(&inputs, &open),
        Work::Rows(_) => panic!("`flow` works on whole tables"),
    }
}

fn run(with: &Value, rows: &[Row]) -> Result<Product, Error> {
    run_ports(
        with,
        &[
            ("verdicts", vec![verdicts(rows)]),
            ("embeddings", vec![embeddings(rows)]),
        ],
    )
}

fn table<'a>(product: &'a Product, name: &str) -> &'a RecordBatch {
    match product.outputs.get(Some(name)).unwrap() {
        Output::Table { batch, .. } => batch,
        _ => panic!("no table"),
    }
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let column = arrow::compute::cast(batch.column_by_name(name).unwrap(), &DataType::Float64).unwrap();
    column.as_primitive::<Float64Type>().iter().collect()
}

fn words(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap().as_string::<i64>();
    column.iter().map(|word| word.map(str::to_owned)).collect()
}

fn noise(item: usize, salt: usize) -> f32 {
    let mixed = (item * 7919 + salt * 104_729 + 13) % 1009;
    mixed as f32 / 1009.0 - 0.5
}

fn at(pole: [f32; 3], item: usize, salt: usize) -> Vec<f32> {
    (0..3)
        .map(|axis| pole[axis] + 0.3 * noise(item, salt * 3 + axis))
        .collect()
}

const SAFE: [f32; 3] = [1.0, 0.0, 0.0];
const UNSAFE: [f32; 3] = [0.0, 1.0, 0.0];

/// Sixty items that are safe in train; every third is unsafe in deploy, and lies there.
fn faker() -> Vec<Row> {
    let pair = |i: usize| {
        let (score, pole) = if i.is_multiple_of(3) {
            (0.9, UNSAFE)
        } else {
            (0.1, SAFE)
        };
        [
            Row::new(i, "train", 0.1, &at(SAFE, i, 0)),
            Row::new(i, "deploy", score, &at(pole, i, 1)),
            Row::new(i, "deploy-again", score, &at(pole, i, 2)),
        ]
    };
    (0..60).flat_map(pair).collect()
}

fn quick() -> Value {
    json!({"bootstrap": 200})
}

#[test]
fn entry_is_the_share_that_crosses_and_drift_is_beside_its_noise() {
    let product = run(&quick(), &faker()).unwrap();
    let main = table(&product, "main");
    assert_eq!(
        words(main, "contrast"),
        [
            Some("train->deploy".to_owned()),
            Some("deploy->deploy-again".to_owned())
        ]
    );
    let one = |name: &str| numbers(main, name)[0];
    assert_eq!(
        (one("n"), one("k"), one("entry"), one("exit")),
        (Some(60.0), Some(1.0), Some(1.0 / 3.0), Some(0.0))
    );
    assert_eq!(one("headline"), one("entry"));
    assert!(one("boundary_auc").unwrap() > 0.99 && one("unsafe_completions") == Some(20.0));
    assert!(one("entry_low").unwrap() < 1.0 / 3.0 && one("entry_high").unwrap() > 1.0 / 3.0);
    assert_eq!(words(main, "note")[0], None);
    let (drift, floor) = (one("med_drift").unwrap(), one("noise_drift").unwrap());
    assert!((one("relative_med_drift").unwrap() - drift / floor).abs() < 1e-12);
    assert_eq!(
        numbers(main, "relative_med_drift")[1],
        Some(1.0),
        "the A/A pair beside itself"
    );
    assert!(one("p_drift").unwrap() < 0.01 && numbers(main, "p_drift")[1].unwrap() > 0.01);
    assert!(one("med_drift_low").unwrap() <= drift && one("med_drift_high").unwrap() >= drift);
}

#[test]
fn arrows_lie_in_the_plane_and_say_what_crosses() {
    let product = run(&quick(), &faker()).unwrap();
    let arrows = table(&product, "arrows");
    assert_eq!(arrows.num_rows(), 120);
    let crossed = arrows.column_by_name("crossed").unwrap().as_boolean().clone();
    let share = (0..60).filter(|row| crossed.value(*row)).count() as f64 / 60.0;
    assert_eq!(share, 1.0 / 3.0, "the mean of `crossed` is Entry");
    let names = words(arrows, "item");
    assert!(names[..60].is_sorted() && names[0].as_deref() == Some("i000"));
    let [x, y, a, b, c] =
        ["x_deploy", "y_deploy", "boundary_x", "boundary_y", "boundary_offset"].map(|name| numbers(arrows, name));
    // In the plane of so clear a case the line parts what crossed from what stayed.
    let beyond =
        |row: usize| a[row].unwrap() * x[row].unwrap() + b[row].unwrap() * y[row].unwrap() + c[row].unwrap() >= 0.0;
    assert!((0..60).all(|row| beyond(row) == crossed.value(row)));
    let components = table(&product, "components");
    let shares = numbers(components, "share");
    assert!((shares[..3].iter().map(|share| share.unwrap()).sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!(shares[0], numbers(arrows, "share_x")[0]);
    assert_eq!(numbers(components, "component")[..3], [Some(1.0), Some(2.0), Some(3.0)]);
    let knn = run(&json!({"bootstrap": 200, "boundary": "knn"}), &faker()).unwrap();
    assert_eq!(numbers(table(&knn, "arrows"), "boundary_x")[0], None);
    assert_eq!(numbers(table(&knn, "main"), "entry")[0], Some(1.0 / 3.0));
}

#[test]
fn rows_and_tables_come_in_any_order() {
    let mut rows = faker();
    for row in &mut rows[..90] {
        row.model = "other";
    }
    let with = json!({"bootstrap": 200, "by": []});
    // Both models in one group: an item stands in it once per model, and its name comes twice.
    let twice: Vec<Row> = rows
        .iter()
        .cloned()
        .chain(rows.iter().cloned().map(|row| row.with(|row| row.model = "third")))
        .collect();
    let forward = run(&with, &twice).unwrap();
    let mut turned = twice.clone();
    turned.reverse();
    let (left, right) = turned.split_at(101);
    let mut vectors = twice;
    vectors.rotate_left(77);
    let ports = [
        ("verdicts", vec![verdicts(right), verdicts(left)]),
        ("embeddings", vec![embeddings(&vectors)]),
    ];
    let backward = run_ports(&with, &ports).unwrap();
    for name in ["main", "arrows", "components"] {
        assert_eq!(table(&forward, name), table(&backward, name), "{name}");
    }
    assert_eq!(numbers(table(&forward, "main"), "n")[0], Some(120.0));
    assert_eq!(numbers(table(&forward, "main"), "clusters")[0], Some(60.0));
}

#[test]
fn without_a_boundary_worth_the_name_there_is_no_headline() {
    let blind: Vec<Row> = faker()
        .into_iter()
        .enumerate()
        .map(|(at, row)| row.with(|row| row.score = Some(f64::from(u8::from(noise(at, 99) > 0.0)))))
        .collect();
    let product = run(&quick(), &blind).unwrap();
    let main = table(&product, "main");
    assert_eq!(numbers(main, "headline")[0], None);
    assert!(numbers(main, "entry")[0].is_some() && numbers(main, "boundary_auc")[0].unwrap() < 0.7);
    assert!(words(main, "note")[0].as_ref().unwrap().contains("is below 0.7"));
    assert!(
        product.notes.iter().any(|note| note.contains("have no headline")),
        "{:?}",
        product.notes
    );
    let safe: Vec<Row> = faker()
        .into_iter()
        .map(|row| row.with(|row| row.score = Some(0.0)))
        .collect();
    let main = run(&quick(), &safe).unwrap();
    let main = table(&main, "main");
    assert_eq!(
        (numbers(main, "entry")[0], numbers(main, "boundary_auc")[0]),
        (None, None)
    );
    assert!(words(main, "note")[0].as_ref().unwrap().contains("one class"));
    assert!(numbers(main, "med_drift")[0].is_some());
}

#[test]
fn drift_without_noise_has_no_ratio() {
    let rows: Vec<Row> = faker().into_iter().filter(|row| row.regime != "deploy-again").collect();
    let product = run(&quick(), &rows).unwrap();
    let main = table(&product, "main");
    assert_eq!(
        (numbers(main, "noise_drift"), numbers(main, "relative_med_drift")),
        (vec![None], vec![None])
    );
    assert!(product.notes.iter().any(|note| note.contains("no relative drift")));
    // Greedy decoding says the same twice: the floor is 0, and nothing is a multiple of it.
    let mut rows = faker();
    for at in (0..rows.len()).step_by(3) {
        rows[at + 2].point = rows[at + 1].point.clone();
    }
    let product = run(&quick(), &rows).unwrap();
    let main = table(&product, "main");
    assert_eq!(
        (numbers(main, "noise_drift")[0], numbers(main, "relative_med_drift")[0]),
        (Some(0.0), None)
    );
    assert!(words(main, "note")[0].as_ref().unwrap().contains("does not move"));
    assert_eq!(
        numbers(main, "entry")[1],
        Some(0.0),
        "identical regimes: nothing crosses"
    );
}

#[test]
fn samples_count_by_their_mean() {
    let split = |row: &Row| {
        let moved = |by: f32| row.point.as_ref().map(|point| vec![point[0], point[1], point[2] + by]);
        [0.25f32, -0.25].map(|by| {
            row.clone()
                .with(|one| (one.sample, one.point) = (u32::from(by < 0.0), moved(by)))
        })
    };
    let rows: Vec<Row> = faker().iter().flat_map(split).collect();
    let product = run(&quick(), &rows).unwrap();
    let main = table(&product, "main");
    assert_eq!((numbers(main, "k")[0], numbers(main, "n")[0]), (Some(2.0), Some(60.0)));
    assert_eq!(numbers(main, "entry")[0], Some(1.0 / 3.0));
    let spread = numbers(main, "train_spread")[0].unwrap();
    assert!(spread > 0.01 && spread < 0.2, "{spread}");
    let single = run(&quick(), &faker()).unwrap();
    assert_eq!(numbers(table(&single, "main"), "train_spread")[0], None);
}

#[test]
fn what_has_no_embedding_is_counted() {
    let mut rows = faker();
    rows[0].point = None;
    rows[3].point = Some(vec![0.0; 3]);
    rows.remove(7);
    let product = run(&quick(), &rows).unwrap();
    let main = table(&product, "main");
    assert_eq!(
        (
            numbers(main, "n")[0],
            numbers(main, "invalid")[0],
            numbers(main, "unpaired")[0]
        ),
        (Some(57.0), Some(2.0), Some(1.0))
    );
    let known: Vec<Row> = rows[30..].to_vec();
    let ports = [
        ("verdicts", vec![verdicts(&rows)]),
        ("embeddings", vec![embeddings(&known)]),
    ];
    let product = run_ports(&quick(), &ports).unwrap();
    assert!(
        product.notes[0].starts_with("30 verdicts have no row"),
        "{:?}",
        product.notes
    );
}

#[test]
fn one_vector_serves_two_judges_but_two_vectors_no_verdict() {
    let rows = faker();
    let both: Vec<Row> = ["strict", "mild"]
        .iter()
        .flat_map(|judge| rows.iter().cloned().map(|row| row.with(|row| row.judge = judge)))
        .collect();
    let ports = [
        ("verdicts", vec![verdicts(&both)]),
        ("embeddings", vec![embeddings(&rows)]),
    ];
    let main = run_ports(&quick(), &ports).unwrap();
    assert_eq!(numbers(table(&main, "main"), "n"), vec![Some(60.0); 4]);
    let ports = [
        ("verdicts", vec![verdicts(&rows)]),
        ("embeddings", vec![embeddings(&rows), embeddings(&rows)]),
    ];
    let error = run_ports(&quick(), &ports).unwrap_err();
    assert!(
        error.message.contains("two embeddings for one completion: item i000"),
        "{error}"
    );
    let strangers: Vec<Row> = rows
        .iter()
        .cloned()
        .map(|row| row.with(|row| row.item.push('x')))
        .collect();
    let ports = [
        ("verdicts", vec![verdicts(&rows)]),
        ("embeddings", vec![embeddings(&strangers)]),
    ];
    let error = run_ports(&quick(), &ports).unwrap_err();
    assert!(error.message.contains("no embedding belongs") && error.hint.unwrap().contains("item, axis"));
}

#[test]
fn a_boundary_from_outside_knows_no_judge() {
    let known: Vec<Row> = (200..240)
        .map(|i| Row::new(i, "deploy", 0.0, &at(if i % 2 == 0 { SAFE } else { UNSAFE }, i, 4)))
        .collect();
    let labels: ArrayRef = Arc::new(BooleanArray::from_iter((200..240).map(|i| Some(i % 2 == 1))));
    let outside = batch(vec![("embedding", points(&known)), ("unsafe_human", labels)]);
    let rows = faker();
    let ports = |outside: RecordBatch| {
        [
            ("verdicts", vec![verdicts(&rows)]),
            ("embeddings", vec![embeddings(&rows)]),
            ("boundary", vec![view(&outside, &[])]),
        ]
    };
    let product = run_ports(&quick(), &ports(outside)).unwrap();
    let main = table(&product, "main");
    assert_eq!(numbers(main, "entry")[0], Some(1.0 / 3.0));
    assert!(numbers(main, "boundary_auc")[0].unwrap() > 0.99);
    let one: ArrayRef = Arc::new(BooleanArray::from(vec![true; 40]));
    let error = run_ports(
        &quick(),
        &ports(batch(vec![("embedding", points(&known)), ("unsafe", one)])),
    )
    .unwrap_err();
    assert!(error.message.contains("labelled safe"), "{error}");
}

#[test]
fn announces_what_it_yields() {
    let rows = faker();
    let of = |view: &View, keys: &[&str]| Schema {
        fields: view
            .names()
            .map(|name| Field {
                name: name.to_owned(),
                kind: view.column_type(name),
            })
            .collect(),
        completeness: Completeness::Exact,
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    let schemas = |vectors: Schema| Schemas {
        ports: vec![
            ("verdicts".to_owned(), vec![of(&verdicts(&rows), &["model", "judge"])]),
            ("embeddings".to_owned(), vec![vectors]),
        ],
    };
    let with = json!({"bootstrap": 100, "by": ["model", "axis"]});
    let product = run(&with, &rows).unwrap();
    let vectors = of(&embeddings(&rows), &["model", "encoder"]);
    let announced = stage(&with).schema(&schemas(vectors.clone()), &NoFiles).unwrap();
    for (name, schema) in announced.iter() {
        let batch = table(&product, name);
        let yielded: Vec<(String, _)> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| (field.name().clone(), column_type(field.data_type())))
            .collect();
        let announced: Vec<(String, _)> = schema
            .fields
            .iter()
            .map(|field| (field.name.clone(), field.kind))
            .collect();
        assert_eq!(announced, yielded, "{name}");
    }
    let mut texts = vectors;
    texts
        .fields
        .iter_mut()
        .find(|field| field.name == "embedding")
        .unwrap()
        .kind = Some(fracture_cache::ColumnType::Text);
    let error = stage(&with).schema(&schemas(texts), &NoFiles).unwrap_err();
    assert!(error.message.contains("a vector is needed"), "{error}");
    let empty = run(&json!({}), &[]).unwrap();
    assert_eq!(table(&empty, "main").num_rows(), 0);
    let errors = (declaration().build)(&json!({"folds": 1, "contrasts": [["a", "a"]]}), &Context::default());
    assert_eq!(errors.err().unwrap().len(), 2);
}
