#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray};
use arrow::record_batch::RecordBatch;

use super::flags;
use crate::testing::view;

fn table(said: ArrayRef) -> fracture_stage::View {
    let items: LargeStringArray = (0..said.len()).map(|item| Some(format!("q{item}"))).collect();
    let columns = [
        ("item", Arc::new(items) as ArrayRef, true),
        ("unsafe_human", said, true),
    ];
    view(&RecordBatch::try_from_iter_with_nullable(columns).unwrap(), &[], &[])
}

#[test]
fn flags_are_booleans_0_and_1_and_their_words() {
    let expected = [Some(true), Some(false), None];
    let columns: [ArrayRef; 6] = [
        Arc::new(BooleanArray::from(expected.to_vec())),
        Arc::new(Int64Array::from(vec![Some(1), Some(0), None])),
        Arc::new(Float64Array::from(vec![Some(1.0), Some(-0.0), None])),
        Arc::new(LargeStringArray::from(vec![Some("1"), Some("0"), None])),
        Arc::new(LargeStringArray::from(vec![Some("true"), Some("false"), None])),
        Arc::new(LargeStringArray::from(vec![Some("True"), Some("FALSE"), None])),
    ];
    for column in columns {
        let kind = column.data_type().clone();
        let found = flags(&[&table(column)], "unsafe_human").unwrap().unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{kind}");
    }
    assert!(
        flags(&[&table(Arc::new(Int64Array::from(vec![1])))], "other")
            .unwrap()
            .is_none()
    );
}

#[test]
fn other_values_are_errors_that_name_value_and_place() {
    let columns: [(ArrayRef, &str); 6] = [
        (Arc::new(Int64Array::from(vec![1, 2])), "holds 2"),
        (Arc::new(Int64Array::from(vec![0, -1])), "holds -1"),
        (Arc::new(Float64Array::from(vec![1.0, 0.3])), "holds 0.3"),
        (Arc::new(Float64Array::from(vec![1.0, f64::NAN])), "holds NaN"),
        (Arc::new(LargeStringArray::from(vec!["true", "maybe"])), "holds `maybe`"),
        (Arc::new(LargeStringArray::from(vec!["1", "yes"])), "holds `yes`"),
    ];
    for (column, said) in columns {
        let error = flags(&[&table(column)], "unsafe_human").unwrap_err();
        for part in ["`unsafe_human`", said, "item q1", "row 2 of its table"] {
            assert!(error.message.contains(part), "{part}: {error}");
        }
        assert!(error.hint.unwrap().contains("map:"));
    }
}

#[test]
fn the_row_is_counted_within_its_table() {
    let (first, second) = (
        table(Arc::new(Int64Array::from(vec![1, 0]))),
        table(Arc::new(Int64Array::from(vec![1, 1, 7]))),
    );
    let error = flags(&[&first, &second], "unsafe_human").unwrap_err();
    assert!(error.message.contains("item q2, row 3 of table 2"), "{error}");
}
