//! Whether a run changes its lock file: told by reading the file once beside the plan, line by line. A run that has nothing
//! to do holds no second copy of a hundred thousand lines, and sorts none: the file is sorted.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use fracture_language::{Pipeline, Task};

use super::lock::{HEADER, refresh_line};
use super::plan::Plan;
use super::refresh::refreshed;

impl Plan {
    /// Whether all results are there and the lock file at a path says of them what this plan would write.
    pub fn is_locked(&self, pipeline: &Pipeline, path: &Path) -> bool {
        self.is_done() && File::open(path).is_ok_and(|file| self.is_text(pipeline, file))
    }

    fn is_text(&self, pipeline: &Pipeline, file: impl Read) -> bool {
        let mut lines = Lines {
            file: BufReader::with_capacity(1 << 16, file),
            line: Vec::new(),
        };
        let head = lines
            .next()
            .is_some_and(|line| line == format!("{HEADER}\n").as_bytes());
        let mut files = self.lock_files().into_iter();
        if !head || !files.all(|file| lines.next() == Some(file.text().as_bytes())) {
            return false;
        }
        let mut refreshed = refreshed(pipeline).into_iter();
        if !refreshed.all(|(name, times)| lines.next() == Some(refresh_line(&name, times).as_bytes())) {
            return false;
        }
        let names = Names::new(&pipeline.tasks);
        let (mut count, mut before, mut expected) = (0, Vec::new(), Vec::new());
        while let Some(line) = lines.next() {
            let Some(name) = line
                .strip_prefix(b"task\t")
                .and_then(|rest| rest.split(|byte| *byte == b'\t').next())
            else {
                return false;
            };
            // Names that ascend are different ones, so as many as there are tasks are all of them.
            if count > 0 && *name <= *before {
                return false;
            }
            let Some(task) = names.find(name) else { return false };
            let planned = &self.tasks[task.id.index()];
            let Some(result) = &planned.result else { return false };
            expected.clear();
            planned.line(result).push(&task.name, &mut expected);
            if line != expected {
                return false;
            }
            before.clear();
            before.extend_from_slice(name);
            count += 1;
        }
        count == pipeline.tasks.len()
    }
}

/// The lines of a file one after the other, each with its end.
struct Lines<R> {
    file: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// The next line; `None` at the end, and when it can not be read.
    fn next(&mut self) -> Option<&[u8]> {
        self.line.clear();
        let read = self.file.read_until(b'\n', &mut self.line).ok()?;
        (read > 0).then_some(self.line.as_slice())
    }
}

/// Finds tasks by their names: a table of four bytes a place, twice as many places as tasks.
struct Names<'a> {
    tasks: &'a [Task],
    /// One more than the task at each place; 0 where there is none.
    places: Vec<u32>,
}

impl<'a> Names<'a> {
    fn new(tasks: &'a [Task]) -> Self {
        let mut places = vec![0; (2 * tasks.len()).next_power_of_two().max(2)];
        for task in tasks {
            let mut at = place(task.name.as_bytes(), places.len());
            while places[at] != 0 {
                at = (at + 1) & (places.len() - 1);
            }
            places[at] = task.id.0 + 1;
        }
        Self { tasks, places }
    }

    fn find(&self, name: &[u8]) -> Option<&'a Task> {
        let mut at = place(name, self.places.len());
        loop {
            let task = &self.tasks[self.places[at].checked_sub(1)? as usize];
            if task.name.as_bytes() == name {
                return Some(task);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }
}

/// The first place of a name among so many, a power of two. Names come from a pipeline's author, so no one chooses them to
/// collide.
fn place(name: &[u8], places: usize) -> usize {
    let mut mixed = name.len() as u64;
    for bytes in name.chunks(8) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        mixed = (mixed.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (mixed >> 20) as usize & (places - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_they_are_written() {
        let read = |text: &str| {
            let mut lines = Lines {
                file: BufReader::with_capacity(3, text.as_bytes()),
                line: Vec::new(),
            };
            let mut found = Vec::new();
            while let Some(line) = lines.next() {
                found.push(String::from_utf8_lossy(line).into_owned());
            }
            found
        };
        assert_eq!(read("one\ntwo\n"), ["one\n", "two\n"]);
        assert_eq!(read("one\n\ntwo"), ["one\n", "\n", "two"]);
        assert!(read("").is_empty());
    }

    #[test]
    fn names_spread() {
        // Names that differ in a digit share no place more often than chance would have it.
        let places = 1 << 14;
        let mut taken = vec![0_u32; places];
        for at in 0..8_000 {
            taken[place(format!("verdicts[rows={},tau=0.{:06}]", at % 10, at).as_bytes(), places)] += 1;
        }
        assert!(taken.iter().all(|count| *count < 10), "{:?}", taken.iter().max());
    }
}
