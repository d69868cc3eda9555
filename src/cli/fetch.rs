//! Models from a hub, before a plan is made: pins are moved where the user says so, and what is missing is fetched.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fracture_hub::Reference;
use fracture_language::{Diagnostics, Task, TaskId};
use fracture_stage::{Error, ErrorKind, ModelFiles};

use super::SpecArgs;
use super::failure::{Exit, Failure};
use super::project::{Project, shown};
use crate::engine::event::{Event, Sink};
use crate::engine::lock::Lock;
use crate::engine::models::{Models, Moved, event, fetch_told, short, watch};
use crate::engine::plan::Plan;

/// The models on a hub that tasks read, with the tasks that do; tasks that share an implementation count once.
fn all<'a>(project: &'a Project, only: &BTreeSet<TaskId>) -> Vec<(ModelFiles, &'a Task)> {
    let mut seen = HashSet::new();
    let tasks = project.pipeline.tasks.iter();
    let chosen = tasks.filter(|task| only.is_empty() || only.contains(&task.id));
    let distinct = chosen.filter(|task| seen.insert(Arc::as_ptr(&task.implementation).addr()));
    let of = |task: &'a Task| {
        Models::of(task.implementation.as_ref())
            .into_iter()
            .map(move |model| (model, task))
    };
    distinct.flat_map(of).collect()
}

/// The models on a hub that tasks read, each with one of them.
fn used(project: &Project) -> BTreeMap<ModelFiles, &Task> {
    all(project, &BTreeSet::new()).into_iter().rev().collect()
}

fn references(project: &Project) -> BTreeSet<Reference> {
    let used = used(project);
    used.keys()
        .filter_map(|model| Reference::parse(&model.source).ok())
        .collect()
}

/// An error about a model, shown where the pipeline names it.
fn at(project: &Project, task: &Task, error: Error) -> Failure {
    match error.kind {
        ErrorKind::Interrupted => error.into(),
        _ => Failure::Pipeline(Diagnostics(vec![project.pipeline.diagnose(task, error)])),
    }
}

/// Asks the hub for the newest commits and tells which pins moved.
///
/// # Errors
/// As the hub refuses.
pub fn update(project: &Project, sink: &dyn Sink) -> Result<(), Failure> {
    let note = |message: String| sink.event(&Event::Note { task: None, message });
    let cancelled = AtomicBool::new(false);
    let used = used(project);
    for reference in references(project) {
        let tell = |step| sink.event(&event(step));
        let moved = project
            .models
            .update(std::slice::from_ref(&reference), &watch(&tell, &cancelled));
        let names = |model: &ModelFiles| Reference::parse(&model.source).is_ok_and(|other| other == reference);
        let task = used.iter().find(|(model, _)| names(model)).map(|(_, task)| *task);
        let moved = moved.map_err(|error| match task {
            Some(task) => at(project, task, error),
            None => error.into(),
        })?;
        moved.iter().map(moved_text).for_each(note);
    }
    if used.is_empty() {
        note("--update looks nothing up: the pipeline names no model on a hub".to_owned());
    }
    Ok(())
}

fn moved_text(moved: &Moved) -> String {
    let Moved { reference, was, now } = moved;
    match was.as_deref() {
        Some(was) if was == now => format!("`{reference}` is still at {}", short(now)),
        Some(was) => format!("`{reference}` moved: {} → {}", short(was), short(now)),
        None => format!("`{reference}` is at {}", short(now)),
    }
}

/// `--locked`: every model on a hub is pinned by the lock file, so that no pin can move.
///
/// # Errors
/// The models without a pin.
pub fn check_pins(project: &Project, json: bool) -> Result<(), Failure> {
    let references = references(project);
    if references.is_empty() {
        return Ok(());
    }
    let lock = Lock::read(&project.lock_path())?;
    let unpinned = references
        .iter()
        .filter(|reference| lock.commits(&reference.folder()).is_empty());
    let what = format!(
        "the lock file `{}` does not pin every model on a hub",
        shown(&project.lock_path())
    );
    let error = unpinned.fold(Error::pipeline(what), |error, reference| {
        error.cause(format!("`{reference}`"))
    });
    if error.causes.is_empty() {
        return Ok(());
    }
    Failure::Error(error.hint("a run without --locked pins them")).report(json);
    Err(Failure::Told(Exit::Different))
}

/// Fetches the models whose files are neither here nor locked, and compiles again what was compiled without them.
///
/// # Errors
/// The first model that can not be had, shown where the pipeline names it.
pub fn fetch(args: &SpecArgs, project: Project, only: &[String], sink: &dyn Sink) -> Result<Project, Failure> {
    let only: BTreeSet<TaskId> = project.select(only)?.into_iter().collect();
    let mut open: Vec<(ModelFiles, &Task)> = Vec::new();
    for (model, task) in all(&project, &only) {
        if !project.models.is_settled(&model) {
            open.push((model, task));
        }
    }
    if open.is_empty() {
        project.warn();
        return Ok(project);
    }
    let workspace = project.open()?;
    let mut fetched = false;
    for (model, task) in open {
        // What is counted at its locked digest is fetched when a task has to run, if one has to.
        if project.models.is_settled(&model) || (project.models.lacks(&model) && workspace.counts_as_locked(task)) {
            continue;
        }
        fetch_told(&project.models, &model, sink).map_err(|error| at(&project, task, error))?;
        fetched = true;
    }
    let models = Arc::clone(&project.models);
    let project = match fetched {
        true => Project::read(args, false, Some(models))?,
        false => project,
    };
    project.warn();
    Ok(project)
}

/// `plan --offline`: fails when something would have to be fetched.
///
/// # Errors
/// The models that are not here, shown where the pipeline names them.
pub fn check_offline(project: &Project, plan: &Plan) -> Result<(), Failure> {
    let mut told = Vec::new();
    for (model, task) in used(project) {
        let absent = plan.tasks[task.id.index()]
            .files
            .iter()
            .any(|file| file.fetch.is_some());
        if absent && let Some(error) = project.models.refusal(&model) {
            told.push(project.pipeline.diagnose(task, error));
        }
    }
    match told.is_empty() {
        true => Ok(()),
        false => Err(Failure::Pipeline(Diagnostics(told))),
    }
}
