//! Ports beside the first of a map stage: which of their tasks arrives at which of the stage's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Sink};
use crate::expand::{Arrow, Known};
use crate::matrix::Variable;
use crate::stages::{NeedDraft, StageDraft};

/// The tasks at a port, found by the variables that they share with the tasks of the first port.
pub struct Join {
    shared: Vec<Arc<str>>,
    has_variables: bool,
    all: Vec<Arrow>,
    index: HashMap<Vec<Option<Arc<str>>>, Vec<Arrow>>,
}

impl Join {
    /// Prepares the tasks of a port for tasks with the variables `ours`.
    pub fn new(arrows: &[Arrow], ours: &HashSet<&str>, known: &Known<'_>) -> Self {
        let theirs: HashSet<Arc<str>> = arrows
            .iter()
            .flat_map(|(task, _)| known.variables[task.index()].iter())
            .map(|one| Arc::clone(&one.name))
            .collect();
        let mut shared: Vec<Arc<str>> = theirs.iter().filter(|name| ours.contains(&***name)).cloned().collect();
        shared.sort();
        let mut index: HashMap<_, Vec<Arrow>> = HashMap::new();
        for arrow in arrows {
            index
                .entry(key(&shared, &known.variables[arrow.0.index()]))
                .or_default()
                .push(*arrow);
        }
        Self {
            shared,
            has_variables: !theirs.is_empty(),
            all: arrows.to_vec(),
            index,
        }
    }

    /// What arrives for a task with these variables; `None` when there is nothing, which goes to `sink`.
    pub fn matching(
        &self,
        variables: &[Variable],
        need: &NeedDraft,
        stage: &StageDraft,
        known: &Known<'_>,
        sink: &mut Sink,
    ) -> Option<Vec<Arrow>> {
        if !self.has_variables || variables.is_empty() {
            return Some(self.all.clone());
        }
        let source = &need.sources[0];
        let other = &known.stages[source.stage].name;
        if self.shared.is_empty() {
            let wrong = Diagnostic::error(format!(
                "stage `{}`: what it needs has no variable in common with `{other}`",
                stage.name
            ));
            sink.push(
                wrong
                    .at(&source.mark, "can not be joined")
                    .hint("give both a common matrix variable, or reduce one of them first"),
            );
            return None;
        }
        let found = self.index.get(&key(&self.shared, variables));
        if found.is_none() {
            let wanted: Vec<String> = variables
                .iter()
                .filter(|one| self.shared.contains(&one.name))
                .map(|one| format!("{}={}", one.name, one.text))
                .collect();
            let wrong = Diagnostic::error(format!(
                "stage `{}`: `{other}` has no task with {}",
                stage.name,
                wanted.join(",")
            ));
            sink.push(wrong.at(&source.mark, "can not be joined"));
        }
        found.cloned()
    }
}

fn key(shared: &[Arc<str>], variables: &[Variable]) -> Vec<Option<Arc<str>>> {
    let value = |name: &Arc<str>| {
        variables
            .iter()
            .find(|one| one.name == *name)
            .map(|one| Arc::clone(&one.text))
    };
    shared.iter().map(value).collect()
}
