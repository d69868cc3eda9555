//! The store: objects by the digest of their bytes.
//!
//! Whatever is visible is whole: an object is written under a temporary name in the store and renamed. Objects are
//! read-only and never rewritten. Syncs are grouped: [`Store::sync`] flushes what was written since the last one, so a
//! power cut may cost what came after it, and what it tore is noticed (sizes at every use, digests of small objects at
//! every read, digests of all in a check) and never trusted.
//!
//! ```text
//! ROOT/format        the version of this layout
//!     /objects/ab/…  objects, named by their digest
//!     /staging/      files being written
//!     /quarantine/   damaged objects that were set aside
//!     /records/      what actions gave (see `record`)
//!     /memo/         raw rows (see `memo`)
//!     /claims/       who is computing what (see `claim`)
//!     /live/         who is at work (see `live`)
//!     /runs/         what each run did, and its log
//!     /projects/     the lock files that hold results
//! ```

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use crate::artifact::{Artifact, TreeFile};
use crate::digest::{Bytes, Digest};
use crate::error::{READ, Result, StoreError};
use crate::spool::Spool;

/// The layout that this program writes.
pub const FORMAT: &str = "fracture-store 1";

/// How many files are synced one by one; more are synced by one call for the whole file system.
const SINGLE_SYNCS: usize = 4;

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// Write nothing, even where it would be possible.
    pub read_only: bool,
}

/// A handle on a store; clones share it. It may be used from any thread.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    read_only: AtomicBool,
    unsynced: Mutex<HashSet<PathBuf>>,
    /// Small tables that were read lately.
    recent: Mutex<HashMap<Digest<Bytes>, RecordBatch>>,
}

/// Locks a mutex whose data stay consistent even if a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store at `root` and makes its folders when they are absent. A store that may only be read is opened for
    /// reading; the first write to it is an error.
    ///
    /// # Errors
    /// When the folder can not be made or read, or was written by a program with another format.
    pub fn open(root: &Path, options: &StoreOptions) -> Result<Self> {
        let mut read_only = options.read_only;
        let version = root.join("format");
        match fs::read_to_string(&version) {
            Ok(found) if found.trim() == FORMAT => {
                read_only |= rustix::fs::access(root, rustix::fs::Access::WRITE_OK).is_err();
            }
            // An empty version file is what a power cut leaves of the first moment of a store.
            Ok(found) if !found.trim().is_empty() => {
                let found = found.lines().next().unwrap_or_default().chars().take(60).collect();
                return Err(StoreError::Format {
                    path: root.to_owned(),
                    found,
                    known: FORMAT,
                });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(READ, &version, error)),
            _ if read_only => {
                return Err(StoreError::ReadOnly {
                    doing: "make a store in",
                    path: root.to_owned(),
                });
            }
            _ => create_layout(root, &version)?,
        }
        let inner = Inner {
            root: root.to_owned(),
            read_only: read_only.into(),
            unsynced: Mutex::default(),
            recent: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Whether nothing can be written to it.
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only.load(Ordering::Relaxed)
    }

    /// An error when the store may only be read.
    pub(crate) fn writable(&self, doing: &'static str) -> Result<()> {
        if self.is_read_only() {
            return Err(StoreError::ReadOnly {
                doing,
                path: self.inner.root.clone(),
            });
        }
        Ok(())
    }

    /// Stores some bytes; gives their digest and their count.
    ///
    /// # Errors
    /// When they can not be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<(Digest<Bytes>, u64)> {
        let digest = Digest::<Bytes>::of(bytes);
        let size = bytes.len() as u64;
        if !self.contains(&digest, size) {
            let mut spool = Spool::new(self.clone());
            spool
                .write_all(bytes)
                .map_err(|source| StoreError::io("write", self.blob_path(&digest), source))?;
            spool.commit()?;
        }
        Ok((digest, size))
    }

    /// Stores a copy of a file; gives the digest and the size of what was copied.
    ///
    /// # Errors
    /// When it can not be read, or the copy can not be written.
    pub fn put_file(&self, path: &Path) -> Result<(Digest<Bytes>, u64)> {
        let failed = |source| StoreError::io(READ, path, source);
        let mut file = File::open(path).map_err(failed)?;
        let mut spool = Spool::new(self.clone());
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(failed)?,
            };
            if count == 0 {
                return spool.commit();
            }
            spool
                .write_all(&buffer[..count])
                .map_err(|source| StoreError::io("write a copy of", path, source))?;
        }
    }

    /// Stores a folder of plain files, sorted by path.
    ///
    /// # Errors
    /// When it holds a link or something that is no plain file, or can not be read or copied.
    pub fn put_tree(&self, folder: &Path) -> Result<Artifact> {
        let mut files = Vec::new();
        let mut open = vec![(folder.to_owned(), String::new())];
        while let Some((folder, prefix)) = open.pop() {
            let failed = |source| StoreError::io(READ, &folder, source);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let refused = |problem| StoreError::io("store the tree with", entry.path(), io::Error::other(problem));
                let name = entry
                    .file_name()
                    .into_string()
                    .map_err(|_| refused("its name is not UTF-8"))?;
                let path = format!("{prefix}{name}");
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() {
                    open.push((entry.path(), path + "/"));
                } else if kind.is_file() {
                    let (blob, size) = self.put_file(&entry.path())?;
                    files.push(TreeFile { path, blob, size });
                } else {
                    return Err(refused("it is neither a plain file nor a folder"));
                }
            }
        }
        files.sort_by(|one, two| one.path.cmp(&two.path));
        Ok(Artifact::Tree(files))
    }

    /// Where an object lies, if it is there.
    pub fn blob_path(&self, digest: &Digest<Bytes>) -> PathBuf {
        let hex = digest.hex();
        self.inner.root.join("objects").join(&hex[..2]).join(&hex[2..])
    }

    /// Whether an object is there with this size. Its bytes are not read.
    pub fn contains(&self, digest: &Digest<Bytes>, size: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Whether every object of an artifact is there with its size.
    pub fn holds(&self, artifact: &Artifact) -> bool {
        artifact.objects().all(|(digest, size)| self.contains(digest, size))
    }

    /// Opens an object for reading, after a look at its size. A damaged one is set aside.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, or the system's.
    pub fn open_blob(&self, digest: &Digest<Bytes>, size: u64) -> Result<File> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Missing {
                what: format!("object {}", digest.short()),
                path: path.clone(),
            },
            _ => StoreError::io(READ, &path, source),
        })?;
        let found = file
            .metadata()
            .map_err(|source| StoreError::io(READ, &path, source))?
            .len();
        if found != size {
            return Err(self.set_aside(digest, format!("{found} bytes"), format!("{size} bytes")));
        }
        Ok(file)
    }

    /// Reads a whole object and checks its digest. A damaged one is set aside.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, or the system's.
    pub fn read_blob(&self, digest: &Digest<Bytes>, size: u64) -> Result<Vec<u8>> {
        let mut file = self.open_blob(digest, size)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.read_to_end(&mut bytes)
            .map_err(|source| StoreError::io(READ, self.blob_path(digest), source))?;
        let found = Digest::<Bytes>::of(&bytes);
        if found != *digest {
            return Err(self.set_aside(digest, format!("digest {}", found.short()), digest.short()));
        }
        Ok(bytes)
    }

    /// Checks size and digest of an object without holding it in memory. A damaged one is set aside.
    ///
    /// # Errors
    /// `Missing`, `Damaged`, or the system's.
    pub fn verify_blob(&self, digest: &Digest<Bytes>, size: u64) -> Result<()> {
        let path = self.blob_path(digest);
        drop(self.open_blob(digest, size)?);
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_mmap_rayon(&path)
            .map_err(|source| StoreError::io(READ, &path, source))?;
        let found = Digest::<Bytes>::from_bytes(*hasher.finalize().as_bytes());
        if found != *digest {
            return Err(self.set_aside(digest, format!("digest {}", found.short()), digest.short()));
        }
        Ok(())
    }

    /// Moves a damaged object out of the way, so that it is made again; gives the error that says so.
    pub(crate) fn set_aside(&self, digest: &Digest<Bytes>, found: String, expected: String) -> StoreError {
        let path = self.blob_path(digest);
        if !self.is_read_only() {
            let folder = self.inner.root.join("quarantine");
            let name = format!("{}-{}", digest.hex(), &crate::log::unique_name()[..8]);
            let moved = fs::create_dir_all(&folder).and_then(|()| fs::rename(&path, folder.join(name)));
            if let Err(error) = moved {
                tracing::warn!(path = %path.display(), %error, "a damaged object could not be set aside");
            }
        }
        StoreError::Damaged {
            what: format!("object {}", digest.short()),
            path,
            found,
            expected,
        }
    }

    pub(crate) fn recent(&self) -> MutexGuard<'_, HashMap<Digest<Bytes>, RecordBatch>> {
        lock(&self.inner.recent)
    }

    /// Notes that a file was written and not yet synced.
    pub(crate) fn note_written(&self, path: PathBuf) {
        lock(&self.inner.unsynced).insert(path);
    }

    /// Brings what was written since the last call to the disk. The engine calls it once a second and at the end.
    ///
    /// # Errors
    /// When the system can not; the files are then tried again by the next call.
    pub fn sync(&self) -> Result<()> {
        let written = std::mem::take(&mut *lock(&self.inner.unsynced));
        if written.is_empty() {
            return Ok(());
        }
        let synced = self.sync_files(&written);
        if synced.is_err() {
            lock(&self.inner.unsynced).extend(written);
        }
        synced
    }

    fn sync_files(&self, written: &HashSet<PathBuf>) -> Result<()> {
        #[cfg(target_os = "linux")]
        if written.len() > SINGLE_SYNCS {
            let root = &self.inner.root;
            let folder = File::open(root).map_err(|source| StoreError::io("sync", root, source))?;
            return rustix::fs::syncfs(&folder).map_err(|source| StoreError::io("sync", root, source.into()));
        }
        for path in written {
            let synced = match File::open(path) {
                // Collected or set aside meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Err(error),
                Ok(file) => file.sync_all(),
            };
            synced.map_err(|source| StoreError::io("sync", path, source))?;
            // The name must last as well as the bytes.
            if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
                folder
                    .sync_all()
                    .map_err(|source| StoreError::io("sync", path, source))?;
            }
        }
        Ok(())
    }
}

fn create_layout(root: &Path, version: &Path) -> Result<()> {
    for folder in ["objects", "staging", "records", "memo", "claims"] {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(|source| StoreError::io("make the folder", &path, source))?;
    }
    let staged = root.join("staging").join(crate::log::unique_name());
    fs::write(&staged, format!("{FORMAT}\n")).map_err(|source| StoreError::io("write", &staged, source))?;
    fs::rename(&staged, version).map_err(|source| StoreError::io("write", version, source))
}
