//! What can go wrong in the store: what was done, where, why, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the store. `Display` says what and where, `source` why, [`StoreError::hint`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A system call failed.
    #[error("can not {doing} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The disk is full, or a quota or a limit on the size of files is reached.
    #[error("no room left to {doing} `{}`", path.display())]
    Full {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The folder may be read but not written.
    #[error("can not {doing} `{}`: it may only be read", path.display())]
    ReadOnly {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
    },
    /// An object is not what it was when it was written.
    #[error("{what} `{}` is damaged: {found}, expected {expected}", path.display())]
    Damaged {
        /// What the object is, for people.
        what: String,
        /// Where it lay.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// An object that a record names is not in the store.
    #[error("{what} is not in the store: `{}` is missing", path.display())]
    Missing {
        /// What the object is, for people.
        what: String,
        /// Where it should lie.
        path: PathBuf,
    },
    /// The store was written by another version of the program.
    #[error("the store `{}` has format `{found}`, and this program knows `{known}`", path.display())]
    Format {
        /// The root of the store.
        path: PathBuf,
        /// The format that its version file names.
        found: String,
        /// The format of this program.
        known: &'static str,
    },
    /// A table holds what no artifact can hold, or lacks a column that was asked for.
    #[error("column `{column}`: {problem}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Arrow refused to encode or decode a table.
    #[error("can not {doing} the table `{}`", path.display())]
    Arrow {
        /// What was tried, as a verb.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: arrow::error::ArrowError,
    },
}

/// A result of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    /// Classifies a failed system call.
    pub fn io(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { doing, path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { doing, path },
            io::ErrorKind::PermissionDenied if doing != READ => Self::ReadOnly { doing, path },
            _ => Self::Io { doing, path, source },
        }
    }

    /// Classifies a failure of arrow: a failed system call below it, or a refusal of its own.
    pub(crate) fn arrow(doing: &'static str, path: impl AsRef<Path>, source: arrow::error::ArrowError) -> Self {
        match source {
            arrow::error::ArrowError::IoError(_, source) => Self::io(doing, path, source),
            source => Self::Arrow {
                doing,
                path: path.as_ref().to_owned(),
                source,
            },
        }
    }

    /// Whether the object must be made again: it is damaged or missing.
    pub fn is_lost_object(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "look at the folder, its owner and its file system, then run again",
            Self::Full { .. } => {
                "free some space, or choose a store on another disk; what is finished is kept, run again to go on"
            }
            Self::ReadOnly { .. } => "make the folder writable, or choose another store",
            Self::Damaged { .. } => "it was set aside; run again and the task that made it is computed again",
            Self::Missing { .. } => "run again and the task that made it is computed again",
            Self::Format { .. } => "use the version of the program that wrote it, or choose another store",
            Self::Column { .. } => "look at the names and the types of the table's columns",
            Self::Arrow { .. } => "this is a defect of the program: please report it",
        }
    }
}

/// The verb of reading; a refusal to read is no read-only folder.
pub(crate) const READ: &str = "read";
