//! The runs of a store as they were recorded.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fracture_cache::Store;
use fracture_stage::{Error, ErrorKind};

use super::{RunRecord, TaskRun};

/// Where a list of tasks lies below the folder of runs.
pub(super) fn list_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("lists").join(format!("{name}.json"))
}

/// A run with the time at which its record was written.
pub type DatedRun = (RunRecord, SystemTime);

/// The runs of a store, the latest first, each with the time at which its record was written; and the files that are no
/// whole record.
///
/// # Errors
/// When the folder can not be read.
pub fn runs(store: &Store) -> Result<(Vec<DatedRun>, Vec<PathBuf>), Error> {
    let folder = store.root().join("runs");
    let unreadable = |error| Error::new(ErrorKind::Store, format!("can not read `{}`", folder.display())).cause(error);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        other => other.map_err(unreadable)?,
    };
    let mut lists: HashMap<String, Vec<TaskRun>> = HashMap::new();
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let written = fs::metadata(&path)
            .and_then(|meta| meta.modified())
            .map_err(unreadable)?;
        let record = read::<RunRecord>(&path).and_then(|mut record| {
            let Some(name) = record.list.take() else {
                return Some(record);
            };
            if !lists.contains_key(&name) {
                lists.insert(name.clone(), read(&list_path(&folder, &name))?);
            }
            record.tasks.clone_from(&lists[&name]);
            Some(record)
        });
        match record {
            Some(record) => found.push((record, written)),
            None => damaged.push(path),
        }
    }
    found.sort_by(|(one, _), (other, _)| other.id.cmp(&one.id));
    damaged.sort();
    Ok((found, damaged))
}

fn read<T: for<'de> serde::Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Removes the lists of tasks that no run of a store has any more. What can not be read is left alone.
pub fn sweep_lists(store: &Store) {
    let folder = store.root().join("runs");
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .collect()
    };
    let mut used = HashSet::new();
    for path in names(&folder) {
        match read::<RunRecord>(&path) {
            Some(record) => used.extend(record.list),
            None => return,
        }
    }
    for path in names(&folder.join("lists")) {
        let name = path.file_stem().and_then(|name| name.to_str());
        if name.is_some_and(|name| !used.contains(name)) {
            drop(fs::remove_file(path));
        }
    }
}
