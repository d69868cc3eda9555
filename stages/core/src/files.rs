//! What a stage may read while it is planned, and the files that its result depends on.

use std::path::{Path, PathBuf};

use crate::error::Error;

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
}
