//! Ctrl-C: once lets what is in flight finish, twice stops at once.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::project::{Project, SPEC, count};

/// The small quickstart with so many samples that most of them wait for room in the batch.
fn many() -> Project {
    let project = Project::small();
    project.edit(SPEC, |text| text.replace("samples: 2", "samples: 24"));
    project
}

/// A run that is in the middle of generating.
fn in_flight(project: &Project) -> Child {
    let mut command = project.command(&["run", SPEC, "--events", "json", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        events.any(|line| line.unwrap().contains("\"event\":\"progress\"")),
        "it ended before it made progress"
    );
    drop(std::thread::spawn(move || events.count()));
    child
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn once_stops_soon_and_the_next_run_goes_on() {
    let undisturbed = many();
    let alone = undisturbed.run(&[]);
    let project = many();
    let child = in_flight(&project);
    interrupt(&child);
    let asked = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(output.status.code(), Some(130));
    let stopped: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(count(&stopped, "tasks", "skipped") > 0, "{stopped}");
    let (before, all) = (count(&stopped, "rows", "generated"), count(&alone, "rows", "generated"));
    assert!(
        0 < before && before < all,
        "{before} of {all}: waiting requests are dropped, those in flight finish"
    );
    let runs = project.fracture(&["runs", "--json"]).ok().json();
    assert_eq!(runs[0]["outcome"], "interrupted");
    let rest = project.run(&[]);
    assert_eq!(before + count(&rest, "rows", "generated"), all, "{rest}");
    assert_eq!(project.outputs(), undisturbed.outputs());
}

#[test]
fn twice_stops_at_once() {
    let project = many();
    let child = in_flight(&project);
    interrupt(&child);
    // Two signals that come together are one.
    std::thread::sleep(Duration::from_millis(50));
    interrupt(&child);
    let asked = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    project.run(&[]);
}

/// A run whose program is at work, its folder below the project's `tmp`.
struct Programs {
    project: Project,
    child: Child,
    program: Pid,
}

impl Programs {
    /// Starts a pipeline of one stage: a shell that says its number and does `what`.
    fn started(what: &str) -> Self {
        let project = Project::shipped();
        project.write(
            "own.yaml",
            &format!(
                "version: 1\nname: own\nstages:\n  waits: {{ uses: command, with: {{ run: [sh, -c, '{what}'], env: [AT] }} }}\n"
            ),
        );
        std::fs::create_dir(project.path("tmp")).unwrap();
        let child = Self::command(&project).spawn().unwrap();
        let begun = Instant::now();
        let program = loop {
            let written = std::fs::read_to_string(project.path("pid")).unwrap_or_default();
            if let Some(id) = written.trim().parse().ok().and_then(Pid::from_raw) {
                break id;
            }
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        };
        Self {
            project,
            child,
            program,
        }
    }

    fn command(project: &Project) -> std::process::Command {
        let mut command = project.command(&["run", "own.yaml"]);
        command
            .env("AT", project.root())
            .env("TMPDIR", project.path("tmp"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process ends, and then a moment until the program is gone; gives the exit code.
    fn ended(&mut self) -> Option<i32> {
        let asked = Instant::now();
        let code = self.child.wait().unwrap().code();
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        while is_at_work(self.program) {
            assert!(asked.elapsed() < Duration::from_secs(10), "the program goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
        code
    }

    fn folders(&self) -> usize {
        std::fs::read_dir(self.project.path("tmp")).unwrap().count()
    }
}

/// Whether a process is there and no mere name that nobody has waited for.
fn is_at_work(process: Pid) -> bool {
    match std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())) {
        Ok(stat) => !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => rustix::process::test_kill_process(process).is_ok() && !cfg!(target_os = "linux"),
    }
}

#[test]
fn a_program_that_runs_is_stopped_by_whatever_interrupts() {
    // Who ignores it, as under `nohup`, passes that on.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        if signal == Signal::HUP && mask & 1 == 1 {
            eprintln!("SKIPPED: SIGHUP is ignored here");
            continue;
        }
        let mut programs = Programs::started("echo $$ > $AT/pid; sleep 300");
        programs.send(signal);
        assert_eq!(programs.ended(), Some(130), "{signal:?}");
        assert_eq!(programs.folders(), 0);
        let runs = programs.project.fracture(&["runs", "--json"]).ok().json();
        assert_eq!(runs[0]["outcome"], "interrupted", "{signal:?}");
    }
}

#[test]
fn a_second_interruption_kills_programs_that_do_not_stop() {
    let mut programs = Programs::started("trap : TERM; echo $$ > $AT/pid; while :; do sleep 1; done");
    programs.send(Signal::INT);
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    programs.send(Signal::TERM);
    assert_eq!(programs.ended(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(programs.folders(), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_kill_takes_the_program_along_and_the_next_run_sweeps_its_folder() {
    let mut programs = Programs::started("test -e $AT/pid && exit 1; echo $$ > $AT/pid; while :; do sleep 1; done");
    programs.send(Signal::KILL);
    assert_eq!(programs.ended(), None);
    assert_eq!(programs.folders(), 1);
    let again = Programs::command(&programs.project).status().unwrap();
    assert_eq!(again.code(), Some(1));
    assert_eq!(programs.folders(), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn the_next_run_kills_what_the_program_of_a_killed_run_had_started() {
    // In a session of its own, so that no signal to a group reaches it.
    let program = "test -e $AT/pid && exit 0; setsid sh -c \"echo \\$\\$ > $AT/grandchild; exec sleep 300\" & \
                   while ! test -s $AT/grandchild; do sleep 0.01; done; echo $$ > $AT/pid; while :; do sleep 1; done";
    let mut programs = Programs::started(program);
    programs.send(Signal::KILL);
    assert_eq!(programs.ended(), None);
    let number = std::fs::read_to_string(programs.project.path("grandchild")).unwrap();
    let grandchild = Pid::from_raw(number.trim().parse().unwrap()).unwrap();
    assert!(is_at_work(grandchild), "the system does not pass death on");
    // One that only stands in the folder belongs to somebody else.
    let folders = std::fs::read_dir(programs.project.path("tmp")).unwrap();
    let folder = folders.map(|entry| entry.unwrap().path().join("work")).next().unwrap();
    let mut guest = std::process::Command::new("sleep")
        .arg("300")
        .current_dir(folder)
        .spawn()
        .unwrap();
    let mut again = Programs::command(&programs.project);
    let told = String::from_utf8(again.stderr(Stdio::piped()).output().unwrap().stderr).unwrap();
    // What the program waited for may be there still.
    assert!(told.contains("killed ") && told.contains("had left running"), "{told}");
    let asked = Instant::now();
    while is_at_work(grandchild) {
        assert!(asked.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(is_at_work(Pid::from_child(&guest)));
    guest.kill().unwrap();
    guest.wait().unwrap();
    assert_eq!(programs.folders(), 0);
}
