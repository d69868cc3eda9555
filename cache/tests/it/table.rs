use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array, LargeListArray,
    LargeStringArray, RecordBatch, TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, UInt32Type};
use fracture_cache::{ColumnType, StoreError, arrow_type, column_type};

use super::new_store;

fn every_type() -> RecordBatch {
    let vector = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        [Some([Some(1.0), Some(2.0)]), None, Some([Some(3.0), Some(f32::NAN)])],
        2,
    );
    let tokens =
        LargeListArray::from_iter_primitive::<UInt32Type, _, _>([Some(vec![Some(1), Some(2)]), None, Some(vec![])]);
    let numbers =
        LargeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.5)]), None, Some(vec![None])]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "text",
            Arc::new(LargeStringArray::from(vec![Some("ä"), None, Some("")])),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        ("i64", Arc::new(Int64Array::from(vec![Some(-1), None, Some(i64::MAX)]))),
        ("u32", Arc::new(UInt32Array::from(vec![Some(1), None, Some(3)]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(1), None, Some(u64::MAX)]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(1.5), None, Some(-0.0)]))),
        (
            "f64",
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)])),
        ),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(3)]).with_timezone("+00:00")),
        ),
        ("tokens", Arc::new(tokens)),
        ("numbers", Arc::new(numbers)),
        ("vector", Arc::new(vector)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn a_table_of_every_type_comes_back() {
    let (_folder, store) = new_store();
    let batch = every_type();
    let table = store
        .put_table(&[batch.clone(), batch.slice(1, 2)], &batch.schema())
        .unwrap();
    assert_eq!(table.rows, 5);
    assert_eq!(table.columns[10].kind, ColumnType::Vector(2));
    assert!(
        table
            .columns
            .iter()
            .all(|column| column_type(&arrow_type(column.kind)) == Some(column.kind))
    );
    let read = store.read_table(&table, None).unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
    assert_eq!(read[0].schema().as_ref(), &table.schema());
    let again = store.put_table(&read, &read[0].schema()).unwrap();
    assert_eq!(
        again.columns, table.columns,
        "what is read has the digests of what was written"
    );
}

#[test]
fn columns_are_read_by_name_in_the_asked_order() {
    let (_folder, store) = new_store();
    let batch = every_type();
    let table = store.put_table(std::slice::from_ref(&batch), &batch.schema()).unwrap();
    let read = store.read_table(&table, Some(&["u64", "text", "u64"])).unwrap();
    assert_eq!(
        read[0].column(0).as_ref(),
        batch.column_by_name("u64").unwrap().as_ref()
    );
    assert_eq!(
        read[0].column(1).as_ref(),
        batch.column_by_name("text").unwrap().as_ref()
    );
    assert_eq!(read[0].num_columns(), 3);
    assert_eq!(store.read_table(&table, Some(&[])).unwrap()[0].num_rows(), 3);
    assert_eq!(
        store.read_column(&table, "i64").unwrap().as_ref(),
        batch.column_by_name("i64").unwrap().as_ref()
    );
    let error = store.read_table(&table, Some(&["txet"])).unwrap_err();
    assert!(
        matches!(&error, StoreError::Column { column, .. } if column == "txet"),
        "{error}"
    );
}

#[test]
fn long_batches_are_cut_and_empty_tables_keep_their_columns() {
    let (_folder, store) = new_store();
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(UInt32Array::from_iter_values(0..200_000)) as ArrayRef)]).unwrap();
    let table = store.put_table(std::slice::from_ref(&batch), &batch.schema()).unwrap();
    let reader = store.open_table(&table, None).unwrap();
    assert!(reader.map(|batch| batch.unwrap().num_rows()).all(|rows| rows <= 65_536));
    assert_eq!(
        store.read_column(&table, "n").unwrap().as_ref(),
        batch.column(0).as_ref()
    );
    let empty = store.put_table(&[], &batch.schema()).unwrap();
    assert_eq!((empty.rows, empty.columns.len()), (0, 1));
    assert_eq!(store.read_column(&empty, "n").unwrap().len(), 0);
    assert_ne!(empty.columns[0].content, table.columns[0].content);
}

#[test]
fn types_that_no_reader_survives_are_refused() {
    let (_folder, store) = new_store();
    let batch = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
    let error = store
        .put_table(std::slice::from_ref(&batch), &batch.schema())
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Column { column, .. } if column == "n"),
        "{error}"
    );
    let twice = Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
    ]);
    assert!(matches!(store.put_table(&[], &twice), Err(StoreError::Column { .. })));
    assert_eq!(fs::read_dir(store.root().join("staging")).unwrap().count(), 0);
}

#[test]
fn a_truncated_or_flipped_table_is_damaged_and_made_again() {
    let (_folder, store) = new_store();
    let batch = every_type();
    let put = || store.put_table(std::slice::from_ref(&batch), &batch.schema()).unwrap();
    let table = put();
    let path = store.blob_path(&table.blob);
    let bytes = fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    for damage in [&bytes[..bytes.len() - 1], &flipped, &[]] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, damage).unwrap();
        let error = store.read_table(&table, None).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(put(), table);
    }
}
