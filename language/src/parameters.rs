//! Checks the parameters of a stage against the JSON Schema of its kind.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use fracture_stage::{Declaration, ParameterError, PathPart};
use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Sink};
use crate::stages::StageDraft;
use crate::tree::{Node, Tree};
use crate::validate::{Validator, Violation};

/// Everything that does not fit. `cases` is checked down to the parameters of each case.
pub fn check_parameters(with: &Value, schema: &Value, kind: Declaration) -> Vec<Violation> {
    let validator = Validator {
        root: schema,
        partial: false,
    };
    let Some(cases) = with.get("cases").filter(|_| kind.cases) else {
        return validator.check(with);
    };
    let mut rest = with.clone();
    if let Value::Object(rest) = &mut rest {
        rest.remove("cases");
    }
    let mut found = validator.check(&rest);
    let mut path = vec![PathPart::Key("cases".to_owned())];
    check_cases(
        cases,
        &Validator {
            root: schema,
            partial: true,
        },
        &mut path,
        &mut found,
    );
    found
}

fn check_cases(cases: &Value, validator: &Validator<'_>, path: &mut Vec<PathPart>, found: &mut Vec<Violation>) {
    for (column, values) in map_at(cases, "a map from column to cases", path, found) {
        path.push(PathPart::Key(column.clone()));
        for (value, parameters) in map_at(values, "a map from value to parameters", path, found) {
            path.push(PathPart::Key(value.clone()));
            for (name, _) in map_at(parameters, "a map of parameters", path, found) {
                if name == "cases" {
                    let path = path.iter().cloned().chain([PathPart::Key(name.clone())]).collect();
                    let message = "`cases` inside `cases`".to_owned();
                    found.push(Violation {
                        path,
                        key: true,
                        message,
                        label: "list more columns above instead".to_owned(),
                    });
                }
            }
            if parameters.is_object() {
                found.extend(validator.check_at(parameters, validator.root, path));
            }
            path.pop();
        }
        path.pop();
    }
}

fn map_at<'v>(
    value: &'v Value,
    expected: &str,
    path: &[PathPart],
    found: &mut Vec<Violation>,
) -> impl Iterator<Item = (&'v String, &'v Value)> + use<'v> {
    let map: Option<&Map<String, Value>> = value.as_object();
    if map.is_none() {
        let message = format!("`cases`: found {}, expected {expected}", crate::tree::found(value));
        found.push(Violation {
            path: path.to_vec(),
            key: false,
            message,
            label: format!("expected {expected}"),
        });
    }
    map.into_iter().flatten()
}

/// A violation at its place.
pub fn diagnostic(violation: &Violation, stage: &StageDraft, with: &Node) -> Diagnostic {
    let (_, mut mark, _) = with.place(&violation.path, violation.key);
    if violation.path.is_empty() && violation.key {
        mark = stage.mark.clone();
    }
    let hint = (violation.key && violation.message.starts_with("unknown"))
        .then(|| keys_hint(stage))
        .flatten();
    let found =
        Diagnostic::error(format!("{}: {}", subject(stage), violation.message)).at(&mark, violation.label.clone());
    Diagnostic { hint, ..found }
}

/// Misplaced keys of a stage are the usual cause of unknown parameters.
fn keys_hint(stage: &StageDraft) -> Option<String> {
    let key = |name: &str| stage.with.get(name).is_some();
    let misplaced = ["needs", "matrix", "per", "uses"]
        .into_iter()
        .find(|name| !stage.figure && key(name))?;
    Some(format!("`{misplaced}` belongs beside `with`, not inside it"))
}

/// An error that the kind itself found.
pub fn from_kind(error: &ParameterError, stage: &StageDraft, with: &Node) -> Diagnostic {
    let (_, mark, rest) = with.place(&error.path, true);
    let at = match (rest.is_empty(), error.path.last()) {
        // The place of the value; of the key only when there is nothing else to show.
        (true, Some(_)) => with.place(&error.path, false).1,
        _ if error.path.is_empty() => stage.mark.clone(),
        _ => mark,
    };
    let label = error.hint.clone().unwrap_or_default();
    Diagnostic::error(format!("{}: {}", subject(stage), error.message)).at(&at, label)
}

/// ``stage `a` `` or ``figure `a` ``.
pub fn subject(stage: &StageDraft) -> String {
    match stage.name.strip_prefix("figures.") {
        Some(name) => format!("figure `{name}`"),
        None => format!("stage `{}`", stage.name),
    }
}

/// The files that a figure writes, with their places.
pub fn targets(stage: &StageDraft) -> Vec<&Node> {
    match stage.with.get("to") {
        Some(node) => match &node.tree {
            Tree::List(items) => items.iter().collect(),
            _ => vec![node],
        },
        None => Vec::new(),
    }
}

/// Figures are written inside the project.
pub fn check_targets(stage: &StageDraft, sink: &mut Sink) {
    for target in targets(stage) {
        let Some(text) = target.text() else { continue };
        let path = Path::new(text);
        let inside = path
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if text.is_empty() || !inside || text.contains('\\') {
            let wrong = Diagnostic::error(format!("{}: `{text}` leads outside the project", subject(stage)));
            sink.push(wrong.at(&target.mark, "expected a path inside the project, without `..`"));
        }
    }
}

/// Two figures must not write one file.
pub fn check_collisions(stages: &[StageDraft], sink: &mut Sink) {
    let mut written: HashMap<PathBuf, (&StageDraft, &Node)> = HashMap::new();
    for stage in stages.iter().filter(|stage| stage.figure) {
        for target in targets(stage) {
            let Some(text) = target.text() else { continue };
            let path = crate::overlay::normal(Path::new(text));
            if let Some((other, first)) = written.get(&path) {
                let twice = Diagnostic::error(format!("{} and {} both write `{text}`", subject(other), subject(stage)));
                sink.push(
                    twice
                        .at(&target.mark, "written again here")
                        .also(&first.mark, "first written here"),
                );
            } else {
                written.insert(path, (stage, target));
            }
        }
    }
}
