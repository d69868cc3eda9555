//! What is asked again, and what is not: after kills, interruptions, failures, and on purpose.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::server::{Reply, Server, answer, error, says};
use super::{SPEC, project, rows, run};
use crate::project::Ran;

#[test]
fn killed_in_the_middle_it_asks_only_for_what_did_not_land() {
    let server = Server::start(|seen, _| Reply::Late(Duration::from_millis(40), answer(seen)));
    let project = project(&server.url(), ", concurrency: 2", "temperature: 0.5", 40);
    let mut child = project
        .command(&["run", SPEC])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while server.count() < 15 {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let before = server.count();
    assert!(before < 40);
    let summary = run(&project, &[]).ok().json();
    // At most those on their way when it died are asked again.
    assert!(server.count() <= 42, "{} and then {}", before, server.count());
    assert_eq!(
        summary["rows"]["reused"].as_u64().unwrap() + summary["rows"]["generated"].as_u64().unwrap(),
        40
    );
}

#[test]
fn an_interruption_stops_soon_and_keeps_what_landed() {
    let server = Server::start(|seen, number| match number {
        0..4 => Reply::Json(200, answer(seen)),
        _ => Reply::Raw(429, vec![("retry-after", "60".to_owned())], Vec::new()),
    });
    let project = project(&server.url(), ", concurrency: 2", "temperature: 0.5", 20);
    let child = project
        .command(&["run", SPEC])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    // The first refusal makes the others wait, so there may be no second one.
    while server.count() < 5 {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn rows_that_fail_alone_are_tried_again_by_the_next_run() {
    let server =
        Server::start(
            |seen, number| match seen.body["messages"][0]["content"] == "Question 2?" && number < 10 {
                true => error(400, "context_length_exceeded", "maximum context length is 8 tokens"),
                false => Reply::Json(200, answer(seen)),
            },
        );
    let project = project(&server.url(), "", "temperature: 0", 8);
    let first = run(&project, &[]).code(1);
    assert!(
        first.stderr.contains("1 of 8 rows failed") && first.stderr.contains("do not fit into the model's context"),
        "{}",
        first.stderr
    );
    assert_eq!(server.count(), 8);
    run(&project, &[]).code(1);
    assert_eq!(server.count(), 9);
    run(&project, &[]).code(1);
    let summary = run(&project, &[]).ok().json();
    assert_eq!(
        (
            &summary["rows"]["generated"],
            &summary["rows"]["reused"],
            server.count()
        ),
        (&json!(1), &json!(7), 11)
    );
}

#[test]
fn two_tasks_share_rows() {
    let server = Server::good();
    let project = project(&server.url(), "", "temperature: 0", 5);
    let also = "  twin: { source: openai://some-model, base_url: 'URL' }\nstages:".replace("URL", &server.url());
    project.edit(SPEC, |text| {
        text.replace("stages:", &also).replace(
            "    with: { model: far",
            "    matrix: { model: [far, twin] }\n    with: { model: '${matrix.model}'",
        )
    });
    run(&project, &[]).ok();
    assert_eq!((server.count(), rows(&project).len()), (5, 10));
}

#[test]
fn a_refresh_draws_anew_and_overwrites_nothing() {
    let server = Server::start(|seen, number| Reply::Json(200, says(seen, &format!("Draw {number}."))));
    let project = project(&server.url(), ", concurrency: 1", "temperature: 0", 2);
    let texts = || -> Vec<String> {
        rows(&project)
            .iter()
            .map(|row| row["completion"].as_str().unwrap().to_owned())
            .collect()
    };
    let lock = || fs::read_to_string(project.path("pipelines/served.lock")).unwrap();
    run(&project, &[]).ok();
    assert_eq!(texts(), ["Draw 0.", "Draw 1."]);
    let first = lock();
    fs::write(project.path("first.lock"), &first).unwrap();
    assert_eq!(
        run(&project, &["--refresh", "answers"]).ok().json()["rows"]["generated"],
        2
    );
    assert_eq!(texts(), ["Draw 2.", "Draw 3."]);
    assert!(lock().contains("refresh\tanswers\t1\n"), "{}", lock());
    // A plain run means the newest, and so does whoever has the lock file.
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    run(&project, &["--locked"]).ok();
    assert_eq!(
        (texts(), server.count()),
        (vec!["Draw 2.".to_owned(), "Draw 3.".to_owned()], 4)
    );
    let diff = project.fracture(&["diff", "first.lock", "pipelines/served.lock"]);
    assert!(diff.stdout.contains("answers"), "{} {}", diff.stdout, diff.stderr);
    // The old lock file still leads to the old results.
    let newest = lock();
    fs::write(project.path("pipelines/served.lock"), &first).unwrap();
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(texts(), ["Draw 0.", "Draw 1."]);
    // Of the two sides of a merge the newer draw counts.
    fs::write(project.path("pipelines/served.lock"), format!("{first}{newest}")).unwrap();
    assert_eq!(run(&project, &[]).ok().json()["tasks"]["ran"], 0);
    assert_eq!(
        (texts(), server.count(), lock()),
        (vec!["Draw 2.".to_owned(), "Draw 3.".to_owned()], 4, newest)
    );
    let nothing = run(&project, &["--refresh", "prompts"]).code(2);
    assert!(
        nothing.stderr.contains("no task of a served model"),
        "{}",
        nothing.stderr
    );
}

#[test]
fn a_refresh_that_was_cut_short_is_finished_not_begun_again() {
    let server = Server::start(|seen, number| match number {
        5.. if number < 40 && seen.body["messages"][0]["content"] == "Question 1?" => error(400, "x", "not now"),
        _ => Reply::Json(200, says(seen, &format!("Draw {number}."))),
    });
    let project = project(
        &server.url(),
        ", concurrency: 1, max_error_rate: 1",
        "temperature: 0",
        5,
    );
    run(&project, &[]).ok();
    run(&project, &["--refresh", "answers"]).code(1);
    assert_eq!(server.count(), 10);
    // The rows that landed are not asked again, whichever way the run goes on.
    run(&project, &["--refresh", "answers"]).code(1);
    run(&project, &[]).code(1);
    assert_eq!(server.count(), 12);
}

#[test]
fn a_server_that_changes_its_name_is_told() {
    let server = Server::start(|seen, number| {
        let mut said = answer(seen);
        if number >= 2 {
            said["system_fingerprint"] = json!("fp_2");
        }
        Reply::Json(200, said)
    });
    let project = project(&server.url(), "", "temperature: 0", 2);
    let first = Ran::of(&mut project.command(&["run", SPEC])).ok();
    assert!(!first.stderr.contains("fp_1"), "{}", first.stderr);
    let again = Ran::of(&mut project.command(&["run", SPEC, "--refresh", "answers"])).ok();
    assert!(
        again
            .stderr
            .contains("served-1 fp_2; when it was last recorded it was served-1 fp_1"),
        "{}",
        again.stderr
    );
    assert!(
        again.stderr.contains("served: 2 requests, 20 tokens in"),
        "{}",
        again.stderr
    );
}
