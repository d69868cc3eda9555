//! An append-only file that one handle writes and any process reads.
//!
//! Each writing handle has a file of its own with a name that no other has, so that processes never interleave, with or
//! without file locks.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{READ, Result, StoreError};

/// A name that no other handle of any process on any machine has: 32 hexadecimal digits from the system's randomness.
pub(crate) fn unique_name() -> String {
    // RandomState is keyed from the system's randomness; the process id guards against two forks sharing it.
    let draw = || RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()));
    format!("{:016x}{:016x}", draw(), draw())
}

/// The file this handle appends to.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    broken: bool,
}

impl Log {
    /// Creates a log in `folder` (which is made when absent); gives it and its name without the suffix.
    pub(crate) fn create(folder: &Path, suffix: &str) -> Result<(Self, String)> {
        let name = unique_name();
        let log = Self::create_as(&folder.join(format!("{name}{suffix}")))?;
        Ok((log, name))
    }

    /// Creates a log at a path that must be free.
    pub(crate) fn create_as(path: &Path) -> Result<Self> {
        let open = || OpenOptions::new().append(true).read(true).create_new(true).open(path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)
                        .map_err(|source| StoreError::io("make the folder", folder, source))?;
                }
                open()
            }
            other => other,
        };
        let file = file.map_err(|source| StoreError::io("create", path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length: 0,
            broken: false,
        })
    }

    /// Appends whole frames; gives the offset of the first.
    ///
    /// # Errors
    /// When the disk is full, say. The log then takes no more: its tail may be torn, and a new log must be begun.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let offset = self.length;
        if let Err(source) = self.file.write_all(bytes) {
            self.broken = true;
            // Readers skip a torn tail; cutting it off only spares them the work.
            drop(self.file.set_len(offset));
            return Err(StoreError::io("append to", &self.path, source));
        }
        self.length += bytes.len() as u64;
        Ok(offset)
    }

    /// Whether an append failed before, or the file was removed below us.
    pub(crate) fn is_usable(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        !self.broken && self.file.metadata().is_ok_and(|meta| meta.nlink() > 0)
    }

    /// Brings it to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|source| StoreError::io("sync", &self.path, source))
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The bytes of a file from an offset to its present end (or to `limit`). A file that is gone is empty.
pub(crate) fn read_tail(path: &Path, from: u64, limit: Option<u64>) -> Result<Vec<u8>> {
    let failed = |source| StoreError::io(READ, path, source);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let length = file.metadata().map_err(failed)?.len();
    let wanted = limit.unwrap_or(length).min(length).saturating_sub(from);
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(usize::MAX)];
    let read = read_up_to(&file, &mut bytes, from).map_err(failed)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills `bytes` from an offset as far as the file goes; gives the count.
pub(crate) fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
