//! Where parameters were written: the error of a stage about a parameter is shown at its value.

use std::sync::Arc;

use fracture_stage::{Error, PathPart};
use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::source::Mark;
use crate::tree::Node;

/// Where the parameters of a pipeline's stages and its models were written.
#[derive(Debug, Default)]
pub struct Places {
    /// By stage: its name, its key in the file, its parameters; templates are not filled.
    stages: Vec<(String, Mark, Arc<Node>)>,
    models: Option<Arc<Node>>,
}

impl Places {
    /// The places of stages and of the map under `models:`.
    pub fn new(stages: Vec<(String, Mark, Arc<Node>)>, models: Option<Arc<Node>>) -> Self {
        Self { stages, models }
    }

    /// The error of a stage, an index, whose parameters after substitution are `values`.
    pub fn diagnose(&self, stage: usize, values: &Value, error: Error) -> Diagnostic {
        let Some((name, mark, with)) = self.stages.get(stage) else {
            return Diagnostic::from_stage(error);
        };
        let of = Written {
            stage: name,
            mark,
            with,
            models: self.models.as_deref(),
        };
        of.diagnose(values, error)
    }
}

/// A stage as it was written.
pub struct Written<'a> {
    /// Its name.
    pub stage: &'a str,
    /// Its key in the file.
    pub mark: &'a Mark,
    /// Its parameters.
    pub with: &'a Node,
    /// The map under `models:`.
    pub models: Option<&'a Node>,
}

impl Written<'_> {
    /// The error of the stage at the value that it is about, else at the stage's name. A model is shown where its source is
    /// said, and where it is used.
    pub fn diagnose(&self, values: &Value, error: Error) -> Diagnostic {
        let subject = match self.stage.strip_prefix("figures.") {
            Some(name) => format!("figure `{name}`"),
            None => format!("stage `{}`", self.stage),
        };
        let path = error.parameter.clone();
        let message = format!("{subject}: {}", error.message);
        let told = Diagnostic {
            message,
            ..Diagnostic::from_stage(error)
        };
        let (_, used, rest) = self.with.place(&path, false);
        // A parameter that is nowhere written (its default is wrong) has no place of its own.
        if path.is_empty() || rest.len() == path.len() {
            return told.at(self.mark, "");
        }
        let source = value(values, &path)
            .and_then(Value::as_str)
            .and_then(|name| self.models?.get(name)?.get("source"));
        match source {
            Some(source) => told
                .at(&source.mark, "this source")
                .also(&used, format!("used by {subject}")),
            None => told.at(&used, ""),
        }
    }
}

/// What a path of parameters leads to.
fn value<'a>(values: &'a Value, path: &[PathPart]) -> Option<&'a Value> {
    path.iter().try_fold(values, |value, part| match part {
        PathPart::Key(key) => value.get(key),
        PathPart::Index(index) => value.get(index),
    })
}
