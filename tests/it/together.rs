//! Several processes on one store: each task normally runs once, the others wait for it and take it, and an owner that is
//! killed or suspended is replaced.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::project::{Project, SPEC, count};

/// The small quickstart, with enough samples to be met in the middle.
fn longer() -> Project {
    let project = Project::small();
    project.edit(SPEC, |text| text.replace("samples: 2", "samples: 16"));
    project
}

/// A run that writes its events, whose tasks others may take over after a second of silence.
fn start(project: &Project) -> Child {
    let mut command = project.command(&["run", SPEC, "--events", "json", "--json"]);
    command
        .env("FRACTURE_PATIENCE", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until a run has told so many events of a kind.
fn until(child: &mut Child, event: &str, times: usize) -> BufReader<std::process::ChildStderr> {
    let mut events = BufReader::new(child.stderr.take().unwrap());
    let wanted = format!("\"event\":\"{event}\"");
    let mut left = times;
    let mut line = String::new();
    while left > 0 {
        line.clear();
        assert!(
            events.read_line(&mut line).unwrap() > 0,
            "it ended before it told of {event}"
        );
        left -= usize::from(line.contains(&wanted));
    }
    events
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Lets a run end; gives its summary.
fn ended(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn claims(project: &Project) -> usize {
    fs::read_dir(project.path(".fracture/claims")).unwrap().count()
}

#[test]
fn several_processes_share_the_work_and_agree() {
    let undisturbed = Project::small();
    let alone = undisturbed.run(&[]);
    let expected = undisturbed.outputs();
    for processes in [2, 8] {
        let project = Project::small();
        let children: Vec<Child> = (0..processes)
            .map(|_| {
                let mut command = project.command(&["run", SPEC, "--json"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let summaries: Vec<Value> = children.into_iter().map(ended).collect();
        let sum =
            |group: &str, name: &str| -> u64 { summaries.iter().map(|summary| count(summary, group, name)).sum() };
        for (group, name) in [("tasks", "ran"), ("rows", "generated")] {
            // A task normally runs once. Two processes may begin one in the same moment, which costs time and no more.
            let (done, least) = (sum(group, name), count(&alone, group, name));
            assert!(
                (least..2 * least).contains(&done),
                "{group} {name} of {processes} processes: {done} of {least}: {summaries:?}"
            );
        }
        // Texts that two tasks share may be judged by two processes at the same moment.
        let (judged, least) = (sum("rows", "judged"), count(&alone, "rows", "judged"));
        assert!(
            (least..2 * least).contains(&judged),
            "{judged} of {least}: {summaries:?}"
        );
        assert_eq!(project.outputs(), expected, "{processes} processes");
        assert_eq!(claims(&project), 0, "nothing is left behind");
        let checked = project.fracture(&["cache", "check", "--json"]).ok().json();
        assert_eq!(checked["divergent"], serde_json::json!([]));
    }
}

#[test]
fn a_suspended_owner_is_replaced_and_its_late_results_do_no_harm() {
    let undisturbed = longer();
    undisturbed.run(&[]);
    let project = longer();
    let mut suspended = start(&project);
    let events = until(&mut suspended, "progress", 3);
    signal(&suspended, Signal::STOP);
    assert!(claims(&project) > 0, "it holds what it computes");
    let other = ended(start(&project));
    assert!(count(&other, "tasks", "ran") > 0, "{other}");
    assert_eq!(project.outputs(), undisturbed.outputs());
    signal(&suspended, Signal::CONT);
    drop(std::thread::spawn(move || events.lines().count()));
    let late = suspended.wait_with_output().unwrap();
    assert!(late.status.success());
    assert_eq!(project.outputs(), undisturbed.outputs());
    assert_eq!(claims(&project), 0);
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
}

#[test]
fn whoever_waits_goes_on_with_the_rows_of_a_killed_owner() {
    let project = longer();
    let alone = longer().run(&[]);
    let mut killed = start(&project);
    let events = until(&mut killed, "progress", 3);
    let started = Instant::now();
    let mut waiting = start(&project);
    let notes = until(&mut waiting, "note", 1);
    // Rows land in the memo every second.
    std::thread::sleep(Duration::from_millis(1_200).saturating_sub(started.elapsed()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    drop(events);
    drop(std::thread::spawn(move || notes.lines().count()));
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        count(&summary, "rows", "generated") < count(&alone, "rows", "generated"),
        "the rows of the dead are not generated again: {summary}"
    );
}
