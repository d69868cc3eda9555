use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fracture_cache::digest::Row;
use fracture_cache::{Digest, Memo, Store};

use super::{cut, digest, files_with, flip, given_store, in_another_process, new_store};

fn row(at: usize) -> Digest<Row> {
    digest(&format!("row {at}"))
}

fn payload(at: usize) -> Vec<u8> {
    format!("payload {at} ").repeat(at % 7).into_bytes()
}

fn open(store: &Store) -> Memo {
    Memo::open(store, &digest("lineage")).unwrap()
}

fn files(store: &Store, suffix: &str) -> Vec<PathBuf> {
    files_with(&store.root().join("memo").join(digest::<Row>("lineage").hex()), suffix)
}

fn fill(memo: &Memo, rows: std::ops::Range<usize>) {
    rows.for_each(|at| memo.put(&row(at), &payload(at)).unwrap());
}

#[test]
fn rows_are_known_at_once_and_last() {
    let (_folder, store) = new_store();
    let memo = open(&store);
    assert!(memo.is_empty() && !store.root().join("memo").join(digest::<Row>("lineage").hex()).exists());
    fill(&memo, 0..10);
    assert_eq!(memo.get(&row(3)).unwrap(), Some(payload(3)));
    assert!(open(&store).is_empty(), "nothing was flushed");
    memo.flush().unwrap();
    fill(&memo, 10..20);
    let wanted: Vec<_> = [15, 3, 99, 0, 3, 19].map(row).to_vec();
    let expected: Vec<_> = [15, 3, 99, 0, 3, 19].map(|at| (at < 20).then(|| payload(at))).to_vec();
    assert_eq!(memo.get_many(&wanted).unwrap(), expected);
    memo.put(&row(3), b"another payload").unwrap();
    drop(memo);
    let memo = open(&store);
    assert_eq!(memo.get_many(&wanted).unwrap(), expected, "a dropped handle flushes");
    assert_eq!(
        memo.contains_many(&wanted),
        expected.iter().map(Option::is_some).collect::<Vec<_>>()
    );
    assert!(Memo::open(&store, &digest("another lineage")).unwrap().is_empty());
}

#[test]
fn rows_of_another_handle_are_picked_up() {
    let (_folder, store) = new_store();
    let (one, two) = (open(&store), open(&store));
    fill(&one, 0..5);
    one.flush().unwrap();
    fill(&two, 3..8);
    two.flush().unwrap();
    one.refresh().unwrap();
    assert_eq!(one.len(), 8);
    assert!((0..8).all(|at| one.get(&row(at)).unwrap() == Some(payload(at))));
}

#[test]
fn a_segment_or_an_index_cut_anywhere_never_gives_a_wrong_row() {
    let (_folder, store) = new_store();
    let memo = open(&store);
    for flush in 0..3 {
        fill(&memo, flush * 3..flush * 3 + 3);
        memo.flush().unwrap();
    }
    let (segment, index) = (&files(&store, ".rows")[0], &files(&store, ".index")[0]);
    let (rows, entries) = (fs::read(segment).unwrap(), fs::read(index).unwrap());
    let known = || {
        let memo = open(&store);
        let rows = (0..9).map(|at| {
            memo.get(&row(at))
                .unwrap()
                .inspect(|found| assert_eq!(*found, payload(at)))
        });
        rows.flatten().count()
    };
    // Without or with a torn index every row is read from the segment.
    for length in (0..=entries.len()).rev() {
        cut(index, length);
        assert_eq!(known(), 9, "index cut at {length}");
    }
    let mut counts = Vec::new();
    for length in (0..=rows.len()).rev() {
        cut(segment, length);
        counts.push(known());
    }
    counts.reverse();
    assert!(
        counts.is_sorted() && counts[0] == 0 && counts.last() == Some(&9),
        "{counts:?}"
    );
    fs::write(segment, &rows).unwrap();
    for at in 0..rows.len() {
        flip(segment, at);
        assert_eq!(known(), 8, "byte {at}");
        flip(segment, at);
    }
    fs::write(index, &entries).unwrap();
    for at in 0..entries.len() {
        flip(index, at);
        assert_eq!(known(), 9, "index byte {at}");
        flip(index, at);
    }
}

#[test]
fn a_damaged_row_is_added_again() {
    let (_folder, store) = new_store();
    fill(&open(&store), 1..4);
    let segment = &files(&store, ".rows")[0];
    let mut bytes = fs::read(segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(segment, bytes).unwrap();
    let memo = open(&store);
    assert!(memo.contains(&row(3)), "the index knows it still");
    assert_eq!(memo.get(&row(3)).unwrap(), None);
    fill(&memo, 3..4);
    memo.flush().unwrap();
    assert_eq!(memo.get(&row(3)).unwrap(), Some(payload(3)));
}

#[test]
fn joined_segments_hold_every_row_once() {
    let (_folder, store) = new_store();
    let reader = open(&store);
    for handle in 0..5 {
        // Another handle's rows are not looked for, so that some are there twice.
        let memo = open(&store);
        fill(&memo, handle * 4..handle * 4 + 8);
    }
    reader.refresh().unwrap();
    let memo = open(&store);
    fill(&memo, 50..51);
    assert_eq!(memo.compact(9, Duration::ZERO).unwrap(), 0, "too few to be worth it");
    assert_eq!(
        memo.compact(2, Duration::from_secs(600)).unwrap(),
        0,
        "written a moment ago"
    );
    assert_eq!(memo.compact(2, Duration::ZERO).unwrap(), 6);
    assert_eq!((files(&store, ".rows").len(), files(&store, ".index").len()), (1, 1));
    fill(&memo, 60..61);
    memo.flush().unwrap();
    for memo in [&memo, &reader, &open(&store)] {
        let rows: Vec<_> = (0..24).chain([50]).collect();
        let found = memo
            .get_many(&rows.iter().map(|at| row(*at)).collect::<Vec<_>>())
            .unwrap();
        assert!(
            rows.iter()
                .zip(found)
                .all(|(at, found)| *at == 50 || found == Some(payload(*at)))
        );
    }
    assert_eq!(open(&store).len(), 26);
    assert_eq!(open(&store).get(&row(50)).unwrap(), Some(payload(50)));
    assert_eq!(fs::read_dir(store.root().join("staging")).unwrap().count(), 0);
}

#[test]
fn child_writes_rows() {
    let Some((store, name)) = given_store() else { return };
    let memo = open(&store);
    let first: usize = name.parse().unwrap();
    for at in 0..1_000_000 {
        memo.put(&row(first + at), &payload(first + at)).unwrap();
        if at % 5 == 0 {
            memo.flush().unwrap();
        }
    }
}

#[test]
fn a_killed_writer_leaves_only_whole_rows() {
    let (_folder, store) = new_store();
    for round in 0..4_u64 {
        let mut child = in_another_process("memo::child_writes_rows", store.root(), "0");
        std::thread::sleep(Duration::from_millis(40 + 13 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let memo = open(&store);
        let known = (0..).take_while(|at| memo.contains(&row(*at))).count();
        assert_eq!(known, memo.len(), "the rows come in the order in which they were put");
        let rows: Vec<_> = (0..known).map(row).collect();
        let payloads = memo.get_many(&rows).unwrap();
        assert!(
            payloads
                .iter()
                .enumerate()
                .all(|(at, found)| *found == Some(payload(at))),
            "{known} rows"
        );
    }
    assert!(!open(&store).is_empty());
}
