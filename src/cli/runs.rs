//! `runs`, and the record that each run leaves.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use fracture_cache::live::{Role, present};
use fracture_cache::{Store, StoreOptions};
use fracture_language::{Pipeline, project_root};
use fracture_stage::{Error, ErrorKind};
use serde_json::{Value, json};

use super::failure::{Exit, Failure, printable};
use super::units::columns;
use super::{StoreArgs, print};
use crate::engine::event::{Readers, Sink};
use crate::engine::history::{History, Outcome, Surroundings, runs as recorded};
use crate::engine::run::Outcomes;
use crate::engine::trace::Trace;
use crate::engine::{Workspace, publish, store_error};

/// `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// At most so many, the latest first.
    #[arg(long, short = 'n', value_name = "N")]
    last: Option<usize>,
}

impl StoreArgs {
    /// Opens the store that is meant; one that is not there is not made.
    ///
    /// # Errors
    /// When there is none, or it can not be read.
    pub fn open(&self) -> Result<Store, Error> {
        let root = match &self.spec {
            Some(spec) => project_root(spec),
            None => project_root(Path::new("./pipeline.yaml")),
        };
        let path = self.store.clone().unwrap_or_else(|| root.join(".fracture"));
        if !path.join("format").is_file() {
            return Err(
                Error::new(ErrorKind::Input, format!("there is no store at `{}`", path.display()))
                    .hint("a run makes it; name a pipeline of the project, or the store with --store"),
            );
        }
        Store::open(&path, &StoreOptions::default()).map_err(store_error)
    }
}

/// Lists the runs of a store.
pub fn runs(args: &RunsArgs, as_json: bool) -> Result<Exit, Failure> {
    let store = args.store.open()?;
    let (mut listed, damaged) = recorded(&store)?;
    listed.truncate(args.last.unwrap_or(usize::MAX));
    let at_work = !present(&store, Role::Run, None).map_err(store_error)?.is_empty();
    if as_json {
        let all: Vec<Value> = listed.iter().map(|(run, _)| json!(run)).collect();
        print(&format!("{}\n", serde_json::to_string_pretty(&all).unwrap_or_default()))?;
    } else {
        let headings = [
            "run", "pipeline", "who", "outcome", "ran ", "cached ", "failed ", "seconds ",
        ];
        let mut rows = vec![headings.map(str::to_owned).to_vec()];
        for (run, _) in &listed {
            let summary = run.summary.unwrap_or_default();
            let outcome = match run.outcome {
                // Only one that is at work may still end.
                Outcome::Unfinished if !at_work => "stopped",
                other => other.name(),
            };
            let pipeline = std::iter::once(&run.pipeline)
                .chain(&run.profiles)
                .cloned()
                .collect::<Vec<_>>()
                .join("+");
            let tasks = [summary.tasks.ran, summary.tasks.cached, summary.tasks.failed].map(|count| count.to_string());
            let words = [
                run.id.clone(),
                printable(&pipeline),
                printable(&run.who),
                outcome.to_owned(),
            ];
            rows.push(
                words
                    .into_iter()
                    .chain(tasks)
                    .chain([format!("{:.1}", summary.seconds)])
                    .collect(),
            );
        }
        print(&columns(&rows))?;
    }
    for path in damaged {
        eprintln!("`{}` is no whole record of a run; it is left out", path.display());
    }
    Ok(Exit::Done)
}

/// Who runs what, on which machine: from the environment.
pub fn surroundings() -> Surroundings {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|host| host.trim().to_owned());
    let host = host
        .or_else(|| named("HOSTNAME"))
        .unwrap_or_else(|| "unknown".to_owned());
    let user = named("USER").or_else(|| named("LOGNAME"));
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let facts = |facts: &[(&str, &str)]| -> BTreeMap<String, String> {
        facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    Surroundings {
        who: format!("{user}@{host}"),
        what: std::env::args().skip(1).collect(),
        versions: facts(&[("fracture", env!("CARGO_PKG_VERSION"))]),
        machine: facts(&[
            ("host", &host),
            ("os", std::env::consts::OS),
            ("cpu", publish::cpu_class()),
            ("threads", &cores.to_string()),
        ]),
    }
}

/// After how long without a sign of life the task of another process is taken over: `FRACTURE_PATIENCE` seconds, else 30.
///
/// # Errors
/// When the variable holds no such time.
pub fn patience() -> Result<Duration, Error> {
    let Some(set) = std::env::var_os("FRACTURE_PATIENCE").filter(|set| !set.is_empty()) else {
        return Ok(Duration::from_secs(30));
    };
    let text = set.to_string_lossy();
    let seconds = text.trim().parse().ok().filter(|seconds: &f64| *seconds >= 0.1);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| {
        Error::input(format!("FRACTURE_PATIENCE is `{text}`, which is no time to wait"))
            .hint("it is a number of seconds, 0.1 at least; leave it out for 30")
    })
}

/// The readers of a run's events that keep what happened.
pub struct Recording {
    history: Option<History>,
    trace: Option<(Trace, PathBuf)>,
}

impl Recording {
    /// Begins to record. A store that may only be read takes no record.
    ///
    /// # Errors
    /// When the record can not be written.
    pub fn begin(pipeline: &Pipeline, workspace: &Workspace, trace: Option<&Path>) -> Result<Self, Error> {
        let started = Instant::now();
        let clock = move || -> Box<dyn Fn() -> f64 + Send + Sync> { Box::new(move || started.elapsed().as_secs_f64()) };
        let history = if workspace.store.is_read_only() {
            None
        } else {
            let random = RandomState::new().hash_one(std::process::id()) as u32;
            let began = SystemTime::now();
            Some(History::begin(
                &workspace.store,
                pipeline,
                surroundings(),
                began,
                random,
                clock(),
            )?)
        };
        Ok(Self {
            history,
            trace: trace.map(|path| (Trace::begin(clock()), path.to_owned())),
        })
    }

    /// These readers and another one.
    pub fn readers<'a>(&'a self, other: &'a dyn Sink) -> Readers<'a> {
        let history = self.history.iter().map(|history| history as &dyn Sink);
        let trace = self.trace.iter().map(|(trace, _)| trace as &dyn Sink);
        Readers(std::iter::once(other).chain(history).chain(trace).collect())
    }

    /// Ends the record and writes the trace.
    ///
    /// # Errors
    /// When one can not be written.
    pub fn end(&self, pipeline: &Pipeline, outcomes: &Outcomes) -> Result<(), Error> {
        let outcome = match outcomes {
            Outcomes { interrupted: true, .. } => Outcome::Interrupted,
            Outcomes { failures, .. } if !failures.is_empty() => Outcome::Failed,
            _ => Outcome::Done,
        };
        if let Some(history) = &self.history {
            history.end(pipeline, &outcomes.plan, outcome)?;
        }
        if let Some((trace, path)) = &self.trace {
            trace.write(path)?;
        }
        Ok(())
    }
}
