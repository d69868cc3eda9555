//! Boundaries, what has no embedding, and what the stage says that it yields.

use super::*;

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
