//! What runs leave behind, what a collection removes and keeps, and looks into the store.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::project::{Project, SPEC, count};

/// All files in a folder of the store, sorted.
fn files(project: &Project, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![project.path(".fracture").join(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}

/// Makes everything that is subject to a grace two days older, so that none of it counts as in use.
fn age(project: &Project) {
    let past = SystemTime::now() - Duration::from_secs(2 * 86_400);
    for folder in ["objects", "memo", "runs", "staging", "quarantine"] {
        for file in files(project, folder) {
            fs::File::open(file).unwrap().set_modified(past).unwrap();
        }
    }
}

fn gc(project: &Project, args: &[&str]) -> Value {
    let all: Vec<&str> = ["gc", "--json"].iter().chain(args).copied().collect();
    project.fracture(&all).ok().json()
}

fn bytes(collected: &Value) -> (u64, u64) {
    (count(collected, "bytes", "goes"), count(collected, "bytes", "stays"))
}

#[test]
fn a_run_leaves_a_record_a_log_and_a_trace() {
    let project = Project::small();
    let summary = project.run(&["--only", "prompts", "--set", "vars.harm=9", "--trace", "trace.json"]);
    project.run(&["--only", "+answers"]);
    let runs = project.fracture(&["runs", "--json"]).ok().json();
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 2);
    // The latest comes first, as far as seconds tell.
    let first = runs
        .iter()
        .find(|run| run["what"].to_string().contains("vars.harm=9"))
        .unwrap();
    assert_eq!(first["outcome"], "done");
    assert_eq!(first["summary"]["tasks"], summary["tasks"]);
    let root = fs::canonicalize(project.root()).unwrap();
    assert_eq!(first["root"], root.to_str().unwrap());
    let tasks = first["tasks"].as_array().unwrap();
    let ran: Vec<&Value> = tasks.iter().filter(|task| task["fate"] == "ran").collect();
    assert_eq!(ran.len() as u64, count(&summary, "tasks", "ran"));
    assert!(
        ran.iter()
            .all(|task| task["action"].is_string() && task["seconds"].as_f64().unwrap() > 0.0),
        "{ran:?}"
    );
    assert!(
        tasks
            .iter()
            .any(|task| task["fate"] == "skipped" && task["action"].is_null())
    );
    let table = project.fracture(&["runs", "-n", "1"]).ok().stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    let id = first["id"].as_str().unwrap();
    let log = fs::read_to_string(project.path(&format!(".fracture/runs/{id}.events.jsonl"))).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.first().unwrap()["event"], "planned");
    assert!(
        events
            .iter()
            .any(|event| event["event"] == "done" && event["seconds"].as_f64().is_some())
    );
    let trace: Value = serde_json::from_str(&fs::read_to_string(project.path("trace.json")).unwrap()).unwrap();
    let slices = trace["traceEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["ph"] == "X")
        .count();
    assert_eq!(slices as u64, count(&summary, "tasks", "ran"));
    // Nobody is said to be at work any more.
    assert_eq!(files(&project, "live"), [] as [PathBuf; 0]);
}

#[test]
fn what_the_lock_file_names_stays_and_a_collected_result_is_made_again() {
    let project = Project::small();
    project.run(&[]);
    let expected = project.outputs();
    project.edit(SPEC, |text| text.replace("seed: 17", "seed: 18"));
    project.run(&[]);
    // All of it is too young to go.
    assert_eq!(bytes(&gc(&project, &["--keep-runs", "0"])).0, 0);
    age(&project);
    // Both runs hold theirs.
    assert_eq!(bytes(&gc(&project, &["--dry-run"])).0, 0);
    let before = files(&project, "objects");
    let planned = gc(&project, &["--dry-run", "--keep-runs", "1"]);
    assert!(bytes(&planned).0 > 0, "{planned}");
    assert_eq!(files(&project, "objects"), before, "a dry run removes nothing");
    let tasks: BTreeSet<&str> = planned["goes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|going| going["task"].as_str())
        .collect();
    assert!(tasks.iter().any(|task| task.starts_with("answers")), "{tasks:?}");
    let by = planned["held"][0]["by"].as_array().unwrap();
    assert!(
        by.iter().any(|by| by.as_str().unwrap().starts_with("lock file")),
        "{planned}"
    );
    assert!(
        by.iter().any(|by| by.as_str().unwrap().starts_with("run ")),
        "{planned}"
    );
    let done = gc(&project, &["--keep-runs", "0"]);
    assert_eq!(bytes(&done), bytes(&planned));
    assert!(files(&project, "objects").len() < before.len());
    // The present pipeline runs nothing; the former one is computed again, from the memo.
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
    project.edit(SPEC, |text| text.replace("seed: 18", "seed: 17"));
    let again = project.run(&[]);
    assert!(count(&again, "tasks", "ran") > 0, "{again}");
    assert_eq!(
        (count(&again, "rows", "generated"), count(&again, "rows", "judged")),
        (0, 0),
        "{again}"
    );
    assert_eq!(project.outputs(), expected);
}

#[test]
fn what_is_pinned_stays_until_it_is_let_go() {
    let project = Project::small();
    project.run(&[]);
    fs::remove_dir_all(project.path(".fracture/projects")).unwrap();
    fs::remove_file(project.path("pipelines/quickstart.lock")).unwrap();
    age(&project);
    let pinned = project
        .fracture(&[
            "cache",
            "pin",
            SPEC,
            "prompts",
            "answers[model=pico-faker,decoder=greedy]",
        ])
        .ok();
    assert_eq!(
        pinned.stdout,
        "pinned prompts\npinned answers[model=pico-faker,decoder=greedy]\n"
    );
    let kept = gc(&project, &["--keep-runs", "0"]);
    assert_eq!(kept["held"].as_array().unwrap().len(), 2, "{kept}");
    assert_eq!(kept["held"][0]["by"].as_array().unwrap().len(), 1, "{kept}");
    assert_eq!(files(&project, "objects").len(), 2);
    assert_eq!(kept["runs"].as_array().unwrap().len(), 1, "{kept}");
    assert_eq!(
        files(&project, "runs"),
        [] as [PathBuf; 0],
        "the records of runs beyond those kept went"
    );
    assert_eq!(
        files(&project, "records")
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "log"))
            .count(),
        1
    );
    // What is kept is used; a result that is not there can not be pinned.
    let plan = project.fracture(&["plan", SPEC, "--json"]).ok().json();
    let cached = plan
        .as_array()
        .unwrap()
        .iter()
        .filter(|task| task["action"] == "cached");
    assert_eq!(cached.count(), 2);
    project.fracture(&["cache", "pin", SPEC, "flips"]).code(2);
    let let_go = project.fracture(&["cache", "unpin", SPEC, "*"]).ok();
    assert_eq!(let_go.stdout.lines().count(), 2, "{}", let_go.stdout);
    gc(&project, &["--keep-runs", "0"]);
    assert_eq!(files(&project, "objects"), [] as [PathBuf; 0]);
    assert!(count(&project.run(&[]), "tasks", "ran") > 0);
}

#[test]
fn a_project_out_of_reach_holds_what_it_named_last() {
    let project = Project::small();
    project.run(&[]);
    age(&project);
    let lock = fs::canonicalize(project.path("pipelines/quickstart.lock")).unwrap();
    fs::rename(&lock, project.path("elsewhere")).unwrap();
    let told = project.fracture(&["gc", "--keep-runs", "0"]).ok();
    assert!(
        told.stderr.contains("quickstart.lock") && told.stderr.contains("--forget"),
        "{}",
        told.stderr
    );
    assert!(told.stdout.starts_with("0 results, 0 B went"), "{}", told.stdout);
    // By its path from here, as people write it; what is to go is the same with and without --dry-run.
    let relative = "pipelines/../pipelines/quickstart.lock";
    let dry = gc(&project, &["--keep-runs", "0", "--dry-run", "--forget", relative]);
    assert_eq!(bytes(&dry).1, 0, "{dry}");
    let forgotten = gc(&project, &["--keep-runs", "0", "--forget", relative]);
    assert_eq!(dry["goes"], forgotten["goes"]);
    assert_eq!(bytes(&forgotten).1, 0, "{forgotten}");
    assert_eq!(files(&project, "objects"), [] as [PathBuf; 0]);
    assert!(count(&project.run(&[]), "tasks", "ran") > 0);
    project.fracture(&["gc", "--forget", "nothing.lock"]).code(2);
    project
        .fracture(&["gc", "--dry-run", "--forget", "nothing.lock"])
        .code(2);
}

#[test]
fn sizes_and_ages_narrow_what_goes() {
    let project = Project::small();
    project.run(&[]);
    fs::remove_dir_all(project.path(".fracture/projects")).unwrap();
    // Nothing holds them, and nothing goes: it is said why.
    let young = gc(&project, &["--keep-runs", "0", "--dry-run"]);
    assert_eq!(young["goes"], serde_json::json!([]));
    assert_eq!(young["young"]["age_seconds"], 3600);
    let told = project.fracture(&["gc", "--keep-runs", "0", "--dry-run"]).ok().stdout;
    let many = &young["young"]["results"];
    let line = format!("{many} results that nothing holds stay for now: they were written or used within the last 1 h");
    assert!(many.as_u64().unwrap() > 10 && told.contains(&line), "{told}");
    age(&project);
    let loose = |args: &[&str]| {
        let all: Vec<&str> = ["--keep-runs", "0", "--dry-run"].iter().chain(args).copied().collect();
        gc(&project, &all)
    };
    let (all, none) = bytes(&loose(&[]));
    assert!(all > 0 && none == 0);
    assert_eq!(bytes(&loose(&["--older-than", "3d"])), (0, all));
    assert_eq!(bytes(&loose(&["--older-than", "1d"])), (all, 0));
    let half = all / 2;
    let (goes, stays) = bytes(&loose(&["--max-size", &half.to_string()]));
    assert!(stays <= half && goes > 0 && stays > 0, "{goes} {stays} {half}");
    assert_eq!(loose(&[])["memo"]["segments"], 0, "the memo has a budget of its own");
    assert!(loose(&["--memo-max-size", "0"])["memo"]["bytes"].as_u64().unwrap() > 0);
    gc(&project, &["--keep-runs", "0", "--memo-max-size", "0"]);
    assert_eq!((files(&project, "objects"), files(&project, "memo")), (vec![], vec![]));
    assert!(count(&project.run(&[]), "rows", "generated") > 0);
    project.fracture(&["gc", "--max-size", "much"]).code(2);
}

#[test]
fn a_collection_waits_for_no_run_and_a_run_waits_for_a_collection() {
    let project = Project::small();
    project.run(&["--only", "prompts"]);
    // A run of another machine, and files that a kill left.
    project.write(".fracture/live/run-far", "1\nelsewhere\nsomeone@elsewhere\n");
    project.write(".fracture/staging/torn", "half");
    let refused = project.fracture(&["gc"]).code(1);
    assert!(refused.stderr.contains("someone@elsewhere"), "{}", refused.stderr);
    project.fracture(&["gc", "--dry-run"]).ok();
    fs::remove_file(project.path(".fracture/live/run-far")).unwrap();
    project.fracture(&["gc"]).ok();
    assert!(project.path(".fracture/staging/torn").exists(), "it is young");
    age(&project);
    project.fracture(&["gc"]).ok();
    assert!(!project.path(".fracture/staging/torn").exists());
    project.write(".fracture/live/gc-far", "1\nelsewhere\nsomeone@elsewhere\n");
    let mut waiting = project.command(&["run", SPEC, "--only", "prompts"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(waiting.try_wait().unwrap().is_none(), "it should wait");
    fs::remove_file(project.path(".fracture/live/gc-far")).unwrap();
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn the_store_can_be_looked_into() {
    let project = Project::small();
    assert!(project.fracture(&["cache", "ls"]).code(2).stderr.contains("no store"));
    project.run(&[]);
    let listed = project.fracture(&["cache", "ls", "--json"]).ok().json();
    let names: BTreeSet<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["task"].as_str())
        .collect();
    assert!(
        names.contains("prompts") && names.iter().any(|name| name.starts_with("answers[")),
        "{names:?}"
    );
    let kinds = project.fracture(&["cache", "stat", "--json"]).ok().json();
    let sum: u64 = kinds["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(
        sum + kinds["unrecorded_bytes"].as_u64().unwrap(),
        kinds["objects"]["bytes"].as_u64().unwrap()
    );
    assert_eq!(kinds["unrecorded_bytes"], 0);
    assert!(kinds["folders"]["memo"].as_u64().unwrap() > 0);
    assert!(project.fracture(&["cache", "ls"]).ok().stdout.contains("prompts"));
    assert!(project.fracture(&["cache", "stat"]).ok().stdout.contains("generate"));
    let path = project.fracture(&["cache", "path", SPEC, "prompts"]).ok().stdout;
    assert!(PathBuf::from(path.trim()).is_file(), "{path}");
}

#[test]
fn a_check_finds_what_is_damaged_and_sets_it_aside() {
    let project = Project::small();
    project.run(&[]);
    let expected = project.outputs();
    let sound = project.fracture(&["cache", "check"]).ok();
    assert!(sound.stdout.contains(" 0 damaged"), "{}", sound.stdout);
    let path = PathBuf::from(project.fracture(&["cache", "path", SPEC, "prompts"]).ok().stdout.trim());
    let other = files(&project, "objects")
        .into_iter()
        .find(|file| fs::canonicalize(file).unwrap() != path)
        .unwrap();
    for (file, keep) in [(&path, usize::MAX), (&other, 5)] {
        let mut bytes = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        bytes.truncate(keep);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let found = project.fracture(&["cache", "check"]).code(1);
    assert_eq!(
        found.stdout.lines().filter(|line| line.contains("is damaged")).count(),
        2,
        "{}",
        found.stdout
    );
    assert!(found.stdout.contains("(of prompts)"), "{}", found.stdout);
    assert_eq!(files(&project, "quarantine").len(), 2);
    assert!(!path.exists() && !other.exists());
    // What was set aside is missing until a run makes it again.
    let missing = project.fracture(&["cache", "check"]).code(1);
    assert!(
        missing.stdout.contains("an object of prompts is missing"),
        "{}",
        missing.stdout
    );
    assert!(
        missing.stdout.contains(" 0 damaged; 2 results lack one"),
        "{}",
        missing.stdout
    );
    project.run(&[]);
    project.fracture(&["cache", "check"]).ok();
    assert_eq!(project.outputs(), expected);
}

#[test]
fn what_a_collection_took_is_not_missing() {
    let project = Project::small();
    project.run(&[]);
    fs::remove_dir_all(project.path(".fracture/projects")).unwrap();
    age(&project);
    let path = project.fracture(&["cache", "path", SPEC, "prompts"]).ok().stdout;
    project.fracture(&["cache", "pin", SPEC, "prompts"]).ok();
    assert!(bytes(&gc(&project, &["--keep-runs", "0"])).0 > 0);
    let checked = project.fracture(&["cache", "check", "--json"]).ok().json();
    assert_eq!(checked["missing"], serde_json::json!([]), "{checked}");
    fs::remove_file(path.trim()).unwrap();
    let checked = project.fracture(&["cache", "check", "--json"]).code(1).json();
    assert_eq!(checked["missing"], serde_json::json!(["prompts"]), "{checked}");
}
