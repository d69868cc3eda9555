//! A project's store and what belongs to it: records, row memo, remembered digests of files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fracture_cache::digest::Lineage;
use fracture_cache::{Digest, FileDigests, FileState, Memo, Records, Store, StoreOptions};
use fracture_hub::{Reference, Watch};
use fracture_language::Task;
use fracture_stage::source::HUB;
use fracture_stage::user::user_cache;
use fracture_stage::{Error, ErrorKind, Files, Forgotten, ModelFiles, Noting, Stage};

use super::disk::Disk;
use super::keys::{FileKey, Files as FileKeys};
use super::lock::FileLine;
use super::memory::{LockedFile, Memory};
use super::models::{Models, not_fetched};
use super::store_error;

/// The files that a stage lists: role and path, `None` for one that is absent.
type FileList = Vec<(String, Option<PathBuf>)>;

/// Everything a run reads and writes, opened.
pub struct Workspace {
    /// The project's root.
    pub root: PathBuf,
    /// The file system seen from there.
    pub disk: Disk,
    /// The store.
    pub store: Arc<Store>,
    /// What actions gave.
    pub records: Arc<Records>,
    files: FileDigests,
    memos: Mutex<HashMap<Digest<Lineage>, Arc<Memo>>>,
    listed: Mutex<HashMap<FileList, FileKeys>>,
    seen: Mutex<HashMap<PathBuf, FileState>>,
}

impl Workspace {
    /// Opens the store of a project.
    ///
    /// # Errors
    /// When the store can not be made or read; the error says which folder and what to do.
    pub fn open(root: &Path, store: &Path) -> Result<Self, Error> {
        let opened = Store::open(store, &StoreOptions::default()).map_err(store_error)?;
        let records = Records::open(&opened).map_err(store_error)?;
        // Without a home folder the digests are remembered in the store.
        let user = user_cache().unwrap_or_else(|| store.to_owned());
        let files = FileDigests::open(&user.join("files"));
        Ok(Self {
            root: root.to_owned(),
            disk: Disk::new(root).keeping(store.join("memory")),
            store: Arc::new(opened),
            records: Arc::new(records),
            files,
            memos: Mutex::default(),
            listed: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// The row memo of a lineage.
    ///
    /// # Errors
    /// When its segments can not be read.
    pub fn memo(&self, lineage: &Digest<Lineage>) -> Result<Arc<Memo>, Error> {
        let mut memos = self.memos.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memo) = memos.get(lineage) {
            return Ok(Arc::clone(memo));
        }
        let memo = Arc::new(Memo::open(&self.store, lineage).map_err(store_error)?);
        memos.insert(*lineage, Arc::clone(&memo));
        Ok(memo)
    }

    /// Writes out what was buffered, then brings everything to the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn flush(&self) -> Result<(), Error> {
        self.write_rows()?;
        self.store.sync().map_err(store_error)
    }

    /// Writes out the rows that the memos hold back: others see them then, and a kill does not lose them.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn write_rows(&self) -> Result<(), Error> {
        let memos: Vec<_> = self
            .memos
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        for memo in memos {
            memo.flush().map_err(store_error)?;
        }
        Ok(())
    }

    /// The same with a memory of files that are not there.
    #[must_use]
    pub fn remembering(mut self, memory: Arc<Memory>) -> Self {
        self.disk = self.disk.remembering(memory);
        self
    }

    /// The memory of files that are not there.
    pub fn memory(&self) -> Option<&Memory> {
        self.disk.absent().map(std::sync::Arc::as_ref)
    }

    /// The same with models on a hub.
    #[must_use]
    pub fn fetching(mut self, models: Arc<Models>) -> Self {
        self.disk = self.disk.fetching(models);
        self
    }

    /// The files that a task depends on, with their content; one that is not there counts at its locked digest. A model on a
    /// hub that is neither here nor locked is one entry that says what would be fetched.
    ///
    /// # Errors
    /// When one that must be there is not and nothing is known of it, or when one can not be read.
    pub fn task_files(&self, task: &Task) -> Result<FileKeys, Error> {
        let stage = task.implementation.as_ref();
        let models = self.on_hub(stage);
        let missing = match self.disk.models() {
            Some(known) => known.missing(&models)?,
            None => Vec::new(),
        };
        if !missing.is_empty() {
            let (locked, _) = self.locked(task);
            return match locked {
                Some(locked) => Ok(Arc::new(self.locked_keys(locked)?)),
                None => {
                    let keys = missing.iter().map(|(model, what)| FileKey {
                        fetch: Some(what.text().into()),
                        commit: what.commit.as_deref().map(Arc::from),
                        ..FileKey::new(&model.source, &model.source, None)
                    });
                    Ok(Arc::new(keys.collect()))
                }
            };
        }
        match (self.files(stage), self.disk.absent()) {
            (Err(error), Some(memory)) if error.kind == ErrorKind::Input => {
                let (locked, asked) = self.locked(task);
                let locked = locked.ok_or_else(|| memory.told(error, &asked))?;
                Ok(Arc::new(self.locked_keys(locked)?))
            }
            (files, _) => files,
        }
    }

    fn on_hub(&self, stage: &dyn Stage) -> Vec<ModelFiles> {
        match self.disk.models() {
            Some(_) => Models::of(stage),
            None => Vec::new(),
        }
    }

    /// The files of a task as they were locked, and the paths that it asks for. Files of a hub count at the commit that is
    /// pinned now, and at no other.
    fn locked(&self, task: &Task) -> (Option<Vec<LockedFile>>, Vec<String>) {
        let noting = Noting::new(&self.disk);
        drop(task.implementation.resolve(&noting));
        let asked = noting.asked();
        let forgotten = Forgotten {
            task: &task.name,
            kind: task.declaration.name,
            asked: &asked,
            with: &task.with,
            context: &task.context,
        };
        let locked = self.disk.absent().and_then(|memory| memory.files(&forgotten));
        let pinned = locked.filter(|files| {
            files
                .iter()
                .filter_map(|(_, line)| line.as_ref())
                .all(|line| self.is_pinned(line))
        });
        (pinned, asked)
    }

    /// Whether the files of a task that are not here count at their locked digests.
    pub fn counts_as_locked(&self, task: &Task) -> bool {
        self.locked(task).0.is_some()
    }

    fn is_pinned(&self, line: &FileLine) -> bool {
        let Some((reference, _)) = Reference::of_file(&line.source) else {
            return true;
        };
        let pin = self.disk.models().and_then(|models| models.pin(&reference));
        let memory = self.disk.absent();
        pin.zip(memory)
            .is_some_and(|(commit, memory)| memory.is_pinned(line, &commit))
    }

    fn locked_keys(&self, locked: Vec<LockedFile>) -> Result<Vec<FileKey>, Error> {
        let key = |(role, line): LockedFile| match line {
            Some(line) if line.source.starts_with(HUB) => {
                let reference = Reference::of_file(&line.source).map(|(reference, _)| reference);
                let pin = reference.and_then(|reference| self.disk.models()?.pin(&reference));
                Ok(FileKey {
                    commit: Some(pin.unwrap_or(line.commit).into()),
                    ..FileKey::new(&role, line.source, Some((line.blake3, line.size)))
                })
            }
            Some(line) => self.file(&role, Some(&self.disk.locate(&line.source)), &[]),
            None => self.file(&role, None, &[]),
        };
        locked.into_iter().map(key).collect()
    }

    /// Where a file lies.
    fn place(&self, file: &FileKey) -> PathBuf {
        let on_hub = self.disk.models().zip(file.commit.as_deref());
        let on_hub = on_hub.and_then(|(models, commit)| models.place(&file.source, commit));
        on_hub.unwrap_or_else(|| self.disk.locate(&file.source))
    }

    /// Looks whether the files of a task that has to run are there.
    ///
    /// # Errors
    /// When one is not; the error names the file and its line of the lock file.
    pub fn present(&self, files: &[FileKey]) -> Result<(), Error> {
        self.all_there(files, false)
    }

    /// Looks whether the files of a task that has to run are there, or can be fetched.
    ///
    /// # Errors
    /// As [`Workspace::present`].
    pub fn attainable(&self, files: &[FileKey]) -> Result<(), Error> {
        let online = self.disk.models().is_some_and(|models| models.offline().is_none());
        self.all_there(files, online)
    }

    fn all_there(&self, files: &[FileKey], fetched: bool) -> Result<(), Error> {
        if let Some(file) = files.iter().find(|file| file.fetch.is_some()) {
            return Err(not_fetched(&file.source));
        }
        let known = files.iter().filter(|file| file.content.is_some());
        let mut asked = known.filter(|file| !(fetched && file.commit.is_some()));
        match asked.find(|file| !self.place(file).exists()) {
            Some(file) => Err(match self.disk.absent() {
                _ if file.commit.is_some() => not_fetched(&file.source),
                Some(memory) => memory.missing(&file.source),
                None => Error::input(format!("the file `{}` is not there", file.source)),
            }),
            None => Ok(()),
        }
    }

    /// Fetches the files of a task that has to run and that were counted at their locked digests.
    ///
    /// # Errors
    /// When they can not be had, or are others than were locked.
    pub fn bring(&self, stage: &dyn Stage, files: &[FileKey], watch: &Watch<'_>) -> Result<(), Error> {
        let models = self.on_hub(stage);
        let Some(known) = self.disk.models().filter(|_| !models.is_empty()) else {
            return Ok(());
        };
        let missing = known.missing(&models)?;
        if missing.is_empty() {
            return Ok(());
        }
        for (model, _) in &missing {
            known.fetch(model, watch)?;
        }
        let now = self.files(stage)?;
        let content = |files: &[FileKey]| -> Vec<(String, Option<String>)> {
            let one = |file: &FileKey| (file.role.clone(), file.content.map(|(digest, _)| digest.hex()));
            files.iter().map(one).collect()
        };
        let (was, now) = (content(files), content(&now));
        match was.iter().zip(&now).find(|(was, now)| was != now) {
            None if was.len() == now.len() => Ok(()),
            differs => {
                let role = differs.map_or("files", |(was, _)| was.0.as_str());
                let source = &missing[0].0.source;
                let what = format!("what the hub has as `{source}` is not what was locked");
                Err(Error::new(ErrorKind::Input, what)
                    .cause(format!(
                        "`{role}` has another content than the lock file says at this commit"
                    ))
                    .hint("`fracture run --update` looks the revision up again and locks what it finds"))
            }
        }
    }

    /// The files that a stage depends on, with their content.
    ///
    /// # Errors
    /// When one that must be there is not, or can not be read.
    pub fn files(&self, stage: &dyn Stage) -> Result<FileKeys, Error> {
        let uses = stage.resolve(&self.disk)?;
        let models = self.on_hub(stage);
        // One commit may be meant by several revisions, which lock files tell apart.
        let sources = models.iter().map(|model| (model.source.clone(), None));
        let list: Vec<_> = uses.into_iter().map(|file| (file.role, file.path)).collect();
        let known: FileList = list.iter().cloned().chain(sources).collect();
        if let Some(known) = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(&known) {
            return Ok(Arc::clone(known));
        }
        let keys = list
            .iter()
            .map(|(role, path)| self.file(role, path.as_deref(), &models))
            .collect::<Result<Vec<_>, _>>()?;
        let keys = Arc::new(keys);
        self.listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(known, Arc::clone(&keys));
        Ok(keys)
    }

    fn file(&self, role: &str, path: Option<&Path>, models: &[ModelFiles]) -> Result<FileKey, Error> {
        let Some(path) = path else {
            return Ok(FileKey::new(role, role, None));
        };
        let fetched = self.disk.models().and_then(|known| known.locked_source(path, models));
        let shown = match &fetched {
            Some((source, _)) => source.clone(),
            None => self.disk.relative(path).display().to_string(),
        };
        let locked = self.disk.absent().filter(|_| !path.exists());
        if let Some(line) = locked.and_then(|memory| memory.line(path, Some(role))) {
            return Ok(FileKey::new(role, shown, Some((line.blake3, line.size))));
        }
        let state = self.files.digest(path).map_err(|error| {
            store_error(error)
                .context(format!("can not read `{shown}`"))
                .hint("paths are relative to the project's root; check the name and that the file may be read")
        })?;
        let content = Some((state.digest, state.size));
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), state);
        let commit = fetched.map(|(_, commit)| commit);
        let key = FileKey {
            commit,
            ..FileKey::new(role, shown, content)
        };
        self.undamaged(&key, path)?;
        Ok(key)
    }

    /// A commit's files never change: what differs from what was locked at the same commit is damaged.
    fn undamaged(&self, file: &FileKey, path: &Path) -> Result<(), Error> {
        let locked = self.disk.absent().zip(file.commit.as_deref());
        let locked = locked.and_then(|(memory, commit)| memory.pinned(&file.source, &file.role, commit));
        match (locked, file.content) {
            (Some(line), Some((digest, _))) if line.blake3 != digest => {
                let what = format!(
                    "`{}` is not what was locked at the same commit: it is damaged",
                    file.source
                );
                let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                Err(Error::new(ErrorKind::Environment, what)
                    .cause(format!(
                        "its blake3 is {}, the lock file says {}",
                        digest.hex(),
                        line.blake3.hex()
                    ))
                    .hint(format!("remove `{}`; the next run fetches it again", real.display())))
            }
            _ => Ok(()),
        }
    }

    /// Looks at a task's files again after it ran.
    ///
    /// # Errors
    /// When one changed meanwhile: the result belongs to neither content, and must not be recorded.
    pub fn unchanged(&self, files: &[FileKey]) -> Result<(), Error> {
        for file in files.iter().filter(|file| file.content.is_some()) {
            let path = self.place(file);
            let seen = self
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&path)
                .cloned();
            let Some(state) = seen else { continue };
            if self.files.changed_since(&state).map_err(store_error)? {
                return Err(
                    Error::new(ErrorKind::Input, format!("`{}` changed during the run", file.source))
                        .hint("nothing was recorded; run again when nobody writes to the file"),
                );
            }
        }
        Ok(())
    }

    /// Writes the indexes that make the next start quick. Nothing is lost when it fails.
    pub fn close(&self) {
        if let Err(error) = self.records.write_index() {
            tracing::debug!(%error, "the index of records was not written");
        }
    }
}
