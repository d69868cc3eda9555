//! The lock files that hold results of a store. Each run registers its lock file in the store's folder `projects`, with the
//! actions that it names: a project that can not be reached later (an unmounted disk, another machine) holds these.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use fracture_cache::digest::{Action, Bytes};
use fracture_cache::{Digest, Store};
use fracture_stage::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use super::lock::{Lock, replace};

/// A lock file and what it named when it was read last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The lock file, absolute.
    pub lock: PathBuf,
    /// The actions of its tasks, by task.
    pub actions: BTreeMap<String, Vec<Digest<Action>>>,
}

/// What a registration holds now.
#[derive(Debug)]
pub struct Reached {
    /// The registration, with the actions of the lock file as it is now if that can be read.
    pub registration: Registration,
    /// Why the lock file could not be read, if it could not.
    pub problem: Option<Error>,
}

fn folder(store: &Store) -> PathBuf {
    store.root().join("projects")
}

fn file(store: &Store, lock: &Path) -> PathBuf {
    let name = Digest::<Bytes>::of(lock.as_os_str().as_encoded_bytes()).hex();
    folder(store).join(format!("{}.json", &name[..32]))
}

impl Registration {
    /// A lock file with its actions.
    pub fn new(path: &Path, lock: &Lock) -> Self {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let keys = |(name, lines): (&String, &Vec<super::lock::TaskLine>)| {
            (name.clone(), lines.iter().map(|line| line.key).collect())
        };
        Self {
            lock: path,
            actions: lock.tasks.iter().map(keys).collect(),
        }
    }

    /// Writes it into the store, if it says something new there.
    ///
    /// # Errors
    /// When the store can not be written.
    pub fn write(&self, store: &Store) -> Result<(), Error> {
        let path = file(store, &self.lock);
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Store,
                format!("can not register the lock file `{}` in the store", self.lock.display()),
            )
            .cause(error)
            .hint("`fracture gc` would not know that it holds results; make the store writable and run again")
        };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        if fs::read(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        replace(&path, &text).map_err(failed)
    }
}

/// Registers the lock file at a path, if there is one.
///
/// # Errors
/// When it can not be read, or the store not be written.
pub fn register(store: &Store, path: &Path) -> Result<(), Error> {
    if store.is_read_only() || !path.is_file() {
        return Ok(());
    }
    Registration::new(path, &Lock::read(path)?).write(store)
}

/// Registers a lock file that a run left as it was. One that was registered since it was written last is registered.
///
/// # Errors
/// As [`register`].
pub fn register_unchanged(store: &Store, path: &Path) -> Result<(), Error> {
    let lock = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let written = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    match (written(&file(store, &lock)), written(&lock)) {
        (Some(registered), Some(locked)) if registered >= locked => Ok(()),
        _ => register(store, path),
    }
}

/// Forgets a lock file; `false` when none of that path is registered.
///
/// # Errors
/// When the store can not be written.
pub fn forget(store: &Store, lock: &Path) -> Result<bool, Error> {
    let lock = std::path::absolute(lock).unwrap_or_else(|_| lock.to_owned());
    let path = file(store, &lock);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == IoKind::NotFound => Ok(false),
        Err(error) => Err(Error::new(ErrorKind::Store, format!("can not remove `{}`", path.display())).cause(error)),
    }
}

/// All registered lock files with what they hold now, sorted by path.
///
/// # Errors
/// When a registration can not be read: what it holds is not known then, and nothing may be removed.
pub fn reach(store: &Store) -> Result<Vec<Reached>, Error> {
    let folder = folder(store);
    let unreadable = |path: &Path, cause: String| {
        Error::new(
            ErrorKind::Store,
            format!("can not read the registration of a lock file `{}`", path.display()),
        )
        .cause(cause)
        .hint("what it holds is not known; if it is damaged, remove it and run its pipeline again")
    };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| unreadable(&folder, error.to_string()))?,
    };
    let mut reached = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, error.to_string()))?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| unreadable(&path, error.to_string()))?;
        let registration: Registration =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(&path, error.to_string()))?;
        reached.push(now(registration));
    }
    reached.sort_by(|one, other| one.registration.lock.cmp(&other.registration.lock));
    Ok(reached)
}

/// The registration as its lock file says now; as it was known last when that can not be read.
fn now(registration: Registration) -> Reached {
    let path = &registration.lock;
    let lock = match fs::metadata(path) {
        // An absent lock file is an empty one to a run; here it may be on a disk that is not mounted.
        Err(error) => Err(Error::input(format!("can not read the lock file `{}`", path.display())).cause(error)),
        Ok(_) => Lock::read(path),
    };
    match lock {
        Ok(lock) => {
            let actions = Registration::new(path, &lock).actions;
            Reached {
                registration: Registration {
                    actions,
                    ..registration
                },
                problem: None,
            }
        }
        Err(problem) => Reached {
            registration,
            problem: Some(problem),
        },
    }
}
