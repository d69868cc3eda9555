//! The language against a catalogue of fake stage kinds.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod catalogue;
mod compile;
mod files;
mod limits;
mod precedence;
mod properties;

use std::path::{Path, PathBuf};

use fracture_language::{CompileOptions, Diagnostics, MAX_TASKS, Pipeline};

/// The folder of test pipelines.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Compiles a text as if it lay in a folder of test pipelines.
fn compile_with(text: &str, profiles: &[&str], sets: &[&str]) -> Result<Pipeline, Diagnostics> {
    let options = options(profiles, sets);
    let root = folder();
    let path = root.join("test.yaml");
    fracture_language::compile(
        &path,
        text,
        &catalogue::catalogue(),
        &catalogue::Disk(root.clone()),
        &root,
        &options,
    )
}

fn options(profiles: &[&str], sets: &[&str]) -> CompileOptions<'static> {
    CompileOptions {
        profiles: profiles.iter().map(|one| (*one).to_owned()).collect(),
        sets: sets.iter().map(|one| (*one).to_owned()).collect(),
        env: &|name| (name == "STAGE_LIMIT").then(|| "20".to_owned()),
        max_tasks: MAX_TASKS,
    }
}

/// The resolved document of a text in that folder.
fn resolved_with(text: &str, profiles: &[&str], sets: &[&str]) -> serde_yaml::Value {
    let root = folder();
    let files = catalogue::Disk(root.clone());
    fracture_language::resolve(&root.join("test.yaml"), text, &files, &root, &options(profiles, sets)).unwrap()
}

/// Compiles a text without options.
fn compile(text: &str) -> Result<Pipeline, Diagnostics> {
    compile_with(text, &[], &[])
}

/// The names of all tasks, sorted.
fn names(pipeline: &Pipeline) -> Vec<String> {
    let mut names: Vec<String> = pipeline.tasks.iter().map(|task| task.name.clone()).collect();
    names.sort();
    names
}
