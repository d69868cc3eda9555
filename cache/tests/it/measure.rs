//! What the store costs. Run by hand: `cargo test --release -p fracture-cache -- --ignored measure --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float64Array, LargeStringArray, RecordBatch, UInt32Array};
use fracture_cache::digest::Row;
use fracture_cache::{ColumnType, Digest, Memo, Published, Records, column_digest};

use super::{digest, new_store};

fn timed<T>(what: &str, per: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{what}: {seconds:.3} s, {:.2} us each", seconds / per as f64 * 1e6);
    result
}

#[test]
#[ignore = "a measurement"]
fn measure_records() {
    let (_folder, store) = new_store();
    let count = 100_000;
    let all: Vec<_> = (0..count)
        .map(|at| super::record::record(&at.to_string(), "content"))
        .collect();
    let records = Records::open(&store).unwrap();
    timed("publish records", count, || {
        all.iter()
            .for_each(|record| assert_eq!(records.publish(record).unwrap(), Published::First));
    });
    drop(timed("open records without an index file", count, || {
        Records::open(&store).unwrap()
    }));
    timed("write the index file", count, || records.write_index().unwrap());
    let records = timed("open records", count, || Records::open(&store).unwrap());
    timed("look up by action", count, || {
        all.iter().for_each(|record| assert!(records.contains(&record.action)));
    });
    timed("read summaries", count, || {
        all.iter()
            .for_each(|record| assert!(records.summary(&record.action).unwrap().is_some()));
    });
    timed("read records", count, || {
        all.iter()
            .for_each(|record| assert!(records.by_action(&record.action).unwrap().is_some()));
    });
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * 4096
}

#[test]
#[ignore = "a measurement"]
fn measure_memo() {
    let (_folder, store) = new_store();
    // FRACTURE_ROWS=10000000 for as many as a large study has.
    let count = std::env::var("FRACTURE_ROWS").map_or(1_000_000, |text| text.parse().unwrap());
    let rows: Vec<Digest<Row>> = (0..count).map(|at| digest(&format!("row {at}"))).collect();
    let memo = Memo::open(&store, &digest("lineage")).unwrap();
    timed("put rows of 64 bytes", count, || {
        rows.iter().for_each(|row| memo.put(row, &[3; 64]).unwrap());
        memo.flush().unwrap();
    });
    drop(memo);
    let before = resident();
    let start = Instant::now();
    let memo = timed("open a memo", count, || Memo::open(&store, &digest("lineage")).unwrap());
    timed("check rows", count, || {
        assert!(memo.contains_many(&rows).into_iter().all(|known| known))
    });
    eprintln!("open and check: {:.3} s", start.elapsed().as_secs_f64());
    eprintln!(
        "resident: {:.0} bytes a row",
        resident().saturating_sub(before) as f64 / count as f64
    );
    timed("read rows in the order they were put", count, || {
        for rows in rows.chunks(10_000) {
            assert!(memo.get_many(rows).unwrap().iter().all(Option::is_some));
        }
    });
    timed("read single rows", 100_000, || {
        rows[..100_000]
            .iter()
            .for_each(|row| assert!(memo.get(row).unwrap().is_some()));
    });
}

#[test]
#[ignore = "a measurement"]
fn measure_tables() {
    let (_folder, store) = new_store();
    let table = |seed: u32, rows: u32| {
        let texts = LargeStringArray::from_iter_values((0..rows).map(|row| format!("text {seed} {row}")));
        let numbers = Float64Array::from_iter_values((0..rows).map(|row| f64::from(row * seed)));
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(UInt32Array::from_iter_values(0..rows))),
            ("text", Arc::new(texts)),
            ("score", Arc::new(numbers)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let batches: Vec<RecordBatch> = (0..2000).map(|seed| table(seed, 10)).collect();
    let put = |batch: &RecordBatch| store.put_table(std::slice::from_ref(batch), &batch.schema()).unwrap();
    let tables = timed("put tables of 10 rows", 2000, || {
        batches.iter().map(put).collect::<Vec<_>>()
    });
    timed("put the same tables again", 2000, || {
        batches.iter().for_each(|batch| drop(put(batch)))
    });
    timed("read tables of 10 rows", 2000, || {
        tables
            .iter()
            .for_each(|table| drop(store.read_table(table, None).unwrap()));
    });
    timed("sync", 1, || store.sync().unwrap());
    let large = table(1, 1_000_000);
    timed("digest 1 000 000 texts", 1_000_000, || {
        column_digest(ColumnType::Text, std::slice::from_ref(large.column(1))).unwrap()
    });
    timed("put a table of 1 000 000 rows", 1_000_000, || put(&large));
}
