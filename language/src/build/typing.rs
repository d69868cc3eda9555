//! The tables that arrive at a task and that it gives, asked once for tasks at which tables of the same columns arrive.

use std::collections::HashSet;
use std::sync::Arc;

use fracture_stage::{Error, ErrorKind, Files, Forgotten, Noting, Schema, Schemas, Stage};
use serde_json::Value;

use super::Builder;
use super::recover::Look;
use crate::asked::Asked;
use crate::columns::{Arrival, Before, arriving as schemas, check_needs, first, outputs};
use crate::diagnostic::Diagnostic;
use crate::expand::{Arrow, Draft};
use crate::fill::fill_marked;
use crate::matrix::task_name;
use crate::pipeline::{Connection, ConstantColumn, SourceRef};
use crate::place::Written;
use crate::repair::Wrong;
use crate::share::{ConstantShape, Id, Prototype, Same, Shared};
use crate::stages::StageDraft;
use crate::values::{Known, check};

impl Builder<'_> {
    /// Checks the values that parameters name against those of all tables at their ports. Tables of one layout may hold
    /// different values, so this is asked for each task.
    pub(super) fn check_values(
        &mut self,
        stage: &StageDraft,
        draft: &Draft,
        prototype: &Prototype,
        inputs: &[Connection],
    ) {
        let marked = || fill_marked(&stage.with, &draft.variables);
        let errors = self.sink.errors();
        let known = Known {
            tasks: &self.tasks,
            memo: &self.values,
        };
        check(stage, &prototype.wanted, inputs, &known, &marked, self.sink);
        // The columns of the task are known all the same.
        self.harmless += self.sink.errors() - errors;
    }

    /// Adds what tells the tables that arrive apart: of each need the layouts and the places of its sources, each once.
    pub(super) fn arriving(&self, draft: &Draft, ids: &mut Vec<Id>) {
        for arrows in draft.inputs.iter() {
            ids.push(Id::MAX);
            for (layout, place) in self.distinct(arrows).map(|(arrow, layout)| (layout, arrow.1)) {
                ids.extend([layout, place]);
            }
        }
    }

    /// The first of the arrows of each layout and place.
    pub(super) fn distinct<'s>(&'s self, arrows: &'s [Arrow]) -> impl Iterator<Item = (Arrow, Id)> + 's {
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

    /// Checks what arrives at a task and finds the layout of its outputs; `None` when its stage refuses. `arriving` is the
    /// shape of its constants, and what [`Self::arriving`] says.
    pub(super) fn typed(
        &mut self,
        stage: &StageDraft,
        (shared, prototype): (&mut Shared, usize),
        draft: &Draft,
        constants: &[Arc<ConstantColumn>],
        arriving: &[Id],
    ) -> Option<Id> {
        let mut same = match shared.same.take() {
            Some(same) if same.arriving == arriving => same,
            _ => {
                let arrivals = self.arrivals(stage, draft);
                Same {
                    arriving: arriving.to_vec(),
                    inputs: schemas(&arrivals),
                    arrivals,
                    checked: None,
                    gave: None,
                }
            }
        };
        let layout = self.typed_anew(stage, &shared.prototypes[prototype], draft, constants, &mut same);
        shared.same = Some(same);
        layout
    }

    fn typed_anew(
        &mut self,
        stage: &StageDraft,
        prototype: &Prototype,
        draft: &Draft,
        constants: &[Arc<ConstantColumn>],
        same: &mut Same,
    ) -> Option<Id> {
        let kind = stage.declaration?;
        let implementation = prototype.implementation.as_ref();
        let marked = || fill_marked(&stage.with, &draft.variables);
        let asked = Asked {
            kind,
            with: &prototype.with,
            context: &prototype.context,
            marked: &marked,
            wrong: None,
        };
        let before = Before {
            stages: self.stages,
            tasks: &self.tasks,
        };
        let arrivals = &same.arrivals;
        let checked = same.checked.as_ref();
        if checked.is_none_or(|ports| !Arc::ptr_eq(ports, &prototype.ports)) {
            let errors = self.sink.errors();
            for port in prototype.ports.iter() {
                check_needs(stage, port, arrivals, before, &asked, self.sink);
            }
            for (need, arrival) in stage.needs.iter().zip(arrivals) {
                crate::alike::check(stage, kind, need, &prototype.ports, arrival, before, self.sink);
            }
            if kind.cases {
                crate::columns::check_cases(stage, first(kind, arrivals), self.sink);
            }
            same.checked = (self.sink.errors() == errors).then(|| Arc::clone(&prototype.ports));
        }
        let inputs = &same.inputs;
        let with = prototype.with.as_ref();
        let own = implementation.schema(inputs, self.files).or_else(|error| {
            let paths = paths(&error, implementation, inputs, self.files);
            let name = task_name(&stage.name, &draft.variables);
            self.files
                .remembered(&Forgotten {
                    task: &name,
                    kind: kind.name,
                    asked: &paths,
                    with,
                    context: &prototype.context,
                })
                .ok_or(error)
        });
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                let wrong = [Wrong::value(&error.parameter)];
                self.unfit(stage, draft, with, error);
                let look = Look {
                    stage,
                    kind,
                    context: &prototype.context,
                    marked: marked(),
                    arrivals: arrivals.clone(),
                    inputs: Arc::default(),
                    task: task_name(&stage.name, &draft.variables),
                };
                self.go_on(&look, with, &wrong);
                return None;
            }
        };
        let known = same
            .gave
            .as_ref()
            .filter(|(gave, _)| *gave == own)
            .map(|(_, layout)| *layout);
        let errors = self.sink.errors();
        if known.is_none() {
            self.check_clashes(stage, prototype, draft, constants, &own);
        }
        for warning in implementation.warnings() {
            self.sink
                .push(Diagnostic::warning(format!("stage `{}`: {warning}", stage.name)).at(&stage.mark, ""));
        }
        if known.is_some() {
            return known;
        }
        let names = constants.iter().map(|one| one.name.as_str()).collect();
        let sound = self.sink.errors() == errors;
        let schema = outputs(own.clone(), kind, arrivals, &names);
        let layout = self.layouts.layout(schema, same.arriving[0]);
        same.gave = sound.then_some((own, layout));
        Some(layout)
    }

    /// Tells the error of a stage that looked at its inputs and files.
    pub(super) fn unfit(&mut self, stage: &StageDraft, draft: &Draft, with: &Value, error: Error) {
        let marked = fill_marked(&stage.with, &draft.variables);
        let written = Written {
            stage: &stage.name,
            mark: &stage.mark,
            with: &marked,
            models: self.written_models,
        };
        self.sink.push(written.diagnose(with, error));
    }

    /// What arrives, of sources whose tables have the same columns the first.
    pub(super) fn arrivals(&self, stage: &StageDraft, draft: &Draft) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (need, arrows) in stage.needs.iter().zip(draft.inputs.iter()) {
            let mut arrival = Arrival {
                port: need.port.clone(),
                sources: Vec::new(),
                tables: Vec::new(),
                marks: Vec::new(),
                places: Vec::new(),
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
                arrival.places.push(place as usize);
            }
            arrivals.push(arrival);
        }
        arrivals
    }

    /// A table with the constants that its readers see, of which a list of stages adds one.
    pub(super) fn table(&self, layout: Id, output: Option<&str>, list: bool) -> Schema {
        let layout = self.layouts.get(layout);
        let schema = layout.schema.get(output).cloned().unwrap_or_else(Schema::unknown);
        let stage = ConstantShape {
            name: "stage".to_owned(),
            kind: fracture_cache::ColumnType::Text,
            key: true,
        };
        crate::columns::with_constants(schema, layout.constants.iter().chain(list.then_some(&stage)))
    }
}

/// The paths of the pipeline that a stage asks for before it fails, when it fails over a file.
pub(super) fn paths(error: &Error, stage: &dyn Stage, inputs: &Schemas, files: &dyn Files) -> Vec<String> {
    if error.kind != ErrorKind::Input {
        return Vec::new();
    }
    let noting = Noting::new(files);
    drop(stage.schema(inputs, &noting));
    noting.asked()
}
