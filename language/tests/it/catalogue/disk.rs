//! Reads real files; stages here read none.

use std::path::{Path, PathBuf};

use fracture_stage::{Error, Files};

/// Files below a folder.
pub struct Disk(pub PathBuf);

impl Files for Disk {
    fn locate(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
    fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(self.0.join(path)).and_then(|file| file.take(limit as u64).read_to_end(&mut bytes));
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        read.map(|_| bytes)
            .map_err(|_| Error::input(format!("there is no file `{name}`")))
    }
    fn size(&self, path: &Path) -> Option<u64> {
        std::fs::metadata(self.0.join(path)).ok().map(|data| data.len())
    }
    fn list(&self, _: &Path) -> Option<Vec<String>> {
        None
    }
}
