//! A program in a process group of its own: started, watched, and killed with everything that it started.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::quote::Passed;
use crate::running;

/// How long a program may take to stop after it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// The longest time between two looks at a program.
const PAUSE: Duration = Duration::from_millis(20);

/// What is started where.
pub struct Program<'a> {
    /// The program and its arguments.
    pub run: &'a [&'a str],
    /// The folder in which it runs; relative names of programs are looked up here.
    pub folder: &'a Path,
    /// Variables that it gets beside `PATH` and those passed on.
    pub given: &'a [(&'a str, &'a Path)],
    /// Variables that are passed on.
    pub passed: &'a Passed,
    /// Where its stdout goes.
    pub stdout: &'a Path,
    /// Where its stderr goes.
    pub stderr: &'a Path,
}

/// How a program came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an exit code.
    Code(i32),
    /// By a signal that did not come from here.
    Signal(i32),
    /// Killed because it took too long.
    TimedOut,
    /// Killed because the user interrupted.
    Cancelled,
}

/// Runs a program to its end. Whatever it leaves running is killed.
///
/// # Errors
/// When it can not be started or watched.
pub fn run(program: &Program<'_>, timeout: Option<Duration>, cancelled: &AtomicBool) -> io::Result<Ending> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut child = start(program)?;
    let group = Pid::from_child(&child);
    let mut pause = Duration::from_millis(1);
    let stopped = loop {
        match ended(group) {
            Ok(true) => break None,
            Ok(false) => {}
            Err(error) => {
                kill(&mut child, group)?;
                return Err(error);
            }
        }
        if cancelled.load(Ordering::Relaxed) {
            break Some(Ending::Cancelled);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break Some(Ending::TimedOut);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
    };
    if stopped.is_some() {
        ask_to_stop(group);
    }
    let status = kill(&mut child, group)?;
    Ok(stopped.unwrap_or_else(|| ending(status)))
}

fn start(program: &Program<'_>) -> io::Result<Child> {
    let name = program.run.first().copied().unwrap_or_default();
    // Where a relative name is looked up is not the same on every system: it is made absolute.
    let mut command = if name.contains('/') {
        Command::new(program.folder.join(name))
    } else {
        Command::new(name)
    };
    command
        .args(program.run.iter().skip(1))
        .current_dir(program.folder)
        .env_clear();
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs(program.passed.iter()).envs(program.given.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(File::create(program.stdout)?)
        .stderr(File::create(program.stderr)?);
    let mut tries = 0;
    loop {
        match running::spawn(&mut command) {
            // Another thread's child may for a moment still hold the file that was just written.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < 50 => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// Whether the program ended. It is left as it is, so that the number of its group can not be given to another yet.
fn ended(group: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(group), options)?.is_some())
}

fn ask_to_stop(group: Pid) {
    // A group that is gone needs no signal.
    kill_process_group(group, Signal::TERM).ok();
    let asked = Instant::now();
    while asked.elapsed() < GRACE && !ended(group).unwrap_or(true) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(child: &mut Child, group: Pid) -> io::Result<ExitStatus> {
    // What is left of the group; an error means that nothing is.
    kill_process_group(group, Signal::KILL).ok();
    running::forget(group);
    child.wait()
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, signal) => Ending::Signal(signal.unwrap_or(0)),
    }
}
