//! A matrix variable or a label with the name of a stored column: readers would see the stored column, and the variable's
//! values would be lost without a word.

use std::sync::Arc;

use fracture_stage::{Outputs, Schema, Shape};

use super::{Builder, first_need};
use crate::diagnostic::Diagnostic;
use crate::expand::Draft;
use crate::pipeline::ConstantColumn;
use crate::share::Prototype;
use crate::source::Mark;
use crate::stages::StageDraft;
use crate::tree::Node;

/// Where a constant is written.
enum Owner {
    /// A matrix variable.
    Variable(Mark),
    /// A label of a model.
    Label(Mark, String),
}

impl Builder<'_> {
    /// Reports the constants of a task that a stored column would hide: `own` is what its stage adds.
    pub(super) fn check_clashes(
        &mut self,
        stage: &StageDraft,
        prototype: &Prototype,
        draft: &Draft,
        constants: &[Arc<ConstantColumn>],
        own: &Outputs<Schema>,
    ) {
        let sources = || draft.inputs.iter().flatten();
        let inherited = |name: &str| {
            let mut arriving = sources().flat_map(|(task, _)| self.tasks[task.index()].constants.iter());
            arriving.any(|one| one.name == name)
        };
        let mut found = Vec::new();
        for constant in constants {
            let name = constant.name.as_str();
            // `tau: ${matrix.tau}` gives the column the values of the variable.
            if prototype.with.get(name) == Some(&constant.value) {
                continue;
            }
            let inherits = inherited(name);
            let before = (!inherits).then(|| self.stored_before(stage, draft, name)).flatten();
            let added = own.iter().any(|(_, table)| table.field(name).is_some());
            // What groups its rows by a variable of what it reads gives the column on purpose.
            let added = added && (!inherits || prototype_maps(stage) && !self.arrives_stored(draft, name));
            if before.is_none() && !added {
                continue;
            }
            let Some(owner) = self.owner(stage, prototype, name, inherits) else {
                continue;
            };
            found.push(clash(stage, name, owner, before));
        }
        found.into_iter().for_each(|one| self.sink.push(one));
    }

    /// The stage that gives a map stage a stored column of that name, and where it is named.
    fn stored_before(&self, stage: &StageDraft, draft: &Draft, name: &str) -> Option<(String, Mark)> {
        let kind = stage.declaration.filter(|kind| kind.shape == Shape::Map)?;
        let first = first_need(&kind, stage)?;
        draft.inputs[first].iter().find_map(|(task, place)| {
            let source = &stage.needs[first].sources[*place as usize];
            let table = self.stored(task.index(), source.output.as_deref())?;
            table.field(name)?;
            Some((self.stages[source.stage].name.clone(), source.mark.clone()))
        })
    }

    fn arrives_stored(&self, draft: &Draft, name: &str) -> bool {
        let mut tasks = draft.inputs.iter().flatten().map(|(task, _)| task.index());
        tasks.any(|task| self.stored(task, None).is_some_and(|table| table.field(name).is_some()))
    }

    fn stored(&self, task: usize, output: Option<&str>) -> Option<&Schema> {
        self.layouts.get(self.layout_of[task]).schema.get(output)
    }

    /// Where a constant is written: a matrix variable of the stage or of one before it, or a label of a model it names.
    fn owner(&self, stage: &StageDraft, prototype: &Prototype, name: &str, inherits: bool) -> Option<Owner> {
        let variable = |stage: &StageDraft| {
            let mut variables = stage.matrix.iter().flat_map(|matrix| &matrix.variables);
            let found = variables.find(|variable| &*variable.name == name)?;
            Some(Owner::Variable(found.mark.clone()))
        };
        let label = |model: &str| {
            let labels = self.written_models?.get(model)?.get("labels")?;
            let entry = Node::entries(labels).iter().find(|entry| entry.key == name)?;
            Some(Owner::Label(entry.mark.clone(), model.to_owned()))
        };
        if let Some(own) = variable(stage) {
            return Some(own);
        }
        let values = prototype.with.as_object().into_iter().flat_map(|with| with.values());
        let mut named = values.filter_map(|value| value.as_str());
        let own = named.find_map(label);
        if own.is_some() || !inherits {
            return own;
        }
        let mut models = self.models.keys();
        (self.stages.iter().find_map(variable)).or_else(|| models.find_map(|model| label(model)))
    }
}

fn prototype_maps(stage: &StageDraft) -> bool {
    stage.declaration.is_some_and(|kind| kind.shape == Shape::Map)
}

fn clash(stage: &StageDraft, name: &str, owner: Owner, before: Option<(String, Mark)>) -> Diagnostic {
    let (what, mark, rename) = match owner {
        Owner::Variable(mark) => (format!("the matrix variable `{name}`"), mark, "the variable"),
        Owner::Label(mark, model) => (format!("the label `{name}` of the model `{model}`"), mark, "the label"),
    };
    let (whose, other, text) = match before {
        Some((giver, mark)) => (format!("of `{giver}`"), mark, format!("`{name}` is stored here")),
        None => (
            "that it stores".to_owned(),
            stage.mark.clone(),
            format!("this stage stores a column `{name}`"),
        ),
    };
    let name_of = stage.name.strip_prefix("figures.").unwrap_or(&stage.name);
    let wrong = Diagnostic::error(format!(
        "stage `{name_of}`: {what} has the name of a column {whose}, which would hide it"
    ));
    let hint = format!("give {rename} another name; the columns of a file are renamed by `columns` of `load`");
    wrong
        .at(&mark, "its values would be lost")
        .also(&other, text)
        .hint(hint)
}
