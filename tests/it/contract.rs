//! The JSON that programs may rely on: the exact keys of every object, as the pages of the language list them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::project::{Project, Ran, SPEC};

/// The keys of an object, sorted.
#[track_caller]
fn keys(value: &Value) -> Vec<&str> {
    let map = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let keys: BTreeSet<&str> = map.keys().map(String::as_str).collect();
    keys.into_iter().collect()
}

/// What stderr holds beside warnings: one error a line, each of the same form.
#[track_caller]
fn errors(ran: &Ran) -> Vec<Value> {
    assert!(!ran.stderr.is_empty(), "nothing on stderr");
    let read = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the line {line}"));
        assert_eq!(keys(&value), ["error"], "{value}");
        let error = value["error"].clone();
        assert_eq!(keys(&error), ["at", "causes", "hint", "kind", "message"], "{error}");
        assert!(error["kind"].is_string() && error["message"].is_string(), "{error}");
        assert!(
            error["causes"].as_array().unwrap().iter().all(Value::is_string),
            "{error}"
        );
        assert!(error["hint"].is_string() || error["hint"].is_null(), "{error}");
        if !error["at"].is_null() {
            assert_eq!(keys(&error["at"]), ["column", "file", "line"], "{error}");
            assert!(
                error["at"]["line"].as_u64() > Some(0) && error["at"]["column"].as_u64() > Some(0),
                "{error}"
            );
        }
        error
    };
    let lines = ran.stderr.lines().filter(|line| !line.starts_with(r#"{"warning":"#));
    lines.map(read).collect()
}

/// Nothing but warnings is on stderr, one a line.
#[track_caller]
fn nothing_wrong(ran: &Ran) {
    for line in ran.stderr.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the line {line}"));
        assert_eq!(keys(&value), ["warning"], "{value}");
    }
}

#[test]
fn a_run_prints_one_object() {
    let project = Project::small();
    for again in [false, true] {
        let ran = project.fracture(&["run", SPEC, "--json"]).ok();
        nothing_wrong(&ran);
        assert_eq!(ran.stdout.lines().count(), 1, "one object on one line");
        let run = ran.json();
        assert_eq!(keys(&run), ["lock", "rows", "seconds", "tasks"]);
        assert_eq!(keys(&run["tasks"]), ["cached", "failed", "ran", "skipped", "total"]);
        assert_eq!(keys(&run["rows"]), ["generated", "judged", "reused"]);
        assert!(run["seconds"].as_f64() >= Some(0.0), "{run}");
        assert_eq!(run["lock"], "pipelines/quickstart.lock");
        let (ran, cached) = (&run["tasks"]["ran"], &run["tasks"]["cached"]);
        assert_eq!(if again { cached } else { ran }, &run["tasks"]["total"], "{run}");
    }
}

#[test]
fn a_plan_prints_its_tasks() {
    let project = Project::small();
    let plan = |args: &[&str]| {
        let all: Vec<&str> = ["plan", SPEC, "--json"].iter().chain(args).copied().collect();
        let ran = project.fracture(&all).ok();
        nothing_wrong(&ran);
        ran.json().as_array().unwrap().clone()
    };
    let fresh = plan(&[]);
    project.run(&[]);
    let cached = plan(&[]);
    let changed = plan(&["--set", "vars.harm=9"]);
    assert_eq!((fresh.len(), cached.len()), (changed.len(), changed.len()));
    let mut seen = BTreeSet::new();
    for task in fresh.iter().chain(&cached).chain(&changed) {
        assert_eq!(keys(task), ["action", "because", "key", "stage", "task"], "{task}");
        let action = task["action"].as_str().unwrap();
        seen.insert(action.to_owned());
        let name = task["task"].as_str().unwrap();
        assert!(name.starts_with(task["stage"].as_str().unwrap()), "{task}");
        let because = task["because"].as_array().unwrap();
        assert_eq!(because.is_empty(), action == "cached", "{task}");
        for change in because {
            assert_eq!(keys(change), ["now", "part", "was"], "{change}");
        }
        // Only what depends on a result that is not there has no key yet.
        assert_eq!(task["key"].is_null(), action == "pending", "{task}");
        assert!(
            task["key"].is_null() || task["key"].as_str().unwrap().len() == 64,
            "{task}"
        );
    }
    assert_eq!(seen, ["cached", "pending", "run"].map(str::to_owned).into());
    let verdicts = changed.iter().find(|task| task["stage"] == "verdicts").unwrap();
    assert_eq!(
        verdicts["because"],
        json!([{ "part": "parameter harm", "was": 4.0, "now": 9.0 }])
    );
}

#[test]
fn show_prints_rows_as_objects() {
    let project = Project::small();
    project.run(&["--only", "+verdicts"]);
    let ran = project.fracture(&["show", SPEC, "verdicts", "--json"]).ok();
    nothing_wrong(&ran);
    let rows = ran.json();
    let rows = rows.as_array().unwrap();
    assert!(rows.len() > 40, "all rows, however many a terminal would get");
    let first = keys(&rows[0]);
    assert!(
        ["item", "model", "tau", "unsafe"]
            .iter()
            .all(|name| first.contains(name)),
        "{first:?}"
    );
    assert!(rows.iter().all(|row| keys(row) == first), "every row has every column");
    let few = [
        "show",
        SPEC,
        "verdicts",
        "--json",
        "--columns",
        "item,unsafe",
        "--rows",
        "2",
    ];
    let few = project.fracture(&few).ok().json();
    assert_eq!(
        (few.as_array().unwrap().len(), keys(&few[0])),
        (2, vec!["item", "unsafe"])
    );
}

#[test]
fn doctor_prints_its_checks() {
    let project = Project::small();
    // Whether this machine is whole is not the matter.
    let ran = project.fracture(&["doctor", "--json", "--offline"]);
    let checks = ran.json();
    assert!(checks.as_array().unwrap().len() >= 3, "{checks}");
    for check in checks.as_array().unwrap() {
        assert_eq!(keys(check), ["check", "detail", "hint", "ok"], "{check}");
        assert!(
            check["check"].is_string() && check["ok"].is_boolean() && check["detail"].is_string(),
            "{check}"
        );
        assert!(check["hint"].is_string() || check["hint"].is_null(), "{check}");
    }
    let good = checks.as_array().unwrap().iter().all(|check| check["ok"] == true);
    assert_eq!(ran.code, i32::from(!good));
}

#[test]
fn errors_are_objects_one_a_line() {
    let project = Project::small();
    // Everything that is wrong with a pipeline, each with its place.
    project.write(
        "wrong.yaml",
        "version: 1\nstages:\n  a: { uses: lod, with: {} }\n  b: { uses: load, needs: c, with: { pth: x } }\n",
    );
    let told = errors(&project.fracture(&["plan", "wrong.yaml", "--json"]).code(2));
    assert!(told.len() >= 3, "{told:?}");
    assert!(told.iter().all(|error| error["kind"] == "pipeline"), "{told:?}");
    assert!(told.iter().all(|error| error["at"]["file"] == "wrong.yaml"), "{told:?}");
    assert_eq!(told[0]["at"], json!({ "file": "wrong.yaml", "line": 3, "column": 14 }));

    // The command line, a pipeline that is not there, a selector, a locked run.
    let usage = errors(&project.fracture(&["run", SPEC, "--json", "--jobs", "many"]).code(2));
    assert_eq!((usage.len(), &usage[0]["kind"]), (1, &json!("pipeline")));
    assert!(usage[0]["message"].as_str().unwrap().contains("--jobs"), "{usage:?}");
    let verb = errors(&project.fracture(&["rnu", SPEC, "--json"]).code(2));
    assert!(verb[0]["message"].as_str().unwrap().contains("rnu"), "{verb:?}");
    assert!(verb[0]["hint"].as_str().unwrap().contains("run"), "{verb:?}");
    errors(&project.fracture(&["plan", "gone.yaml", "--json"]).code(2));
    let only = errors(&project.fracture(&["run", SPEC, "--json", "--only", "scors"]).code(2));
    assert!(only[0]["hint"].as_str().unwrap().contains("scores"), "{only:?}");
    errors(&project.fracture(&["run", SPEC, "--json", "--locked"]).code(2));

    // A task that fails, with the place of its stage.
    project.write(
        "failing.yaml",
        "version: 1\nstages:\n  a:\n    uses: command\n    with: { run: [sh, -c, 'exit 3'] }\n",
    );
    let ran = project.fracture(&["run", "failing.yaml", "--json"]).code(1);
    assert_eq!(ran.json()["tasks"]["failed"], 1, "{}", ran.stdout);
    let failed = errors(&ran);
    assert_eq!((failed.len(), &failed[0]["kind"]), (1, &json!("task")));
    assert_eq!(
        failed[0]["at"],
        json!({ "file": "failing.yaml", "line": 3, "column": 3 })
    );
}
