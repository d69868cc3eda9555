//! The file system as stages see it while they are planned and run.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use fracture_stage::{Error, Files};

/// Paths relative to a project's root.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
    memory: Option<PathBuf>,
}

impl Disk {
    /// The file system seen from a project's root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { root, memory: None }
    }

    /// With a folder for what stages remember between runs.
    #[must_use]
    pub fn remembering(mut self, folder: impl Into<PathBuf>) -> Self {
        self.memory = Some(folder.into());
        self
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
        fs::metadata(path)
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|metadata| metadata.len())
    }

    fn list(&self, path: &Path) -> Option<Vec<String>> {
        let entries = fs::read_dir(path).ok()?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        Some(names)
    }

    fn memory(&self) -> Option<PathBuf> {
        self.memory.clone()
    }
}
