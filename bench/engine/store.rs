//! What the store costs: the row memo, records, small tables.
//!
//!     store memo [ROWS] | records [COUNT] | tables [COUNT]
//!
//! It prints one JSON object: seconds of each step, and bytes where they are asked for. `memo.py` calls it beside SQLite.

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, LargeStringArray, RecordBatch, UInt32Array};
use fracture_cache::digest::{Lineage, Row};
use fracture_cache::record::Output;
use fracture_cache::{
    Artifact, ColumnType, Digest, Framed, Memo, Record, Records, Result, Store, StoreOptions, column_digest,
};
use serde_json::{Map, Value, json};

/// The steps that were timed, in seconds.
#[derive(Default)]
struct Times(Map<String, Value>);

impl Times {
    fn of<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work()?;
        self.0.insert(what.to_owned(), json!(start.elapsed().as_secs_f64()));
        Ok(done)
    }
}

fn digest<T>(name: &str) -> Digest<T> {
    Framed::new("bench").text(name).finish()
}

/// The resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// Rows of 64 bytes.
fn memo(store: &Store, count: usize, times: &mut Times) -> Result<()> {
    let rows: Vec<Digest<Row>> = (0..count).map(|at| digest(&format!("row {at}"))).collect();
    let lineage: Digest<Lineage> = digest("lineage");
    times.of("put", || {
        let memo = Memo::open(store, &lineage)?;
        rows.iter().try_for_each(|row| memo.put(row, &[3; 64]))?;
        memo.flush()
    })?;
    let before = resident();
    let memo = times.of("open", || Memo::open(store, &lineage))?;
    let known = times.of("check", || Ok(memo.contains_many(&rows)))?;
    let bytes = resident().saturating_sub(before) as f64 / count as f64;
    times.0.insert("bytes_a_row".to_owned(), json!(bytes));
    times
        .0
        .insert("known".to_owned(), json!(known.iter().filter(|known| **known).count()));
    times.of("read_in_order", || {
        rows.chunks(10_000).try_for_each(|rows| {
            memo.get_many(rows)
                .map(|found| assert!(found.iter().all(Option::is_some)))
        })
    })?;
    // Rows from all over the segments, one by one.
    let some: Vec<_> = (0..100_000).map(|at| rows[at * 7_919_391 % count]).collect();
    times.of("read_100000_single", || {
        some.iter()
            .try_for_each(|row| memo.get(row).map(|found| assert!(found.is_some())))
    })
}

fn record(name: &str) -> Record {
    Record {
        action: digest(name),
        recipe: digest(name),
        kind: "bench 1".to_owned(),
        outputs: vec![Output {
            name: "main".to_owned(),
            artifact: Artifact::Blob(digest(name), 1),
        }],
        parts: Vec::new(),
        rows: 1,
        seconds: 0.0,
        incomplete: false,
        notes: Vec::new(),
        provenance: std::collections::BTreeMap::new(),
    }
}

fn records(store: &Store, count: usize, times: &mut Times) -> Result<()> {
    let all: Vec<Record> = (0..count).map(|at| record(&at.to_string())).collect();
    let records = Records::open(store)?;
    times.of("publish", || {
        all.iter().try_for_each(|record| records.publish(record).map(drop))
    })?;
    times.of("open_without_index", || Records::open(store).map(drop))?;
    times.of("write_index", || records.write_index())?;
    let records = times.of("open", || Records::open(store))?;
    times.of("look_up", || {
        all.iter().for_each(|record| assert!(records.contains(&record.action)));
        Ok(())
    })?;
    times.of("read_summaries", || {
        all.iter()
            .try_for_each(|record| records.summary(&record.action).map(drop))
    })?;
    times.of("read", || {
        all.iter()
            .try_for_each(|record| records.by_action(&record.action).map(drop))
    })
}

fn table(seed: u32, rows: u32) -> RecordBatch {
    let texts = LargeStringArray::from_iter_values((0..rows).map(|row| format!("text {seed} {row}")));
    let numbers = Float64Array::from_iter_values((0..rows).map(|row| f64::from(row * seed)));
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(UInt32Array::from_iter_values(0..rows))),
        ("text", Arc::new(texts)),
        ("score", Arc::new(numbers)),
    ];
    RecordBatch::try_from_iter(columns).unwrap_or_else(|error| panic!("columns of one length: {error}"))
}

/// Tables of ten rows, and one of a million.
fn tables(store: &Store, count: usize, times: &mut Times) -> Result<()> {
    let batches: Vec<RecordBatch> = (0..count).map(|seed| table(seed as u32, 10)).collect();
    let put = |batch: &RecordBatch| store.put_table(std::slice::from_ref(batch), &batch.schema());
    let put_all = || batches.iter().map(put).collect::<Result<Vec<_>>>();
    let tables = times.of("put", put_all)?;
    times.of("put_again", put_all)?;
    times.of("read", || {
        tables
            .iter()
            .try_for_each(|table| store.read_table(table, None).map(drop))
    })?;
    times.of("sync", || store.sync())?;
    let large = table(1, 1_000_000);
    times.of("digest_million_texts", || {
        column_digest(ColumnType::Text, std::slice::from_ref(large.column(1))).map(drop)
    })?;
    times.of("put_million_rows", || put(&large).map(drop))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count = arguments.next().and_then(|count| count.parse().ok());
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a temporary folder: {error}"));
    let store = Store::open(folder.path(), &StoreOptions::default())?;
    let mut times = Times::default();
    match what.as_str() {
        "memo" => memo(&store, count.unwrap_or(1_000_000), &mut times)?,
        "records" => records(&store, count.unwrap_or(100_000), &mut times)?,
        "tables" => tables(&store, count.unwrap_or(2_000), &mut times)?,
        _ => println!("usage: store memo [ROWS] | records [COUNT] | tables [COUNT]"),
    }
    println!("{}", Value::Object(times.0));
    Ok(())
}
