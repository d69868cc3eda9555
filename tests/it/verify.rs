//! `verify` of programs that do not always say the same, and the record that a no-op run leaves.

use std::fs;

use serde_json::Value;

use crate::project::Project;

const SPEC: &str = "pipelines/own.yaml";

/// Each program reads the file SAY of the project, which no key knows: what a program should not do.
const PIPELINE: &str = "\
version: 1
stages:
  number:
    uses: command
    with: { run: [sh, -c, 'printf \"item,x\\\\na,0.5%s\\\\n\" \"$(cat SAY)\" > \"$OUT/main.csv\"'], yields: { item: text, x: number } }
  text:
    uses: command
    with: { run: [sh, -c, 'printf \"item\\\\n%s\\\\n\" \"w$(cat SAY)\" > \"$OUT/main.csv\"'], yields: { item: text } }
  strict:
    uses: command
    with: { run: [sh, -c, 'test -f SAY && printf \"item\\\\na\\\\n\" > \"$OUT/main.csv\"'], yields: { item: text } }
";

fn project() -> Project {
    let project = Project::shipped();
    let say = project.path("say");
    project.write(SPEC, &PIPELINE.replace("SAY", say.to_str().unwrap()));
    project
}

/// What is found of each task: agreement and what differs.
fn verified(project: &Project, args: &[&str], code: i32) -> Vec<(String, String, String)> {
    let all: Vec<&str> = ["verify", SPEC, "--json"].iter().chain(args).copied().collect();
    let ran = project.fracture(&all).code(code);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tasks = ran.json();
    let found = tasks.as_array().unwrap().iter();
    found
        .map(|task| (text(&task["task"]), text(&task["agreement"]), text(&task["what"])))
        .collect()
}

#[test]
fn each_sort_of_difference_is_told() {
    let project = project();
    project.write("say", "0000001");
    let missing = verified(&project, &[], 0);
    assert!(
        missing.iter().all(|(_, agreement, _)| agreement == "not there"),
        "{missing:?}"
    );
    project.fracture(&["run", SPEC]).ok();
    let same = verified(&project, &[], 0);
    assert!(same.iter().all(|(_, agreement, _)| agreement == "bits"), "{same:?}");

    // A little: numbers may differ so much on another machine, texts may not.
    project.write("say", "0000002");
    let near = verified(&project, &[], 3);
    assert_eq!(
        (near[0].1.as_str(), near[0].2.as_str()),
        ("tolerance", "column `x`, by 1.0e-8 at most")
    );
    assert_eq!((near[1].1.as_str(), near[1].2.as_str()), ("DIFFERENT", "column `item`"));
    assert_eq!(near[2].1, "bits");
    // Within the tolerance nothing is wrong.
    assert_eq!(verified(&project, &["--only", "number"], 0).len(), 1);

    // More than a little, and a program that fails now; the others are looked at all the same.
    project.write("say", "9");
    assert_eq!(verified(&project, &["--only", "number"], 3)[0].1, "DIFFERENT");
    fs::remove_file(project.path("say")).unwrap();
    let failing = verified(&project, &[], 3);
    assert_eq!(failing.len(), 3);
    assert!(
        failing[2].1 == "DIFFERENT" && failing[2].2.starts_with("it fails now: "),
        "{failing:?}"
    );

    // So many at random, and nothing was written.
    let sampled = verified(&project, &["--sample", "2"], 3);
    assert_eq!(sampled.len(), 2);
    let run = project.fracture(&["run", SPEC, "--json"]).ok().json();
    assert_eq!(run["tasks"]["cached"], 3, "{run}");
}

#[test]
fn what_is_damaged_or_lost_is_named_and_the_rest_is_looked_at() {
    let project = project();
    project.write("say", "1");
    // A reader of the second table, so that what it reads can be damaged.
    project.edit(SPEC, |text| {
        text + "  read: { uses: query, needs: text, with: { sql: 'SELECT item FROM \"text\"' } }\n"
    });
    project.fracture(&["run", SPEC]).ok();
    let object = |stage: &str| {
        let path = project.fracture(&["cache", "path", SPEC, stage]).ok().stdout;
        std::path::PathBuf::from(path.trim())
    };
    // One is lost, one flipped.
    fs::remove_file(object("number")).unwrap();
    let flipped = object("text");
    let mut bytes = fs::read(&flipped).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&flipped).unwrap();
    fs::write(&flipped, bytes).unwrap();
    // What reads a damaged table can not be computed again either, whether or not the table is looked at itself.
    let alone = verified(&project, &["--only", "strict"], 0);
    assert_eq!(alone[0].1, "bits");
    let found = verified(&project, &[], 3);
    let agreements: Vec<(&str, &str)> = found
        .iter()
        .map(|(task, how, _)| (task.as_str(), how.as_str()))
        .collect();
    assert_eq!(
        agreements,
        [
            ("number", "LOST"),
            ("text", "LOST"),
            ("strict", "bits"),
            ("read", "LOST")
        ],
        "{found:?}"
    );
    assert!(found[1].2.contains("is damaged"), "{found:?}");
    let told = project.fracture(&["verify", SPEC]).code(3);
    assert!(told.stderr.contains("damaged or lost"), "{}", told.stderr);
    project.fracture(&["run", SPEC]).ok();
    assert!(verified(&project, &[], 0).iter().all(|(_, how, _)| how == "bits"));
}

#[test]
fn runs_without_work_share_a_list_of_tasks() {
    let project = project();
    project.write("say", "1");
    for _ in 0..3 {
        project.fracture(&["run", SPEC]).ok();
    }
    let lists = || fs::read_dir(project.path(".fracture/runs/lists")).unwrap().count();
    assert_eq!(lists(), 1);
    let runs = project.fracture(&["runs", "--json"]).ok().json();
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len(), 3);
    // Readers see the tasks, wherever they are kept.
    let names = |run: &Value| -> Vec<String> {
        let tasks = run["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| format!("{} {}", task["task"].as_str().unwrap(), task["action"]))
            .collect()
    };
    assert_eq!(names(&runs[0]), names(&runs[2]));
    assert_eq!(
        (&runs[0]["tasks"][0]["fate"], &runs[2]["tasks"][0]["fate"]),
        (&"cached".into(), &"ran".into())
    );

    // Other tasks are another list; a collection removes those that no run has any more.
    project.edit(SPEC, |text| text.replace("&& printf", "; printf"));
    for _ in 0..2 {
        project.fracture(&["run", SPEC]).ok();
    }
    assert_eq!(lists(), 2);
    project.fracture(&["gc", "--keep-runs", "2"]).ok();
    let old = fs::read_dir(project.path(".fracture/runs")).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".json")
    });
    // Young records stay, and hold their lists.
    assert_eq!((old.count(), lists()), (5, 2));
    let damaged = project.path(".fracture/runs/lists");
    fs::remove_dir_all(damaged).unwrap();
    let ran = project.fracture(&["runs"]).ok();
    assert_eq!(
        ran.stderr.matches("no whole record of a run").count(),
        3,
        "{}",
        ran.stderr
    );
}
