//! Builds tasks: parameters are filled and checked, implementations made, columns typed over the whole DAG.

mod clash;
mod prototype;
mod recover;
mod typing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_stage::{Declaration, Files, ModelSpec};
use serde_json::{Map, Value};

use crate::diagnostic::Sink;
use crate::expand::{Draft, Known, expand};
use crate::matrix::{Variable, task_name};
use crate::parameters::{self, check_parameters};
use crate::pipeline::{Connection, SourceRef, Task, TaskId};
use crate::share::{Id, Layouts, Prototype, Shared};
use crate::stages::StageDraft;
use crate::tree::Node;
use crate::values::Memo;

/// More connections between tasks are refused: they would take all memory.
const MAX_CONNECTIONS: usize = 2_000_000;

/// Builds the tasks of all stages.
pub struct Builder<'a> {
    /// The stages.
    pub stages: &'a [StageDraft],
    /// Reads headers.
    pub files: &'a dyn Files,
    /// The project's root.
    pub root: Arc<PathBuf>,
    /// The models.
    pub models: Arc<BTreeMap<String, ModelSpec>>,
    /// The map under `models:` with its places.
    pub written_models: Option<&'a Node>,
    /// `vars`.
    pub vars: Arc<Map<String, Value>>,
    /// More tasks are refused.
    pub max_tasks: usize,
    /// What is wrong.
    pub sink: &'a mut Sink,
    /// The tasks so far.
    pub tasks: Vec<Task>,
    variables: Vec<Arc<[Variable]>>,
    /// What arrives at the first task that needs each task alone; others of its kind share that.
    alone: Vec<Option<Arc<[Connection]>>>,
    /// The layout of each task's outputs.
    layout_of: Vec<Id>,
    layouts: Layouts,
    of_stage: Vec<Vec<TaskId>>,
    failed: Vec<bool>,
    /// Connections between tasks so far.
    connections: usize,
    /// Errors that leave no doubt about the columns and the constants of a task.
    harmless: usize,
    /// How often the right rest of wrong parameters was looked at.
    mended: usize,
    schemas: HashMap<&'static str, Arc<Value>>,
    /// Values of columns that were looked up.
    values: Memo,
}

/// What the builder is given.
pub struct Given<'a> {
    /// Reads headers.
    pub files: &'a dyn Files,
    /// The project's root.
    pub root: &'a Path,
    /// The models.
    pub models: &'a Arc<BTreeMap<String, ModelSpec>>,
    /// The map under `models:` with its places.
    pub written_models: Option<&'a Node>,
    /// `vars`.
    pub vars: &'a Arc<Map<String, Value>>,
    /// More tasks are refused.
    pub max_tasks: usize,
}

impl<'a> Builder<'a> {
    /// A builder without tasks.
    pub fn new(stages: &'a [StageDraft], given: &Given<'a>, sink: &'a mut Sink) -> Self {
        Self {
            stages,
            files: given.files,
            root: Arc::new(given.root.to_owned()),
            models: Arc::clone(given.models),
            written_models: given.written_models,
            vars: Arc::clone(given.vars),
            max_tasks: given.max_tasks,
            sink,
            tasks: Vec::new(),
            variables: Vec::new(),
            alone: Vec::new(),
            layout_of: Vec::new(),
            layouts: Layouts::default(),
            of_stage: vec![Vec::new(); stages.len()],
            failed: vec![true; stages.len()],
            connections: 0,
            harmless: 0,
            mended: 0,
            schemas: HashMap::new(),
            values: Memo::default(),
        }
    }

    /// Builds the stages in that order; what needs a failed stage is only checked as far as it can be.
    pub fn build(&mut self, order: &[usize]) {
        for &place in order {
            let stage = &self.stages[place];
            let errors = self.sink.errors() - self.harmless;
            let sound = stage.declaration.is_some_and(|kind| self.check_form(stage, kind));
            let ready = stage
                .needs
                .iter()
                .flat_map(|need| &need.sources)
                .all(|source| !self.failed[source.stage]);
            if ready && !stage.broken {
                self.stage(place, sound);
                self.failed[place] = !sound || self.sink.errors() - self.harmless > errors;
            } else {
                self.alone(place);
            }
        }
        // Stages on a cycle are in no order; their parameters are checked all the same.
        let ordered: HashSet<usize> = order.iter().copied().collect();
        for place in (0..self.stages.len()).filter(|place| !ordered.contains(place)) {
            let stage = &self.stages[place];
            stage.declaration.map(|kind| self.check_form(stage, kind));
            self.alone(place);
        }
    }

    /// The tasks of each stage.
    pub fn tasks_of(&self, stage: usize) -> &[TaskId] {
        &self.of_stage[stage]
    }

    fn parameter_schema(&mut self, kind: Declaration) -> Arc<Value> {
        let schema = self
            .schemas
            .entry(kind.name)
            .or_insert_with(|| Arc::new((kind.parameters)()));
        Arc::clone(schema)
    }

    /// Checks what can be checked before matrix variables are known.
    fn check_form(&mut self, stage: &StageDraft, kind: Declaration) -> bool {
        let schema = self.parameter_schema(kind);
        let violations = check_parameters(&stage.with.to_json(), &schema, kind);
        for violation in &violations {
            self.sink.push(parameters::diagnostic(violation, stage, &stage.with));
        }
        if stage.figure {
            parameters::check_targets(stage, self.sink);
        }
        violations.is_empty() && !stage.with.has_unknown()
    }

    fn stage(&mut self, place: usize, sound: bool) {
        let stage = &self.stages[place];
        let Some(kind) = stage.declaration else { return };
        let room = self.max_tasks.saturating_sub(self.tasks.len());
        let known = Known {
            variables: &self.variables,
            built: &self.tasks,
            tasks: &self.of_stage,
            stages: self.stages,
            connections: MAX_CONNECTIONS.saturating_sub(self.connections),
        };
        let drafts = expand(stage, &known, room, self.sink);
        let arrows = drafts.iter().flat_map(|draft| draft.inputs.iter()).map(Vec::len);
        self.connections += arrows.sum::<usize>();
        let mut shared = Shared::new(stage, kind, self.stages);
        self.tasks.reserve(drafts.len());
        for draft in &drafts {
            // What is wrong with one task was said; the others are checked all the same.
            let _ = self.task(place, draft, &mut shared, sound);
        }
        if drafts.is_empty() {
            self.alone(place);
        }
        if shared.lacking {
            crate::templates::lacking(stage, &drafts, self.sink);
        }
    }

    /// Builds a task; `None` when something is wrong, which was said.
    fn task(&mut self, place: usize, draft: &Draft, shared: &mut Shared, sound: bool) -> Option<()> {
        let stage = &self.stages[place];
        let prototype = self.prototype(stage, draft, shared, sound)?;
        let constants = self.task_constants(stage, draft, &shared.prototypes[prototype], shared);
        let inputs = self.connected(draft, shared);
        self.check_values(stage, draft, &shared.prototypes[prototype], &inputs);
        let shape = self.layouts.shape(&constants);
        let mut arriving = vec![prototype as Id, shape];
        self.arriving(draft, &mut arriving);
        let layout = match shared.typed.get(&arriving) {
            Some(known) => *known,
            None => {
                let layout = self.typed(stage, (shared, prototype), draft, &constants, &arriving[1..]);
                shared.typed.insert(arriving, layout);
                layout
            }
        }?;
        let Prototype {
            with,
            context,
            implementation,
            ports,
            ..
        } = &shared.prototypes[prototype];
        let id = TaskId(self.tasks.len() as u32);
        self.tasks.push(Task {
            id,
            name: task_name(&stage.name, &draft.variables),
            stage: place,
            declaration: Arc::clone(&shared.kind),
            implementation: Arc::clone(implementation),
            ports: Arc::clone(ports),
            with: Arc::clone(with),
            context: Arc::clone(context),
            constants,
            inputs,
            schema: Arc::clone(&self.layouts.get(layout).schema),
            at: Arc::clone(&shared.at),
        });
        self.alone.push(None);
        self.layout_of.push(layout);
        self.variables.push(Arc::clone(&draft.variables));
        self.of_stage[place].push(id);
        Some(())
    }

    /// What arrives at a task. Tasks of a stage at which the same arrives follow each other, and share it; so do tasks of
    /// several stages that need one and the same task.
    fn connected(&mut self, draft: &Draft, shared: &mut Shared) -> Arc<[Connection]> {
        if let Some((arrows, connections)) = &shared.connected
            && Arc::ptr_eq(arrows, &draft.inputs)
        {
            return Arc::clone(connections);
        }
        let one = match &*draft.inputs {
            [arrows] => arrows.first().filter(|_| arrows.len() == 1),
            _ => None,
        };
        let first = one.and_then(|(task, _)| self.alone[task.index()].as_ref());
        let connections = match first {
            Some(first) if is_same(first, draft, shared) => Arc::clone(first),
            _ => connections(draft, shared),
        };
        if let Some((task, _)) = one {
            self.alone[task.index()].get_or_insert_with(|| Arc::clone(&connections));
        }
        shared.connected = Some((Arc::clone(&draft.inputs), Arc::clone(&connections)));
        connections
    }

    /// Warns of variables that nothing uses.
    pub fn unused(&mut self) {
        crate::unused::warn(self.stages, &self.tasks, &self.of_stage, self.sink);
    }
}

/// The need that fills the first port of a kind.
fn first_need(kind: &Declaration, stage: &StageDraft) -> Option<usize> {
    let declared = kind
        .ports
        .iter()
        .find_map(|port| stage.needs.iter().position(|need| need.port == port.name));
    declared.or((!stage.needs.is_empty()).then_some(0))
}

/// Whether the only thing that arrives at a task arrives at another one in the same way.
fn is_same(connections: &[Connection], draft: &Draft, shared: &Shared) -> bool {
    let (Some(arrow), Some(port)) = (
        draft.inputs.first().and_then(|arrows| arrows.first()),
        shared.ports.first(),
    ) else {
        return false;
    };
    let wanted = &shared.sources[0][arrow.1 as usize];
    match connections {
        [Connection { port: known, sources }] => {
            let [source] = sources.as_slice() else { return false };
            let plain = source.constants.is_empty() && wanted.constants.is_empty();
            plain && known == port && source.task == arrow.0 && source.output == wanted.output
        }
        _ => false,
    }
}

fn connections(draft: &Draft, shared: &Shared) -> Arc<[Connection]> {
    let needs = draft.inputs.iter().zip(&shared.ports).zip(&shared.sources);
    let connections = needs.map(|((arrows, port), sources)| Connection {
        port: Arc::clone(port),
        sources: arrows
            .iter()
            .map(|(task, place)| {
                let source = &sources[*place as usize];
                SourceRef {
                    task: *task,
                    output: source.output.clone(),
                    constants: Arc::clone(&source.constants),
                }
            })
            .collect(),
    });
    connections.collect()
}
