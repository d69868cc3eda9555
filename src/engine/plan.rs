//! The plan: which tasks have their result, which would run, and why.

mod explain;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fracture_cache::digest::{Action, Bytes, Recipe};
use fracture_cache::{Artifact, Digest};
use fracture_language::{Pipeline, Task, TaskId};
use fracture_stage::{Error, Inputs, PartText, Shape, Stage};

use super::apart;
use super::keys::{self, Files, RecipeInput, RecipeKeys};
use super::lock::{FileLine, Lock, NO_COMMIT, TaskLine};
use super::looking::Looking;
use super::refresh::refreshed;
use super::result::Reader;
pub use super::result::TaskResult;
use super::store_error;
use super::views::OutputSpec;
use super::workspace::Workspace;
pub use explain::{LOST, parts_to_record, recorded_parts};

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
    pub action: Option<Box<(Digest<Action>, Vec<PartText>)>>,
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
struct Shared<'a> {
    keys: RecipeKeys,
    /// The files by the address of the implementation, which the pipeline holds.
    files: HashMap<usize, Files>,
    /// The other contents of files by the address of their list, which is held here: see [`Self::described`].
    doubled: HashMap<usize, (Files, Vec<Files>)>,
    /// What the results of tasks like the last one are read with.
    reader: Option<Arc<Reader>>,
    /// Objects that are known not to be there.
    gone: &'a HashSet<Digest<Bytes>>,
    /// Looks at the objects of the results that are counted on.
    looking: &'a mut Looking,
}

impl Shared<'_> {
    fn reader(&mut self, task: &Task, workspace: &Workspace) -> Arc<Reader> {
        match &self.reader {
            Some(reader) if Arc::ptr_eq(&reader.schema, &task.schema) => Arc::clone(reader),
            _ => {
                let (records, schema) = (Arc::clone(&workspace.records), Arc::clone(&task.schema));
                let reader = Arc::new(Reader { records, schema });
                self.reader = Some(Arc::clone(&reader));
                reader
            }
        }
    }

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

    /// The files and the recipe of a task. Where a merged lock file has several contents of a file that is not there, the
    /// one counts with which the task is in the lock file.
    fn described(
        &mut self,
        task: &Task,
        workspace: &Workspace,
        inputs: &[(&str, Vec<RecipeInput<'_>>)],
    ) -> Result<(Files, Digest<Recipe>), Error> {
        let files = self.files(task, workspace)?;
        let recipe = self.keys.recipe(task, &files, inputs);
        let Some(memory) = workspace.memory().filter(|memory| memory.is_doubled()) else {
            return Ok((files, recipe));
        };
        let address = Arc::as_ptr(&files).addr();
        let (_, others) = self.doubled.entry(address).or_insert_with(|| {
            let others = memory.alternatives(&files).into_iter().map(Arc::new);
            (Arc::clone(&files), others.collect())
        });
        if others.is_empty() || memory.has(&task.name, &recipe) {
            return Ok((files, recipe));
        }
        for other in others.iter() {
            let recipe = self.keys.recipe(task, other, inputs);
            if memory.has(&task.name, &recipe) {
                return Ok((Arc::clone(other), recipe));
            }
        }
        Ok((files, recipe))
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
        // A record that turns out damaged and an object that is not there count as absent from then on, so this comes to
        // an end.
        let mut gone = HashSet::new();
        loop {
            let mut looking = Looking::new(&workspace.store);
            let planned = Self::attempt(pipeline, workspace, &gone, &mut looking);
            let absent = looking.end();
            if !absent.is_empty() {
                gone.extend(absent);
            } else if let Some(plan) = planned? {
                return Ok(plan);
            }
        }
    }

    /// Plans without the results whose objects are gone; `None` when a record that was counted on turned out damaged.
    fn attempt(
        pipeline: &Pipeline,
        workspace: &Workspace,
        gone: &HashSet<Digest<Bytes>>,
        looking: &mut Looking,
    ) -> Result<Option<Self>, Error> {
        let mut plan = Self {
            tasks: Vec::with_capacity(pipeline.tasks.len()),
        };
        let mut shared = Shared {
            keys: RecipeKeys::default(),
            files: HashMap::new(),
            doubled: HashMap::new(),
            reader: None,
            gone,
            looking,
        };
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
        shared: &mut Shared<'_>,
    ) -> Result<PlannedTask, Error> {
        let (files, recipe) = shared.described(task, workspace, &self.recipe_inputs(task, pipeline))?;
        let mut planned = PlannedTask {
            task: task.id,
            recipe,
            files,
            state: State::Pending,
            result: None,
            action: None,
        };
        planned.result = self.found(task, &recipe, workspace, shared)?.map(Arc::new);
        if planned.result.is_none()
            && let Some(inputs) = self.inputs(task)
        {
            let opened = open_inputs(task.implementation.as_ref(), &inputs, workspace);
            let (action, parts) = keys::action(task.implementation.as_ref(), &planned.files, &opened);
            planned.result = self.stored(task, action, workspace)?.map(Arc::new);
            planned.action = Some(Box::new((action, parts)));
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
    fn found(
        &self,
        task: &Task,
        recipe: &Digest<Recipe>,
        workspace: &Workspace,
        shared: &mut Shared<'_>,
    ) -> Result<Option<TaskResult>, Error> {
        let Some(found) = workspace.records.find(recipe).map_err(store_error)? else {
            return Ok(None);
        };
        let mut objects = found.object.iter().chain(&found.objects);
        if objects.any(|(digest, _)| shared.gone.contains(digest)) {
            return Ok(None);
        }
        shared.looking.at(&found);
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
        let reader = shared.reader(task, workspace);
        Ok(Some(TaskResult::later(&found, task, before, reader)))
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
    for connection in task.inputs.iter() {
        let mut specs = Vec::with_capacity(connection.sources.len());
        for source in &connection.sources {
            let result = result(source.task)?;
            specs.push(result.output(source.output.as_deref())?.with(&source.constants));
        }
        ports.push((connection.port.to_string(), specs));
    }
    Some(ports)
}

/// Views over the inputs, as the stage sees them.
pub fn open_inputs(stage: &dyn Stage, inputs: &[(String, Vec<OutputSpec>)], workspace: &Workspace) -> Inputs {
    let open = |specs: &Vec<OutputSpec>| specs.iter().map(|spec| spec.open(&workspace.store)).collect();
    let inputs = Inputs {
        ports: inputs.iter().map(|(port, specs)| (port.clone(), open(specs))).collect(),
    };
    apart::veiled(&stage.ports(), inputs)
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
