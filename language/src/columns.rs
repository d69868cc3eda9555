//! Columns over the whole DAG: what arrives at a port, what leaves a task, and whether what is needed is there.

use std::collections::HashSet;

use fracture_cache::ColumnType;
use fracture_stage::manifest::type_name;
use fracture_stage::{Completeness, Declaration, Field, Need, Outputs, Port, Schema, Schemas, Shape};

use crate::asked::Asked;
use crate::diagnostic::{Diagnostic, Sink};
use crate::lost::{self, Lost};
use crate::names::{listing, nearest, suggestion};
use crate::pipeline::{SourceRef, Task};
use crate::share::ConstantShape;
use crate::source::Mark;
use crate::stages::StageDraft;
use crate::tree::Node;

/// What arrives at a port of a task. Of sources whose tables have the same columns there is one.
pub struct Arrival {
    /// The port.
    pub port: String,
    /// Where it comes from.
    pub sources: Vec<SourceRef>,
    /// The table of each source, constants included.
    pub tables: Vec<Schema>,
    /// Where each source is named in the file.
    pub marks: Vec<Mark>,
    /// The place of each source in the list that the port has.
    pub places: Vec<usize>,
}

/// A table with the constants of its task as columns; a stored column of the same name wins.
pub fn with_constants<'a>(mut schema: Schema, constants: impl IntoIterator<Item = &'a ConstantShape>) -> Schema {
    for constant in constants {
        if schema.field(&constant.name).is_none() {
            schema.fields.push(Field {
                name: constant.name.clone(),
                kind: Some(constant.kind),
            });
        }
        if constant.key && !schema.keys.contains(&constant.name) {
            schema.keys.push(constant.name.clone());
        }
    }
    schema
}

/// The tables at the ports, as stages see them.
pub fn arriving(arrivals: &[Arrival]) -> Schemas {
    Schemas {
        ports: arrivals
            .iter()
            .map(|arrival| (arrival.port.clone(), arrival.tables.clone()))
            .collect(),
    }
}

/// What fills the first port of a kind.
pub fn first(kind: Declaration, arrivals: &[Arrival]) -> Option<&Arrival> {
    let declared = kind
        .ports
        .iter()
        .find_map(|port| arrivals.iter().find(|arrival| arrival.port == port.name));
    declared.or(arrivals.first())
}

/// The outputs of a task as readers see them: a map stage keeps the columns of its input and adds its own.
pub fn outputs(
    own: Outputs<Schema>,
    kind: Declaration,
    arrivals: &[Arrival],
    constants: &HashSet<&str>,
) -> Outputs<Schema> {
    let input = match (
        kind.shape,
        first(kind, arrivals).and_then(|arrival| arrival.tables.first()),
    ) {
        (Shape::Map, Some(input)) => input,
        _ => return own,
    };
    let added: HashSet<&str> = own.main.fields.iter().map(|field| field.name.as_str()).collect();
    let kept = input
        .fields
        .iter()
        .filter(|field| !added.contains(field.name.as_str()) && !constants.contains(field.name.as_str()));
    let mut fields: Vec<Field> = kept.cloned().collect();
    fields.extend(own.main.fields.iter().cloned());
    let completeness = match (input.completeness, own.main.completeness) {
        (Completeness::Exact, Completeness::Exact) => Completeness::Exact,
        (Completeness::Unknown, _) | (_, Completeness::Unknown) => Completeness::Unknown,
        _ => Completeness::AtLeast,
    };
    let mut keys: Vec<String> = input
        .keys
        .iter()
        .filter(|key| !constants.contains(key.as_str()))
        .cloned()
        .collect();
    keys.extend(own.main.keys.iter().filter(|key| !input.keys.contains(key)).cloned());
    Outputs {
        main: Schema {
            fields,
            completeness,
            keys,
        },
        side: own.side,
    }
}

/// Where the tables of a stage come from.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// The stages.
    pub stages: &'a [StageDraft],
    /// The tasks so far.
    pub tasks: &'a [Task],
}

/// Reports every column that a port needs and that is not there.
pub fn check_needs(
    stage: &StageDraft,
    port: &Port,
    arrivals: &[Arrival],
    before: Before<'_>,
    asked: &Asked<'_>,
    sink: &mut Sink,
) {
    let Before { stages, tasks } = before;
    for arrival in arrivals.iter().filter(|arrival| arrival.port == port.name) {
        for (place, table) in arrival.tables.iter().enumerate() {
            for need in &port.needs {
                let Some(problem) = problem(need, table) else { continue };
                let by = asked.by(&port.name, &need.column);
                // Where other parameters are wrong, the kind may not need by itself what it seems to.
                if (asked.wrong.is_some() && by.is_empty()) || told_of_cases(stage, asked.kind, need) {
                    continue;
                }
                let source = &arrival.sources[place];
                let giver = stages[tasks[source.task.index()].stage].name.clone();
                let giver = source
                    .output
                    .as_deref()
                    .map_or(giver.clone(), |output| format!("{giver}.{output}"));
                let place = Asker {
                    by: &by,
                    needs: &arrival.marks[place],
                };
                sink.push(match problem {
                    Problem::Missing => {
                        let lost = lost::find(&need.column, source, stages, tasks);
                        missing(stage, need, table, &giver, place, lost)
                    }
                    Problem::Type(found) => wrong_type(stage, need, found, &giver, place),
                });
            }
        }
    }
}

/// Whether `check_cases` says it.
fn told_of_cases(stage: &StageDraft, kind: Declaration, need: &Need) -> bool {
    let cases = stage.with.get("cases").filter(|_| kind.cases);
    cases.is_some_and(|cases| cases.entry(&need.column).is_some())
}

/// Reports every column that `cases` tells rows apart by and that is not there.
pub fn check_cases(stage: &StageDraft, arrival: Option<&Arrival>, sink: &mut Sink) {
    let cases = stage.with.get("cases").map(Node::entries).unwrap_or_default();
    for table in arrival.iter().flat_map(|arrival| &arrival.tables) {
        for case in cases.iter().filter(|case| !table.may_have(&case.key)) {
            let names = table.fields.iter().map(|field| field.name.as_str());
            let wrong = Diagnostic::error(format!(
                "stage `{}`: `cases` by the unknown column `{}`",
                stage.name, case.key
            ));
            sink.push(wrong.at(&case.mark, suggestion(&case.key, names, "columns")));
        }
    }
}

enum Problem {
    Missing,
    Type(ColumnType),
}

fn problem(need: &Need, table: &Schema) -> Option<Problem> {
    match table.field(&need.column) {
        None if need.required && table.completeness == Completeness::Exact => Some(Problem::Missing),
        None => None,
        Some(field) => match (need.kind, field.kind) {
            (Some(wanted), Some(found)) if !fits(wanted, found) => Some(Problem::Type(found)),
            _ => None,
        },
    }
}

/// Whether a column of one type can be read as another: numbers as numbers, vectors of any length where none is said.
pub fn fits(wanted: ColumnType, found: ColumnType) -> bool {
    use ColumnType::{F32, F64, I64, U32, U64, Vector};
    let number = |kind| matches!(kind, I64 | U32 | U64 | F32 | F64);
    wanted == found || (number(wanted) && number(found)) || matches!((wanted, found), (Vector(0), Vector(_)))
}

/// Where a column is asked for.
struct Asker<'a> {
    /// The parameters that name it.
    by: &'a [Mark],
    /// Where the stage is named that does not give it.
    needs: &'a Mark,
}

impl Asker<'_> {
    /// The error at the parameter that asks, with where the table comes from, else there.
    fn tell(&self, wrong: Diagnostic, label: String) -> Diagnostic {
        let Some((first, others)) = self.by.split_first() else {
            return wrong.at(self.needs, label);
        };
        let wrong = wrong.at(first, label).also(self.needs, "of this table");
        others.iter().fold(wrong, |wrong, other| wrong.also(other, "and here"))
    }
}

fn missing(
    stage: &StageDraft,
    need: &Need,
    table: &Schema,
    giver: &str,
    place: Asker<'_>,
    lost: Option<Lost>,
) -> Diagnostic {
    let column = &need.column;
    let what = if stage.figure { "figure" } else { "stage" };
    let name = stage.name.strip_prefix("figures.").unwrap_or(&stage.name);
    let names = || table.fields.iter().map(|field| field.name.as_str());
    let found = Diagnostic::error(format!(
        "{what} `{name}` needs the column `{column}`, which `{giver}` does not give"
    ));
    let columns = format!("the columns of `{giver}` are {}", listing(names()));
    // A column that was there is spelt right.
    if let Some(lost) = lost {
        let found = place.tell(found, format!("`{giver}` has no `{column}`"));
        return found
            .also(&lost.mark, lost.label)
            .hint(format!("{}; {columns}", lost.what));
    }
    let label = match nearest(column, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`{giver}` has no `{column}`"),
    };
    place.tell(found, label).hint(columns)
}

fn wrong_type(stage: &StageDraft, need: &Need, found: ColumnType, giver: &str, place: Asker<'_>) -> Diagnostic {
    let wanted = need.kind.map(type_name).unwrap_or_default();
    let (column, found) = (&need.column, type_name(found));
    let message = format!(
        "stage `{}` needs `{column}` as {wanted}, but `{giver}` gives it as {found}",
        stage.name
    );
    place.tell(Diagnostic::error(message), format!("`{column}` is {found} there"))
}
