//! A project in a temporary folder, with the shipped pipelines and inputs, and the program run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A project of its own, with a store of its own.
pub struct Project {
    folder: TempDir,
}

/// What a run of the program gave.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn new(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A command, run to its end.
    pub fn of(command: &mut Command) -> Self {
        Self::new(&command.output().unwrap())
    }

    /// The run, which must have ended with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stderr:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }

    /// The run, which must have ended with that code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stderr:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

/// A count of the summary that `run --json` prints.
#[track_caller]
pub fn count(summary: &Value, group: &str, name: &str) -> u64 {
    summary[group][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {group}.{name} in {summary}"))
}

pub const SPEC: &str = "pipelines/quickstart.yaml";

impl Project {
    /// A project without anything.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fracture.toml"), "").unwrap();
        Self { folder }
    }

    /// The shipped pipelines and examples.
    pub fn shipped() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in [
            "pipelines",
            "examples/prompts",
            "examples/models",
            "examples/judges",
            "examples/encoders",
        ] {
            copy(&root.join(name), &folder.path().join(name));
        }
        fs::write(folder.path().join("fracture.toml"), "").unwrap();
        let project = Self { folder };
        for entry in fs::read_dir(project.path("pipelines")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "lock") {
                fs::remove_file(path).unwrap();
            }
        }
        project
    }

    /// The shipped project with a quickstart of a few prompts, which runs in a moment.
    pub fn small() -> Self {
        let project = Self::shipped();
        project.edit(SPEC, |text| {
            let mut text = text
                .replace("samples: 4", "samples: 2")
                .replace("max_new_tokens: 48", "max_new_tokens: 16");
            for axis in ["safety", "harmlessness", "helpfulness"] {
                let (pool, limited) = (format!("{axis}.jsonl }}"), format!("{axis}.jsonl, limit: 4 }}"));
                assert!(text.contains(&pool), "the quickstart has changed");
                text = text.replace(&pool, &limited);
            }
            text
        });
        project
    }

    /// A copy of this project with its store, at another place.
    pub fn copied(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        Self { folder }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[track_caller]
    pub fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        let changed = change(text.clone());
        assert_ne!(text, changed, "the edit of {name} changed nothing");
        fs::write(self.path(name), changed).unwrap();
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fracture"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_remove("FRACTURE_STORE").env("NO_COLOR", "1");
        command
    }

    pub fn fracture(&self, args: &[&str]) -> Ran {
        Ran::new(&self.command(args).output().unwrap())
    }

    /// `run SPEC --json` with further arguments; gives the summary.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["run", SPEC, "--json"].iter().chain(args).copied().collect();
        self.fracture(&all).ok().json()
    }

    /// `show SPEC STAGE --json`.
    #[track_caller]
    pub fn show(&self, stage: &str) -> Vec<Value> {
        self.fracture(&["show", SPEC, stage, "--json"])
            .ok()
            .json()
            .as_array()
            .unwrap()
            .clone()
    }

    /// The files of all objects in the project's store, sorted.
    pub fn objects(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.path(".fracture/objects")).unwrap();
        let folders = folders.map(|folder| folder.unwrap().path());
        let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        let mut objects: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        objects.sort();
        objects
    }

    /// The task lines of the lock file with what they gave: name and output.
    #[track_caller]
    pub fn outputs(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.path("pipelines/quickstart.lock")).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("task\t"));
        let output = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            (fields[1].to_owned(), fields[4].to_owned())
        };
        lines.map(output).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
