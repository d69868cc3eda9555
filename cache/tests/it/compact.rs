//! Joining the logs of records.

use std::fs;

use fracture_cache::{Published, Record, Records, Store};

use super::record::record;
use super::{digest, new_store};

fn logs(store: &Store) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(store.root().join("records")).unwrap();
    let mut logs: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
        .collect();
    logs.sort();
    logs
}

/// Several logs: records, one of them replaced, one with a rival, and a recipe that leads elsewhere than it did.
fn filled(store: &Store) -> Vec<Record> {
    for number in 0..5 {
        let records = Records::open(store).unwrap();
        for action in 0..20 {
            let name = format!("{number}-{action}");
            assert_eq!(records.publish(&record(&name, &name)).unwrap(), Published::First);
        }
        let half = Record {
            incomplete: true,
            ..record(&format!("late {number}"), "half")
        };
        records.publish(&half).unwrap();
    }
    let records = Records::open(store).unwrap();
    for number in 0..5 {
        records.publish(&record(&format!("late {number}"), "whole")).unwrap();
    }
    assert!(matches!(
        records.publish(&record("0-0", "rival")).unwrap(),
        Published::Divergent(_)
    ));
    records.alias(&record("0-1", "").recipe, &digest("4-4")).unwrap();
    let mut all: Vec<Record> = records
        .actions()
        .iter()
        .map(|action| records.by_action(action).unwrap().unwrap())
        .collect();
    all.sort_by_key(|record| *record.action.as_bytes());
    all
}

#[track_caller]
fn holds(records: &Records, expected: &[Record]) {
    assert_eq!(records.len(), expected.len());
    for record in expected {
        assert_eq!(records.by_action(&record.action).unwrap().as_ref(), Some(record));
        if record.recipe != super::record::record("0-1", "").recipe {
            assert_eq!(records.by_recipe(&record.recipe), Some(record.action));
        }
    }
    assert_eq!(records.by_recipe(&record("0-1", "").recipe), Some(digest("4-4")));
    assert_eq!(records.divergences().unwrap(), [record("0-0", "rival")]);
}

#[test]
fn one_log_says_what_many_said() {
    let (_folder, store) = new_store();
    let expected = filled(&store);
    let reader = Records::open(&store).unwrap();
    let records = Records::open(&store).unwrap();
    let done = records.compact(&|_| true, true).unwrap();
    assert_eq!((done.logs, done.dropped), (6, 0));
    assert!(done.after < done.before, "{done:?}");
    assert_eq!(logs(&store).len(), 1);
    // The handle that did it, one that was open before, and one that is opened after, with and without the index.
    holds(&records, &expected);
    holds(&reader, &expected);
    holds(&Records::open(&store).unwrap(), &expected);
    fs::remove_file(store.root().join("records/index")).unwrap();
    holds(&Records::open(&store).unwrap(), &expected);
    // Again, with what came after.
    records.publish(&record("new", "new")).unwrap();
    assert_eq!(Records::open(&store).unwrap().compact(&|_| true, true).unwrap().logs, 2);
    assert_eq!(Records::open(&store).unwrap().len(), expected.len() + 1);
    assert_eq!(records.by_action(&digest("new")).unwrap(), Some(record("new", "new")));
}

#[test]
fn what_a_writer_at_work_adds_is_not_lost() {
    let (_folder, store) = new_store();
    let expected = filled(&store);
    let writer = Records::open(&store).unwrap();
    writer.publish(&record("before", "before")).unwrap();
    Records::open(&store).unwrap().compact(&|_| true, false).unwrap();
    assert_eq!(logs(&store).len(), 8, "retired logs stay while someone may be writing");
    writer.publish(&record("after", "after")).unwrap();
    for records in [&writer, &Records::open(&store).unwrap()] {
        for name in ["before", "after"] {
            assert_eq!(records.by_action(&digest(name)).unwrap(), Some(record(name, name)));
        }
        assert_eq!(records.len(), expected.len() + 2);
    }
    Records::open(&store).unwrap().compact(&|_| true, true).unwrap();
    assert_eq!(logs(&store).len(), 1);
    assert_eq!(Records::open(&store).unwrap().len(), expected.len() + 2);
    assert_eq!(
        writer.by_action(&digest("after")).unwrap(),
        Some(record("after", "after"))
    );
}

#[test]
fn a_kill_before_the_manifest_or_before_the_removal_costs_nothing() {
    let (_folder, store) = new_store();
    let expected = filled(&store);
    let old: Vec<_> = logs(&store)
        .into_iter()
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    Records::open(&store).unwrap().compact(&|_| true, true).unwrap();
    let restore = || old.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    // The old logs are there still.
    restore();
    holds(&Records::open(&store).unwrap(), &expected);
    // So is no manifest.
    fs::remove_file(store.root().join("records/manifest")).unwrap();
    fs::remove_file(store.root().join("records/index")).unwrap();
    holds(&Records::open(&store).unwrap(), &expected);
    // And a damaged one retires nothing.
    fs::write(store.root().join("records/manifest"), "half").unwrap();
    holds(&Records::open(&store).unwrap(), &expected);
    Records::open(&store).unwrap().compact(&|_| true, true).unwrap();
    assert_eq!(logs(&store).len(), 1);
    holds(&Records::open(&store).unwrap(), &expected);
}

#[test]
fn records_that_are_not_kept_go() {
    let (_folder, store) = new_store();
    let expected = filled(&store);
    let gone = record("2-7", "2-7");
    let done = Records::open(&store)
        .unwrap()
        .compact(&|action| *action != gone.action, true)
        .unwrap();
    assert_eq!(done.dropped, 1);
    let records = Records::open(&store).unwrap();
    assert_eq!(records.len(), expected.len() - 1);
    assert_eq!(records.by_action(&gone.action).unwrap(), None);
    assert_eq!(records.by_recipe(&gone.recipe), None);
    assert_eq!(records.publish(&gone).unwrap(), Published::First);
}
