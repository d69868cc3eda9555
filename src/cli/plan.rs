//! `plan` and `why`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::because::{because_lines, short};
use super::failure::{Exit, Failure, printable};
use super::project::Project;
use super::{PlanArgs, SpecArgs, WhyArgs, fetch, figures, leave, print, progress};
use crate::engine::Workspace;
use crate::engine::lock::Lock;
use crate::engine::plan::{Plan, State};

/// Says what would run and why.
pub fn plan(args: &PlanArgs, as_json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = looked_up(&args.spec, args.update, args.offline, as_json)?;
    if project.models.offline().is_some() {
        fetch::check_offline(&project, &plan)?;
    }
    figures::check_targets(&project.pipeline, &plan)?;
    // It says why tasks would run; where none would, nobody asks.
    let lock = if plan.is_done() {
        Lock::default()
    } else {
        Lock::read(&project.lock_path())?
    };
    let pipeline = &project.pipeline;
    let mut listed = Vec::new();
    let mut text = String::new();
    let mut counts = [0_usize; 3];
    for (task, planned) in pipeline.tasks.iter().zip(&plan.tasks) {
        let because = plan.because(task, pipeline, &workspace, &lock);
        counts[planned.state as usize] += 1;
        if as_json {
            let key = planned.result.as_ref().map(|result| result.action);
            let key = key.or(planned.action.as_deref().map(|(action, _)| *action));
            listed.push(json!({
                "task": task.name, "stage": pipeline.stages[task.stage].name, "action": planned.state.name(),
                "key": key, "because": because,
            }));
        } else if planned.state != State::Cached {
            text.push_str(&format!("{:8} {}\n", planned.state.name(), printable(&task.name)));
            for line in because_lines(&because, task.declaration.name) {
                text.push_str(&format!("         {}\n", printable(&line)));
            }
        }
    }
    if as_json {
        text = format!(
            "{}\n",
            serde_json::to_string_pretty(&Value::Array(listed)).unwrap_or_default()
        );
    } else {
        let [cached, run, pending] = counts;
        text.push_str(&format!(
            "{} tasks: {run} to run, {pending} pending on those, {cached} cached\n",
            pipeline.tasks.len()
        ));
    }
    print(&text)?;
    leave((project, plan));
    let anything = counts[State::Run as usize] + counts[State::Pending as usize] > 0;
    Ok(if args.check && anything {
        Exit::Different
    } else {
        Exit::Done
    })
}

/// Says what a task's key is made of, and what changed since the lock file.
pub fn why(args: &WhyArgs, as_json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = looked_up(&args.spec, args.update, false, as_json)?;
    let lock = Lock::read(&project.lock_path())?;
    let pipeline = &project.pipeline;
    let tasks = project.select(std::slice::from_ref(&args.task))?;
    let mut listed = Vec::new();
    let mut text = String::new();
    for id in tasks {
        let task = &pipeline.tasks[id.0 as usize];
        let planned = &plan.tasks[id.0 as usize];
        let because = plan.because(task, pipeline, &workspace, &lock);
        let record = planned
            .result
            .as_ref()
            .map(|result| workspace.records.by_action(&result.action));
        let record = record.transpose().map_err(crate::engine::store_error)?.flatten();
        let parts = match (&record, planned.action.as_deref()) {
            (Some(record), _) => crate::engine::plan::recorded_parts(&record.parts),
            (None, Some((_, parts))) => parts.clone(),
            (None, None) => plan.recipe_parts(task, pipeline),
        };
        let key = planned.result.as_ref().map(|result| result.action);
        let key = key.or(planned.action.as_deref().map(|(action, _)| *action));
        if as_json {
            listed.push(json!({
                "task": task.name, "action": planned.state.name(), "recipe": planned.recipe, "key": key,
                "because": because, "parts": parts,
            }));
            continue;
        }
        text.push_str(&format!("{}: {}\n", printable(&task.name), planned.state.name()));
        if let Some(key) = key {
            text.push_str(&format!("  key    {}\n", key.short()));
        }
        text.push_str(&format!("  recipe {}\n", planned.recipe.short()));
        if planned.state != State::Cached {
            text.push_str("  because\n");
            for line in because_lines(&because, task.declaration.name) {
                text.push_str(&format!("    {}\n", printable(&line)));
            }
        }
        text.push_str("  the key is made of\n");
        for part in &parts {
            let (name, value) = (&part.name, short(&part.value));
            text.push_str(&format!(
                "    {} {}: {}\n",
                part.role.name(),
                printable(name),
                printable(&value)
            ));
        }
    }
    if as_json {
        text = format!(
            "{}\n",
            serde_json::to_string_pretty(&Value::Array(listed)).unwrap_or_default()
        );
    }
    print(&text)?;
    Ok(Exit::Done)
}

/// Plans, at the newest commits of models on a hub when they are asked for.
fn looked_up(
    args: &SpecArgs,
    update: bool,
    offline: bool,
    json: bool,
) -> Result<(Project, Arc<Workspace>, Plan), Failure> {
    let mut project = Project::read(args, offline, None)?;
    if update {
        fetch::update(&project, progress::reader(&project.pipeline, false, json).as_ref())?;
        project = Project::read(args, offline, Some(Arc::clone(&project.models)))?;
    }
    project.warn();
    let workspace = project.open()?;
    let plan = project.plan(&workspace)?;
    Ok((project, workspace, plan))
}
