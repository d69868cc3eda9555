//! What is fetched, from where, and by whom.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{PIPELINE, World, example, pipeline};
use crate::project::{Ran, count};
use crate::server::{commit, folder};

#[test]
fn a_run_fetches_and_the_next_asks_nobody() {
    let world = World::new();
    let plan = world.fracture(&["plan", PIPELINE]).ok();
    for told in [
        "model `hf://org/pico-honest`: to be fetched",
        "model `hf://org/refusal`: to be fetched",
    ] {
        assert!(plan.stdout.contains(told), "{}", plan.stdout);
    }
    assert_eq!(world.server.seen().len(), 0, "planning asks nobody");
    let first = world.fracture(&["run", PIPELINE, "--events", "json"]).ok();
    let fetched: Vec<Value> = first
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let whole = |event: &&Value| event["event"] == "fetch" && event["done"] == event["total"];
    let files: Vec<&str> = fetched
        .iter()
        .filter(whole)
        .filter_map(|event| event["file"].as_str())
        .collect();
    assert!(
        files.contains(&"model.safetensors") && files.contains(&"model.onnx"),
        "{files:?}"
    );
    let seen = world.server.seen();
    assert!(seen.iter().all(|one| !one.path.contains("metrics")), "{seen:?}");
    let pinned = world.lines("file\thf://org/pico-honest/model.safetensors\tweights\t");
    assert!(pinned.len() == 1 && pinned[0].contains(&commit(1)), "{}", world.lock());
    assert_eq!(world.lines("file\thf://org/refusal/").len(), 4, "{}", world.lock());
    let lock = world.lock();
    let again = world.run(&[]);
    assert_eq!(count(&again, "tasks", "ran"), 0, "{again}");
    world.fracture(&["plan", PIPELINE, "--check"]).ok();
    world.fracture(&["run", PIPELINE, "--locked"]).ok();
    world.fracture(&["verify", PIPELINE, "--offline"]).ok();
    assert_eq!(world.server.seen().len(), 0);
    assert_eq!(world.lock(), lock);
}

#[test]
fn the_same_files_give_the_same_keys_wherever_they_are_from() {
    let world = World::new();
    world.run(&[]);
    let hub = world.lines("task\t");
    world.project.write(
        PIPELINE,
        &pipeline("examples/models/pico-honest", "examples/judges/refusal"),
    );
    let again = world.run(&[]);
    assert_eq!(count(&again, "tasks", "ran"), 0, "{again}");
    assert_eq!(world.lines("task\t"), hub);
    assert_eq!(world.lines("file\thf://").len(), 0);
    // Neither does the revision matter, nor whether it is a branch.
    world
        .server
        .push("org/pico-honest", "v1", 1, example("models/pico-honest"));
    for revision in ["v1", &commit(1)] {
        world.project.write(
            PIPELINE,
            &pipeline(&format!("hf://org/pico-honest@{revision}"), "hf://org/refusal"),
        );
        assert_eq!(count(&world.run(&[]), "tasks", "ran"), 0);
        assert_eq!(world.lines("task\t"), hub);
        assert_eq!(world.lines(&format!("file\thf://org/pico-honest@{revision}/")).len(), 6);
    }
}

#[test]
fn offline_says_what_is_missing() {
    let world = World::new();
    let ran = world.fracture(&["run", PIPELINE, "--offline"]).code(2);
    for told in [
        "hub.yaml:3",
        "`hf://org/pico-honest@main` is not in the cache",
        "--offline forbids to fetch it",
        "run once without",
    ] {
        assert!(ran.stderr.contains(told), "no {told} in\n{}", ran.stderr);
    }
    let plan = world.fracture(&["plan", PIPELINE, "--offline"]).code(2);
    assert!(plan.stderr.contains("hf://org/refusal@main") && plan.stderr.contains("hf://org/pico-honest@main"));
    let mut command = world.command(&["plan", PIPELINE]);
    let plan = Ran::new(&command.env("HF_HUB_OFFLINE", "1").output().unwrap()).code(2);
    assert!(plan.stderr.contains("HF_HUB_OFFLINE forbids"), "{}", plan.stderr);
    assert_eq!(world.server.seen().len(), 0);
    world.run(&[]);
    world.server.seen();
    world.run(&["--offline"]);
    world.fracture(&["run", PIPELINE, "--offline", "--update"]).code(2);
    let set = world.run(&["--offline", "--set", "stages.answers.with.max_new_tokens=3"]);
    assert!(count(&set, "rows", "generated") > 0, "{set}");
    assert_eq!(world.server.seen().len(), 0);
}

#[test]
fn a_co_author_without_the_weights_fetches_when_something_must_run() {
    let world = World::new();
    world.run(&[]);
    let lock = world.lock();
    world.forget_cache();
    world.move_branch();
    world.server.seen();
    assert_eq!(count(&world.run(&[]), "tasks", "ran"), 0);
    world.fracture(&["plan", PIPELINE, "--check"]).ok();
    world.fracture(&["run", PIPELINE, "--locked"]).ok();
    fs::remove_dir_all(world.project.path("figures")).unwrap();
    world.fracture(&["figures", PIPELINE]).ok();
    assert!(world.project.path("figures/hub.csv").is_file());
    // What needs no model runs.
    let tau = world.run(&["--set", "stages.verdicts.with.tau=0.9"]);
    assert!(count(&tau, "tasks", "ran") > 0, "{tau}");
    assert_eq!((world.server.seen().len(), world.lock()), (0, lock.clone()));
    let offline = world
        .fracture(&[
            "run",
            PIPELINE,
            "--offline",
            "--set",
            "stages.answers.with.max_new_tokens=3",
        ])
        .code(1);
    assert!(offline.stderr.contains("was not fetched"), "{}", offline.stderr);
    // What must run fetches its model, at the commit that is locked; the judge of other texts is fetched when they are there.
    let set = world.run(&["--set", "stages.answers.with.max_new_tokens=3"]);
    assert!(count(&set, "rows", "generated") > 0, "{set}");
    let seen = world.server.seen();
    assert!(
        seen.iter()
            .any(|one| one.path.contains(&format!("pico-honest/{}/", commit(1)))),
        "{seen:?}"
    );
    assert!(seen.iter().all(|one| !one.path.contains(&commit(2))), "{seen:?}");
    assert_eq!(count(&world.run(&[]), "tasks", "ran"), 0);
    assert_eq!(world.lock(), lock);
}

#[test]
fn a_file_is_chosen_and_only_that_one_fetched() {
    let world = World::new();
    let mut files = example("judges/refusal");
    let graph = files.remove("model.onnx").unwrap();
    files.insert("onnx/model_a.onnx".to_owned(), graph.clone());
    files.insert("onnx/model_b.onnx".to_owned(), graph);
    world.server.push("org/refusal", "main", 11, files);
    let ran = world.fracture(&["run", PIPELINE]).code(2);
    assert!(
        ran.stderr.contains("several graphs") && ran.stderr.contains("file: onnx/model_a.onnx"),
        "{}",
        ran.stderr
    );
    world.run(&["--set", "stages.scores.with.file=onnx/model_b.onnx"]);
    assert!(world.server.seen().iter().all(|one| !one.path.contains("model_a")));
}

/// A pipeline over an adapted model and a packed one.
fn adapted(base: &str, adapter: &str, packed: &str) -> String {
    format!(
        "version: 1\nmodels:\n  tuned: {{ source: \"{base}\", adapter: \"{adapter}\" }}\n  \
         packed: {{ source: \"{packed}\", file: smollm.gguf }}\n\
         stages:\n  texts: {{ uses: load, with: {{ path: prompts.jsonl }} }}\n  \
         answers: {{ uses: generate, needs: texts, matrix: {{ model: [tuned, packed] }}, \
         with: {{ model: '${{matrix.model}}', max_new_tokens: 4 }} }}\n  \
         vectors: {{ uses: embed, needs: texts, matrix: {{ model: [tuned, packed] }}, \
         with: {{ model: '${{matrix.model}}', text: prompt }} }}\n"
    )
}

#[test]
fn adapters_and_packed_models_come_from_a_hub_too() {
    let world = World::new();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/generate/tests");
    let all = [
        ("org/base", "families/mistral_windowed"),
        ("org/lora", "families/adapters/patterns"),
        ("org/packed", "gguf"),
    ];
    for (number, (name, from)) in (20..).zip(all) {
        let files = folder(&tests.join(from));
        for (file, bytes) in &files {
            let path = world.project.path(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        world.server.push(name, "main", number, files);
    }
    let row = serde_json::json!({ "item": "a", "prompt": "How do I water roses?" });
    world.project.write("prompts.jsonl", &format!("{row}\n"));
    let text = adapted("hf://org/base", "hf://org/lora@main", "hf://org/packed");
    world.project.write(PIPELINE, &text);
    let first = world.run(&[]);
    assert_eq!(count(&first, "rows", "generated"), 2, "{first}");
    for (file, number) in [
        ("base/model.safetensors", 20),
        ("lora/adapter_model.safetensors", 21),
        ("packed/smollm.gguf", 22),
    ] {
        let lines = world.lines(&format!("file\thf://org/{file}\t"));
        assert!(
            lines.len() == 1 && lines[0].contains(&commit(number)),
            "{file}\n{}",
            world.lock()
        );
    }
    let seen = world.server.seen();
    assert!(seen.iter().all(|one| !one.path.contains("llama2.gguf")), "{seen:?}");
    assert_eq!(count(&world.run(&[]), "tasks", "ran"), 0);
    assert_eq!(world.server.seen().len(), 0);
    // The keys are those of folders.
    let keys = world.lines("task\t");
    world
        .project
        .write(PIPELINE, &adapted("org/base", "org/lora", "org/packed"));
    assert_eq!(count(&world.run(&[]), "tasks", "ran"), 0);
    assert_eq!(world.lines("task\t"), keys);
}
