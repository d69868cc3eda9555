//! What a collection keeps and what it removes: a pure function of what lies in the store, who holds what, and the time.
//!
//! A *root* is a lock file, a run or a pin: it holds the results of some actions, and with them their objects. What no
//! root holds may go. Rules narrow that: nothing that was written or used within the grace goes, nothing younger than
//! `older_than`, and with `max_size` only so much, the longest unused first, as brings the objects down to that size.
//! A result goes whole or stays whole; an object goes when the last result that it belongs to goes.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::digest::{Action, Bytes, Digest};

/// An object in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Its digest.
    pub digest: Digest<Bytes>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub written: SystemTime,
}

/// A segment of the row memo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The file of its rows.
    pub path: PathBuf,
    /// Its size in bytes, with its index.
    pub size: u64,
    /// When it was written last.
    pub written: SystemTime,
}

/// A recorded result: an action and the objects of its outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The action. Several entries may have one: results that diverge.
    pub action: Digest<Action>,
    /// The objects of all outputs.
    pub objects: Vec<Digest<Bytes>>,
    /// When a run used it last, if that is known.
    pub used: Option<SystemTime>,
}

/// Something that holds results.
#[derive(Debug, Clone)]
pub struct Root {
    /// What it is, for people.
    pub holder: String,
    /// The actions whose results it holds.
    pub actions: HashSet<Digest<Action>>,
}

/// What may go.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The time, by the clock that wrote the objects' times.
    pub now: SystemTime,
    /// What was written or used more recently than this stays: something at work may need it.
    pub grace: Duration,
    /// Only what is older goes.
    pub older_than: Option<Duration>,
    /// Only so much goes that the objects take up this many bytes; all of it when absent.
    pub max_size: Option<u64>,
}

/// A result that goes, or objects that belong to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// The action; none for an object that belongs to no recorded result.
    pub action: Option<Digest<Action>>,
    /// The objects that are removed with it, sorted. Those that another result needs stay.
    pub objects: Vec<Digest<Bytes>>,
    /// Their bytes.
    pub bytes: u64,
    /// When it was written or used last.
    pub last: SystemTime,
}

/// What a collection does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// What goes, the longest unused first.
    pub going: Vec<Going>,
    /// For each held action the numbers of the roots that hold it, ascending.
    pub held: HashMap<Digest<Action>, Vec<usize>>,
    /// How many recorded results stay although nothing holds them: they were written or used too recently.
    pub young: usize,
    /// Bytes of all objects before.
    pub bytes_before: u64,
    /// Bytes of all objects after.
    pub bytes_after: u64,
}

/// What may go, as a whole.
struct Unit {
    action: Option<Digest<Action>>,
    objects: Vec<Digest<Bytes>>,
    last: SystemTime,
}

/// Decides what goes. The outcome does not depend on the order of the arguments' elements, the roots' numbers apart.
pub fn decide(objects: &[Object], entries: &[Entry], roots: &[Root], rules: &Rules) -> Decision {
    let there: HashMap<Digest<Bytes>, &Object> = objects.iter().map(|object| (object.digest, object)).collect();
    let mut decision = Decision {
        held: holders(entries, roots),
        ..Decision::default()
    };
    decision.bytes_before = there.values().map(|object| object.size).sum();
    // How many of the results that stay need each object.
    let mut needed: HashMap<Digest<Bytes>, usize> = HashMap::new();
    let mut units = Vec::new();
    for entry in entries {
        let own = present(entry, &there);
        own.iter().for_each(|digest| *needed.entry(*digest).or_default() += 1);
        let newest = own.iter().map(|digest| there[digest].written).chain(entry.used).max();
        if let Some(last) = newest
            && !own.is_empty()
            && !decision.held.contains_key(&entry.action)
        {
            units.push(Unit {
                action: Some(entry.action),
                objects: own,
                last,
            });
        }
    }
    for object in there.values().filter(|object| !needed.contains_key(&object.digest)) {
        units.push(Unit {
            action: None,
            objects: vec![object.digest],
            last: object.written,
        });
    }
    let age = rules.older_than.unwrap_or_default().max(rules.grace);
    let recorded = |units: &[Unit]| units.iter().filter(|unit| unit.action.is_some()).count();
    let unheld = recorded(&units);
    units.retain(|unit| rules.now.duration_since(unit.last).is_ok_and(|since| since >= age));
    decision.young = unheld - recorded(&units);
    let bytes = |digest: &Digest<Bytes>| *digest.as_bytes();
    units.sort_by_cached_key(|unit| {
        (
            unit.last,
            unit.action.map(|action| *action.as_bytes()),
            unit.objects.iter().map(bytes).collect::<Vec<_>>(),
        )
    });
    remove(&mut decision, units, &mut needed, &there, rules.max_size);
    decision
}

/// Which roots hold each recorded action.
fn holders(entries: &[Entry], roots: &[Root]) -> HashMap<Digest<Action>, Vec<usize>> {
    let recorded: HashSet<Digest<Action>> = entries.iter().map(|entry| entry.action).collect();
    let mut held: HashMap<Digest<Action>, Vec<usize>> = HashMap::new();
    for (number, root) in roots.iter().enumerate() {
        for action in root.actions.iter().filter(|action| recorded.contains(*action)) {
            held.entry(*action).or_default().push(number);
        }
    }
    held
}

/// The objects of a result that are there, each once, sorted.
fn present(entry: &Entry, there: &HashMap<Digest<Bytes>, &Object>) -> Vec<Digest<Bytes>> {
    let mut own: Vec<_> = entry
        .objects
        .iter()
        .filter(|digest| there.contains_key(*digest))
        .copied()
        .collect();
    own.sort_by_key(|digest| *digest.as_bytes());
    own.dedup();
    own
}

/// Lets units go one after the other until the size is reached.
fn remove(
    decision: &mut Decision,
    units: Vec<Unit>,
    needed: &mut HashMap<Digest<Bytes>, usize>,
    there: &HashMap<Digest<Bytes>, &Object>,
    max_size: Option<u64>,
) {
    decision.bytes_after = decision.bytes_before;
    let mut lost: HashSet<Digest<Bytes>> = HashSet::new();
    let mut going = Vec::new();
    for unit in units {
        if max_size.is_some_and(|size| decision.bytes_after <= size) {
            break;
        }
        let mut removed = Going {
            action: unit.action,
            objects: Vec::new(),
            bytes: 0,
            last: unit.last,
        };
        for digest in &unit.objects {
            let users = needed.entry(*digest).or_insert(1);
            *users = users.saturating_sub(1);
            if *users == 0 {
                removed.objects.push(*digest);
                removed.bytes += there[digest].size;
                lost.insert(*digest);
            }
        }
        decision.bytes_after -= removed.bytes;
        going.push((removed, unit.objects));
    }
    // A result whose objects all stay, because others have the same, stays as well.
    going.retain(|(_, objects)| objects.iter().any(|digest| lost.contains(digest)));
    decision.going = going.into_iter().map(|(removed, _)| removed).collect();
}

/// Which segments of the row memo go, by their numbers, so that the rest fits a budget: the longest unwritten first, and
/// none that was written within the grace.
pub fn over_budget(segments: &[Segment], budget: u64, now: SystemTime, grace: Duration) -> Vec<usize> {
    let mut bytes: u64 = segments.iter().map(|segment| segment.size).sum();
    let mut order: Vec<usize> = (0..segments.len()).collect();
    order.sort_by_key(|number| (segments[*number].written, &segments[*number].path));
    let mut going = Vec::new();
    for number in order {
        let segment = &segments[number];
        let old = now.duration_since(segment.written).is_ok_and(|since| since >= grace);
        if bytes > budget && old {
            bytes -= segment.size;
            going.push(number);
        }
    }
    going
}
