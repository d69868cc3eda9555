//! `diff` on lock files, git revisions and runs.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::project::{Project, SPEC};

const LOCK: &str = "pipelines/quickstart.lock";

fn git(project: &Project, args: &[&str]) -> bool {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
    ]);
    let output = command.args(args).current_dir(project.root()).output();
    output.is_ok_and(|output| output.status.success())
}

fn changes<'a>(diff: &'a Value, change: &str) -> Vec<&'a str> {
    let tasks = diff["tasks"].as_array().unwrap().iter();
    tasks
        .filter(|task| task["change"] == change)
        .map(|task| task["task"].as_str().unwrap())
        .collect()
}

fn task<'a>(diff: &'a Value, name: &str) -> &'a Value {
    let tasks = diff["tasks"].as_array().unwrap();
    tasks
        .iter()
        .find(|task| task["task"] == name)
        .unwrap_or_else(|| panic!("no {name} in {diff}"))
}

#[test]
fn what_changed_is_told() {
    let project = Project::small();
    project.run(&[]);
    fs::copy(project.path(LOCK), project.path("old.lock")).unwrap();
    let same = project.fracture(&["diff", "old.lock", LOCK, "--json"]).ok().json();
    assert_eq!(
        (
            same["tasks"].as_array().unwrap().len(),
            same["files"].as_array().unwrap().len()
        ),
        (0, 0)
    );

    project.edit(SPEC, |text| text.replace("harm: 4  ", "harm: 0.05"));
    let first = project.path("examples/prompts/safety.jsonl");
    let text = fs::read_to_string(&first).unwrap();
    fs::write(&first, format!("\n{text}")).unwrap();
    project.run(&[]);
    let diff = project.fracture(&["diff", "old.lock", LOCK, "--json"]).ok().json();
    assert_eq!(diff["files"].as_array().unwrap().len(), 1, "{diff}");
    assert_eq!(diff["files"][0]["source"], "examples/prompts/safety.jsonl");
    assert!(changes(&diff, "changed").contains(&"flips"), "{diff}");
    assert_eq!(
        changes(&diff, "same_result"),
        ["prompts"],
        "an empty line more gives the same prompts"
    );
    let verdicts = task(&diff, "verdicts[model=pico-faker,decoder=sampling]");
    assert_eq!(verdicts["because"][0]["part"], "parameter harm", "{verdicts}");
    let columns = verdicts["tables"][0]["columns"].as_array().unwrap();
    assert!(
        columns
            .iter()
            .any(|column| column["column"] == "tau" && column["most"].as_f64() > Some(0.5)),
        "{verdicts}"
    );

    let shown = project.fracture(&["diff", "old.lock", LOCK]).ok().stdout;
    for told in [
        "files\n",
        "changed",
        "parameter `harm`: 4 → 0.05",
        "of 48 rows moved, by",
        "unchanged",
    ] {
        assert!(shown.contains(told), "no {told} in:\n{shown}");
    }
}

#[test]
fn numbers_move_beside_their_intervals() {
    let project = Project::small();
    project.run(&[]);
    fs::copy(project.path(LOCK), project.path("old.lock")).unwrap();
    project.edit(SPEC, |text| text.replace("limit: 4", "limit: 12"));
    project.run(&[]);
    let diff = project.fracture(&["diff", "old.lock", LOCK, "--json"]).ok().json();
    // Every row of flips is joined by its group and its contrast; a number is told with its interval.
    let table = &task(&diff, "flips")["tables"][0];
    let key: Vec<&str> = table["key"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(key.starts_with(&["model", "axis", "decoder", "contrast"]), "{key:?}");
    let moved = table["moved"].as_array().unwrap();
    assert!(!moved.is_empty());
    for one in moved {
        let column = one["column"].as_str().unwrap();
        assert!(
            !column.ends_with("_low") && !column.ends_with("_high"),
            "ends are told with their number: {column}"
        );
        if let Some(interval) = one["interval"].as_array() {
            let (low, high) = (interval[0].as_f64().unwrap(), interval[1].as_f64().unwrap());
            let outside = one["now"].as_f64().map(|now| now < low || now > high);
            assert_eq!(one["outside"].as_bool(), outside, "{one}");
        }
    }
    assert!(moved.iter().any(|one| one["interval"].is_array()), "{table}");
    let shown = project.fracture(&["diff", "old.lock", LOCK]).ok().stdout;
    for told in [
        "(48 -> 144 rows)",
        "input prompts: ",
        "interval before",
        "train->deploy",
        "numbers moved, ",
    ] {
        assert!(shown.contains(told), "no {told} in:\n{shown}");
    }
}

#[test]
fn revisions_and_runs_are_compared() {
    let project = Project::small();
    project.run(&[]);
    if !git(&project, &["init", "-q"]) {
        eprintln!("SKIPPED: there is no git here");
        return;
    }
    assert!(git(&project, &["add", LOCK, SPEC]) && git(&project, &["commit", "-qm", "one"]));
    project.edit(SPEC, |text| text.replace("harm: 4  ", "harm: 0.05"));
    project.run(&[]);
    for sides in [
        vec!["HEAD:"],
        vec!["HEAD:", LOCK],
        vec!["HEAD:pipelines/quickstart.lock", SPEC],
    ] {
        let args: Vec<&str> = ["diff", "--json"].into_iter().chain(sides.iter().copied()).collect();
        let diff = project.fracture(&args).ok().json();
        assert!(
            changes(&diff, "changed").contains(&"verdicts[model=pico-faker,decoder=greedy]"),
            "{sides:?}: {diff}"
        );
        assert_eq!(diff["was"], "HEAD:pipelines/quickstart.lock");
    }
    assert!(git(&project, &["commit", "-qam", "two"]));
    let between = project.fracture(&["diff", "HEAD~1:", "HEAD:", "--json"]).ok().json();
    assert!(changes(&between, "changed").contains(&"flips") || changes(&between, "same_result").contains(&"flips"));

    let runs = project.fracture(&["runs", "--json"]).ok().json();
    let ids: Vec<&str> = runs
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|run| run["id"].as_str().unwrap())
        .collect();
    let diff = project.fracture(&["diff", ids[0], ids[1], "--json"]).ok().json();
    let of_locks = |diff: &Value| diff["tasks"].clone();
    assert_eq!(
        of_locks(&diff),
        of_locks(&between),
        "a run and the lock file that it wrote are one state"
    );
    let mixed = project.fracture(&["diff", ids[0], LOCK, "--json"]).ok().json();
    assert_eq!(of_locks(&mixed), of_locks(&between));

    // From a folder below, as git takes paths.
    let mut below = project.command(&["diff", "HEAD~1:quickstart.lock", "quickstart.lock", "--json"]);
    let output = below.current_dir(project.path("pipelines")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_result_that_the_store_lost_is_told() {
    let project = Project::small();
    project.run(&[]);
    fs::copy(project.path(LOCK), project.path("old.lock")).unwrap();
    project.edit(SPEC, |text| text.replace("harm: 4  ", "harm: 0.05"));
    fs::remove_dir_all(project.path(".fracture")).unwrap();
    project.run(&[]);
    let ran = project.fracture(&["diff", "old.lock", LOCK]).code(1);
    assert!(
        ran.stdout.contains("changed") && ran.stdout.contains("verdicts["),
        "{}",
        ran.stdout
    );
    for told in ["the store no longer holds their results", "of old.lock", "hint"] {
        assert!(ran.stderr.contains(told), "no {told} in:\n{}", ran.stderr);
    }
    // Without any store digests are compared.
    fs::remove_dir_all(project.path(".fracture")).unwrap();
    let ran = project.fracture(&["diff", "old.lock", LOCK]).code(1);
    assert!(
        ran.stdout.contains("changed") && ran.stderr.contains("there is no store"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_side_that_is_nothing_is_an_error() {
    let project = Project::small();
    project.write("a.lock", "# fracture lock 1\n");
    project.write("broken.lock", "task\tonly\n");
    for (args, told) in [
        (
            vec!["nothing", "a.lock"],
            "`nothing` is no lock file, no revision and no run",
        ),
        (vec!["a.lock", "20200101T0000"], "there is no store"),
        (vec!["a.lock"], "nothing to compare with"),
        (vec!["--output=x:", "a.lock"], "unexpected argument"),
        (vec!["a.lock", "-x:a.lock"], "unexpected argument"),
        (vec!["a.lock", "HEAD:a.lock"], "git"),
        (vec!["a.lock", "broken.lock"], "line 1 of the lock file"),
        (vec!["a.lock", SPEC], "there is no lock file"),
    ] {
        let all: Vec<&str> = ["diff"].into_iter().chain(args.iter().copied()).collect();
        let ran = project.fracture(&all);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(told), "{args:?}: {}", ran.stderr);
    }
}
