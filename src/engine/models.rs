//! The models of a project that lie on a hub: which commit each revision is pinned to, which files are here, and how those
//! that are not are fetched. Planning asks nobody.
//!
//! A revision is pinned by the lock file; `--update` moves the pin. Without a pin, what the cache knows of the revision
//! counts, and where something has to be fetched anyway, what the hub says of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fracture_hub::{Folder, Found, Hub, Missing, Reference, Settings, Step, Watch};
use fracture_judge::graph::GraphHeader;
use fracture_stage::source::HUB;
use fracture_stage::{Error, ErrorKind, ModelFiles, Stage};

use super::event::{Event, Sink};
use super::memory::Memory;

/// The models of a project that lie on a hub.
pub struct Models {
    settings: Result<Settings, Error>,
    hub: OnceLock<Hub>,
    memory: Arc<Memory>,
    /// Pins that `--update` moved.
    moved: Mutex<BTreeMap<Reference, String>>,
    /// What was looked at, until something is fetched.
    seen: Mutex<BTreeMap<ModelFiles, State>>,
}

/// What is known of a model on a hub.
#[derive(Debug, Clone)]
pub enum State {
    /// Its files are here.
    Here(Arc<Folder>),
    /// Some are not.
    Missing(Arc<Missing>),
    /// It can not be used.
    Wrong(Error),
}

/// A pin that `--update` looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The model.
    pub reference: Reference,
    /// The commit before, if there was a pin.
    pub was: Option<String>,
    /// The commit now.
    pub now: String,
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Models")
    }
}

impl Models {
    /// The models of a project, with the lock files that pin their revisions. Neither is read before it is needed.
    pub fn new(offline: bool, memory: Arc<Memory>) -> Self {
        Self {
            settings: Settings::from_env(&|name| std::env::var(name).ok(), offline),
            hub: OnceLock::new(),
            memory,
            moved: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    fn hub(&self) -> Result<&Hub, Error> {
        if let Some(hub) = self.hub.get() {
            return Ok(hub);
        }
        let settings = self.settings.clone()?;
        // The header of a graph names the files that it takes its weights from; no runtime is opened.
        let hub = Hub::new(settings, |path| Ok(GraphHeader::read(path)?.external));
        Ok(self.hub.get_or_init(|| hub))
    }

    fn moved(&self) -> MutexGuard<'_, BTreeMap<Reference, String>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<ModelFiles, State>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing may be fetched, if so.
    pub fn offline(&self) -> Option<fracture_hub::Offline> {
        self.settings.as_ref().ok().and_then(|settings| settings.offline)
    }

    /// The commit that a reference is pinned to.
    pub fn pin(&self, reference: &Reference) -> Option<String> {
        if let Some(commit) = self.moved().get(reference) {
            return Some(commit.clone());
        }
        if reference.is_commit() {
            return Some(reference.revision.clone());
        }
        // After a merge there may be several: one whose files are here is preferred.
        let commits = self.memory.commits(&reference.folder());
        let hub = self.hub().ok()?;
        let here = commits.iter().find(|commit| hub.snapshot(reference, commit).is_dir());
        here.or(commits.last()).cloned()
    }

    /// What is known of a model. Asks nobody.
    pub fn state(&self, model: &ModelFiles) -> State {
        if let Some(state) = self.seen().get(model) {
            return state.clone();
        }
        let look = || -> Result<Found, Error> {
            let reference = Reference::parse(&model.source)?;
            let pin = self.pin(&reference);
            self.hub()?
                .find(&reference, model.part, model.file.as_deref(), pin.as_deref())
        };
        let state = match look() {
            Ok(Found::Here(folder)) => State::Here(Arc::new(folder)),
            Ok(Found::Missing(missing)) => State::Missing(Arc::new(missing)),
            Err(error) => State::Wrong(error),
        };
        self.seen().insert(model.clone(), state.clone());
        state
    }

    /// Whether a model is here as a run needs it. What lies in the cache without a list of the commit's files may lack some;
    /// it is settled when nobody may be asked, or when all that was locked of it is there.
    pub fn is_settled(&self, model: &ModelFiles) -> bool {
        let State::Here(folder) = self.state(model) else {
            return false;
        };
        let locked = || {
            let reference = Reference::parse(&model.source).ok()?;
            let sources = self.memory.sources(&reference.folder(), &folder.commit);
            let there = |source: &&str| self.place(source, &folder.commit).is_some_and(|path| path.is_file());
            Some(!sources.is_empty() && sources.iter().all(there))
        };
        folder.listed || self.offline().is_some() || locked() == Some(true)
    }

    /// Whether files of a model are missing.
    pub fn lacks(&self, model: &ModelFiles) -> bool {
        matches!(self.state(model), State::Missing(_))
    }

    /// Where the files of a model are; while some are missing, a path at which there is nothing.
    pub fn folder(&self, model: &ModelFiles) -> PathBuf {
        match self.state(model) {
            State::Here(folder) => folder.path.clone(),
            State::Missing(_) | State::Wrong(_) => PathBuf::from(&model.source),
        }
    }

    /// Whether a source that a stage asked for is on a hub and not here.
    pub fn is_absent(&self, source: &str) -> bool {
        let seen = self.seen();
        let mut asked = seen.iter().filter(|(model, _)| model.source == source);
        source.starts_with(HUB) && asked.any(|(_, state)| !matches!(state, State::Here(_)))
    }

    /// The models on a hub that a stage reads.
    pub fn of(stage: &dyn Stage) -> Vec<ModelFiles> {
        let mut models = stage.models();
        models.retain(ModelFiles::on_hub);
        models
    }

    /// The models of a stage whose files are not all here, with what is missing of each.
    ///
    /// # Errors
    /// When one of them can not be used at all.
    pub fn missing(&self, models: &[ModelFiles]) -> Result<Vec<(ModelFiles, Arc<Missing>)>, Error> {
        let mut missing = Vec::new();
        for model in models {
            match self.state(model) {
                State::Here(_) => {}
                State::Missing(what) => missing.push((model.clone(), what)),
                State::Wrong(error) => return Err(error.parameter(&["model"])),
            }
        }
        Ok(missing)
    }

    /// The source of a file as lock files write it and its commit, when it lies in the folder of one of the models.
    pub fn locked_source(&self, path: &Path, models: &[ModelFiles]) -> Option<(String, Arc<str>)> {
        models.iter().find_map(|model| {
            let State::Here(folder) = self.state(model) else {
                return None;
            };
            let inside = path.strip_prefix(&folder.path).ok()?;
            let reference = Reference::parse(&model.source).ok()?;
            Some((
                reference.file(&inside.display().to_string()),
                Arc::from(folder.commit.as_str()),
            ))
        })
    }

    /// Where a file of a hub lies, by its source in a lock file and its commit.
    pub fn place(&self, source: &str, commit: &str) -> Option<PathBuf> {
        let (reference, path) = Reference::of_file(source)?;
        Some(self.hub().ok()?.snapshot(&reference, commit).join(path))
    }

    /// The error for a model that is not here and may not be fetched.
    pub fn refusal(&self, model: &ModelFiles) -> Option<Error> {
        let missing = match self.state(model) {
            State::Missing(missing) => missing,
            State::Here(_) => return None,
            State::Wrong(error) => return Some(error.parameter(&["model"])),
        };
        let (hub, reference) = (self.hub().ok()?, Reference::parse(&model.source).ok()?);
        let offline = hub.settings().offline?;
        Some(hub.absent(&reference, &missing, offline).parameter(&["model"]))
    }

    /// Fetches what is missing of a model.
    ///
    /// # Errors
    /// As the hub refuses.
    pub fn fetch(&self, model: &ModelFiles, watch: &Watch<'_>) -> Result<(), Error> {
        let told = |error: Error| error.parameter(&["model"]);
        let reference = Reference::parse(&model.source).map_err(told)?;
        let pin = self.pin(&reference);
        let hub = self.hub()?;
        let folder = hub
            .fetch(&reference, model.part, model.file.as_deref(), pin.as_deref(), watch)
            .map_err(told)?;
        // Other parts of the same model are fetched at the same commit, whatever happens at the hub meanwhile.
        if pin.is_none() {
            self.moved().insert(reference.clone(), folder.commit.clone());
        }
        // What was seen of the same repository may have changed with it.
        self.seen().retain(|seen, _| !same(seen, &reference));
        Ok(())
    }

    /// Asks for the newest commit of each reference and pins it.
    ///
    /// # Errors
    /// Offline, or as the hub refuses.
    pub fn update(&self, references: &[Reference], watch: &Watch<'_>) -> Result<Vec<Moved>, Error> {
        let mut moved = Vec::new();
        for reference in references {
            let was = self.pin(reference);
            let now = self
                .hub()?
                .newest(reference, watch)
                .map_err(|error| error.parameter(&["model"]))?;
            self.moved().insert(reference.clone(), now.clone());
            moved.push(Moved {
                reference: reference.clone(),
                was,
                now,
            });
        }
        self.seen().clear();
        Ok(moved)
    }
}

fn same(model: &ModelFiles, reference: &Reference) -> bool {
    Reference::parse(&model.source).is_ok_and(|other| other.repository() == reference.repository())
}

/// A watch that tells steps as events.
pub fn watch<'a>(tell: &'a dyn Fn(Step), cancelled: &'a AtomicBool) -> Watch<'a> {
    Watch { cancelled, tell }
}

/// A step as an event.
pub fn event(step: Step) -> Event {
    match step {
        Step::File {
            source,
            file,
            done,
            total,
        } => Event::Fetch {
            source,
            file,
            done,
            total,
        },
        Step::Note(message) => Event::Note { task: None, message },
    }
}

/// The beginning of a commit, for people.
pub fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// Fetches a model and tells how it goes.
///
/// # Errors
/// As [`Models::fetch`].
pub fn fetch_told(models: &Models, model: &ModelFiles, sink: &dyn Sink) -> Result<(), Error> {
    let cancelled = AtomicBool::new(false);
    models.fetch(model, &watch(&|step| sink.event(&event(step)), &cancelled))
}

/// The error of a task whose model was not fetched.
pub fn not_fetched(source: &str) -> Error {
    Error::new(
        ErrorKind::Input,
        format!("`{source}` was not fetched, and this task has to run"),
    )
    .hint("`fracture run` without --offline fetches it")
}
