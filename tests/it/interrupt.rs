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

#[test]
fn a_program_that_runs_is_stopped() {
    let project = Project::shipped();
    project.write(
        "own.yaml",
        "version: 1\nname: own\nstages:\n  waits: { uses: command, with: { run: [sh, -c, 'echo $$ > $PWD_OF/pid; sleep 300'], \
         env: [PWD_OF] } }\n",
    );
    let mut command = project.command(&["run", "own.yaml"]);
    command
        .env("PWD_OF", project.root())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    let id = loop {
        let written = std::fs::read_to_string(project.path("pid")).unwrap_or_default();
        if let Ok(id) = written.trim().parse() {
            break id;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    };
    interrupt(&child);
    let asked = Instant::now();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let there = rustix::process::test_kill_process(Pid::from_raw(id).unwrap());
    assert!(there.is_err(), "the program goes on");
}
