//! `run`.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Instant;

use fracture_language::{Pipeline, TaskId};
use fracture_stage::{Error, ErrorKind};
use serde_json::json;

use super::failure::{Exit, Failure};
use super::figures::{self, Drawn};
use super::project::{Project, shown};
use super::{RunArgs, fetch, leave, print, progress, runs};
use crate::engine::event::{Event, Sink as _};
use crate::engine::lock::Lock;
use crate::engine::plan::{Plan, State};
use crate::engine::{RunOptions, history, projects, run as run_pipeline};

/// Runs what is missing, draws the figures, writes the lock file, prints the tables.
pub fn run(args: &RunArgs, json: bool) -> Result<Exit, Failure> {
    let (began, patience) = (Instant::now(), runs::patience()?);
    let mut project = Project::read(&args.spec, args.offline, None)?;
    let reader = progress::reader(&project.pipeline, args.events.is_some(), json);
    if args.update {
        fetch::update(&project, reader.as_ref())?;
        project = Project::read(&args.spec, args.offline, Some(Arc::clone(&project.models)))?;
    }
    if args.locked {
        fetch::check_pins(&project, json)?;
    }
    let mut project = fetch::fetch(&args.spec, project, &args.only, reader.as_ref())?;
    let workspace = project.open()?;
    // Before any result is looked at: from here on no collection removes one.
    let _present = history::enter(&workspace.store, &runs::surroundings().who, reader.as_ref())?;
    let mut plan = project.plan(&workspace)?;
    if !args.refresh.is_empty() {
        project.refresh(&args.refresh, &plan)?;
        plan = project.plan(&workspace)?;
    }
    let pipeline = &project.pipeline;
    figures::check_targets(pipeline, &plan)?;
    let lock_path = project.lock_path();
    // Mostly nothing is to be done and the lock file says so; then it is neither taken apart nor written.
    let locked = plan.is_locked(pipeline, &lock_path);
    let before = if locked {
        Lock::default()
    } else {
        Lock::read(&lock_path)?
    };
    if args.locked && !locked {
        if !lock_path.is_file() {
            let what = format!(
                "--locked needs the lock file `{}`, which is not there",
                shown(&lock_path)
            );
            return Err(Error::pipeline(what).hint("a run without --locked writes it").into());
        }
        check_recipes(&project, &plan, &before, json)?;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = RunOptions {
        jobs: args.jobs.unwrap_or(cores),
        threads: cores,
        keep_going: args.keep_going,
        offline: args.offline,
        only: project.select(&args.only)?.into_iter().collect::<BTreeSet<_>>(),
        who: runs::surroundings().who,
        stop_at_once,
        patience,
        began,
    };
    let lacking = lacking(pipeline, &plan, &options.only);
    let record = runs::Recording::begin(pipeline, &workspace, args.trace.as_deref())?;
    let sink = record.readers(reader.as_ref());
    // What is damaged shows when it is read, and is mended while the run goes on.
    let mut drawn = Ok(Drawn::default());
    let mut look = |plan: &Plan| match Drawn::read(pipeline, &workspace, plan, !json) {
        Ok(read) => {
            drawn = Ok(read);
            Ok(())
        }
        Err((id, error)) => {
            drawn = Err(error.clone());
            Err((id, error))
        }
    };
    let outcomes = run_pipeline(pipeline, &workspace, plan, &options, &sink, &mut look)?;
    let drawn = drawn?;
    drawn.write(pipeline, &outcomes.plan, &sink)?;
    if locked && args.spec.set.is_empty() {
        projects::register_unchanged(&workspace.store, &lock_path)?;
    } else {
        let after = outcomes.plan.lock(pipeline);
        if args.locked && !locked {
            check_outputs(&before, &after, json)?;
        } else if args.spec.set.is_empty() {
            merged(after, before, &outcomes.plan, &project).write(&lock_path)?;
        } else {
            let message = "the lock file is left as it is, because of --set".to_owned();
            sink.event(&Event::Note { task: None, message });
        }
        projects::register(&workspace.store, &lock_path)?;
    }
    record.end(pipeline, &outcomes)?;
    if json {
        let summary = &outcomes.summary;
        let lock = lock_path
            .strip_prefix(&pipeline.root)
            .unwrap_or(&lock_path)
            .display()
            .to_string();
        let mut told =
            json!({ "tasks": summary.tasks, "rows": summary.rows, "seconds": summary.seconds, "lock": lock });
        if let Some(served) = &summary.served {
            told["served"] = json!(served);
        }
        print(&format!("{told}\n"))?;
    } else {
        for table in &drawn.tables {
            print(&format!("{table}\n"))?;
        }
    }
    // The events have told each failure already.
    let failed = outcomes
        .failures
        .first()
        .map(|(_, error)| super::failure::exit_code(error.kind));
    let exit = match failed {
        _ if outcomes.interrupted => Exit::Interrupted,
        Some(Exit::Interrupted) => Exit::Interrupted,
        Some(_) => Exit::Failed,
        None if !lacking.is_empty() => {
            Failure::Error(incomplete(pipeline, &lacking, &args.only)).report(json);
            Exit::Failed
        }
        None => Exit::Done,
    };
    leave((project, outcomes));
    Ok(exit)
}

/// The second interruption: nothing is waited for. What the shell writes next is on a line of its own.
fn stop_at_once() {
    fracture_command::stop_at_once();
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
}

/// The selected tasks that can not run, each with the first task that it needs, that is not selected and has no result.
fn lacking(pipeline: &Pipeline, plan: &Plan, only: &BTreeSet<TaskId>) -> Vec<(TaskId, TaskId)> {
    let there = |id: TaskId| plan.tasks[id.index()].state == State::Cached;
    let selected = only.iter().copied().filter(|id| !there(*id));
    let lacks = |id: TaskId| {
        let connections = pipeline.tasks[id.index()].inputs.iter();
        let mut needed = connections.flat_map(|one| &one.sources).map(|source| source.task);
        let missing = needed.find(|need| !there(*need) && !only.contains(need))?;
        Some((id, missing))
    };
    selected.filter_map(lacks).collect()
}

/// The error for tasks that were selected without what they need.
fn incomplete(pipeline: &Pipeline, lacking: &[(TaskId, TaskId)], only: &[String]) -> Error {
    const SHOWN: usize = 10;
    let name = |id: TaskId| &pipeline.tasks[id.index()].name;
    let (first, rest) = (lacking[0].0, lacking.len() - 1);
    let others = match rest {
        0 => String::new(),
        1 => " and one other task".to_owned(),
        many => format!(" and {many} other tasks"),
    };
    let what = format!(
        "`{}`{others} did not run: what they need is neither computed nor selected",
        name(first)
    );
    let what = if rest == 0 {
        what.replace("what they need", "what it needs")
    } else {
        what
    };
    let causes = lacking.iter().take(SHOWN);
    let causes = causes.map(|(task, need)| format!("`{}` needs `{}`", name(*task), name(*need)));
    let mut error = causes.fold(Error::new(ErrorKind::Task, what), Error::cause);
    if lacking.len() > SHOWN {
        error = error.cause(format!("and {} more", lacking.len() - SHOWN));
    }
    let selectors = only
        .iter()
        .map(|one| format!("--only '+{}'", one.trim_start_matches('+')));
    error.hint(format!(
        "`+` selects what a task needs as well: {}",
        selectors.collect::<Vec<_>>().join(" ")
    ))
}

/// The new lock file: the lines of this run, and the old lines of tasks that this run did not reach.
fn merged(mut after: Lock, before: Lock, plan: &Plan, project: &Project) -> Lock {
    let unreached = project
        .pipeline
        .tasks
        .iter()
        .filter(|task| plan.tasks[task.id.0 as usize].result.is_none());
    let mut kept = false;
    for task in unreached {
        if let Some(lines) = before.tasks.get(&task.name) {
            after.tasks.insert(task.name.clone(), lines.clone());
            kept = true;
        }
    }
    if kept {
        after.add_files(before.files);
    }
    after
}

/// `--locked`, before the run: every task is described as the lock file says.
fn check_recipes(project: &Project, plan: &Plan, lock: &Lock, json: bool) -> Result<(), Failure> {
    let tasks = project.pipeline.tasks.iter();
    let different: Vec<&str> = tasks
        .filter(|task| {
            let recipe = plan.tasks[task.id.0 as usize].recipe;
            !lock
                .tasks
                .get(&task.name)
                .is_some_and(|lines| lines.iter().any(|line| line.recipe == recipe))
        })
        .map(|task| task.name.as_str())
        .collect();
    if different.is_empty() {
        return Ok(());
    }
    let what = format!(
        "`{}` differs from its lock file `{}`",
        project.pipeline.name,
        shown(&project.lock_path())
    );
    Err(differs(&what, &different, json))
}

/// `--locked`, after the run: every task gave what the lock file says.
fn check_outputs(before: &Lock, after: &Lock, json: bool) -> Result<(), Failure> {
    let different: Vec<&String> = after
        .tasks
        .iter()
        .filter(|(name, lines)| {
            let Some(line) = lines.first() else { return false };
            before
                .task(name, &line.recipe)
                .is_none_or(|locked| locked.output != line.output)
        })
        .map(|(name, _)| name)
        .collect();
    if different.is_empty() {
        return Ok(());
    }
    let different: Vec<&str> = different.into_iter().map(String::as_str).collect();
    Err(differs("results differ from the lock file", &different, json))
}

/// Tells which tasks differ from the lock file.
fn differs(what: &str, tasks: &[&str], json: bool) -> Failure {
    const SHOWN: usize = 20;
    let error = tasks.iter().take(SHOWN).fold(Error::pipeline(what), Error::cause);
    let error = if tasks.len() > SHOWN {
        error.cause(format!("and {} more", tasks.len() - SHOWN))
    } else {
        error
    };
    let error = error.hint("`fracture why SPEC TASK` says what changed; a run without --locked writes a new lock file");
    Failure::Error(error).report(json);
    Failure::Told(Exit::Different)
}
