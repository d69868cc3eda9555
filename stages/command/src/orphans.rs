//! What programs started and a killed run left behind. A death signal reaches the program itself and nothing that it
//! started, so a later process looks for those that have the folder's paths in their environment: the folder is still
//! there, so its name was given to no other program, and nobody but a program has its `IN` and `OUT`. A process that
//! cleared its environment is not known by it, and is left alone.

use std::path::Path;

/// Kills the processes that run on a folder of a dead process; gives how many there were. Only Linux shows the environment
/// of processes.
#[cfg(target_os = "linux")]
pub fn kill(folder: &Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// One that starts others while it is looked at is looked at again.
    const ROUNDS: usize = 5;
    let Ok(folder) = folder.canonicalize() else { return 0 };
    let ours = rustix::process::getuid().as_raw();
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let before = killed;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(process) = number.and_then(Pid::from_raw) else {
                continue;
            };
            if entry.metadata().map(|meta| meta.uid()).ok() != Some(ours) || !runs_on(&folder, &entry.path()) {
                continue;
            }
            // The number may be another's by now: the handle stays with one process, which is looked at again.
            let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else {
                continue;
            };
            if runs_on(&folder, &entry.path()) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
                killed += 1;
            }
        }
        if killed == before {
            break;
        }
    }
    killed
}

/// Nothing is known of other processes here.
#[cfg(not(target_os = "linux"))]
pub fn kill(_: &Path) -> usize {
    0
}

/// Whether a process, a folder of `/proc`, was given this folder to work in. One that is over has no environment.
#[cfg(target_os = "linux")]
fn runs_on(folder: &Path, process: &Path) -> bool {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let environment = std::fs::read(process.join("environ")).unwrap_or_default();
    let has = |name: &[u8], path: &str| {
        let mut values = environment.split(|byte| *byte == 0);
        let value = values.find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="));
        value.is_some_and(|value| Path::new(OsStr::from_bytes(value)) == folder.join(path))
    };
    has(b"IN", "in") && has(b"OUT", "out")
}
