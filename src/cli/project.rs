//! From the command line's words to a compiled pipeline and an opened store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_language::{CompileOptions, MAX_TASKS, Pipeline, TaskId, compile, project_root, select};
use fracture_stage::Error;

use super::SpecArgs;
use super::failure::{Failure, color};
use crate::catalogue::catalogue;
use crate::engine::Workspace;
use crate::engine::disk::Disk;
use crate::engine::lock::Lock;
use crate::engine::plan::Plan;

/// A pipeline that compiled, and where its project keeps things.
pub struct Project {
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// The store's folder.
    store: PathBuf,
}

impl Project {
    /// Reads and compiles a pipeline; warnings go to stderr.
    ///
    /// # Errors
    /// All that is wrong with the pipeline.
    pub fn compile(args: &SpecArgs) -> Result<Self, Failure> {
        let path = &args.spec;
        let bytes = fs::read(path).map_err(|error| {
            Error::pipeline(format!("can not read the pipeline `{}`", path.display()))
                .cause(error)
                .hint("the first argument is the path of a pipeline's YAML file")
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::pipeline(format!("the pipeline `{}` is not UTF-8", path.display()))
                .cause(format!("byte {at} begins no character"))
                .hint("save the file as UTF-8")
        })?;
        let root = project_root(path);
        let options = CompileOptions {
            profiles: args.profile.clone(),
            sets: args.set.clone(),
            env: &|name| std::env::var(name).ok(),
            max_tasks: MAX_TASKS,
        };
        let pipeline = compile(path, &text, &catalogue(), &Disk::new(&root), &root, &options)?;
        for warning in &pipeline.warnings {
            if super::JSON.load(std::sync::atomic::Ordering::Relaxed) {
                let told = warning.to_json();
                eprintln!(
                    "{}",
                    serde_json::json!({ "warning": told.get("error").unwrap_or(&told) })
                );
            } else {
                anstream::eprintln!("{}", warning.render(color()).trim_end());
            }
        }
        let store = args.store.clone().unwrap_or_else(|| root.join(".fracture"));
        Ok(Self {
            pipeline: Arc::new(pipeline),
            store,
        })
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When it can not be made or read.
    pub fn open(&self) -> Result<Arc<Workspace>, Error> {
        Ok(Arc::new(Workspace::open(&self.pipeline.root, &self.store)?))
    }

    /// Where the lock file lies.
    pub fn lock_path(&self) -> PathBuf {
        Lock::path(&self.pipeline.path, &self.pipeline.profiles)
    }

    /// Tasks by selectors.
    ///
    /// # Errors
    /// When a selector names nothing.
    pub fn select(&self, selectors: &[String]) -> Result<Vec<TaskId>, Failure> {
        let mut tasks = Vec::new();
        for selector in selectors {
            tasks.extend(select(&self.pipeline, selector)?);
        }
        Ok(tasks)
    }

    /// Compiles, opens and plans.
    ///
    /// # Errors
    /// As its parts.
    pub fn planned(args: &SpecArgs) -> Result<(Self, Arc<Workspace>, Plan), Failure> {
        let project = Self::compile(args)?;
        let workspace = project.open()?;
        let plan = Plan::new(&project.pipeline, &workspace)?;
        Ok((project, workspace, plan))
    }
}

/// A path relative to the current folder where that is shorter, for people.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
