//! Figures on the disk: a figure is a task that yields files; they are copied to `to:` when absent or different.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_cache::digest::Bytes;
use fracture_cache::{Artifact, Digest};
use fracture_language::{Diagnostics, Pipeline, TaskId};
use fracture_stage::{Error, ErrorKind, PathPart};
use serde_json::Value;

use super::SpecArgs;
use super::failure::{Exit, Failure};
use super::progress;
use super::project::Project;
use super::tables;
use crate::engine::event::{Event, Sink};
use crate::engine::lock::replace;
use crate::engine::plan::Plan;
use crate::engine::views::Content;
use crate::engine::{Workspace, store_error};
use fracture_figure::{split_path, targets};

/// What the figures show, read and not yet written.
#[derive(Default)]
pub struct Drawn {
    /// The figures whose results are there.
    pub names: Vec<String>,
    /// What each path holds.
    files: Vec<(String, Vec<u8>)>,
    /// Tables as the terminal shows them.
    pub tables: Vec<String>,
}

impl Drawn {
    /// Reads every figure whose result is there, and with `tables` what those that are tables show in a terminal.
    ///
    /// # Errors
    /// The task of the first figure that can not be read, and why.
    pub fn read(
        pipeline: &Pipeline,
        workspace: &Workspace,
        plan: &Plan,
        tables: bool,
    ) -> Result<Self, (TaskId, Error)> {
        let mut drawn = Self::default();
        for task in pipeline.tasks.iter().filter(|task| pipeline.stages[task.stage].figure) {
            let Some(result) = &plan.tasks[task.id.index()].result else {
                continue;
            };
            drawn.names.push(task.name.clone());
            for (output, path) in targets(&task.with) {
                let Some(spec) = result.output(Some(&output)) else {
                    continue;
                };
                let Content::Other(artifact) = &spec.content else {
                    continue;
                };
                let files: Vec<(String, Digest<Bytes>, u64)> = match artifact {
                    Artifact::Blob(digest, size) => vec![(path, *digest, *size)],
                    // `split`: the names of the files fill the pattern.
                    Artifact::Tree(files) => files
                        .iter()
                        .map(|file| (split_path(&task.with, &path, &file.path), file.blob, file.size))
                        .collect(),
                    Artifact::Table(_) => continue,
                };
                for (path, digest, size) in files {
                    let bytes = workspace.store.read_blob(&digest, size);
                    let bytes = bytes.map_err(|error| (task.id, store_error(error)))?;
                    drawn.files.push((path, bytes));
                }
            }
            if tables {
                let shown = tables::figure(task, workspace, plan).map_err(|error| (task.id, error))?;
                drawn.tables.extend(shown);
            }
        }
        Ok(drawn)
    }

    /// Writes the files that are absent or different.
    ///
    /// # Errors
    /// When a path can not be written or leads outside the project.
    pub fn write(&self, pipeline: &Pipeline, plan: &Plan, sink: &dyn Sink) -> Result<(), Error> {
        let kept = LazyCell::new(|| Kept::new(pipeline, plan));
        for (path, bytes) in &self.files {
            kept.check(path)?;
            let changed = write(pipeline, path, bytes)?;
            let path = path.clone();
            sink.event(&Event::Figure { path, changed });
        }
        Ok(())
    }
}

/// Writes one file when it is absent or different; whether it was.
fn write(pipeline: &Pipeline, path: &str, bytes: &[u8]) -> Result<bool, Error> {
    let full = pipeline.root.join(path);
    let changed = fs::read(&full).map_or(true, |old| old != bytes);
    if changed {
        replace(&full, bytes).map_err(|error| {
            Error::new(ErrorKind::Store, format!("can not write the figure `{path}`"))
                .cause(error)
                .hint("the figure is in the store; free some space or change `to:`, then run again")
        })?;
    }
    Ok(changed)
}

/// What figures must leave alone.
struct Kept<'a> {
    pipeline: &'a Pipeline,
    /// The project's root without links.
    root: Option<PathBuf>,
    /// The files that the pipeline reads, by size: a figure over one of them has its size.
    read: HashMap<u64, Vec<PathBuf>>,
}

impl<'a> Kept<'a> {
    fn new(pipeline: &'a Pipeline, plan: &Plan) -> Self {
        // Tasks share their lists of files.
        let mut seen = HashSet::new();
        let lists = plan.tasks.iter().map(|planned| &planned.files);
        let lists = lists.filter(|files| seen.insert(Arc::as_ptr(files)));
        let mut read: HashMap<u64, Vec<PathBuf>> = HashMap::new();
        for file in lists.flat_map(|files| files.iter()) {
            if let Some((_, size)) = file.content {
                read.entry(size).or_default().push(pipeline.root.join(&file.source));
            }
        }
        Self {
            pipeline,
            root: fs::canonicalize(&pipeline.root).ok(),
            read,
        }
    }

    /// A figure's path must not leave the project through a link, nor be a file that the pipeline reads.
    fn check(&self, path: &str) -> Result<(), Error> {
        let wrong = |problem: &str| {
            Error::pipeline(format!("the figure `{path}` can not be written: {problem}"))
                .hint("choose another path under `to:`")
        };
        let full = self.pipeline.root.join(path);
        let real = |path: &Path| path.ancestors().find_map(|up| fs::canonicalize(up).ok());
        let (root, folder) = (self.root.as_ref(), full.parent().and_then(real));
        if root.zip(folder).is_none_or(|(root, folder)| !folder.starts_with(root)) {
            return Err(wrong("its folder lies outside the project"));
        }
        let read = match fs::metadata(&full).and_then(|there| Ok((there.len(), fs::canonicalize(&full)?))) {
            Ok((size, place)) => {
                let same = |one: &Path| fs::canonicalize(one).is_ok_and(|one| one == place);
                let mut read = self.read.get(&size).into_iter().flatten();
                same(&self.pipeline.path) || read.any(|file| same(file))
            }
            // A file that is not here counts as the lock file has it, and may come back.
            Err(_) => self.read.values().flatten().any(|file| *file == full),
        };
        match read {
            true => Err(wrong("the pipeline reads this file")),
            false => Ok(()),
        }
    }
}

/// Checks the paths of all figures, before anything runs.
///
/// # Errors
/// Every figure that would be written outside the project or over a file that the pipeline reads, shown at its path.
pub fn check_targets(pipeline: &Pipeline, plan: &Plan) -> Result<(), Failure> {
    let mut figures = pipeline
        .tasks
        .iter()
        .filter(|task| pipeline.stages[task.stage].figure)
        .peekable();
    if figures.peek().is_none() {
        return Ok(());
    }
    let kept = Kept::new(pipeline, plan);
    let mut told = Vec::new();
    for task in figures {
        let several = task.with.get("to").is_some_and(Value::is_array);
        for (index, (_, path)) in targets(&task.with).into_iter().enumerate() {
            if let Err(mut error) = kept.check(&path) {
                error.parameter = vec![PathPart::Key("to".to_owned())];
                error.parameter.extend(several.then_some(PathPart::Index(index)));
                told.push(pipeline.diagnose(task, error));
            }
        }
    }
    match told.is_empty() {
        true => Ok(()),
        false => Err(Failure::Pipeline(Diagnostics(told))),
    }
}

/// Draws the figures again from what is in the store, computing nothing.
pub fn redraw(args: &SpecArgs, json: bool) -> Result<Exit, Failure> {
    let (project, workspace, plan) = Project::planned(args)?;
    let sink = progress::reader(&project.pipeline, false, json);
    let drawn = Drawn::read(&project.pipeline, &workspace, &plan, false).map_err(|(_, error)| error)?;
    drawn.write(&project.pipeline, &plan, sink.as_ref())?;
    let missing = project
        .pipeline
        .tasks
        .iter()
        .filter(|task| project.pipeline.stages[task.stage].figure);
    let missing: Vec<&str> = missing
        .filter(|task| !drawn.names.contains(&task.name))
        .map(|task| task.name.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    Err(
        Error::task(format!("the results of {} are not in the store", missing.join(", ")))
            .hint("`fracture figures` computes nothing; `fracture run` does")
            .into(),
    )
}
