//! A user's own program as a stage, end to end.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::project::{Project, Ran, count};

const SPEC: &str = "pipelines/own.yaml";

const PIPELINE: &str = "\
version: 1
name: own
stages:
  scores:
    uses: load
    matrix: { table: { one: one.csv, two: two.csv } }
    with: { path: \"${matrix.table}\" }
  high:
    uses: command
    needs: scores
    with:
      run: [python3, scripts/filter.py, 0.5]
      reads: jsonl
      files: [scripts/filter.py]
      yields: { item: text, table: text, score: number }
      timeout: 60s
  counted:
    uses: query
    needs: high
    with: { sql: 'SELECT \"table\", COUNT(*) AS n FROM high GROUP BY \"table\"' }
";

const FILTER: &str = "\
import json, os, sys
least = float(sys.argv[1])
with open(os.environ['IN'] + '/scores.jsonl') as rows, open(os.environ['OUT'] + '/main.jsonl', 'w') as out:
    for row in map(json.loads, rows):
        if row['score'] >= least:
            out.write(json.dumps({name: row[name] for name in ('item', 'table', 'score')}) + '\\n')
";

fn project() -> Project {
    let project = Project::shipped();
    project.write(SPEC, PIPELINE);
    project.write("one.csv", "item,score\na,0.25\nb,0.75\n");
    project.write("two.csv", "item,score\na,0.5\nb,0.125\nc,1\n");
    project.write("scripts/filter.py", FILTER);
    project.write("scripts/other.py", "print('not listed')\n");
    project
}

/// The same project with another program.
fn with_script(run: &str) -> Project {
    let project = project();
    project.write("scripts/program.sh", run);
    project.edit(SPEC, |text| {
        let text = text.replace("[python3, scripts/filter.py, 0.5]", "[sh, scripts/program.sh]");
        text.replace("files: [scripts/filter.py]", "files: [scripts/program.sh]")
    });
    project
}

#[track_caller]
fn ran(project: &Project) -> u64 {
    count(&project.fracture(&["run", SPEC, "--json"]).ok().json(), "tasks", "ran")
}

fn failed(project: &Project) -> Ran {
    project.fracture(&["run", SPEC]).code(1)
}

fn table(project: &Project, stage: &str) -> Vec<Value> {
    project
        .fracture(&["show", SPEC, stage, "--json"])
        .ok()
        .json()
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn a_program_filters_a_table_and_reruns_only_for_what_it_depends_on() {
    let project = project();
    assert_eq!(ran(&project), 4);
    let rows: Vec<String> = table(&project, "high")
        .iter()
        .map(|row| {
            format!(
                "{} {} {}",
                row["table"].as_str().unwrap(),
                row["item"].as_str().unwrap(),
                row["score"]
            )
        })
        .collect();
    assert_eq!(rows, ["one b 0.75", "two a 0.5", "two c 1.0"]);
    assert_eq!(ran(&project), 0);

    // What it does not list, how long it may take, and where the project lies.
    project.edit("scripts/other.py", |text| text.replace("not", "never"));
    project.edit(SPEC, |text| text.replace("timeout: 60s", "timeout: 2m"));
    assert_eq!(ran(&project), 0);
    assert_eq!(ran(&project.copied()), 0);
    // The time of a file is not its content.
    project.write("scripts/filter.py", FILTER);
    assert_eq!(ran(&project), 0);

    // The program: it runs again. It gives the same, so what follows does not.
    project.edit("scripts/filter.py", |text| format!("# a comment\n{text}"));
    let plan = project.fracture(&["plan", SPEC, "--json"]).ok().json();
    let high = plan
        .as_array()
        .unwrap()
        .iter()
        .find(|task| task["stage"] == "high")
        .unwrap();
    assert_eq!(
        (high["action"].as_str(), high["because"][0]["part"].as_str()),
        (Some("run"), Some("file scripts/filter.py"))
    );
    assert_eq!(ran(&project), 1);

    // An argument that matters: it and what follows. A constant's value that it reads, too.
    project.edit(SPEC, |text| text.replace("filter.py, 0.5]", "filter.py, 0.625]"));
    assert_eq!(ran(&project), 2);
    assert_eq!(table(&project, "high").len(), 2);
    project.edit(SPEC, |text| text.replace("two: two.csv", "second: two.csv"));
    assert_eq!(ran(&project), 2);

    let verified = project.fracture(&["verify", SPEC, "--json"]).ok().json();
    assert!(
        verified
            .as_array()
            .unwrap()
            .iter()
            .all(|task| task["agreement"] == "bits"),
        "{verified}"
    );
}

#[test]
fn a_failing_program_is_quoted_and_nothing_of_it_is_kept() {
    let project = with_script("echo the score is missing >&2\necho item > $OUT/main.csv\nexit 7\n");
    let told = failed(&project);
    for expected in ["task `high`", "exit code 7", "the score is missing"] {
        assert!(told.stderr.contains(expected), "no {expected} in {}", told.stderr);
    }
    let repaired = "printf 'item,table,score\\nb,one,1\\n' > $OUT/main.csv\n";
    project.write("scripts/program.sh", repaired);
    assert_eq!(ran(&project), 2);
    assert_eq!(table(&project, "counted").len(), 1);
}

#[test]
fn a_hanging_program_is_killed_after_its_timeout() {
    let project = with_script("sleep 300\n");
    project.edit(SPEC, |text| text.replace("timeout: 60s", "timeout: 1"));
    let started = Instant::now();
    let told = failed(&project);
    assert!(
        told.stderr.contains("longer than its `timeout` of 1 s"),
        "{}",
        told.stderr
    );
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn half_a_file_is_an_error_and_never_a_result() {
    let project = with_script("printf 'item,table,score\\nb,one,1\\nc,tw' > $OUT/main.csv\n");
    let told = failed(&project);
    assert!(
        told.stderr
            .contains("main.csv is damaged, or was not written to its end"),
        "{}",
        told.stderr
    );
    project.write("scripts/program.sh", "true\n");
    assert!(failed(&project).stderr.contains("$OUT is empty"));
}

#[test]
fn verify_notices_a_program_that_reads_what_it_does_not_declare() {
    let project = with_script("");
    let counter = project.path("counter");
    fs::write(&counter, "1").unwrap();
    let script = format!(
        "(echo item,table,score; echo b,one,$(cat '{}')) > $OUT/main.csv\n",
        counter.display()
    );
    project.write("scripts/program.sh", &script);
    assert_eq!(ran(&project), 4);
    project.fracture(&["verify", SPEC]).ok();
    fs::write(&counter, "2").unwrap();
    assert_eq!(ran(&project), 0, "the counter is not declared, so nothing knows of it");
    let verified = project.fracture(&["verify", SPEC, "--json"]).code(3).json();
    let high = verified
        .as_array()
        .unwrap()
        .iter()
        .find(|task| task["task"] == "high")
        .unwrap();
    assert_eq!(high["agreement"], "DIFFERENT", "{verified}");
}

#[test]
fn a_secret_is_passed_by_name_and_shown_nowhere() {
    let project = with_script("echo \"refused: $OWN_API_KEY\" >&2\nexit 1\n");
    project.edit(SPEC, |text| {
        text.replace("      timeout:", "      env: [OWN_API_KEY]\n      timeout:")
    });
    let with_key = || {
        project
            .command(&["run", SPEC])
            .env("OWN_API_KEY", "hunter2hunter2")
            .output()
            .unwrap()
    };
    let told = with_key();
    assert_eq!(told.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        stderr.contains("refused: <OWN_API_KEY>") && !stderr.contains("hunter2"),
        "{stderr}"
    );

    project.write(
        "scripts/program.sh",
        "(echo item,table,score; echo b,one,${#OWN_API_KEY}) > $OUT/main.csv\n",
    );
    assert!(with_key().status.success());
    assert_eq!(table(&project, "high")[0]["score"], 14.0);
    let kept = |name: &str| fs::read(project.path(name)).unwrap();
    assert!(!String::from_utf8_lossy(&kept("pipelines/own.lock")).contains("hunter2"));
    // Another value is not another key: names alone count.
    assert_eq!(ran(&project), 0);
}
