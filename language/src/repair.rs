//! What may stand for parameters that are known to be wrong, so that the others can be checked all the same.
//!
//! What was meant is not known, so a wrong parameter is mended in several ways: with the name or the value that was probably
//! meant, with others that its schema takes, by leaving it out. What is wrong beside it counts only when it is wrong in
//! whatever way the parameter is mended; see `build/recover.rs`.

mod ways;

#[cfg(test)]
mod tests;

use fracture_stage::PathPart;
use serde_json::Value;

use crate::tree::HOLE;
use crate::validate::Violation;

/// A path into parameters.
pub type Place = Vec<PathPart>;

/// Of the ways to mend a parameter, so many are tried.
const WAYS: usize = 6;

/// What is wrong at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The key is none.
    Key,
    /// Keys of the map are missing.
    Lacks,
    /// The value.
    Value,
}

/// A parameter that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Where.
    pub place: Place,
    /// What about it.
    pub sort: Sort,
}

impl Wrong {
    /// A wrong value.
    pub fn value(place: &[PathPart]) -> Self {
        Self {
            place: place.to_vec(),
            sort: Sort::Value,
        }
    }

    /// What does not fit the schema.
    pub fn violation(violation: &Violation) -> Self {
        let sort = match violation.key {
            true if violation.message.starts_with("unknown") => Sort::Key,
            true if violation.message.ends_with("is missing") => Sort::Lacks,
            _ => Sort::Value,
        };
        Self {
            place: violation.path.clone(),
            sort,
        }
    }
}

/// A way to mend.
#[derive(Debug, Clone, PartialEq)]
enum Way {
    Remove,
    Rename(String),
    Replace(Value),
    Insert(Vec<(String, Value)>),
}

/// The schema of a kind's parameters.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    /// The whole schema.
    pub schema: &'a Value,
    /// Whether `cases` holds parameters again.
    pub cases: bool,
}

/// Parameters that are mended, each in another way (and whether it is by leaving out what is wrong), and the places that are
/// not to be looked at.
pub fn mended(with: &Value, wrong: &[Wrong], shape: Shape<'_>) -> (Vec<(Value, bool)>, Vec<Place>) {
    let mut sorted: Vec<&Wrong> = wrong.iter().filter(|one| can_be_mended(one)).collect();
    // Items of a list from the last to the first, so that none moves before it is mended; what is inside before the whole.
    sorted.sort_by(|one, other| order(&other.place, &one.place));
    let ways: Vec<Vec<Way>> = sorted.iter().map(|one| ways::of(with, one, shape)).collect();
    let most = ways.iter().map(Vec::len).max().unwrap_or(1).min(WAYS);
    let mut found: Vec<(Value, bool)> = Vec::new();
    let mut touched: Vec<Place> = Vec::new();
    for number in 0..most {
        let mut made = with.clone();
        let mut removed = true;
        for (one, ways) in sorted.iter().zip(&ways) {
            // The last way is to leave it out.
            let Some(way) = ways.get(number).or(ways.last()) else {
                continue;
            };
            removed &= *way == Way::Remove;
            touched.extend(apply(&mut made, &one.place, way));
        }
        if !found.iter().any(|(other, _)| *other == made) {
            found.push((made, removed));
        }
    }
    touched.extend(wrong.iter().map(|one| seen(&one.place)));
    (found, touched)
}

/// The parameters without what is at a place; without what is around it when nothing is there. `None` when that is all.
pub fn without(with: &Value, place: &[PathPart]) -> Option<(Value, Place)> {
    let mut made = with.clone();
    let there = (1..=place.len())
        .rev()
        .map(|length| &place[..length])
        .find(|part| get(with, part).is_some())?;
    apply(&mut made, there, &Way::Remove);
    Some((made, seen(there)))
}

/// Whether two places have to do with each other: one is inside the other.
pub fn touch(one: &[PathPart], other: &[PathPart]) -> bool {
    one.iter().zip(other).all(|(a, b)| a == b)
}

/// The places of what is not known.
pub fn holes(with: &Value) -> Vec<Place> {
    texts(with, HOLE)
}

/// The places of a text.
pub fn texts(with: &Value, text: &str) -> Vec<Place> {
    fn collect(value: &Value, text: &str, path: &mut Place, found: &mut Vec<Place>) {
        let mut below = |part: PathPart, value: &Value| {
            path.push(part);
            collect(value, text, path, found);
            path.pop();
        };
        match value {
            Value::String(one) if one == text => found.push(path.clone()),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    below(PathPart::Index(index), item);
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    below(PathPart::Key(key.clone()), value);
                }
            }
            _ => {}
        }
    }
    fn holds(value: &Value, text: &str) -> bool {
        match value {
            Value::String(one) => one == text,
            Value::Array(items) => items.iter().any(|item| holds(item, text)),
            Value::Object(map) => map.values().any(|value| holds(value, text)),
            _ => false,
        }
    }
    let mut found = Vec::new();
    // This is asked of every task; nothing is allocated for those without.
    if holds(with, text) {
        collect(with, text, &mut Vec::new(), &mut found);
    }
    found
}

/// What a place leads to.
pub fn get<'v>(value: &'v Value, place: &[PathPart]) -> Option<&'v Value> {
    place.iter().try_fold(value, |value, part| match part {
        PathPart::Key(key) => value.get(key),
        PathPart::Index(index) => value.get(index),
    })
}

/// The whole of the parameters can not be mended, but what they lack can be put in.
fn can_be_mended(wrong: &Wrong) -> bool {
    !wrong.place.is_empty() || wrong.sort == Sort::Lacks
}

/// The place around a change in which other places may mean something else than they did: a list moves when an item is
/// left out.
fn seen(place: &[PathPart]) -> Place {
    match place.split_last() {
        Some((PathPart::Index(_), list)) => list.to_vec(),
        _ => place.to_vec(),
    }
}

fn order(one: &[PathPart], other: &[PathPart]) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    for (a, b) in one.iter().zip(other) {
        let found = match (a, b) {
            (PathPart::Index(a), PathPart::Index(b)) => a.cmp(b),
            (PathPart::Key(a), PathPart::Key(b)) => a.cmp(b),
            (PathPart::Index(_), PathPart::Key(_)) => Ordering::Less,
            (PathPart::Key(_), PathPart::Index(_)) => Ordering::Greater,
        };
        if found != Ordering::Equal {
            return found;
        }
    }
    one.len().cmp(&other.len())
}

/// Mends a place; the places that mean something else by then.
fn apply(with: &mut Value, place: &[PathPart], way: &Way) -> Vec<Place> {
    if let Way::Insert(entries) = way {
        let Some(map) = place.iter().try_fold(with, step).and_then(|at| at.as_object_mut()) else {
            return Vec::new();
        };
        let mut touched = Vec::new();
        for (name, value) in entries {
            map.insert(name.clone(), value.clone());
            touched.push([place, &[PathPart::Key(name.clone())]].concat());
        }
        return touched;
    }
    let Some((last, above)) = place.split_last() else {
        return Vec::new();
    };
    let Some(around) = above.iter().try_fold(with, step) else {
        return Vec::new();
    };
    match (around, last, way) {
        (Value::Object(map), PathPart::Key(key), Way::Remove) => {
            map.remove(key);
        }
        (Value::Array(items), PathPart::Index(index), Way::Remove) if *index < items.len() => {
            items.remove(*index);
        }
        (Value::Object(map), PathPart::Key(key), Way::Rename(name)) => {
            if let Some(value) = map.remove(key) {
                map.insert(name.clone(), value);
            }
            return vec![[above, &[PathPart::Key(name.clone())]].concat()];
        }
        (around, last, Way::Replace(value)) => {
            if let Some(at) = step(around, last) {
                *at = value.clone();
            }
        }
        _ => {}
    }
    Vec::new()
}

fn step<'v>(value: &'v mut Value, part: &PathPart) -> Option<&'v mut Value> {
    match part {
        PathPart::Key(key) => value.get_mut(key),
        PathPart::Index(index) => value.get_mut(index),
    }
}
