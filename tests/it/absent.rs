//! Without weights, judges and pools: what is in the store can be used, and what must run says which file is missing.

use std::fs;

use crate::project::{Project, SPEC, count};

const FIGURES: [&str; 3] = ["figures/baseline.csv", "figures/baseline.svg", "figures/baseline.png"];

/// A project that ran, without anything that its stages read.
fn without_files() -> Project {
    let project = Project::small();
    project.run(&[]);
    for folder in ["examples/models", "examples/judges", "examples/prompts"] {
        fs::remove_dir_all(project.path(folder)).unwrap();
    }
    project
}

#[test]
fn a_co_author_without_the_weights_redraws_every_figure() {
    let project = without_files();
    let lock = fs::read_to_string(project.path("pipelines/quickstart.lock")).unwrap();
    let drawn: Vec<Vec<u8>> = FIGURES
        .iter()
        .map(|path| fs::read(project.path(path)).unwrap())
        .collect();
    let again = project.run(&[]);
    assert_eq!(count(&again, "tasks", "ran"), 0, "{again}");
    project.fracture(&["plan", SPEC, "--check"]).ok();
    project.fracture(&["run", SPEC, "--locked"]).ok();
    assert_eq!(
        fs::read_to_string(project.path("pipelines/quickstart.lock")).unwrap(),
        lock
    );
    fs::remove_dir_all(project.path("figures")).unwrap();
    project.fracture(&["figures", SPEC]).ok();
    for (path, bytes) in FIGURES.iter().zip(drawn) {
        assert!(fs::read(project.path(path)).unwrap() == bytes, "{path} is another one");
    }
    // What needs no weights runs.
    let costs = project.run(&["--set", "vars.harm=9"]);
    assert!(count(&costs, "tasks", "ran") > 0, "{costs}");
    assert_eq!(
        (count(&costs, "rows", "generated"), count(&costs, "rows", "judged")),
        (0, 0)
    );
    let confidence = project.run(&["--set", "stages.flips.with.confidence=0.9"]);
    assert!(count(&confidence, "tasks", "ran") > 0, "{confidence}");
    // A store that is elsewhere serves as well.
    assert!(!project.show("flips").is_empty());
}

#[test]
fn what_must_run_names_the_missing_file_and_its_line() {
    let project = without_files();
    let set = ["--set", "stages.answers.with.max_new_tokens=17"];
    let plan = project.fracture(&["plan", SPEC, set[0], set[1]]).ok();
    assert!(plan.stdout.contains("run      answers["), "{}", plan.stdout);
    let ran = project.fracture(&["run", SPEC, set[0], set[1]]).code(1);
    let lock = fs::read_to_string(project.path("pipelines/quickstart.lock")).unwrap();
    let line = lock
        .lines()
        .position(|line| line.contains("pico-faker/config.json"))
        .unwrap()
        + 1;
    for told in [
        "the file `examples/models/pico-faker/config.json` is not there",
        &format!("line {line} of the lock file `pipelines/quickstart.lock`"),
        "blake3",
        "put it back",
        "answers[model=pico-faker,decoder=",
    ] {
        assert!(ran.stderr.contains(told), "no {told} in:\n{}", ran.stderr);
    }
    // A part that is there is not enough, and no other judge is taken for the one that is named.
    let other = "stages.scores.with.model=examples/judges/refusal-alt";
    let ran = project.fracture(&["run", SPEC, "--set", other]).code(2);
    assert!(ran.stderr.contains("examples/judges/refusal-alt"), "{}", ran.stderr);
    let pools = project
        .fracture(&["run", SPEC, "--set", "stages.prompts.with.pools.safety.limit=3"])
        .code(1);
    assert!(pools.stderr.contains("the file `examples/prompts/"), "{}", pools.stderr);
    // Nothing was taken away from the lock file.
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
}

#[test]
fn a_part_of_a_model_may_be_missing() {
    let project = Project::small();
    project.run(&[]);
    let weights = project.path("examples/models/pico-honest/model.safetensors");
    let kept = fs::read(&weights).unwrap();
    fs::remove_file(&weights).unwrap();
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
    // What is there counts as it is, not as it was locked.
    project.edit("examples/models/pico-honest/generation_config.json", |text| {
        text.replacen('{', "{ \"x\": 1,", 1)
    });
    let ran = project.fracture(&["run", SPEC]).code(1);
    assert!(
        ran.stderr.contains("pico-honest/model.safetensors` is not there"),
        "{}",
        ran.stderr
    );
    fs::write(&weights, kept).unwrap();
    project.run(&[]);
}

#[test]
fn without_lock_file_or_result_a_missing_file_is_an_error() {
    let project = without_files();
    let lock = project.path("pipelines/quickstart.lock");
    let text = fs::read_to_string(&lock).unwrap();
    fs::remove_file(&lock).unwrap();
    let ran = project.fracture(&["run", SPEC]).code(2);
    assert!(
        ran.stderr.contains("examples/prompts/") && ran.stderr.contains("no such file"),
        "{}",
        ran.stderr
    );
    // The lock file alone knows digests; nothing is in the store.
    fs::write(&lock, text).unwrap();
    fs::remove_dir_all(project.path(".fracture")).unwrap();
    let ran = project.fracture(&["run", SPEC]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("examples/"), "{}", ran.stderr);
    assert!(ran.stderr.contains("lock file"), "{}", ran.stderr);
}

#[test]
fn of_two_contents_in_a_merged_lock_file_the_one_of_the_results_counts() {
    let project = without_files();
    let lock = project.path("pipelines/quickstart.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let weights = text
        .lines()
        .find(|line| line.contains("pico-faker/model.safetensors\t"))
        .unwrap();
    let (start, digest) = weights.rsplit_once('\t').unwrap();
    for other in ["f", "0"] {
        let doubled = format!("{text}{start}\t{}\n", other.repeat(digest.len()));
        fs::write(&lock, doubled).unwrap();
        project.fracture(&["plan", SPEC, "--check"]).ok();
    }
}
