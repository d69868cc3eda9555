//! What happens during a run, as one stream of events. Progress bars, plain lines, `--events json`, the run's log and the
//! trace are its readers; nothing else tells the user anything.

use std::collections::BTreeMap;

use fracture_stage::Usage;
use serde::{Deserialize, Serialize};

/// The counts of a finished run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Tasks by what became of them.
    pub tasks: TaskCounts,
    /// Raw rows by where they came from.
    pub rows: RowCounts,
    /// What was used of served models; `None` when none was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Usage>,
    /// Wall-clock seconds that the user waited, the plan included.
    pub seconds: f64,
}

/// Tasks by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// All of them.
    pub total: u64,
    /// Those that were executed.
    pub ran: u64,
    /// Those whose result was there.
    pub cached: u64,
    /// Those that failed, tables with failed rows included.
    pub failed: u64,
    /// Those that were not reached because something before them failed.
    pub skipped: u64,
}

/// Raw rows by where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows that a language model generated.
    pub generated: u64,
    /// Rows that a judge scored.
    pub judged: u64,
    /// Rows that were taken from the row memo.
    pub reused: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The plan is made: so many tasks, of which so many have their result.
    Planned {
        /// All tasks of the run.
        total: u64,
        /// Tasks whose result is there.
        cached: u64,
        /// Tasks without one, by stage; stages that have none are left out.
        left: BTreeMap<String, u64>,
    },
    /// A task starts to execute.
    Started {
        /// The task.
        task: String,
        /// Its stage.
        stage: String,
    },
    /// The rows of a task are known: `rows` in all, `reused` of them from the memo.
    Rows {
        /// The task.
        task: String,
        /// Its stage.
        stage: String,
        /// Raw rows that it asks for.
        rows: u64,
        /// Those that the memo had.
        reused: u64,
        /// The unit of `units` in `Progress`.
        unit: &'static str,
    },
    /// Rows of a stage are done.
    Progress {
        /// The stage.
        stage: String,
        /// Rows done since the last such event.
        rows: u64,
        /// Tokens or texts done since.
        units: u64,
    },
    /// A task's result was there, or turned out to be there.
    Cached {
        /// The task.
        task: String,
        /// Its stage.
        stage: String,
    },
    /// A task is done and recorded.
    Finished {
        /// The task.
        task: String,
        /// Its stage.
        stage: String,
        /// Rows of its main table.
        rows: u64,
        /// Seconds it took.
        seconds: f64,
    },
    /// A task failed.
    Failed {
        /// The task.
        task: String,
        /// Its stage.
        stage: String,
        /// What went wrong.
        message: String,
        /// Why.
        causes: Vec<String>,
        /// What to do.
        hint: Option<String>,
    },
    /// A task was not reached.
    Skipped {
        /// The task.
        task: String,
        /// Its stage.
        stage: String,
    },
    /// A file comes from a hub.
    Fetch {
        /// The model, as the pipeline names it.
        source: String,
        /// The file.
        file: String,
        /// Bytes that are here.
        done: u64,
        /// Its size.
        total: u64,
    },
    /// Something the user should know.
    Note {
        /// About which task, if about one.
        task: Option<String>,
        /// What.
        message: String,
    },
    /// A figure was written.
    Figure {
        /// Where, relative to the project's root.
        path: String,
        /// Whether it differs from what lay there.
        changed: bool,
    },
    /// The run is over.
    Done {
        /// The counts.
        summary: Summary,
    },
}

/// Where events go. Called from one thread at a time.
pub trait Sink: Send + Sync {
    /// Takes an event.
    fn event(&self, event: &Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Sink for Silent {
    fn event(&self, _: &Event) {}
}

/// Several readers of one stream, in their order.
pub struct Readers<'a>(pub Vec<&'a dyn Sink>);

impl Sink for Readers<'_> {
    fn event(&self, event: &Event) {
        self.0.iter().for_each(|reader| reader.event(event));
    }
}
