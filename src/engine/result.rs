//! The result of a task: what lock files and plans say of it at once, and its outputs when somebody asks for them.

use std::sync::{Arc, OnceLock, Weak};

use fracture_cache::digest::{Action, Values};
use fracture_cache::record::Found;
use fracture_cache::{Artifact, Digest, Records, outputs_digest};
use fracture_language::{ConstantColumn, Task};
use fracture_stage::{Error, Outputs, Schema};

use super::store_error;
use super::views::{Content, OutputSpec};
use super::workspace::Workspace;

/// The outputs of a task by name, the main one as `main`.
pub type Named = Box<[(String, Arc<OutputSpec>)]>;

/// The result of a task: its action and its outputs as readers see them.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// The action that gave it.
    pub action: Digest<Action>,
    /// Rows of the main table.
    pub rows: u64,
    /// The digest over all outputs, for the lock file.
    pub output: Digest<Values>,
    /// The outputs; `None` when they can not be read.
    outputs: OnceLock<Option<Named>>,
    later: Option<Later>,
}

/// What the results of tasks with the same columns are read with.
#[derive(Debug)]
pub struct Reader {
    /// What actions gave.
    pub records: Arc<Records>,
    /// The outputs as readers see them.
    pub schema: Arc<Outputs<Schema>>,
}

/// From where the outputs come when they are asked for.
#[derive(Debug, Clone)]
struct Later {
    reader: Arc<Reader>,
    constants: Arc<[Arc<ConstantColumn>]>,
    /// Of a map stage the result to which it adds, and which of its outputs. The plan holds that result; if each held the one
    /// before it, the end of a long chain would be as deep as the chain.
    before: Before,
}

/// The result to which a map stage's adds, and which of its outputs.
pub type Before = Option<(Weak<TaskResult>, Option<Arc<str>>)>;

impl TaskResult {
    /// A result whose record is read when its outputs are asked for.
    pub fn later(found: &Found, task: &Task, before: Before, reader: Arc<Reader>) -> Self {
        Self {
            action: found.action,
            rows: found.rows,
            output: found.output,
            outputs: OnceLock::new(),
            later: Some(Later {
                reader,
                constants: Arc::clone(&task.constants),
                before,
            }),
        }
    }

    /// A result whose outputs are known; `before` is what the table of a map stage adds to. `None` when that is no table.
    pub fn seen(
        task: &Task,
        action: Digest<Action>,
        rows: u64,
        outputs: Vec<(String, Artifact)>,
        before: Option<&OutputSpec>,
    ) -> Option<Self> {
        let output = outputs_digest(outputs.iter().map(|(name, artifact)| (name.as_str(), artifact)));
        let outputs = specs(outputs, &task.schema, &task.constants, before)?;
        Some(Self {
            action,
            rows,
            output,
            outputs: Some(outputs).into(),
            later: None,
        })
    }

    /// The outputs by name, the main one as `main`; none when they can not be read.
    pub fn outputs(&self) -> &[(String, Arc<OutputSpec>)] {
        let mut unread = Vec::new();
        let mut next = self.before();
        while let Some(result) = next.filter(|result| result.outputs.get().is_none()) {
            next = result.before();
            unread.push(result);
        }
        // From the first of a chain to the last, so that none waits for another.
        while let Some(result) = unread.pop() {
            result.read();
        }
        self.read()
    }

    /// An output by name; `None` is the main one.
    pub fn output(&self, name: Option<&str>) -> Option<&Arc<OutputSpec>> {
        let name = name.unwrap_or("main");
        self.outputs()
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, output)| output)
    }

    /// Whether the outputs can be read. A record that is damaged counts as absent from then on.
    ///
    /// # Errors
    /// When the store can not be read.
    pub fn readable(&self, workspace: &Workspace) -> Result<bool, Error> {
        if !self.outputs().is_empty() {
            return Ok(true);
        }
        let there = |action: &Digest<Action>| {
            let summary = workspace.records.summary(action).map_err(store_error)?;
            Ok::<bool, Error>(summary.is_some())
        };
        let mut readable = there(&self.action)?;
        let mut next = self.before();
        while let Some(result) = next {
            readable &= there(&result.action)?;
            next = result.before();
        }
        Ok(readable)
    }

    fn before(&self) -> Option<Arc<Self>> {
        self.later.as_ref()?.before.as_ref()?.0.upgrade()
    }

    fn read(&self) -> &[(String, Arc<OutputSpec>)] {
        let outputs = self
            .outputs
            .get_or_init(|| self.later.as_ref().and_then(|later| later.read(&self.action)));
        outputs.as_deref().unwrap_or_default()
    }
}

impl Later {
    fn read(&self, action: &Digest<Action>) -> Option<Named> {
        let before = match &self.before {
            Some((result, output)) => Some(Arc::clone(result.upgrade()?.output(output.as_deref())?)),
            None => None,
        };
        let summary = match self.reader.records.summary(action) {
            Ok(summary) => summary?,
            Err(error) => {
                tracing::warn!(%error, "a record can not be read");
                return None;
            }
        };
        let outputs = summary.outputs.into_iter().map(|output| (output.name, output.artifact));
        specs(
            outputs.collect(),
            &self.reader.schema,
            &self.constants,
            before.as_deref(),
        )
    }
}

/// Outputs as readers see them.
fn specs(
    outputs: Vec<(String, Artifact)>,
    schema: &Outputs<Schema>,
    constants: &[Arc<ConstantColumn>],
    before: Option<&OutputSpec>,
) -> Option<Named> {
    let constants: Vec<_> = constants
        .iter()
        .map(|constant| (constant.name.clone(), constant.value.clone(), constant.key))
        .collect();
    let mut seen = Vec::with_capacity(outputs.len());
    for (name, artifact) in outputs {
        let content = match (artifact, before) {
            (Artifact::Table(table), Some(before)) if name == "main" => {
                let Content::Layers(layers) = &before.content else {
                    return None;
                };
                let mut layers = layers.clone();
                layers.push(Arc::new(table));
                Content::Layers(layers)
            }
            (Artifact::Table(table), _) => Content::Layers(vec![Arc::new(table)]),
            (other, _) => Content::Other(other),
        };
        let keys = schema
            .get(Some(&name))
            .map_or_else(Vec::new, |schema| schema.keys.clone());
        let spec = OutputSpec {
            content,
            constants: constants.clone(),
            keys,
        };
        seen.push((name, Arc::new(spec)));
    }
    Some(seen.into())
}
