//! Checks a JSON value against a JSON Schema and reports everything that does not fit, in words for people.
//!
//! It knows what schemars writes for parameter types: `$ref`, `properties`, `additionalProperties`, `required`, `items`,
//! `prefixItems`, `enum`, `const`, bounds, and `anyOf`/`oneOf`/`allOf` for options and enums.

use fracture_stage::PathPart;
use serde_json::{Map, Value};

use crate::names::{listing, suggestion};
use crate::tree::{HOLE, found};

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub path: Vec<PathPart>,
    /// Whether it is the key at the end of the path that is wrong, not its value.
    pub key: bool,
    /// What is wrong.
    pub message: String,
    /// What to say at the place.
    pub label: String,
}

/// Checks against schemas.
#[derive(Clone, Copy)]
pub struct Validator<'a> {
    /// The whole schema, for `$ref`.
    pub root: &'a Value,
    /// Required keys may be absent and anything may be null: for parts that are merged over others.
    pub partial: bool,
}

impl<'a> Validator<'a> {
    /// Everything that does not fit.
    pub fn check(&self, value: &Value) -> Vec<Violation> {
        self.check_at(value, self.root, &mut Vec::new())
    }

    /// Everything that does not fit a part of the schema.
    pub fn check_at(&self, value: &Value, schema: &'a Value, path: &mut Vec<PathPart>) -> Vec<Violation> {
        if value.as_str() == Some(HOLE) || (self.partial && value.is_null()) {
            return Vec::new();
        }
        let schema = self.resolve(schema);
        let Value::Object(schema) = schema else {
            // `false` accepts nothing, `true` everything.
            let refused = *schema == Value::Bool(false);
            return refused
                .then(|| violation(path, "nothing is allowed here".into(), String::new()))
                .into_iter()
                .collect();
        };
        if let Some(wrong) = self
            .constant(value, schema, path)
            .or_else(|| self.type_of(value, schema, path))
        {
            return vec![wrong];
        }
        let mut wrong = Vec::new();
        for part in list(schema.get("allOf")) {
            wrong.extend(self.check_at(value, part, path));
        }
        for alternatives in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = schema.get(alternatives) {
                wrong.extend(self.alternatives(value, branches, path));
            }
        }
        match value {
            Value::Object(map) => self.object(map, schema, path, &mut wrong),
            Value::Array(items) => self.array(items, schema, path, &mut wrong),
            Value::Number(number) => wrong.extend(bounds(number, schema, path)),
            Value::String(text) => wrong.extend(length(text, schema, path)),
            _ => {}
        }
        wrong
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        for _ in 0..16 {
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
                return schema;
            };
            let Some(target) = reference
                .strip_prefix('#')
                .and_then(|pointer| self.root.pointer(pointer))
            else {
                return schema;
            };
            schema = target;
        }
        schema
    }

    fn constant(&self, value: &Value, schema: &Map<String, Value>, path: &[PathPart]) -> Option<Violation> {
        let allowed: Vec<&Value> = match (schema.get("const"), schema.get("enum")) {
            (Some(only), _) => vec![only],
            (_, Some(Value::Array(all))) => all.iter().collect(),
            _ => return None,
        };
        (!allowed.contains(&value)).then(|| not_one_of(value, &allowed, path))
    }

    fn type_of(&self, value: &Value, schema: &Map<String, Value>, path: &[PathPart]) -> Option<Violation> {
        let allowed = types(schema)?;
        let fits = allowed.iter().any(|kind| is_type(value, kind));
        (!fits).then(|| wrong_type(value, &self.describe_types(&allowed), path))
    }

    fn object(
        &self,
        map: &Map<String, Value>,
        schema: &'a Map<String, Value>,
        path: &mut Vec<PathPart>,
        wrong: &mut Vec<Violation>,
    ) {
        let properties = schema.get("properties").and_then(Value::as_object);
        for (key, value) in map {
            path.push(PathPart::Key(key.clone()));
            match (
                properties.and_then(|all| all.get(key)),
                schema.get("additionalProperties"),
            ) {
                (Some(property), _) => wrong.extend(self.check_at(value, property, path)),
                (None, Some(Value::Bool(false))) => {
                    let known = properties.into_iter().flatten().map(|(name, _)| name.as_str());
                    let label = suggestion(key, known, "known keys");
                    wrong.push(Violation {
                        key: true,
                        ..violation(path, format!("unknown key `{key}`"), label)
                    });
                }
                (None, Some(other)) => wrong.extend(self.check_at(value, other, path)),
                (None, None) => {}
            }
            path.pop();
        }
        if self.partial {
            return;
        }
        for name in list(schema.get("required")).filter_map(Value::as_str) {
            if !map.contains_key(name) {
                let message = format!("the key `{name}` is missing");
                let label = match properties.and_then(|all| all.get(name)) {
                    Some(property) => format!("expected `{name}:` with {}", self.describe(property)),
                    None => format!("expected `{name}:`"),
                };
                wrong.push(Violation {
                    key: true,
                    ..violation(path, message, label)
                });
            }
        }
    }

    fn array(
        &self,
        items: &[Value],
        schema: &'a Map<String, Value>,
        path: &mut Vec<PathPart>,
        wrong: &mut Vec<Violation>,
    ) {
        let prefix: Vec<&Value> = list(schema.get("prefixItems")).collect();
        for (index, item) in items.iter().enumerate() {
            path.push(PathPart::Index(index));
            if let Some(schema) = prefix.get(index).copied().or_else(|| schema.get("items")) {
                wrong.extend(self.check_at(item, schema, path));
            }
            path.pop();
        }
        let bound = |name| schema.get(name).and_then(Value::as_u64).map(|bound| bound as usize);
        if bound("minItems").is_some_and(|least| items.len() < least)
            || bound("maxItems").is_some_and(|most| items.len() > most)
        {
            let expected = match (bound("minItems"), bound("maxItems")) {
                (Some(least), Some(most)) if least == most => format!("{least}"),
                (Some(least), None) => format!("at least {least}"),
                (None, Some(most)) => format!("at most {most}"),
                (least, most) => format!("{} to {}", least.unwrap_or_default(), most.unwrap_or_default()),
            };
            let message = format!("a list of {} where {expected} are expected", items.len());
            wrong.push(violation(path, message, format!("expected {expected}")));
        }
    }

    /// What is wrong with the alternative that was most likely meant.
    fn alternatives(&self, value: &Value, branches: &'a [Value], path: &mut Vec<PathPart>) -> Vec<Violation> {
        let mut closest: Option<(usize, Vec<Violation>)> = None;
        for branch in branches {
            let found = self.check_at(value, branch, path);
            if found.is_empty() {
                return found;
            }
            // An error of the value itself says that another alternative was meant; one inside says that this one was.
            let outside = found
                .iter()
                .filter(|one| one.path.len() == path.len() && !one.key)
                .count();
            let rank = outside * 1000 + found.len();
            if closest.as_ref().is_none_or(|(least, _)| rank < *least) {
                closest = Some((rank, found));
            }
        }
        match closest {
            Some((rank, found)) if rank < 1000 => found,
            _ => {
                let constants: Vec<&Value> = branches.iter().flat_map(|branch| self.constants(branch)).collect();
                let only_texts = value.is_string() && !constants.is_empty();
                if only_texts || (!constants.is_empty() && constants.len() >= branches.len()) {
                    return vec![not_one_of(value, &constants, path)];
                }
                let mut expected: Vec<String> = branches
                    .iter()
                    .map(|branch| self.describe(branch))
                    .filter(|one| one != "nothing")
                    .collect();
                expected.dedup();
                vec![wrong_type(value, &expected.join(" or "), path)]
            }
        }
    }

    fn constants(&self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolve(schema);
        match (
            schema.get("const"),
            schema.get("enum"),
            schema.get("oneOf").or_else(|| schema.get("anyOf")),
        ) {
            (Some(only), ..) => vec![only],
            (_, Some(Value::Array(all)), _) => all.iter().collect(),
            (.., Some(Value::Array(branches))) => branches.iter().flat_map(|branch| self.constants(branch)).collect(),
            _ => Vec::new(),
        }
    }

    /// What a schema accepts, in words.
    pub fn describe(&self, schema: &'a Value) -> String {
        let schema = self.resolve(schema);
        let constants = self.constants(schema);
        if !constants.is_empty() {
            let any = if constants.len() > 1 { "one of " } else { "" };
            return format!("{any}{}", alternatives_text(&constants));
        }
        let Value::Object(map) = schema else {
            return "any value".to_owned();
        };
        if let Some(allowed) = types(map) {
            return self.describe_types(&allowed);
        }
        let branches = list(map.get("anyOf").or_else(|| map.get("oneOf")));
        let mut words: Vec<String> = branches
            .map(|branch| self.describe(branch))
            .filter(|one| one != "nothing")
            .collect();
        words.dedup();
        if words.is_empty() {
            "a value".to_owned()
        } else {
            words.join(" or ")
        }
    }

    fn describe_types(&self, allowed: &[&str]) -> String {
        let words = allowed
            .iter()
            .filter(|kind| **kind != "null" || allowed.len() == 1)
            .map(|kind| match *kind {
                "string" => "a text",
                "integer" => "a whole number",
                "number" => "a number",
                "boolean" => "`true` or `false`",
                "array" => "a list",
                "object" => "a map",
                "null" => "nothing",
                other => other,
            });
        words.collect::<Vec<_>>().join(" or ")
    }
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn types(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(all) => Some(all.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn is_type(value: &Value, kind: &str) -> bool {
    match (value, kind) {
        (Value::Null, "null") | (Value::Bool(_), "boolean") | (Value::String(_), "string") => true,
        (Value::Array(_), "array") | (Value::Object(_), "object") | (Value::Number(_), "number") => true,
        // serde reads 4.0 into no integer, so it is none here either.
        (Value::Number(number), "integer") => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

fn bounds(number: &serde_json::Number, schema: &Map<String, Value>, path: &[PathPart]) -> Option<Violation> {
    let value = number.as_f64()?;
    let bound = |name| schema.get(name).and_then(Value::as_f64);
    let outside = bound("minimum").is_some_and(|least| value < least)
        || bound("exclusiveMinimum").is_some_and(|least| value <= least)
        || bound("maximum").is_some_and(|most| value > most)
        || bound("exclusiveMaximum").is_some_and(|most| value >= most);
    if !outside {
        return None;
    }
    let least = bound("minimum")
        .map(|least| format!("at least {least}"))
        .or(bound("exclusiveMinimum").map(|least| format!("above {least}")));
    let most = bound("maximum")
        .map(|most| format!("at most {most}"))
        .or(bound("exclusiveMaximum").map(|most| format!("below {most}")));
    let expected = [least, most].into_iter().flatten().collect::<Vec<_>>().join(" and ");
    Some(violation(
        path,
        format!("{}{number} is out of range", subject(path)),
        format!("expected {expected}"),
    ))
}

fn length(text: &str, schema: &Map<String, Value>, path: &[PathPart]) -> Option<Violation> {
    let least = schema.get("minLength").and_then(Value::as_u64)?;
    let short = (text.chars().count() as u64) < least;
    short.then(|| {
        violation(
            path,
            format!("{}a text is too short", subject(path)),
            format!("expected at least {least} characters"),
        )
    })
}

fn not_one_of(value: &Value, allowed: &[&Value], path: &[PathPart]) -> Violation {
    let names: Vec<&str> = allowed.iter().filter_map(|one| one.as_str()).collect();
    let near = value
        .as_str()
        .and_then(|text| crate::names::nearest(text, names.iter().copied()));
    let label = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected {}", alternatives_text(allowed)),
    };
    violation(
        path,
        format!(
            "{}found {}, expected {}",
            subject(path),
            found(value),
            alternatives_text(allowed)
        ),
        label,
    )
}

fn alternatives_text(allowed: &[&Value]) -> String {
    let words: Vec<String> = allowed
        .iter()
        .filter(|one| !one.is_null())
        .map(|one| crate::tree::compact(one))
        .collect();
    listing(words.iter().map(String::as_str)).replace(" and `", " or `")
}

fn wrong_type(value: &Value, expected: &str, path: &[PathPart]) -> Violation {
    violation(
        path,
        format!("{}found {}, expected {expected}", subject(path), found(value)),
        format!("expected {expected}"),
    )
}

/// `top_p: ` for a value with a key.
fn subject(path: &[PathPart]) -> String {
    let key = path.iter().rev().find_map(|part| match part {
        PathPart::Key(key) => Some(key),
        PathPart::Index(_) => None,
    });
    key.map(|key| format!("`{key}`: ")).unwrap_or_default()
}

fn violation(path: &[PathPart], message: String, label: String) -> Violation {
    Violation {
        path: path.to_vec(),
        key: false,
        message,
        label,
    }
}
