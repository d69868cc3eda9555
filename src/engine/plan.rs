//! The plan: which tasks have their result, which would run, and why.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fracture_cache::digest::{Action, Recipe};
use fracture_cache::{Artifact, Digest};
use fracture_hub::Reference;
use fracture_language::{Pipeline, Task, TaskId};
use fracture_stage::{Error, Inputs, PartText, Shape};
use serde_json::{Value, json};

use super::keys::{self, Change, FileKey, Files, RecipeInput, RecipeKeys};
use super::lock::{FileLine, Lock, NO_COMMIT, TaskLine};
use super::models::short;
use super::refresh::refreshed;
pub use super::result::TaskResult;
use super::store_error;
use super::views::OutputSpec;
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

/// A task with its keys and what is known of its result.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// Which task.
    pub task: TaskId,
    /// Its recipe key.
    pub recipe: Digest<Recipe>,
    /// Its files.
    pub files: Files,
    /// What would happen.
    pub state: State,
    /// Its result, when it is there.
    pub result: Option<Arc<TaskResult>>,
    /// Its action key and the parts of that, when its inputs are there.
    pub action: Option<(Digest<Action>, Vec<PartText>)>,
}

impl PlannedTask {
    /// Its line in the lock file.
    pub(super) fn line(&self, result: &TaskResult) -> TaskLine {
        TaskLine {
            recipe: self.recipe,
            key: result.action,
            output: result.output,
            rows: result.rows,
        }
    }
}

/// What the tasks of a plan have in common.
#[derive(Default)]
struct Shared {
    keys: RecipeKeys,
    /// The files by the address of the implementation, which the pipeline holds.
    files: HashMap<usize, Files>,
}

impl Shared {
    fn files(&mut self, task: &Task, workspace: &Workspace) -> Result<Files, Error> {
        let address = Arc::as_ptr(&task.implementation).addr();
        if let Some(files) = self.files.get(&address) {
            return Ok(Arc::clone(files));
        }
        let files = workspace.task_files(task)?;
        if Arc::strong_count(&task.implementation) > 1 {
            self.files.insert(address, Arc::clone(&files));
        }
        Ok(files)
    }
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
        loop {
            // A record that turns out damaged counts as absent from then on, so this comes to an end.
            if let Some(plan) = Self::attempt(pipeline, workspace)? {
                return Ok(plan);
            }
        }
    }

    /// Plans; `None` when a record that was counted on turned out damaged.
    fn attempt(pipeline: &Pipeline, workspace: &Workspace) -> Result<Option<Self>, Error> {
        let mut plan = Self {
            tasks: Vec::with_capacity(pipeline.tasks.len()),
        };
        let mut shared = Shared::default();
        for task in &pipeline.tasks {
            let planned = plan
                .task(task, pipeline, workspace, &mut shared)
                .map_err(|error| in_task(error, task))?;
            plan.tasks.push(planned);
            let planned = &plan.tasks[task.id.index()];
            let figure = pipeline.stages[task.stage].figure;
            if (planned.state != State::Cached || figure) && !plan.readable(task, workspace)? {
                return Ok(None);
            }
        }
        Ok(Some(plan))
    }

    fn task(
        &self,
        task: &Task,
        pipeline: &Pipeline,
        workspace: &Workspace,
        shared: &mut Shared,
    ) -> Result<PlannedTask, Error> {
        let files = shared.files(task, workspace)?;
        let recipe = shared.keys.recipe(task, &files, &self.recipe_inputs(task, pipeline));
        let mut planned = PlannedTask {
            task: task.id,
            recipe,
            files,
            state: State::Pending,
            result: None,
            action: None,
        };
        planned.result = self.found(task, &recipe, workspace)?.map(Arc::new);
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

    /// What arrives at a task, by recipes.
    fn recipe_inputs<'a>(&self, task: &'a Task, pipeline: &'a Pipeline) -> Vec<(&'a str, Vec<RecipeInput<'a>>)> {
        let sources = task.inputs.iter().map(|connection| {
            let described = connection.sources.iter().map(|source| RecipeInput {
                recipe: self.tasks[source.task.index()].recipe,
                output: source.output.as_deref(),
                constants: pipeline.tasks[source.task.index()]
                    .constants
                    .iter()
                    .chain(source.constants.iter())
                    .map(Arc::as_ref)
                    .collect(),
            });
            (&*connection.port, described.collect())
        });
        sources.collect()
    }

    /// The parts of a task's recipe.
    pub fn recipe_parts(&self, task: &Task, pipeline: &Pipeline) -> Vec<PartText> {
        let files = &self.tasks[task.id.index()].files;
        keys::recipe_parts(task, files, &self.recipe_inputs(task, pipeline))
    }

    /// The result of the record to which a recipe led last, when it is whole. Its outputs are looked at when they are asked
    /// for: mostly nobody does.
    fn found(&self, task: &Task, recipe: &Digest<Recipe>, workspace: &Workspace) -> Result<Option<TaskResult>, Error> {
        let Some(found) = workspace.records.find(recipe).map_err(store_error)? else {
            return Ok(None);
        };
        let holds = |(digest, size): &(_, u64)| workspace.store.contains(digest, *size);
        if !found.object.iter().chain(&found.objects).all(holds) {
            return Ok(None);
        }
        let before = if task.declaration.shape == Shape::Map {
            let first = task.inputs.first().and_then(|connection| connection.sources.first());
            let before = first.and_then(|first| Some((first, self.tasks[first.task.index()].result.as_ref()?)));
            let Some((first, result)) = before else {
                return Ok(None);
            };
            Some((Arc::downgrade(result), first.output.clone()))
        } else {
            None
        };
        Ok(Some(TaskResult::later(&found, task, before, &workspace.records)))
    }

    /// Whether the results that a task depends on, and its own, can be read.
    fn readable(&self, task: &Task, workspace: &Workspace) -> Result<bool, Error> {
        let sources = task.inputs.iter().flat_map(|connection| &connection.sources);
        let mut all = sources.map(|source| source.task).chain([task.id]);
        all.try_fold(true, |readable, id| match &self.tasks[id.index()].result {
            Some(result) => Ok(readable && result.readable(workspace)?),
            None => Ok(readable),
        })
    }

    /// Whether all results are there.
    pub fn is_done(&self) -> bool {
        self.tasks.iter().all(|planned| planned.state == State::Cached)
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
        let to_fetch = planned
            .files
            .iter()
            .filter_map(|file| Some((file, file.fetch.as_ref()?)));
        let to_fetch: Vec<Change> = to_fetch
            .map(|(file, what)| Change {
                part: format!("model {}", file.source),
                was: None,
                now: Some(json!(what)),
            })
            .collect();
        because.extend(revisions(&planned.files, lock));
        if !to_fetch.is_empty() {
            // What its files are is not known, so nothing else can be compared.
            because.extend(to_fetch);
            return because;
        }
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
                let now = own(self.recipe_parts(task, pipeline));
                let was = own(recorded_parts(&record.parts));
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
            lock.tasks.insert(task.name.to_string(), vec![planned.line(result)]);
        }
        lock.files = self.lock_files();
        lock.refreshed = refreshed(pipeline);
        lock
    }

    /// The lines of the files of all tasks that have their result, sorted.
    pub(super) fn lock_files(&self) -> Vec<FileLine> {
        // Tasks share their lists of files.
        let mut seen = HashSet::new();
        let there = self.tasks.iter().filter(|planned| planned.result.is_some());
        let lists = there.map(|planned| &planned.files);
        let lists = lists.filter(|files| seen.insert(Arc::as_ptr(files)));
        let lines = lists.flat_map(|files| files.iter()).filter_map(|file| {
            let (blake3, size) = file.content?;
            let (source, role) = (file.source.clone(), file.role.clone());
            Some(FileLine {
                source,
                role,
                commit: file.commit.as_deref().unwrap_or(NO_COMMIT).to_owned(),
                size,
                blake3,
            })
        });
        let mut lines: Vec<FileLine> = lines.collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }
}

/// The revisions on a hub that mean another commit than the lock file says.
fn revisions(files: &[FileKey], lock: &Lock) -> Vec<Change> {
    let mut seen = HashSet::new();
    let hub = files.iter().filter_map(|file| {
        let commit = file.commit.as_deref()?;
        let of_file = Reference::of_file(&file.source).map(|(reference, _)| reference);
        // What is still to be fetched is named as a whole.
        let reference = of_file.or_else(|| Reference::parse(&file.source).ok())?;
        Some((reference, commit))
    });
    let moved = hub
        .filter(|(reference, _)| seen.insert(reference.clone()))
        .filter_map(|(reference, now)| {
            let folder = format!("{}/", reference.folder());
            let lines = lock.files.iter().filter(|line| line.source.starts_with(&folder));
            let commits: Vec<&str> = lines.map(|line| line.commit.as_str()).collect();
            let was = *commits.last().filter(|_| !commits.contains(&now))?;
            Some(Change {
                part: format!("revision of {reference}"),
                was: Some(json!(short(was))),
                now: Some(json!(short(now))),
            })
        });
    moved.collect()
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
        ports.push((connection.port.to_string(), specs));
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
    let before = if task.declaration.shape == Shape::Map {
        let first = task.inputs.first()?.sources.first()?;
        Some(Arc::clone(result(first.task)?.output(first.output.as_deref())?))
    } else {
        None
    };
    TaskResult::seen(task, action, rows, outputs.collect(), before.as_deref())
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
