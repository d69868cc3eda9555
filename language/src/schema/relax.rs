//! The schema of types as an editor needs it: substitutions, `x-` keys, and `null`, which removes.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The same schema where a substitution may stand for any value, and `x-` keys beside any others.
pub fn relaxed(value: Value, file: bool) -> Value {
    let Value::Object(map) = value else { return value };
    let mut map: Map<String, Value> = map
        .into_iter()
        .map(|(key, value)| match (key.as_str(), value) {
            ("properties" | "$defs" | "patternProperties", Value::Object(all)) => (
                key,
                Value::Object(all.into_iter().map(|(name, one)| (name, relaxed(one, file))).collect()),
            ),
            // `null` removes an entry that an included file or the pipeline itself has.
            ("additionalProperties", value @ Value::Object(_)) => {
                (key, json!({ "anyOf": [relaxed(value, file), { "type": "null" }] }))
            }
            ("items" | "additionalProperties", value) => (key, relaxed(value, file)),
            // A substitution fits every one of several values, so none can be the only one.
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(all)) => (
                if key == "oneOf" { "anyOf".to_owned() } else { key },
                Value::Array(all.into_iter().map(|one| relaxed(one, file)).collect()),
            ),
            (_, value) => (key, value),
        })
        .collect();
    if map.get("additionalProperties") == Some(&Value::Bool(false)) {
        map.entry("patternProperties").or_insert_with(|| json!({ "^x-": {} }));
    }
    // Of what may be left out, which may be a map.
    if let Some(Value::Array(all)) = map.get_mut("anyOf")
        && all.contains(&json!({ "type": "null" }))
        && !file
    {
        all.push(substitution());
    }
    // Where a text of any sort fits, a substitution does.
    let constrained = ["enum", "const", "pattern", "minLength", "format"]
        .iter()
        .any(|key| map.contains_key(*key));
    let takes_text = |kind: &Value| kind == "string" && (file || !constrained);
    let is_leaf = match map.get("type") {
        Some(Value::String(kind)) if kind == "object" || kind == "null" => false,
        Some(kind @ Value::String(_)) => !takes_text(kind),
        Some(Value::Array(kinds)) => !kinds.iter().any(takes_text),
        Some(_) => false,
        None => map.contains_key("enum") || map.contains_key("const") && !file,
    };
    if !is_leaf || map.contains_key("$schema") {
        return Value::Object(map);
    }
    // What an editor shows stands beside the alternatives.
    let told: Vec<(String, Value)> = ["description", "default"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), map.remove(*key)?)))
        .collect();
    let mut either = json!({ "anyOf": [Value::Object(map), substitution()] });
    if let Value::Object(either) = &mut either {
        either.extend(told);
    }
    either
}

/// A text that is a substitution, or holds one.
pub fn substitution() -> Value {
    json!({ "type": "string", "pattern": "\\$\\{.+\\}" })
}

/// Lets an entry of a map be removed by `null` without an alternative beside its type: an editor then says what is wrong with
/// an entry instead of that nothing fits.
pub fn nullable_entries(schema: &mut Value) {
    let mut named = BTreeSet::new();
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    simplify(schema, &definitions, &mut named);
    for name in named {
        if let Some(kind) = schema["$defs"].get_mut(&name).and_then(|one| one.get_mut("type")) {
            *kind = json!(["object", "null"]);
        }
    }
}

fn simplify(value: &mut Value, definitions: &Value, named: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(entry) = map.get_mut("additionalProperties") {
                let either = entry.get("anyOf").and_then(Value::as_array);
                if let Some([one, other]) = either.map(Vec::as_slice)
                    && *other == json!({ "type": "null" })
                {
                    let mut one = one.clone();
                    let name = one.get("$ref").and_then(Value::as_str);
                    let name = name.and_then(|name| name.strip_prefix("#/$defs/")).map(str::to_owned);
                    let is_map = |one: &Value| one.get("type") == Some(&json!("object"));
                    match name {
                        Some(name) if definitions.get(&name).is_some_and(is_map) => {
                            named.insert(name);
                            *entry = one;
                        }
                        None if is_map(&one) => {
                            one["type"] = json!(["object", "null"]);
                            *entry = one;
                        }
                        _ => {}
                    }
                }
            }
            map.values_mut().for_each(|value| simplify(value, definitions, named));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| simplify(item, definitions, named)),
        _ => {}
    }
}
