//! What tasks of equal parameters share: parameters filled and checked, the implementation built from them.

use std::sync::Arc;

use fracture_stage::{Context, Declaration, MatrixValue, ParameterError, Shape, Stage};
use serde_json::Value;

use super::recover::Look;
use super::{Builder, first_need};
use crate::expand::Draft;
use crate::fill::{fill, fill_marked};
use crate::matrix::{Variable, task_name};
use crate::parameters::{self, check_parameters};
use crate::pipeline::ConstantColumn;
use crate::repair::Wrong;
use crate::share::{Prototype, Shared};
use crate::stages::StageDraft;

/// Of a stage's tasks with wrong parameters, what is right is looked at for so many: those of others are mostly the same.
const MENDED: usize = 8;

impl Builder<'_> {
    /// What a task shares with those of equal parameters; `None` when something is wrong with these.
    pub(super) fn prototype(
        &mut self,
        stage: &StageDraft,
        draft: &Draft,
        shared: &mut Shared,
        sound: bool,
    ) -> Option<usize> {
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

    pub(super) fn new_prototype(
        &mut self,
        stage: &StageDraft,
        draft: &Draft,
        shared: &mut Shared,
        sound: bool,
    ) -> Option<Prototype> {
        let kind = *shared.kind;
        let (with, wrong) = self.parameters(stage, kind, draft, shared, sound);
        let context = Arc::new(self.context(draft));
        let built = match wrong.is_empty() {
            true => (kind.build)(&with, &context).map_err(|wrong| {
                self.refuse(stage, draft, &wrong);
                wrong.iter().map(|one| Wrong::value(&one.path)).collect()
            }),
            false => Err(wrong),
        };
        let implementation: Arc<dyn Stage> = match built {
            Ok(built) => Arc::from(built),
            Err(wrong) => {
                // Parameters that are known to be wrong are not built from; the others are checked all the same.
                self.mend(stage, draft, shared, &with, &context, &wrong);
                return None;
            }
        };
        let constants = implementation.constants().into_iter();
        let constants = constants.map(|(name, value, key)| Arc::new(ConstantColumn { name, value, key }));
        let first = first_need(&shared.kind, stage).map(|need| stage.needs[need].port.as_str());
        let wanted = crate::values::wanted(&with, &shared.kind, implementation.as_ref(), first);
        Some(Prototype {
            with,
            context,
            ports: shared.shared_ports(implementation.ports()),
            constants: constants.collect(),
            wanted,
            implementation,
            _variables: shared.matters(draft).cloned().collect(),
        })
    }

    /// The parameters of a task, and what is known to be wrong with them, which was said.
    fn parameters(
        &mut self,
        stage: &StageDraft,
        kind: Declaration,
        draft: &Draft,
        shared: &mut Shared,
        sound: bool,
    ) -> (Arc<Value>, Vec<Wrong>) {
        if let Some(constant) = shared.constant.as_ref().filter(|_| sound) {
            return (Arc::clone(constant), self.unknown(constant));
        }
        let with = fill(&stage.with, &draft.variables, self.sink);
        let unknown = self.unknown(&with);
        shared.lacking |= !unknown.is_empty();
        let schema = self.parameter_schema(kind);
        let violations = check_parameters(&with, &schema, kind);
        if !violations.is_empty() {
            let marked = fill_marked(&stage.with, &draft.variables);
            for violation in &violations {
                self.sink.push(parameters::diagnostic(violation, stage, &marked));
            }
        }
        let wrong = violations.iter().map(Wrong::violation);
        let wrong = wrong.chain(unknown).collect();
        (Arc::new(with), wrong)
    }

    /// Checks what is right of a task's parameters.
    fn mend(
        &mut self,
        stage: &StageDraft,
        draft: &Draft,
        shared: &mut Shared,
        with: &Value,
        context: &Context,
        wrong: &[Wrong],
    ) {
        shared.mended += 1;
        if shared.mended > MENDED {
            return;
        }
        let look = Look {
            stage,
            kind: *shared.kind,
            context,
            marked: fill_marked(&stage.with, &draft.variables),
            arrivals: self.arrivals(stage, draft),
            inputs: self.connected(draft, shared),
            task: task_name(&stage.name, &draft.variables),
        };
        self.go_on(&look, with, wrong);
    }

    pub(super) fn refuse(&mut self, stage: &StageDraft, draft: &Draft, wrong: &[ParameterError]) {
        let marked = fill_marked(&stage.with, &draft.variables);
        for error in wrong {
            self.sink.push(parameters::from_kind(error, stage, &marked));
        }
    }

    pub(super) fn context(&self, draft: &Draft) -> Context {
        let own = || draft.variables.iter().filter(|one| draft.own.contains(&one.name));
        Context {
            root: Arc::clone(&self.root),
            models: Arc::clone(&self.models),
            vars: Arc::clone(&self.vars),
            matrix: own()
                .map(|one| MatrixValue {
                    name: Arc::clone(&one.name),
                    text: Arc::clone(&one.text),
                    value: one.binding.json.clone(),
                })
                .collect(),
        }
    }

    /// Inherited constants, matrix variables and the implementation's own; a later one of the same name wins.
    pub(super) fn task_constants(
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
        // A stage that adds none has those of what it needs.
        let before = draft.inputs.iter().flatten().next();
        let before = before.map(|(task, _)| &self.tasks[task.index()].constants);
        match before {
            Some(before) if before.len() == all.len() && before.iter().zip(&all).all(|(a, b)| Arc::ptr_eq(a, b)) => {
                Arc::clone(before)
            }
            _ => all.into(),
        }
    }
}
