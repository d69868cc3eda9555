//! The error of every stage: a kind, a message, its causes and a hint.

use std::fmt;

use crate::declaration::PathPart;

/// What sort of thing went wrong. The command line turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The pipeline asks for something that makes no sense: exit code 2.
    Pipeline,
    /// A file that the pipeline names is missing, unreadable or damaged: exit code 2 when planning, 1 when running.
    Input,
    /// A task failed while it ran: exit code 1.
    Task,
    /// The store could not be read or written (a full disk, a read-only folder): exit code 1.
    Store,
    /// Something outside that is needed could not be had (ONNX Runtime, a server): exit code 1.
    Environment,
    /// The user interrupted the run: exit code 130.
    Interrupted,
    /// A defect of fracture itself: exit code 1.
    Internal,
}

impl ErrorKind {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Input => "input",
            Self::Task => "task",
            Self::Store => "store",
            Self::Environment => "environment",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }
}

/// An error for the person who reads it: what and where, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The sort of error.
    pub kind: ErrorKind,
    /// What went wrong and where, one sentence without a full stop.
    pub message: String,
    /// Why, from the nearest cause to the root.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The parameter it is about, from the stage's `with:` down; empty when it is about no parameter.
    pub parameter: Vec<PathPart>,
}

impl Error {
    /// An error with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            parameter: Vec::new(),
        }
    }

    /// An error about what the pipeline says.
    pub fn pipeline(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Pipeline, message)
    }

    /// An error about a file or a value that was read.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// An error of a running task.
    pub fn task(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Task, message)
    }

    /// A defect of fracture: something that can not happen did.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds a cause below those that are there.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says which parameter it is about, as a path of keys from the stage's `with:` down.
    #[must_use]
    pub fn parameter(mut self, path: &[&str]) -> Self {
        self.parameter = path.iter().map(|key| PathPart::Key((*key).to_owned())).collect();
        self
    }

    /// Puts `message` in front; what was the message becomes the first cause.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, inner);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
