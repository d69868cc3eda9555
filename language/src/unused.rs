//! Matrix variables that nothing uses: they multiply the work and tell nothing apart.

use std::collections::HashSet;

use fracture_stage::Keys;

use crate::diagnostic::{Diagnostic, Sink};
use crate::pipeline::{Task, TaskId};
use crate::stages::StageDraft;
use crate::tree::{Node, Piece, Tree};

/// Warns of variables that neither their own stage nor anything after it uses: not by `${matrix.x}`, not in a template, not
/// by `per`, not as a column that is read.
pub fn warn(stages: &[StageDraft], tasks: &[Task], of_stage: &[Vec<TaskId>], sink: &mut Sink) {
    let readers = readers(stages);
    for (place, stage) in stages.iter().enumerate() {
        let Some(matrix) = &stage.matrix else { continue };
        if matrix.variables.is_empty() || of_stage[place].is_empty() {
            continue;
        }
        let after = dependents(place, &readers);
        for variable in &matrix.variables {
            let used = after
                .iter()
                .any(|other| uses(*other, place, &variable.name, stages, tasks, of_stage));
            if !used {
                let warning = Diagnostic::warning(format!(
                    "stage `{}`: nothing uses the matrix variable `{}`",
                    stage.name, variable.name
                ));
                let hint = format!("say ${{matrix.{}}} in `with`, or remove it", variable.name);
                sink.push(warning.at(&variable.mark, "every value computes the same").hint(hint));
            }
        }
    }
}

/// The stages that need each stage.
fn readers(stages: &[StageDraft]) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); stages.len()];
    for (place, stage) in stages.iter().enumerate() {
        for source in stage.needs.iter().flat_map(|need| &need.sources) {
            readers[source.stage].push(place);
        }
    }
    readers
}

/// A stage and everything after it.
fn dependents(stage: usize, readers: &[Vec<usize>]) -> Vec<usize> {
    let mut found = vec![stage];
    let mut seen: HashSet<usize> = HashSet::from([stage]);
    let mut next = 0;
    while let Some(&place) = found.get(next) {
        next += 1;
        found.extend(readers[place].iter().filter(|other| seen.insert(**other)));
    }
    found
}

fn uses(
    other: usize,
    owner: usize,
    name: &str,
    stages: &[StageDraft],
    tasks: &[Task],
    of_stage: &[Vec<TaskId>],
) -> bool {
    let stage = &stages[other];
    if mentions(&stage.with, name) || stage.per.iter().any(|(per, _)| per == name) {
        return true;
    }
    if other == owner {
        // A variable of an inherited name selects tasks.
        let inherited = |id: &TaskId| {
            let sources = tasks[id.index()].inputs.iter().flat_map(|input| &input.sources);
            sources
                .into_iter()
                .any(|source| tasks[source.task.index()].constants.iter().any(|one| one.name == name))
        };
        return of_stage[other].first().is_some_and(inherited);
    }
    // All tasks of a stage read alike.
    let Some(task) = of_stage[other].first() else {
        return true;
    };
    let ports = &tasks[task.index()].ports;
    ports
        .iter()
        .any(|port| port.all || port.keys != Keys::None || port.needs.iter().any(|need| need.column == name))
}

fn mentions(node: &Node, name: &str) -> bool {
    match &node.tree {
        Tree::Template(pieces) => pieces.iter().any(|piece| match piece {
            Piece::Matrix(fields, _) => fields.first().is_some_and(|field| field == name),
            Piece::Text(text) => word(text, name),
        }),
        Tree::Text(text) => word(text, name),
        Tree::List(items) => items.iter().any(|item| mentions(item, name)),
        Tree::Map(entries) => entries
            .iter()
            .any(|entry| entry.key == name || mentions(&entry.value, name)),
        _ => false,
    }
}

/// Whether a text (a template, a query) holds the name as a word.
fn word(text: &str, name: &str) -> bool {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '-'))
        .any(|word| word == name)
}
