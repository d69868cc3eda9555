//! The JSON Schema of a pipeline file, for editors: from the types of the file and of every stage kind.

mod relax;

use fracture_stage::{Declaration, Shape};
use serde_json::{Map, Value, json};

use crate::spec::Spec;
use relax::{nullable_entries, relaxed, substitution};

/// What a name of a variable, a model, a stage or a figure looks like.
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";

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
    let mut required = Map::new();
    for (section, name) in [
        ("models", "ModelEntry"),
        ("stages", "StageEntry"),
        ("figures", "FigureEntry"),
    ] {
        if let Some(Value::Object(entry)) = definitions.get_mut(name) {
            let needed = entry.remove("required").unwrap_or_else(|| json!([]));
            let entries = json!({ "additionalProperties": { "required": needed }, "patternProperties": { "^x-": {} } });
            required.insert(section.to_owned(), entries);
        }
    }
    if let Some(Value::Object(stage)) = definitions.get_mut("StageEntry") {
        stage_entry(stage, &stages);
    }
    figure_entry(&mut definitions);
    if let Value::Object(map) = &mut schema {
        map.insert("title".to_owned(), json!("fracture pipeline"));
        map.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            sections(properties, &stages, &mut definitions);
        }
        // A file that builds on another one may say a part of an entry.
        let whole = json!({ "properties": required, "required": ["stages"] });
        map.insert("if".to_owned(), json!({ "not": { "required": ["include"] } }));
        map.insert("then".to_owned(), whole);
        map.insert("$defs".to_owned(), Value::Object(definitions));
    }
    nullable_entries(&mut schema);
    schema
}

/// What a stage of each kind may say.
fn stage_entry(stage: &mut Map<String, Value>, kinds: &[&Declaration]) {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    if let Some(Value::Object(properties)) = stage.get_mut("properties") {
        properties.insert(
            "uses".to_owned(),
            json!({ "description": "The stage kind.", "enum": names }),
        );
        // It comes later, and is refused until then.
        properties.remove("executor");
    }
    let of_kind = |kind: &&Declaration| {
        let mut then = json!({ "with": { "$ref": format!("#/$defs/with-{}", kind.name) } });
        let nothing = json!({ "type": "null" });
        if kind.shape != Shape::Reduce {
            then["per"] = nothing.clone();
        }
        if !(kind.parameters)()["properties"]["timeout"].is_object() {
            then["timeout"] = nothing.clone();
        }
        if !kind.any_ports {
            let ports: Vec<&str> = kind.ports.iter().map(|port| port.name).collect();
            then["needs"] = match ports.is_empty() {
                true => nothing,
                false => json!({ "propertyNames": { "anyOf": [{ "enum": ports }, { "pattern": "^x-" }] } }),
            };
        }
        json!({
            "if": { "properties": { "uses": { "const": kind.name } }, "required": ["uses"] },
            "then": { "properties": then },
        })
    };
    stage.insert("allOf".to_owned(), Value::Array(kinds.iter().map(of_kind).collect()));
}

/// A figure says beside its parameters where its tables come from.
fn figure_entry(definitions: &mut Map<String, Value>) {
    let Some(Value::Object(own)) = definitions
        .get("with-figure")
        .and_then(|with| with.get("properties"))
        .cloned()
    else {
        return;
    };
    let Some(Value::Object(figure)) = definitions.get_mut("FigureEntry") else {
        return;
    };
    if let Some(Value::Object(properties)) = figure.get_mut("properties") {
        for (name, parameter) in own.into_iter().filter(|(name, _)| name != "name") {
            properties.insert(name, parameter);
        }
        let text = json!({ "type": "string", "description": "What it shows." });
        properties.insert("description".to_owned(), text);
    }
    figure.insert("additionalProperties".to_owned(), Value::Bool(false));
    figure.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
    definitions.remove("with-figure");
}

/// The names of what the file defines, parameters by kind, and profiles, which say parts of the same.
fn sections(properties: &mut Map<String, Value>, kinds: &[&Declaration], definitions: &mut Map<String, Value>) {
    properties.remove("executors");
    for section in ["vars", "models", "stages", "figures", "defaults", "profiles"] {
        if let Some(Value::Object(map)) = properties.get_mut(section) {
            map.insert("propertyNames".to_owned(), json!({ "pattern": NAME }));
            // A section without content is an empty one.
            map.insert("type".to_owned(), json!(["object", "null"]));
        }
    }
    if let Some(Value::Object(defaults)) = properties.get_mut("defaults") {
        let of_kind = |kind: &&Declaration| {
            let reference = json!({ "$ref": format!("#/$defs/with-{}", kind.name) });
            (kind.name.to_owned(), reference)
        };
        defaults.insert(
            "properties".to_owned(),
            Value::Object(kinds.iter().map(of_kind).collect()),
        );
        defaults.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
        defaults.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    let parts = ["name", "description", "vars", "defaults", "models", "stages", "figures"];
    let parts = parts
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), properties.get(*name)?.clone())));
    let profile = json!({
        "type": "object",
        "description": "What it puts over the pipeline: maps merge, lists and scalars replace, `null` removes.",
        "properties": parts.collect::<Map<_, _>>(),
        "patternProperties": { "^x-": {} },
        "additionalProperties": false,
    });
    definitions.insert("Profile".to_owned(), profile);
    if let Some(Value::Object(profiles)) = properties.get_mut("profiles") {
        let entry = json!({ "anyOf": [{ "$ref": "#/$defs/Profile" }, { "type": "null" }] });
        profiles.insert("additionalProperties".to_owned(), entry);
    }
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
        // A whole parameter may be a substitution, a map too.
        let whole = map.get_mut("properties").and_then(Value::as_object_mut);
        for parameter in whole.into_iter().flat_map(|all| all.values_mut()) {
            if parameter.get("type") == Some(&json!("object")) || parameter.get("$ref").is_some() {
                let mut either = json!({});
                for told in ["description", "default"] {
                    if let Some(value) = parameter.as_object_mut().and_then(|one| one.remove(told)) {
                        either[told] = value;
                    }
                }
                either["anyOf"] = json!([parameter.take(), substitution()]);
                *parameter = either;
            }
        }
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
