//! What a run leaves behind: a record that says who ran what, when, where, and what became of each task, and the log of its
//! events. Both lie in the store's folder `runs`, as `ID.json` and `ID.events.jsonl`. An id begins with the time, so that
//! names sort by age. Clock and environment come in as values.

mod read;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fracture_cache::digest::{Action, Bytes};
use fracture_cache::live::{Presence, Role, announce, present};
use fracture_cache::{Digest, Framed, Store};
use fracture_language::Pipeline;
use fracture_stage::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use super::event::{Event, Sink, Summary};
use super::lock::replace_by;
use super::plan::Plan;
use super::store_error;
use read::list_path;
pub use read::{DatedRun, runs, sweep_lists};

/// Seconds between two writings of the log.
const FLUSH: f64 = 0.25;

/// How often a run looks whether a collection is over.
const WAIT: Duration = Duration::from_millis(200);

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was executed.
    Ran,
    /// Its result was there.
    Cached,
    /// It failed.
    Failed,
    /// It was not reached, or not asked for.
    Skipped,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that was asked for is there.
    Done,
    /// A task failed.
    Failed,
    /// The user stopped it.
    Interrupted,
    /// It is still at work, or was killed.
    Unfinished,
}

impl Outcome {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Unfinished => "unfinished",
        }
    }
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRun {
    /// Its name.
    pub task: String,
    /// The action whose result it has, when it has one.
    pub action: Option<Digest<Action>>,
    /// What became of it.
    pub fate: Fate,
    /// Seconds it took; 0 when it was not executed.
    pub seconds: f64,
    /// The action under which a table with failed rows is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<Digest<Action>>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord<T = Vec<TaskRun>> {
    /// Its id: `20260102T030405Z-0123abcd`.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's file.
    pub path: PathBuf,
    /// The project's root.
    pub root: PathBuf,
    /// The active profiles.
    pub profiles: Vec<String>,
    /// Who ran it.
    pub who: String,
    /// When it began, in UTC: `2026-01-02T03:04:05Z`.
    pub when: String,
    /// The arguments of the command line.
    pub what: Vec<String>,
    /// The versions of what computed.
    pub versions: BTreeMap<String, String>,
    /// The machine.
    pub machine: BTreeMap<String, String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Its counts, when it came to an end.
    pub summary: Option<Summary>,
    /// Its tasks in the pipeline's order, when it came to an end.
    pub tasks: T,
    /// The list that holds its tasks, in the folder `lists`. Runs that find everything done share one: their records stay
    /// small, and are written at once. Readers put the tasks in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
}

/// A task of a run as it is written: [`TaskRun`] without a copy of its name.
#[derive(Serialize)]
struct TaskTold<'a> {
    task: &'a str,
    action: Option<Digest<Action>>,
    fate: Fate,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<Digest<Action>>,
}

/// The tasks of a run, written one by one: there may be a hundred thousand of them.
struct Tasks<'a> {
    pipeline: &'a Pipeline,
    plan: &'a Plan,
    fates: &'a HashMap<String, (Fate, f64)>,
}

impl Tasks<'_> {
    /// What tells lists apart: names and actions. Only lists in which nothing ran are told apart so.
    fn digest(&self) -> String {
        let mut framed = Framed::new("run tasks");
        for (task, planned) in self.pipeline.tasks.iter().zip(&self.plan.tasks) {
            framed.text(&task.name);
            match &planned.result {
                Some(result) => framed.digest(&result.action),
                None => framed.number(0),
            };
        }
        framed.finish::<Bytes>().hex()[..32].to_owned()
    }
}

impl<T> RunRecord<T> {
    /// The same run with other tasks.
    fn with<U>(self, tasks: U) -> RunRecord<U> {
        RunRecord {
            id: self.id,
            pipeline: self.pipeline,
            path: self.path,
            root: self.root,
            profiles: self.profiles,
            who: self.who,
            when: self.when,
            what: self.what,
            versions: self.versions,
            machine: self.machine,
            outcome: self.outcome,
            summary: self.summary,
            tasks,
            list: self.list,
        }
    }
}

impl Serialize for Tasks<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tasks = self.pipeline.tasks.iter().zip(&self.plan.tasks);
        serializer.collect_seq(tasks.map(|(task, planned)| {
            let action = planned.result.as_ref().map(|result| result.action);
            let otherwise = if action.is_some() { Fate::Cached } else { Fate::Skipped };
            let (fate, seconds) = self.fates.get(&task.name).copied().unwrap_or((otherwise, 0.0));
            let failed = planned.action.as_ref().filter(|_| fate == Fate::Failed);
            TaskTold {
                task: &task.name,
                action,
                fate,
                seconds,
                incomplete: failed.map(|known| known.0),
            }
        }))
    }
}

/// What a run's record says of its surroundings.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Who runs it.
    pub who: String,
    /// The arguments of the command line.
    pub what: Vec<String>,
    /// The versions of what computes.
    pub versions: BTreeMap<String, String>,
    /// The machine.
    pub machine: BTreeMap<String, String>,
}

/// Says in the store that a run is at work, and waits while a collection is. A store that may only be read is left alone.
///
/// # Errors
/// When the store can not be read or written.
pub fn enter(store: &Store, who: &str, sink: &dyn Sink) -> Result<Option<Presence>, Error> {
    if store.is_read_only() {
        return Ok(None);
    }
    let presence = announce(store, Role::Run, who).map_err(store_error)?;
    let mut told = false;
    loop {
        let collections = present(store, Role::Collection, None).map_err(store_error)?;
        let Some(owner) = collections.first() else {
            return Ok(Some(presence));
        };
        if !told {
            let message = format!("waiting for `fracture gc` of {owner}");
            sink.event(&Event::Note { task: None, message });
            told = true;
        }
        std::thread::sleep(WAIT);
    }
}

/// A run that is being recorded: a reader of its events.
pub struct History {
    record: RunRecord,
    path: PathBuf,
    /// Seconds since the run began.
    clock: Box<dyn Fn() -> f64 + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fates: HashMap<String, (Fate, f64)>,
    summary: Option<Summary>,
    log: Option<BufWriter<File>>,
    flushed: f64,
}

impl History {
    /// Begins the record of a run; `clock` gives the seconds since `began`, `random` keeps the ids of two runs apart.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn begin(
        store: &Store,
        pipeline: &Pipeline,
        surroundings: Surroundings,
        began: SystemTime,
        random: u32,
        clock: Box<dyn Fn() -> f64 + Send + Sync>,
    ) -> Result<Self, Error> {
        let when = utc(began);
        // The end holds the time within the second first, so that ids sort as runs began; then what tells two runs apart.
        let within = began
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.subsec_nanos() >> 10);
        let id = format!("{}-{within:05x}{:03x}", when.replace(['-', ':'], ""), random & 0xfff);
        let folder = store.root().join("runs");
        let path = folder.join(format!("{id}.json"));
        let Surroundings {
            who,
            what,
            versions,
            machine,
        } = surroundings;
        let record = RunRecord {
            id: id.clone(),
            pipeline: pipeline.name.clone(),
            path: pipeline.path.clone(),
            root: pipeline.root.clone(),
            profiles: pipeline.profiles.clone(),
            who,
            when,
            what: without_secrets(what),
            versions,
            machine,
            outcome: Outcome::Unfinished,
            summary: None,
            tasks: Vec::new(),
            list: None,
        };
        write(&path, &record)?;
        let log_path = folder.join(format!("{id}.events.jsonl"));
        let log = File::create(&log_path).map_err(|error| unwritten(&log_path, error))?;
        let state = State {
            log: Some(BufWriter::new(log)),
            ..State::default()
        };
        Ok(Self {
            record,
            path,
            clock,
            state: Mutex::new(state),
        })
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Ends the record.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn end(&self, pipeline: &Pipeline, plan: &Plan, outcome: Outcome) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = &mut state.log {
            log.flush().map_err(|error| unwritten(&self.path, error))?;
        }
        let tasks = Tasks {
            pipeline,
            plan,
            fates: &state.fates,
        };
        let record = |tasks, list| RunRecord {
            tasks,
            list,
            outcome,
            summary: state.summary,
            ..self.record.clone()
        };
        if state.fates.is_empty() {
            let name = tasks.digest();
            let path = list_path(&self.folder(), &name);
            if !path.is_file() {
                write(&path, &tasks)?;
            }
            return write(&self.path, &record(Vec::new(), Some(name)));
        }
        write(&self.path, &record(Vec::new(), None).with(tasks))
    }

    fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }
}

impl Sink for History {
    fn event(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Finished { task, seconds, .. } => drop(state.fates.insert(task.clone(), (Fate::Ran, *seconds))),
            Event::Cached { task, .. } => drop(state.fates.insert(task.clone(), (Fate::Cached, 0.0))),
            Event::Failed { task, .. } => {
                // A table with failed rows is told as finished first; the time it took is worth keeping.
                let seconds = state.fates.get(task).map_or(0.0, |(_, seconds)| *seconds);
                state.fates.insert(task.clone(), (Fate::Failed, seconds));
            }
            Event::Skipped { task, .. } => drop(state.fates.insert(task.clone(), (Fate::Skipped, 0.0))),
            Event::Done { summary } => state.summary = Some(*summary),
            _ => {}
        }
        state.write(event, (self.clock)());
    }
}

impl State {
    /// Adds a line to the log. A log that can not be written is given up: the run does not depend on it.
    fn write(&mut self, event: &Event, seconds: f64) {
        #[derive(Serialize)]
        struct Line<'a> {
            seconds: f64,
            #[serde(flatten)]
            event: &'a Event,
        }
        let Some(log) = &mut self.log else { return };
        let line = serde_json::to_vec(&Line { seconds, event }).unwrap_or_default();
        let mut written = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
        if seconds - self.flushed >= FLUSH {
            self.flushed = seconds;
            written = written.and_then(|()| log.flush());
        }
        if let Err(error) = written {
            tracing::warn!(%error, "the log of the run can not be written further");
            self.log = None;
        }
    }
}

fn write(path: &Path, record: &impl Serialize) -> Result<(), Error> {
    let written = replace_by(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        serde_json::to_writer(&mut out, record)?;
        out.flush()
    });
    written.map_err(|error| unwritten(path, error))
}

fn unwritten(path: &Path, error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("can not write the record of the run `{}`", path.display()),
    )
    .cause(error)
    .hint("results are not affected; free some space or make the folder writable")
}

/// Arguments without the values that may be secrets: `--set` of a path with a name like a secret's.
fn without_secrets(arguments: Vec<String>) -> Vec<String> {
    let hidden = |argument: String| {
        let Some((name, _)) = argument.split_once('=') else {
            return argument;
        };
        let upper = name.to_uppercase();
        let secret = ["KEY", "TOKEN", "SECRET", "PASSWORD"]
            .iter()
            .any(|word| upper.contains(word));
        if secret { format!("{name}=…") } else { argument }
    };
    arguments.into_iter().map(hidden).collect()
}

/// A time in UTC to the second: `2026-01-02T03:04:05Z`. Times before 1970 count as 1970.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is the last of a year; 400 years have 146 097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // Checked with GNU date.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn values_of_secrets_are_not_recorded() {
        let told = without_secrets(
            ["run", "--set", "vars.api_key=x=y", "--set", "vars.harm=9"]
                .map(str::to_owned)
                .into(),
        );
        assert_eq!(told, ["run", "--set", "vars.api_key=…", "--set", "vars.harm=9"]);
    }
}
