//! Builds tasks: parameters are filled and checked, implementations made, columns typed over the whole DAG.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_stage::{
    Context, Declaration, Error, ErrorKind, Files, Forgotten, ModelSpec, Noting, ParameterError, Schema, Schemas,
    Shape, Stage,
};
use serde_json::{Map, Value};

use crate::columns::{Arrival, arriving, check_needs, first, outputs};
use crate::diagnostic::{Diagnostic, Sink};
use crate::expand::{Arrow, Draft, Known, expand};
use crate::fill::{fill, fill_marked};
use crate::matrix::{Variable, task_name};
use crate::parameters::{self, check_parameters};
use crate::pipeline::{Connection, ConstantColumn, SourceRef, Task, TaskId};
use crate::place::Written;
use crate::share::{ConstantShape, Id, Layouts, Prototype, Shared};
use crate::stages::StageDraft;
use crate::tree::Node;

/// More connections between tasks are refused: they would take all memory.
const MAX_CONNECTIONS: usize = 2_000_000;

/// Builds the tasks of all stages.
pub struct Builder<'a> {
    /// The stages.
    pub stages: &'a [StageDraft],
    /// Reads headers.
    pub files: &'a dyn Files,
    /// The project's root.
    pub root: PathBuf,
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
    variables: Vec<Vec<Variable>>,
    /// The layout of each task's outputs.
    layout_of: Vec<Id>,
    layouts: Layouts,
    of_stage: Vec<Vec<TaskId>>,
    failed: Vec<bool>,
    /// Connections between tasks so far.
    connections: usize,
    schemas: HashMap<&'static str, Arc<Value>>,
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
            root: given.root.to_owned(),
            models: Arc::clone(given.models),
            written_models: given.written_models,
            vars: Arc::clone(given.vars),
            max_tasks: given.max_tasks,
            sink,
            tasks: Vec::new(),
            variables: Vec::new(),
            layout_of: Vec::new(),
            layouts: Layouts::default(),
            of_stage: vec![Vec::new(); stages.len()],
            failed: vec![true; stages.len()],
            connections: 0,
            schemas: HashMap::new(),
        }
    }

    /// Builds the stages in that order; what needs a failed stage is only checked as far as it can be.
    pub fn build(&mut self, order: &[usize]) {
        for &place in order {
            let stage = &self.stages[place];
            let errors = self.sink.errors();
            let sound = stage.declaration.is_some_and(|kind| self.check_form(stage, kind));
            let ready = stage
                .needs
                .iter()
                .flat_map(|need| &need.sources)
                .all(|source| !self.failed[source.stage]);
            if ready && !stage.broken {
                self.stage(place, sound);
                self.failed[place] = !sound || self.sink.errors() > errors;
            }
        }
        // Stages on a cycle are in no order; their parameters are checked all the same.
        for place in (0..self.stages.len()).filter(|place| !order.contains(place)) {
            let stage = &self.stages[place];
            stage.declaration.map(|kind| self.check_form(stage, kind));
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
        let arrows = drafts.iter().flat_map(|draft| &draft.inputs).map(Vec::len);
        self.connections += arrows.sum::<usize>();
        let mut shared = Shared::new(stage, kind, self.stages);
        self.tasks.reserve(drafts.len());
        for draft in drafts {
            // What is wrong with one task was said; the others are checked all the same.
            let _ = self.task(place, draft, &mut shared, sound);
        }
    }

    /// Builds a task; `None` when something is wrong, which was said.
    fn task(&mut self, place: usize, draft: Draft, shared: &mut Shared, sound: bool) -> Option<()> {
        let stage = &self.stages[place];
        let prototype = self.prototype(stage, &draft, shared, sound)?;
        let constants = self.task_constants(stage, &draft, &shared.prototypes[prototype], shared);
        let inputs = connections(&draft, shared);
        self.check_values(stage, &draft, &shared.prototypes[prototype], &inputs);
        let shape = self.layouts.shape(&constants);
        let mut arriving = vec![prototype as Id, shape];
        self.arriving(&draft, &mut arriving);
        let layout = match shared.typed.get(&arriving) {
            Some(known) => *known,
            None => {
                let layout = self.typed(stage, &shared.prototypes[prototype], &draft, &constants, shape);
                shared.typed.insert(arriving, layout);
                layout
            }
        }?;
        let Prototype {
            with,
            context,
            implementation,
            ..
        } = &shared.prototypes[prototype];
        let id = TaskId(self.tasks.len() as u32);
        self.tasks.push(Task {
            id,
            name: task_name(&stage.name, &draft.variables),
            stage: place,
            declaration: Arc::clone(&shared.kind),
            implementation: Arc::clone(implementation),
            with: Arc::clone(with),
            context: Arc::clone(context),
            constants,
            inputs,
            schema: Arc::clone(&self.layouts.get(layout).schema),
            at: Arc::clone(&shared.at),
        });
        self.layout_of.push(layout);
        self.variables.push(draft.variables);
        self.of_stage[place].push(id);
        Some(())
    }

    /// What a task shares with those of equal parameters; `None` when something is wrong with these.
    fn prototype(&mut self, stage: &StageDraft, draft: &Draft, shared: &mut Shared, sound: bool) -> Option<usize> {
        let addresses: Vec<usize> = shared.matters(draft).map(Variable::address).collect();
        if let Some(known) = shared.known.get(&addresses) {
            return *known;
        }
        let made = self.new_prototype(stage, draft, shared, sound);
        let place = made.map(|prototype| {
            shared.prototypes.push(prototype);
            shared.prototypes.len() - 1
        });
        shared.known.insert(addresses, place);
        place
    }

    fn new_prototype(&mut self, stage: &StageDraft, draft: &Draft, shared: &Shared, sound: bool) -> Option<Prototype> {
        let with = self.parameters(stage, *shared.kind, draft, shared.constant.as_ref())?;
        // Parameters that are known to be wrong are not built from; those of other tasks are checked all the same.
        if !sound {
            return None;
        }
        let context = Arc::new(self.context(draft));
        let implementation: Arc<dyn Stage> = match (shared.kind.build)(&with, &context) {
            Ok(built) => Arc::from(built),
            Err(wrong) => {
                self.refuse(stage, draft, &wrong);
                return None;
            }
        };
        let constants = implementation.constants().into_iter();
        let constants = constants.map(|(name, value, key)| Arc::new(ConstantColumn { name, value, key }));
        Some(Prototype {
            with,
            context,
            ports: shared.shared_ports(implementation.ports()),
            constants: constants.collect(),
            implementation,
            _variables: shared.matters(draft).cloned().collect(),
        })
    }

    /// Checks the values that parameters name against those of all tables at the first port. Tables of one layout may hold
    /// different values, so this is asked for each task.
    fn check_values(&mut self, stage: &StageDraft, draft: &Draft, prototype: &Prototype, inputs: &[Connection]) {
        let Some(kind) = stage.declaration else { return };
        let Some(first) = first_need(&kind, stage) else { return };
        let (with, sources) = (&prototype.with, &inputs[first].sources);
        let marked = || fill_marked(&stage.with, &draft.variables);
        crate::values::check(stage, kind, with, sources, &self.tasks, &marked, self.sink);
    }

    /// Adds what tells the tables that arrive apart: of each need the layouts and the places of its sources, each once.
    fn arriving(&self, draft: &Draft, ids: &mut Vec<Id>) {
        for arrows in &draft.inputs {
            ids.push(Id::MAX);
            for (layout, place) in self.distinct(arrows).map(|(arrow, layout)| (layout, arrow.1)) {
                ids.extend([layout, place]);
            }
        }
    }

    /// The first of the arrows of each layout and place.
    fn distinct<'s>(&'s self, arrows: &'s [Arrow]) -> impl Iterator<Item = (Arrow, Id)> + 's {
        let mut seen: HashSet<(Id, u32)> = HashSet::new();
        let mut last = None;
        arrows.iter().filter_map(move |arrow| {
            let layout = self.layout_of[arrow.0.index()];
            let this = (layout, arrow.1);
            let new = last != Some(this) && (arrows.len() == 1 || seen.insert(this));
            last = Some(this);
            new.then_some((*arrow, layout))
        })
    }

    /// Checks what arrives at a task and finds the layout of its outputs; `None` when its stage refuses.
    fn typed(
        &mut self,
        stage: &StageDraft,
        prototype: &Prototype,
        draft: &Draft,
        constants: &[Arc<ConstantColumn>],
        shape: Id,
    ) -> Option<Id> {
        let kind = stage.declaration?;
        let implementation = prototype.implementation.as_ref();
        let arrivals = self.arrivals(stage, draft);
        for port in prototype.ports.iter() {
            check_needs(stage, port, &arrivals, self.stages, &self.tasks, self.sink);
        }
        if kind.cases {
            crate::columns::check_cases(stage, first(kind, &arrivals), self.sink);
        }
        let inputs = arriving(&arrivals);
        let with = prototype.with.as_ref();
        let own = implementation.schema(&inputs, self.files).or_else(|error| {
            let asked = asked(&error, implementation, &inputs, self.files);
            let name = task_name(&stage.name, &draft.variables);
            self.files
                .remembered(&Forgotten {
                    task: &name,
                    kind: kind.name,
                    asked: &asked,
                    with,
                    context: &prototype.context,
                })
                .ok_or(error)
        });
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                self.unfit(stage, draft, with, error);
                return None;
            }
        };
        for warning in implementation.warnings() {
            self.sink
                .push(Diagnostic::warning(format!("stage `{}`: {warning}", stage.name)).at(&stage.mark, ""));
        }
        let names = constants.iter().map(|one| one.name.as_str()).collect();
        let schema = outputs(own, kind, &arrivals, &names);
        Some(self.layouts.layout(schema, shape))
    }

    fn parameters(
        &mut self,
        stage: &StageDraft,
        kind: Declaration,
        draft: &Draft,
        constant: Option<&Arc<Value>>,
    ) -> Option<Arc<Value>> {
        if let Some(constant) = constant {
            return Some(Arc::clone(constant));
        }
        let errors = self.sink.errors();
        let with = fill(&stage.with, &draft.variables, self.sink);
        if self.sink.errors() > errors {
            return None;
        }
        let schema = self.parameter_schema(kind);
        let violations = check_parameters(&with, &schema, kind);
        if !violations.is_empty() {
            let marked = fill_marked(&stage.with, &draft.variables);
            for violation in &violations {
                self.sink.push(parameters::diagnostic(violation, stage, &marked));
            }
            return None;
        }
        Some(Arc::new(with))
    }

    fn refuse(&mut self, stage: &StageDraft, draft: &Draft, wrong: &[ParameterError]) {
        let marked = fill_marked(&stage.with, &draft.variables);
        for error in wrong {
            self.sink.push(parameters::from_kind(error, stage, &marked));
        }
    }

    /// Tells the error of a stage that looked at its inputs and files.
    fn unfit(&mut self, stage: &StageDraft, draft: &Draft, with: &Value, error: Error) {
        let marked = fill_marked(&stage.with, &draft.variables);
        let written = Written {
            stage: &stage.name,
            mark: &stage.mark,
            with: &marked,
            models: self.written_models,
        };
        self.sink.push(written.diagnose(with, error));
    }

    fn context(&self, draft: &Draft) -> Context {
        let own = || draft.variables.iter().filter(|one| draft.own.contains(&one.name));
        Context {
            root: self.root.clone(),
            models: Arc::clone(&self.models),
            vars: Arc::clone(&self.vars),
            matrix: own()
                .map(|one| (one.name.to_string(), one.binding.json.clone()))
                .collect(),
            matrix_names: own()
                .map(|one| (one.name.to_string(), Value::String(one.text.to_string())))
                .collect(),
        }
    }

    /// What arrives, of sources whose tables have the same columns the first.
    fn arrivals(&self, stage: &StageDraft, draft: &Draft) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (need, arrows) in stage.needs.iter().zip(&draft.inputs) {
            let mut arrival = Arrival {
                port: need.port.clone(),
                sources: Vec::new(),
                tables: Vec::new(),
                marks: Vec::new(),
            };
            for ((task, place), layout) in self.distinct(arrows) {
                let source = &need.sources[place as usize];
                arrival
                    .tables
                    .push(self.table(layout, source.output.as_deref(), need.list));
                arrival.sources.push(SourceRef {
                    task,
                    output: source.output.as_deref().map(Arc::from),
                    constants: Arc::default(),
                });
                arrival.marks.push(source.mark.clone());
            }
            arrivals.push(arrival);
        }
        arrivals
    }

    /// A table with the constants that its readers see, of which a list of stages adds one.
    fn table(&self, layout: Id, output: Option<&str>, list: bool) -> Schema {
        let layout = self.layouts.get(layout);
        let schema = layout.schema.get(output).cloned().unwrap_or_else(Schema::unknown);
        let stage = ConstantShape {
            name: "stage".to_owned(),
            kind: fracture_cache::ColumnType::Text,
            key: true,
        };
        crate::columns::with_constants(schema, layout.constants.iter().chain(list.then_some(&stage)))
    }

    /// Inherited constants, matrix variables and the implementation's own; a later one of the same name wins.
    fn task_constants(
        &self,
        stage: &StageDraft,
        draft: &Draft,
        prototype: &Prototype,
        shared: &Shared,
    ) -> Arc<[Arc<ConstantColumn>]> {
        let mut all: Vec<Arc<ConstantColumn>> = Vec::with_capacity(draft.variables.len() + prototype.constants.len());
        let mut add = |constant: &Arc<ConstantColumn>| match all.iter_mut().find(|other| other.name == constant.name) {
            Some(other) => *other = Arc::clone(constant),
            None => all.push(Arc::clone(constant)),
        };
        if shared.kind.shape == Shape::Map
            && let Some(first) = first_need(&shared.kind, stage)
        {
            for (task, place) in &draft.inputs[first] {
                self.tasks[task.index()].constants.iter().for_each(&mut add);
                let source = &shared.sources[first][*place as usize];
                source.constants.iter().for_each(&mut add);
            }
        }
        draft.variables.iter().for_each(|variable| add(&variable.column));
        prototype.constants.iter().for_each(&mut add);
        all.into()
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

/// The paths of the pipeline that a stage asks for before it fails, when it fails over a file.
fn asked(error: &Error, stage: &dyn Stage, inputs: &Schemas, files: &dyn Files) -> Vec<String> {
    if error.kind != ErrorKind::Input {
        return Vec::new();
    }
    let noting = Noting::new(files);
    drop(stage.schema(inputs, &noting));
    noting.asked()
}

fn connections(draft: &Draft, shared: &Shared) -> Vec<Connection> {
    let needs = draft.inputs.iter().zip(&shared.ports).zip(&shared.sources);
    needs
        .map(|((arrows, port), sources)| Connection {
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
        })
        .collect()
}
