//! Tables through polars and back, from files, to files, to text.
#![allow(clippy::unwrap_used)]

mod sql;
mod stages;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, LargeListArray,
    LargeStringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Float32Type, UInt32Type};
use arrow::record_batch::RecordBatch;
use fracture_cache::{ColumnType, arrow_type};
use serde_json::json;

use crate::bridge::{from_polars, restore_vectors, to_polars};
use crate::normal::table;
use crate::read::FileFormat;
use crate::{Format, display, export, to_csv, to_json};

/// A table with every column type, nulls, NaN and texts that need quotes.
pub fn every_type() -> RecordBatch {
    let vectors = [
        Some(vec![Some(1.0), Some(-0.5)]),
        None,
        Some(vec![Some(0.25), Some(3.0)]),
    ];
    let times = TimestampMicrosecondArray::from(vec![Some(0), Some(1_700_000_000_123_456), None]).with_timezone("UTC");
    let columns: Vec<(&str, ColumnType, ArrayRef)> = vec![
        (
            "text",
            ColumnType::Text,
            Arc::new(LargeStringArray::from(vec![Some("a, \"b\"\nc"), None, Some("")])),
        ),
        (
            "flag",
            ColumnType::Bool,
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "i64",
            ColumnType::I64,
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)])),
        ),
        (
            "u32",
            ColumnType::U32,
            Arc::new(UInt32Array::from(vec![Some(u32::MAX), None, Some(0)])),
        ),
        (
            "u64",
            ColumnType::U64,
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)])),
        ),
        (
            "f32",
            ColumnType::F32,
            Arc::new(Float32Array::from(vec![Some(0.1), None, Some(f32::INFINITY)])),
        ),
        (
            "f64",
            ColumnType::F64,
            Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::NAN)])),
        ),
        ("time", ColumnType::Time, Arc::new(times)),
        (
            "ids",
            ColumnType::ListU32,
            Arc::new(LargeListArray::from_iter_primitive::<UInt32Type, _, _>(vec![
                Some(vec![Some(1), Some(2)]),
                None,
                Some(vec![]),
            ])),
        ),
        (
            "list",
            ColumnType::ListF32,
            Arc::new(LargeListArray::from_iter_primitive::<Float32Type, _, _>(vec![
                Some(vec![Some(1.5)]),
                None,
                Some(vec![]),
            ])),
        ),
        (
            "vector",
            ColumnType::Vector(2),
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2)),
        ),
    ];
    let typed = columns.into_iter().map(|(name, kind, column)| {
        (
            name.to_owned(),
            arrow::compute::cast(&column, &arrow_type(kind)).unwrap(),
        )
    });
    table(typed.collect(), 3).unwrap()
}

/// NaN is not NaN to `==`.
pub fn same(a: &RecordBatch, b: &RecordBatch) {
    assert_eq!(a.schema(), b.schema());
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

#[test]
fn every_type_survives_polars() {
    let before = every_type();
    let after = from_polars(to_polars(std::slice::from_ref(&before)).unwrap()).unwrap();
    same(&before, &restore_vectors(&after, &before.schema()));
}

#[test]
fn every_type_survives_parquet_and_arrow() {
    let folder = tempfile::tempdir().unwrap();
    let before = every_type();
    for (name, format) in [("t.parquet", FileFormat::Parquet), ("t.arrow", FileFormat::Arrow)] {
        let path = folder.path().join(name);
        export(std::slice::from_ref(&before), &path, Format::of(&path).unwrap()).unwrap();
        let after = format.read(&std::fs::read(&path).unwrap()).unwrap();
        same(&before, &restore_vectors(&after, &before.schema()));
    }
    // Nothing is left behind, and several batches are one table.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    let path = folder.path().join("two.parquet");
    export(&[before.slice(0, 1), before.slice(1, 2)], &path, Format::Parquet).unwrap();
    let after = FileFormat::Parquet.read(&std::fs::read(&path).unwrap()).unwrap();
    same(&before, &restore_vectors(&after, &before.schema()));
}

#[test]
fn a_failed_export_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    std::fs::write(&path, "before").unwrap();
    assert!(export(&[], &path, Format::Parquet).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(Format::of(std::path::Path::new("t.xlsx")).is_err());
}

#[test]
fn json_is_what_programs_expect() {
    let rows = to_json(&[every_type()]);
    assert_eq!(
        rows[0],
        json!({
            "text": "a, \"b\"\nc", "flag": true, "i64": i64::MIN, "u32": u32::MAX, "u64": u64::MAX, "f32": 0.1, "f64": 0.1,
            "time": "1970-01-01T00:00:00.000000Z", "ids": [1, 2], "list": [1.5], "vector": [1.0, -0.5],
        })
    );
    let filled = rows[1]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, cell)| !cell.is_null())
        .map(|(name, _)| name);
    assert_eq!(filled.collect::<Vec<_>>(), ["time"]);
    assert!(
        rows[2]["f64"].is_null() && rows[2]["f32"].is_null() && rows[2]["text"] == "" && rows[2]["ids"] == json!([])
    );
    let names: Vec<_> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names[..4], ["text", "flag", "i64", "u32"]);
}

#[test]
fn csv_is_the_same_bytes_and_reads_back() {
    let before = every_type();
    let csv = String::from_utf8(to_csv(&[before]).unwrap()).unwrap();
    insta::assert_snapshot!(csv, @r#"
    text,flag,i64,u32,u64,f32,f64,time,ids,list,vector
    "a, ""b""
    c",true,-9223372036854775808,4294967295,18446744073709551615,0.1,0.1,1970-01-01T00:00:00.000000Z,"[1,2]",[1.5],"[1.0,-0.5]"
    ,,,,,,,2023-11-14T22:13:20.123456Z,,,
    ,false,7,0,0,inf,NaN,,[],[],"[0.25,3.0]"
    "#);
    let after = FileFormat::Csv.read(csv.as_bytes()).unwrap();
    assert_eq!(after.num_rows(), 3);
    let kinds =
        ["flag", "i64", "u64", "f64", "text"].map(|name| after.column_by_name(name).unwrap().data_type().clone());
    use arrow::datatypes::DataType::{Boolean, Float64, Int64, LargeUtf8};
    // A number beyond 64 bits with a sign stays text and loses no digit.
    assert_eq!(kinds, [Boolean, Int64, LargeUtf8, Float64, LargeUtf8]);
    let rows = to_json(&[after]);
    assert_eq!(rows[0]["text"], "a, \"b\"\nc");
    assert_eq!(rows[0]["u64"], "18446744073709551615");
}

#[test]
fn names_that_look_like_numbers_stay_names() {
    let read = FileFormat::Csv
        .read(b"id,share,version\n007,0.5,1\n12,1e-3,1.\n,NaN,x\n")
        .unwrap();
    let rows = to_json(&[read]);
    assert_eq!(rows[0], json!({"id": "007", "share": 0.5, "version": "1"}));
    assert_eq!(rows[1], json!({"id": "12", "share": 0.001, "version": "1."}));
    assert_eq!(rows[2], json!({"id": null, "share": null, "version": "x"}));
}

#[test]
fn a_terminal_table_is_aligned_and_harmless() {
    let columns: Vec<(String, ArrayRef)> = vec![
        (
            "model".into(),
            Arc::new(LargeStringArray::from(vec![
                "pico-faker",
                "pico-\u{1b}[31mhonest\u{202e}",
                "größer",
            ])),
        ),
        ("n".into(), Arc::new(UInt32Array::from(vec![60, 5, 1200]))),
        (
            "net".into(),
            Arc::new(Float64Array::from(vec![Some(0.41234567), None, Some(f64::NAN)])),
        ),
        ("T".into(), Arc::new(Float64Array::from(vec![0.0, 0.8, 1.0]))),
        ("p".into(), Arc::new(Float64Array::from(vec![3e-7, 0.05, 1.0]))),
        (
            "ok".into(),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
    ];
    let batch = table(columns, 3).unwrap();
    insta::assert_snapshot!(display(std::slice::from_ref(&batch), 10, 0), @r"
    model               n     net    T       p  ok
    ───────────────  ────  ──────  ───  ──────  ─────
    pico-faker         60  0.4123  0.0  3.0e-7  true
    pico-[31mhonest     5       –  0.8  0.0500  –
    größer           1200     NaN  1.0  1.0000  false
    ");
    insta::assert_snapshot!(display(&[batch.slice(0, 1), batch.slice(1, 2)], 2, 0), @r"
    model             n     net    T       p  ok
    ───────────────  ──  ──────  ───  ──────  ────
    pico-faker       60  0.4123  0.0  3.0e-7  true
    pico-[31mhonest   5       –  0.8  0.0500  –
    … and 1 more row
    ");
    insta::assert_snapshot!(display(&[batch], 10, 34), @r"
    model            n     net    T
    ────────────  ────  ──────  ───
    pico-faker      60  0.4123  0.0
    pico-[31mho…     5       –  0.8
    größer        1200     NaN  1.0

    model              p  ok
    ────────────  ──────  ─────
    pico-faker    3.0e-7  true
    pico-[31mho…  0.0500  –
    größer        1.0000  false
    ");
    assert_eq!(display(&[], 10, 80), "");
}
