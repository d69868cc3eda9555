//! Joining the logs of the records into one, a new generation.
//!
//! The new log is written aside, synced and renamed into place: it says nothing that the old ones do not, so it may be
//! seen early. Then the file `manifest` is swapped by a rename: it names the old logs as retired up to the length to which
//! they were read. What a writer that is still at work appends to one after that counts as before. Retired logs are removed
//! once nobody can be writing to them. A reader whose logs are gone reads the new ones.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::digest::{Action, Digest};
use crate::error::{READ, Result, StoreError};
use crate::frame;
use crate::log::{Log, read_tail, unique_name};
use crate::record::{MAGIC, Records, SUFFIX};
use crate::record_index::{Heading, Index, Kind};
use crate::store::{Store, lock};

/// The first line of a manifest.
const HEADER: &str = "fracture-records 1";

/// A retired log goes when it was not written for so long, even while runs are at work.
const QUIET: Duration = Duration::from_secs(86_400);

/// So much is held before it is written.
const BUFFER_BYTES: usize = 4 << 20;

/// Which logs are superseded, and up to which length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Counts the joinings.
    pub(crate) generation: u64,
    pub(crate) retired: HashMap<String, u64>,
}

impl Manifest {
    /// What tells one manifest from another without reading it.
    pub(crate) fn stamp(folder: &Path) -> Option<(u64, SystemTime)> {
        let meta = fs::metadata(folder.join("manifest")).ok()?;
        Some((meta.ino(), meta.modified().ok()?))
    }

    /// Reads it; one that is absent or damaged retires nothing, and records that are there twice do no harm.
    pub(crate) fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join("manifest")).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Self::default();
        }
        let mut manifest = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("generation"), Some(number), None) => manifest.generation = number.parse().unwrap_or(0),
                (Some("retired"), Some(name), Some(length)) => {
                    if let Ok(length) = length.parse() {
                        manifest.retired.insert(name.to_owned(), length);
                    }
                }
                _ => {}
            }
        }
        manifest
    }

    fn write(&self, folder: &Path, store: &Store) -> Result<()> {
        let mut names: Vec<_> = self.retired.iter().collect();
        names.sort();
        let mut text = format!("{HEADER}\ngeneration {}\n", self.generation);
        for (name, length) in names {
            text.push_str(&format!("retired {name} {length}\n"));
        }
        let path = folder.join("manifest");
        let staged = store.root().join("staging").join(unique_name());
        let written = fs::write(&staged, text)
            .and_then(|()| File::open(&staged)?.sync_all())
            .and_then(|()| fs::rename(&staged, &path))
            .and_then(|()| File::open(folder)?.sync_all());
        written.map_err(|source| StoreError::io("write", &path, source))
    }
}

/// What a joining did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Logs that were joined.
    pub logs: usize,
    /// Their bytes.
    pub before: u64,
    /// Bytes of the log that holds what they held.
    pub after: u64,
    /// Records that were left out because they are not to be kept.
    pub dropped: usize,
}

impl Records {
    /// How many logs there are.
    ///
    /// # Errors
    /// When the folder can not be read.
    pub fn logs(&self) -> Result<usize> {
        Ok(logs(&self.folder)?.len())
    }

    /// Joins all logs into one that holds the records that stand and those that diverge from them, each of which `keep`
    /// says may stay, and where recipes lead. `alone` says that no other process uses the store: the old logs go at once.
    ///
    /// # Errors
    /// When a log can not be read or the new one not be written; nothing is lost then.
    pub fn compact(&self, keep: &dyn Fn(&Digest<Action>) -> bool, alone: bool) -> Result<Compacted> {
        self.store.writable("compact the records of")?;
        let mut state = lock(&self.state);
        self.refresh_locked(&mut state)?;
        let old = logs(&self.folder)?;
        let mut done = Compacted {
            logs: old.len(),
            before: old.iter().map(|(_, length)| length).sum(),
            ..Compacted::default()
        };
        let (log, name, dropped) = join(&self.folder, &self.store, &state.index, &old, keep)?;
        done.dropped = dropped;
        done.after = log.length();
        log.sync()?;
        let path = self.folder.join(format!("{name}{SUFFIX}"));
        fs::rename(log.path(), &path).map_err(|source| StoreError::io("write", &path, source))?;
        let mut manifest = Manifest::read(&self.folder);
        manifest.generation += 1;
        manifest.retired = old.iter().cloned().collect();
        manifest.write(&self.folder, &self.store)?;
        state.own = None;
        self.sweep(&manifest, alone)?;
        state.index = Index::default();
        self.refresh_locked(&mut state)?;
        state.index.save(&self.folder, &self.store)?;
        Ok(done)
    }

    /// Removes retired logs to which nobody can be writing.
    fn sweep(&self, manifest: &Manifest, alone: bool) -> Result<()> {
        let now = crate::live::clock(&self.store)?;
        for (name, length) in &manifest.retired {
            let path = self.folder.join(format!("{name}{SUFFIX}"));
            let Ok(meta) = fs::metadata(&path) else { continue };
            let quiet = meta
                .modified()
                .is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age > QUIET));
            if meta.len() == *length && (alone || quiet) {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove", &path, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The logs with their lengths, sorted by name.
fn logs(folder: &Path) -> Result<Vec<(String, u64)>> {
    let failed = |source| StoreError::io(READ, folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(SUFFIX))
            && let Ok(meta) = entry.metadata()
        {
            found.push((name.to_owned(), meta.len()));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes the frames that stay to a log in the staging folder; gives it, its name, and how many records were left out.
fn join(
    folder: &Path,
    store: &Store,
    index: &Index,
    old: &[(String, u64)],
    keep: &dyn Fn(&Digest<Action>) -> bool,
) -> Result<(Log, String, usize)> {
    let mut standing: HashMap<(String, u64), bool> = HashMap::new();
    for (action, place) in index.places() {
        standing.insert((index.name(place.log).to_owned(), place.offset), keep(&action));
    }
    let (mut log, name) = Log::create(&store.root().join("staging"), SUFFIX)?;
    let mut buffer = Vec::new();
    let mut dropped = 0;
    let mut recipes = index.recipes();
    for (name, length) in old {
        let bytes = read_tail(&folder.join(format!("{name}{SUFFIX}")), 0, Some(*length))?;
        for (at, body) in frame::scan(&bytes, MAGIC) {
            let Some(heading) = Heading::parse(body).filter(|heading| heading.kind != Kind::Alias) else {
                continue;
            };
            match standing.get(&(name.clone(), at as u64)) {
                Some(true) => {
                    buffer.extend_from_slice(&bytes[at..at + frame::HEAD + body.len()]);
                    // Its own frame says where its recipe leads.
                    let own = recipes.get(&heading.recipe);
                    if own.is_some_and(|alias| alias.action == heading.action && alias.sequence == heading.sequence) {
                        recipes.remove(&heading.recipe);
                    }
                }
                Some(false) => dropped += 1,
                None => {}
            }
            if buffer.len() >= BUFFER_BYTES {
                log.append(&buffer)?;
                buffer.clear();
            }
        }
    }
    let mut aliases: Vec<_> = recipes
        .into_iter()
        .filter(|(_, alias)| index.action(&alias.action).is_some() && keep(&alias.action))
        .collect();
    aliases.sort_by_key(|(recipe, _)| *recipe.as_bytes());
    for (recipe, alias) in aliases {
        let heading = Heading {
            kind: Kind::Alias,
            complete: true,
            sequence: alias.sequence,
            action: alias.action,
            recipe,
        };
        frame::append(&mut buffer, MAGIC, &[&heading.encode()]);
    }
    log.append(&buffer)?;
    Ok((log, name, dropped))
}
