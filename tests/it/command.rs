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

#[test]
fn a_program_adds_columns_to_each_table_and_drops_rows_of_it() {
    let project = project();
    project.write(
        SPEC,
        "\
version: 1
name: own
stages:
  scores:
    uses: load
    matrix: { table: { one: one.csv, two: two.csv } }
    with: { path: \"${matrix.table}\" }
  twice:
    uses: command
    needs: scores
    matrix: { factor: [2, 3] }
    with:
      shape: map
      run: [python3, scripts/times.py, '${matrix.factor}']
      reads: jsonl
      files: [scripts/times.py]
      yields: { times: number }
  high:
    uses: command
    needs: twice
    with: { shape: map, run: [python3, scripts/keep.py], reads: jsonl, files: [scripts/keep.py] }
  counted:
    uses: query
    needs: high
    with: { sql: 'SELECT \"table\", factor, SUM(times) AS total, SUM(score) AS before FROM high GROUP BY \"table\", factor' }
",
    );
    project.write(
        "scripts/times.py",
        "\
import json, os, sys
with open(os.environ['IN'] + '/scores.jsonl') as rows, open(os.environ['OUT'] + '/main.csv', 'w') as out:
    out.write('times\\n')
    for row in map(json.loads, rows):
        out.write(f'{row[\"score\"] * float(sys.argv[1])}\\n')
",
    );
    // It copies whole rows, of which only the row that each comes from is new.
    project.write(
        "scripts/keep.py",
        "\
import json, os
with open(os.environ['IN'] + '/twice.jsonl') as rows, open(os.environ['OUT'] + '/main.jsonl', 'w') as out:
    for at, row in enumerate(map(json.loads, rows)):
        if row['times'] >= 1:
            out.write(json.dumps({**row, '_parent': at}) + '\\n')
",
    );
    let plan = project.fracture(&["plan", SPEC, "--json"]).ok().json();
    let names: Vec<&str> = plan
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|task| task["task"].as_str())
        .collect();
    assert!(
        names.contains(&"twice[factor=3,table=two]") && names.contains(&"high[factor=2,table=one]"),
        "{names:?}"
    );
    assert_eq!(ran(&project), 2 + 4 + 4 + 1);
    let rows = |stage: &str| {
        let text = |row: &Value| {
            ["table", "factor", "item", "score", "times"]
                .map(|name| row[name].to_string().replace('"', ""))
                .join(" ")
        };
        let mut rows: Vec<String> = table(&project, stage).iter().map(text).collect();
        rows.sort();
        rows
    };
    assert_eq!(rows("twice").len(), 10);
    assert_eq!(
        rows("high"),
        [
            "one 2 b 0.75 1.5",
            "one 3 b 0.75 2.25",
            "two 2 a 0.5 1.0",
            "two 2 c 1.0 2.0",
            "two 3 a 0.5 1.5",
            "two 3 c 1.0 3.0"
        ]
    );
    assert_eq!(table(&project, "counted").len(), 4);
    assert_eq!(ran(&project), 0);
    // A new value of the matrix runs its own tasks; another table's rows those after it.
    project.edit(SPEC, |text| text.replace("factor: [2, 3]", "factor: [2, 3, 4]"));
    assert_eq!(ran(&project), 2 + 2 + 1);
    project.edit("one.csv", |text| text.replace("0.25", "0.125"));
    assert_eq!(ran(&project), 1 + 3 + 3 + 1);
    let verified = project.fracture(&["verify", SPEC, "--json"]).ok().json();
    assert!(
        verified
            .as_array()
            .unwrap()
            .iter()
            .all(|task| task["agreement"] == "bits"),
        "{verified}"
    );

    // What is wrong is said before anything runs, or by the task.
    project.edit(SPEC, |text| {
        text.replace("shape: map\n", "shape: \"${matrix.factor}\"\n")
    });
    let told = project.fracture(&["plan", SPEC]).code(2);
    assert!(
        told.stderr.contains("`shape` can not depend on the matrix"),
        "{}",
        told.stderr
    );
    project.edit(SPEC, |text| {
        text.replace("shape: \"${matrix.factor}\"\n", "shape: map\n")
    });
    project.edit("scripts/times.py", |text| {
        text.replace("for row in map(json.loads, rows):", "for row in []:")
    });
    let told = failed(&project);
    assert!(told.stderr.contains("wrote 0 rows for the"), "{}", told.stderr);
}

#[test]
fn a_file_that_changes_while_a_program_runs_spoils_its_result() {
    let project = with_script(
        "touch $HERE/begun; while [ -n \"$HERE\" ] && [ ! -e $HERE/go ]; do sleep 0.02; done; cp data.csv $OUT/main.csv\n",
    );
    project.write("data.csv", "item,table,score\nb,one,1\n");
    project.edit(SPEC, |text| {
        text.replace(
            "files: [scripts/program.sh]",
            "files: [scripts/program.sh, data.csv]\n      env: [HERE]",
        )
    });
    let mut command = project.command(&["run", SPEC]);
    let child = command
        .env("HERE", project.root())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = child.spawn().unwrap();
    let begun = Instant::now();
    while !project.path("begun").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The same size, in place.
    fs::write(project.path("data.csv"), "item,table,score\nb,one,2\n").unwrap();
    project.write("go", "");
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("`data.csv` changed during the run"), "{stderr}");
    assert!(
        project.fracture(&["show", SPEC, "high"]).code != 0,
        "nothing is recorded"
    );
    assert_eq!(ran(&project), 2);
    assert_eq!(table(&project, "high")[0]["score"], 2.0);
}

#[test]
fn links_out_of_the_project_are_refused() {
    let project = with_script("cp data/own.csv $OUT/main.csv\n");
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("secret"), "x").unwrap();
    project.write("data/own.csv", "item,table,score\nb,one,1\n");
    std::os::unix::fs::symlink("own.csv", project.path("data/same.csv")).unwrap();
    project.edit(SPEC, |text| {
        text.replace("files: [scripts/program.sh]", "files: [scripts/program.sh, data]")
    });
    // A link within the project is a file of it.
    assert_eq!(ran(&project), 4);
    std::os::unix::fs::symlink(elsewhere.path(), project.path("data/out")).unwrap();
    let refused = project.fracture(&["run", SPEC]).code(2);
    assert!(
        refused
            .stderr
            .contains("`data/out` is a link that leads out of the project"),
        "{}",
        refused.stderr
    );
    fs::remove_file(project.path("data/out")).unwrap();
    fs::remove_dir_all(project.path("data")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), project.path("data")).unwrap();
    let refused = project.fracture(&["run", SPEC]).code(2);
    assert!(refused.stderr.contains("`data` is a link"), "{}", refused.stderr);
}
