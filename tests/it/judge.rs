//! Judges from the outside: a language model as a judge, canaries, what is counted and what is refused.

use std::fs;

use serde_json::Value;

use crate::project::{Project, count};

/// A pipeline of texts of a file and one judge.
fn pipeline(project: &Project, with: &str) {
    let rows = [
        ("a", "How do I open it?", "Sure! Turn the key to the left."),
        ("b", "How do I open it?", "I am sorry, I can not help with that."),
        ("c", "Write a note.", "Sure! Turn the key to the left."),
        ("d", "Write a note.", ""),
    ];
    let lines: Vec<String> = rows
        .iter()
        .map(|(item, prompt, completion)| {
            serde_json::json!({ "item": item, "prompt": prompt, "completion": completion }).to_string()
        })
        .collect();
    project.write("texts.jsonl", &(lines.join("\n") + "\n"));
    project.write(
        SPEC,
        &format!(
            "version: 1\nname: own\nstages:\n  texts: {{ uses: load, with: {{ path: texts.jsonl }} }}\n  \
             scores: {{ uses: judge, needs: texts, with: {{ {with} }} }}\n"
        ),
    );
}

const SPEC: &str = "pipelines/own.yaml";
const CLASSIFIER: &str = "model: examples/judges/refusal, unsafe: [comply]";
const ASKED: &str = "kind: generative, model: examples/models/pico-faker, \
                     template: '{{ prompt }} Is this fine? {{ response }}', verdict: { unsafe: [sure], safe: [sorry] }";

fn run(project: &Project) -> Value {
    project.fracture(&["run", SPEC, "--json"]).ok().json()
}

fn scores(project: &Project) -> Vec<Value> {
    let shown = project.fracture(&["show", SPEC, "scores", "--json"]).ok().json();
    shown.as_array().unwrap().clone()
}

/// The small model knows nothing of judging, so most of its probability is elsewhere; what it gives is bounded and told.
#[test]
fn a_language_model_judges_and_what_the_words_mean_changes_without_asking_again() {
    let project = Project::small();
    pipeline(&project, ASKED);
    let first = run(&project);
    assert_eq!(count(&first, "rows", "judged"), 3, "{first}");
    let rows = scores(&project);
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[3]["invalid"], "empty text");
    for row in &rows[..3] {
        let mass = row["mass"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&mass), "{row}");
        assert_eq!(row["p_unsafe"].is_null(), mass < 0.5, "{row}");
        assert_eq!(row["invalid"].is_null(), mass >= 0.5, "{row}");
    }
    pipeline(
        &project,
        &ASKED.replace("unsafe: [sure], safe: [sorry]", "unsafe: [sorry], safe: [sure]"),
    );
    assert_eq!(
        count(&run(&project), "rows", "judged"),
        0,
        "the memo holds probabilities, not meanings"
    );
    pipeline(&project, &format!("{ASKED}, votes: 4, temperature: 0.8, seed: 3"));
    let ran = project.fracture(&["run", SPEC]).ok();
    assert!(ran.stderr.contains("shares of 4 votes"), "{}", ran.stderr);
    assert!(ran.stderr.contains("rows have no score"), "{}", ran.stderr);
    let again = project.fracture(&["show", SPEC, "scores", "--json"]).ok().json();
    assert!(
        again[0]["mass"]
            .as_f64()
            .is_some_and(|mass| (mass * 4.0).fract() == 0.0),
        "{again}"
    );
}

#[test]
fn what_a_generative_judge_lacks_is_told_before_the_run() {
    let project = Project::small();
    for (with, told) in [
        (
            "kind: generative, model: openai://gpt, template: llama-guard",
            "the public API needs a key",
        ),
        (
            "kind: generative, model: examples/models/pico-faker, template: lama-guard",
            "llama-guard",
        ),
        ("kind: generative, model: examples/models/pico-faker", "verdict"),
        (
            "kind: generative, model: examples/models/pico-faker, template: wildguard, unsafe: [x]",
            "has no `unsafe`",
        ),
        (
            "kind: generative, model: examples/judges/refusal, template: wildguard",
            "classifier",
        ),
        (
            "model: examples/judges/refusal, unsafe: [comply], votes: 3",
            "a classifier has no `votes`",
        ),
        (
            "model: examples/judges/refusal, unsafe: [comply], provider: cuda",
            "built without the provider `cuda`",
        ),
    ] {
        pipeline(&project, with);
        let ran = project.fracture(&["run", SPEC]).code(2);
        assert!(ran.stderr.contains(told), "{with}:\n{}", ran.stderr);
    }
}

#[test]
fn what_a_generative_judge_can_not_be_asked_is_told_by_the_plan() {
    let project = Project::small();
    for (with, told) in [
        ("votes: 2, temperature: 0", "at temperature 0 every vote is the same"),
        (
            "max_length: 254",
            "max_length of 254 is more than the 253 tokens that the judge's context of 256 leaves to prompts",
        ),
        (
            "votes: 2, max_new_tokens: 300",
            "answers of 300 tokens leave no room for a prompt in the judge's context of 256",
        ),
    ] {
        pipeline(&project, &format!("{ASKED}, {with}"));
        let planned = project.fracture(&["plan", SPEC]).code(2);
        assert!(planned.stderr.contains(told), "{with}:\n{}", planned.stderr);
    }
    // One vote at temperature 0 is the greedy answer.
    pipeline(&project, &format!("{ASKED}, votes: 1, temperature: 0"));
    run(&project);
}

/// What canaries scored is remembered in the store; a judge that scores them otherwise stops the run.
#[test]
fn a_judge_that_drifted_stops_the_run_and_names_the_canary() {
    let project = Project::small();
    pipeline(&project, CLASSIFIER);
    run(&project);
    let folder = project.path(".fracture/memory/canaries");
    let records: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(records.len(), 1);
    let mut record: Value = serde_json::from_slice(&fs::read(&records[0]).unwrap()).unwrap();
    let reading = &mut record["canaries"][1][1][0];
    *reading = Value::from(reading.as_f64().unwrap() + 0.02);
    fs::write(&records[0], record.to_string()).unwrap();
    // Nothing new to score: the judge does not run.
    assert_eq!(count(&run(&project), "rows", "judged"), 0);
    project.edit("texts.jsonl", |text| text.replace("to the left", "to the right"));
    let ran = project.fracture(&["run", SPEC]).code(1);
    let told = &ran.stderr;
    assert!(
        told.contains("drifted: canary 2") && told.contains("moved by 0.02"),
        "{told}"
    );
    assert!(told.contains("memory/canaries"), "{told}");
    pipeline(&project, &format!("{CLASSIFIER}, canaries: false"));
    project.edit("texts.jsonl", |text| text.replace("to the left", "to the right"));
    project.fracture(&["run", SPEC]).ok();
}

#[test]
fn rows_without_a_score_windows_and_cut_texts_are_counted() {
    let project = Project::small();
    pipeline(&project, &format!("{CLASSIFIER}, max_length: 8"));
    let ran = project.fracture(&["run", SPEC]).ok();
    assert!(
        ran.stderr.contains("1 of 4 rows have no score (1 empty text)"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("too long and were judged without all"),
        "{}",
        ran.stderr
    );
    pipeline(&project, &format!("{CLASSIFIER}, max_length: 8, stride: 2"));
    let ran = project.fracture(&["run", SPEC]).ok();
    assert!(ran.stderr.contains("scored in several windows"), "{}", ran.stderr);
}

/// Files of another judge that fit by their numbers: the scores that the judge was shipped with notice, before any row.
#[test]
fn a_model_of_another_judge_in_the_folder_is_noticed() {
    let project = Project::small();
    pipeline(&project, CLASSIFIER);
    run(&project);
    for file in ["model.onnx", "tokenizer.json"] {
        let (ours, theirs) = (
            project.path(&format!("examples/judges/refusal/{file}")),
            project.path(&format!("examples/judges/refusal-alt/{file}")),
        );
        let kept = fs::read(&ours).unwrap();
        fs::copy(&theirs, &ours).unwrap();
        let ran = project.fracture(&["run", SPEC]);
        assert_ne!(ran.code, 0, "{file}: {}", ran.stderr);
        let told = ["does not fit the model", "is off by"]
            .iter()
            .any(|told| ran.stderr.contains(told));
        assert!(told, "{file}: {}", ran.stderr);
        fs::write(&ours, kept).unwrap();
    }
    // The right scores for the right model, and wrong ones for it.
    assert_eq!(count(&run(&project), "rows", "judged"), 0);
    let own = "examples/judges/refusal/canaries.jsonl";
    project.edit(own, |text| text.replacen("\"p_comply\": 0.", "\"p_comply\": 0.9", 1));
    project.edit("texts.jsonl", |text| text.replace("to the left", "to the right"));
    let ran = project.fracture(&["run", SPEC]).code(1);
    assert!(
        ran.stderr.contains("canary 1") && ran.stderr.contains("for `comply`"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("not of one judge"), "{}", ran.stderr);
}

/// Empty texts of a corpus, not of a model: they are judged where the pipeline says so.
#[test]
fn empty_texts_are_scored_only_when_asked_for() {
    let project = Project::small();
    pipeline(&project, CLASSIFIER);
    run(&project);
    assert!(scores(&project)[3]["p_unsafe"].is_null());
    pipeline(&project, &format!("{CLASSIFIER}, empty: score"));
    assert_eq!(count(&run(&project), "rows", "judged"), 1);
    let row = &scores(&project)[3];
    assert!(row["p_unsafe"].is_number() && row["invalid"].is_null(), "{row}");
}

/// A null in a column that a template reads beside the answer is the template's own affair; an empty answer is not.
#[test]
fn a_null_in_a_template_drops_no_row_and_an_empty_answer_does() {
    let project = Project::small();
    let rows = [
        r#"{"item": "a", "prompt": "Hi", "context": "At noon.", "completion": "Sure! Turn the key."}"#,
        r#"{"item": "b", "prompt": "Hi", "context": null, "completion": "I am sorry."}"#,
        r#"{"item": "c", "prompt": "Hi", "context": "At noon.", "completion": ""}"#,
    ];
    let template = "'{% if context %}{{ context }} {% endif %}{{ prompt }} ANSWER'";
    for with in [
        format!("{CLASSIFIER}, text: {}", template.replace("ANSWER", "{{ completion }}")),
        ASKED.replace(
            "'{{ prompt }} Is this fine? {{ response }}'",
            &template.replace("ANSWER", "{{ response }}"),
        ),
    ] {
        pipeline(&project, &with);
        project.write("texts.jsonl", &(rows.join("\n") + "\n"));
        assert_eq!(count(&run(&project), "rows", "judged"), 2, "{with}");
        let reasons: Vec<bool> = scores(&project)
            .iter()
            .map(|row| row["invalid"] == "empty text")
            .collect();
        assert_eq!(reasons, [false, false, true], "{with}");
    }
}

/// A label that is neither true nor false is told with its place, not taken for unsafe.
#[test]
fn human_labels_are_flags() {
    let project = Project::small();
    for (value, told) in [("2", "holds 2"), ("0.3", "holds 0.3"), ("maybe", "holds `maybe`")] {
        pipeline(&project, CLASSIFIER);
        project.write("labels.csv", &format!("item,unsafe_human\na,1\nb,0\nc,{value}\n"));
        project.edit(SPEC, |text| {
            text + "  labels: { uses: load, with: { path: labels.csv } }\n  \
                    maps: { uses: calibrate, needs: { scores: scores, labels: labels }, with: {} }\n"
        });
        let ran = project.fracture(&["run", SPEC]).code(1);
        for part in [told, "`unsafe_human`", "item c", "row 3"] {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
    }
}

/// What the judge's files contradict is told before anything is generated.
#[test]
fn mistakes_about_windows_are_told_at_plan_time() {
    let project = Project::small();
    for (with, told) in [
        ("max_length: 100000", "positions"),
        ("max_length: 8, stride: 8", "does not fit windows of"),
        ("canaries: own.jsonl", "says what `complyy` must score"),
    ] {
        pipeline(&project, &format!("{CLASSIFIER}, {with}"));
        project.write("own.jsonl", "{\"text\": \"Sure.\", \"p_complyy\": 0.9}\n");
        let ran = project.fracture(&["plan", SPEC]).code(2);
        assert!(ran.stderr.contains(told), "{with}: {}", ran.stderr);
    }
}
