//! Results that a person wants to keep whatever no lock file and no run holds: pins, one file each in the store's folder
//! `pins`.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::PathBuf;

use fracture_cache::digest::Action;
use fracture_cache::{Digest, Store};
use fracture_stage::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use super::lock::replace;

/// A pinned result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin {
    /// The task that it was a result of.
    pub task: String,
    /// The pipeline's file.
    pub pipeline: PathBuf,
    /// What gave it.
    pub action: Digest<Action>,
}

fn folder(store: &Store) -> PathBuf {
    store.root().join("pins")
}

impl Pin {
    fn file(&self, store: &Store) -> PathBuf {
        folder(store).join(format!("{}.json", self.action.hex()))
    }

    /// Pins the result; one that is pinned stays so.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn write(&self, store: &Store) -> Result<(), Error> {
        let path = self.file(store);
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Store, format!("can not pin the result of `{}`", self.task))
                .cause(error)
                .hint("make the store writable and pin it again; `fracture gc` does not know of it now")
        };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        fs::create_dir_all(folder(store)).map_err(failed)?;
        replace(&path, &text).map_err(failed)
    }

    /// Lets it go; `false` when it was gone already.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn remove(&self, store: &Store) -> Result<bool, Error> {
        let path = self.file(store);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == IoKind::NotFound => Ok(false),
            Err(error) => {
                Err(Error::new(ErrorKind::Store, format!("can not remove `{}`", path.display())).cause(error))
            }
        }
    }
}

/// All pins, sorted by task.
///
/// # Errors
/// When one can not be read: what it holds is not known then, and nothing may be removed.
pub fn pins(store: &Store) -> Result<Vec<Pin>, Error> {
    let folder = folder(store);
    let unreadable = |path: &PathBuf, cause: String| {
        Error::new(ErrorKind::Store, format!("can not read the pin `{}`", path.display()))
            .cause(cause)
            .hint("what it holds is not known; if it is damaged, remove it and pin the result again")
    };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| unreadable(&folder, error.to_string()))?,
    };
    let mut found: Vec<Pin> = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, error.to_string()))?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| unreadable(&path, error.to_string()))?;
        found.push(serde_json::from_slice(&bytes).map_err(|error| unreadable(&path, error.to_string()))?);
    }
    found.sort();
    Ok(found)
}
