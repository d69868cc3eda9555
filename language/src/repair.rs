//! What may stand for parameters that are known to be wrong, so that the others can be checked all the same.
//!
//! What was meant is not known, so a wrong parameter is mended in several ways: with the name or the value that was probably
//! meant, with others that its schema takes, by leaving it out. What is wrong beside it counts only when it is wrong in
//! whatever way the parameter is mended; see `build/recover.rs`.

use fracture_stage::PathPart;
use serde_json::{Map, Value};

use crate::names::nearest;
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

/// Parameters that are mended, each in another way, and the places that are not to be looked at.
pub fn mended(with: &Value, wrong: &[Wrong], shape: Shape<'_>) -> (Vec<Value>, Vec<Place>) {
    let mut sorted: Vec<&Wrong> = wrong.iter().filter(|one| can_be_mended(one)).collect();
    // Items of a list from the last to the first, so that none moves before it is mended; what is inside before the whole.
    sorted.sort_by(|one, other| order(&other.place, &one.place));
    let ways: Vec<Vec<Way>> = sorted.iter().map(|one| ways(with, one, shape)).collect();
    let most = ways.iter().map(Vec::len).max().unwrap_or(1).min(WAYS);
    let mut found: Vec<Value> = Vec::new();
    let mut touched: Vec<Place> = Vec::new();
    for number in 0..most {
        let mut made = with.clone();
        for (one, ways) in sorted.iter().zip(&ways) {
            // The last way is to leave it out.
            let Some(way) = ways.get(number).or(ways.last()) else {
                continue;
            };
            touched.extend(apply(&mut made, &one.place, way));
        }
        if !found.contains(&made) {
            found.push(made);
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

fn ways(with: &Value, wrong: &Wrong, shape: Shape<'_>) -> Vec<Way> {
    let schemas = schemas(&wrong.place, shape);
    match wrong.sort {
        Sort::Key => {
            let Some((PathPart::Key(key), above)) = wrong.place.split_last() else {
                return vec![Way::Remove];
            };
            let taken = get(with, above).and_then(Value::as_object);
            let around = self::schemas(above, shape);
            let known: Vec<&str> = around
                .iter()
                .filter_map(|schema| schema.get("properties")?.as_object())
                .flat_map(Map::keys)
                .map(String::as_str)
                .collect();
            let meant = nearest(key, known).filter(|near| taken.is_some_and(|map| !map.contains_key(*near)));
            let rename = meant.map(|near| Way::Rename(near.to_owned()));
            rename.into_iter().chain([Way::Remove]).collect()
        }
        Sort::Lacks => {
            let taken = get(with, &wrong.place).and_then(Value::as_object);
            let schema = schemas.iter().find(|schema| schema.get("required").is_some());
            let required = schema.and_then(|schema| schema.get("required")?.as_array());
            let names = required.into_iter().flatten().filter_map(Value::as_str);
            let lacking: Vec<(String, Vec<Value>)> = names
                .filter(|name| taken.is_some_and(|map| !map.contains_key(*name)))
                .map(|name| {
                    let mut place = wrong.place.clone();
                    place.push(PathPart::Key(name.to_owned()));
                    (name.to_owned(), fillers(&self::schemas(&place, shape), None))
                })
                .collect();
            let most = lacking.iter().map(|(_, values)| values.len()).max().unwrap_or_default();
            let way = |number: usize| {
                let one = |(name, values): &(String, Vec<Value>)| {
                    let value = values.get(number).or(values.last())?;
                    Some((name.clone(), value.clone()))
                };
                Way::Insert(lacking.iter().filter_map(one).collect())
            };
            (0..most).map(way).collect()
        }
        Sort::Value => {
            let found = get(with, &wrong.place).filter(|value| value.as_str() != Some(HOLE));
            let replace = fillers(&schemas, found).into_iter().map(Way::Replace);
            replace.take(WAYS - 1).chain([Way::Remove]).collect()
        }
    }
}

/// Values that schemas take, first what was probably meant by `found`.
fn fillers(schemas: &[&Value], found: Option<&Value>) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for schema in schemas {
        let allowed: Vec<&Value> = match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
            (Some(only), _) => vec![only],
            (_, Some(all)) => all.iter().collect(),
            _ => Vec::new(),
        };
        let names = allowed.iter().filter_map(|one| one.as_str());
        let near = found.and_then(Value::as_str).and_then(|text| nearest(text, names));
        values.splice(0..0, near.map(Value::from));
        values.extend(allowed.into_iter().cloned());
        let kinds = match schema.get("type") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for kind in kinds.into_iter().filter(|_| schema.get("enum").is_none()) {
            match kind {
                "boolean" => values.extend([Value::Bool(true), Value::Bool(false)]),
                "integer" | "number" => values.extend(number(schema, found)),
                "string" => values.push(Value::from("x")),
                "array" => {
                    let scalar = found.filter(|one| !one.is_array() && !one.is_object() && !one.is_null());
                    values.extend(scalar.map(|one| Value::Array(vec![one.clone()])));
                    values.push(Value::Array(Vec::new()));
                }
                "object" => values.push(Value::Object(Map::new())),
                _ => {}
            }
        }
    }
    values
}

/// The number in the bounds that is nearest to what was found, else 1 or what is nearest to it.
fn number(schema: &Value, found: Option<&Value>) -> Option<Value> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let wanted = found.and_then(Value::as_f64).unwrap_or(1.0);
    let (least, most) = (bound("minimum"), bound("maximum"));
    let (above, below) = (bound("exclusiveMinimum"), bound("exclusiveMaximum"));
    let mut value = least.map_or(wanted, |least| wanted.max(least));
    value = most.map_or(value, |most| value.min(most));
    if above.is_some_and(|above| value <= above) || below.is_some_and(|below| value >= below) {
        value = match (above, below) {
            (Some(above), Some(below)) => f64::midpoint(above, below),
            (Some(above), None) => above + 1.0,
            (None, Some(below)) => below - 1.0,
            (None, None) => value,
        };
    }
    // A bound of a whole number is written as one.
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return Some(Value::from(value as i64));
    }
    serde_json::Number::from_f64(value).map(Value::Number)
}

/// What a schema says of a place; several where there are alternatives.
fn schemas<'a>(place: &[PathPart], shape: Shape<'a>) -> Vec<&'a Value> {
    let place = match place {
        [PathPart::Key(cases), _, _, rest @ ..] if shape.cases && cases == "cases" => rest,
        place => place,
    };
    let mut found = spread(shape.schema, shape.schema, 0);
    for part in place {
        let below = |schema: &&'a Value| -> Option<&'a Value> {
            match part {
                PathPart::Key(key) => schema
                    .get("properties")
                    .and_then(|all| all.get(key))
                    .or_else(|| schema.get("additionalProperties").filter(|one| one.is_object())),
                PathPart::Index(index) => schema
                    .get("prefixItems")
                    .and_then(|all| all.get(index))
                    .or_else(|| schema.get("items")),
            }
        };
        let next: Vec<&Value> = found.iter().filter_map(below).collect();
        found = next.into_iter().flat_map(|one| spread(one, shape.schema, 0)).collect();
    }
    found
}

/// A schema with its references followed and its alternatives side by side.
fn spread<'a>(schema: &'a Value, root: &'a Value, depth: usize) -> Vec<&'a Value> {
    if depth > 8 {
        return Vec::new();
    }
    let target = schema.get("$ref").and_then(Value::as_str);
    if let Some(target) = target.and_then(|to| root.pointer(to.strip_prefix('#')?)) {
        return spread(target, root, depth + 1);
    }
    let branches = ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|name| schema.get(*name)?.as_array());
    let branches = branches.flatten().flat_map(|branch| spread(branch, root, depth + 1));
    std::iter::once(schema).chain(branches).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(keys: &[&str]) -> Place {
        keys.iter().map(|key| PathPart::Key((*key).to_owned())).collect()
    }

    #[test]
    fn a_wrong_parameter_is_mended_in_several_ways() {
        let schema = json!({"properties": {
            "limit": {"type": "integer", "minimum": 1},
            "plot": {"enum": ["bars", "table"]},
            "by": {"type": ["array", "null"], "items": {"type": "string"}},
        }});
        let shape = Shape {
            schema: &schema,
            cases: false,
        };
        let with = |with: Value, wrong: Wrong| mended(&with, &[wrong], shape).0;
        let key = Wrong {
            place: place(&["limti"]),
            sort: Sort::Key,
        };
        assert_eq!(with(json!({"limti": 3}), key), [json!({"limit": 3}), json!({})]);
        let low = Wrong::value(&place(&["limit"]));
        assert_eq!(with(json!({"limit": 0}), low), [json!({"limit": 1}), json!({})]);
        let near = Wrong::value(&place(&["plot"]));
        assert_eq!(with(json!({"plot": "brs"}), near)[0], json!({"plot": "bars"}));
        let list = Wrong::value(&place(&["by"]));
        let lists = with(json!({"by": "axis"}), list);
        assert_eq!(lists, [json!({"by": ["axis"]}), json!({"by": []}), json!({})]);
    }

    #[test]
    fn items_are_left_out_from_the_last_to_the_first() {
        let item = |index| Wrong::value(&[place(&["by"]), vec![PathPart::Index(index)]].concat());
        let shape = Shape {
            schema: &json!({}),
            cases: false,
        };
        let (made, touched) = mended(&json!({"by": [1, "a", 2]}), &[item(0), item(2)], shape);
        assert_eq!(made, [json!({"by": ["a"]})]);
        assert!(touched.iter().all(|one| *one == place(&["by"])));
    }

    #[test]
    fn what_is_not_there_is_left_out_with_what_is_around_it() {
        let with = json!({"pools": {"a": {"path": "p"}, "b": {}}});
        let (made, gone) = without(&with, &place(&["pools", "a", "path"])).unwrap_or_default();
        assert_eq!((made, gone.len()), (json!({"pools": {"a": {}, "b": {}}}), 3));
        let (made, gone) = without(&with, &place(&["pools", "b", "path"])).unwrap_or_default();
        assert_eq!((made, gone.len()), (json!({"pools": {"a": {"path": "p"}}}), 2));
        assert!(without(&with, &[]).is_none());
    }
}
