//! The lock file beside a pipeline: which task gave which result from which files. Made to be committed.
//!
//! One sorted line a task and one a file, tabs between fields. Tasks are looked up by (task, recipe), so that stale or
//! doubled lines after a union merge are harmless; the next run prunes them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fracture_cache::Digest;
use fracture_cache::digest::{Action, Bytes, Recipe, Values};
use fracture_hub::Reference;
use fracture_stage::{Error, ErrorKind};

use super::refresh::Refreshed;

/// A task's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskLine {
    /// The task as the pipeline described it.
    pub recipe: Digest<Recipe>,
    /// The task with the content of what it read.
    pub key: Digest<Action>,
    /// What it gave.
    pub output: Digest<Values>,
    /// Rows of its main table.
    pub rows: u64,
}

/// A file's line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileLine {
    /// Where it is, relative to the project's root, or where it came from.
    pub source: String,
    /// What it is to the stage.
    pub role: String,
    /// The pinned revision for files of a hub, `-` for local ones.
    pub commit: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub blake3: Digest<Bytes>,
}

impl TaskLine {
    /// The line of a task of that name.
    pub fn text(&self, name: &str) -> String {
        let mut line = Vec::with_capacity(name.len() + 220);
        self.push(name, &mut line);
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Adds the line of a task of that name to a text: there may be a hundred thousand of them.
    pub fn push(&self, name: &str, text: &mut Vec<u8>) {
        text.extend_from_slice(b"task\t");
        text.extend_from_slice(name.as_bytes());
        text.push(b'\t');
        self.recipe.push_hex(text);
        text.push(b'\t');
        self.key.push_hex(text);
        text.push(b'\t');
        self.output.push_hex(text);
        text.extend_from_slice(format!("\t{}\n", self.rows).as_bytes());
    }
}

impl FileLine {
    /// The line.
    pub fn text(&self) -> String {
        let Self {
            source,
            role,
            commit,
            size,
            blake3,
        } = self;
        format!("file\t{source}\t{role}\t{commit}\t{size}\t{blake3}\n")
    }
}

/// The line of a task that was drawn anew.
pub fn refresh_line(name: &str, times: u32) -> String {
    format!("refresh\t{name}\t{times}\n")
}

/// A lock file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// The lines of each task, several after a merge.
    pub tasks: BTreeMap<String, Vec<TaskLine>>,
    /// The files.
    pub files: Vec<FileLine>,
    /// How often tasks of served models were drawn anew, see [`super::refresh`].
    pub refreshed: Refreshed,
}

/// Stands where a file has no revision.
pub const NO_COMMIT: &str = "-";

/// The version of the lock files that this program reads and writes; their first line says it.
const VERSION: &str = "1";

/// The first line of a lock file.
pub const HEADER: &str =
    "# fracture lock 1: written by `fracture run`, to be committed. Sorted lines; a union merge is sound.";

impl Lock {
    /// Where the lock file of a pipeline lies: `NAME[.PROFILE].lock` beside it, by the name of its file.
    pub fn path(pipeline: &Path, profiles: &[String]) -> PathBuf {
        let mut name = pipeline.file_stem().unwrap_or_default().to_os_string();
        for profile in profiles {
            name.push(".");
            name.push(profile);
        }
        name.push(".lock");
        pipeline.with_file_name(name)
    }

    /// Reads a lock file; one that is not there is empty.
    ///
    /// # Errors
    /// When it can not be read, or when a line is none of a lock file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|(line, problem)| {
                let newer = text.lines().nth(line - 1).and_then(version).is_some();
                let hint = if newer {
                    "install the newer fracture, or restore the lock file from before it"
                } else {
                    "delete the line, or delete the file: the next run writes it anew"
                };
                Error::input(format!(
                    "line {line} of the lock file `{}` can not be read",
                    path.display()
                ))
                .cause(problem)
                .hint(hint)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::input(format!("can not read the lock file `{}`", path.display())).cause(error)),
        }
    }

    /// The content of a lock file's text.
    ///
    /// # Errors
    /// The number and the problem of the first line that is none of a lock file.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut lock = Self::default();
        for (index, line) in text.lines().enumerate() {
            // Keeping the lines of both sides is sound, so the markers that a merge left between them are passed over.
            let marker = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"]
                .iter()
                .any(|marker| line.starts_with(marker));
            match version(line) {
                Some(version) if version != VERSION => {
                    let problem = format!("a newer fracture wrote it: version {version}, this one knows {VERSION}");
                    return Err((index + 1, problem));
                }
                _ => {}
            }
            if line.is_empty() || line.starts_with('#') || marker {
                continue;
            }
            lock.line(line).map_err(|problem| (index + 1, problem))?;
        }
        for lines in lock.tasks.values_mut() {
            lines.sort_unstable();
            lines.dedup();
        }
        lock.files.sort_unstable();
        lock.files.dedup();
        Ok(lock)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["task", name, recipe, key, output, rows] => {
                let line = TaskLine {
                    recipe: digest(recipe)?,
                    key: digest(key)?,
                    output: digest(output)?,
                    rows: number(rows)?,
                };
                self.tasks.entry((*name).to_owned()).or_default().push(line);
            }
            ["file", source, role, commit, size, blake3] => self.files.push(FileLine {
                source: (*source).to_owned(),
                role: (*role).to_owned(),
                commit: (*commit).to_owned(),
                size: number(size)?,
                blake3: digest(blake3)?,
            }),
            // Of the two sides of a merge the one that drew last counts.
            ["refresh", name, times] => {
                let times = u32::try_from(number(times)?).map_err(|_| format!("`{times}` is too large"))?;
                let known = self.refreshed.entry((*name).to_owned()).or_default();
                *known = times.max(*known);
            }
            _ => return Err("it is neither a `task` line nor a `file` line of six fields".to_owned()),
        }
        Ok(())
    }

    /// The text of the lock file.
    pub fn text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        let mut files = self.files.clone();
        files.sort_unstable();
        files.dedup();
        files.iter().for_each(|file| text.push_str(&file.text()));
        for (name, times) in &self.refreshed {
            text.push_str(&refresh_line(name, *times));
        }
        for (name, lines) in &self.tasks {
            lines.iter().for_each(|line| text.push_str(&line.text(name)));
        }
        text
    }

    /// Writes the lock file when its content changes; readers see the old or the new one, never a part.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = self.text();
        if fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        replace(path, text.as_bytes()).map_err(|error| {
            Error::new(
                ErrorKind::Store,
                format!("can not write the lock file `{}`", path.display()),
            )
            .cause(error)
            .hint("the results are in the store; free some space or make the folder writable, then run again")
        })
    }

    /// The commits that the files below a model's folder on a hub are pinned to, sorted.
    pub fn commits(&self, folder: &str) -> Vec<String> {
        let below = |line: &&FileLine| {
            let rest = line.source.strip_prefix(folder);
            line.commit != NO_COMMIT && rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let mut commits: Vec<String> = self
            .files
            .iter()
            .filter(below)
            .map(|line| line.commit.clone())
            .collect();
        commits.sort_unstable();
        commits.dedup();
        commits
    }

    /// Adds the files of another lock file. A model on a hub keeps one pin: files at another commit than it has here are
    /// left out.
    pub fn add_files(&mut self, files: Vec<FileLine>) {
        let folder = |line: &FileLine| Reference::of_file(&line.source).map(|(reference, _)| reference.folder());
        let pins: BTreeMap<String, String> = self
            .files
            .iter()
            .filter(|line| line.commit != NO_COMMIT)
            .filter_map(|line| Some((folder(line)?, line.commit.clone())))
            .collect();
        let stays =
            |line: &FileLine| folder(line).is_none_or(|folder| pins.get(&folder).is_none_or(|pin| *pin == line.commit));
        self.files.extend(files.into_iter().filter(stays));
        self.files.sort_unstable();
        self.files.dedup();
    }

    /// The line of a task with that recipe, else any line of the task.
    pub fn task(&self, name: &str, recipe: &Digest<Recipe>) -> Option<&TaskLine> {
        let lines = self.tasks.get(name)?;
        lines
            .iter()
            .find(|line| line.recipe == *recipe)
            .or_else(|| lines.last())
    }
}

/// The version that a line says, when it is the first one of a lock file.
fn version(line: &str) -> Option<&str> {
    line.strip_prefix("# fracture lock ")?.split([':', ' ']).next()
}

/// Writes a file by writing a temporary one beside it and renaming it.
///
/// # Errors
/// As the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_by(path, |file| file.write_all(bytes))
}

/// The same with content that is written piece by piece.
///
/// # Errors
/// As the file system says.
pub fn replace_by(path: &Path, content: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".fracture-").tempfile_in(folder)?;
    content(file.as_file_mut())?;
    // A file that others are to read: the temporary one is for its owner alone.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn digest<T: ?Sized>(text: &str) -> Result<Digest<T>, String> {
    text.parse()
        .map_err(|error: fracture_cache::digest::NotADigest| error.to_string())
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Lock {
        let line = |n: u8| TaskLine {
            recipe: Digest::from_bytes([n; 32]),
            key: Digest::from_bytes([n + 1; 32]),
            output: Digest::from_bytes([n + 2; 32]),
            rows: u64::from(n),
        };
        let file = FileLine {
            source: "examples/a b.jsonl".to_owned(),
            role: "pool safety".to_owned(),
            commit: "-".to_owned(),
            size: 7,
            blake3: Digest::of(b"x"),
        };
        let tasks = [
            ("b[x=1]".to_owned(), vec![line(1)]),
            ("a".to_owned(), vec![line(5), line(9)]),
        ];
        Lock {
            tasks: tasks.into(),
            files: vec![file],
            refreshed: [("a".to_owned(), 2)].into(),
        }
    }

    #[test]
    fn a_lock_survives_its_text() {
        assert_eq!(Lock::parse(&sample().text()).unwrap(), sample());
    }

    #[test]
    fn a_union_merge_is_sound() {
        // Git's union merge keeps the lines of both sides, in any order, some of them twice.
        let text = sample().text();
        let markers = ["<<<<<<< HEAD", "=======", ">>>>>>> other"];
        let mut lines: Vec<&str> = text.lines().chain(markers).chain(text.lines()).collect();
        lines.reverse();
        let merged = Lock::parse(&lines.join("\n")).unwrap();
        assert_eq!(merged, sample());
        assert_eq!(merged.task("a", &Digest::from_bytes([5; 32])).unwrap().rows, 5);
        assert_eq!(merged.task("a", &Digest::from_bytes([99; 32])).unwrap().rows, 9);
    }

    #[test]
    fn a_model_on_a_hub_has_one_pin() {
        let line = |source: &str, commit: &str| FileLine {
            source: source.to_owned(),
            commit: commit.to_owned(),
            ..sample().files[0].clone()
        };
        let mut lock = Lock {
            files: vec![line("hf://o/m/config.json", "new")],
            ..Lock::default()
        };
        let old = [
            ("hf://o/m/weights", "old"),
            ("hf://o/m@v1/weights", "old"),
            ("local", "-"),
            ("hf://o/n/x", "old"),
        ];
        lock.add_files(old.map(|(source, commit)| line(source, commit)).into());
        let sources: Vec<&str> = lock.files.iter().map(|line| line.source.as_str()).collect();
        assert_eq!(
            sources,
            ["hf://o/m/config.json", "hf://o/m@v1/weights", "hf://o/n/x", "local"]
        );
    }

    #[test]
    fn a_foreign_line_is_named() {
        let (line, problem) = Lock::parse("# x\nsome text\n").unwrap_err();
        assert_eq!(line, 2);
        assert!(problem.contains("neither"));
    }

    #[test]
    fn a_newer_lock_is_not_read_as_this_one() {
        assert_eq!(version(HEADER), Some(VERSION));
        let text = sample().text().replacen("lock 1", "lock 9", 1);
        let (line, problem) = Lock::parse(&text).unwrap_err();
        assert_eq!(line, 1);
        assert!(
            problem.contains("newer fracture") && problem.contains("version 9"),
            "{problem}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        fs::write(&path, text).unwrap();
        let hint = Lock::read(&path).unwrap_err().hint.unwrap();
        assert!(hint.contains("install the newer"), "{hint}");
    }

    #[test]
    fn the_lock_lies_beside_the_pipeline() {
        let path = Lock::path(Path::new("pipelines/quickstart.yaml"), &["quick".to_owned()]);
        assert_eq!(path, Path::new("pipelines/quickstart.quick.lock"));
    }
}
