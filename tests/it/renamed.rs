//! What things are called reruns nothing that does not read it, and is in no result.

use std::fmt::Write;
use std::fs;

use crate::project::{Project, SPEC, count};

const OWN: &str = "pipelines/own.yaml";

/// Scores of twelve items under two regimes; another `shift`, other scores.
fn scores(shift: usize) -> String {
    let mut csv = "item,axis,regime,p_unsafe\n".to_owned();
    for item in 0..12 {
        let axis = if item % 2 == 0 { "safety" } else { "helpfulness" };
        for (place, regime) in ["train", "deploy"].into_iter().enumerate() {
            let score = ((item * 7 + place * 5 + shift * 3) % 11) as f64 / 10.0;
            writeln!(csv, "i{item},{axis},{regime},{score}").unwrap();
        }
    }
    csv
}

/// A pipeline over two files of scores, each a model of that name.
fn project(models: [&str; 2], by: &str) -> Project {
    let project = Project::empty();
    project.write("one.csv", &scores(0));
    project.write("two.csv", &scores(1));
    write(&project, models, by);
    project
}

fn write(project: &Project, [one, two]: [&str; 2], by: &str) {
    let text = format!(
        "version: 1
stages:
  scores:
    uses: load
    matrix: {{ model: {{ {one}: one.csv, {two}: two.csv }} }}
    with: {{ path: \"${{matrix.model}}\" }}
  verdicts: {{ uses: threshold, needs: scores, with: {{ tau: 0.5 }} }}
  flips: {{ uses: fracture, needs: verdicts, with: {{ by: {by}, bootstrap: 200 }} }}
"
    );
    project.write(OWN, &text);
}

/// The key and the output of a task in the lock file.
fn locked(project: &Project, task: &str) -> (String, String) {
    let lock = fs::read_to_string(project.path("pipelines/own.lock")).unwrap();
    let line = lock
        .lines()
        .find(|line| line.starts_with(&format!("task\t{task}\t")))
        .unwrap();
    let field = |place| line.split('\t').nth(place).unwrap().to_owned();
    (field(3), field(4))
}

fn ran(project: &Project) -> u64 {
    let summary = project.fracture(&["run", OWN, "--json"]).ok().json();
    count(&summary, "tasks", "ran")
}

#[test]
fn models_that_a_reader_does_not_name_may_have_any_name() {
    let project = project(["first", "second"], "[axis]");
    assert_eq!(ran(&project), 5);
    let before = locked(&project, "flips");
    for names in [["zeta", "alpha"], ["second", "first"], ["a", "b"]] {
        write(&project, names, "[axis]");
        assert_eq!(ran(&project), 0, "{names:?}");
        assert_eq!(locked(&project, "flips"), before, "{names:?}");
    }
    // The same names in another store, and in another order: the same result under the same key.
    let fresh = self::project(["zeta", "alpha"], "[axis]");
    ran(&fresh);
    assert_eq!(locked(&fresh, "flips"), before);
    fresh.fracture(&["verify", OWN]).ok();

    // Which rows belong together still matters: one model twice is no second model.
    project.write("two.csv", &scores(0));
    assert_eq!(ran(&project), 1, "its verdicts are known; flips are counted anew");
    assert_ne!(locked(&project, "flips"), before);
}

#[test]
fn a_name_that_is_read_counts() {
    let project = project(["first", "second"], "[axis, model]");
    assert_eq!(ran(&project), 5);
    write(&project, ["zeta", "alpha"], "[axis, model]");
    assert_eq!(ran(&project), 1, "the names are in the table");
    let why = project.fracture(&["why", OWN, "flips"]).ok().stdout;
    assert!(!why.contains("belong together"), "{why}");
}

#[test]
fn why_tells_that_inputs_belong_together_otherwise() {
    let project = project(["first", "second"], "[axis]");
    ran(&project);
    project.edit(OWN, |text| {
        text.replace("second: two.csv", "second: two.csv, third: two.csv")
    });
    let why = project.fracture(&["why", OWN, "flips"]).ok().stdout;
    assert!(
        why.contains("which inputs of verdicts belong together: [0, 1] → [0, 1, 2]"),
        "{why}"
    );
}

#[test]
fn errors_speak_of_names_that_the_stage_does_not_see() {
    let project = project(["first", "second"], "[axis]");
    project.edit("two.csv", |text| format!("{text}i3,helpfulness,deploy,0.9\n"));
    let said = project.fracture(&["run", OWN]).code(1).stderr;
    assert!(
        said.contains(
            "two rows are equal in everything that tells rows apart: item i3, axis helpfulness, model second"
        ),
        "{said}"
    );
}

#[test]
fn another_judge_with_the_same_scores_reruns_nothing_after_it() {
    let project = Project::small();
    project.run(&[]);
    let from = project.path("examples/judges/refusal");
    let to = project.path("examples/judges/copy");
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(&from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    project.edit(SPEC, |text| {
        let text = text.replace("model: examples/judges/refusal\n", "model: examples/judges/copy\n");
        // A label that nobody names, too.
        text.replace("family: llama", "family: llama, size: tiny")
    });
    let plan = project.fracture(&["plan", SPEC]).ok().stdout;
    assert!(plan.contains("0 to run"), "{plan}");
    assert_eq!(count(&project.run(&[]), "tasks", "ran"), 0);
}
