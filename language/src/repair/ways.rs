//! What a wrong parameter may have been meant to be, as far as its schema says it.

use fracture_stage::PathPart;
use serde_json::{Map, Value};

use super::{Shape, Sort, WAYS, Way, Wrong, get};
use crate::names::nearest;
use crate::tree::HOLE;

/// The ways to mend what is wrong, the likeliest first; the last is to leave it out.
pub fn of(with: &Value, wrong: &Wrong, shape: Shape<'_>) -> Vec<Way> {
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
