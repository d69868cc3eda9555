//! The file system as stages see it while they are planned and run. A file that is not there is known from the lock file.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fracture_stage::{Error, Files, Forgotten, ModelFiles, Outputs, Schema};

use super::memory::Memory;
use super::models::Models;

/// Paths relative to a project's root.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
    /// Where stages keep what they remember between runs.
    folder: Option<PathBuf>,
    /// What is known of files that are not there.
    absent: Option<Arc<Memory>>,
    /// What is known of models on a hub.
    models: Option<Arc<Models>>,
}

impl Disk {
    /// The file system seen from a project's root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            folder: None,
            absent: None,
            models: None,
        }
    }

    /// With a folder for what stages remember between runs.
    #[must_use]
    pub fn keeping(self, folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: Some(folder.into()),
            ..self
        }
    }

    /// The same with a memory of files that are not there.
    #[must_use]
    pub fn remembering(self, memory: Arc<Memory>) -> Self {
        Self {
            absent: Some(memory),
            ..self
        }
    }

    /// The same with models on a hub.
    #[must_use]
    pub fn fetching(self, models: Arc<Models>) -> Self {
        Self {
            models: Some(models),
            ..self
        }
    }

    /// What is known of models on a hub.
    pub fn models(&self) -> Option<&Arc<Models>> {
        self.models.as_ref()
    }

    /// The memory of files that are not there.
    pub fn absent(&self) -> Option<&Arc<Memory>> {
        self.absent.as_ref()
    }

    /// The path as the pipeline would write it.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

impl Files for Disk {
    fn locate(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/").zip(std::env::home_dir()) {
            Some((rest, home)) => home.join(rest),
            None => self.root.join(path),
        }
    }

    fn model(&self, model: &ModelFiles) -> PathBuf {
        match &self.models {
            Some(models) if model.on_hub() => models.folder(model),
            _ => self.locate(&model.source),
        }
    }

    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        let told = |error: std::io::Error| {
            let shown = self.relative(path).display().to_string();
            Error::input(format!("can not read `{shown}`"))
                .cause(error)
                .hint("paths are relative to the project's root; check the name")
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(told)?;
        file.take(limit as u64).read_to_end(&mut bytes).map_err(told)?;
        Ok(bytes)
    }

    fn size(&self, path: &Path) -> Option<u64> {
        match (fs::metadata(path), &self.absent) {
            (Ok(metadata), _) => metadata.is_file().then_some(metadata.len()),
            (Err(_), Some(memory)) => memory.size(path),
            (Err(_), None) => None,
        }
    }

    fn list(&self, path: &Path) -> Option<Vec<String>> {
        let entries = match (fs::read_dir(path), &self.absent) {
            (Ok(entries), _) => entries,
            (Err(_), Some(memory)) if !path.exists() => return memory.list(path),
            (Err(_), _) => return None,
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        Some(names)
    }

    fn memory(&self) -> Option<PathBuf> {
        self.folder.clone()
    }

    fn remembered(&self, forgotten: &Forgotten<'_>) -> Option<Outputs<Schema>> {
        let known = self.absent.as_ref().and_then(|memory| memory.schema(forgotten));
        // The columns of what is still to be fetched are not known.
        let models = self.models.as_ref();
        let fetched = models.is_some_and(|models| forgotten.asked.iter().any(|source| models.is_absent(source)));
        known.or_else(|| fetched.then(|| Outputs::only(Schema::unknown())))
    }
}
