//! What a stage may read while it is planned, and the files that its result depends on.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::declaration::Context;
use crate::error::Error;
use crate::schema::{Outputs, Schema};
use crate::source::ModelFiles;

/// A file that a stage's result depends on, or one that it looked for and did not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUse {
    /// What the file is to the stage: `config.json`, `tokenizer`, `weights/model-00001-of-00002.safetensors`. Never a path
    /// of the machine: it goes into the key.
    pub role: String,
    /// Where it is; `None` for a candidate that was looked for and is absent.
    pub path: Option<PathBuf>,
}

impl FileUse {
    /// A file that is there.
    pub fn present(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            role: role.into(),
            path: Some(path.into()),
        }
    }

    /// A file that was looked for and is not there. If it appears, the key changes.
    pub fn absent(role: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            path: None,
        }
    }
}

/// The file system as the planner shows it to stages: paths are relative to the project's root.
pub trait Files: Sync {
    /// Where a path of the pipeline lies on this machine.
    fn locate(&self, path: &str) -> PathBuf;

    /// Where the files of a model lie on this machine: its folder (or file) in the project, or the folder into which they
    /// were fetched from a hub. While they were not all fetched there is nothing at the path.
    fn model(&self, model: &ModelFiles) -> PathBuf {
        self.locate(&model.source)
    }

    /// Reads at most `limit` bytes from the beginning of a file.
    ///
    /// # Errors
    /// When the file can not be read; the error names the path as the pipeline wrote it.
    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error>;

    /// The size of a file, `None` when there is none.
    fn size(&self, path: &Path) -> Option<u64>;

    /// The names of a directory's entries, sorted; `None` when it is no directory.
    fn list(&self, path: &Path) -> Option<Vec<String>>;

    /// A folder of the store for what a stage remembers between runs and is no result (the scores of a judge's canaries);
    /// it may not be there yet. `None` where nothing is remembered.
    fn memory(&self) -> Option<PathBuf> {
        None
    }

    /// The columns of a task whose files can not be read because they are not there, from what was recorded when they were;
    /// `None` when nothing is remembered.
    fn remembered(&self, forgotten: &Forgotten<'_>) -> Option<Outputs<Schema>> {
        let _ = forgotten;
        None
    }
}

/// A task whose files are asked of a memory.
#[derive(Debug, Clone, Copy)]
pub struct Forgotten<'a> {
    /// Its name.
    pub task: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// The paths that it asked for, as the pipeline writes them.
    pub asked: &'a [String],
    /// `with:` after substitution.
    pub with: &'a Value,
    /// What it was built with.
    pub context: &'a Context,
}

/// A file system that notes every path of the pipeline that it is asked for.
pub struct Noting<'a> {
    inner: &'a dyn Files,
    asked: Mutex<Vec<String>>,
}

impl<'a> Noting<'a> {
    /// Notes what is asked of another one.
    pub fn new(inner: &'a dyn Files) -> Self {
        Self {
            inner,
            asked: Mutex::default(),
        }
    }

    /// The paths that were asked for, in order, each once.
    pub fn asked(self) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let mut asked = self.asked.into_inner().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|path| seen.insert(path.clone()));
        asked
    }
}

impl Files for Noting<'_> {
    fn locate(&self, path: &str) -> PathBuf {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.to_owned());
        self.inner.locate(path)
    }

    fn model(&self, model: &ModelFiles) -> PathBuf {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(model.source.clone());
        self.inner.model(model)
    }

    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        self.inner.head(path, limit)
    }

    fn size(&self, path: &Path) -> Option<u64> {
        self.inner.size(path)
    }

    fn list(&self, path: &Path) -> Option<Vec<String>> {
        self.inner.list(path)
    }

    fn memory(&self) -> Option<PathBuf> {
        self.inner.memory()
    }

    fn remembered(&self, forgotten: &Forgotten<'_>) -> Option<Outputs<Schema>> {
        self.inner.remembered(forgotten)
    }
}
