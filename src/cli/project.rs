//! From the command line's words to a compiled pipeline and an opened store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_language::{
    CompileOptions, Diagnostic, Diagnostics, MAX_TASKS, Pipeline, Task, TaskId, compile, project_root, select,
};
use fracture_stage::{Error, ErrorKind};

use super::SpecArgs;
use super::failure::{Failure, color};
use crate::catalogue::catalogue;
use crate::engine::Workspace;
use crate::engine::disk::Disk;
use crate::engine::lock::Lock;
use crate::engine::memory::Memory;
use crate::engine::models::Models;
use crate::engine::plan::Plan;
use crate::engine::refresh;

/// A pipeline that compiled, and where its project keeps things.
pub struct Project {
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// The store's folder.
    store: PathBuf,
    /// What is known of files that are not there.
    memory: Arc<Memory>,
    /// What is known of models on a hub.
    pub models: Arc<Models>,
}

impl Project {
    /// Reads and compiles a pipeline; warnings go to stderr.
    ///
    /// # Errors
    /// All that is wrong with the pipeline.
    pub fn compile(args: &SpecArgs) -> Result<Self, Failure> {
        let project = Self::read(args, false, None)?;
        project.warn();
        Ok(project)
    }

    /// Reads and compiles a pipeline and keeps its warnings, with what was found out of models on a hub before.
    ///
    /// # Errors
    /// As [`Project::compile`].
    pub fn read(args: &SpecArgs, offline: bool, models: Option<Arc<Models>>) -> Result<Self, Failure> {
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
        let store = args.store.clone().unwrap_or_else(|| root.join(".fracture"));
        // A profile without a lock file of its own reads the same files as the pipeline without it.
        let mut locks = vec![Lock::path(path, &args.profile), Lock::path(path, &[])];
        locks.dedup();
        let memory = Arc::new(Memory::new(&root, locks, &store));
        let models = models.unwrap_or_else(|| Arc::new(Models::new(offline, Arc::clone(&memory))));
        let disk = Disk::new(&root)
            .remembering(Arc::clone(&memory))
            .fetching(Arc::clone(&models));
        let mut pipeline = compile(path, &text, &catalogue(), &disk, &root, &options)?;
        if pipeline
            .tasks
            .iter()
            .any(|task| task.implementation.unverifiable().is_some())
        {
            refresh::apply(&mut pipeline, &Lock::read(&Lock::path(path, &args.profile))?.refreshed);
        }
        Ok(Self {
            pipeline: Arc::new(pipeline),
            store,
            memory,
            models,
        })
    }

    /// Tells the pipeline's warnings on stderr.
    pub fn warn(&self) {
        for warning in &self.pipeline.warnings {
            if super::JSON.load(std::sync::atomic::Ordering::Relaxed) {
                eprintln!("{}", warning.to_json());
            } else {
                anstream::eprintln!("{}", warning.render(color()).trim_end());
            }
        }
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When it can not be made or read.
    pub fn open(&self) -> Result<Arc<Workspace>, Error> {
        let workspace = Workspace::open(&self.pipeline.root, &self.store)?;
        let workspace = workspace.remembering(Arc::clone(&self.memory));
        Ok(Arc::new(workspace.fetching(Arc::clone(&self.models))))
    }

    /// Counts up the tasks of served models that selectors name, where their results are there: they are drawn anew.
    ///
    /// # Errors
    /// When a selector names nothing, or no task of a served model.
    pub fn refresh(&mut self, selectors: &[String], plan: &Plan) -> Result<(), Failure> {
        let selected = self.select(selectors)?;
        let is_there = |task: &Task| plan.tasks[task.id.index()].result.is_some();
        let counted = refresh::count_up(&self.pipeline, &selected, is_there)?;
        match Arc::get_mut(&mut self.pipeline) {
            Some(pipeline) => refresh::apply(pipeline, &counted),
            None => return Err(Error::internal("the pipeline is in use before the run").into()),
        }
        Ok(())
    }

    /// Whether there is a store.
    pub fn has_store(&self) -> bool {
        self.store.join("format").is_file()
    }

    /// Plans.
    ///
    /// # Errors
    /// Every file that is missing or unreadable, shown where the pipeline names it; or what is wrong with the store.
    pub fn plan(&self, workspace: &Workspace) -> Result<Plan, Failure> {
        Plan::new(&self.pipeline, workspace).map_err(|error| {
            if error.kind != ErrorKind::Input {
                return error.into();
            }
            let told = self.unresolved(workspace);
            if told.is_empty() {
                error.into()
            } else {
                Failure::Pipeline(Diagnostics(told))
            }
        })
    }

    /// What is wrong with the files of all tasks, each thing once.
    fn unresolved(&self, workspace: &Workspace) -> Vec<Diagnostic> {
        let mut told: Vec<Diagnostic> = Vec::new();
        for task in &self.pipeline.tasks {
            let Err(error) = workspace.task_files(task) else {
                continue;
            };
            let one = self.pipeline.diagnose(task, error);
            if !told
                .iter()
                .any(|other| other.message == one.message && other.location() == one.location())
            {
                told.push(one);
            }
        }
        told
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
        let plan = project.plan(&workspace)?;
        Ok((project, workspace, plan))
    }
}

/// A path relative to the current folder where that is shorter, for people.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
