//! The JSON Schema of a pipeline file, for editors: from the types of the file and of every stage kind.

use fracture_stage::Declaration;
use serde_json::{Map, Value, json};

use crate::spec::Spec;

/// The schema of a whole file.
pub fn json_schema(catalogue: &[Declaration]) -> Value {
    let mut schema = relaxed(schemars::schema_for!(Spec).to_value(), true);
    let mut definitions = match schema.get_mut("$defs").map(Value::take) {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    let stages: Vec<&Declaration> = catalogue.iter().filter(|kind| kind.name != "figure").collect();
    for kind in catalogue {
        let mut own = Map::new();
        let parameters = parameters(kind, &mut own);
        definitions.insert(format!("with-{}", kind.name), parameters);
        definitions.extend(own);
    }
    if let Some(Value::Object(stage)) = definitions.get_mut("StageEntry") {
        let names: Vec<&str> = stages.iter().map(|kind| kind.name).collect();
        stage["properties"]["uses"] = json!({ "description": "The stage kind.", "enum": names });
        let with = |kind: &&Declaration| {
            json!({
                "if": { "properties": { "uses": { "const": kind.name } }, "required": ["uses"] },
                "then": { "properties": { "with": { "$ref": format!("#/$defs/with-{}", kind.name) } } },
            })
        };
        stage.insert("allOf".to_owned(), Value::Array(stages.iter().map(with).collect()));
    }
    if let Value::Object(map) = &mut schema {
        map.insert("title".to_owned(), json!("fracture pipeline"));
        map.insert("$defs".to_owned(), Value::Object(definitions));
        map.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
    }
    schema
}

/// The parameters of a kind with its definitions under names of their own.
fn parameters(kind: &Declaration, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = relaxed((kind.parameters)(), false);
    let prefix = format!("{}-", kind.name);
    if let Some(Value::Object(own)) = schema.as_object_mut().and_then(|map| map.remove("$defs")) {
        definitions.extend(
            own.into_iter()
                .map(|(name, one)| (format!("{prefix}{name}"), renamed(one, &prefix))),
        );
    }
    let mut schema = renamed(schema, &prefix);
    if let Value::Object(map) = &mut schema {
        map.remove("$schema");
        map.remove("title");
        // Parameters may come from `defaults`, so none is required here.
        map.remove("required");
        map.insert("description".to_owned(), json!(kind.summary));
        if let Some(Value::Object(properties)) = map.get_mut("properties").filter(|_| kind.cases) {
            let cases = json!({ "type": "object", "description": "Other parameters for some rows: COLUMN: VALUE: parameters." });
            properties.entry("cases").or_insert(cases);
        }
    }
    schema
}

fn renamed(value: Value, prefix: &str) -> Value {
    match value {
        Value::Object(map) => {
            let entry = |(key, value): (String, Value)| match &value {
                Value::String(text) if key == "$ref" => {
                    let moved = text.replacen("#/$defs/", &format!("#/$defs/{prefix}"), 1);
                    (key, Value::String(moved))
                }
                _ => (key, renamed(value, prefix)),
            };
            Value::Object(map.into_iter().map(entry).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| renamed(item, prefix)).collect()),
        other => other,
    }
}

/// The same schema where a substitution may stand for any value, and `x-` keys beside any others.
fn relaxed(value: Value, file: bool) -> Value {
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
    let is_leaf = match map.get("type") {
        Some(Value::String(kind)) if kind == "string" => {
            !file && (map.contains_key("enum") || map.contains_key("const"))
        }
        Some(Value::String(kind)) => kind != "object",
        Some(_) => true,
        None => map.contains_key("enum") || map.contains_key("const") && !file,
    };
    if !is_leaf || map.contains_key("$schema") {
        return Value::Object(map);
    }
    let description = map.remove("description");
    let substitution = json!({ "type": "string", "pattern": "\\$\\{.+\\}" });
    let mut either = json!({ "anyOf": [Value::Object(map), substitution] });
    if let (Some(description), Value::Object(either)) = (description, &mut either) {
        either.insert("description".to_owned(), description);
    }
    either
}
