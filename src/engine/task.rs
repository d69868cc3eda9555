//! A task as data: all that another process needs to run it, given the same store and files.

use std::path::PathBuf;

use fracture_language::Task;
use fracture_stage::{Context, Declaration, Error, Shape, Stage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::views::OutputSpec;

/// A task from which it can be built and run anywhere: the kind, its parameters after substitution, what it may look up,
/// and its inputs by content. Paths in it are hints for finding files; none of them is part of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskManifest {
    /// The task's name, for people.
    pub name: String,
    /// The kind in `uses:`.
    pub kind: String,
    /// `with:` after substitution.
    pub with: Value,
    /// Models, vars, matrix values and the project's root.
    pub context: Context,
    /// Port name and what arrives there.
    pub inputs: Vec<(String, Vec<OutputSpec>)>,
}

impl TaskManifest {
    /// The manifest of a task whose inputs are known.
    pub fn new(task: &Task, inputs: Vec<(String, Vec<OutputSpec>)>) -> Self {
        Self {
            name: task.name.to_string(),
            kind: task.declaration.name.to_owned(),
            with: task.with.as_ref().clone(),
            context: task.context.as_ref().clone(),
            inputs,
        }
    }

    /// Builds the task's stage again from the manifest alone.
    ///
    /// # Errors
    /// When the kind is unknown to this version or its parameters no longer fit.
    pub fn build(&self, catalogue: &[Declaration]) -> Result<(Declaration, Box<dyn Stage>), Error> {
        let declaration = catalogue
            .iter()
            .find(|declaration| declaration.name == self.kind)
            .ok_or_else(|| {
                Error::pipeline(format!(
                    "the task `{}` is of kind `{}`, which is unknown here",
                    self.name, self.kind
                ))
                .hint("run it with the version of fracture that wrote it")
            })?;
        let declaration = Declaration {
            shape: declaration.shape.chosen(self.with.get("shape").and_then(Value::as_str)),
            ..*declaration
        };
        let stage = (declaration.build)(&self.with, &self.context).map_err(|errors| {
            let told = errors.into_iter().map(|error| error.message);
            let error = Error::pipeline(format!("the parameters of the task `{}` do not fit", self.name));
            told.fold(error, Error::cause)
        })?;
        Ok((declaration, stage))
    }

    /// Where the project lies on this machine.
    pub fn root(&self) -> &PathBuf {
        &self.context.root
    }

    /// Whether its table adds columns to the table of its first port.
    pub fn extends(declaration: &Declaration) -> bool {
        declaration.shape == Shape::Map
    }
}
