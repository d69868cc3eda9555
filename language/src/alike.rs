//! Tables that a list of stages joins: they must have the same columns, or rows would get nulls without a word.

use std::collections::BTreeMap;

use fracture_cache::ColumnType;
use fracture_stage::manifest::type_name;
use fracture_stage::{Completeness, Declaration, Port};

use crate::columns::{Arrival, Before, fits};
use crate::diagnostic::{Diagnostic, Sink};
use crate::names::listing;
use crate::parameters::subject;
use crate::pipeline::Task;
use crate::stages::{NeedDraft, StageDraft};

/// The stored columns of what a stage gives, and the names of its constants.
#[derive(Default)]
struct Stored {
    columns: BTreeMap<String, Option<ColumnType>>,
    constants: Vec<String>,
    exact: bool,
}

/// Reports the columns in which tables differ that a list joins, where all columns are read. Tasks of one stage may differ
/// (models have different labels), and so may constants.
pub fn check(
    stage: &StageDraft,
    kind: Declaration,
    need: &NeedDraft,
    ports: &[Port],
    arrival: &Arrival,
    before: Before<'_>,
    sink: &mut Sink,
) {
    let Before { stages, tasks } = before;
    // What takes ports of any name and tells none reads all that arrives.
    let whole = (kind.any_ports && ports.is_empty()) || ports.iter().any(|port| port.name == need.port && port.all);
    if !need.list || need.sources.len() < 2 || !whole {
        return;
    }
    let stored: Vec<Stored> = (0..need.sources.len())
        .map(|place| stored(place, arrival, tasks))
        .collect();
    let Some((first, others)) = stored.split_first() else {
        return;
    };
    for (place, other) in others.iter().enumerate() {
        if !first.exact || !other.exact {
            continue;
        }
        let name = |place: usize| {
            let source = &need.sources[place];
            let name = &stages[source.stage].name;
            source
                .output
                .as_ref()
                .map_or(name.clone(), |output| format!("{name}.{output}"))
        };
        let (one, another) = (name(0), name(place + 1));
        let mut differ = Vec::new();
        for (has, lacks, whose) in [(first, other, &one), (other, first, &another)] {
            let only: Vec<&str> = has.without(lacks);
            if !only.is_empty() {
                differ.push(format!("only `{whose}` has {}", listing(only)));
            }
        }
        for (column, kinds) in types(first, other) {
            differ.push(format!(
                "`{column}` is {} in `{one}` and {} in `{another}`",
                kinds.0, kinds.1
            ));
        }
        if differ.is_empty() {
            continue;
        }
        let wrong = Diagnostic::error(format!(
            "{}: a list joins tables with the same columns, and those of `{one}` and `{another}` differ",
            subject(stage)
        ));
        let hint = format!(
            "{}; give each a port of its own (`{{ a: {one}, b: {another} }}`), or make them alike by a `query` before",
            differ.join("; ")
        );
        sink.push(
            wrong
                .at(&need.sources[place + 1].mark, format!("not like `{one}`"))
                .also(&need.sources[0].mark, "joined with this one")
                .hint(hint),
        );
    }
}

/// What the source at a place of the list gives.
fn stored(place: usize, arrival: &Arrival, tasks: &[Task]) -> Stored {
    let mut found = Stored::default();
    let mut arrived = false;
    let sources = arrival.sources.iter().zip(&arrival.places);
    for (source, _) in sources.filter(|(_, other)| **other == place) {
        let task = &tasks[source.task.index()];
        let Some(table) = task.schema.get(source.output.as_deref()) else {
            return Stored::default();
        };
        found.exact = (found.exact || !arrived) && table.completeness == Completeness::Exact;
        arrived = true;
        for field in &table.fields {
            found.columns.entry(field.name.clone()).or_insert(field.kind);
        }
        found
            .constants
            .extend(task.constants.iter().map(|one| one.name.clone()));
    }
    found
}

impl Stored {
    /// The columns that another one lacks.
    fn without<'s>(&'s self, other: &Stored) -> Vec<&'s str> {
        let names = self.columns.keys().map(String::as_str);
        names.filter(|name| !other.has(name)).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.columns.contains_key(name) || self.constants.iter().any(|one| one == name)
    }
}

/// The columns whose types do not go together.
fn types<'s>(one: &'s Stored, other: &'s Stored) -> Vec<(&'s str, (String, String))> {
    let differ = |(name, kind): (&'s String, &Option<ColumnType>)| {
        let (one, other) = ((*kind)?, (*other.columns.get(name)?)?);
        (!fits(one, other) && !fits(other, one)).then(|| (name.as_str(), (type_name(one), type_name(other))))
    };
    one.columns.iter().filter_map(differ).collect()
}
