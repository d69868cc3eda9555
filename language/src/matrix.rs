//! The matrix of a stage: variables, their product, `include` and `exclude`.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Sink};
use crate::names::{is_name, suggestion};
use crate::pipeline::ConstantColumn;
use crate::source::Mark;
use crate::tree::{Entry, Node, Tree, compact};

/// A value of a variable: what `${matrix.x}` gives.
#[derive(Debug)]
pub struct Binding {
    /// The value.
    pub json: Value,
    /// The value with its places.
    pub node: Node,
}

/// A variable with one of its values. Every task has some, so they are shared; see [`Variable::address`].
#[derive(Debug, Clone)]
pub struct Variable(Arc<Bound>);

/// A variable with one of its values.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Its name.
    pub name: Arc<str>,
    /// The value's name, a part of the task's name.
    pub text: Arc<str>,
    /// The value as a column.
    pub column: Arc<ConstantColumn>,
    /// What `${matrix.NAME}` gives.
    pub binding: Arc<Binding>,
    /// Whether the value comes from a named map, so that its content is told by this stage.
    pub named: bool,
}

impl Variable {
    /// A variable whose value as a column is `column`.
    pub fn new(name: &Arc<str>, text: Arc<str>, column: Value, binding: Binding, named: bool) -> Self {
        let column = ConstantColumn {
            name: name.to_string(),
            value: column,
            key: true,
        };
        Self(Arc::new(Bound {
            name: Arc::clone(name),
            text,
            column: Arc::new(column),
            binding: Arc::new(binding),
            named,
        }))
    }

    /// The same name and column, with the value that a named map of another stage gives to them.
    pub fn rebound(&self, other: &Self) -> Self {
        Self(Arc::new(Bound {
            binding: Arc::clone(&other.binding),
            ..self.0.as_ref().clone()
        }))
    }

    /// Tells shared values apart: variables with one address are one value. It holds while one of them lives.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl std::ops::Deref for Variable {
    type Target = Bound;

    fn deref(&self) -> &Bound {
        &self.0
    }
}

/// A variable of a stage's own matrix.
#[derive(Debug, Clone)]
pub struct OwnVariable {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub mark: Mark,
    /// Its values.
    pub values: Vec<Variable>,
}

/// The matrix of a stage.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    /// Its variables.
    pub variables: Vec<OwnVariable>,
    /// Combinations to leave out.
    pub exclude: Vec<Node>,
    /// Combinations to add or to extend.
    pub include: Vec<Node>,
}

/// One combination, at most one value per variable.
pub type Combination = Vec<Variable>;

impl Matrix {
    /// Reads `matrix:`; what is wrong goes to `sink`, `None` when it can not be used.
    pub fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        let mut matrix = Self::default();
        let errors = sink.errors();
        let mut unusable = node.has_unknown();
        for entry in node.entries() {
            match entry.key.as_str() {
                "include" => matrix.include = entry.value.items().to_vec(),
                "exclude" => matrix.exclude = entry.value.items().to_vec(),
                _ => match variable(entry, sink) {
                    Some(variable) => matrix.variables.push(variable),
                    None => unusable = true,
                },
            }
        }
        // Variables that can not be used are named rightly all the same.
        let written = || {
            node.entries()
                .iter()
                .map(|entry| entry.key.as_str())
                .filter(|key| is_variable(key))
        };
        for excluded in &matrix.exclude {
            for key in excluded.entries() {
                if !written().any(|name| name == key.key) {
                    let known = written();
                    let wrong = Diagnostic::error(format!(
                        "`exclude` names `{}`, which is no variable of this matrix",
                        key.key
                    ));
                    sink.push(wrong.at(&key.mark, suggestion(&key.key, known, "variables")));
                }
            }
        }
        (sink.errors() == errors && !unusable).then_some(matrix)
    }

    /// The names of all variables that a `matrix:` writes, usable or not; `None` when it is none that can be read.
    pub fn written(node: &Node) -> Option<Vec<String>> {
        let Tree::Map(entries) = &node.tree else { return None };
        let mut names = Vec::new();
        for entry in entries {
            match (entry.key.as_str(), &entry.value.tree) {
                ("exclude", _) => {}
                ("include", Tree::List(items)) => {
                    for item in items {
                        let Tree::Map(keys) = &item.tree else { return None };
                        names.extend(keys.iter().map(|key| key.key.clone()));
                    }
                }
                ("include", _) => return None,
                (name, _) => names.push(name.to_owned()),
            }
        }
        Some(names)
    }

    /// An upper bound of the number of combinations, by multiplication.
    pub fn count(&self, selecting: &HashSet<&str>) -> usize {
        let own = self
            .variables
            .iter()
            .filter(|variable| !selecting.contains(&*variable.name));
        let product = own.fold(1_usize, |product, variable| {
            product.saturating_mul(variable.values.len())
        });
        product.saturating_add(self.include.len())
    }

    /// The combinations of the variables in `multiplying`, in an order that does not matter.
    pub fn combinations(&self, multiplying: &dyn Fn(&str) -> bool) -> Vec<Combination> {
        let mut combinations: Vec<Combination> = vec![Vec::new()];
        for variable in self.variables.iter().filter(|variable| multiplying(&variable.name)) {
            let extend = |combination: &Combination| {
                let combination = combination.clone();
                variable
                    .values
                    .iter()
                    .map(move |value| combination.iter().cloned().chain([value.clone()]).collect())
            };
            combinations = combinations.iter().flat_map(extend).collect();
        }
        combinations
    }

    /// Whether a combination is excluded.
    pub fn excludes(&self, combination: &[Variable]) -> bool {
        self.exclude.iter().any(|excluded| {
            !excluded.entries().is_empty()
                && excluded
                    .entries()
                    .iter()
                    .all(|key| matches(combination, key) == Some(true))
        })
    }

    /// Applies `include` as GitHub Actions does: a map extends every combination that it does not contradict in an original
    /// variable; when there is none, it is a combination of its own.
    pub fn included(&self, mut combinations: Vec<Combination>, sink: &mut Sink) -> Vec<Combination> {
        let originals: HashSet<Arc<str>> = combinations
            .iter()
            .flatten()
            .map(|variable| Arc::clone(&variable.name))
            .collect();
        let before = if originals.is_empty() { 0 } else { combinations.len() };
        if originals.is_empty() && !self.include.is_empty() {
            combinations.clear();
        }
        for include in &self.include {
            let mut extended = false;
            for combination in combinations.iter_mut().take(before) {
                let contradicts =
                    |key: &Entry| originals.contains(key.key.as_str()) && matches(combination, key) != Some(true);
                if include.entries().iter().any(contradicts) {
                    continue;
                }
                extended = true;
                for key in include
                    .entries()
                    .iter()
                    .filter(|key| !originals.contains(key.key.as_str()))
                {
                    combination.retain(|variable| *variable.name != *key.key);
                    combination.extend(single(key, sink));
                }
            }
            if !extended {
                let own = |key: &Entry| self.original(key).or_else(|| single(key, sink));
                combinations.push(include.entries().iter().filter_map(own).collect());
            }
        }
        combinations
    }

    /// The value of a named map that an included key names.
    fn original(&self, key: &Entry) -> Option<Variable> {
        let variable = self.variables.iter().find(|variable| *variable.name == *key.key)?;
        let text = compact(&key.value.to_json());
        variable.values.iter().find(|value| *value.text == *text).cloned()
    }
}

fn is_variable(key: &str) -> bool {
    key != "include" && key != "exclude"
}

/// Whether a combination has the value that a key asks for; `None` when it has no such variable.
fn matches(combination: &[Variable], key: &Entry) -> Option<bool> {
    let variable = combination.iter().find(|variable| *variable.name == *key.key)?;
    let wanted = key.value.to_json();
    Some(*variable.text == *compact(&wanted) || variable.binding.json == wanted)
}

fn single(key: &Entry, sink: &mut Sink) -> Option<Variable> {
    checked_name(key, sink).then(|| value_of(&Arc::from(key.key.as_str()), None, &key.value))
}

fn checked_name(entry: &Entry, sink: &mut Sink) -> bool {
    let good = is_name(&entry.key);
    if !good {
        let wrong = Diagnostic::error(format!("`{}` is no name for a variable", entry.key));
        sink.push(wrong.at(&entry.mark, "expected letters, digits, `_` and `-`"));
    }
    good
}

fn variable(entry: &Entry, sink: &mut Sink) -> Option<OwnVariable> {
    if !checked_name(entry, sink) {
        return None;
    }
    let name: Arc<str> = Arc::from(entry.key.as_str());
    let values: Vec<Variable> = match &entry.value.tree {
        Tree::List(items) => items.iter().map(|item| value_of(&name, None, item)).collect(),
        Tree::Map(entries) => entries
            .iter()
            .map(|entry| value_of(&name, Some(&entry.key), &entry.value))
            .collect(),
        // Said by the checks of form, or by a substitution that failed.
        _ => return None,
    };
    if values.is_empty() {
        let wrong = Diagnostic::error(format!(
            "the variable `{name}` has no values, so there would be no tasks"
        ));
        sink.push(wrong.at(&entry.value.mark, "expected at least one value"));
        return None;
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for value in &values {
        if !seen.insert(&value.text) {
            let wrong = Diagnostic::error(format!("the variable `{name}` has the value `{}` twice", value.text));
            sink.push(wrong.at(&value.binding.node.mark, "again here"));
            return None;
        }
    }
    Some(OwnVariable {
        name,
        mark: entry.mark.clone(),
        values,
    })
}

fn value_of(name: &Arc<str>, label: Option<&str>, node: &Node) -> Variable {
    let json = node.to_json();
    let text: Arc<str> = Arc::from(label.map_or_else(|| compact(&json), str::to_owned));
    let column = match (&json, label) {
        (Value::Array(_) | Value::Object(_) | Value::Null, None) | (_, Some(_)) => Value::String(text.to_string()),
        _ => json.clone(),
    };
    let binding = Binding {
        json,
        node: node.clone(),
    };
    Variable::new(name, text, column, binding, label.is_some())
}

/// The order of variables in names of tasks: `model` first, then the alphabet, so that no reordered key renames a task.
pub fn canonical(combination: &mut [Variable]) {
    combination.sort_by(|one, other| (&*one.name != "model", &*one.name).cmp(&(&*other.name != "model", &*other.name)));
}

/// `answers[model=pico-faker,decoder=greedy]`.
pub fn task_name(stage: &str, combination: &[Variable]) -> String {
    if combination.is_empty() {
        return stage.to_owned();
    }
    let parts = combination
        .iter()
        .map(|variable| variable.name.len() + variable.text.len() + 2);
    let mut name = String::with_capacity(stage.len() + parts.sum::<usize>() + 1);
    name.push_str(stage);
    for (index, variable) in combination.iter().enumerate() {
        name.push(if index == 0 { '[' } else { ',' });
        name.push_str(&variable.name);
        name.push('=');
        // Signs that a selector reads are quoted, so that different tasks never share a name.
        if variable.text.contains([',', '=', '[', ']', '"']) {
            name.push_str(&Value::String(variable.text.to_string()).to_string());
        } else {
            name.push_str(&variable.text);
        }
    }
    name.push(']');
    name
}
