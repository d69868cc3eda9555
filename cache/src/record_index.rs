//! The index of the records: action → place in a log, recipe → action. It is read from the logs; a copy beside them, the
//! file `index`, says which stretch of which log it covers and spares reading that again. The copy is searched as it lies
//! on the disk, see [`crate::record_table`]; what came after it is in maps. It is a cache: any
//! process may write it at any time, and a damaged one is ignored.

mod copy;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::digest::{Action, Bytes, Digest, Recipe, Values};
use crate::error::{READ, Result, StoreError};
use crate::frame;
use crate::log::read_tail;
use crate::record::{MAGIC, SUFFIX};
use crate::record_compact::Manifest;
use crate::record_table::Table;

/// How many logs are kept open.
const OPEN_LOGS: usize = 64;

/// What a frame of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The first record of its action that its writer knew.
    First = 1,
    /// A record in place of another.
    Replace = 2,
    /// A record that differs from the standing one.
    Divergent = 3,
    /// No record: a recipe that leads to an action.
    Alias = 4,
}

/// What precedes the JSON of a record.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    pub(crate) kind: Kind,
    pub(crate) complete: bool,
    pub(crate) sequence: u64,
    pub(crate) action: Digest<Action>,
    pub(crate) recipe: Digest<Recipe>,
}

impl Heading {
    pub(crate) const LENGTH: usize = 80;

    pub(crate) fn encode(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[0] = self.kind as u8;
        bytes[1] = u8::from(self.complete);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..48].copy_from_slice(self.action.as_bytes());
        bytes[48..80].copy_from_slice(self.recipe.as_bytes());
        bytes
    }

    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let kind = match *body.first()? {
            1 => Kind::First,
            2 => Kind::Replace,
            3 => Kind::Divergent,
            4 => Kind::Alias,
            _ => return None,
        };
        Some(Self {
            kind,
            complete: *body.get(1)? == 1,
            sequence: u64::from_le_bytes(body.get(8..16)?.try_into().ok()?),
            action: Digest::from_bytes(body.get(16..48)?.try_into().ok()?),
            recipe: Digest::from_bytes(body.get(48..80)?.try_into().ok()?),
        })
    }
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) log: u32,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// The standing record of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    pub(crate) complete: bool,
    pub(crate) sequence: u64,
    /// `None` when there is not exactly one object, or when the record was not looked at.
    pub(crate) facts: Option<Facts>,
}

/// What a plan needs of a record whose outputs are one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) rows: u64,
    /// The digest over the content of the outputs.
    pub(crate) output: Digest<Values>,
    pub(crate) object: Digest<Bytes>,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// Where a recipe leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) action: Digest<Action>,
    pub(crate) sequence: u64,
    pub(crate) log: u32,
}

#[derive(Debug)]
struct KnownLog {
    name: String,
    /// Up to here its frames are in the index.
    covered: u64,
    /// Its frames before that are in another log, too.
    retired: bool,
    file: Option<Arc<File>>,
}

/// The index in memory: what lies on the disk, and what differs from that.
#[derive(Debug, Default)]
pub(crate) struct Index {
    table: Table,
    /// What is not in the table; `None` for an action that is in the table and counts as absent.
    actions: HashMap<Digest<Action>, Option<Entry>>,
    recipes: HashMap<Digest<Recipe>, Alias>,
    /// How many actions have a record.
    count: usize,
    /// Whole records that do not stand.
    pub(crate) rivals: Vec<(Digest<Action>, Place)>,
    /// The highest sequence that was seen.
    pub(crate) sequence: u64,
    logs: Vec<KnownLog>,
    numbers: HashMap<String, u32>,
    open: usize,
    unwritten: usize,
    /// Which manifest was read.
    manifest: Option<(u64, SystemTime)>,
}

impl Index {
    /// How many actions have a record.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The standing record of an action.
    pub(crate) fn action(&self, action: &Digest<Action>) -> Option<Entry> {
        match self.actions.get(action) {
            Some(entry) => *entry,
            None => self.table.action(action),
        }
    }

    /// Where a recipe leads.
    pub(crate) fn recipe(&self, recipe: &Digest<Recipe>) -> Option<Alias> {
        let newer = self.recipes.get(recipe).copied();
        newer.or_else(|| self.table.recipe(recipe))
    }

    /// The action to which a recipe leads, with its standing record.
    pub(crate) fn recorded(&self, recipe: &Digest<Recipe>) -> Option<(Digest<Action>, Entry)> {
        if self.recipes.contains_key(recipe) {
            let action = self.recipe(recipe)?.action;
            return Some((action, self.action(&action)?));
        }
        let (action, entry) = self.table.recorded(recipe)?;
        match self.actions.get(&action) {
            Some(newer) => Some((action, (*newer)?)),
            None => Some((action, entry)),
        }
    }

    /// All actions that have a record, in no order.
    pub(crate) fn actions(&self) -> Vec<Digest<Action>> {
        self.standing().map(|(action, _)| action).collect()
    }

    /// Where every recipe leads.
    pub(crate) fn recipes(&self) -> HashMap<Digest<Recipe>, Alias> {
        let newer = self.recipes.iter().map(|(recipe, alias)| (*recipe, *alias));
        self.table.recipes().chain(newer).collect()
    }

    fn standing(&self) -> impl Iterator<Item = (Digest<Action>, Entry)> {
        let old = self
            .table
            .actions()
            .filter(|(action, _)| !self.actions.contains_key(action));
        let new = self
            .actions
            .iter()
            .filter_map(|(action, entry)| Some((*action, (*entry)?)));
        old.chain(new)
    }

    /// An action counts as absent from here on.
    pub(crate) fn remove(&mut self, action: &Digest<Action>) {
        if self.action(action).is_some() {
            self.count -= 1;
            self.actions.insert(*action, None);
        }
    }

    /// Notes what a plan needs of the standing record of an action, after that was read.
    pub(crate) fn learn(&mut self, action: &Digest<Action>, facts: Facts) {
        if let Some(entry) = self.action(action) {
            let facts = Some(facts);
            self.actions.insert(*action, Some(Entry { facts, ..entry }));
            self.unwritten += 1;
        }
    }

    /// The heading of the next record.
    pub(crate) fn heading(
        &self,
        kind: Kind,
        complete: bool,
        action: Digest<Action>,
        recipe: Digest<Recipe>,
    ) -> Heading {
        Heading {
            kind,
            complete,
            sequence: self.sequence + 1,
            action,
            recipe,
        }
    }

    /// The number of a log; one that is new is noted with nothing covered.
    pub(crate) fn log_number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.logs.len()).unwrap_or(u32::MAX);
        self.numbers.insert(name.to_owned(), number);
        self.logs.push(KnownLog {
            name: name.to_owned(),
            covered: 0,
            retired: false,
            file: None,
        });
        number
    }

    /// Notes that the frames of a log before `end` are in the index.
    pub(crate) fn covered(&mut self, log: u32, end: u64) {
        if let Some(known) = self.logs.get_mut(log as usize) {
            known.covered = known.covered.max(end);
        }
    }

    /// The records that stand and those that do not, with their places.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Digest<Action>, Place)> {
        let standing = self.standing().map(|(action, entry)| (action, entry.place));
        standing.chain(self.rivals.iter().copied())
    }

    pub(crate) fn name(&self, log: u32) -> &str {
        self.logs.get(log as usize).map_or("", |known| &known.name)
    }

    /// What decides which of two records of an action stands: the greater one.
    fn rank(&self, entry: &Entry) -> impl Ord {
        let replaces = entry.kind == Kind::Replace;
        let order = if replaces {
            entry.sequence
        } else {
            u64::MAX - entry.sequence
        };
        (
            entry.complete,
            replaces,
            order,
            Reverse(self.name(entry.place.log).to_owned()),
            Reverse(entry.place.offset),
        )
    }

    /// Adds a frame. The outcome does not depend on the order in which frames are added.
    pub(crate) fn insert(&mut self, heading: &Heading, place: Place, facts: Option<Facts>) {
        self.sequence = self.sequence.max(heading.sequence);
        self.unwritten += 1;
        let Heading {
            kind,
            complete,
            sequence,
            action,
            recipe,
        } = *heading;
        if kind == Kind::Divergent {
            self.rivals.push((action, place));
            return;
        }
        self.insert_alias(
            recipe,
            Alias {
                action,
                sequence,
                log: place.log,
            },
        );
        if kind == Kind::Alias {
            return;
        }
        let entry = Entry {
            place,
            kind,
            complete,
            sequence,
            facts,
        };
        match self.action(&action) {
            None => {
                self.count += 1;
                self.actions.insert(action, Some(entry));
            }
            Some(standing) if standing.place == place => {}
            Some(standing) => {
                let loser = if self.rank(&entry) > self.rank(&standing) {
                    self.actions.insert(action, Some(entry));
                    standing
                } else {
                    entry
                };
                // A record that lacks rows is no rival.
                if loser.complete {
                    self.rivals.push((action, loser.place));
                }
            }
        }
    }

    fn insert_alias(&mut self, recipe: Digest<Recipe>, alias: Alias) {
        let known = self.recipe(&recipe);
        let newer =
            known.is_none_or(|known| (alias.sequence, self.name(alias.log)) >= (known.sequence, self.name(known.log)));
        if newer {
            self.recipes.insert(recipe, alias);
        }
    }

    /// Reads what was appended to the logs since the last look.
    pub(crate) fn refresh(&mut self, folder: &Path) -> Result<()> {
        let failed = |source| StoreError::io(READ, folder, source);
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        };
        let entries: Vec<_> = entries.collect::<io::Result<_>>().map_err(failed)?;
        self.follow_generation(folder, &entries);
        for entry in entries {
            let Some(name) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_suffix(SUFFIX))
                .map(str::to_owned)
            else {
                continue;
            };
            let log = self.log_number(&name);
            let covered = self.logs[log as usize].covered;
            if entry.metadata().is_ok_and(|meta| meta.len() > covered) {
                self.read_log(&entry.path(), log, covered)?;
            }
        }
        Ok(())
    }

    /// Forgets what was read from logs that were joined or removed meanwhile; their records are in the new one.
    fn follow_generation(&mut self, folder: &Path, entries: &[fs::DirEntry]) {
        let stamp = Manifest::stamp(folder);
        let retired = if stamp == self.manifest {
            HashMap::new()
        } else {
            Manifest::read(folder).retired
        };
        let names: HashSet<_> = entries.iter().map(fs::DirEntry::file_name).collect();
        let gone = |known: &KnownLog| {
            let there = names.contains(std::ffi::OsStr::new(&format!("{}{SUFFIX}", known.name)));
            known.covered > 0 && !known.retired && (!there || retired.contains_key(&known.name))
        };
        if self.logs.iter().any(gone) {
            *self = Self::default();
        }
        self.manifest = stamp;
        for (name, length) in retired {
            let log = self.log_number(&name);
            self.covered(log, length);
            self.logs[log as usize].retired = true;
        }
    }

    fn read_log(&mut self, path: &Path, log: u32, covered: u64) -> Result<()> {
        let bytes = read_tail(path, covered, None)?;
        let mut frames = frame::scan(&bytes, MAGIC);
        for (at, body) in frames.by_ref() {
            let length = u32::try_from(frame::HEAD + body.len()).unwrap_or(u32::MAX);
            if let Some(heading) = Heading::parse(body) {
                self.insert(
                    &heading,
                    Place {
                        log,
                        offset: covered + at as u64,
                        length,
                    },
                    None,
                );
            }
        }
        let end = covered + frames.end() as u64;
        self.covered(log, end);
        Ok(())
    }

    /// A log opened for reading, and its path; none when it is gone.
    pub(crate) fn file(&mut self, folder: &Path, log: u32) -> Result<(Option<Arc<File>>, PathBuf)> {
        let path = folder.join(format!("{}{SUFFIX}", self.name(log)));
        let Some(known) = self.logs.get_mut(log as usize) else {
            return Ok((None, path));
        };
        if let Some(file) = &known.file {
            return Ok((Some(Arc::clone(file)), path));
        }
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, path)),
            other => Arc::new(other.map_err(|source| StoreError::io(READ, &path, source))?),
        };
        if self.open < OPEN_LOGS {
            self.open += 1;
            known.file = Some(Arc::clone(&file));
        }
        Ok((Some(file), path))
    }
}
