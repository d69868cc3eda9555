#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, LargeStringArray};
use arrow::datatypes::Float64Type;
use arrow::record_batch::RecordBatch;
use fracture_cache::{column_digest, column_type};

use super::{columns, four_numbers};
use crate::error::Error;
use crate::view::{ColumnReader, View};

struct Memory(RecordBatch);

impl ColumnReader for Memory {
    fn read(&self, column: &str) -> Result<ArrayRef, Error> {
        Ok(self.0.column_by_name(column).unwrap().clone())
    }
}

fn view(columns: Vec<(&str, ArrayRef)>) -> View {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let reader: Arc<dyn ColumnReader> = Arc::new(Memory(batch.clone()));
    let schema = batch.schema();
    let stored = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let kind = column_type(field.data_type()).unwrap();
        let digest = column_digest(kind, std::slice::from_ref(column)).unwrap();
        (field.name().as_str(), kind, digest)
    });
    View::stored(batch.num_rows(), &reader, stored)
}

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(LargeStringArray::from(values.to_vec()))
}

fn numbers(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn flips() -> View {
    view(vec![
        ("axis", text(&["safety", "safety", "safety"])),
        ("decoder", text(&["greedy", "sampling", "sampling"])),
        ("model", text(&["7B", "70B", "7B"])),
        ("contrast", text(&["train->deploy"; 3])),
        ("n", numbers(&[Some(40.0), Some(0.0), Some(40.0)])),
        ("fracture", numbers(&[Some(0.1), None, Some(0.3)])),
        ("fracture_low", numbers(&[Some(0.05), None, Some(0.2)])),
        ("fracture_high", numbers(&[Some(0.2), None, Some(0.4)])),
    ])
}

fn frontier() -> View {
    view(vec![
        ("axis", text(&["safety", "harm"])),
        ("model", text(&["7B", "7B"])),
        ("contrast", text(&["train->deploy"; 2])),
        ("median_lift", numbers(&[Some(0.25), Some(0.5)])),
    ])
}

fn flow() -> View {
    view(vec![
        ("axis", text(&["safety", "safety"])),
        ("decoder", text(&["greedy", "sampling"])),
        ("model", text(&["7B", "7B"])),
        ("contrast", text(&["train->deploy"; 2])),
        ("entry", numbers(&[Some(0.15), None])),
        ("boundary_auc", numbers(&[Some(0.9), Some(0.61)])),
    ])
}

fn caps() -> View {
    view(vec![
        ("axis", text(&["safety"; 4])),
        ("model", text(&["7B", "7B", "7B", "70B"])),
        ("contrast", text(&["train->deploy"; 4])),
        ("temperature", numbers(&[Some(0.4), Some(0.8), Some(0.8), None])),
        ("before", numbers(&[Some(0.3), Some(0.3), Some(0.28), Some(0.5)])),
        ("after", numbers(&[Some(0.1), Some(0.12), Some(0.09), None])),
        ("half", text(&["reporting", "reporting", "choosing", "reporting"])),
        ("chosen", Arc::new(BooleanArray::from(vec![false, true, true, true]))),
        (
            "reason",
            Arc::new(LargeStringArray::from(vec![
                None,
                None,
                None,
                Some("no cap meets the budget"),
            ])),
        ),
    ])
}

fn of(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Float64Type>()
        .iter()
        .collect()
}

fn said(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap().as_string::<i64>();
    column.iter().map(|text| text.unwrap_or("-").to_owned()).collect()
}

#[test]
fn cells_are_joined_and_what_lacks_says_why() {
    let (flips, frontier, flow, caps) = (flips(), frontier(), flow(), caps());
    let tables = [
        ("caps", vec![&caps]),
        ("flow", vec![&flow]),
        ("fracture", vec![&flips]),
        ("frontier", vec![&frontier]),
    ];
    let joined = four_numbers(&tables).unwrap();
    let schema = joined.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[..4], ["axis", "model", "decoder", "contrast"]);
    assert_eq!(names[4..], columns());
    // 7B before 70B; the frontier's `harm` has no partner.
    assert_eq!(said(&joined, "axis"), ["harm", "safety", "safety", "safety"]);
    assert_eq!(said(&joined, "model"), ["7B", "7B", "7B", "70B"]);
    assert_eq!(said(&joined, "decoder"), ["-", "greedy", "sampling", "sampling"]);
    assert_eq!(of(&joined, "fracture"), [None, Some(0.1), Some(0.3), None]);
    assert_eq!(of(&joined, "fracture_high"), [None, Some(0.2), Some(0.4), None]);
    assert_eq!(
        of(&joined, "srf_median_lift"),
        [Some(0.5), Some(0.25), Some(0.25), None]
    );
    assert_eq!(of(&joined, "manifold_entry"), [None, Some(0.15), None, None]);
    assert_eq!(of(&joined, "before_caps"), [None, Some(0.3), Some(0.3), Some(0.5)]);
    assert_eq!(of(&joined, "after_caps"), [None, Some(0.12), Some(0.12), None]);
    assert_eq!(of(&joined, "cap_temperature"), [None, Some(0.8), Some(0.8), None]);
    let reasons = said(&joined, "reason");
    assert_eq!(reasons[1], "srf_median_lift: over all of `decoder`");
    assert!(
        reasons[2].contains("manifold_entry: the boundary's held-out AUC is 0.61, below 0.7"),
        "{}",
        reasons[2]
    );
    assert!(
        reasons[3].contains("fracture: no item has a valid score under both regimes"),
        "{}",
        reasons[3]
    );
    assert!(
        reasons[3].contains("after_caps: no cap meets the budget"),
        "{}",
        reasons[3]
    );
    assert!(
        reasons[0].contains("fracture: `fracture` has no such row"),
        "{}",
        reasons[0]
    );
}

#[test]
fn a_port_may_be_missing_and_tables_may_come_in_parts() {
    let flips = flips();
    let alone = four_numbers(&[("fracture", vec![&flips])]).unwrap();
    assert_eq!(of(&alone, "fracture"), [Some(0.1), Some(0.3), None]);
    assert!(said(&alone, "reason")[0].contains("srf_median_lift: no table `frontier`"));
    assert_eq!(four_numbers(&[]).unwrap().num_rows(), 0);
    let unknown = four_numbers(&[("flips", vec![&flips])]).unwrap_err();
    assert!(unknown.hint.unwrap().contains("fracture, frontier, flow, caps"));
    let wrong = view(vec![("axis", text(&["safety"]))]);
    assert!(
        four_numbers(&[("caps", vec![&wrong])])
            .unwrap_err()
            .hint
            .unwrap()
            .contains("STAGE.caps")
    );
}
