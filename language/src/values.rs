//! Values that parameters name and that must be in a column of what the stage needs: the regimes of `contrasts`, the order
//! of `compare`, what a figure's `where` chooses, the values of `cases`. They are looked up where stages and constants tell
//! all values of a column before it is there; where one does not, the run tells.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use fracture_stage::order::same;
use fracture_stage::{Declaration, Named, PathPart, Shape, Stage};
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Sink};
use crate::names::{listing, suggestion};
use crate::parameters::subject;
use crate::pipeline::{Connection, SourceRef, Task};
use crate::stages::StageDraft;
use crate::tree::{Node, compact};

/// Values that a parameter names.
pub struct Wanted {
    named: Named,
    /// The values tell rows apart that have them; a table without such rows may be meant.
    may_be_absent: bool,
}

impl Wanted {
    /// Where they are said.
    pub fn places(&self) -> impl Iterator<Item = &[PathPart]> {
        self.named.any_of.iter().map(|(_, path)| path.as_slice())
    }
}

/// The values that the parameters of a stage name; those of `cases` are looked up at the port `first`.
pub fn wanted(with: &Value, kind: &Declaration, implementation: &dyn Stage, first: Option<&str>) -> Vec<Wanted> {
    let required = |named| Wanted {
        named,
        may_be_absent: false,
    };
    let mut all: Vec<Wanted> = implementation.named().into_iter().map(required).collect();
    let cases = with.get("cases").filter(|_| kind.cases).and_then(Value::as_object);
    for (column, values) in cases.into_iter().flatten() {
        for value in values.as_object().into_iter().flat_map(|map| map.keys()) {
            let path = ["cases", column, value].map(|key| PathPart::Key(key.to_owned()));
            all.extend(first.map(|port| Wanted {
                named: Named {
                    is_key: true,
                    ..Named::one(port, column, value, path.to_vec())
                },
                may_be_absent: true,
            }));
        }
    }
    all
}

/// Reports every value that no row at its port can have.
pub fn check(
    stage: &StageDraft,
    wanted: &[Wanted],
    inputs: &[Connection],
    known: &Known<'_>,
    marked: &dyn Fn() -> Node,
    sink: &mut Sink,
) {
    let mut columns: BTreeMap<(&str, &str), Option<Values>> = BTreeMap::new();
    for one in wanted {
        let named = &one.named;
        let Some(input) = inputs.iter().find(|input| *input.port == named.port) else {
            continue;
        };
        let place = (named.port.as_str(), named.column.as_str());
        let values = columns
            .entry(place)
            .or_insert_with(|| known.values(&input.sources, place.1));
        let Some(values) = values else { continue };
        let is_there = |value: &str| values.contains(value) || values.iter().any(|other| same(value, other));
        let absent: Vec<_> = named.any_of.iter().filter(|(value, _)| !is_there(value)).collect();
        let fatal = !one.may_be_absent && absent.len() == named.any_of.len();
        for (value, path) in absent {
            let (column, subject) = (&named.column, subject(stage));
            let names = values.iter().map(String::as_str);
            // Of numbers none looks like another.
            let label = match value.parse::<f64>() {
                Ok(_) if !values.is_empty() => format!("the values of `{column}` are {}", listing(names)),
                _ => suggestion(value, names, &format!("values of `{column}`")),
            };
            // A default is nowhere written.
            let (_, mark, rest) = marked().place(path, named.is_key);
            let mark = if rest.len() == path.len() {
                stage.mark.clone()
            } else {
                mark
            };
            sink.push(if fatal {
                let told = Diagnostic::error(format!("{subject}: there is no {column} `{value}`")).at(&mark, label);
                match &named.hint {
                    Some(hint) => told.hint(hint.clone()),
                    None => told,
                }
            } else {
                Diagnostic::warning(format!("{subject}: no row will have {column}={value}")).at(&mark, label)
            });
        }
    }
}

/// All values of a column.
type Values = Rc<BTreeSet<String>>;

/// A task, one of its outputs, and a column of it.
type Place = (u32, Option<Arc<str>>, String);

/// What was found out, by task, side output and column: many figures may read one large table.
#[derive(Default)]
pub struct Memo(RefCell<HashMap<Place, Option<Values>>>);

/// Where values are looked up.
pub struct Known<'a> {
    /// The tasks so far.
    pub tasks: &'a [Task],
    /// What was found out.
    pub memo: &'a Memo,
}

impl Known<'_> {
    /// All values of a column in the tables of some sources; `None` where one can not be told.
    fn values(&self, sources: &[SourceRef], column: &str) -> Option<Values> {
        let mut found = BTreeSet::new();
        // Tasks share their constants.
        let mut constants = HashSet::new();
        let mut seen = HashSet::new();
        let mut open: Vec<&SourceRef> = sources.iter().collect();
        while let Some(source) = open.pop() {
            let task = &self.tasks[source.task.index()];
            let all = source.constants.iter().chain(task.constants.iter());
            if let Some(constant) = all.into_iter().find(|one| one.name == column) {
                if constants.insert(Arc::as_ptr(constant)) {
                    found.insert(compact(&constant.value));
                }
                continue;
            }
            if !seen.insert((source.task, source.output.as_deref())) {
                continue;
            }
            match self.of_output(source, column) {
                Some(values) => found.extend(values.iter().cloned()),
                // What a kind with any ports puts in place of a column is known to nobody.
                None if task.declaration.shape == Shape::Map
                    && !task.declaration.any_ports
                    && source.output.is_none() =>
                {
                    open.extend(&first(task)?.sources)
                }
                None => return None,
            }
        }
        Some(Rc::new(found))
    }

    /// What the stage of a source says.
    fn of_output(&self, source: &SourceRef, column: &str) -> Option<Values> {
        let task = &self.tasks[source.task.index()];
        let output = source.output.as_deref();
        let look_up = || {
            let arriving = |port: &str, column: &str| {
                let input = task.inputs.iter().find(|input| *input.port == *port)?;
                let values = self.values(&input.sources, column)?;
                Some(values.iter().cloned().collect())
            };
            let values = task.implementation.output_values(output, column, &arriving)?;
            Some(Rc::new(values.into_iter().collect()))
        };
        // Only what puts several tables together takes long.
        if task.declaration.shape == Shape::Map {
            return look_up();
        }
        let place = (source.task.0, source.output.clone(), column.to_owned());
        if let Some(known) = self.memo.0.borrow().get(&place) {
            return known.clone();
        }
        let values = look_up();
        self.memo.0.borrow_mut().insert(place, values.clone());
        values
    }
}

/// What arrives at the first port of a task's kind.
fn first(task: &Task) -> Option<&Connection> {
    let mut ports = task.declaration.ports.iter();
    let declared = ports.find_map(|port| task.inputs.iter().find(|input| *input.port == *port.name));
    declared.or(task.inputs.first())
}
