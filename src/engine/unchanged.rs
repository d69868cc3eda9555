//! Whether a run changes its lock file: told by reading the file once beside the plan, line by line. A run that has nothing
//! to do holds no second copy of a hundred thousand lines.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use fracture_language::Pipeline;

use super::lock::{HEADER, refresh_line};
use super::plan::Plan;
use super::refresh::refreshed;

impl Plan {
    /// Whether all results are there and the lock file at a path says of them what this plan would write.
    pub fn is_locked(&self, pipeline: &Pipeline, path: &Path) -> bool {
        self.is_done() && File::open(path).is_ok_and(|file| self.is_text(pipeline, file))
    }

    fn is_text(&self, pipeline: &Pipeline, file: File) -> bool {
        let mut expected = Expected {
            file: BufReader::with_capacity(1 << 18, file),
            read: Vec::new(),
        };
        let mut order: Vec<u32> = (0..pipeline.tasks.len() as u32).collect();
        let name = |at: u32| pipeline.tasks[at as usize].name.as_str();
        order.sort_unstable_by(|one, other| name(*one).cmp(name(*other)));
        let mut files = self.lock_files().into_iter();
        let line = |at: &u32| {
            let planned = &self.tasks[*at as usize];
            planned
                .result
                .as_ref()
                .map(|result| planned.line(result).text(name(*at)))
        };
        let mut refreshed = refreshed(pipeline).into_iter();
        expected.is(&format!("{HEADER}\n"))
            && files.all(|file| expected.is(&file.text()))
            && refreshed.all(|(name, times)| expected.is(&refresh_line(&name, times)))
            && order.iter().all(|at| line(at).is_some_and(|line| expected.is(&line)))
            && expected.is_over()
    }
}

/// A file that is read piece by piece, as long as it says what is expected.
struct Expected {
    file: BufReader<File>,
    read: Vec<u8>,
}

impl Expected {
    fn is(&mut self, text: &str) -> bool {
        self.read.resize(text.len(), 0);
        self.file.read_exact(&mut self.read).is_ok() && self.read == text.as_bytes()
    }

    fn is_over(&mut self) -> bool {
        matches!(self.file.read(&mut [0]), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_is_what_it_is_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let says = |content: &str, pieces: &[&str]| {
            std::fs::write(&path, content).unwrap();
            let mut expected = Expected {
                file: BufReader::with_capacity(3, File::open(&path).unwrap()),
                read: Vec::new(),
            };
            pieces.iter().all(|piece| expected.is(piece)) && expected.is_over()
        };
        assert!(says("one\ntwo\n", &["one\n", "two\n"]) && says("", &[]));
        assert!(!says("one\ntwo\n", &["one\n"]) && !says("one\n", &["one\n", "two\n"]) && !says("one", &["ane"]));
    }
}
