//! Fills the templates of a stage's parameters with the variables of a task.

use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Sink};
use crate::matrix::Variable;
use crate::source::Mark;
use crate::substitute::{follow, placed};
use crate::tree::{Entry, HOLE, Node, Piece, Tree, compact};

/// The parameters of a task as JSON, [`HOLE`] where a template can not be filled. What is wrong goes to `sink`, but not that a
/// variable is not there: which tasks lack it is told of all of them at once, by [`crate::templates::lacking`].
pub fn fill(node: &Node, variables: &[Variable], sink: &mut Sink) -> Value {
    match &node.tree {
        Tree::Template(pieces) => match pieces.as_ref() {
            [Piece::Matrix(fields, written)] => match lookup(fields, written, variables, &node.mark) {
                Ok(Looked::Whole(variable)) => variable.binding.json.clone(),
                Ok(Looked::Field(node)) => node.to_json(),
                Err(wrong) => {
                    wrong.into_iter().for_each(|wrong| sink.push(*wrong));
                    Value::String(HOLE.to_owned())
                }
            },
            pieces => Value::String(joined(pieces, variables, &node.mark, sink).unwrap_or_else(|| HOLE.to_owned())),
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
                Err(_) => Tree::Unknown,
            },
            pieces => joined(pieces, variables, &node.mark, &mut sink).map_or(Tree::Unknown, Tree::Text),
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

/// A longer text; `None` when a piece can not be filled.
fn joined(pieces: &[Piece], variables: &[Variable], mark: &Mark, sink: &mut Sink) -> Option<String> {
    let mut text = Some(String::new());
    let add = |text: &mut Option<String>, piece: &str| text.iter_mut().for_each(|text| text.push_str(piece));
    for piece in pieces {
        match piece {
            Piece::Text(literal) => add(&mut text, literal),
            Piece::Matrix(fields, written) => {
                // A map with a name is its name inside a longer text.
                let found = lookup(fields, written, variables, mark).map(|looked| match looked {
                    Looked::Whole(variable) => variable.text.to_string(),
                    Looked::Field(node) => compact(&node.to_json()),
                });
                match found {
                    Ok(found) => add(&mut text, &found),
                    Err(wrong) => {
                        wrong.into_iter().for_each(|wrong| sink.push(*wrong));
                        text = None;
                    }
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

/// What a reference means; the error is empty when there is no such variable.
fn lookup<'a>(
    fields: &[String],
    written: &str,
    variables: &'a [Variable],
    mark: &Mark,
) -> Result<Looked<'a>, Option<Box<Diagnostic>>> {
    let name = fields.first().map(String::as_str).unwrap_or_default();
    let variable = variables.iter().find(|variable| *variable.name == *name).ok_or(None)?;
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
    node.map(Looked::Field).map_err(Some)
}
