//! What differs between two states of a pipeline: lock files, as they are or as they were committed, and runs.

mod tables;

use std::collections::{BTreeMap, BTreeSet};

use fracture_cache::digest::{Action, Bytes, Values};
use fracture_cache::{Artifact, Digest, Record, Records, Store, outputs_digest};
use fracture_stage::Error;
use serde::Serialize;

pub use tables::{ColumnDiff, Move, TableDiff};

use super::history::RunRecord;
use super::keys::{self, Change};
use super::lock::Lock;
use super::plan::recorded_parts;
use super::store_error;
use super::views::content_digest;

/// A state of a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// What people know it by.
    pub label: String,
    /// Its tasks by name.
    pub tasks: BTreeMap<String, SideTask>,
    /// The digest of each file by path and role; `None` where only the store would tell (a run).
    pub files: Option<BTreeMap<(String, String), Digest<Bytes>>>,
}

/// A task with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideTask {
    /// The action that gave it.
    pub action: Digest<Action>,
    /// The digest of its outputs; `None` where the store no longer knows.
    pub output: Option<Digest<Values>>,
    /// Rows of its main table.
    pub rows: Option<u64>,
}

/// The results of a store.
pub struct Results {
    /// The store.
    pub store: Store,
    /// What actions gave.
    pub records: Records,
}

impl Results {
    fn record(&self, action: &Digest<Action>) -> Result<Option<Record>, Error> {
        self.records.by_action(action).map_err(store_error)
    }

    /// Whether all outputs of a record are there.
    fn whole(&self, record: &Record) -> bool {
        record.outputs.iter().all(|output| self.store.holds(&output.artifact))
    }
}

impl Side {
    /// The state that a lock file describes. Of several lines of a task, which a merge leaves, the last counts.
    pub fn of_lock(label: String, lock: &Lock) -> Self {
        let task = |(name, lines): (&String, &Vec<super::lock::TaskLine>)| {
            let line = lines.last()?;
            let task = SideTask {
                action: line.key,
                output: Some(line.output),
                rows: Some(line.rows),
            };
            Some((name.clone(), task))
        };
        let file = |line: &super::lock::FileLine| ((line.source.clone(), line.role.clone()), line.blake3);
        Self {
            label,
            tasks: lock.tasks.iter().filter_map(task).collect(),
            files: Some(lock.files.iter().map(file).collect()),
        }
    }

    /// The state that a run ended with.
    ///
    /// # Errors
    /// When the store can not be read.
    pub fn of_run(label: String, run: &RunRecord, results: &Results) -> Result<Self, Error> {
        let mut tasks = BTreeMap::new();
        for task in &run.tasks {
            let Some(action) = task.action else { continue };
            let record = results.record(&action)?;
            let outputs = record.as_ref().map(|record| {
                let outputs = record.outputs.iter();
                outputs_digest(outputs.map(|output| (output.name.as_str(), &output.artifact)))
            });
            let side = SideTask {
                action,
                output: outputs,
                rows: record.map(|record| record.rows),
            };
            tasks.insert(task.task.clone(), side);
        }
        Ok(Self {
            label,
            tasks,
            files: None,
        })
    }
}

/// How a task differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Its result differs.
    Changed,
    /// Only the second side has it.
    Added,
    /// Only the first side has it.
    Removed,
    /// It was described otherwise and gave the same result.
    SameResult,
}

impl Difference {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
            Self::SameResult => "same result",
        }
    }
}

/// A task that differs.
#[derive(Debug, Clone, Serialize)]
pub struct TaskDiff {
    /// Its name.
    pub task: String,
    /// Its stage kind, where the store knows it.
    pub kind: Option<String>,
    /// How it differs.
    pub change: Difference,
    /// Rows of its main table before and now, as far as they are known.
    pub rows: (Option<u64>, Option<u64>),
    /// What its key was made of and what it is made of, where these differ and both are in the store.
    pub because: Vec<Change>,
    /// How its tables differ.
    pub tables: Vec<TableDiff>,
    /// The sides (0 and 1) whose result is not in the store, so that numbers can not be compared.
    pub lost: Vec<usize>,
}

/// A file whose content differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// Where it lies.
    pub source: String,
    /// What it is to its stage.
    pub role: String,
    /// Its digest before; `None` when it is new.
    pub was: Option<Digest<Bytes>>,
    /// Its digest now; `None` when it is gone.
    pub now: Option<Digest<Bytes>>,
}

/// Everything that differs.
#[derive(Debug, Clone, Serialize)]
pub struct Diff {
    /// The files, by path and role.
    pub files: Vec<FileDiff>,
    /// The tasks, by name.
    pub tasks: Vec<TaskDiff>,
    /// Tasks that do not differ.
    pub unchanged: usize,
}

/// Compares two states. Without results only digests are compared.
///
/// # Errors
/// When the store fails; a result that is not there is told of its task.
pub fn diff(sides: [&Side; 2], results: Option<&Results>) -> Result<Diff, Error> {
    let [was, now] = sides;
    let names: BTreeSet<&String> = was.tasks.keys().chain(now.tasks.keys()).collect();
    let mut diff = Diff {
        files: files(was, now),
        tasks: Vec::new(),
        unchanged: 0,
    };
    for name in names {
        let pair = [was.tasks.get(name), now.tasks.get(name)];
        let change = match pair {
            [Some(was), Some(now)] if was.action == now.action => {
                diff.unchanged += 1;
                continue;
            }
            [Some(was), Some(now)] if was.output.is_some() && was.output == now.output => Difference::SameResult,
            [Some(_), Some(_)] => Difference::Changed,
            [None, _] => Difference::Added,
            [_, None] => Difference::Removed,
        };
        let mut task = TaskDiff {
            task: name.clone(),
            kind: None,
            change,
            rows: (pair[0].and_then(|task| task.rows), pair[1].and_then(|task| task.rows)),
            because: Vec::new(),
            tables: Vec::new(),
            lost: Vec::new(),
        };
        if let ([Some(was), Some(now)], Some(results)) = (pair, results) {
            compare(&mut task, [was, now], results)?;
        }
        diff.tasks.push(task);
    }
    Ok(diff)
}

/// Fills in what the store knows of a task that is on both sides.
fn compare(task: &mut TaskDiff, pair: [&SideTask; 2], results: &Results) -> Result<(), Error> {
    let records = [results.record(&pair[0].action)?, results.record(&pair[1].action)?];
    if let [Some(was), Some(now)] = &records {
        task.because = keys::changes(&recorded_parts(&was.parts), &recorded_parts(&now.parts));
    }
    let kind = |record: &Record| record.kind.split(' ').next().map(str::to_owned);
    task.kind = records[1].as_ref().or(records[0].as_ref()).and_then(kind);
    if task.change != Difference::Changed {
        return Ok(());
    }
    let there = |record: &Option<Record>| record.as_ref().is_some_and(|record| results.whole(record));
    task.lost = (0..2).filter(|side| !there(&records[*side])).collect();
    if let ([Some(was), Some(now)], true) = (&records, task.lost.is_empty()) {
        task.tables = tables_of(was, now, results)?;
    }
    Ok(())
}

fn tables_of(was: &Record, now: &Record, results: &Results) -> Result<Vec<TableDiff>, Error> {
    let mut found = Vec::new();
    for output in &now.outputs {
        let before = was.outputs.iter().find(|other| other.name == output.name);
        let Some(before) = before else { continue };
        if content_digest(&before.artifact) == content_digest(&output.artifact) {
            continue;
        }
        if let (Artifact::Table(was), Artifact::Table(now)) = (&before.artifact, &output.artifact) {
            found.push(tables::compare(&output.name, [was, now], &results.store)?);
        }
    }
    Ok(found)
}

fn files(was: &Side, now: &Side) -> Vec<FileDiff> {
    let (Some(was), Some(now)) = (&was.files, &now.files) else {
        return Vec::new();
    };
    let names: BTreeSet<_> = was.keys().chain(now.keys()).collect();
    let differs = names.into_iter().filter(|name| was.get(*name) != now.get(*name));
    differs
        .map(|name| FileDiff {
            source: name.0.clone(),
            role: name.1.clone(),
            was: was.get(name).copied(),
            now: now.get(name).copied(),
        })
        .collect()
}
