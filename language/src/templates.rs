//! Matrix variables that templates name and that are not there.

use std::collections::{BTreeSet, HashSet};

use crate::diagnostic::{Diagnostic, Sink};
use crate::expand::Draft;
use crate::matrix::task_name;
use crate::names::suggestion;
use crate::source::Mark;
use crate::stages::StageDraft;
use crate::tree::{Node, Piece, Tree};

/// Where a template names a variable.
struct Named<'a> {
    variable: &'a str,
    written: &'a str,
    mark: &'a Mark,
}

/// Reports the variables that some or all of a stage's tasks lack.
pub fn lacking(stage: &StageDraft, drafts: &[Draft], sink: &mut Sink) {
    let mut all = Vec::new();
    named(&stage.with, &mut all);
    let has = |draft: &Draft, name: &str| draft.variables.iter().any(|one| &*one.name == name);
    for one in all {
        let mut without = drafts.iter().filter(|draft| !has(draft, one.variable));
        let Some(first) = without.next() else { continue };
        let others = without.count();
        if others + 1 == drafts.len() {
            let variables = drafts.iter().flat_map(|draft| draft.variables.iter());
            let known: BTreeSet<&str> = variables.map(|variable| &*variable.name).collect();
            sink.push(unknown(&one, known));
            continue;
        }
        let task = task_name(&stage.name, &first.variables);
        let and = match others {
            0 => " has".to_owned(),
            1 => " and 1 other combination have".to_owned(),
            others => format!(" and {others} other combinations have"),
        };
        let (written, name) = (one.written, one.variable);
        let wrong = Diagnostic::error(format!("`{written}`: `{task}`{and} no matrix variable `{name}`"));
        let wrong = wrong.at(
            &one.mark.narrow(written),
            format!("only some combinations have `{name}`"),
        );
        let includes = stage.matrix.iter().flat_map(|matrix| &matrix.include);
        let adding = includes.filter_map(|include| include.entry(name)).next();
        let wrong = match adding {
            Some(entry) => wrong.also(&entry.mark, "added to some combinations here"),
            None => wrong,
        };
        sink.push(wrong.hint(format!(
            "give `{name}` to every combination, or leave the others out by `exclude`"
        )));
    }
}

/// Reports the variables that no task of a stage can have whose tasks are not known.
pub fn unknowable(place: usize, stages: &[StageDraft], sink: &mut Sink) {
    let Some(known) = possible(place, stages) else { return };
    let mut all = Vec::new();
    named(&stages[place].with, &mut all);
    for one in all.iter().filter(|one| !known.contains(one.variable)) {
        sink.push(unknown(one, known.iter().copied().collect()));
    }
}

fn unknown(one: &Named<'_>, known: BTreeSet<&str>) -> Diagnostic {
    let (written, name) = (one.written, one.variable);
    let wrong = Diagnostic::error(format!("`{written}`: there is no matrix variable `{name}` here"));
    wrong.at(&one.mark.narrow(written), suggestion(name, known, "variables"))
}

fn named<'a>(node: &'a Node, found: &mut Vec<Named<'a>>) {
    match &node.tree {
        Tree::Template(pieces) => found.extend(pieces.iter().filter_map(|piece| match piece {
            Piece::Matrix(fields, written) => Some(Named {
                variable: fields.first()?,
                written,
                mark: &node.mark,
            }),
            Piece::Text(_) => None,
        })),
        Tree::List(items) => items.iter().for_each(|item| named(item, found)),
        Tree::Map(entries) => entries.iter().for_each(|entry| named(&entry.value, found)),
        _ => {}
    }
}

/// All variables that a task of a stage may have: its own, and those of everything before it. `None` when that can not be
/// told because something of it was not understood.
fn possible(place: usize, stages: &[StageDraft]) -> Option<HashSet<&str>> {
    let mut found: HashSet<&str> = HashSet::new();
    let mut seen = HashSet::from([place]);
    let mut open = vec![place];
    while let Some(place) = open.pop() {
        let stage = &stages[place];
        // A kind may make variables of its own.
        stage.declaration?;
        found.extend(stage.written_variables.as_ref()?.iter().map(String::as_str));
        found.extend(stage.per.iter().map(|(name, _)| name.as_str()));
        if !stage.needs_known {
            return None;
        }
        for need in &stage.needs {
            if need.list {
                found.insert("stage");
            }
            open.extend(
                need.sources
                    .iter()
                    .map(|source| source.stage)
                    .filter(|one| seen.insert(*one)),
            );
        }
    }
    Some(found)
}
