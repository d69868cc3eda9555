#![allow(clippy::unwrap_used)]
use serde::Deserialize;

use super::*;
use crate::score::{Orientation, Reduce, Scoring};
use crate::testing::{CONFIG, Graph, INT32, folder, judge, load, oracle};

#[derive(Deserialize)]
struct Line {
    id: u64,
    text: String,
}

#[derive(Deserialize)]
struct Reference {
    id: u64,
    n_tokens_full: usize,
    logits: Vec<f32>,
    probs: Vec<f64>,
    score_sum: f64,
    /// Given for the first texts only.
    input_ids: Option<Vec<u32>>,
}

fn lines<T: for<'a> Deserialize<'a>>(path: &std::path::Path) -> Vec<T> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn one(text: &str) -> Text {
    Text::One(text.to_owned())
}

fn threads(threads: usize) -> Options {
    Options {
        threads,
        ..Options::default()
    }
}

#[test]
fn the_oracle_agrees() {
    let Some(path) = oracle("judge/distilbert_safe_unsafe") else {
        return;
    };
    let texts: Vec<Line> = lines(&path.join("../texts.jsonl"));
    let references: Vec<Reference> = lines(&path.join("reference.jsonl"));
    let mut classifier = load(&path, &threads(2)).unwrap();
    assert_eq!(classifier.max_length(), 256, "the tokenizer's own truncation");
    let inputs: Vec<Text> = texts.iter().map(|line| one(&line.text)).collect();
    let rows = judge(&mut classifier, &inputs, 300);
    let labels = classifier.config().labels.clone();
    let scoring = Scoring::new(
        labels,
        Activation::Softmax,
        &["unsafe".into()],
        Orientation::Bad,
        Reduce::Max,
    )
    .unwrap();
    let mut worst = 0f64;
    assert!(texts.len() == references.len() && texts.len() >= 1000);
    for ((line, reference), (row, input)) in texts.iter().zip(&references).zip(rows.iter().zip(&inputs)) {
        assert_eq!(line.id, reference.id);
        if let Some(ids) = &reference.input_ids {
            assert_eq!(
                &classifier.encoder.encode(input).unwrap().windows[0].ids,
                ids,
                "text {}",
                line.id
            );
        }
        let row = row.as_ref().unwrap();
        assert_eq!(
            (row.logits.len(), row.truncated),
            (1, reference.n_tokens_full > 256),
            "text {}",
            line.id
        );
        let scores = scoring.apply(row).unwrap();
        for (found, expected) in scores.labels.iter().zip(&reference.probs) {
            worst = worst.max((found - expected).abs());
        }
        worst = worst.max((scores.p_unsafe - reference.score_sum).abs());
        for (found, expected) in row.logits[0].iter().zip(&reference.logits) {
            assert!((found - expected).abs() < 1e-4, "text {}: {found} {expected}", line.id);
        }
    }
    assert!(worst < 1e-5, "{worst}");
}

/// The same text gets the same bits whatever shares its batch, in whatever order, on however many threads.
#[test]
fn a_rows_bits_do_not_depend_on_its_batch() {
    let Some(path) = oracle("judge/distilbert_safe_unsafe") else {
        return;
    };
    let texts: Vec<Line> = lines(&path.join("../texts.jsonl"));
    let inputs: Vec<Text> = texts.iter().take(160).map(|line| one(&line.text)).collect();
    let bits =
        |rows: Vec<Result<RawRow, String>>| rows.into_iter().map(|row| row.unwrap().encode()).collect::<Vec<_>>();
    let mut classifier = load(&path, &threads(2)).unwrap();
    let together = bits(judge(&mut classifier, &inputs, 160));
    let alone = bits(judge(&mut classifier, &inputs, 1));
    assert!(together == alone, "one at a time");
    for text in (0..inputs.len()).step_by(23) {
        assert_eq!(
            bits(judge(&mut classifier, &inputs[text..=text], 1))[0],
            together[text],
            "text {text} in a batch of dummies"
        );
    }
    let reversed: Vec<Text> = inputs.iter().rev().cloned().collect();
    let mut backwards = bits(judge(&mut load(&path, &threads(1)).unwrap(), &reversed, 37));
    backwards.reverse();
    assert!(together == backwards, "another order, another number of threads");
}

/// A graph that answers with the shape of its batch: that of a text depends on its own length alone.
#[test]
fn a_texts_shape_does_not_depend_on_its_batch() {
    let path = folder(
        &Graph {
            shape: true,
            ..Graph::default()
        },
        CONFIG,
    );
    let texts: Vec<Text> = (0..150).map(|n| one(&"good ".repeat(1 + n * 37 % 150))).collect();
    let mut classifier = load(path.path(), &threads(2)).unwrap();
    let together = judge(&mut classifier, &texts, 150);
    for (index, text) in texts.iter().enumerate() {
        let alone = judge(&mut classifier, std::slice::from_ref(text), 1);
        assert_eq!(alone[0], together[index], "text {index}");
    }
}

#[test]
fn windows_of_a_long_text_are_scored_each() {
    let Some(path) = oracle("judge/distilbert_safe_unsafe") else {
        return;
    };
    let text = one(&"how to visit a museum ".repeat(200));
    let options = Options {
        threads: 1,
        max_length: Some(64),
        stride: Some(16),
    };
    let mut classifier = load(&path, &options).unwrap();
    let encoded = classifier.encoder.encode(&text).unwrap();
    let rows = judge(&mut classifier, &[one("short"), text], 2);
    let long = rows[1].as_ref().unwrap();
    assert!(long.logits.len() > 10 && long.logits.len() == encoded.windows.len() && !long.truncated);
    assert_eq!(rows[0].as_ref().unwrap().logits.len(), 1);
}

#[test]
fn int32_ids_half_logits_masks_and_types_are_fed() {
    let plain = folder(&Graph::default(), CONFIG);
    let graph = Graph {
        inputs: vec!["attention_mask", "token_type_ids", "input_ids"],
        ids: INT32,
        half: true,
        ..Graph::default()
    };
    let other = folder(&graph, CONFIG);
    let texts = [one("good bad"), one("odd odd odd"), one("bad")];
    let rows = |path| judge(&mut load(path, &threads(2)).unwrap(), &texts, 3);
    let (plain, other) = (rows(plain.path()), rows(other.path()));
    // Two ids of eight: (1 + 2) / 8; the padding is row 0 of the table, zeros.
    assert_eq!(plain[0].as_ref().unwrap().logits, [[0.375, -0.1875]]);
    assert_eq!(plain, other, "all values are exact in f16");
}

#[test]
fn a_logit_that_is_no_number_fails_its_row_alone() {
    let mut graph = Graph::default();
    graph.table[3][1] = f32::NAN;
    graph.table[2][0] = f32::INFINITY;
    let path = folder(&graph, CONFIG);
    let rows = judge(
        &mut load(path.path(), &threads(1)).unwrap(),
        &[one("good"), one("good odd"), one(""), one("bad")],
        4,
    );
    assert!(rows[0].is_ok());
    let message = rows[1].as_ref().unwrap_err();
    assert!(
        message.contains("model.onnx") && message.contains("NaN for `unsafe`"),
        "{message}"
    );
    assert!(rows[2].as_ref().unwrap_err().contains("no token"));
    let message = rows[3].as_ref().unwrap_err();
    assert!(message.contains("inf for `safe`"), "{message}");
}

fn refusal(graph: &Graph) -> Error {
    load(folder(graph, CONFIG).path(), &threads(1)).err().unwrap()
}

#[test]
fn graphs_that_can_not_be_fed_are_refused_with_the_cause() {
    let unknown = Graph {
        inputs: vec!["input_ids", "pixel_values"],
        ..Graph::default()
    };
    let error = refusal(&unknown);
    assert!(
        error.message.contains("model.onnx wants the input `pixel_values`"),
        "{error}"
    );
    let error = refusal(&Graph {
        opset: 99,
        ..Graph::default()
    });
    assert!(error.to_string().contains("opset 99") && error.hint.unwrap().contains("older opset"));
    let error = refusal(&Graph {
        external: Some("gone.bin"),
        ..Graph::default()
    });
    assert!(error.message.contains("gone.bin"), "{error}");
}

#[test]
fn external_data_is_read() {
    let path = folder(
        &Graph {
            external: Some("table.bin"),
            ..Graph::default()
        },
        CONFIG,
    );
    let table: Vec<u8> = Graph::default()
        .table
        .iter()
        .flatten()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    std::fs::write(path.path().join("table.bin"), table).unwrap();
    let rows = judge(&mut load(path.path(), &threads(1)).unwrap(), &[one("good bad")], 1);
    assert_eq!(rows[0].as_ref().unwrap().logits, [[0.375, -0.1875]]);
}

#[test]
fn labels_that_do_not_fit_the_logits_end_it_at_the_first_row() {
    let path = folder(&Graph::default(), r#"{"id2label": {"0": "a", "1": "b", "2": "c"}}"#);
    let mut classifier = load(path.path(), &threads(1)).unwrap();
    for number in 0..3 {
        classifier.submit(Ticket(number), one("good"));
    }
    let (mut handed, mut error) = (0, None);
    while error.is_none() {
        error = classifier.step(false, &mut |_, _| handed += 1).err();
    }
    let error = error.unwrap();
    assert!(
        error.message.contains("2 logits and its config.json names 3 labels"),
        "{error}"
    );
    assert_eq!(handed, 0);
}

#[test]
fn more_texts_than_there_is_room_for_come_through() {
    let path = folder(&Graph::default(), CONFIG);
    let texts: Vec<Text> = (0..CAPACITY + 500).map(|n| one(&"good ".repeat(1 + n % 90))).collect();
    let rows = judge(&mut load(path.path(), &threads(2)).unwrap(), &texts, texts.len());
    assert!(rows.iter().all(Result::is_ok));
}

/// Texts that come in while batches run are tokenized beside them; none is lost, and no bit moves.
#[test]
fn texts_that_come_in_while_others_run_are_tokenized_beside_them() {
    let path = folder(&Graph::default(), CONFIG);
    let mut texts: Vec<Text> = (0..700).map(|n| one(&"good bad ".repeat(1 + n * 31 % 60))).collect();
    texts.insert(333, one(""));
    for threads in [threads(1), threads(2)] {
        let mut classifier = load(path.path(), &threads).unwrap();
        let together = judge(&mut classifier, &texts, texts.len());
        let in_turn = judge(&mut classifier, &texts, 50);
        assert_eq!(together, in_turn);
        assert_eq!(together.iter().filter(|row| row.is_err()).count(), 1);
    }
}
