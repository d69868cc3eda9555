//! Values that parameters name and that must be in a column of what the stage needs: the regimes of `contrasts`, the values
//! of `cases`. They are looked up where stages say all values of a column at plan time; where one does not, the run tells.

use std::collections::{BTreeSet, HashSet};

use fracture_stage::{Declaration, PathPart, Shape};
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Sink};
use crate::names::suggestion;
use crate::pipeline::{SourceRef, Task};
use crate::stages::StageDraft;
use crate::tree::{Node, compact};

/// A value that a parameter names.
struct Named {
    column: String,
    value: String,
    path: Vec<PathPart>,
    /// The value tells rows apart that have it; a table without such rows may be meant.
    may_be_absent: bool,
}

/// Reports every value that is in no row of what arrives at the stage's first port.
pub fn check(
    stage: &StageDraft,
    kind: Declaration,
    with: &Value,
    sources: &[SourceRef],
    tasks: &[Task],
    marked: &dyn Fn() -> Node,
    sink: &mut Sink,
) {
    let named = named(with, kind);
    let columns: BTreeSet<&str> = named.iter().map(|one| one.column.as_str()).collect();
    for column in columns {
        let Some(known) = known(column, sources, tasks) else {
            continue;
        };
        for one in named
            .iter()
            .filter(|one| one.column == column && !known.contains(&one.value))
        {
            let (_, mark, _) = marked().place(&one.path, one.may_be_absent);
            let label = suggestion(
                &one.value,
                known.iter().map(String::as_str),
                &format!("values of `{column}`"),
            );
            let value = &one.value;
            sink.push(if one.may_be_absent {
                let message = format!("stage `{}`: no row will have {column}={value}", stage.name);
                Diagnostic::warning(message).at(&mark, label)
            } else {
                let message = format!("stage `{}`: there is no {column} `{value}`", stage.name);
                Diagnostic::error(message).at(&mark, label)
            });
        }
    }
}

fn named(with: &Value, kind: Declaration) -> Vec<Named> {
    let key = |name: &str| PathPart::Key(name.to_owned());
    let mut named = Vec::new();
    for (index, pair) in with
        .get("contrasts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        for (side, regime) in pair.as_array().into_iter().flatten().enumerate() {
            let Some(regime) = regime.as_str() else { continue };
            named.push(Named {
                column: "regime".to_owned(),
                value: regime.to_owned(),
                path: vec![key("contrasts"), PathPart::Index(index), PathPart::Index(side)],
                may_be_absent: false,
            });
        }
    }
    let cases = with.get("cases").filter(|_| kind.cases).and_then(Value::as_object);
    for (column, values) in cases.into_iter().flatten() {
        for value in values.as_object().into_iter().flat_map(|map| map.keys()) {
            named.push(Named {
                column: column.clone(),
                value: value.clone(),
                path: vec![key("cases"), key(column), key(value)],
                may_be_absent: true,
            });
        }
    }
    named
}

/// All values of a column in the tables of some sources; `None` where one can not be told.
fn known(column: &str, sources: &[SourceRef], tasks: &[Task]) -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut open: Vec<&SourceRef> = sources.iter().collect();
    while let Some(source) = open.pop() {
        let task = &tasks[source.task.index()];
        let constants = source.constants.iter().chain(task.constants.iter());
        if let Some(constant) = constants.into_iter().find(|one| one.name == column) {
            found.insert(compact(&constant.value));
            continue;
        }
        if !seen.insert(source.task) {
            continue;
        }
        match task.implementation.values(column) {
            _ if source.output.is_some() => return None,
            Some(values) => found.extend(values),
            // What a kind with any ports puts in place of a column is known to nobody.
            None if task.declaration.shape == Shape::Map && !task.declaration.any_ports => {
                open.extend(&task.inputs.first()?.sources)
            }
            None => return None,
        }
    }
    Some(found)
}
