use std::collections::BTreeMap;
use std::fs;

use fracture_cache::{Artifact, Output, PartText, Published, Record, Records, Store};

use super::{cut, digest, files_with, flip, given_store, in_another_process, new_store};

pub(super) fn record(action: &str, content: &str) -> Record {
    Record {
        action: digest(action),
        recipe: digest(&format!("recipe of {action}")),
        kind: "judge@1".to_owned(),
        outputs: vec![Output {
            name: "table".to_owned(),
            artifact: Artifact::Blob(digest(content), 7),
        }],
        parts: vec![PartText {
            role: "parameter".to_owned(),
            name: "tau".to_owned(),
            value: 0.5.into(),
        }],
        rows: 3,
        seconds: 0.25,
        incomplete: false,
        notes: vec!["one text was cut".to_owned()],
        provenance: BTreeMap::from([("program".to_owned(), "0.1.0".to_owned())]),
    }
}

fn open(store: &Store) -> Records {
    Records::open(store).unwrap()
}

#[test]
fn the_first_published_record_stands() {
    let (_folder, store) = new_store();
    let records = open(&store);
    let first = record("a", "one");
    assert_eq!(records.by_action(&first.action).unwrap(), None);
    assert_eq!(records.publish(&first).unwrap(), Published::First);
    assert_eq!(
        records
            .publish(&Record {
                seconds: 9.0,
                ..first.clone()
            })
            .unwrap(),
        Published::Same
    );
    let rival = record("a", "two");
    assert_eq!(
        records.publish(&rival).unwrap(),
        Published::Divergent(Box::new(first.clone()))
    );
    for records in [&records, &open(&store)] {
        assert_eq!(records.by_action(&first.action).unwrap().as_ref(), Some(&first));
        assert_eq!(records.summary(&first.action).unwrap().unwrap().outputs, first.outputs);
        assert_eq!(records.by_recipe(&first.recipe), Some(first.action));
        assert_eq!(records.divergences().unwrap(), std::slice::from_ref(&rival));
    }
}

#[test]
fn an_incomplete_record_is_replaced_and_never_replaces_a_whole_one() {
    let (_folder, store) = new_store();
    let records = open(&store);
    let whole = record("a", "whole");
    let half = Record {
        incomplete: true,
        ..record("a", "half")
    };
    assert_eq!(records.publish(&half).unwrap(), Published::First);
    assert!(records.by_action(&half.action).unwrap().unwrap().incomplete);
    assert_eq!(
        records
            .publish(&Record {
                incomplete: true,
                ..record("a", "more")
            })
            .unwrap(),
        Published::Replaced
    );
    assert_eq!(records.replace_incomplete(&whole).unwrap(), Published::Replaced);
    assert_eq!(records.publish(&half).unwrap(), Published::Same);
    assert_eq!(open(&store).by_action(&whole.action).unwrap(), Some(whole));
    assert!(open(&store).divergences().unwrap().is_empty());
}

#[test]
fn a_replaced_record_stands_in_every_handle() {
    let (_folder, store) = new_store();
    let (records, other) = (open(&store), open(&store));
    records.publish(&record("a", "one")).unwrap();
    other.refresh().unwrap();
    other.replace(&record("a", "two")).unwrap();
    records.refresh().unwrap();
    for records in [&records, &other, &open(&store)] {
        assert_eq!(records.by_action(&digest("a")).unwrap(), Some(record("a", "two")));
    }
}

#[test]
fn two_handles_that_race_agree_afterwards() {
    let (_folder, store) = new_store();
    let (one, two) = (open(&store), open(&store));
    for action in 0..20 {
        let action = action.to_string();
        one.publish(&record(&action, "one")).unwrap();
        // `two` did not look since it was opened, or looks in the middle: both count as first until they meet.
        two.publish(&record(&action, "two")).unwrap();
    }
    one.refresh().unwrap();
    two.refresh().unwrap();
    let third = open(&store);
    for action in 0..20 {
        let action = digest(&action.to_string());
        let standing = one.by_action(&action).unwrap().unwrap();
        assert_eq!(two.by_action(&action).unwrap().unwrap(), standing);
        assert_eq!(third.by_action(&action).unwrap().unwrap(), standing);
    }
    assert_eq!(third.divergences().unwrap().len(), 20);
}

#[test]
fn a_recipe_leads_to_its_latest_action() {
    let (_folder, store) = new_store();
    let records = open(&store);
    let recipe = digest("recipe");
    records.alias(&recipe, &digest("a")).unwrap();
    records.alias(&recipe, &digest("a")).unwrap();
    assert_eq!(records.by_recipe(&recipe), Some(digest("a")));
    let other = open(&store);
    other.alias(&recipe, &digest("b")).unwrap();
    records.refresh().unwrap();
    assert_eq!(records.by_recipe(&recipe), Some(digest("b")));
    assert!(records.is_empty(), "an alias is no record");
}

#[test]
fn a_log_cut_anywhere_gives_the_records_before_the_cut() {
    let (_folder, store) = new_store();
    let records = open(&store);
    let published: Vec<Record> = (0..3).map(|at| record(&format!("action {at}"), "content")).collect();
    published
        .iter()
        .for_each(|record| drop(records.publish(record).unwrap()));
    let log = &files_with(&store.root().join("records"), ".log")[0];
    let bytes = fs::read(log).unwrap();
    let mut counts = Vec::new();
    for length in (0..=bytes.len()).rev() {
        cut(log, length);
        let records = open(&store);
        counts.push(records.len());
        for (at, record) in published.iter().enumerate() {
            let expected = (at < records.len()).then_some(record);
            assert_eq!(
                records.by_action(&record.action).unwrap().as_ref(),
                expected,
                "cut at {length}"
            );
        }
    }
    counts.reverse();
    assert!(counts.is_sorted() && counts.last() == Some(&3));
    // What was cut off is published again behind the torn tail, by a log of its own.
    fs::write(log, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(open(&store).publish(&published[2]).unwrap(), Published::First);
    assert_eq!(open(&store).len(), 3);
}

#[test]
fn a_flipped_byte_costs_at_most_its_record() {
    let (_folder, store) = new_store();
    let records = open(&store);
    let published: Vec<Record> = (0..3).map(|at| record(&format!("action {at}"), "content")).collect();
    published
        .iter()
        .for_each(|record| drop(records.publish(record).unwrap()));
    let log = &files_with(&store.root().join("records"), ".log")[0];
    let bytes = fs::read(log).unwrap();
    for at in 0..bytes.len() {
        flip(log, at);
        let read = open(&store);
        assert_eq!(read.len(), 2, "byte {at}");
        for record in &published {
            let found = read.by_action(&record.action).unwrap();
            assert!(found.is_none_or(|found| found == *record), "byte {at}");
        }
        flip(log, at);
    }
}

#[test]
fn a_damaged_record_counts_as_absent_and_is_replaced() {
    let (_folder, store) = new_store();
    let records = open(&store);
    let first = record("a", "one");
    records.publish(&first).unwrap();
    let log = &files_with(&store.root().join("records"), ".log")[0];
    let mut bytes = fs::read(log).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(log, bytes).unwrap();
    assert_eq!(records.by_action(&first.action).unwrap(), None);
    let second = record("a", "two");
    assert_eq!(records.publish(&second).unwrap(), Published::Replaced);
    for records in [&records, &open(&store)] {
        assert_eq!(records.by_action(&first.action).unwrap().as_ref(), Some(&second));
    }
}

#[test]
fn the_index_file_says_what_the_logs_say() {
    let (_folder, store) = new_store();
    let records = open(&store);
    for at in 0..300 {
        records.publish(&record(&at.to_string(), "one")).unwrap();
    }
    records.publish(&record("7", "two")).unwrap();
    records.write_index().unwrap();
    let index = store.root().join("records/index");
    let bytes = fs::read(&index).unwrap();
    // More records after the index, and one more log.
    records.publish(&record("later", "one")).unwrap();
    open(&store).publish(&record("other", "one")).unwrap();
    let check = || {
        let records = open(&store);
        assert_eq!(records.len(), 302);
        for action in ["0", "7", "299", "later", "other"] {
            assert_eq!(
                records.by_action(&digest(action)).unwrap(),
                Some(record(action, "one")),
                "{action}"
            );
            assert_eq!(
                records.by_recipe(&digest(&format!("recipe of {action}"))),
                Some(digest(action))
            );
        }
        assert_eq!(records.divergences().unwrap(), [record("7", "two")]);
    };
    check();
    for damage in [
        &bytes[..bytes.len() - 1],
        b"",
        &[&bytes[..99], b"x", &bytes[100..]].concat(),
    ] {
        fs::write(&index, damage).unwrap();
        check();
    }
    fs::remove_file(&index).unwrap();
    check();
}

#[test]
fn child_publishes() {
    let Some((store, name)) = given_store() else { return };
    let records = Records::open(&store).unwrap();
    for action in 0..50 {
        records
            .publish(&record(&action.to_string(), &format!("{}", action % 5 * 100)))
            .unwrap();
        records.publish(&record(&format!("{name} {action}"), "own")).unwrap();
    }
}

#[test]
fn four_processes_publish_at_once() {
    let (_folder, store) = new_store();
    let children: Vec<_> = (0..4)
        .map(|child| in_another_process("record::child_publishes", store.root(), &child.to_string()))
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let records = open(&store);
    assert_eq!(records.len(), 50 + 4 * 50);
    assert!(records.divergences().unwrap().is_empty());
    for action in 0..50 {
        let found = records.by_action(&digest(&action.to_string())).unwrap().unwrap();
        assert!(found.same_outputs(&record("", &format!("{}", action % 5 * 100))));
    }
}

#[test]
fn four_threads_publish_through_one_handle() {
    let (_folder, store) = new_store();
    let records = open(&store);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let records = &records;
            scope.spawn(move || {
                for action in 0..100 {
                    records
                        .publish(&record(&format!("{thread} {action}"), "content"))
                        .unwrap();
                    records.publish(&record(&action.to_string(), "shared")).unwrap();
                }
            });
        }
    });
    assert_eq!(open(&store).len(), 500);
    assert!(open(&store).divergences().unwrap().is_empty());
    assert_eq!(files_with(&store.root().join("records"), ".log").len(), 1);
}
