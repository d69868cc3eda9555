//! A project's store and what belongs to it: records, row memo, remembered digests of files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fracture_cache::digest::Lineage;
use fracture_cache::{Digest, FileDigests, FileState, Memo, Records, Store, StoreOptions};
use fracture_stage::{Error, ErrorKind, Files, Stage};

use super::disk::Disk;
use super::keys::{FileKey, Files as FileKeys};
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
        let files = FileDigests::open(&user_cache().join("files"));
        Ok(Self {
            root: root.to_owned(),
            disk: Disk::new(root).remembering(store.join("memory")),
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

    /// Writes out what was buffered: rows of the memo, then everything to the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn flush(&self) -> Result<(), Error> {
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
        self.store.sync().map_err(store_error)
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

/// The folder for what belongs to the user and not to a project: digests of files, ONNX Runtime.
pub fn user_cache() -> PathBuf {
    let named = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named("XDG_CACHE_HOME")
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("fracture")
}
