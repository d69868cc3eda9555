//! Parameters that multiply tasks by themselves (`variant: all`): they become a variable of the matrix.

use std::sync::Arc;

use fracture_stage::{Declaration, PathPart};

use crate::diagnostic::{Diagnostic, Sink};
use crate::source::Mark;
use crate::tree::{Entry, Node, Piece, Tree};

/// `with:` and `matrix:` with what the kind multiplies written out: a variable, and `${matrix.VARIABLE}` in its places.
pub fn put(
    stage: &str,
    kind: Option<Declaration>,
    with: Node,
    matrix: Option<&Node>,
    sink: &mut Sink,
) -> (Node, Option<Node>) {
    let found = kind.and_then(|kind| kind.spread).map(|spread| spread(&with.to_json()));
    let spread = match found {
        None | Some(Ok(None)) => return (with, matrix.cloned()),
        Some(Ok(Some(spread))) => spread,
        Some(Err(wrong)) => {
            let (_, mark, _) = with.place(&wrong.path, false);
            let message = format!("stage `{stage}`: {}", wrong.message);
            sink.push(Diagnostic::error(message).at(&mark, wrong.hint.unwrap_or_else(|| "here".to_owned())));
            return (with, matrix.cloned());
        }
    };
    let mark = spread
        .places
        .first()
        .map_or(with.mark.clone(), |path| with.place(path, false).1);
    let name = spread.variable;
    if let Some(taken) = matrix.and_then(|matrix| matrix.entry(name)) {
        let wrong = Diagnostic::error(format!("stage `{stage}`: the variable `{name}` is there twice"));
        let wrong = wrong.at(&mark, format!("`all` makes a variable `{name}`"));
        sink.push(wrong.also(&taken.mark, "and so does the matrix: give this one another name"));
        return (with, matrix.cloned());
    }
    let values = (0..spread.count).map(|value| Node::new(Tree::Number(value.into()), &mark));
    let mut entries = matrix.map_or_else(Vec::new, |matrix| matrix.entries().to_vec());
    entries.push(Entry {
        key: name.to_owned(),
        mark: mark.clone(),
        value: Node::new(Tree::List(values.collect()), &mark),
    });
    let place = matrix.map_or(&mark, |matrix| &matrix.mark);
    let matrix = Node::new(Tree::Map(entries), place);
    let written = format!("${{matrix.{name}}}");
    let pieces: Arc<[Piece]> = [Piece::Matrix(vec![name.to_owned()], written)].into();
    let with = (spread.places.iter()).fold(with, |with, path| replaced(with, path, &pieces));
    (with, Some(matrix))
}

/// `node` with the template in place of what `path` leads to.
fn replaced(mut node: Node, path: &[PathPart], pieces: &Arc<[Piece]>) -> Node {
    let Some((first, rest)) = path.split_first() else {
        return Node::new(Tree::Template(Arc::clone(pieces)), &node.mark);
    };
    let below = match (&mut node.tree, first) {
        (Tree::Map(entries), PathPart::Key(key)) => entries
            .iter_mut()
            .find(|entry| entry.key == *key)
            .map(|entry| &mut entry.value),
        (Tree::List(items), PathPart::Index(index)) => items.get_mut(*index),
        _ => None,
    };
    if let Some(below) = below {
        let own = std::mem::replace(below, Node::new(Tree::Null, &Mark::clone(&below.mark)));
        *below = replaced(own, rest, pieces);
    }
    node
}
