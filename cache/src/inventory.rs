//! What lies in a store, file by file, and the removal of what nobody holds.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::digest::{Bytes, Digest, Lineage};
use crate::error::{READ, Result, StoreError};
use crate::gc::{Object, Segment};
use crate::store::Store;

/// A file that is no object: something half-written, set aside or left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// A file in a folder: its path, size in bytes and the time of its last change.
type Found = (PathBuf, u64, SystemTime);

/// The plain files of a folder, sorted by path; one that is gone meanwhile is left out.
fn files(folder: &Path) -> Result<Vec<Found>> {
    let failed = |source| StoreError::io(READ, folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Ok(meta) = entry.metadata()
            && meta.is_file()
        {
            found.push((entry.path(), meta.len(), meta.modified().map_err(failed)?));
        }
    }
    found.sort();
    Ok(found)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| StoreError::io(READ, folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// All objects, sorted by digest. Files whose names are none of an object's are left out.
///
/// # Errors
/// When a folder can not be read.
pub fn objects(store: &Store) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    for folder in folders(&store.root().join("objects"))? {
        let prefix = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (path, size, written) in files(&folder)? {
            let rest = path.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(digest) = format!("{prefix}{rest}").parse::<Digest<Bytes>>() {
                objects.push(Object { digest, size, written });
            }
        }
    }
    objects.sort_by_key(|object| *object.digest.as_bytes());
    Ok(objects)
}

/// The segments of the row memo, sorted by path; a segment's size counts its index.
///
/// # Errors
/// When a folder can not be read.
pub fn segments(store: &Store) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for lineage in folders(&store.root().join("memo"))? {
        for (path, size, written) in files(&lineage)? {
            if path.extension().is_some_and(|ending| ending == "rows") {
                let index = fs::metadata(path.with_extension("index")).map_or(0, |meta| meta.len());
                segments.push(Segment {
                    path,
                    size: size + index,
                    written,
                });
            }
        }
    }
    Ok(segments)
}

/// The lineages that the row memo holds rows of, sorted by name.
///
/// # Errors
/// When the folder can not be read.
pub fn lineages(store: &Store) -> Result<Vec<Digest<Lineage>>> {
    let named = |path: PathBuf| path.file_name()?.to_str()?.parse().ok();
    Ok(folders(&store.root().join("memo"))?
        .into_iter()
        .filter_map(named)
        .collect())
}

/// What was left behind and is older than `age`: files half-written, claims of the dead, damaged objects set aside.
///
/// # Errors
/// When a folder can not be read.
pub fn leftovers(store: &Store, now: SystemTime, age: Duration) -> Result<Vec<Leftover>> {
    let mut left = Vec::new();
    for folder in ["staging", "claims", "quarantine"] {
        for (path, size, written) in files(&store.root().join(folder))? {
            if now.duration_since(written).is_ok_and(|since| since >= age) {
                left.push(Leftover { path, size });
            }
        }
    }
    Ok(left)
}

/// The bytes of all files in a folder of the store, subfolders included.
///
/// # Errors
/// When a folder can not be read.
pub fn folder_bytes(store: &Store, name: &str) -> Result<u64> {
    let mut bytes = 0;
    let mut open = vec![store.root().join(name)];
    while let Some(folder) = open.pop() {
        bytes += files(&folder)?.iter().map(|(_, size, _)| size).sum::<u64>();
        open.extend(folders(&folder)?);
    }
    Ok(bytes)
}

/// Reads all of some objects, in parallel, and compares each with its digest and, where it is known, with its size; gives
/// the errors, in the order of the objects. Damaged ones are set aside. `progress` is told the bytes of each object read.
pub fn verify(
    store: &Store,
    objects: &[Object],
    sizes: &HashMap<Digest<Bytes>, u64>,
    progress: &(dyn Fn(u64) + Sync),
) -> Vec<(Digest<Bytes>, StoreError)> {
    let examine = |object: &Object| {
        let size = sizes.get(&object.digest).copied().unwrap_or(object.size);
        let found = store.verify_blob(&object.digest, size);
        progress(object.size);
        found.err().map(|error| (object.digest, error))
    };
    // Large objects are hashed on several threads each; this is for the many small ones.
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(object) = objects.get(number) else {
                return found;
            };
            found.extend(examine(object).map(|(digest, error)| (number, digest, error)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut found: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // A worker that panicked is a defect; its panic goes on here.
        let results = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.flatten().collect()
    });
    found.sort_by_key(|(number, ..)| *number);
    found.into_iter().map(|(_, digest, error)| (digest, error)).collect()
}

/// Removes an object. One that is gone already is no error.
///
/// # Errors
/// When it can not be removed.
pub fn remove_object(store: &Store, digest: &Digest<Bytes>) -> Result<()> {
    remove_file(store, &store.blob_path(digest))
}

/// Removes a segment of the row memo with its index.
///
/// # Errors
/// When it can not be removed.
pub fn remove_segment(store: &Store, segment: &Segment) -> Result<()> {
    // The index goes first: a segment without one is read by itself.
    remove_file(store, &segment.path.with_extension("index"))?;
    remove_file(store, &segment.path)
}

/// Removes a file of the store. One that is gone already is no error.
///
/// # Errors
/// When it can not be removed, or lies outside the store.
pub fn remove_file(store: &Store, path: &Path) -> Result<()> {
    store.writable("remove what nobody holds from")?;
    if !path.starts_with(store.root()) {
        let outside = io::Error::other("it lies outside the store");
        return Err(StoreError::io("remove", path, outside));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| StoreError::io("remove", path, source)),
    }
}
