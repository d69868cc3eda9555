//! Remembered digests of files, per user: 200 GB are hashed once.
//!
//! A digest is remembered by path, inode, size, modification and change time. Like git's index, an entry is not trusted
//! when the file was touched so shortly before it was hashed that a later write could have left the same times: the times
//! are compared with the file system's own clock, read by touching the memory's log just before the file is hashed.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::digest::{Bytes, Digest};
use crate::error::{READ, Result, StoreError};
use crate::frame::{self, Magic};
use crate::log::read_tail;
use crate::store::lock;

const MAGIC: Magic = *b"\xf1Fi1";

/// Times closer than this to the moment of hashing are not trusted: 2 s is the coarsest tick of a file system in use.
const TICK_NANOSECONDS: i128 = 2_000_000_000;

/// Files from here on are hashed through a memory map, on all threads.
const MAPPED_BYTES: u64 = 1 << 20;

/// From here on it is worth waiting until a file's times can be trusted.
const WAITING_BYTES: u64 = 64 << 20;

/// The log is written anew when it holds this many times more entries than files.
const DEAD_FACTOR: usize = 4;

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: i128,
    changed: i128,
}

impl Stamp {
    const LENGTH: usize = 48;

    fn of(meta: &fs::Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            inode: meta.ino(),
            size: meta.len(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether a write after `moment` could have left the same times.
    fn is_racy(&self, moment: i128) -> bool {
        self.modified.max(self.changed) + TICK_NANOSECONDS >= moment
    }

    fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.inode.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.modified.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.changed.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            inode: u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
            size: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
            modified: i128::from_le_bytes(bytes.get(16..32)?.try_into().ok()?),
            changed: i128::from_le_bytes(bytes.get(32..48)?.try_into().ok()?),
        })
    }
}

/// What is remembered of a file: its state, and the digest of its bytes then.
type Known = (Stamp, Digest<Bytes>);

/// A file as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// Where it is, as it was asked for.
    pub path: PathBuf,
    /// The digest of its bytes.
    pub digest: Digest<Bytes>,
    /// Its size in bytes.
    pub size: u64,
    stamp: Stamp,
    /// Whether a write right after the look could have left the same times.
    racy: bool,
}

/// The remembered digests. It may be used from any thread.
#[derive(Debug)]
pub struct FileDigests {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<Digest<Path>, Known>,
    /// Absent when the folder may not be written: digests are then remembered by this process only.
    log: Option<File>,
    hashed: u64,
}

impl FileDigests {
    /// Opens the digests that are remembered in a folder of the user. A folder that can not be read or written, or
    /// entries that are damaged, only cost time.
    pub fn open(folder: &Path) -> Self {
        let path = folder.join("file-digests");
        let bytes = read_tail(&path, 0, None).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "digests of files are not remembered");
            Vec::new()
        });
        let mut known = HashMap::new();
        let mut entries = 0;
        for (_, body) in frame::scan(&bytes, MAGIC) {
            entries += 1;
            if let Some((path, entry)) = decode(body) {
                known.insert(path, entry);
            }
        }
        if entries > 1000 && entries > DEAD_FACTOR * known.len() {
            rewrite(&path, &known);
        }
        let log = fs::create_dir_all(folder).and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        if let Err(error) = &log {
            tracing::warn!(path = %path.display(), %error, "digests of files will not be remembered");
        }
        Self {
            path,
            state: Mutex::new(State {
                known,
                log: log.ok(),
                hashed: 0,
            }),
        }
    }

    /// The digest of a file: remembered, or computed now.
    ///
    /// # Errors
    /// When the file can not be read, or changes while it is hashed.
    pub fn digest(&self, path: &Path) -> Result<FileState> {
        let failed = |source| StoreError::io(READ, path, source);
        let real = fs::canonicalize(path).map_err(failed)?;
        let key = key(&real);
        let stamp = Stamp::of(&fs::metadata(&real).map_err(failed)?);
        if let Some((known, digest)) = lock(&self.state).known.get(&key)
            && *known == stamp
        {
            return Ok(FileState {
                path: path.to_owned(),
                digest: *digest,
                size: stamp.size,
                stamp,
                racy: false,
            });
        }
        let moment = self.settled(&stamp);
        let digest = hash_file(&real, stamp.size).map_err(failed)?;
        if Stamp::of(&fs::metadata(&real).map_err(failed)?) != stamp {
            return Err(failed(io::Error::other("it changed while it was read")));
        }
        let racy = moment.is_none_or(|moment| stamp.is_racy(moment));
        let mut state = lock(&self.state);
        state.hashed += stamp.size;
        if !racy {
            state.known.insert(key, (stamp, digest));
            self.remember(&mut state, &key, &stamp, &digest);
        }
        Ok(FileState {
            path: path.to_owned(),
            digest,
            size: stamp.size,
            stamp,
            racy,
        })
    }

    /// Whether a file is no longer as it was. One that was hashed right after it was touched is hashed again.
    ///
    /// # Errors
    /// When it is there and can not be read.
    pub fn changed_since(&self, before: &FileState) -> Result<bool> {
        let failed = |source| StoreError::io(READ, &before.path, source);
        let now = match fs::metadata(&before.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            other => Stamp::of(&other.map_err(failed)?),
        };
        if now.size != before.size {
            return Ok(true);
        }
        if now == before.stamp && !before.racy {
            return Ok(false);
        }
        // Touched, moved or racy: only the bytes can tell.
        Ok(self.digest(&before.path)?.digest != before.digest)
    }

    /// How many bytes this handle hashed.
    pub fn hashed_bytes(&self) -> u64 {
        lock(&self.state).hashed
    }

    /// The file system's time, read before a file is hashed. For a large file that was touched just now, the tick is waited
    /// out: that is cheaper than hashing it at every look.
    fn settled(&self, stamp: &Stamp) -> Option<i128> {
        let moment = self.moment()?;
        let settles = stamp.modified.max(stamp.changed) + TICK_NANOSECONDS + 1;
        let wait = settles - moment;
        if stamp.size < WAITING_BYTES || wait <= 0 || wait > TICK_NANOSECONDS + 1 {
            return Some(moment);
        }
        std::thread::sleep(std::time::Duration::from_nanos(
            u64::try_from(wait).unwrap_or(0) + 20_000_000,
        ));
        self.moment()
    }

    /// The file system's time now, in nanoseconds; none when the log can not be touched.
    fn moment(&self) -> Option<i128> {
        let state = lock(&self.state);
        let log = state.log.as_ref()?;
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW as _,
        };
        rustix::fs::futimens(
            log,
            &rustix::fs::Timestamps {
                last_access: now,
                last_modification: now,
            },
        )
        .ok()?;
        log.metadata().ok().map(|meta| Stamp::of(&meta).modified)
    }

    fn remember(&self, state: &mut State, key: &Digest<Path>, stamp: &Stamp, digest: &Digest<Bytes>) {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, MAGIC, &[key.as_bytes(), &stamp.encode(), digest.as_bytes()]);
        let Some(log) = &mut state.log else { return };
        // One write of one frame to a file opened for appending; a torn one is noticed by its reader.
        if let Err(error) = log.write_all(&bytes) {
            tracing::warn!(path = %self.path.display(), %error, "the digest of a file will not be remembered");
            state.log = None;
        }
    }
}

fn key(path: &Path) -> Digest<Path> {
    Digest::from_bytes(*blake3::hash(path.as_os_str().as_bytes()).as_bytes())
}

fn decode(body: &[u8]) -> Option<(Digest<Path>, Known)> {
    let (path, rest) = body.split_first_chunk::<32>()?;
    let (stamp, digest) = rest.split_at_checked(Stamp::LENGTH)?;
    Some((
        Digest::from_bytes(*path),
        (Stamp::decode(stamp)?, Digest::from_bytes(digest.try_into().ok()?)),
    ))
}

/// Writes the log anew. What another process adds meanwhile is lost, which costs it a hash.
fn rewrite(path: &Path, known: &HashMap<Digest<Path>, Known>) {
    let mut bytes = Vec::new();
    for (path, (stamp, digest)) in known {
        frame::append(
            &mut bytes,
            MAGIC,
            &[path.as_bytes(), &stamp.encode(), digest.as_bytes()],
        );
    }
    let staged = path.with_extension(crate::log::unique_name());
    if let Err(error) = fs::write(&staged, bytes).and_then(|()| fs::rename(&staged, path)) {
        tracing::warn!(path = %path.display(), %error, "the memory of file digests could not be compacted");
        drop(fs::remove_file(&staged));
    }
}

fn hash_file(path: &Path, size: u64) -> io::Result<Digest<Bytes>> {
    if size < MAPPED_BYTES {
        return Ok(Digest::<Bytes>::of(&fs::read(path)?));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path)?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}
