//! Models and judges from a hub, through the program: what is fetched when, what is pinned, and what is asked of nobody.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::project::{Project, Ran, count};
use crate::server::{Fault, Server, commit, folder};

const PIPELINE: &str = "pipelines/hub.yaml";

/// A pipeline with one model and one judge.
fn pipeline(model: &str, judge: &str) -> String {
    format!(
        "version: 1\n\
         models:\n  pico-honest: {{ source: \"{model}\" }}\n\
         stages:\n\
         \x20 prompts:\n    uses: prompt\n    with:\n      pools: {{ safety: {{ path: examples/prompts/safety.jsonl, limit: 3 }} }}\n      regimes: {{ train: {{ cue: fine-tuning, objective: safe }}, deploy: {{}} }}\n\
         \x20 answers:\n    uses: generate\n    needs: prompts\n    with: {{ model: pico-honest, max_new_tokens: 12 }}\n\
         \x20 scores:\n    uses: judge\n    needs: answers\n    with: {{ model: \"{judge}\", unsafe: [comply] }}\n\
         \x20 verdicts: {{ uses: threshold, needs: scores, with: {{ tau: 0.5 }} }}\n\
         figures:\n  table: {{ plot: table, from: verdicts, to: figures/hub.csv }}\n"
    )
}

/// A project, a hub, and a user with an empty cache.
struct World {
    server: Server,
    project: Project,
    home: TempDir,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        server.push("org/pico-honest", "main", 1, example("models/pico-honest"));
        server.push("org/refusal", "main", 10, example("judges/refusal"));
        let project = Project::shipped();
        project.write(PIPELINE, &pipeline("hf://org/pico-honest", "hf://org/refusal"));
        Self {
            server,
            project,
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        for name in [
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
        ] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path());
        command.env("HF_ENDPOINT", &self.server.endpoint);
        command
    }

    fn fracture(&self, args: &[&str]) -> Ran {
        Ran::new(&self.command(args).output().unwrap())
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["run", PIPELINE, "--json"].iter().chain(args).copied().collect();
        self.fracture(&all).ok().json()
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.project.path("pipelines/hub.lock")).unwrap()
    }

    /// The lines of the lock file that begin so.
    fn lines(&self, begin: &str) -> Vec<String> {
        let text = self.lock();
        text.lines()
            .filter(|line| line.starts_with(begin))
            .map(str::to_owned)
            .collect()
    }

    /// Lets the branch mean another model.
    fn move_branch(&self) {
        self.server
            .push("org/pico-honest", "main", 2, example("models/pico-faker"));
    }

    fn forget_cache(&self) {
        fs::remove_dir_all(self.home.path().join("hub")).unwrap();
    }
}

fn example(name: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name))
}

#[test]
fn a_run_fetches_and_the_next_asks_nobody() {
    let world = World::new();
    let plan = world.fracture(&["plan", PIPELINE]).ok();
    for told in [
        "model hf://org/pico-honest: to be fetched",
        "model hf://org/refusal: to be fetched",
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
fn a_branch_that_moves_matters_when_the_user_says_so() {
    let world = World::new();
    world.run(&[]);
    let (before, lock) = (world.lines("task\t"), world.lock());
    world.move_branch();
    world.server.seen();
    assert_eq!(count(&world.run(&[]), "tasks", "ran"), 0);
    assert_eq!((world.server.seen().len(), world.lock()), (0, lock));
    let plan = world.fracture(&["plan", PIPELINE, "--update"]).ok();
    let moved = "revision of hf://org/pico-honest@main: 000000010000 → 000000020000";
    assert!(
        plan.stdout.contains(moved) && plan.stdout.contains("to be fetched"),
        "{}",
        plan.stdout
    );
    assert!(
        plan.stderr.contains("`hf://org/refusal@main` is still at"),
        "{}",
        plan.stderr
    );
    let ran = world.fracture(&["run", PIPELINE, "--update"]).ok();
    assert!(
        ran.stderr.contains("`hf://org/pico-honest@main` moved"),
        "{}",
        ran.stderr
    );
    let after = world.lines("task\t");
    assert_ne!(after, before);
    assert!(
        world
            .lines("file\thf://org/pico-honest/")
            .iter()
            .all(|line| line.contains(&commit(2))),
        "{}",
        world.lock()
    );
    // Back at the old commit everything is there.
    world
        .server
        .push("org/pico-honest", "main", 1, example("models/pico-honest"));
    let back = world.fracture(&["run", PIPELINE, "--update", "--json"]).ok().json();
    assert_eq!(count(&back, "tasks", "ran"), 0, "{back}");
    assert_eq!(world.lines("task\t"), before);
}

#[test]
fn what_an_update_brought_is_told_file_by_file() {
    let world = World::new();
    world.run(&[]);
    world.move_branch();
    // The new commit is here, but no task ran with it.
    let other = world.fracture(&["run", PIPELINE, "--update", "--only", "prompts"]).ok();
    assert!(other.stderr.contains("moved"), "{}", other.stderr);
    world
        .fracture(&[
            "run",
            PIPELINE,
            "--update",
            "--only",
            "answers",
            "--set",
            "stages.answers.with.max_new_tokens=2",
        ])
        .ok();
    let why = world.fracture(&["why", PIPELINE, "answers", "--update"]).ok();
    for told in [
        "file weights: fd00a15832f2… → 56c17cf7728f…",
        "revision of hf://org/pico-honest@main",
    ] {
        assert!(why.stdout.contains(told), "no {told} in\n{}", why.stdout);
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
fn locked_means_that_no_pin_moves() {
    let world = World::new();
    let ran = world.fracture(&["run", PIPELINE, "--locked"]).code(3);
    assert!(
        ran.stderr.contains("does not pin") && ran.stderr.contains("hf://org/refusal@main"),
        "{}",
        ran.stderr
    );
    assert_eq!(world.server.seen().len(), 0);
    world.run(&[]);
    world.fracture(&["run", PIPELINE, "--locked"]).ok();
    // The same commit by another name: nothing else differs.
    world
        .server
        .push("org/pico-honest", "v1", 1, example("models/pico-honest"));
    world
        .project
        .write(PIPELINE, &pipeline("hf://org/pico-honest@v1", "hf://org/refusal"));
    let ran = world.fracture(&["run", PIPELINE, "--locked"]).code(3);
    assert!(ran.stderr.contains("hf://org/pico-honest@v1"), "{}", ran.stderr);
    world.fracture(&["run", PIPELINE, "--locked", "--update"]).code(2);
}

#[test]
fn the_token_is_in_nothing_that_is_written_or_said() {
    const TOKEN: &str = "hf_topsecret";
    let world = World::new();
    world.server.fault(Fault::Gated(TOKEN));
    let refused = world.fracture(&["run", PIPELINE]).code(2);
    for told in ["is gated", "accept the licence", "HF_TOKEN", "hub.yaml:3"] {
        assert!(refused.stderr.contains(told), "no {told} in\n{}", refused.stderr);
    }
    let mut command = world.command(&["run", PIPELINE, "--events", "json"]);
    command.env("HF_TOKEN", TOKEN).env("FRACTURE_LOG", "trace");
    let ran = Ran::new(&command.output().unwrap()).ok();
    assert!(!ran.stderr.contains(TOKEN) && !ran.stdout.contains(TOKEN));
    let seen = world.server.seen();
    let elsewhere: Vec<_> = seen.iter().filter(|one| one.server == "store").collect();
    assert!(
        !elsewhere.is_empty() && elsewhere.iter().all(|one| one.authorization.is_none()),
        "{elsewhere:?}"
    );
    for root in [world.project.root(), world.home.path()] {
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    assert!(
                        !bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()),
                        "{path:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn damage_in_the_cache_is_noticed() {
    let world = World::new();
    world.run(&[]);
    let snapshot = world
        .home
        .path()
        .join("hub/models--org--pico-honest/snapshots")
        .join(commit(1));
    let blob = fs::canonicalize(snapshot.join("model.safetensors")).unwrap();
    let mut bytes = fs::read(&blob).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let ran = world.fracture(&["run", PIPELINE]).code(1);
    for told in ["hf://org/pico-honest/model.safetensors", "damaged", "blake3", "remove"] {
        assert!(ran.stderr.contains(told), "no {told} in\n{}", ran.stderr);
    }
    fs::write(&blob, &bytes[..end]).unwrap();
    assert_eq!(
        count(&world.run(&[]), "tasks", "ran"),
        0,
        "nothing needs it, and it counts as locked"
    );
    let set = world.run(&["--set", "stages.answers.with.max_new_tokens=3"]);
    assert!(count(&set, "rows", "generated") > 0, "{set}");
    assert_eq!(fs::read(&blob).unwrap().len(), end + 1);
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

#[test]
fn doctor_tells_of_the_hub() {
    let world = World::new();
    let checks = world.fracture(&["doctor", "--json", "--offline"]);
    let hub = |ran: &Ran| -> Value {
        let all = ran.json();
        all.as_array()
            .unwrap()
            .iter()
            .find(|check| check["check"] == "hub")
            .unwrap()
            .clone()
    };
    let told = hub(&checks)["detail"].as_str().unwrap().to_owned();
    assert!(
        told.contains("offline by --offline") && told.contains("no token"),
        "{told}"
    );
    let mut command = world.command(&["doctor", "--json"]);
    let checks = Ran::new(&command.env("HF_TOKEN", "hf_secret").output().unwrap());
    let told = hub(&checks)["detail"].as_str().unwrap().to_owned();
    assert!(
        told.contains(&world.server.endpoint) && told.contains("token from HF_TOKEN"),
        "{told}"
    );
    assert!(!checks.stdout.contains("hf_secret"));
    let mut command = world.command(&["doctor", "--json"]);
    let checks = Ran::new(&command.env("HF_ENDPOINT", "nowhere").output().unwrap());
    assert!(hub(&checks)["ok"] == false && hub(&checks)["hint"].is_string());
}

#[test]
fn update_without_a_model_on_a_hub_says_so() {
    let world = World::new();
    world.project.write(
        PIPELINE,
        &pipeline("examples/models/pico-honest", "examples/judges/refusal"),
    );
    let ran = world.fracture(&["run", PIPELINE, "--update"]).ok();
    assert!(ran.stderr.contains("names no model on a hub"), "{}", ran.stderr);
}
