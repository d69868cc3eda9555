//! Models and judges from a hub, through the program: what is fetched when, what is pinned, and what is asked of nobody.

mod fetching;
mod pins;
mod trust;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::project::{Project, Ran};
use crate::server::{Server, folder};

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
