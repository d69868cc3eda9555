//! Builds tasks: parameters are filled and checked, implementations made, columns typed over the whole DAG.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_stage::{
    Context, Declaration, Error, ErrorKind, Files, Forgotten, ModelSpec, Noting, Outputs, ParameterError, Schema,
    Schemas, Shape, Stage,
};
use serde_json::{Map, Value};

use crate::columns::{Arrival, arriving, check_needs, first, outputs};
use crate::diagnostic::{Diagnostic, Sink};
use crate::expand::{Draft, Known, expand};
use crate::fill::{fill, fill_marked};
use crate::matrix::{Variable, task_name};
use crate::parameters::{self, check_parameters};
use crate::pipeline::{Connection, ConstantColumn, SourceRef, Task, TaskId};
use crate::place::Written;
use crate::source::Location;
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
    pub models: &'a BTreeMap<String, ModelSpec>,
    /// The map under `models:` with its places.
    pub written_models: Option<&'a Node>,
    /// `vars`.
    pub vars: &'a Map<String, Value>,
    /// More tasks are refused.
    pub max_tasks: usize,
    /// What is wrong.
    pub sink: &'a mut Sink,
    /// The tasks so far.
    pub tasks: Vec<Task>,
    variables: Vec<Vec<Variable>>,
    constants: Vec<Arc<[ConstantColumn]>>,
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
    pub models: &'a BTreeMap<String, ModelSpec>,
    /// The map under `models:` with its places.
    pub written_models: Option<&'a Node>,
    /// `vars`.
    pub vars: &'a Map<String, Value>,
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
            models: given.models,
            written_models: given.written_models,
            vars: given.vars,
            max_tasks: given.max_tasks,
            sink,
            tasks: Vec::new(),
            variables: Vec::new(),
            constants: Vec::new(),
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
        let room = self.max_tasks.saturating_sub(self.tasks.len());
        let known = Known {
            variables: &self.variables,
            constants: &self.constants,
            tasks: &self.of_stage,
            stages: self.stages,
            connections: MAX_CONNECTIONS.saturating_sub(self.connections),
        };
        let drafts = expand(stage, &known, room, self.sink);
        let constant = (!stage.with.has_template()).then(|| Arc::new(stage.with.to_json()));
        let arrows = drafts.iter().flat_map(|draft| &draft.inputs).map(Vec::len);
        self.connections += arrows.sum::<usize>();
        let mut at = None;
        for draft in drafts {
            let location = at.get_or_insert_with(|| stage.mark.location()).clone();
            self.task(place, draft, constant.as_ref(), location, sound);
        }
    }

    fn task(&mut self, place: usize, draft: Draft, constant: Option<&Arc<Value>>, at: Location, sound: bool) {
        let stage = &self.stages[place];
        let Some(kind) = stage.declaration else { return };
        let Some(with) = self.parameters(stage, kind, &draft, constant) else {
            return;
        };
        // Parameters that are known to be wrong are not built from; those of other tasks are checked all the same.
        if !sound {
            return;
        }
        let context = self.context(&draft);
        let implementation: Arc<dyn Stage> = match (kind.build)(&with, &context) {
            Ok(built) => Arc::from(built),
            Err(wrong) => return self.refuse(stage, &draft, &wrong),
        };
        let arrivals = self.arrivals(stage, &draft);
        for port in implementation.ports() {
            check_needs(stage, &port, &arrivals, self.stages, &self.tasks, self.sink);
        }
        if kind.cases {
            crate::columns::check_cases(stage, first(kind, &arrivals), self.sink);
        }
        let marked = || fill_marked(&stage.with, &draft.variables);
        crate::values::check(stage, kind, &with, &arrivals, &self.tasks, &marked, self.sink);
        let inputs = arriving(&arrivals);
        let name = task_name(&stage.name, &draft.variables);
        let own = implementation.schema(&inputs, self.files).or_else(|error| {
            let asked = asked(&error, implementation.as_ref(), &inputs, self.files);
            let (task, kind, asked) = (name.as_str(), kind.name, asked.as_slice());
            let (with, context) = (with.as_ref(), &context);
            self.files
                .remembered(&Forgotten {
                    task,
                    kind,
                    asked,
                    with,
                    context,
                })
                .ok_or(error)
        });
        let own = match own {
            Ok(own) => own,
            Err(error) => return self.unfit(stage, &draft, &with, error),
        };
        for warning in implementation.warnings() {
            self.sink
                .push(Diagnostic::warning(format!("stage `{}`: {warning}", stage.name)).at(&stage.mark, ""));
        }
        let constants = self.task_constants(kind, &draft, &arrivals, implementation.as_ref());
        let id = TaskId(self.tasks.len() as u32);
        let names = constants.iter().map(|one| one.name.as_str()).collect();
        let schema = Arc::new(outputs(own, kind, &arrivals, &names));
        let constants: Arc<[ConstantColumn]> = constants.into();
        self.tasks.push(Task {
            id,
            name,
            stage: place,
            declaration: kind,
            implementation,
            with,
            context,
            constants: constants.to_vec(),
            inputs: connections(stage, arrivals),
            schema,
            at,
        });
        self.constants.push(constants);
        self.variables.push(draft.variables);
        self.of_stage[place].push(id);
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
            models: self.models.clone(),
            vars: self.vars.clone(),
            matrix: own()
                .map(|one| (one.name.to_string(), one.binding.json.clone()))
                .collect(),
            matrix_names: own()
                .map(|one| (one.name.to_string(), Value::String(one.text.to_string())))
                .collect(),
        }
    }

    fn arrivals(&self, stage: &StageDraft, draft: &Draft) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (need, arrows) in stage.needs.iter().zip(&draft.inputs) {
            let sources = arrows.iter().map(|(task, place)| {
                let source = &need.sources[*place];
                let name = &self.stages[source.stage].name;
                let column = || ConstantColumn {
                    name: "stage".to_owned(),
                    value: Value::String(name.clone()),
                    key: true,
                };
                let constants = need.list.then(column).into_iter().collect();
                SourceRef {
                    task: *task,
                    output: source.output.clone(),
                    constants,
                }
            });
            let sources: Vec<SourceRef> = sources.collect();
            let tables = sources.iter().map(|source| self.table(source)).collect();
            let marks = arrows
                .iter()
                .map(|(_, place)| need.sources[*place].mark.clone())
                .collect();
            arrivals.push(Arrival {
                port: need.port.clone(),
                sources,
                tables,
                marks,
            });
        }
        arrivals
    }

    /// The table of a source with the constants that its readers see.
    fn table(&self, source: &SourceRef) -> Schema {
        let outputs: &Outputs<Schema> = &self.tasks[source.task.index()].schema;
        let schema = outputs
            .get(source.output.as_deref())
            .cloned()
            .unwrap_or_else(Schema::unknown);
        crate::columns::with_constants(
            schema,
            self.constants[source.task.index()].iter().chain(&source.constants),
        )
    }

    /// Inherited constants, matrix variables and the implementation's own; a later one of the same name wins.
    fn task_constants(
        &self,
        kind: Declaration,
        draft: &Draft,
        arrivals: &[Arrival],
        implementation: &dyn Stage,
    ) -> Vec<ConstantColumn> {
        let mut all: Vec<ConstantColumn> = Vec::new();
        let mut add = |constant: ConstantColumn| match all.iter_mut().find(|other| other.name == constant.name) {
            Some(other) => *other = constant,
            None => all.push(constant),
        };
        if kind.shape == Shape::Map {
            let first = first(kind, arrivals);
            for source in first.iter().flat_map(|arrival| &arrival.sources) {
                self.constants[source.task.index()]
                    .iter()
                    .chain(&source.constants)
                    .cloned()
                    .for_each(&mut add);
            }
        }
        for variable in &draft.variables {
            let value = variable.column.as_ref().clone();
            add(ConstantColumn {
                name: variable.name.to_string(),
                value,
                key: true,
            });
        }
        for (name, value, key) in implementation.constants() {
            add(ConstantColumn { name, value, key });
        }
        all
    }

    /// Warns of variables that nothing uses.
    pub fn unused(&mut self) {
        crate::unused::warn(self.stages, &self.tasks, &self.of_stage, self.sink);
    }
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

fn connections(stage: &StageDraft, arrivals: Vec<Arrival>) -> Vec<Connection> {
    debug_assert_eq!(stage.needs.len(), arrivals.len());
    arrivals
        .into_iter()
        .map(|arrival| Connection {
            port: arrival.port,
            sources: arrival.sources,
        })
        .collect()
}
