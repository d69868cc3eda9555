//! Who is at work in a store. A run says that it is there before it looks at any result, a collection before it looks for
//! runs; each then looks whether the other is there. Whatever the order, at least one of them sees the other: a run waits
//! until the collection is over, a collection removes nothing while a run is there.
//!
//! ```text
//! ROOT/live/run-…  gc-…   one file a process, touched every few seconds; its owner, machine and process id
//! ```
//!
//! A file of a process of this machine belongs to it as long as that process is there, suspended or not. That of another
//! machine's process belongs to nobody when it was not touched for minutes, by the file system's own clock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::error::{READ, Result, StoreError};
use crate::store::Store;

/// How often a file is touched.
const PULSE: Duration = Duration::from_secs(5);

/// A file that was not touched for so long belongs to nobody.
const STALE: Duration = Duration::from_secs(300);

/// What a process does in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It reads and makes results.
    Run,
    /// It removes what nobody holds.
    Collection,
}

impl Role {
    fn prefix(self) -> &'static str {
        match self {
            Self::Run => "run-",
            Self::Collection => "gc-",
        }
    }
}

/// Says that we are there until it is dropped.
#[derive(Debug)]
pub struct Presence {
    path: PathBuf,
    stop: Option<Sender<()>>,
    pulse: Option<JoinHandle<()>>,
}

/// Says that a process is at work; `owner` tells people who and what.
///
/// # Errors
/// When the store can not be written.
pub fn announce(store: &Store, role: Role, owner: &str) -> Result<Presence> {
    store.writable("say who is at work in")?;
    let folder = store.root().join("live");
    fs::create_dir_all(&folder).map_err(|source| StoreError::io("make the folder", &folder, source))?;
    let name = crate::log::unique_name();
    let path = folder.join(format!("{}{name}", role.prefix()));
    let owner = owner.replace(['\n', '\r'], " ");
    // Under its final name only when it is whole: half a file would read as a process of another machine.
    let staged = folder.join(format!(".{name}"));
    let written = File::create(&staged).and_then(|mut file| {
        file.write_all(format!("{}\n{}\n{owner}\n", process(), place()).as_bytes())?;
        fs::rename(&staged, &path)?;
        Ok(file)
    });
    let file = written.map_err(|source| {
        drop(fs::remove_file(&staged));
        StoreError::io("write", &path, source)
    })?;
    let (stop, stopped) = channel::<()>();
    let pulse = std::thread::Builder::new().name("pulse".to_owned()).spawn(move || {
        while stopped.recv_timeout(PULSE) == Err(RecvTimeoutError::Timeout) {
            // Not being able to touch it makes us look dead, which costs at most a second computation.
            drop(crate::claim::touch(&file));
        }
    });
    Ok(Presence {
        path,
        stop: Some(stop),
        pulse: pulse.ok(),
    })
}

impl Drop for Presence {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(pulse) = self.pulse.take() {
            drop(pulse.join());
        }
        drop(fs::remove_file(&self.path));
    }
}

/// The owners of the processes that are at work in that role, `ours` left out. Files of dead ones are removed.
///
/// # Errors
/// When the store can not be read.
pub fn present(store: &Store, role: Role, ours: Option<&Presence>) -> Result<Vec<String>> {
    let folder = store.root().join("live");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| StoreError::io(READ, &folder, source))?,
    };
    let mut owners = Vec::new();
    let mut now = None;
    for entry in entries {
        let path = entry.map_err(|source| StoreError::io(READ, &folder, source))?.path();
        let named = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with(role.prefix()));
        if !named || ours.is_some_and(|ours| ours.path == path) {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(touched) = fs::metadata(&path).and_then(|meta| meta.modified()) else {
            continue;
        };
        let now = match now {
            Some(now) => now,
            None => *now.insert(clock(store)?),
        };
        let age = now.duration_since(touched).unwrap_or_default();
        let mut lines = text.lines();
        let (id, place_of_owner) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let gone = if place_of_owner == place() {
            is_dead(id)
        } else {
            age > STALE
        };
        if gone {
            if !store.is_read_only() {
                drop(fs::remove_file(&path));
            }
            continue;
        }
        owners.push(lines.next().unwrap_or_default().chars().take(200).collect());
    }
    owners.sort();
    Ok(owners)
}

/// The time by the clock of the store's file system, which all machines that share it agree on. A store that may only be
/// read is asked by this machine's clock.
///
/// # Errors
/// When the store can not be written although it should.
pub fn clock(store: &Store) -> Result<SystemTime> {
    if store.is_read_only() {
        return Ok(SystemTime::now());
    }
    let folder = store.root().join("staging");
    let path = folder.join(crate::log::unique_name());
    let now = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, ""))
        .and_then(|()| fs::metadata(&path)?.modified());
    drop(fs::remove_file(&path));
    now.map_err(|source| StoreError::io("write", &path, source))
}

/// What tells this machine, since its start and as this container sees its processes, from others. Where nothing does, it
/// is no other's place and no second time its own: silence alone tells then.
pub(crate) fn place() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let boot = read("/proc/sys/kernel/random/boot_id");
    if boot.is_empty() {
        return crate::log::unique_name();
    }
    let space = fs::read_link(Path::new("/proc/self/ns/pid")).unwrap_or_default();
    format!("{} {boot} {}", read("/proc/sys/kernel/hostname"), space.display())
}

/// This process, as [`is_dead`] knows it: its id, and when it started, since ids are given again.
pub(crate) fn process() -> String {
    let id = std::process::id().to_string();
    match started(&id) {
        Some(time) => format!("{id} {time}"),
        None => id,
    }
}

/// When a process of this machine started, in ticks since the machine did.
fn started(id: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in brackets may hold anything; the 22nd field is the 20th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

/// Whether a process of this machine is no more. `false` where that can not be told.
pub(crate) fn is_dead(process: &str) -> bool {
    let (id, start) = process.split_once(' ').unwrap_or((process, ""));
    let Some(known) = id.parse().ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    match rustix::process::test_kill_process(known) {
        Err(error) => error == rustix::io::Errno::SRCH,
        Ok(()) => !start.is_empty() && started(id).is_some_and(|other| other != start),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::StoreOptions;

    #[test]
    fn those_at_work_are_seen_until_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &StoreOptions::default()).unwrap();
        assert!(present(&store, Role::Run, None).unwrap().is_empty());
        let run = announce(&store, Role::Run, "someone").unwrap();
        assert_eq!(present(&store, Role::Run, None).unwrap(), ["someone"]);
        assert!(present(&store, Role::Run, Some(&run)).unwrap().is_empty());
        assert!(present(&store, Role::Collection, None).unwrap().is_empty());
        drop(run);
        assert!(present(&store, Role::Run, None).unwrap().is_empty());
    }

    #[test]
    fn the_dead_and_the_silent_are_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &StoreOptions::default()).unwrap();
        let live = folder.path().join("live");
        fs::create_dir_all(&live).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        if cfg!(target_os = "linux") {
            fs::write(live.join("run-dead"), format!("{}\n{}\ndead\n", child.id(), place())).unwrap();
        }
        // Another machine's process can not be asked; its silence tells.
        fs::write(live.join("run-far"), "1\nelsewhere\nfar\n").unwrap();
        fs::write(live.join("run-silent"), "1\nelsewhere\nsilent\n").unwrap();
        let silent = File::open(live.join("run-silent")).unwrap();
        silent.set_modified(SystemTime::now() - 2 * STALE).unwrap();
        assert_eq!(present(&store, Role::Run, None).unwrap(), ["far"]);
        assert!(!live.join("run-silent").exists());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_of_this_machine_may_be_silent_and_its_id_may_be_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &StoreOptions::default()).unwrap();
        let live = folder.path().join("live");
        fs::create_dir_all(&live).unwrap();
        let silent = |name: &str, process: &str| {
            let path = live.join(name);
            fs::write(&path, format!("{process}\n{}\n{name}\n", place())).unwrap();
            let past = SystemTime::now() - 2 * STALE;
            File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_modified(past)
                .unwrap();
        };
        silent("run-suspended", &process());
        silent("run-reused", &format!("{} 1", std::process::id()));
        assert_eq!(present(&store, Role::Run, None).unwrap(), ["run-suspended"]);
    }
}
