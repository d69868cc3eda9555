//! Why a task would run: the parts of its key beside those of the record that the lock file names.

use std::collections::{HashMap, HashSet};

use fracture_hub::Reference;
use fracture_language::{Pipeline, Task};
use fracture_stage::PartText;
use serde_json::{Value, json};

use super::{Plan, State};
use crate::engine::keys::{self, Change, FileKey};
use crate::engine::lock::Lock;
use crate::engine::models::short;
use crate::engine::workspace::Workspace;

impl Plan {
    /// Why a task would run: what differs from its line in the lock file.
    pub fn because(&self, task: &Task, pipeline: &Pipeline, workspace: &Workspace, lock: &Lock) -> Vec<Change> {
        let planned = &self.tasks[task.id.0 as usize];
        if planned.state == State::Cached {
            return Vec::new();
        }
        let waiting = task.inputs.iter().flat_map(|connection| &connection.sources);
        let waiting = waiting.filter(|source| self.tasks[source.task.0 as usize].state != State::Cached);
        let mut because: Vec<Change> = waiting
            .map(|source| {
                let before = &pipeline.tasks[source.task.0 as usize];
                let now = Some(Value::String(
                    self.tasks[source.task.0 as usize].state.name().to_owned(),
                ));
                Change {
                    part: format!("input {}", before.name),
                    was: None,
                    now,
                }
            })
            .collect();
        let to_fetch = planned
            .files
            .iter()
            .filter_map(|file| Some((file, file.fetch.as_ref()?)));
        let to_fetch: Vec<Change> = to_fetch
            .map(|(file, what)| Change {
                part: format!("model {}", file.source),
                was: None,
                now: Some(json!(what)),
            })
            .collect();
        because.extend(revisions(&planned.files, lock));
        if !to_fetch.is_empty() {
            // What its files are is not known, so nothing else can be compared.
            because.extend(to_fetch);
            return because;
        }
        let before = lock.task(&task.name, &planned.recipe);
        let recorded = before.and_then(|line| workspace.records.by_action(&line.key).ok().flatten());
        match (recorded, planned.action.as_deref()) {
            (Some(record), Some((_, parts))) => because.extend(keys::changes(&recorded_parts(&record.parts), parts)),
            (Some(record), None) => {
                // The inputs are not there, so only the task's own parts can be compared.
                let own = |parts: Vec<PartText>| -> Vec<PartText> {
                    parts
                        .into_iter()
                        .filter(|part| part.role != fracture_stage::Role::Input)
                        .collect()
                };
                let now = own(self.recipe_parts(task, pipeline));
                let was = own(recorded_parts(&record.parts));
                because.extend(keys::changes(&was, &now));
            }
            (None, _) => because.push(match before {
                // What it was made of is not known here, but whether that was the same.
                Some(line) if line.recipe == planned.recipe => nothing("record", "not in the store"),
                Some(_) => nothing(
                    "record",
                    "not in the store; the lock file has the task described otherwise",
                ),
                None => nothing("result", self.unusable(task, workspace).unwrap_or("never computed")),
            }),
        }
        if because.is_empty() {
            because.push(nothing(
                "result",
                self.unusable(task, workspace)
                    .unwrap_or("its record is lost or damaged"),
            ));
        }
        because
    }

    /// Why a result whose key is recorded does not count; `None` when there is no record.
    pub fn unusable(&self, task: &Task, workspace: &Workspace) -> Option<&'static str> {
        let planned = &self.tasks[task.id.index()];
        let action = planned.action.as_deref().map(|(action, _)| *action);
        // While an input is not there, the recipe may still lead to what it gave last.
        let last = || Some(workspace.records.find(&planned.recipe).ok()??.action);
        let summary = workspace.records.summary(&action.or_else(last)?).ok()??;
        Some(match summary.incomplete {
            true => "incomplete: rows failed, and are tried again",
            false => LOST,
        })
    }
}

/// That an object of a result is not there.
pub const LOST: &str = "an object of it is lost, or was damaged and set aside";

/// The revisions on a hub that mean another commit than the lock file says.
fn revisions(files: &[FileKey], lock: &Lock) -> Vec<Change> {
    let mut seen = HashSet::new();
    let hub = files.iter().filter_map(|file| {
        let commit = file.commit.as_deref()?;
        let of_file = Reference::of_file(&file.source).map(|(reference, _)| reference);
        // What is still to be fetched is named as a whole.
        let reference = of_file.or_else(|| Reference::parse(&file.source).ok())?;
        Some((reference, commit))
    });
    let moved = hub
        .filter(|(reference, _)| seen.insert(reference.clone()))
        .filter_map(|(reference, now)| {
            let folder = format!("{}/", reference.folder());
            let lines = lock.files.iter().filter(|line| line.source.starts_with(&folder));
            let commits: Vec<&str> = lines.map(|line| line.commit.as_str()).collect();
            let was = *commits.last().filter(|_| !commits.contains(&now))?;
            Some(Change {
                part: format!("revision of {reference}"),
                was: Some(json!(short(was))),
                now: Some(json!(short(now))),
            })
        });
    moved.collect()
}

/// That something is not there, and in which way.
fn nothing(part: &str, how: &str) -> Change {
    Change {
        part: part.to_owned(),
        was: None,
        now: Some(json!(how)),
    }
}

/// Parts as a record keeps them.
pub fn parts_to_record(parts: &[PartText]) -> Vec<fracture_cache::record::PartText> {
    let kept = parts.iter().map(|part| fracture_cache::record::PartText {
        role: part.role.name().to_owned(),
        name: part.name.clone(),
        value: part.value.clone(),
    });
    kept.collect()
}

/// Parts of a record; roles that this version does not know are left out.
pub fn recorded_parts(parts: &[fracture_cache::record::PartText]) -> Vec<PartText> {
    let roles: HashMap<&str, fracture_stage::Role> = {
        use fracture_stage::Role::{Constant, File, Input, Kind, Parameter};
        [Kind, Parameter, File, Constant, Input]
            .into_iter()
            .map(|role| (role.name(), role))
            .collect()
    };
    let known = parts.iter().filter_map(|part| {
        let role = *roles.get(part.role.as_str())?;
        Some(PartText {
            role,
            name: part.name.clone(),
            value: part.value.clone(),
        })
    });
    known.collect()
}
