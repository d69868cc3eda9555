//! The retention logic: what is held stays, what goes goes whole, and the rules narrow it.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use fracture_cache::Digest;
use fracture_cache::digest::{Action, Bytes};
use fracture_cache::gc::{Decision, Entry, Object, Root, Rules, Segment, decide, over_budget};
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 1_000_000 * HOUR
}

fn action(number: u8) -> Digest<Action> {
    Digest::from_bytes([number; 32])
}

fn blob(number: u8) -> Digest<Bytes> {
    Digest::from_bytes([number; 32])
}

fn object(number: u8, size: u64, hours: u32) -> Object {
    Object {
        digest: blob(number),
        size,
        written: now() - hours * HOUR,
    }
}

fn entry(number: u8, objects: &[u8]) -> Entry {
    Entry {
        action: action(number),
        objects: objects.iter().map(|number| blob(*number)).collect(),
        used: None,
    }
}

fn root(actions: &[u8]) -> Root {
    Root {
        holder: "a lock file".to_owned(),
        actions: actions.iter().map(|number| action(*number)).collect(),
    }
}

fn rules() -> Rules {
    Rules {
        now: now(),
        grace: HOUR,
        older_than: None,
        max_size: None,
    }
}

fn gone(decision: &Decision) -> BTreeSet<u8> {
    decision
        .going
        .iter()
        .flat_map(|going| &going.objects)
        .map(|digest| digest.as_bytes()[0])
        .collect()
}

#[test]
fn what_no_root_holds_goes_and_shared_objects_stay() {
    let objects = [object(1, 10, 5), object(2, 20, 5), object(3, 40, 5), object(4, 80, 5)];
    let entries = [entry(1, &[1, 2]), entry(2, &[2, 3])];
    let decision = decide(&objects, &entries, &[root(&[1])], &rules());
    assert_eq!(gone(&decision), [3, 4].into());
    assert_eq!((decision.bytes_before, decision.bytes_after), (150, 30));
    assert_eq!(decision.held[&action(1)], [0]);
    assert_eq!(
        decision
            .going
            .iter()
            .filter(|going| going.action == Some(action(2)))
            .count(),
        1
    );
}

#[test]
fn what_is_young_or_was_used_lately_stays() {
    let objects = [object(1, 1, 0), object(2, 1, 5), object(3, 1, 5)];
    let used = Entry {
        used: Some(now()),
        ..entry(2, &[2])
    };
    let decision = decide(&objects, &[entry(1, &[1]), used, entry(3, &[3])], &[], &rules());
    assert_eq!(gone(&decision), [3].into());
    // A time that lies ahead, after the clock jumped back, is young.
    let ahead = Object {
        written: now() + HOUR,
        ..object(1, 1, 0)
    };
    assert!(decide(&[ahead], &[], &[], &rules()).going.is_empty());
}

#[test]
fn a_size_takes_the_longest_unused_first_and_no_more_than_it_must() {
    let objects = [
        object(1, 100, 9),
        object(2, 100, 8),
        object(3, 100, 7),
        object(4, 100, 6),
    ];
    let entries: Vec<_> = (1..=4).map(|number| entry(number, &[number])).collect();
    let limited = |size| {
        gone(&decide(
            &objects,
            &entries,
            &[root(&[1])],
            &Rules {
                max_size: Some(size),
                ..rules()
            },
        ))
    };
    assert_eq!(limited(400), [].into());
    assert_eq!(limited(399), [2].into());
    assert_eq!(limited(200), [2, 3].into());
    assert_eq!(limited(0), [2, 3, 4].into());
}

#[test]
fn two_results_that_share_all_objects_stay_while_one_is_held() {
    let decision = decide(
        &[object(1, 1, 5)],
        &[entry(1, &[1]), entry(2, &[1])],
        &[root(&[2])],
        &rules(),
    );
    assert!(decision.going.is_empty());
}

#[test]
fn the_memo_loses_its_oldest_segments() {
    let segment = |name: &str, size, hours| Segment {
        path: name.into(),
        size,
        written: now() - hours * HOUR,
    };
    let segments = [segment("new", 10, 0), segment("old", 10, 9), segment("older", 10, 10)];
    assert_eq!(over_budget(&segments, 30, now(), HOUR), [0; 0]);
    assert_eq!(over_budget(&segments, 29, now(), HOUR), [2]);
    assert_eq!(over_budget(&segments, 0, now(), HOUR), [2, 1]);
}

prop_compose! {
    fn stores()(
        sizes in prop::collection::vec((1_u64..100, 0_u32..50), 1..20),
        entries in prop::collection::vec((0_u8..10, prop::collection::vec(0_u8..24, 0..5), prop::option::of(0_u32..50)), 0..14),
        roots in prop::collection::vec(prop::collection::vec(0_u8..10, 0..4), 0..4),
        older_than in prop::option::of(0_u32..60),
        max_size in prop::option::of(0_u64..1500),
    ) -> (Vec<Object>, Vec<Entry>, Vec<Root>, Rules) {
        let objects = sizes.iter().enumerate().map(|(number, (size, hours))| object(number as u8, *size, *hours)).collect();
        let entries = entries.into_iter().map(|(number, objects, hours)| {
            Entry { used: hours.map(|hours| now() - hours * HOUR), ..entry(number, &objects) }
        });
        let roots = roots.iter().map(|actions| root(actions)).collect();
        let rules = Rules { older_than: older_than.map(|hours| hours * HOUR), max_size, ..rules() };
        (objects, entries.collect(), roots, rules)
    }
}

proptest! {
    #[test]
    fn the_rules_hold((objects, entries, roots, rules) in stores()) {
        let decision = decide(&objects, &entries, &roots, &rules);
        let gone = gone(&decision);
        let there: HashSet<u8> = objects.iter().map(|object| object.digest.as_bytes()[0]).collect();
        let own = |entry: &Entry| -> Vec<u8> {
            let all = entry.objects.iter().map(|digest| digest.as_bytes()[0]);
            all.filter(|number| there.contains(number)).collect()
        };
        let lost: HashSet<_> = decision.going.iter().filter_map(|going| going.action).collect();
        for entry in &entries {
            let touched = own(entry).iter().any(|number| gone.contains(number));
            // What is held stays.
            prop_assert!(!(touched && roots.iter().any(|root| root.actions.contains(&entry.action))));
            // Whoever loses an object is told as going.
            prop_assert!(!touched || lost.contains(&entry.action));
            // What was used lately stays.
            prop_assert!(!(touched && entry.used.is_some_and(|used| now() - HOUR < used)));
        }
        for object in objects.iter().filter(|object| gone.contains(&object.digest.as_bytes()[0])) {
            let age = now().duration_since(object.written).unwrap();
            prop_assert!(age >= HOUR && age >= rules.older_than.unwrap_or_default());
        }
        // Each object goes once, and the bytes are right.
        let listed: usize = decision.going.iter().map(|going| going.objects.len()).sum();
        prop_assert_eq!(listed, gone.len());
        let bytes = |keep: &dyn Fn(u8) -> bool| -> u64 {
            let kept = objects.iter().filter(|object| keep(object.digest.as_bytes()[0]));
            kept.map(|object| object.size).sum()
        };
        prop_assert_eq!(decision.bytes_before, bytes(&|_| true));
        prop_assert_eq!(decision.bytes_after, bytes(&|number| !gone.contains(&number)));
        // The limit is not overshot by more than the last that went.
        if let (Some(size), Some(last)) = (rules.max_size, decision.going.last()) {
            prop_assert!(decision.bytes_after + last.bytes > size);
        }
        // Without a limit on size, what stays is held, young, or needed by such.
        if rules.max_size.is_none() {
            let age = rules.older_than.unwrap_or_default().max(HOUR);
            for object in objects.iter().filter(|object| !gone.contains(&object.digest.as_bytes()[0])) {
                let old = |time: SystemTime| now().duration_since(time).unwrap() >= age;
                let number = object.digest.as_bytes()[0];
                let users: Vec<&Entry> = entries.iter().filter(|entry| own(entry).contains(&number)).collect();
                let kept = users.iter().any(|entry| {
                    decision.held.contains_key(&entry.action)
                        || entry.used.is_some_and(|used| !old(used))
                        || own(entry).iter().any(|other| !old(objects[*other as usize].written))
                });
                prop_assert!(kept || (users.is_empty() && !old(object.written)), "{number} stays for nobody");
            }
        }
    }

    #[test]
    fn the_order_of_what_is_asked_changes_nothing((objects, entries, roots, rules) in stores()) {
        let one = decide(&objects, &entries, &roots, &rules);
        let reversed = |objects: &[Object]| objects.iter().rev().copied().collect::<Vec<_>>();
        let mut turned = entries.clone();
        turned.reverse();
        let other = decide(&reversed(&objects), &turned, &roots, &rules);
        prop_assert_eq!(gone(&one), gone(&other));
        prop_assert_eq!(one.bytes_after, other.bytes_after);
    }

    #[test]
    fn a_second_collection_finds_nothing_to_do((objects, entries, roots, rules) in stores()) {
        let first = gone(&decide(&objects, &entries, &roots, &rules));
        let rest: Vec<Object> =
            objects.iter().filter(|object| !first.contains(&object.digest.as_bytes()[0])).copied().collect();
        let second = decide(&rest, &entries, &roots, &rules);
        prop_assert!(gone(&second).is_empty(), "{:?} went only the second time", gone(&second));
    }
}
