//! What is known of files that are not there: an absent file counts at its locked digest, so that a pipeline can be planned,
//! and everything in the store be used, without weights and pools.
//!
//! The lock file knows path, role, size and digest of every file; the record of a locked task knows all roles that its
//! stage looked for, absent ones included, and the columns of its tables. Nothing is read before something is missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use fracture_cache::digest::Recipe;
use fracture_cache::{Artifact, Digest, Record, Records, Store, StoreOptions};
use fracture_hub::Reference;
use fracture_stage::schema::{Completeness, Field};
use fracture_stage::source::HUB;
use fracture_stage::{Error, ErrorKind, Forgotten, Outputs, PartText, Role, Schema};
use serde_json::Value;

use super::keys::FileKey;
use super::lock::{FileLine, Lock, NO_COMMIT};
use super::plan::recorded_parts;
use super::views::PARENT;

/// The settings of a model that are paths.
const PATHS: [&str; 2] = ["chat_template", "adapter"];

/// Of so many other tasks is asked whether they read the same files.
const OTHERS: usize = 1_000;

/// A file as it was locked: `None` for a role that was looked for and absent.
pub type LockedFile = (String, Option<FileLine>);

/// The memory of a project's files.
#[derive(Debug)]
pub struct Memory {
    root: PathBuf,
    /// Lock files; what the first says of a file wins.
    locks: Vec<PathBuf>,
    store: PathBuf,
    loaded: OnceLock<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    locks: Vec<Lock>,
    /// The lines of files by path.
    files: BTreeMap<String, Vec<FileLine>>,
    /// Whether a file has several contents in one role.
    doubled: bool,
    records: Option<Records>,
}

impl Memory {
    /// The memory that lies in lock files and a store, which need not be there.
    pub fn new(root: &Path, locks: Vec<PathBuf>, store: &Path) -> Self {
        Self {
            root: root.to_owned(),
            locks,
            store: store.to_owned(),
            loaded: OnceLock::new(),
        }
    }

    fn loaded(&self) -> &Loaded {
        self.loaded.get_or_init(|| {
            // What is wrong with a lock file or a store is told by those who need it.
            let locks: Vec<Lock> = self.locks.iter().filter_map(|path| Lock::read(path).ok()).collect();
            let mut files: BTreeMap<String, Vec<FileLine>> = BTreeMap::new();
            for line in locks.iter().flat_map(|lock| &lock.files) {
                files.entry(line.source.clone()).or_default().push(line.clone());
            }
            let records = self.store.join("format").is_file().then(|| {
                let store = Store::open(&self.store, &StoreOptions::default()).ok()?;
                Records::open(&store).ok()
            });
            let twice = |lines: &Vec<FileLine>| {
                let mut roles: Vec<(&str, _)> = lines.iter().map(|one| (one.role.as_str(), one.blake3)).collect();
                roles.sort_unstable();
                roles.dedup();
                roles.windows(2).any(|pair| pair[0].0 == pair[1].0)
            };
            Loaded {
                doubled: files.values().any(twice),
                locks,
                files,
                records: records.flatten(),
            }
        })
    }

    /// A path of the pipeline as lock files write it: relative to the root where it lies below it.
    fn source(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        if let Some(text) = inside.to_str().filter(|text| text.starts_with(HUB)) {
            return Reference::parse(text).map_or_else(|_| text.to_owned(), |reference| reference.folder());
        }
        let mut plain = PathBuf::new();
        for part in inside.components() {
            if part != Component::CurDir {
                plain.push(part);
            }
        }
        plain.display().to_string()
    }

    /// The size of a locked file that is not there.
    pub fn size(&self, path: &Path) -> Option<u64> {
        self.line(path, None).map(|line| line.size)
    }

    /// The names inside a folder that is not there, from the locked files below it, sorted.
    pub fn list(&self, folder: &Path) -> Option<Vec<String>> {
        let prefix = format!("{}/", self.source(folder));
        let below = self.loaded().files.range(prefix.clone()..);
        let mut names: Vec<String> = below
            .map_while(|(source, _)| source.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('/').next())
            .map(str::to_owned)
            .collect();
        names.dedup();
        (!names.is_empty()).then_some(names)
    }

    /// The commits that the files below a model's folder on a hub are pinned to, by the first lock file that pins any.
    pub fn commits(&self, folder: &str) -> Vec<String> {
        let mut pins = self.loaded().locks.iter().map(|lock| lock.commits(folder));
        pins.find(|commits| !commits.is_empty()).unwrap_or_default()
    }

    /// The sources of the files below a model's folder on a hub that are locked at a commit.
    pub fn sources(&self, folder: &str, commit: &str) -> Vec<&str> {
        let prefix = format!("{folder}/");
        let below = self.loaded().files.range(prefix.clone()..);
        let below = below.take_while(|(source, _)| source.starts_with(&prefix));
        let locked = below.filter(|(_, lines)| lines.iter().any(|line| line.commit == commit));
        locked.map(|(source, _)| source.as_str()).collect()
    }

    /// Whether a lock file has a file of a hub with that content at that commit.
    pub fn is_pinned(&self, line: &FileLine, commit: &str) -> bool {
        let lines = self.loaded().files.get(&line.source).into_iter().flatten();
        let mut same = lines.filter(|other| other.role == line.role && other.blake3 == line.blake3);
        same.any(|other| other.commit == commit)
    }

    /// The content that a file of a hub was locked with at a commit.
    pub fn pinned(&self, source: &str, role: &str, commit: &str) -> Option<&FileLine> {
        let mut lines = self.loaded().files.get(source)?.iter();
        lines.find(|line| line.role == role && line.commit == commit)
    }

    /// The line of a file. After a merge there may be several; that of the role is meant, and of these the last.
    pub fn line(&self, path: &Path, role: Option<&str>) -> Option<&FileLine> {
        let lines = self.loaded().files.get(&self.source(path))?;
        let of_role = lines.iter().rfind(|line| role.is_none_or(|role| line.role == role));
        of_role.or(lines.last())
    }

    /// Other contents that the lock files have for the files of a task that are not there: after a merge a file may have a
    /// line of either side.
    pub fn alternatives(&self, files: &[FileKey]) -> Vec<Vec<FileKey>> {
        const MOST: usize = 64;
        let loaded = self.loaded();
        let mut all = vec![files.to_vec()];
        for (place, file) in files.iter().enumerate() {
            let lines = loaded.files.get(&file.source).map(Vec::as_slice).unwrap_or_default();
            let absent = lines.len() > 1 && !self.root.join(&file.source).exists();
            let others = lines
                .iter()
                .filter(|line| absent && line.role == file.role && line.commit == NO_COMMIT);
            let contents = others.map(|line| Some((line.blake3, line.size)));
            for content in contents.filter(|content| *content != file.content) {
                let changed = |before: &Vec<FileKey>| {
                    let mut files = before.clone();
                    files[place].content = content;
                    files
                };
                let more: Vec<Vec<FileKey>> = all.iter().filter(|one| one[place] == *file).map(changed).collect();
                all.extend(more);
                all.truncate(MOST);
            }
        }
        all.remove(0);
        all
    }

    /// Whether a merge left several contents of one file. Before a file is missing nothing is read for this, and there are
    /// none.
    pub fn is_doubled(&self) -> bool {
        self.loaded.get().is_some_and(|loaded| loaded.doubled)
    }

    /// Whether a lock file has a line of a task with that recipe.
    pub fn has(&self, task: &str, recipe: &Digest<Recipe>) -> bool {
        let lines = self.loaded().locks.iter().filter_map(|lock| lock.tasks.get(task));
        lines.flatten().any(|line| line.recipe == *recipe)
    }

    /// Where a line stands: the lock file and the number of the line.
    fn place(&self, line: &FileLine) -> Option<(PathBuf, usize)> {
        let digest = line.blake3.hex();
        self.locks.iter().find_map(|path| {
            let text = fs::read_to_string(path).ok()?;
            let is = |text: &str| {
                let fields: Vec<&str> = text.split('\t').collect();
                fields.first() == Some(&"file")
                    && fields.get(1) == Some(&line.source.as_str())
                    && text.ends_with(&digest)
            };
            let index = text.lines().position(is)?;
            Some((path.clone(), index + 1))
        })
    }

    /// The error for a task that has to run without one of its files.
    pub fn missing(&self, source: &str) -> Error {
        let error = Error::new(
            ErrorKind::Input,
            format!("the file `{source}` is not there, and this task has to run"),
        );
        let hint = "put it back: the file with that digest, or another one on purpose; `fracture why` says why the task has to run";
        let error = error.hint(hint);
        let Some(line) = self.line(&self.root.join(source), None) else {
            return error;
        };
        let what = format!("blake3 {}, {} bytes", line.blake3.hex(), line.size);
        error.cause(match self.place(line) {
            Some((lock, number)) => {
                let lock = lock.strip_prefix(&self.root).unwrap_or(&lock).display().to_string();
                format!("line {number} of the lock file `{lock}` has it as {what}")
            }
            None => format!("it was locked as {what}"),
        })
    }

    /// Adds to the error of a stage what the lock file knows of the paths that are missing.
    pub fn told(&self, error: Error, asked: &[String]) -> Error {
        let absent = asked.iter().filter(|path| !self.root.join(path).exists());
        let locked = absent.filter(|path| {
            let path = self.root.join(path);
            self.line(&path, None).is_some() || self.list(&path).is_some()
        });
        locked.fold(error, |error, path| {
            error.cause(format!(
                "the lock file knows `{path}`, but this store holds no result of a task that read it"
            ))
        })
    }

    /// The files of a task as they were recorded, when some of them are not there. The task itself is preferred, else
    /// another one of its kind that read the same paths.
    pub fn files(&self, forgotten: &Forgotten<'_>) -> Option<Vec<LockedFile>> {
        self.recall(forgotten, true).map(|(_, files)| files)
    }

    /// The columns of a task's outputs as they were recorded.
    pub fn schema(&self, forgotten: &Forgotten<'_>) -> Option<Outputs<Schema>> {
        if let Some((record, _)) = self.recall(forgotten, false) {
            return Some(recorded_schema(&record, forgotten.with));
        }
        // Without a record the result is not there either; what follows may be.
        let absent = forgotten.asked.iter().map(|path| self.root.join(path));
        let mut absent = absent.filter(|path| !path.exists()).peekable();
        absent.peek()?;
        absent
            .all(|path| self.line(&path, None).is_some() || self.list(&path).is_some())
            .then(|| Outputs::only(Schema::unknown()))
    }

    fn recall(&self, forgotten: &Forgotten<'_>, all: bool) -> Option<(Record, Vec<LockedFile>)> {
        let loaded = self.loaded();
        let records = loaded.records.as_ref()?;
        let own = loaded
            .locks
            .iter()
            .filter_map(|lock| lock.tasks.get(forgotten.task))
            .flatten();
        let others = loaded.locks.iter().flat_map(|lock| lock.tasks.values()).flatten();
        let wanted = self.wanted(forgotten);
        own.chain(others.take(OTHERS)).find_map(|line| {
            let record = records.by_action(&line.key).ok().flatten()?;
            if record.kind.split(' ').next() != Some(forgotten.kind) {
                return None;
            }
            let files = self.recorded_files(&record, &wanted, all)?;
            let absent =
                |(_, line): &LockedFile| line.as_ref().is_some_and(|line| !self.root.join(&line.source).exists());
            files.iter().any(absent).then_some((record, files))
        })
    }

    /// The paths that a task reads, as far as they are known: what its stage asked for, and the paths among the settings of
    /// the models that it names.
    fn wanted(&self, forgotten: &Forgotten<'_>) -> Vec<String> {
        let named = |value: &Value| forgotten.context.models.get(value.as_str()?);
        let models = forgotten
            .with
            .as_object()
            .into_iter()
            .flat_map(|with| with.values())
            .filter_map(named);
        let settings = models.flat_map(|model| PATHS.iter().filter_map(|name| model.settings.get(*name)?.as_str()));
        let asked = forgotten.asked.iter().map(String::as_str);
        asked.chain(settings).map(|path| self.source(Path::new(path))).collect()
    }

    /// The files of a record, if they are those of the wanted paths: each path has a file at or below it, and with `all` each
    /// file lies at or below a path.
    fn recorded_files(&self, record: &Record, wanted: &[String], all: bool) -> Option<Vec<LockedFile>> {
        let below = |source: &str, path: &str| {
            source == path || source.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        let lines = || self.loaded().files.values().flatten();
        let mut files = Vec::new();
        for PartText { role, name, value } in recorded_parts(&record.parts) {
            let digest = value.as_str().unwrap_or_default();
            match (role, digest) {
                (Role::File, "absent") => files.push((name, None)),
                (Role::File, digest) => {
                    let same = |line: &&FileLine| line.role == name && line.blake3.hex() == digest;
                    let here = |line: &&FileLine| wanted.iter().any(|path| below(&line.source, path));
                    let line = lines().filter(same).find(here);
                    let line = line.or_else(|| lines().find(same).filter(|_| !all))?;
                    files.push((name, Some(line.clone())));
                }
                _ => {}
            }
        }
        let read = |path: &String| {
            let mut sources = files.iter().filter_map(|(_, line)| line.as_ref());
            sources.any(|line| below(&line.source, path))
        };
        (!wanted.is_empty() && wanted.iter().all(read)).then_some(files)
    }
}

/// The tables of a record at plan time: these columns and, since parameters may have changed meanwhile, perhaps others.
fn recorded_schema(record: &Record, with: &Value) -> Outputs<Schema> {
    let mut outputs = Outputs::only(Schema::unknown());
    for output in &record.outputs {
        let Artifact::Table(table) = &output.artifact else {
            continue;
        };
        let columns = table.columns.iter().filter(|column| column.name != PARENT);
        let mut schema = Schema::unknown();
        schema.completeness = Completeness::AtLeast;
        schema.fields = columns
            .map(|column| Field {
                name: column.name.clone(),
                kind: Some(column.kind),
            })
            .collect();
        if output.name == "main" {
            let keys = with.get("keys").and_then(Value::as_array).into_iter().flatten();
            schema.keys = keys.filter_map(|key| Some(key.as_str()?.to_owned())).collect();
            outputs.main = schema;
        } else {
            outputs.side.push((output.name.clone(), schema));
        }
    }
    outputs
}
