//! The marked tree: a YAML document in which every value and every key knows its place.

use std::sync::Arc;

use fracture_stage::PathPart;
use serde_json::{Number, Value};

use crate::source::Mark;

/// A value with its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub tree: Tree,
    /// Its place.
    pub mark: Mark,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Tree {
    /// Nothing.
    Null,
    /// A flag.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// A text.
    Text(String),
    /// What failed to resolve; the error was told, and nothing more is said about the value.
    Unknown,
    /// A text that holds `${matrix.…}`: its value is known per task.
    Template(Arc<[Piece]>),
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file.
    Map(Vec<Entry>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(String),
    /// `${matrix.a.b.c}`: the variable, the fields, and the reference as it was written.
    Matrix(Vec<String>, String),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its place.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

/// Stands for a template where the value does not matter yet; no YAML text can hold it.
pub const HOLE: &str = "\u{0}${matrix}";

impl Node {
    /// A value at a place.
    pub fn new(tree: Tree, mark: &Mark) -> Self {
        Self {
            tree,
            mark: mark.clone(),
        }
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.tree {
            Tree::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Node] {
        match &self.tree {
            Tree::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a map's key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text of a text.
    pub fn text(&self) -> Option<&str> {
        match &self.tree {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Follows a path as far as it goes: the place of what it leads to, and the rest that leads nowhere. With `key` the
    /// place is that of the last key instead of its value.
    pub fn place<'a>(&self, path: &'a [PathPart], key: bool) -> (&Node, Mark, &'a [PathPart]) {
        let mut node = self;
        let mut mark = self.mark.clone();
        for (index, part) in path.iter().enumerate() {
            let rest = &path[index..];
            match part {
                PathPart::Key(name) => {
                    let Some(entry) = node.entry(name) else {
                        return (node, mark, rest);
                    };
                    node = &entry.value;
                    mark = if key && rest.len() == 1 {
                        entry.mark.clone()
                    } else {
                        node.mark.clone()
                    };
                }
                PathPart::Index(number) => {
                    let Some(item) = node.items().get(*number) else {
                        return (node, mark, rest);
                    };
                    node = item;
                    mark = node.mark.clone();
                }
            }
        }
        (node, mark, &[])
    }

    /// The value as JSON; templates become holes.
    pub fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(flag) => Value::Bool(*flag),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::Template(_) | Tree::Unknown => Value::String(HOLE.to_owned()),
            Tree::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Tree::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()))
                    .collect(),
            ),
        }
    }

    /// The value as YAML, templates as they were written. With `escape` a literal `${` is written `$${`, so that the text
    /// can be compiled again.
    pub fn to_yaml(&self, escape: bool) -> serde_yaml::Value {
        match &self.tree {
            Tree::Null | Tree::Unknown => serde_yaml::Value::Null,
            Tree::Bool(flag) => serde_yaml::Value::Bool(*flag),
            Tree::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => serde_yaml::Value::from(integer),
                (_, Some(integer)) => serde_yaml::Value::from(integer),
                _ => serde_yaml::Value::from(number.as_f64().unwrap_or_default()),
            },
            Tree::Text(text) if escape => serde_yaml::Value::String(text.replace("${", "$${")),
            Tree::Text(text) => serde_yaml::Value::String(text.clone()),
            Tree::Template(pieces) => serde_yaml::Value::String(written(pieces)),
            Tree::List(items) => serde_yaml::Value::Sequence(items.iter().map(|item| item.to_yaml(escape)).collect()),
            Tree::Map(entries) => serde_yaml::Value::Mapping(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone().into(), entry.value.to_yaml(escape)))
                    .collect(),
            ),
        }
    }

    /// Whether something inside failed to resolve.
    pub fn has_unknown(&self) -> bool {
        match &self.tree {
            Tree::Unknown => true,
            Tree::List(items) => items.iter().any(Node::has_unknown),
            Tree::Map(entries) => entries.iter().any(|entry| entry.value.has_unknown()),
            _ => false,
        }
    }

    /// Whether a template is anywhere inside.
    pub fn has_template(&self) -> bool {
        match &self.tree {
            Tree::Template(_) => true,
            Tree::List(items) => items.iter().any(Node::has_template),
            Tree::Map(entries) => entries.iter().any(|entry| entry.value.has_template()),
            _ => false,
        }
    }

    /// What it is, for messages: "a number", "the text `x`".
    pub fn found(&self) -> String {
        found(&self.to_json())
    }
}

/// A template as it was written.
pub fn written(pieces: &[Piece]) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => text.replace("${", "$${"),
        Piece::Matrix(_, written) => written.clone(),
    };
    pieces.iter().map(piece).collect()
}

/// What a value is, for messages.
pub fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => format!("the flag `{flag}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(text) if text == HOLE => "a substitution".to_owned(),
        Value::String(text) if text.chars().count() > 40 || text.contains('\n') => "a text".to_owned(),
        Value::String(text) => format!("the text `{text}`"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

/// A short text of a value, for names of tasks: `greedy`, `0.8`, `{temperature:0.8,top_p:0.95}`.
pub fn compact(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("({})", items.iter().map(compact).collect::<Vec<_>>().join(";")),
        Value::Object(map) => {
            // Sorted, so that a reordered key is the same task.
            let mut parts: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", compact(value)))
                .collect();
            parts.sort();
            format!("{{{}}}", parts.join(";"))
        }
        other => other.to_string(),
    }
}
