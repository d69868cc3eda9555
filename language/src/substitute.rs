//! Substitution on the marked tree. What does not depend on a task is put in place here; `${matrix.…}` becomes a template
//! that each task fills. Values are put in as they are: nothing is substituted twice.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Sink};
use crate::names::{is_name, listing, suggestion};
use crate::reference::{Part, Reference, split};
use crate::source::Mark;
use crate::tree::{Entry, Node, Piece, Tree, compact};

/// What references may name.
pub struct Scope<'a> {
    /// The map under `vars:`; `None` inside `vars` itself.
    pub vars: Option<&'a Node>,
    /// The values of that map by name.
    pub names: &'a HashMap<&'a str, &'a Node>,
    /// The map under `models:`; `None` where it is not known yet.
    pub models: Option<&'a Node>,
    /// The active profiles, joined by `+`.
    pub profile: &'a str,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether `${matrix.…}` may be used.
    pub matrix: bool,
}

/// Puts everything in place that the scope knows.
pub fn substitute(node: &Node, scope: &Scope<'_>, sink: &mut Sink) -> Node {
    match &node.tree {
        Tree::Text(text) if text.contains("${") => text_node(text, &node.mark, scope, sink),
        Tree::List(items) => {
            let items = items.iter().map(|item| substitute(item, scope, sink)).collect();
            Node::new(Tree::List(items), &node.mark)
        }
        Tree::Map(entries) => {
            let substituted = entries.iter().map(|entry| {
                if entry.key.contains("${") {
                    let wrong = Diagnostic::error(format!("the key `{}` holds a substitution", entry.key));
                    sink.push(wrong.at(&entry.mark, "only values are substituted"));
                }
                Entry {
                    key: entry.key.clone(),
                    mark: entry.mark.clone(),
                    value: substitute(&entry.value, scope, sink),
                }
            });
            let entries = substituted.collect();
            Node::new(Tree::Map(entries), &node.mark)
        }
        _ => node.clone(),
    }
}

fn text_node(text: &str, mark: &Mark, scope: &Scope<'_>, sink: &mut Sink) -> Node {
    let unknown = || Node::new(Tree::Unknown, mark);
    let parts = match split(text) {
        Ok(parts) => parts,
        Err(malformed) => {
            let wrong = Diagnostic::error(malformed.message).at(&mark.narrow(&malformed.written), "");
            sink.push(wrong.hint("a literal `${` is written `$${`"));
            return unknown();
        }
    };
    if let [Part::Reference(reference)] = parts.as_slice() {
        return match resolve(reference, mark, scope) {
            Ok(Found::Value(value)) => placed(&value, mark),
            Ok(Found::Matrix(piece)) => Node::new(Tree::Template(Arc::from([piece])), mark),
            Err(wrong) => {
                sink.push(*wrong);
                unknown()
            }
        };
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for part in parts {
        let piece = match part {
            Part::Text(text) => Piece::Text(text),
            Part::Reference(reference) => match resolve(&reference, mark, scope) {
                Ok(Found::Matrix(piece)) => piece,
                Ok(Found::Value(value)) => match in_text(&value, &reference.written, mark) {
                    Ok(text) => Piece::Text(text),
                    Err(wrong) => {
                        sink.push(*wrong);
                        return unknown();
                    }
                },
                Err(wrong) => {
                    sink.push(*wrong);
                    return unknown();
                }
            },
        };
        match (pieces.last_mut(), piece) {
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
            (_, piece) => pieces.push(piece),
        }
    }
    match pieces.as_slice() {
        [Piece::Text(text)] => Node::new(Tree::Text(text.clone()), mark),
        _ => Node::new(Tree::Template(pieces.into()), mark),
    }
}

/// A value inside a longer text.
fn in_text(value: &Node, written: &str, mark: &Mark) -> Result<String, Box<Diagnostic>> {
    match &value.tree {
        Tree::List(_) | Tree::Map(_) => {
            let wrong = format!("`{written}` is {} and can not be part of a text", value.found());
            Err(Box::new(
                Diagnostic::error(wrong)
                    .at(&mark.narrow(written), "inside a longer text")
                    .also(&value.mark, "defined here"),
            ))
        }
        Tree::Null => Ok(String::new()),
        _ => Ok(compact(&value.to_json())),
    }
}

/// A value with the place of use, and every place of definition behind it.
pub fn placed(value: &Node, mark: &Mark) -> Node {
    let here = mark.defined_at(&value.mark);
    let tree = match &value.tree {
        Tree::List(items) => Tree::List(items.iter().map(|item| placed(item, mark)).collect()),
        Tree::Map(entries) => {
            let place = |entry: &Entry| Entry {
                key: entry.key.clone(),
                mark: mark.defined_at(&entry.mark),
                value: placed(&entry.value, mark),
            };
            Tree::Map(entries.iter().map(place).collect())
        }
        other => other.clone(),
    };
    Node { tree, mark: here }
}

enum Found {
    Value(Node),
    Matrix(Piece),
}

type Resolved<T> = Result<T, Box<Diagnostic>>;

fn resolve(reference: &Reference, mark: &Mark, scope: &Scope<'_>) -> Resolved<Found> {
    let here = mark.narrow(&reference.written);
    let fail = |message: String, label: String| Err(Box::new(Diagnostic::error(message).at(&here, label)));
    match reference.root.as_str() {
        _ if reference.filter.is_some() && reference.root != "models" => fail(
            format!("`{}` filters something that is no list of models", reference.written),
            "only `models` takes `[label=value]`".into(),
        ),
        "matrix" if !scope.matrix => fail(
            format!("`{}` is not known here", reference.written),
            "matrix variables are known inside the `with:` of a stage".into(),
        ),
        "matrix" if reference.fields.is_empty() => fail(
            "`${matrix}` names no variable".to_owned(),
            "expected `${matrix.NAME}`".into(),
        ),
        "matrix" => Ok(Found::Matrix(Piece::Matrix(
            reference.fields.clone(),
            reference.written.clone(),
        ))),
        "vars" => variable(reference, &here, scope).map(|node| Found::Value(node.clone())),
        "models" => models(reference, &here, scope).map(Found::Value),
        "profile" => Ok(Found::Value(Node::new(Tree::Text(scope.profile.to_owned()), &here))),
        "env" => environment(reference, &here, scope).map(Found::Value),
        other => fail(
            format!("`{}` refers to nothing", reference.written),
            suggestion(other, ["vars", "matrix", "models", "profile", "env"], "known roots"),
        ),
    }
}

fn variable<'a>(reference: &Reference, here: &Mark, scope: &Scope<'a>) -> Resolved<&'a Node> {
    let Some(vars) = scope.vars else {
        let wrong = Diagnostic::error(format!(
            "`{}` inside `vars`: substitution is not recursive",
            reference.written
        ));
        return Err(Box::new(wrong.at(here, "a variable can not refer to another")));
    };
    let Some((first, rest)) = reference.fields.split_first() else {
        return Ok(vars);
    };
    let written = format!("`{}`", reference.written);
    match scope.names.get(first.as_str()) {
        Some(value) => follow(value, rest, &written, &format!("vars.{first}"), here),
        None => follow(vars, &reference.fields, &written, "vars", here),
    }
}

/// Follows fields into a value.
///
/// # Errors
/// When a field is not there; the error names the nearest one.
pub fn follow<'a>(from: &'a Node, fields: &[String], written: &str, what: &str, here: &Mark) -> Resolved<&'a Node> {
    let mut node = from;
    let mut path = what.to_owned();
    for field in fields {
        let Some(next) = node.get(field) else {
            let known = node.entries().iter().map(|entry| entry.key.as_str());
            let hint = if matches!(node.tree, Tree::Map(_)) {
                suggestion(field, known, &format!("names under `{path}`"))
            } else {
                format!("`{path}` is {}, it has no fields", node.found())
            };
            return Err(Box::new(
                Diagnostic::error(format!("{written} is not defined")).at(here, hint),
            ));
        };
        path = format!("{path}.{field}");
        node = next;
    }
    Ok(node)
}

fn models(reference: &Reference, here: &Mark, scope: &Scope<'_>) -> Resolved<Node> {
    let fail = |message: String, label: String| Err(Box::new(Diagnostic::error(message).at(here, label)));
    let Some(models) = scope.models else {
        return fail(
            format!("`{}` is not known here", reference.written),
            "models are not known here".into(),
        );
    };
    if let Some(name) = reference.fields.first() {
        let example = reference
            .filter
            .is_none()
            .then_some("a model is named by its name alone");
        return fail(
            format!("`{}` refers to nothing", reference.written),
            example.unwrap_or_default().replace("its name", &format!("`{name}`")),
        );
    }
    if models.entries().is_empty() {
        return fail(
            format!("`{}` is empty: the pipeline has no `models`", reference.written),
            "used here".into(),
        );
    }
    let fits = |entry: &&Entry| match &reference.filter {
        None => true,
        Some((label, value)) => {
            let labels = entry.value.get("labels");
            labels
                .and_then(|labels| labels.get(label))
                .is_some_and(|found| compact(&found.to_json()) == *value)
        }
    };
    let chosen: Vec<&Entry> = models.entries().iter().filter(fits).collect();
    if let (true, Some((label, value))) = (chosen.is_empty(), &reference.filter) {
        let found = |entry: &Entry| {
            entry
                .value
                .get("labels")
                .and_then(|labels| labels.get(label))
                .map(|found| compact(&found.to_json()))
        };
        let mut values: Vec<String> = models.entries().iter().filter_map(found).collect();
        values.sort();
        values.dedup();
        let labels = models
            .entries()
            .iter()
            .flat_map(|entry| entry.value.get("labels").map(Node::entries).unwrap_or_default());
        let hint = if values.is_empty() {
            let mut names: Vec<&str> = labels.map(|label| label.key.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            suggestion(label, names, "labels")
        } else {
            format!(
                "the values of `{label}` are {}",
                listing(values.iter().map(String::as_str))
            )
        };
        return fail(format!("no model has the label `{label}={value}`"), hint);
    }
    let name = |entry: &&Entry| Node::new(Tree::Text(entry.key.clone()), &entry.mark);
    Ok(Node::new(Tree::List(chosen.iter().map(name).collect()), &models.mark))
}

fn environment(reference: &Reference, here: &Mark, scope: &Scope<'_>) -> Resolved<Node> {
    let fail = |message: String, label: &str| Err(Box::new(Diagnostic::error(message).at(here, label)));
    let [name] = reference.fields.as_slice() else {
        return fail(
            format!("`{}` names no variable of the environment", reference.written),
            "expected `${env.NAME}`",
        );
    };
    let upper = name.to_uppercase();
    if ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"]
        .iter()
        .any(|secret| upper.contains(secret))
    {
        let wrong = Diagnostic::error(format!(
            "`{}` looks like a secret, which must not enter a pipeline",
            reference.written
        ));
        return Err(Box::new(
            wrong
                .at(here, "it would be stored")
                .hint(format!("say `api_key_env: {name}` of the model that needs it")),
        ));
    }
    if !is_name(name) {
        return fail(format!("`{name}` is no name of a variable of the environment"), "");
    }
    match (scope.env)(name) {
        Some(value) => Ok(Node::new(Tree::Text(value), here)),
        None => fail(format!("the environment has no `{name}`"), "not set"),
    }
}
