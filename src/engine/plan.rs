//! The plan: which tasks have their result, which would run, and why.

use std::collections::HashMap;
use std::sync::Arc;

use fracture_cache::digest::{Action, Recipe};
use fracture_cache::{Artifact, Digest};
use fracture_language::{Pipeline, Task, TaskId};
use fracture_stage::{Error, Inputs, PartText, Shape};
use serde_json::{Value, json};

use super::keys::{self, Change, Files, RecipeInput};
use super::lock::{FileLine, Lock, TaskLine};
use super::store_error;
use super::views::{Content, OutputSpec, content_digest};
use super::workspace::Workspace;

/// What a plan says of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its result is there.
    Cached,
    /// It would run.
    Run,
    /// It depends on a result that is not there yet: it may turn out to be there.
    Pending,
}

impl State {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Run => "run",
            Self::Pending => "pending",
        }
    }
}

/// The result of a task: its action and its outputs as readers see them.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// The action that gave it.
    pub action: Digest<Action>,
    /// Rows of the main table.
    pub rows: u64,
    /// The outputs by name, the main one as `main`.
    pub outputs: Vec<(String, Arc<OutputSpec>)>,
    /// The digest over all outputs, for the lock file.
    pub output: Digest<fracture_cache::digest::Values>,
}

impl TaskResult {
    /// An output by name; `None` is the main one.
    pub fn output(&self, name: Option<&str>) -> Option<&Arc<OutputSpec>> {
        let name = name.unwrap_or("main");
        self.outputs
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, output)| output)
    }
}

/// A task with its keys and what is known of its result.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// Which task.
    pub task: TaskId,
    /// Its recipe key.
    pub recipe: Digest<Recipe>,
    /// The parts of the recipe.
    pub recipe_parts: Vec<PartText>,
    /// Its files.
    pub files: Files,
    /// What would happen.
    pub state: State,
    /// Its result, when it is there.
    pub result: Option<Arc<TaskResult>>,
    /// Its action key and the parts of that, when its inputs are there.
    pub action: Option<(Digest<Action>, Vec<PartText>)>,
}

/// The plan of a pipeline, one entry a task, in the pipeline's order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// By task id.
    pub tasks: Vec<PlannedTask>,
}

impl Plan {
    /// Plans a pipeline against the store. Opens no stage and no model.
    ///
    /// # Errors
    /// When a file that a task depends on is missing or unreadable, or the store can not be read.
    pub fn new(pipeline: &Pipeline, workspace: &Workspace) -> Result<Self, Error> {
        let mut plan = Self {
            tasks: Vec::with_capacity(pipeline.tasks.len()),
        };
        for task in &pipeline.tasks {
            let planned = plan
                .task(task, pipeline, workspace)
                .map_err(|error| in_task(error, task))?;
            plan.tasks.push(planned);
        }
        Ok(plan)
    }

    fn task(&self, task: &Task, pipeline: &Pipeline, workspace: &Workspace) -> Result<PlannedTask, Error> {
        let files = workspace.task_files(task)?;
        let sources = task.inputs.iter().map(|connection| {
            let described = connection.sources.iter().map(|source| RecipeInput {
                recipe: self.tasks[source.task.0 as usize].recipe,
                output: source.output.as_deref(),
                constants: pipeline.tasks[source.task.0 as usize]
                    .constants
                    .iter()
                    .chain(&source.constants)
                    .collect(),
            });
            (connection.port.as_str(), described.collect())
        });
        let (recipe, recipe_parts) = keys::recipe(task, &files, &sources.collect::<Vec<_>>());
        let mut planned = PlannedTask {
            task: task.id,
            recipe,
            recipe_parts,
            files,
            state: State::Pending,
            result: None,
            action: None,
        };
        if let Some(action) = workspace.records.by_recipe(&recipe) {
            planned.result = self.stored(task, action, workspace)?.map(Arc::new);
        }
        if planned.result.is_none()
            && let Some(inputs) = self.inputs(task)
        {
            let opened = open_inputs(&inputs, workspace);
            let (action, parts) = keys::action(task.implementation.as_ref(), &planned.files, &opened);
            planned.result = self.stored(task, action, workspace)?.map(Arc::new);
            planned.action = Some((action, parts));
            planned.state = State::Run;
        }
        if planned.result.is_some() {
            planned.state = State::Cached;
        }
        Ok(planned)
    }

    /// The inputs of a task, `None` while one is not there.
    pub fn inputs(&self, task: &Task) -> Option<Vec<(String, Vec<OutputSpec>)>> {
        inputs_from(task, |id| {
            self.tasks.get(id.0 as usize).and_then(|planned| planned.result.clone())
        })
    }

    /// The recorded result of an action, `None` when there is none that is whole.
    fn stored(&self, task: &Task, action: Digest<Action>, workspace: &Workspace) -> Result<Option<TaskResult>, Error> {
        stored(task, action, workspace, |id| {
            self.tasks.get(id.0 as usize).and_then(|planned| planned.result.clone())
        })
    }

    /// Why a task would run: what differs from its line in the lock file.
    pub fn because(&self, task: &Task, pipeline: &Pipeline, workspace: &Workspace, lock: &Lock) -> Vec<Change> {
        let planned = &self.tasks[task.id.0 as usize];
        if planned.state == State::Cached {
            return Vec::new();
        }
        let waiting = task.inputs.iter().flat_map(|connection| &connection.sources);
        let waiting = waiting.filter(|source| self.tasks[source.task.0 as usize].state != State::Cached);
        let mut because: Vec<Change> = waiting
            .map(|source| {
                let before = &pipeline.tasks[source.task.0 as usize];
                let now = Some(Value::String(
                    self.tasks[source.task.0 as usize].state.name().to_owned(),
                ));
                Change {
                    part: format!("input {}", before.name),
                    was: None,
                    now,
                }
            })
            .collect();
        let before = lock.task(&task.name, &planned.recipe);
        let recorded = before.and_then(|line| workspace.records.by_action(&line.key).ok().flatten());
        match (recorded, &planned.action) {
            (Some(record), Some((_, parts))) => because.extend(keys::changes(&recorded_parts(&record.parts), parts)),
            (Some(record), None) => {
                // The inputs are not there, so only the task's own parts can be compared.
                let own = |parts: Vec<PartText>| -> Vec<PartText> {
                    parts
                        .into_iter()
                        .filter(|part| part.role != fracture_stage::Role::Input)
                        .collect()
                };
                let (was, now) = (own(recorded_parts(&record.parts)), own(planned.recipe_parts.clone()));
                because.extend(keys::changes(&was, &now));
            }
            (None, _) if before.is_some() => {
                because.push(Change {
                    part: "record".to_owned(),
                    was: None,
                    now: Some(json!("not in the store")),
                });
            }
            (None, _) => because.push(Change {
                part: "result".to_owned(),
                was: None,
                now: Some(json!("never computed")),
            }),
        }
        if because.is_empty() {
            because.push(Change {
                part: "result".to_owned(),
                was: None,
                now: Some(json!("lost or incomplete")),
            });
        }
        because
    }

    /// The lock file that this plan's results make.
    pub fn lock(&self, pipeline: &Pipeline) -> Lock {
        let mut lock = Lock::default();
        for (task, planned) in pipeline.tasks.iter().zip(&self.tasks) {
            let Some(result) = &planned.result else { continue };
            let line = TaskLine {
                recipe: planned.recipe,
                key: result.action,
                output: result.output,
                rows: result.rows,
            };
            lock.tasks.insert(task.name.to_string(), vec![line]);
            lock.files.extend(planned.files.iter().filter_map(|file| {
                let (blake3, size) = file.content?;
                let (source, role) = (file.source.clone(), file.role.clone());
                Some(FileLine {
                    source,
                    role,
                    commit: "-".to_owned(),
                    size,
                    blake3,
                })
            }));
        }
        lock.files.sort_unstable();
        lock.files.dedup();
        lock
    }
}

/// Says of which task an error speaks.
pub fn in_task(error: Error, task: &Task) -> Error {
    error.context(format!("task `{}` ({}:{})", task.name, task.at.file, task.at.line))
}

/// The inputs of a task from the results of others, `None` while one is not there.
pub fn inputs_from(
    task: &Task,
    result: impl Fn(TaskId) -> Option<Arc<TaskResult>>,
) -> Option<Vec<(String, Vec<OutputSpec>)>> {
    let mut ports = Vec::with_capacity(task.inputs.len());
    for connection in &task.inputs {
        let mut specs = Vec::with_capacity(connection.sources.len());
        for source in &connection.sources {
            let result = result(source.task)?;
            specs.push(result.output(source.output.as_deref())?.with(&source.constants));
        }
        ports.push((connection.port.clone(), specs));
    }
    Some(ports)
}

/// Views over the inputs.
pub fn open_inputs(inputs: &[(String, Vec<OutputSpec>)], workspace: &Workspace) -> Inputs {
    let open = |specs: &Vec<OutputSpec>| specs.iter().map(|spec| spec.open(&workspace.store)).collect();
    Inputs {
        ports: inputs.iter().map(|(port, specs)| (port.clone(), open(specs))).collect(),
    }
}

/// The recorded result of an action as readers see it; `None` when there is none, when rows of it failed, or when one of
/// its objects is lost.
pub fn stored(
    task: &Task,
    action: Digest<Action>,
    workspace: &Workspace,
    result: impl Fn(TaskId) -> Option<Arc<TaskResult>>,
) -> Result<Option<TaskResult>, Error> {
    let Some(summary) = workspace.records.summary(&action).map_err(store_error)? else {
        return Ok(None);
    };
    if summary.incomplete
        || !summary
            .outputs
            .iter()
            .all(|output| workspace.store.holds(&output.artifact))
    {
        return Ok(None);
    }
    Ok(as_seen(
        task,
        action,
        summary.rows,
        summary.outputs.into_iter().map(|output| (output.name, output.artifact)),
        result,
    ))
}

/// The outputs of a task as readers see them: a map stage's table adds to its input's layers. `None` when that input is
/// not there.
pub fn as_seen(
    task: &Task,
    action: Digest<Action>,
    rows: u64,
    outputs: impl Iterator<Item = (String, Artifact)>,
    result: impl Fn(TaskId) -> Option<Arc<TaskResult>>,
) -> Option<TaskResult> {
    let outputs: Vec<(String, Artifact)> = outputs.collect();
    let output = outputs_digest(outputs.iter().map(|(name, artifact)| (name.as_str(), artifact)));
    let constants: Vec<_> = task
        .constants
        .iter()
        .map(|constant| (constant.name.clone(), constant.value.clone(), constant.key))
        .collect();
    let mut seen = Vec::new();
    for (name, artifact) in outputs {
        let content = match artifact {
            Artifact::Table(table) if name == "main" && task.declaration.shape == Shape::Map => {
                let first = task.inputs.first()?.sources.first()?;
                let before = result(first.task)?;
                let Content::Layers(layers) = &before.output(first.output.as_deref())?.content else {
                    return None;
                };
                let mut layers = layers.clone();
                layers.push(Arc::new(table));
                Content::Layers(layers)
            }
            Artifact::Table(table) => Content::Layers(vec![Arc::new(table)]),
            other => Content::Other(other),
        };
        let keys = task
            .schema
            .get(Some(&name))
            .map_or_else(Vec::new, |schema| schema.keys.clone());
        seen.push((
            name,
            Arc::new(OutputSpec {
                content,
                constants: constants.clone(),
                keys,
            }),
        ));
    }
    Some(TaskResult {
        action,
        rows,
        outputs: seen,
        output,
    })
}

/// The digest over all outputs of a task, for the lock file.
pub fn outputs_digest<'a>(
    outputs: impl Iterator<Item = (&'a str, &'a Artifact)>,
) -> Digest<fracture_cache::digest::Values> {
    let mut framed = fracture_cache::Framed::new("outputs");
    for (name, artifact) in outputs {
        framed.text(name).digest(&content_digest(artifact));
    }
    framed.finish()
}

/// Parts as a record keeps them.
pub fn parts_to_record(parts: &[PartText]) -> Vec<fracture_cache::record::PartText> {
    let kept = parts.iter().map(|part| fracture_cache::record::PartText {
        role: part.role.name().to_owned(),
        name: part.name.clone(),
        value: part.value.clone(),
    });
    kept.collect()
}

/// Parts of a record; roles that this version does not know are left out.
pub fn recorded_parts(parts: &[fracture_cache::record::PartText]) -> Vec<PartText> {
    let roles: HashMap<&str, fracture_stage::Role> = {
        use fracture_stage::Role::{Constant, File, Input, Kind, Parameter};
        [Kind, Parameter, File, Constant, Input]
            .into_iter()
            .map(|role| (role.name(), role))
            .collect()
    };
    let known = parts.iter().filter_map(|part| {
        let role = *roles.get(part.role.as_str())?;
        Some(PartText {
            role,
            name: part.name.clone(),
            value: part.value.clone(),
        })
    });
    known.collect()
}
