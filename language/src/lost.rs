//! What became of a column that is missing: which stage renames it, or does not keep it.

use std::collections::HashSet;

use crate::pipeline::{SourceRef, Task};
use crate::source::Mark;
use crate::stages::StageDraft;
use crate::tree::Node;

/// What became of a column.
pub struct Lost {
    /// In words: "`scores` renames `a` to `b`".
    pub what: String,
    /// What to say at the place.
    pub label: String,
    /// Where.
    pub mark: Mark,
}

/// The nearest stage before that renames the column, or the nearest one that has it with the one after that drops it. The
/// table that lacks it comes from `source`.
pub fn find(column: &str, source: &SourceRef, stages: &[StageDraft], tasks: &[Task]) -> Option<Lost> {
    let mut seen = HashSet::from([source.task]);
    let mut open = vec![source.task];
    while let Some(id) = open.pop() {
        let task = &tasks[id.index()];
        let stage = &stages[task.stage];
        let name = &stage.name;
        if let Some((new, mark)) = renamed(&stage.with, column)
            && task.schema.main.field(&new).is_some()
        {
            return Some(Lost {
                what: format!("`{name}` renames `{column}` to `{new}`"),
                label: format!("`{column}` becomes `{new}` here"),
                mark,
            });
        }
        for before in task.inputs.iter().flat_map(|input| &input.sources) {
            if !seen.insert(before.task) {
                continue;
            }
            let producer = &tasks[before.task.index()];
            let constant = producer.constants.iter().any(|one| one.name == column);
            if constant || producer.schema.main.field(column).is_some() {
                let holder = &stages[producer.stage].name;
                return Some(Lost {
                    what: format!("`{holder}` has it, `{name}` does not keep it"),
                    label: format!("`{name}` does not keep `{column}`"),
                    mark: stage.mark.clone(),
                });
            }
            open.push(before.task);
        }
    }
    None
}

/// The new name that a stage's `columns: { NEW: OLD }` (or `NEW: { from: OLD }`) gives to a column, and where.
fn renamed(with: &Node, column: &str) -> Option<(String, Mark)> {
    for entry in with.entries() {
        if entry.key == "columns" {
            let old =
                |node: &Node| node.text() == Some(column) || node.get("from").and_then(Node::text) == Some(column);
            let mut entries = entry.value.entries().iter();
            if let Some(found) = entries.find(|one| one.key != column && old(&one.value)) {
                return Some((found.key.clone(), found.mark.clone()));
            }
        } else if let Some(found) = renamed(&entry.value, column) {
            return Some(found);
        }
    }
    None
}
