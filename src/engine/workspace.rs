//! A project's store and what belongs to it: records, row memo, remembered digests of files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fracture_cache::digest::Lineage;
use fracture_cache::{Digest, FileDigests, FileState, Memo, Records, Store, StoreOptions};
use fracture_language::Task;
use fracture_stage::user::user_cache;
use fracture_stage::{Error, ErrorKind, Files, Forgotten, Noting, Stage};

use super::disk::Disk;
use super::keys::{FileKey, Files as FileKeys};
use super::memory::{LockedFile, Memory};
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

    /// The files that a task depends on, with their content; one that is not there counts at its locked digest.
    ///
    /// # Errors
    /// When one that must be there is not and nothing is known of it, or when one can not be read.
    pub fn task_files(&self, task: &Task) -> Result<FileKeys, Error> {
        let stage = task.implementation.as_ref();
        match (self.files(stage), self.disk.absent()) {
            (Err(error), Some(memory)) if error.kind == ErrorKind::Input => {
                let noting = Noting::new(&self.disk);
                drop(stage.resolve(&noting));
                let asked = noting.asked();
                let forgotten = Forgotten {
                    task: &task.name,
                    kind: task.declaration.name,
                    asked: &asked,
                    with: &task.with,
                    context: &task.context,
                };
                let locked = memory.files(&forgotten).ok_or_else(|| memory.told(error, &asked))?;
                let key = |(role, line): LockedFile| match line {
                    Some(line) => self.file(&role, Some(&self.disk.locate(&line.source))),
                    None => self.file(&role, None),
                };
                Ok(Arc::new(locked.into_iter().map(key).collect::<Result<_, _>>()?))
            }
            (files, _) => files,
        }
    }

    /// Looks whether the files of a task that has to run are there.
    ///
    /// # Errors
    /// When one is not; the error names the file and its line of the lock file.
    pub fn present(&self, files: &[FileKey]) -> Result<(), Error> {
        let known = files.iter().filter(|file| file.content.is_some());
        match known
            .map(|file| &file.source)
            .find(|source| !self.disk.locate(source).exists())
        {
            Some(source) => Err(match self.disk.absent() {
                Some(memory) => memory.missing(source),
                None => Error::input(format!("the file `{source}` is not there")),
            }),
            None => Ok(()),
        }
    }

    /// The files that a stage depends on, with their content.
    ///
    /// # Errors
    /// When one that must be there is not, or can not be read.
    pub fn files(&self, stage: &dyn Stage) -> Result<FileKeys, Error> {
        let uses = stage.resolve(&self.disk)?;
        let list: Vec<_> = uses.into_iter().map(|file| (file.role, file.path)).collect();
        if let Some(known) = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(&list) {
            return Ok(Arc::clone(known));
        }
        let keys = list
            .iter()
            .map(|(role, path)| self.file(role, path.as_deref()))
            .collect::<Result<Vec<_>, _>>()?;
        let keys = Arc::new(keys);
        self.listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(list, Arc::clone(&keys));
        Ok(keys)
    }

    fn file(&self, role: &str, path: Option<&Path>) -> Result<FileKey, Error> {
        let Some(path) = path else {
            return Ok(FileKey {
                role: role.to_owned(),
                source: role.to_owned(),
                content: None,
            });
        };
        let shown = self.disk.relative(path).display().to_string();
        let locked = self.disk.absent().filter(|_| !path.exists());
        if let Some(line) = locked.and_then(|memory| memory.line(path, Some(role))) {
            return Ok(FileKey {
                role: role.to_owned(),
                source: shown,
                content: Some((line.blake3, line.size)),
            });
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
        Ok(FileKey {
            role: role.to_owned(),
            source: shown,
            content,
        })
    }

    /// Looks at a task's files again after it ran.
    ///
    /// # Errors
    /// When one changed meanwhile: the result belongs to neither content, and must not be recorded.
    pub fn unchanged(&self, files: &[FileKey]) -> Result<(), Error> {
        for file in files.iter().filter(|file| file.content.is_some()) {
            let path = self.disk.locate(&file.source);
            let seen = self
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&path)
                .cloned();
            let Some(state) = seen else { continue };
            if self.files.changed_since(&state).map_err(store_error)? {
                return Err(
                    Error::new(ErrorKind::Input, format!("`{}` changed while it was read", file.source))
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
