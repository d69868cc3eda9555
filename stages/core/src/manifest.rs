//! One walk over a task's description, two walkers: one hashes it, one writes it down for `why`.
//!
//! A key and its explanation come from the same calls to [`Manifest::part`], so that they can not diverge.

use std::borrow::Cow;

use fracture_cache::digest::Framed;
use fracture_cache::{ColumnType, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::fields;

/// What a part of a key is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The stage kind and its semantic version.
    Kind,
    /// A parameter that is not at its default.
    Parameter,
    /// A file that is read, by content, or `absent`.
    File,
    /// A constant of an input task that is used.
    Constant,
    /// An input: a recipe, or a row count and the digests of the columns that are read.
    Input,
}

impl Role {
    /// The word that people read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Parameter => "parameter",
            Self::File => "file",
            Self::Constant => "constant",
            Self::Input => "input",
        }
    }
}

/// Receives the parts of a key in a fixed order. Names are unique within a role.
pub trait Manifest {
    /// One part. Maps in `value` count by content, not by the order of their keys; numbers that are equal are one number.
    fn part(&mut self, role: Role, name: &str, value: &Value);

    /// A part that is a digest.
    fn digest(&mut self, role: Role, name: &str, hex: &str) {
        self.fact(role, name, &Fact::Text(hex));
    }

    /// A part that is put together from borrowed values.
    fn fact(&mut self, role: Role, name: &str, fact: &Fact<'_>) {
        self.part(role, name, &fact.value());
    }
}

/// A value put together from borrowed ones: the hasher makes no JSON of it.
#[derive(Debug, Clone, Copy)]
pub enum Fact<'a> {
    /// A value.
    Value(&'a Value),
    /// A text.
    Text(&'a str),
    /// A map, in the order in which people read it.
    Map(&'a [(&'a str, Fact<'a>)]),
}

impl Fact<'_> {
    /// The value.
    pub fn value(&self) -> Value {
        match self {
            Self::Value(value) => (*value).clone(),
            Self::Text(text) => Value::String((*text).to_owned()),
            Self::Map(entries) => {
                let entries = entries.iter().map(|(name, fact)| ((*name).to_owned(), fact.value()));
                Value::Object(entries.collect())
            }
        }
    }

    /// Hashes it as [`hash_value`] hashes its value. A map's names are unique.
    fn hash(&self, framed: &mut Framed) {
        match self {
            Self::Value(value) => hash_value(framed, value),
            Self::Text(text) => {
                framed.text("text").text(text);
            }
            Self::Map(entries) => {
                framed.text("map").number(entries.len() as u64);
                if entries.is_sorted_by_key(|(name, _)| *name) {
                    for (name, fact) in *entries {
                        framed.text(name);
                        fact.hash(framed);
                    }
                    return;
                }
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by_key(|(name, _)| *name);
                for (name, fact) in sorted {
                    framed.text(name);
                    fact.hash(framed);
                }
            }
        }
    }
}

/// A part as it was written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartText {
    /// What it is about.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// The walker that hashes. A clone goes on from what was said so far.
#[derive(Debug, Clone)]
pub struct KeyHasher {
    framed: Framed,
}

impl KeyHasher {
    /// Starts a key in a domain (`recipe`, `action`, `lineage`).
    pub fn new(domain: &str) -> Self {
        Self {
            framed: Framed::new(domain),
        }
    }

    /// The key.
    pub fn finish<T: ?Sized>(&self) -> Digest<T> {
        self.framed.finish()
    }
}

impl Manifest for KeyHasher {
    fn part(&mut self, role: Role, name: &str, value: &Value) {
        self.fact(role, name, &Fact::Value(value));
    }

    fn fact(&mut self, role: Role, name: &str, fact: &Fact<'_>) {
        self.framed.text(role.name()).text(name);
        fact.hash(&mut self.framed);
    }
}

/// The walker that writes down.
#[derive(Debug, Default)]
pub struct Parts(pub Vec<PartText>);

impl Manifest for Parts {
    fn part(&mut self, role: Role, name: &str, value: &Value) {
        self.0.push(PartText {
            role,
            name: name.to_owned(),
            value: value.clone(),
        });
    }
}

/// Hashes a JSON value so that maps do not depend on the order of keys and 0, 0.0 and 0e0 are one number.
pub fn hash_value(framed: &mut Framed, value: &Value) {
    match value {
        Value::Null => {
            framed.text("null");
        }
        Value::Bool(flag) => {
            framed.text("bool").number(u64::from(*flag));
        }
        Value::Number(number) => hash_number(framed, number),
        Value::String(text) => {
            framed.text("text").text(text);
        }
        Value::Array(items) => {
            framed.text("list").number(items.len() as u64);
            for item in items {
                hash_value(framed, item);
            }
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            framed.text("map").number(entries.len() as u64);
            for (name, item) in entries {
                framed.text(name);
                hash_value(framed, item);
            }
        }
    }
}

fn hash_number(framed: &mut Framed, number: &serde_json::Number) {
    // Integers keep all their digits; a float that is a whole number below 2^53 is that integer.
    if let Some(unsigned) = number.as_u64() {
        framed.text("integer").number(unsigned);
    } else if let Some(signed) = number.as_i64() {
        framed.text("negative").number(signed.unsigned_abs());
    } else if let Some(float) = number.as_f64() {
        if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
            let domain = if float < 0.0 { "negative" } else { "integer" };
            framed.text(domain).number(float.abs() as u64);
        } else {
            framed.text("float").number(float.to_bits());
        }
    }
}

/// Describes a parameter struct: every field whose value differs from the default's is a part. Fields in `except` are left
/// out (a model's name, an address, a path: they are in the key by content or not at all).
pub fn describe_json<P: Serialize>(manifest: &mut dyn Manifest, parameters: &P, default: &P, except: &[&str]) {
    let (Ok(now), Ok(default)) = (fields(parameters), fields(default)) else {
        // Parameter types are structs of plain values; a failure here would be a defect that no input can cause.
        manifest.part(Role::Parameter, "unserializable", &Value::Null);
        return;
    };
    let differs = |place: usize, (name, value): &(Cow<'static, str>, Value)| match default.get(place) {
        Some((same, before)) if same == name => before != value,
        _ => default.iter().all(|(other, before)| other != name || before != value),
    };
    let mut parts: Vec<_> = now
        .iter()
        .enumerate()
        .filter(|(place, field)| !except.contains(&&*field.0) && differs(*place, field))
        .map(|(_, field)| field)
        .collect();
    parts.sort_by_key(|(name, _)| name);
    for (name, value) in parts {
        manifest.part(Role::Parameter, name, value);
    }
}

/// The name of a column type in keys and messages.
pub fn type_name(kind: ColumnType) -> String {
    match kind {
        ColumnType::Text => "text".to_owned(),
        ColumnType::Bool => "flag".to_owned(),
        ColumnType::I64 => "integer".to_owned(),
        ColumnType::U32 => "count".to_owned(),
        ColumnType::U64 => "unsigned integer".to_owned(),
        ColumnType::F32 => "number (f32)".to_owned(),
        ColumnType::F64 => "number".to_owned(),
        ColumnType::Time => "time".to_owned(),
        ColumnType::ListU32 => "list of token ids".to_owned(),
        ColumnType::ListF32 => "list of numbers".to_owned(),
        ColumnType::Vector(length) => format!("vector of {length}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(value: &Value) -> Digest<fracture_cache::digest::Recipe> {
        let mut hasher = KeyHasher::new("t");
        hasher.part(Role::Parameter, "x", value);
        hasher.finish()
    }

    #[test]
    fn a_fact_is_hashed_as_its_value() {
        let (number, list) = (json!(1.5), json!([1, {"b": 2, "a": [null]}]));
        let inner = [("z", Fact::Text("x")), ("a", Fact::Value(&list))];
        let fact = Fact::Map(&[
            ("recipe", Fact::Text("ff")),
            ("n", Fact::Value(&number)),
            ("m", Fact::Map(&inner)),
        ]);
        let mut hasher = KeyHasher::new("t");
        hasher.fact(Role::Parameter, "x", &fact);
        assert_eq!(hasher.finish::<fracture_cache::digest::Recipe>(), key(&fact.value()));
        assert_eq!(
            fact.value(),
            json!({"recipe": "ff", "n": 1.5, "m": {"z": "x", "a": [1, {"b": 2, "a": [null]}]}})
        );
    }

    #[test]
    fn equal_values_are_one_value() {
        assert_eq!(key(&json!(0)), key(&json!(0.0)));
        assert_eq!(key(&json!(-0.0)), key(&json!(0)));
        assert_eq!(key(&json!(-3)), key(&json!(-3.0)));
        assert_eq!(key(&json!({"a": 1, "b": 2})), key(&json!({"b": 2.0, "a": 1})));
        assert_ne!(key(&json!(1)), key(&json!("1")));
        assert_ne!(key(&json!([1, 2])), key(&json!([2, 1])));
        assert_ne!(key(&json!([[1], 2])), key(&json!([[1, 2]])));
    }
}
