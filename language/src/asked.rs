//! Which parameter asks for a column: what is missing is shown there.

use fracture_stage::{Context, Declaration, PathPart};
use serde_json::Value;

use crate::repair::{Place, touch};
use crate::source::Mark;
use crate::tree::Node;

/// Stands for a column that no table has.
const OTHER: &str = "another_column_";

/// Of the parameters with one text, so many are looked at.
const LOOKED: usize = 32;

/// The parameters of a task.
pub struct Asked<'a> {
    /// Its kind.
    pub kind: Declaration,
    /// After substitution.
    pub with: &'a Value,
    /// What it is built with.
    pub context: &'a Context,
    /// With their places.
    pub marked: &'a dyn Fn() -> Node,
    /// Places that are known to be wrong: what others do not ask for, they may; `None` where all parameters are sound.
    pub wrong: Option<&'a [Place]>,
}

impl Asked<'_> {
    /// Where a port's column is asked for, in the order of the file; nothing where the kind asks for it by itself. A place
    /// asks for a column when the task needs another one once another one stands there.
    pub fn by(&self, port: &str, column: &str) -> Vec<Mark> {
        if column.is_empty() {
            return Vec::new();
        }
        let mut places = Vec::new();
        texts(self.with, column, &mut Vec::new(), &mut places);
        let asks = |(place, key): &(Place, bool)| {
            let with = replaced(self.with, place, *key, column);
            let Ok(built) = (self.kind.build)(&with, self.context) else {
                return false;
            };
            let ports = built.ports();
            ports
                .iter()
                .any(|one| one.name == port && one.needs.iter().any(|need| need.column == OTHER))
        };
        let sound = |(place, _): &(Place, bool)| {
            let wrong = self.wrong.unwrap_or_default();
            !wrong.iter().any(|other| touch(place, other))
        };
        let found = places.iter().take(LOOKED).filter(|place| sound(place) && asks(place));
        let found: Vec<&(Place, bool)> = found.collect();
        if found.is_empty() {
            return Vec::new();
        }
        let marked = (self.marked)();
        let mark = |(place, key): &&(Place, bool)| marked.place(place, *key).1.narrow(column);
        let mut marks: Vec<Mark> = found.iter().map(mark).collect();
        marks.sort_by(|one, other| (&one.source.name, one.start).cmp(&(&other.source.name, other.start)));
        marks
    }
}

/// The places of a text, as a value (or a part of one: a template) and as a key.
fn texts(value: &Value, text: &str, path: &mut Place, found: &mut Vec<(Place, bool)>) {
    match value {
        Value::String(one) if one.contains(text) => found.push((path.clone(), false)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(PathPart::Index(index));
                texts(item, text, path, found);
                path.pop();
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                path.push(PathPart::Key(key.clone()));
                if key == text {
                    found.push((path.clone(), true));
                }
                texts(value, text, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The same with another column at a place.
fn replaced(value: &Value, place: &[PathPart], key: bool, column: &str) -> Value {
    let Some((first, rest)) = place.split_first() else {
        return Value::from(value.as_str().unwrap_or_default().replace(column, OTHER));
    };
    match (value, first) {
        (Value::Object(map), PathPart::Key(name)) => {
            let entry = |(other, value): (&String, &Value)| match other == name {
                true if key && rest.is_empty() => (OTHER.to_owned(), value.clone()),
                true => (other.clone(), replaced(value, rest, key, column)),
                false => (other.clone(), value.clone()),
            };
            Value::Object(map.iter().map(entry).collect())
        }
        (Value::Array(items), PathPart::Index(index)) => {
            let item = |(place, item): (usize, &Value)| match place == *index {
                true => replaced(item, rest, key, column),
                false => item.clone(),
            };
            Value::Array(items.iter().enumerate().map(item).collect())
        }
        _ => value.clone(),
    }
}
