//! A compiled pipeline: what the engine works from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_stage::{Context, Declaration, Error, ModelSpec, Outputs, Port, Schema, Stage};
use petgraph::graph::DiGraph;
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::place::Places;
use crate::source::Location;

/// How to compile.
pub struct CompileOptions<'a> {
    /// Profiles, from left to right.
    pub profiles: Vec<String>,
    /// `PATH=YAML`, what `--set` says.
    pub sets: Vec<String>,
    /// The environment, for `${env.NAME}`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// More tasks are refused, counted before any is made.
    pub max_tasks: usize,
}

/// The number of tasks above which a pipeline is refused, unless told otherwise.
pub const MAX_TASKS: usize = 200_000;

/// Names a task of a pipeline; an index into [`Pipeline::tasks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

impl TaskId {
    /// The index into [`Pipeline::tasks`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A compiled pipeline.
pub struct Pipeline {
    /// `name:`, else the file's name without its ending.
    pub name: String,
    /// `description:`.
    pub description: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// The project's root.
    pub root: PathBuf,
    /// Stages and figures in the order of the file, figures behind stages.
    pub stages: Vec<StageNode>,
    /// The tasks; a task comes after everything it needs.
    pub tasks: Vec<Task>,
    /// The DAG, edges from producer to consumer. The node of a task has its index.
    pub graph: DiGraph<TaskId, ()>,
    /// The models by name.
    pub models: Arc<BTreeMap<String, ModelSpec>>,
    /// Things to tell the user.
    pub warnings: Vec<Diagnostic>,
    /// The active profiles.
    pub profiles: Vec<String>,
    /// Where parameters were written.
    pub(crate) places: Places,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({}, {} tasks)", self.name, self.tasks.len())
    }
}

impl Pipeline {
    /// A task.
    pub fn task(&self, id: TaskId) -> &Task {
        &self.tasks[id.index()]
    }

    /// The error of a task's stage, shown at the parameter that it is about.
    pub fn diagnose(&self, task: &Task, error: Error) -> Diagnostic {
        self.places.diagnose(task.stage, &task.with, error)
    }

    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&StageNode> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// A stage or a figure.
#[derive(Debug, Clone)]
pub struct StageNode {
    /// Its name; `figures.NAME` for a figure.
    pub name: String,
    /// Its kind.
    pub declaration: Declaration,
    /// `description:`.
    pub description: Option<String>,
    /// Whether it is a figure.
    pub figure: bool,
    /// Its tasks.
    pub tasks: Vec<TaskId>,
    /// What it needs.
    pub needs: Vec<StageNeed>,
    /// Where it is.
    pub at: Location,
}

/// A connection between stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageNeed {
    /// The port that it fills.
    pub port: String,
    /// The stage that fills it, an index into [`Pipeline::stages`].
    pub stage: usize,
    /// The side output; `None` for the main one.
    pub output: Option<String>,
}

/// A constant of a task: a column for its readers that is stored nowhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstantColumn {
    /// The column.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// Whether it is a key column.
    pub key: bool,
}

/// What arrives at a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// The port.
    pub port: Arc<str>,
    /// Where it comes from, in the order of tasks.
    pub sources: Vec<SourceRef>,
}

/// An output of a task that arrives at a port.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRef {
    /// The task.
    pub task: TaskId,
    /// The side output; `None` for the main one.
    pub output: Option<Arc<str>>,
    /// Constants that this connection adds to those of the task: `stage` in a list of stages.
    pub constants: Arc<[Arc<ConstantColumn>]>,
}

/// A resolved task. There may be a hundred thousand of them, so what tasks have in common they share.
#[derive(Clone)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its name, `answers[model=pico-faker,decoder=greedy]`.
    pub name: String,
    /// Its stage, an index into [`Pipeline::stages`].
    pub stage: usize,
    /// Its kind.
    pub declaration: Arc<Declaration>,
    /// Its implementation; tasks that differ only in what arrives share one.
    pub implementation: Arc<dyn Stage>,
    /// The ports of its implementation.
    pub ports: Arc<[Port]>,
    /// Its parameters after substitution; tasks with equal ones share them.
    pub with: Arc<Value>,
    /// What its implementation was built with; with `declaration` and `with` enough to build it again elsewhere.
    pub context: Arc<Context>,
    /// The constants that readers of this task see: inherited, matrix variables, and those of its implementation.
    pub constants: Arc<[Arc<ConstantColumn>]>,
    /// What arrives at its ports; tasks that differ in parameters alone share it.
    pub inputs: Arc<[Connection]>,
    /// Its outputs as readers see them, constants left out: for a map stage the columns of its input and its own.
    pub schema: Arc<Outputs<Schema>>,
    /// Where its stage is.
    pub at: Arc<Location>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({})", self.name)
    }
}

/// The project's root: the nearest folder up from the pipeline that holds `fracture.toml`, else the nearest that holds
/// `.git`, else the pipeline's own folder.
pub fn project_root(pipeline: &Path) -> PathBuf {
    let folder = match pipeline.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let folder = std::fs::canonicalize(&folder).unwrap_or(folder);
    let holding = |name: &str| folder.ancestors().find(|up| up.join(name).exists()).map(Path::to_owned);
    holding("fracture.toml").or_else(|| holding(".git")).unwrap_or(folder)
}
