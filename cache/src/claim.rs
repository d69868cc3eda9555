//! Claims: who is computing what, so that a task normally runs once. They only save time: publication is idempotent, and
//! two processes that compute the same action do no harm.
//!
//! A claim is a file that its owner creates and touches again and again. No file locks: its age is told by the file
//! system's own clock (the time of a file that the asking process touches itself), so that machines with different clocks
//! agree. A claim that was not touched for long is taken over, and so is one whose time does not move while we watch,
//! whatever the clock says: it may have jumped back. One whose process is dead on this machine is taken over at once.
//!
//! A thread touches all claims of a process, so that an owner that is busy stays alive to others and one that is suspended
//! does not.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::digest::{Action, Digest};
use crate::error::{READ, Result, StoreError};
use crate::live;
use crate::store::{Store, lock};

/// How many times in the time after which a claim is stale its owner touches it.
const PULSES: u32 = 8;
/// How long an owner is silent at most, however patient it is itself: others may be less so.
const SILENCE: Duration = Duration::from_secs(1);

/// The claims of a store. It may be used from any thread.
#[derive(Debug)]
pub struct Claims {
    store: Store,
    folder: PathBuf,
    /// What a claim holds: the process, its machine, and the owner as people know them, a line each.
    text: String,
    /// The second of these lines.
    place: String,
    stale_after: Duration,
    watch: Mutex<Watch>,
    held: Arc<Held>,
    pulse: Option<Pulse>,
}

/// The claims that are ours, by a number.
#[derive(Debug, Default)]
struct Held {
    next: AtomicU64,
    files: Mutex<HashMap<u64, Arc<File>>>,
}

/// The thread that touches our claims.
#[derive(Debug)]
struct Pulse {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Pulse {
    fn start(held: &Arc<Held>, every: Duration) -> Option<Self> {
        let held = Arc::clone(held);
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("claims".to_owned()).spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let files: Vec<Arc<File>> = lock(&held.files).values().cloned().collect();
                for file in files {
                    // Not being able to touch it makes us look dead, which costs at most a second computation.
                    drop(touch(&file));
                }
            }
        });
        thread.ok().map(|thread| Self { stop, thread })
    }
}

#[derive(Debug, Default)]
struct Watch {
    /// The file that is touched to read the file system's clock.
    clock: Option<(PathBuf, File)>,
    /// The time of each claim that was met, and since when it was that.
    seen: HashMap<Digest<Action>, (SystemTime, Instant)>,
}

/// What became of the attempt to claim an action.
#[derive(Debug)]
pub enum Claimed {
    /// The action is ours until the claim is dropped.
    Mine(Claim),
    /// Someone else is computing it.
    Held {
        /// Who, as they called themselves.
        owner: String,
        /// How long ago they last said so, by the file system's clock.
        age: Duration,
    },
}

/// A claim of ours. It ends when it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    file: Arc<File>,
    number: u64,
    held: Arc<Held>,
}

/// How old a claim is.
struct Age {
    age: Duration,
    stale: bool,
    /// When it was touched last, and which file it is.
    touched: (SystemTime, u64),
    owner: String,
}

impl Claims {
    /// Opens the claims of a store. `owner` tells people who we are; a claim that was not renewed for `stale_after` may be
    /// taken over; while this handle lives, its claims are renewed several times as often.
    pub fn open(store: &Store, owner: &str, stale_after: Duration) -> Self {
        let folder = store.root().join("claims");
        let place = live::place();
        let owner: String = owner.replace(['\n', '\r'], " ").chars().take(200).collect();
        let held = Arc::new(Held::default());
        let pulse = Pulse::start(&held, (stale_after / PULSES).min(SILENCE));
        Self {
            store: store.clone(),
            folder,
            text: format!("{}\n{place}\n{owner}\n", live::process()),
            place,
            stale_after,
            watch: Mutex::default(),
            held,
            pulse,
        }
    }

    /// Claims an action, unless another owner holds it.
    ///
    /// # Errors
    /// When the folder of claims can not be written.
    pub fn try_claim(&self, action: &Digest<Action>) -> Result<Claimed> {
        self.store.writable("claim a task in")?;
        let path = self.folder.join(action.hex());
        for _ in 0..3 {
            if let Some(claim) = self.create(&path)? {
                lock(&self.watch).seen.remove(action);
                return Ok(Claimed::Mine(claim));
            }
            let Some(found) = self.age(action, &path)? else {
                continue;
            };
            if !found.stale {
                return Ok(Claimed::Held {
                    owner: found.owner,
                    age: found.age,
                });
            }
            self.take_away(&path, found.touched)?;
        }
        // Others are quicker again and again.
        Ok(Claimed::Held {
            owner: String::new(),
            age: Duration::ZERO,
        })
    }

    fn create(&self, path: &Path) -> Result<Option<Claim>> {
        let create = || OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.folder)
                    .map_err(|source| StoreError::io("make the folder", &self.folder, source))?;
                create()
            }
            other => other,
        };
        match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(StoreError::io("write the claim", path, error)),
            Ok(mut file) => {
                // It tells whether we are dead, and people who we are; a claim without it is as good.
                drop(file.write_all(self.text.as_bytes()));
                let (file, number) = (Arc::new(file), self.held.next.fetch_add(1, Ordering::Relaxed));
                lock(&self.held.files).insert(number, Arc::clone(&file));
                Ok(Some(Claim {
                    path: path.to_owned(),
                    file,
                    number,
                    held: Arc::clone(&self.held),
                }))
            }
        }
    }

    /// How old a claim is and whether it is stale; none when it is gone.
    fn age(&self, action: &Digest<Action>, path: &Path) -> Result<Option<Age>> {
        let (touched, inode) = match fs::metadata(path).and_then(|meta| Ok((meta.modified()?, meta.ino()))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| StoreError::io(READ, path, source))?,
        };
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        let (process, place) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let dead = place == self.place && live::is_dead(process);
        let mut watch = lock(&self.watch);
        let now = self.now(&mut watch)?;
        let age = now.duration_since(touched).unwrap_or_default();
        let seen = watch.seen.entry(*action).or_insert_with(|| (touched, Instant::now()));
        if seen.0 != touched {
            *seen = (touched, Instant::now());
        }
        let stale = dead || age > self.stale_after || seen.1.elapsed() > self.stale_after;
        Ok(Some(Age {
            age,
            stale,
            touched: (touched, inode),
            owner: lines.next().unwrap_or_default().chars().take(200).collect(),
        }))
    }

    /// The file system's time.
    fn now(&self, watch: &mut Watch) -> Result<SystemTime> {
        if watch.clock.is_none() {
            let path = self.folder.join(format!("clock-{}", crate::log::unique_name()));
            let file = File::create(&path).map_err(|source| StoreError::io("write", &path, source))?;
            watch.clock = Some((path, file));
        }
        let Some((path, file)) = &watch.clock else {
            return Ok(SystemTime::UNIX_EPOCH);
        };
        touch(file)
            .and_then(|()| file.metadata()?.modified())
            .map_err(|source| StoreError::io("touch", path, source))
    }

    /// Moves a stale claim out of the way. If its owner woke up, or another process was quicker and this is its new claim,
    /// it is put back.
    fn take_away(&self, path: &Path, touched: (SystemTime, u64)) -> Result<()> {
        let aside = self.folder.join(format!("stale-{}", crate::log::unique_name()));
        match fs::rename(path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|source| StoreError::io("take over the claim", path, source))?,
        }
        let moved = fs::metadata(&aside).and_then(|meta| Ok((meta.modified()?, meta.ino())));
        if moved.is_ok_and(|moved| moved != touched) {
            drop(fs::hard_link(&aside, path));
        }
        drop(fs::remove_file(&aside));
        Ok(())
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        if let Some(Pulse { stop, thread }) = self.pulse.take() {
            drop(stop);
            drop(thread.join());
        }
        if let Some((path, _)) = lock(&self.watch).clock.take() {
            drop(fs::remove_file(path));
        }
    }
}

pub(crate) fn touch(file: &File) -> io::Result<()> {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW as _,
    };
    let times = rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    };
    rustix::fs::futimens(file, &times).map_err(io::Error::from)
}

impl Claim {
    /// Says that the owner is alive. `false` when another one took the claim over, after a suspension, say: what we
    /// compute is then done twice, which is harmless.
    ///
    /// # Errors
    /// When the claim can not be touched.
    pub fn renew(&self) -> Result<bool> {
        touch(&self.file).map_err(|source| StoreError::io("renew the claim", &self.path, source))?;
        Ok(self.is_ours())
    }

    fn is_ours(&self) -> bool {
        let inode = |meta: io::Result<fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
        let ours = inode(self.file.metadata());
        ours.is_some() && ours == inode(fs::metadata(&self.path))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.held.files).remove(&self.number);
        if self.is_ours() {
            drop(fs::remove_file(&self.path));
        }
    }
}
