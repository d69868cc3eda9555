//! Joining many small segments of the row memo into few.
//!
//! The joined segment is written aside, synced, and renamed into its folder before any of the old ones is removed: at every
//! moment each row is in at least one of them. Two processes that join at once leave rows twice, which the next joining
//! mends.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{READ, Result, StoreError};
use crate::frame;
use crate::log::{Log, read_tail, unique_name};
use crate::memo::{BUFFER_BYTES, SEGMENT_BYTES};
use crate::memo_segment::{Entry, INDEX, ROWS, Short};
use crate::store::Store;

/// Joins the segments in `folder` that are small and were not written for `idle`, if there are at least `many`.
pub(crate) fn compact(store: &Store, folder: &Path, many: usize, idle: Duration) -> Result<usize> {
    let old = idle_segments(store, folder, idle)?;
    if old.len() < many.max(2) {
        return Ok(0);
    }
    let mut joined = Joined::new(store, folder);
    let mut seen: HashSet<Short> = HashSet::new();
    for path in &old {
        let bytes = read_tail(path, 0, None)?;
        for (at, body) in frame::scan(&bytes, ROWS) {
            if let Some(short) = body.first_chunk::<16>()
                && seen.insert(*short)
            {
                joined.push(*short, &bytes[at..at + frame::HEAD + body.len()])?;
            }
        }
    }
    joined.finish()?;
    for path in &old {
        // The index goes first: a segment without one is read by itself.
        for path in [path.with_extension("index"), path.clone()] {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a joined segment of the memo is left behind");
            }
        }
    }
    Ok(old.len())
}

/// The segments that are worth joining, sorted by name.
fn idle_segments(store: &Store, folder: &Path, idle: Duration) -> Result<Vec<PathBuf>> {
    let failed = |source| StoreError::io(READ, folder, source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    // The file system's clock tells how long a segment was idle.
    let clock = store.root().join("staging").join(unique_name());
    let now = fs::write(&clock, "").and_then(|()| fs::metadata(&clock)?.modified());
    drop(fs::remove_file(&clock));
    let now = now.map_err(|source| StoreError::io("write", &clock, source))?;
    let mut old = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Ok(meta) = entry.metadata() else { continue };
        let quiet = meta
            .modified()
            .is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age >= idle));
        if entry.path().extension().is_some_and(|suffix| suffix == "rows") && quiet && meta.len() < SEGMENT_BYTES / 2 {
            old.push(entry.path());
        }
    }
    old.sort();
    Ok(old)
}

/// The segments being written.
struct Joined<'a> {
    staging: PathBuf,
    folder: &'a Path,
    open: Option<(String, Log, Log)>,
    rows: Vec<u8>,
    entries: Vec<u8>,
}

impl<'a> Joined<'a> {
    fn new(store: &Store, folder: &'a Path) -> Self {
        let staging = store.root().join("staging");
        Self {
            staging,
            folder,
            open: None,
            rows: Vec::new(),
            entries: Vec::new(),
        }
    }

    fn push(&mut self, short: Short, frame: &[u8]) -> Result<()> {
        let start = self.open.as_ref().map_or(0, |(_, rows, _)| rows.length());
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        Entry {
            short,
            offset: start + self.rows.len() as u64,
            length,
        }
        .encode(&mut self.entries);
        self.rows.extend_from_slice(frame);
        if self.rows.len() >= BUFFER_BYTES {
            self.write()?;
        }
        if self
            .open
            .as_ref()
            .is_some_and(|(_, rows, _)| rows.length() >= SEGMENT_BYTES)
        {
            self.close()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        if self.open.is_none() {
            let (rows, name) = Log::create(&self.staging, ".rows")?;
            let index = Log::create_as(&self.staging.join(format!("{name}.index")))?;
            self.open = Some((name, rows, index));
        }
        let Some((_, rows, index)) = &mut self.open else {
            return Ok(());
        };
        let start = rows.append(&self.rows)?;
        let end = rows.length();
        let mut frame = Vec::new();
        frame::append(
            &mut frame,
            INDEX,
            &[&start.to_le_bytes(), &end.to_le_bytes(), &self.entries],
        );
        index.append(&frame)?;
        self.rows.clear();
        self.entries.clear();
        Ok(())
    }

    /// Makes a segment visible: its index first, then its rows.
    fn close(&mut self) -> Result<()> {
        self.write()?;
        let Some((name, rows, index)) = self.open.take() else {
            return Ok(());
        };
        for (log, suffix) in [(&index, "index"), (&rows, "rows")] {
            log.sync()?;
            let path = self.folder.join(format!("{name}.{suffix}"));
            fs::rename(log.path(), &path).map_err(|source| StoreError::io("write", &path, source))?;
        }
        let synced = fs::File::open(self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| StoreError::io("sync", self.folder, source))
    }

    fn finish(mut self) -> Result<()> {
        self.close()
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        if let Some((_, rows, index)) = &self.open {
            drop(fs::remove_file(rows.path()));
            drop(fs::remove_file(index.path()));
        }
    }
}
