#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod bounds;
mod corrections;
mod edges;
mod groups;
mod oracle;
mod order;
mod verdicts;

use arrow::record_batch::RecordBatch;
use fracture_stage::{Product, View};
use serde_json::Value;

use super::declaration;
use crate::testing::{Row, numbers, run, table, texts};

/// A pair of rows under `train` and `deploy`.
fn pair(item: impl ToString, train: f64, deploy: f64) -> Vec<Row> {
    vec![
        Row::new(item.to_string(), "train", train),
        Row::new(item.to_string(), "deploy", deploy),
    ]
}

/// Ten items: four flips, one reverse flip, three safe, two unsafe.
fn ten() -> Vec<Row> {
    let scores = [
        (0.1, 0.9),
        (0.2, 0.8),
        (0.3, 0.7),
        (0.4, 0.5),
        (0.9, 0.1),
        (0.1, 0.1),
        (0.2, 0.3),
        (0.0, 0.4),
        (0.6, 0.7),
        (0.5, 1.0),
    ];
    scores
        .iter()
        .enumerate()
        .flat_map(|(item, (train, deploy))| pair(item, *train, *deploy))
        .collect()
}

fn fracture(with: &Value, tables: &[View]) -> Product {
    run(&declaration(), with, tables).unwrap()
}

/// The values of a column in the one line of a contrast.
fn of(batch: &RecordBatch, contrast: &str, name: &str) -> Option<f64> {
    let lines: Vec<usize> = texts(batch, "contrast")
        .iter()
        .enumerate()
        .filter(|(_, name)| name.as_deref() == Some(contrast))
        .map(|(line, _)| line)
        .collect();
    assert_eq!(lines.len(), 1, "{contrast}");
    numbers(batch, name)[lines[0]]
}

fn error(with: &Value, rows: &[Row]) -> String {
    let error = run(&declaration(), with, &[table(rows)]).unwrap_err();
    format!("{error}\nhint: {}", error.hint.clone().unwrap_or_default())
}
