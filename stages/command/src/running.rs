//! What runs and where, for the moment when the process has to go at once: programs are in groups of their own, so that no
//! signal of the terminal reaches them, and their folders hold copies of their inputs. Neither may stay behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::orphans;

/// How the names of folders begin.
const PREFIX: &str = "fracture-command-";

/// The file in a folder that its process holds locked, so that others see that it is alive. The system lets go of the lock
/// however the process ends.
const OWNER: &str = "owner";

/// Removing a folder is tried so often: a program that was killed this moment may still have written to it.
const TRIES: u32 = 50;

static RUNNING: Mutex<Running> = Mutex::new(Running {
    over: false,
    groups: Vec::new(),
    folders: Vec::new(),
});

struct Running {
    /// Nothing is started any more.
    over: bool,
    groups: Vec<Pid>,
    folders: Vec<PathBuf>,
}

fn running() -> MutexGuard<'static, Running> {
    // The lists are consistent between any two of their changes.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every program with everything that it started and removes their folders. No program starts from here on: this is
/// for a process that goes now.
pub fn stop_at_once() {
    let mut running = running();
    running.over = true;
    for group in running.groups.drain(..) {
        // An error means that nothing is left of it.
        kill_process_group(group, Signal::KILL).ok();
    }
    for folder in running.folders.drain(..) {
        for _ in 0..TRIES {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(10)),
                _ => break,
            }
        }
    }
}

/// Starts a program in a group of its own, which is known to [`stop_at_once`] from then on.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    command.process_group(0);
    die_with_us(command);
    let mut running = running();
    if running.over {
        return Err(io::Error::other("interrupted"));
    }
    let child = command.spawn()?;
    running.groups.push(Pid::from_child(&child));
    Ok(child)
}

/// Forgets the group of a program. It must not have been waited for yet: its number could be another's by then.
pub fn forget(group: Pid) {
    running().groups.retain(|other| *other != group);
}

/// Lets the program be killed when this process is killed without a chance to do it. What the program itself started is
/// not: the system knows no such thing, and a later process has to do it ([`orphans`]).
#[cfg(target_os = "linux")]
fn die_with_us(command: &mut Command) {
    use rustix::process::{getppid, set_parent_process_death_signal};
    let ours = rustix::process::getpid();
    let bind = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have happened before.
        match getppid() {
            Some(parent) if parent == ours => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::Interrupted)),
        }
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(bind) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_: &mut Command) {}

/// A folder for one execution; it goes when this does, and is swept by a later process when this one is killed.
pub struct Place {
    whole: TempDir,
    _owner: File,
}

impl Place {
    /// Makes it where TMPDIR says. The first one ends what killed processes left behind, and says so.
    ///
    /// # Errors
    /// The system's.
    pub fn new(note: &dyn Fn(&str)) -> io::Result<Self> {
        static SWEPT: Once = Once::new();
        let parent = std::env::temp_dir();
        SWEPT.call_once(|| match sweep(&parent) {
            0 => {}
            1 => note("killed a process that a program of an earlier run, itself killed, had left running"),
            many => note(&format!(
                "killed {many} processes that programs of earlier runs, themselves killed, had left running"
            )),
        });
        let whole = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        running().folders.push(whole.path().to_owned());
        // It gets its name only when it is locked: a sweep takes one that is not for that of a dead process.
        let staged = whole.path().join("new");
        let owner = File::create(&staged)?;
        owner.lock()?;
        fs::rename(&staged, whole.path().join(OWNER))?;
        Ok(Self { whole, _owner: owner })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.whole.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let path = self.whole.path();
        running().folders.retain(|other| other != path);
    }
}

/// Removes the folders of processes that are no more, and kills what still runs on them. Gives how many that were.
fn sweep(parent: &Path) -> usize {
    let mut killed = 0;
    let ours = rustix::process::getuid().as_raw();
    let named = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with(PREFIX));
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        // Links are not followed.
        let folder = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == ours);
        if !folder || !named(&entry.file_name()) {
            continue;
        }
        let abandoned = File::open(entry.path().join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok());
        if abandoned {
            killed += orphans::kill(&entry.path());
            // What can not be removed does no harm to this run.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    killed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folders_of_dead_processes_are_swept_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str, owner: bool| {
            let folder = parent.path().join(name);
            fs::create_dir_all(folder.join("work")).unwrap();
            if owner {
                fs::write(folder.join(OWNER), "").unwrap();
            }
            folder
        };
        let dead = folder("fracture-command-dead", true);
        let unlocked = folder("fracture-command-begun", false);
        let other = folder("other", true);
        let alive = folder("fracture-command-alive", true);
        let owner = File::open(alive.join(OWNER)).unwrap();
        owner.lock().unwrap();
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(unlocked.exists() && other.exists() && alive.exists());
        drop(owner);
        // A program that another test starts holds a copy of the lock until it is itself.
        let begun = std::time::Instant::now();
        while alive.exists() && begun.elapsed() < std::time::Duration::from_secs(10) {
            sweep(parent.path());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!alive.exists());
    }
}
