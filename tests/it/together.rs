//! Several processes on one store: each task normally runs once, the others wait for it and take it, and an owner that is
//! killed or suspended is replaced.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::project::{Project, Ran, SPEC, count};

/// The small quickstart, with enough samples to be met in the middle.
fn longer() -> Project {
    samples(16)
}

fn samples(count: u32) -> Project {
    let project = Project::small();
    project.edit(SPEC, |text| text.replace("samples: 2", &format!("samples: {count}")));
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
            let (done, least) = (sum(group, name), count(&alone, group, name));
            assert_eq!(done, least, "{group} {name} of {processes} processes: {summaries:?}");
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
    // Rows are written every second: one model's take several.
    let project = samples(96);
    let undisturbed = samples(96);
    let alone = undisturbed.run(&[]);
    let mut killed = start(&project);
    let events = until(&mut killed, "progress", 1);
    drop(std::thread::spawn(move || events.lines().count()));
    let mut waiting = start(&project);
    let notes = until(&mut waiting, "note", 1);
    // Rows that landed are written every second, however busy the disk is.
    let begun = Instant::now();
    while rows_on_disk(&project) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no row is written");
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    assert!(
        killed.wait().unwrap().code().is_none(),
        "it was over before it was killed"
    );
    drop(std::thread::spawn(move || notes.lines().count()));
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        count(&summary, "rows", "generated") < count(&alone, "rows", "generated"),
        "the rows of the dead are not generated again: {summary}"
    );
    assert!(count(&summary, "rows", "reused") > 0, "{summary}");
    assert_eq!(project.outputs(), undisturbed.outputs());
}

/// The bytes of rows in the memo's segments.
fn rows_on_disk(project: &Project) -> u64 {
    let lineages = fs::read_dir(project.path(".fracture/memo")).into_iter().flatten();
    let files = lineages.flat_map(|lineage| fs::read_dir(lineage.unwrap().path()).into_iter().flatten());
    let rows = files
        .map(|file| file.unwrap())
        .filter(|file| file.path().extension().is_some_and(|end| end == "rows"));
    rows.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum()
}

/// The program as on another machine that shares the folder: another name, processes that ours can not see.
fn elsewhere(project: &Project, args: &[&str]) -> Command {
    let ours = project.command(args);
    let mut far = Command::new("unshare");
    far.args(["--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"])
        .arg("hostname elsewhere && exec \"$0\" \"$@\"")
        .arg(ours.get_program())
        .args(ours.get_args())
        .current_dir(project.root())
        .stdin(Stdio::null())
        .env_remove("FRACTURE_STORE")
        .env("FRACTURE_PATIENCE", "1");
    far
}

#[test]
fn machines_that_share_a_folder_share_the_work_and_replace_each_other() {
    let project = longer();
    let able = elsewhere(&project, &["--version"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a machine can not be feigned here by `unshare`");
        return;
    }
    let undisturbed = longer();
    let alone = undisturbed.run(&[]);
    let mut far = elsewhere(&project, &["run", SPEC, "--events", "json", "--json"]);
    let mut killed = far.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let events = until(&mut killed, "progress", 1);
    drop(std::thread::spawn(move || events.lines().count()));
    assert!(claims(&project) > 0);
    // Its process can not be asked from here: it is replaced when it is silent for the patience, a second here.
    let mut near = start(&project);
    let notes = until(&mut near, "note", 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    drop(std::thread::spawn(move || notes.lines().count()));
    let output = near.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(project.outputs(), undisturbed.outputs());
    // Both at once, from an empty store: each task runs once.
    fs::remove_dir_all(project.path(".fracture")).unwrap();
    fs::remove_file(project.path("pipelines/quickstart.lock")).unwrap();
    let mut far = elsewhere(&project, &["run", SPEC, "--json"]);
    let far = far.env("FRACTURE_PATIENCE", "30");
    let far = far.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut near = project.command(&["run", SPEC, "--json"]);
    let near = near.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let both = [ended(far), ended(near)];
    for (group, name) in [("tasks", "ran"), ("rows", "generated")] {
        let done: u64 = both.iter().map(|summary| count(summary, group, name)).sum();
        assert_eq!(done, count(&alone, group, name), "{group} {name}: {both:?}");
    }
    assert_eq!(project.outputs(), undisturbed.outputs());
}

#[test]
fn no_file_is_locked() {
    let project = Project::small();
    let log = project.path("calls");
    let run = project.command(&["run", SPEC, "--only", "+verdicts"]);
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=flock,fcntl", "-o"])
        .arg(&log)
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(project.root())
        .env_remove("FRACTURE_STORE")
        .stdin(Stdio::null())
        .output();
    if !traced.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: system calls can not be traced here");
        return;
    }
    let calls = fs::read_to_string(log).unwrap();
    let locks: Vec<&str> = calls
        .lines()
        .filter(|call| call.contains("flock(") || call.contains("LK"))
        .collect();
    assert!(locks.is_empty(), "shared folders often have no locks: {locks:?}");
}

#[test]
fn another_result_of_a_late_owner_is_kept_as_a_divergence_and_reported() {
    let project = Project::shipped();
    let own = "own.yaml";
    // Each run of it gives another table, which no key knows.
    project.write(
        own,
        "version: 1\nname: own\nstages:\n  draw:\n    uses: command\n    with:\n      run: [sh, -c, 'touch $HERE/begun; \
         while [ ! -e $HERE/go ]; do sleep 0.02; done; (echo item; echo p$$) > $OUT/main.csv']\n      env: [HERE]\n",
    );
    let start = || {
        let mut command = project.command(&["run", own, "--json", "--events", "json"]);
        command.env("FRACTURE_PATIENCE", "1").env("HERE", project.root());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let wait_for = |name: &str| {
        let begun = Instant::now();
        while !project.path(name).exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{name} does not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let late = start();
    wait_for("begun");
    signal(&late, Signal::STOP);
    fs::remove_file(project.path("begun")).unwrap();
    let other = start();
    wait_for("begun");
    // The program of the suspended run goes on by itself.
    project.write("go", "");
    let output = other.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stands = project.fracture(&["show", own, "draw", "--json"]).ok().stdout;
    let checked = project.fracture(&["cache", "check", "--json"]).ok().json();
    assert_eq!(checked["divergent"], serde_json::json!([]));
    signal(&late, Signal::CONT);
    let output = late.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && told.contains("kept as a divergence"),
        "{told}"
    );
    let checked = project.fracture(&["cache", "check", "--json"]).ok().json();
    assert_eq!(checked["divergent"], serde_json::json!(["draw"]));
    assert_eq!(project.fracture(&["show", own, "draw", "--json"]).ok().stdout, stands);
}

#[test]
fn a_time_to_wait_that_is_none_is_refused() {
    let project = Project::small();
    for wrong in ["soon", "-1", "0", "NaN"] {
        let mut command = project.command(&["run", SPEC]);
        let ran = Ran::of(command.env("FRACTURE_PATIENCE", wrong)).code(2);
        assert!(ran.stderr.contains("FRACTURE_PATIENCE"), "{}", ran.stderr);
    }
}
