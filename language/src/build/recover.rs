//! Goes on with a stage some of whose parameters are known to be wrong, so that all that is wrong with it is told at once.
//!
//! The wrong parameters are mended in several ways (`repair.rs`), and the stage is built from each. What is wrong beside them
//! is told when it is wrong in whatever way they are mended; what may only follow from them is not. A column that is not there
//! counts only where a sound parameter names it, and of what a stage says of its files only that one is missing.

use std::sync::Arc;

use fracture_stage::{Context, Declaration, ErrorKind, Forgotten, ParameterError, PathPart, Stage};
use serde_json::Value;

use super::typing::paths;
use super::{Builder, first_need};
use crate::asked::Asked;
use crate::columns::{Arrival, Before, arriving, check_cases, check_needs, first};
use crate::diagnostic::{Diagnostic, Severity, Sink};
use crate::parameters::{self, check_parameters};
use crate::pipeline::Connection;
use crate::place::Written;
use crate::repair::{self, Place, Shape, Wrong, get, touch};
use crate::stages::StageDraft;
use crate::tree::Node;
use crate::values::{self, Known};

/// So often what is wrong is left out before the rest is given up.
const ROUNDS: usize = 6;

/// Of a pipeline's tasks with wrong parameters, the rest of so many is looked at.
const MENDED: usize = 400;

/// So many missing files of one stage are told.
const FILES: usize = 16;

/// A task whose parameters are wrong.
pub struct Look<'a> {
    /// Its stage.
    pub stage: &'a StageDraft,
    /// Its kind.
    pub kind: Declaration,
    /// What it is built with.
    pub context: &'a Context,
    /// Its parameters with their places.
    pub marked: Node,
    /// What arrives; nothing where that is not known.
    pub arrivals: Vec<Arrival>,
    /// All that arrives, for the values that parameters name.
    pub inputs: Arc<[Connection]>,
    /// Its name.
    pub task: String,
}

/// Parameters that are mended, and what they make.
struct Mended {
    with: Value,
    built: Box<dyn Stage>,
}

impl Builder<'_> {
    /// Checks the parameters of a stage whose tasks are not known: what it needs is wrong, or its matrix.
    pub(super) fn alone(&mut self, place: usize) {
        let stage = &self.stages[place];
        crate::templates::unknowable(place, self.stages, self.sink);
        let Some(kind) = stage.declaration else { return };
        let with = stage.with.to_json();
        let context = Context {
            root: self.root.clone(),
            models: self.models.clone(),
            vars: self.vars.clone(),
            ..Context::default()
        };
        let schema = self.parameter_schema(kind);
        let violations = check_parameters(&with, &schema, kind);
        let mut wrong: Vec<Wrong> = violations.iter().map(Wrong::violation).collect();
        wrong.extend(self.unknown(&with));
        let look = Look {
            stage,
            kind,
            context: &context,
            marked: stage.with.clone(),
            arrivals: Vec::new(),
            inputs: Arc::default(),
            task: stage.name.clone(),
        };
        self.go_on(&look, &with, &wrong);
    }

    /// The parameters whose values are not known: what a substitution could not give, and models that are wrong themselves.
    pub(super) fn unknown(&self, with: &Value) -> Vec<Wrong> {
        let mut places = repair::holes(with);
        let written = self.written_models.map(Node::entries).unwrap_or_default();
        for model in written.iter().filter(|model| !self.models.contains_key(&model.key)) {
            places.extend(repair::texts(with, &model.key));
        }
        places.iter().map(|place| Wrong::value(place)).collect()
    }

    /// Tells what is wrong with a task beside what is known.
    pub(super) fn go_on(&mut self, look: &Look<'_>, with: &Value, wrong: &[Wrong]) {
        self.mended += 1;
        if self.mended > MENDED {
            return;
        }
        let schema = self.parameter_schema(look.kind);
        let shape = Shape {
            schema: &schema,
            cases: look.kind.cases,
        };
        let fits =
            |with: &Value| check_parameters(with, &schema, look.kind).is_empty() && repair::holes(with).is_empty();
        let (mut made, mut apart) = match wrong {
            [] => (vec![(with.clone(), false)], Vec::new()),
            wrong => repair::mended(with, wrong, shape),
        };
        made.retain(|(with, _)| fits(with));
        let mut ready: Vec<Mended> = Vec::new();
        for _ in 0..ROUNDS {
            let mut refused: Vec<(Value, bool, Vec<ParameterError>)> = Vec::new();
            for (with, removed) in std::mem::take(&mut made) {
                match (look.kind.build)(&with, look.context) {
                    Ok(built) => ready.push(Mended { with, built }),
                    Err(errors) => refused.push((with, removed, errors)),
                }
            }
            let Some((.., first)) = refused.first() else { break };
            if !ready.is_empty() {
                // What stands for a wrong value may be refused, and that nothing does; when something else is, it is not known
                // what is right.
                let touches = |one: &ParameterError| apart.iter().any(|place| touch(place, &one.path));
                let inside = |one: &ParameterError| !one.path.is_empty() && touches(one);
                if (refused.iter()).all(|(_, removed, errors)| match removed {
                    true => errors.iter().all(touches),
                    false => errors.iter().any(inside),
                }) {
                    break;
                }
                return;
            }
            for error in first
                .iter()
                .filter(|one| refused.iter().all(|(.., all)| all.contains(one)))
            {
                if apart.iter().any(|place| touch(place, &error.path)) {
                    continue;
                }
                self.sink.push(parameters::from_kind(error, look.stage, &look.marked));
            }
            for (with, removed, errors) in refused {
                let mut places: Vec<Place> = errors.into_iter().map(|error| error.path).collect();
                let rest = left_out(&with, &mut places, &mut apart).filter(fits);
                made.extend(rest.map(|rest| (rest, removed)));
            }
            made.dedup();
        }
        if ready.is_empty() {
            return;
        }
        self.common(look, &ready, &apart);
        self.files_of(look, ready, apart, &fits);
    }

    /// Tells of columns and values that are not there, whatever stands for what is wrong.
    fn common(&mut self, look: &Look<'_>, ready: &[Mended], apart: &[Place]) {
        let marked = || look.marked.clone();
        let before = Before {
            stages: self.stages,
            tasks: &self.tasks,
        };
        let found = ready.iter().map(|Mended { with, built }| {
            let mut sink = Sink::default();
            let asked = Asked {
                kind: look.kind,
                with,
                context: look.context,
                marked: &marked,
                wrong: Some(apart),
            };
            for port in built.ports() {
                check_needs(look.stage, &port, &look.arrivals, before, &asked, &mut sink);
            }
            let of_cases = |place: &Place| place.len() < 3 && touch(place, &[PathPart::Key("cases".to_owned())]);
            if look.kind.cases && !apart.iter().any(of_cases) {
                check_cases(look.stage, first(look.kind, &look.arrivals), &mut sink);
            }
            let (stage, kind) = (look.stage, look.kind);
            let port = first_need(&kind, stage).map(|need| stage.needs[need].port.as_str());
            let mut wanted = values::wanted(&sound(with, apart), &kind, built.as_ref(), port);
            wanted.retain(|one| !one.places().any(|path| apart.iter().any(|other| touch(path, other))));
            let known = Known {
                tasks: &self.tasks,
                memo: &self.values,
            };
            values::check(stage, &wanted, &look.inputs, &known, &marked, &mut sink);
            sink.said()
        });
        let all: Vec<Vec<Diagnostic>> = found.collect();
        let place = |one: &Diagnostic| {
            one.primary
                .as_ref()
                .map(|label| (label.mark.source.name.clone(), label.mark.start))
        };
        let same = |one: &Diagnostic, other: &Diagnostic| one.message == other.message && place(one) == place(other);
        let Some((first, others)) = all.split_first() else {
            return;
        };
        for one in first.iter().filter(|one| one.severity == Severity::Error) {
            if others.iter().all(|all| all.iter().any(|other| same(one, other))) {
                self.sink.push(one.clone());
            }
        }
    }

    /// Tells of files that are not there, one after the other.
    fn files_of(
        &mut self,
        look: &Look<'_>,
        mut ready: Vec<Mended>,
        mut apart: Vec<Place>,
        fits: &dyn Fn(&Value) -> bool,
    ) {
        let inputs = arriving(&look.arrivals);
        for _ in 0..FILES {
            let mut missing: Option<fracture_stage::Error> = None;
            for Mended { with, built } in &ready {
                let Some(error) = built
                    .schema(&inputs, self.files)
                    .err()
                    .filter(|one| self.is_missing(look, with, one))
                else {
                    return;
                };
                let forgotten = Forgotten {
                    task: &look.task,
                    kind: look.kind.name,
                    asked: &paths(&error, built.as_ref(), &inputs, self.files),
                    with,
                    context: look.context,
                };
                let same = missing
                    .as_ref()
                    .is_none_or(|first| (&first.message, &first.parameter) == (&error.message, &error.parameter));
                if !same || self.files.remembered(&forgotten).is_some() {
                    return;
                }
                missing = Some(error);
            }
            let Some(error) = missing else { return };
            let place = error.parameter.clone();
            if !apart.iter().any(|other| touch(other, &place)) {
                let written = Written {
                    stage: &look.stage.name,
                    mark: &look.stage.mark,
                    with: &look.marked,
                    models: self.written_models,
                };
                let told = ready.first().map(|first| written.diagnose(&first.with, error));
                told.into_iter().for_each(|told| self.sink.push(told));
            }
            ready = ready
                .into_iter()
                .filter_map(|one| built_without(look, &one.with, &place, &mut apart, fits))
                .collect();
        }
    }

    /// Whether an error says that a file is not there that a parameter names.
    fn is_missing(&self, look: &Look<'_>, with: &Value, error: &fracture_stage::Error) -> bool {
        let Some(text) = get(with, &error.parameter).and_then(Value::as_str) else {
            return false;
        };
        let path = look.context.models.get(text).map_or(text, |model| &model.source);
        if path.contains("://") {
            return false;
        }
        let path = self.files.locate(path);
        error.kind == ErrorKind::Input
            && !error.parameter.is_empty()
            && self.files.size(&path).is_none()
            && self.files.list(&path).is_none()
    }
}

/// The parameters without what is at some places, each of which is apart from then on; `None` when nothing can be left out.
fn left_out(with: &Value, places: &mut Vec<Place>, apart: &mut Vec<Place>) -> Option<Value> {
    // Items of a list from the last to the first, so that none moves before it is left out.
    places.sort_by_key(|place| std::cmp::Reverse(place.iter().map(number).collect::<Vec<_>>()));
    places.dedup();
    let mut rest = with.clone();
    let mut any = false;
    for place in places.iter().filter(|place| !place.is_empty()) {
        if let Some((made, gone)) = repair::without(&rest, place) {
            rest = made;
            apart.push(gone);
            any = true;
        }
    }
    any.then_some(rest)
}

fn number(part: &PathPart) -> (usize, String) {
    match part {
        PathPart::Index(index) => (*index, String::new()),
        PathPart::Key(key) => (0, key.clone()),
    }
}

/// The stage without what is at a place; without more where it can not be built so.
fn built_without(
    look: &Look<'_>,
    with: &Value,
    place: &[PathPart],
    apart: &mut Vec<Place>,
    fits: &dyn Fn(&Value) -> bool,
) -> Option<Mended> {
    let mut places = vec![place.to_vec()];
    let mut rest = with.clone();
    for _ in 0..ROUNDS {
        rest = left_out(&rest, &mut places, apart).filter(fits)?;
        match (look.kind.build)(&rest, look.context) {
            Ok(built) => return Some(Mended { with: rest, built }),
            Err(errors) => places = errors.into_iter().map(|error| error.path).collect(),
        }
    }
    None
}

/// The parameters without those that are apart: no value is looked up that stands for another.
fn sound(with: &Value, apart: &[Place]) -> Value {
    let mut rest = with.clone();
    for place in apart.iter().filter(|place| !place.is_empty()) {
        if get(&rest, place).is_some()
            && let Some((made, _)) = repair::without(&rest, place)
        {
            rest = made;
        }
    }
    rest
}
