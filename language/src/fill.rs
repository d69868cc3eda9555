//! Fills the templates of a stage's parameters with the variables of a task.

use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Sink};
use crate::matrix::Variable;
use crate::names::suggestion;
use crate::source::Mark;
use crate::substitute::{follow, placed};
use crate::tree::{Entry, Node, Piece, Tree, compact};

/// The parameters of a task as JSON; what is wrong goes to `sink`.
pub fn fill(node: &Node, variables: &[Variable], sink: &mut Sink) -> Value {
    match &node.tree {
        Tree::Template(pieces) => match pieces.as_ref() {
            [Piece::Matrix(fields, written)] => match lookup(fields, written, variables, &node.mark) {
                Ok(Looked::Whole(variable)) => variable.binding.json.clone(),
                Ok(Looked::Field(node)) => node.to_json(),
                Err(wrong) => {
                    sink.push(*wrong);
                    Value::Null
                }
            },
            pieces => Value::String(joined(pieces, variables, &node.mark, sink)),
        },
        Tree::List(items) => Value::Array(items.iter().map(|item| fill(item, variables, sink)).collect()),
        Tree::Map(entries) => {
            let filled = entries
                .iter()
                .map(|entry| (entry.key.clone(), fill(&entry.value, variables, sink)));
            Value::Object(filled.collect::<Map<_, _>>())
        }
        _ => node.to_json(),
    }
}

/// The same with places, for diagnostics.
pub fn fill_marked(node: &Node, variables: &[Variable]) -> Node {
    let mut sink = Sink::default();
    let tree = match &node.tree {
        Tree::Template(pieces) => match pieces.as_ref() {
            [Piece::Matrix(fields, written)] => match lookup(fields, written, variables, &node.mark) {
                Ok(Looked::Whole(variable)) => return placed(&variable.binding.node, &node.mark),
                Ok(Looked::Field(found)) => return placed(found, &node.mark),
                Err(_) => Tree::Null,
            },
            pieces => Tree::Text(joined(pieces, variables, &node.mark, &mut sink)),
        },
        Tree::List(items) => Tree::List(items.iter().map(|item| fill_marked(item, variables)).collect()),
        Tree::Map(entries) => {
            let filled = |entry: &Entry| Entry {
                value: fill_marked(&entry.value, variables),
                ..entry.clone()
            };
            Tree::Map(entries.iter().map(filled).collect())
        }
        other => other.clone(),
    };
    Node::new(tree, &node.mark)
}

fn joined(pieces: &[Piece], variables: &[Variable], mark: &Mark, sink: &mut Sink) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            Piece::Matrix(fields, written) => {
                // A map with a name is its name inside a longer text.
                let found = lookup(fields, written, variables, mark).map(|looked| match looked {
                    Looked::Whole(variable) => variable.text.to_string(),
                    Looked::Field(node) => compact(&node.to_json()),
                });
                match found {
                    Ok(found) => text.push_str(&found),
                    Err(wrong) => sink.push(*wrong),
                }
            }
        }
    }
    text
}

enum Looked<'a> {
    Whole(&'a Variable),
    Field(&'a Node),
}

fn lookup<'a>(
    fields: &[String],
    written: &str,
    variables: &'a [Variable],
    mark: &Mark,
) -> Result<Looked<'a>, Box<Diagnostic>> {
    let name = fields.first().map(String::as_str).unwrap_or_default();
    let Some(variable) = variables.iter().find(|variable| *variable.name == *name) else {
        let known = variables.iter().map(|variable| &*variable.name);
        let wrong = Diagnostic::error(format!("`{written}`: there is no matrix variable `{name}` here"));
        return Err(Box::new(
            wrong.at(&mark.narrow(written), suggestion(name, known, "variables")),
        ));
    };
    if fields.len() == 1 {
        return Ok(Looked::Whole(variable));
    }
    let what = format!("`{written}` for {name}={}", variable.text);
    let node = follow(
        &variable.binding.node,
        &fields[1..],
        &what,
        &format!("matrix.{name}"),
        &mark.narrow(written),
    );
    node.map(Looked::Field)
}
