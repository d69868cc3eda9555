//! An object on its way into the store: hashed while it is written, held in memory while it is small.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::{Bytes, Digest};
use crate::error::{Result, StoreError};
use crate::store::Store;

/// Up to here an object is held in memory, so that one that is already there costs no write.
const IN_MEMORY: usize = 1 << 20;

/// Slices from here on are hashed on several threads.
const PARALLEL_HASH: usize = 1 << 20;

static PROCESS: LazyLock<String> = LazyLock::new(crate::log::unique_name);
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Receives the bytes of one object. Dropped without a commit, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Spool {
    store: Store,
    hasher: blake3::Hasher,
    size: u64,
    memory: Vec<u8>,
    staged: Option<(PathBuf, File)>,
}

impl Spool {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            hasher: blake3::Hasher::new(),
            size: 0,
            memory: Vec::new(),
            staged: None,
        }
    }

    fn stage(&mut self) -> io::Result<&mut File> {
        if self.staged.is_none() {
            if self.store.is_read_only() {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = self.store.root().join("staging").join(format!("{}-{number}", *PROCESS));
            // The mode is read-only from the start: it binds later openings, not this one.
            let create = || OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
            let file = match create() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(self.store.root().join("staging"))?;
                    create()?
                }
                other => other?,
            };
            self.staged = Some((path, file));
        }
        match &mut self.staged {
            Some((_, file)) => Ok(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let memory = std::mem::take(&mut self.memory);
        self.stage()?.write_all(&memory)
    }

    /// Makes the object visible under its digest, unless it is there already.
    pub(crate) fn commit(mut self) -> Result<(Digest<Bytes>, u64)> {
        let digest = Digest::<Bytes>::from_bytes(*self.hasher.finalize().as_bytes());
        let path = self.store.blob_path(&digest);
        if self.store.contains(&digest, self.size) {
            return Ok((digest, self.size));
        }
        self.spill().map_err(|source| StoreError::io("write", &path, source))?;
        if let Some((staged, file)) = self.staged.take() {
            drop(file);
            let placed = place(&staged, &path);
            if let Err(source) = placed {
                drop(fs::remove_file(&staged));
                return Err(StoreError::io("write", &path, source));
            }
        }
        self.store.note_written(path);
        Ok((digest, self.size))
    }
}

fn place(staged: &std::path::Path, path: &std::path::Path) -> io::Result<()> {
    match fs::rename(staged, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::rename(staged, path)
        }
        other => other,
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.staged.is_none() && self.memory.len() + bytes.len() <= IN_MEMORY {
            self.memory.extend_from_slice(bytes);
        } else {
            if self.staged.is_none() {
                self.spill()?;
            }
            self.stage()?.write_all(bytes)?;
        }
        hash(&mut self.hasher, bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Feeds bytes to a hash, on several threads when they are many.
pub(crate) fn hash(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    if bytes.len() < PARALLEL_HASH {
        hasher.update(bytes);
    } else {
        hasher.update_rayon(bytes);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.staged {
            drop(fs::remove_file(path));
        }
    }
}
