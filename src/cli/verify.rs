//! `verify`: recorded results are computed again on their recorded inputs, and nothing is written.

use fracture_language::Task;
use fracture_stage::{Declaration, Error, ErrorKind};
use serde_json::{Value, json};

use super::failure::{Exit, Failure, printable};
use super::project::Project;
use super::{VerifyArgs, print};
use crate::catalogue::catalogue;
use crate::engine::agreement::{Agreement, compare};
use crate::engine::alone::{AloneOptions, execute};
use crate::engine::plan::{LOST, Plan};
use crate::engine::{TaskManifest, Workspace, store_error};

/// What is found of a task.
enum Finding {
    /// There is no result.
    Missing,
    /// It, or what it was made of, is damaged or lost.
    Lost(String),
    /// A file that it needs is not there.
    Unverifiable(String),
    /// Nothing is promised of it: a served model gave it.
    Served(String),
    /// It was computed again; what differs, if anything does.
    Computed(Agreement, Option<String>),
}

impl Finding {
    fn name(&self) -> &'static str {
        match self {
            Self::Missing => "not there",
            Self::Lost(_) => "LOST",
            Self::Unverifiable(_) | Self::Served(_) => "unverifiable",
            Self::Computed(agreement, _) => agreement.name(),
        }
    }

    fn what(&self) -> Option<&str> {
        match self {
            Self::Missing => None,
            Self::Lost(why) | Self::Unverifiable(why) | Self::Served(why) => Some(why),
            Self::Computed(_, what) => what.as_deref(),
        }
    }
}

/// Computes results again and says of each whether it came out the same.
pub fn verify(args: &VerifyArgs, as_json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = Project::planned(&args.spec)?;
    let pipeline = &project.pipeline;
    let chosen = project.select(&args.only)?;
    let mut tasks: Vec<_> = pipeline
        .tasks
        .iter()
        .filter(|task| args.only.is_empty() || chosen.contains(&task.id))
        .collect();
    if let Some(count) = args.sample {
        shuffle(&mut tasks);
        tasks.truncate(count);
        tasks.sort_by_key(|task| task.id);
    }
    let kinds = catalogue();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = AloneOptions {
        threads,
        offline: args.offline,
    };
    let mut listed = Vec::new();
    let mut worst = Agreement::Bits;
    let (mut missing, mut lost, mut unverifiable, mut served) = (0, 0, 0, 0);
    for task in tasks {
        let found = look(task, &plan, &workspace, &kinds, options)?;
        match &found {
            Finding::Missing => missing += 1,
            Finding::Lost(_) => lost += 1,
            Finding::Unverifiable(_) => unverifiable += 1,
            Finding::Served(_) => served += 1,
            Finding::Computed(agreement, _) => worst = worst.max(*agreement),
        }
        if as_json {
            listed.push(json!({ "task": task.name, "agreement": found.name(), "what": found.what() }));
        } else if !matches!(found, Finding::Missing) {
            let what = found
                .what()
                .map_or_else(String::new, |what| format!(" ({})", printable(what)));
            print(&format!("{:12} {}{what}\n", found.name(), printable(&task.name)))?;
        }
    }
    if as_json {
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&Value::Array(listed)).unwrap_or_default()
        ))?;
    } else {
        // With --json the list says all this.
        if lost > 0 {
            eprintln!(
                "{lost} tasks can not be verified because results are damaged or lost; `fracture run` computes them again"
            );
        }
        if unverifiable > 0 {
            eprintln!("{unverifiable} tasks can not be verified without their files; put them back to verify them");
        }
        if served > 0 {
            eprintln!("{served} tasks were given by served models: nobody promises that they come out again");
        }
        if missing > 0 {
            eprintln!("{missing} tasks have no result to verify; `fracture run` computes them");
        }
    }
    Ok(if worst == Agreement::Different || lost > 0 {
        Exit::Different
    } else {
        Exit::Done
    })
}

/// Computes the result of one task again, unless that says nothing.
fn look(
    task: &Task,
    plan: &Plan,
    workspace: &Workspace,
    kinds: &[Declaration],
    options: AloneOptions,
) -> Result<Finding, Error> {
    let planned = &plan.tasks[task.id.index()];
    let Some(result) = &planned.result else {
        return Ok(match plan.unusable(task, workspace) {
            Some(why) if why == LOST => Finding::Lost(why.to_owned()),
            _ => Finding::Missing,
        });
    };
    let Some(inputs) = plan.inputs(task) else {
        return Ok(Finding::Lost("a result that it was made of is not there".to_owned()));
    };
    if let Some(why) = task.implementation.unverifiable() {
        // Asking again costs money and promises nothing.
        return Ok(Finding::Served(why));
    }
    let Some(record) = workspace.records.by_action(&result.action).map_err(store_error)? else {
        return Ok(Finding::Missing);
    };
    // A result is compared by what its record says of it, so whether that is still there is asked for itself.
    let mut objects = record.outputs.iter().flat_map(|output| output.artifact.objects());
    match objects.try_for_each(|(digest, size)| workspace.store.verify_blob(digest, size)) {
        Err(error) if error.is_lost_object() => return Ok(Finding::Lost(error.to_string())),
        other => other.map_err(store_error)?,
    }
    if let Err(error) = workspace.present(&planned.files) {
        return Ok(Finding::Unverifiable(error.message));
    }
    let product = match execute(&TaskManifest::new(task, inputs), workspace, kinds, options) {
        Ok(product) => product,
        // It was computed once, so that it fails now is a difference; the others are looked at all the same.
        Err(error) if error.kind == ErrorKind::Task => {
            let why = format!("it fails now: {}", error.message);
            return Ok(Finding::Computed(Agreement::Different, Some(why)));
        }
        // What it reads was damaged after it was made; the tasks that made it are told, too, if they are looked at.
        Err(error) if error.kind == ErrorKind::Store => {
            return Ok(Finding::Lost(format!("it can not be computed: {}", error.message)));
        }
        Err(error) => return Err(error),
    };
    let (agreement, what) = compare(&record, &product, workspace)?;
    Ok(Finding::Computed(agreement, what))
}

/// A random order: which tasks are looked at is no result, so chance may decide.
fn shuffle<T>(items: &mut [T]) {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new();
    for index in (1..items.len()).rev() {
        items.swap(index, (random.hash_one(index) % (index as u64 + 1)) as usize);
    }
}
