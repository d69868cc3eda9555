use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, LargeListArray, LargeStringArray,
    UInt32Array, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Float32Type, UInt32Type};
use fracture_cache::digest::{Digest, Values};
use fracture_cache::{column_digest, column_type};
use proptest::prelude::*;

fn content(chunks: &[ArrayRef]) -> Digest<Values> {
    column_digest(column_type(chunks[0].data_type()).unwrap(), chunks).unwrap()
}

fn one(array: impl Array + 'static) -> Digest<Values> {
    content(&[Arc::new(array)])
}

/// Columns of some types made from the same optional numbers.
fn columns(rows: &[Option<u32>]) -> Vec<ArrayRef> {
    let texts: Vec<_> = rows
        .iter()
        .map(|row| row.map(|number| "é".repeat(number as usize % 5)))
        .collect();
    let lists = rows
        .iter()
        .map(|row| row.map(|number| (0..number % 4).map(Some).collect::<Vec<_>>()));
    let vectors = rows
        .iter()
        .map(|row| row.map(|number| [Some(number as f32), None, Some(f32::NAN)]));
    vec![
        Arc::new(LargeStringArray::from(texts)),
        Arc::new(BooleanArray::from_iter(
            rows.iter().map(|row| row.map(|number| number % 2 == 0)),
        )),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.map(i64::from)))),
        Arc::new(UInt32Array::from_iter(rows.iter().copied())),
        Arc::new(Float64Array::from_iter(
            rows.iter().map(|row| row.map(|number| 1.0 / f64::from(number % 3))),
        )),
        Arc::new(LargeListArray::from_iter_primitive::<UInt32Type, _, _>(lists)),
        Arc::new(arrow::array::FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 3)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn cutting_and_slicing_change_nothing(
        rows in prop::collection::vec(prop::option::weighted(0.8, any::<u32>()), 1..80),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        before in 0..9usize,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len() + 1)).collect();
        cuts.extend([0, rows.len()]);
        cuts.sort_unstable();
        let padding = vec![Some(7); before];
        for (whole, pad) in columns(&rows).iter().zip(columns(&[&padding[..], &[None]].concat())) {
            let expected = content(std::slice::from_ref(whole));
            let shifted = concat(&[pad.as_ref(), whole.as_ref(), pad.as_ref()]).unwrap();
            let chunks: Vec<ArrayRef> =
                cuts.windows(2).map(|cut| shifted.slice(before + 1 + cut[0], cut[1] - cut[0])).collect();
            prop_assert_eq!(content(&chunks), expected, "{}", whole.data_type());
        }
    }

    #[test]
    fn a_changed_row_changes_the_digest(
        rows in prop::collection::vec(prop::option::weighted(0.8, any::<u32>()), 1..80),
        at in any::<prop::sample::Index>(), to in prop::option::weighted(0.8, any::<u32>()),
    ) {
        let mut changed = rows.clone();
        changed[at.index(rows.len())] = to;
        // What each of the columns makes of a number.
        let values: [fn(u32) -> u32; 7] =
            [|n| n % 5, |n| n % 2, |n| n, |n| n, |n| n % 3, |n| n % 4, |n| (n as f32).to_bits()];
        for ((one, two), value) in columns(&rows).into_iter().zip(columns(&changed)).zip(values) {
            let same = rows.iter().map(|row| row.map(value)).eq(changed.iter().map(|row| row.map(value)));
            prop_assert_eq!(content(&[one]) == content(&[two]), same);
        }
    }
}

#[test]
fn there_is_one_nan_and_two_zeros() {
    let odd = f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 12);
    assert_eq!(
        one(Float64Array::from(vec![1.0, odd])),
        one(Float64Array::from(vec![1.0, f64::NAN]))
    );
    let odd = f32::from_bits(f32::NAN.to_bits() | 1 << 31 | 12);
    assert_eq!(
        one(Float32Array::from(vec![odd])),
        one(Float32Array::from(vec![f32::NAN]))
    );
    assert_ne!(one(Float64Array::from(vec![0.0])), one(Float64Array::from(vec![-0.0])));
}

#[test]
fn what_lies_below_a_null_is_not_hashed() {
    let nulls = || Some(NullBuffer::from(vec![true, false]));
    let numbers = |hidden| Int64Array::new(vec![1, hidden].into(), nulls());
    assert_eq!(one(numbers(5)), one(numbers(9)));
    let texts = |hidden: &str| {
        let offsets = OffsetBuffer::from_lengths([1, hidden.len()]);
        LargeStringArray::new(offsets, format!("a{hidden}").into_bytes().into(), nulls())
    };
    assert_eq!(one(texts("")), one(texts("hidden")));
    let lists = |hidden: usize| {
        let field = Arc::new(Field::new("item", DataType::UInt32, true));
        let values = Arc::new(UInt32Array::from_iter_values(0..1 + hidden as u32));
        LargeListArray::new(field, OffsetBuffer::from_lengths([1, hidden]), values, nulls())
    };
    assert_eq!(one(lists(0)), one(lists(3)));
    let all_valid = Int64Array::new(vec![1, 2].into(), Some(NullBuffer::new_valid(2)));
    assert_eq!(one(all_valid), one(Int64Array::from(vec![1, 2])));
}

#[test]
fn null_empty_absent_and_other_types_differ() {
    let columns: Vec<Digest<Values>> = vec![
        one(LargeStringArray::from(vec![Some("")])),
        one(LargeStringArray::from(vec![None::<&str>])),
        one(LargeStringArray::from(Vec::<&str>::new())),
        one(LargeStringArray::from(vec!["ab", "c"])),
        one(LargeStringArray::from(vec!["a", "bc"])),
        one(LargeStringArray::from(vec![Some("a"), None])),
        one(LargeStringArray::from(vec![None, Some("a")])),
        one(Int64Array::from(vec![1])),
        one(UInt64Array::from(vec![1])),
        one(UInt32Array::from(vec![1, 0])),
        one(Float32Array::from(Vec::<f32>::new())),
        one(Float64Array::from(Vec::<f64>::new())),
        one(BooleanArray::from(vec![true])),
        one(BooleanArray::from(vec![true, false])),
        one(LargeListArray::from_iter_primitive::<UInt32Type, _, _>([
            Some(vec![Some(1)]),
            Some(vec![]),
        ])),
        one(LargeListArray::from_iter_primitive::<UInt32Type, _, _>([
            Some(vec![]),
            Some(vec![Some(1)]),
        ])),
        one(LargeListArray::from_iter_primitive::<UInt32Type, _, _>([
            None,
            Some(vec![Some(1)]),
        ])),
        one(LargeListArray::from_iter_primitive::<UInt32Type, _, _>([
            Some(vec![None]),
            Some(vec![Some(1)]),
        ])),
    ];
    for (at, content) in columns.iter().enumerate() {
        assert!(!columns[..at].contains(content), "column {at}");
    }
}

#[test]
fn the_digest_is_the_one_of_the_first_version() {
    // A change of these moves every key of every store.
    let columns = [
        one(LargeStringArray::from(vec![Some("ab"), None, Some("")])),
        one(Float64Array::from(vec![Some(0.5), None, Some(f64::NAN)])),
        one(BooleanArray::from(vec![true, false, true])),
        one(LargeListArray::from_iter_primitive::<UInt32Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            None,
        ])),
    ];
    let expected = [
        "2c6b85782495ddd42f3dc811fbf4f326bf19e8807c7f0aa07fc05fae799646fc",
        "7d25b4b502db163a58b497a76b8162920764ede7f2c18b785afa9ef8ed790296",
        "0e657226cbc8ceb48220bd533331e0acc952c4360b56697dc41aa01e8d0e443d",
        "a42c81ae6c2e31c05794e1abf5255675a1c08e5513df171ef85b1ebda36872b8",
    ];
    assert_eq!(columns.map(|column| column.hex()), expected);
}
