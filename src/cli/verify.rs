//! `verify`: recorded results are computed again on their recorded inputs, and nothing is written.

use serde_json::{Value, json};

use super::failure::{Exit, Failure, printable};
use super::project::Project;
use super::{VerifyArgs, print};
use crate::catalogue::catalogue;
use crate::engine::alone::{Agreement, AloneOptions, compare, execute};
use crate::engine::{TaskManifest, store_error};

/// Computes results again and says of each whether it came out the same.
pub fn verify(args: &VerifyArgs, as_json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = Project::planned(&args.spec)?;
    let pipeline = &project.pipeline;
    let chosen = project.select(&args.only)?;
    let mut tasks: Vec<_> = pipeline
        .tasks
        .iter()
        .filter(|task| chosen.is_empty() || chosen.contains(&task.id))
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
    let (mut missing, mut unverifiable, mut served) = (0, 0, 0);
    for task in tasks {
        let planned = &plan.tasks[task.id.0 as usize];
        let (Some(result), Some(inputs)) = (&planned.result, plan.inputs(task)) else {
            missing += 1;
            listed.push(json!({ "task": task.name, "agreement": "not there", "what": null }));
            continue;
        };
        if let Some(why) = task.implementation.unverifiable() {
            served += 1;
            if !as_json {
                print(&format!(
                    "{:12} {} ({})\n",
                    "unverifiable",
                    printable(&task.name),
                    printable(&why)
                ))?;
            }
            listed.push(json!({ "task": task.name, "agreement": "unverifiable", "what": why }));
            continue;
        }
        let record = workspace.records.by_action(&result.action).map_err(store_error)?;
        let Some(record) = record else {
            missing += 1;
            continue;
        };
        if let Err(error) = workspace.present(&planned.files) {
            unverifiable += 1;
            if !as_json {
                print(&format!(
                    "{:12} {} ({})\n",
                    "unverifiable",
                    printable(&task.name),
                    printable(&error.message)
                ))?;
            }
            listed.push(json!({ "task": task.name, "agreement": "unverifiable", "what": error.message }));
            continue;
        }
        let manifest = TaskManifest::new(task, inputs);
        let product = execute(&manifest, &workspace, &kinds, options)?;
        let (agreement, what) = compare(&record, &product, &workspace)?;
        worst = worst.max(agreement);
        if !as_json {
            let what = what
                .as_ref()
                .map_or_else(String::new, |what| format!(" ({})", printable(what)));
            print(&format!("{:12} {}{what}\n", agreement.name(), printable(&task.name)))?;
        }
        listed.push(json!({ "task": task.name, "agreement": agreement.name(), "what": what }));
    }
    if as_json {
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&Value::Array(listed)).unwrap_or_default()
        ))?;
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
    Ok(if worst == Agreement::Different {
        Exit::Different
    } else {
        Exit::Done
    })
}

/// A random order: which tasks are looked at is no result, so chance may decide.
fn shuffle<T>(items: &mut [T]) {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new();
    for index in (1..items.len()).rev() {
        items.swap(index, (random.hash_one(index) % (index as u64 + 1)) as usize);
    }
}
