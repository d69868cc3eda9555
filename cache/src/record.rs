//! Records: what an action gave. Packed in append-only logs, one per writing handle, with an index in memory.
//!
//! A frame's body is `kind (1) · flags (1) · zero (6) · sequence (8) · action (32) · recipe (32) · JSON`. The sequence is a
//! Lamport clock: one more than the highest that the writer had seen. It gives all processes one order without a clock:
//! of several records of one action, a whole one stands over an incomplete one, a replacement over a first one, the
//! earlier of two first ones over the later, and the later of two replacements over the earlier. This choice is the same
//! whatever the order in which the logs are read.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Artifact;
use crate::digest::{Action, Bytes, Digest, Framed, Recipe, Values};
use crate::error::{Result, StoreError};
use crate::frame::{self, Magic};
use crate::log::Log;
use crate::record_index::{Facts, Heading, Index, Kind, Place};
use crate::store::{Store, lock};

pub(crate) const MAGIC: Magic = *b"\xf1Re1";

/// The suffix of the logs' names.
pub(crate) const SUFFIX: &str = ".log";

/// A log is left for a new one beyond this length, so that any log can be read at once.
const LOG_BYTES: u64 = 128 << 20;

/// How often a publication looks for what other processes published.
const REFRESH: Duration = Duration::from_millis(100);

/// An output of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The name of the output.
    pub name: String,
    /// What it is.
    pub artifact: Artifact,
}

/// The digest over the content of all outputs of a task, as lock files keep it.
pub fn outputs_digest<'a>(outputs: impl IntoIterator<Item = (&'a str, &'a Artifact)>) -> Digest<Values> {
    let mut framed = Framed::new("outputs");
    for (name, artifact) in outputs {
        framed.text(name).digest(&artifact.content());
    }
    framed.finish()
}

/// A part of a key as `why` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartText {
    /// What it is about (`kind`, `parameter`, `file`, `constant`, `input`).
    pub role: String,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// What an action gave, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What makes this result the same result.
    pub action: Digest<Action>,
    /// The task as the pipeline described it.
    pub recipe: Digest<Recipe>,
    /// The stage kind with its version.
    pub kind: String,
    /// The outputs.
    pub outputs: Vec<Output>,
    /// The parts of the key.
    #[serde(default)]
    pub parts: Vec<PartText>,
    /// How many rows the task made.
    pub rows: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether rows failed, so that the next run tries them again.
    #[serde(default)]
    pub incomplete: bool,
    /// What a reader of the result should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Versions, CPU class, providers: never part of a key.
    #[serde(default)]
    pub provenance: BTreeMap<String, String>,
}

impl Record {
    /// Whether two records give the same outputs. The files of tables may differ; their values may not.
    pub fn same_outputs(&self, other: &Self) -> bool {
        let same = |(one, two): (&Output, &Output)| one.name == two.name && one.artifact.same_content(&two.artifact);
        self.outputs.len() == other.outputs.len() && self.outputs.iter().zip(&other.outputs).all(same)
    }
}

/// The part of a record that a plan needs; quicker to read than the whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Summary {
    /// The outputs.
    pub outputs: Vec<Output>,
    /// How many rows the task made.
    pub rows: u64,
    /// Whether rows failed.
    #[serde(default)]
    pub incomplete: bool,
}

/// What a plan needs of the whole record that a recipe leads to. Mostly the index knows it, and no log is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The action.
    pub action: Digest<Action>,
    /// How many rows the task made.
    pub rows: u64,
    /// The digest over its outputs, see [`outputs_digest`].
    pub output: Digest<Values>,
    /// The only object of its outputs, with its size in bytes.
    pub object: Option<(Digest<Bytes>, u64)>,
    /// The objects of its outputs, where there is not exactly one.
    pub objects: Vec<(Digest<Bytes>, u64)>,
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// It is the record of its action now.
    First,
    /// A record with the same outputs stood already; nothing was written.
    Same,
    /// It replaced an incomplete or a damaged record.
    Replaced,
    /// A record with other outputs stands, and is given here; this one was kept as a divergence.
    Divergent(Box<Record>),
}

/// The records of a store. It may be used from any thread.
#[derive(Debug)]
pub struct Records {
    pub(crate) store: Store,
    pub(crate) folder: PathBuf,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: Index,
    /// The log that this handle writes, and its name.
    pub(crate) own: Option<(Log, String)>,
    /// Actions whose standing record could not be read; the next publication replaces it.
    damaged: HashSet<Digest<Action>>,
    refreshed: Instant,
}

impl Records {
    /// Opens the records of a store and reads their index.
    ///
    /// # Errors
    /// When a log can not be read. Torn and damaged entries are no error: they are left out.
    pub fn open(store: &Store) -> Result<Self> {
        let folder = store.root().join("records");
        let mut index = Index::load(&folder);
        index.refresh(&folder)?;
        let state = State {
            index,
            own: None,
            damaged: HashSet::new(),
            refreshed: Instant::now(),
        };
        Ok(Self {
            store: store.clone(),
            folder,
            state: Mutex::new(state),
        })
    }

    /// How many actions have a record.
    pub fn len(&self) -> usize {
        lock(&self.state).index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an action has a record. Reads nothing from the disk.
    pub fn contains(&self, action: &Digest<Action>) -> bool {
        lock(&self.state).index.action(action).is_some()
    }

    /// The standing record of an action. One that turns out damaged counts as absent.
    ///
    /// # Errors
    /// When its log can not be read.
    pub fn by_action(&self, action: &Digest<Action>) -> Result<Option<Record>> {
        self.read(action)
    }

    /// The outputs of the standing record of an action.
    ///
    /// # Errors
    /// When its log can not be read.
    pub fn summary(&self, action: &Digest<Action>) -> Result<Option<Summary>> {
        self.read(action)
    }

    /// What a plan needs of the record that a recipe led to last; `None` when there is none, or when rows of it failed.
    ///
    /// # Errors
    /// When its log has to be read and can not be.
    pub fn find(&self, recipe: &Digest<Recipe>) -> Result<Option<Found>> {
        let (action, entry) = match lock(&self.state).index.recorded(recipe) {
            Some((action, entry)) if entry.complete => (action, entry),
            _ => return Ok(None),
        };
        if let Some(facts) = entry.facts {
            return Ok(Some(Found {
                action,
                rows: facts.rows,
                output: facts.output,
                object: Some((facts.object, facts.size)),
                objects: Vec::new(),
            }));
        }
        let Some(summary) = self.summary(&action)?.filter(|summary| !summary.incomplete) else {
            return Ok(None);
        };
        let Some(facts) = facts(&summary.outputs, summary.rows) else {
            let objects = summary.outputs.iter().flat_map(|output| output.artifact.objects());
            return Ok(Some(Found {
                action,
                rows: summary.rows,
                output: outputs_digest(summary.outputs.iter().map(named)),
                object: None,
                objects: objects.map(|(digest, size)| (*digest, size)).collect(),
            }));
        };
        lock(&self.state).index.learn(&action, facts);
        Ok(Some(Found {
            action,
            rows: facts.rows,
            output: facts.output,
            object: Some((facts.object, facts.size)),
            objects: Vec::new(),
        }))
    }

    /// The action that a recipe led to last.
    pub fn by_recipe(&self, recipe: &Digest<Recipe>) -> Option<Digest<Action>> {
        lock(&self.state).index.recipe(recipe).map(|alias| alias.action)
    }

    /// All actions that have a record, in no order.
    pub fn actions(&self) -> Vec<Digest<Action>> {
        lock(&self.state).index.actions()
    }

    /// Notes that a recipe leads to an action, when that is not known.
    ///
    /// # Errors
    /// When the log can not be written.
    pub fn alias(&self, recipe: &Digest<Recipe>, action: &Digest<Action>) -> Result<()> {
        let mut state = lock(&self.state);
        if state.index.recipe(recipe).is_some_and(|alias| alias.action == *action) {
            return Ok(());
        }
        let heading = state.index.heading(Kind::Alias, true, *action, *recipe);
        self.append(&mut state, &heading, &[], None)
    }

    /// Publishes a record. The first one of an action stands; a later one with other outputs is kept as a divergence,
    /// unless the standing one is incomplete or can not be read.
    ///
    /// # Errors
    /// When the log can not be read or written.
    pub fn publish(&self, record: &Record) -> Result<Published> {
        {
            let mut state = lock(&self.state);
            if state.refreshed.elapsed() >= REFRESH {
                self.refresh_locked(&mut state)?;
            }
        }
        let standing = self.by_action(&record.action)?;
        let (kind, published) = match standing {
            None if lock(&self.state).damaged.contains(&record.action) => (Kind::Replace, Published::Replaced),
            None => (Kind::First, Published::First),
            Some(standing) if standing.incomplete => {
                if record.incomplete && standing.same_outputs(record) {
                    return Ok(Published::Same);
                }
                (Kind::Replace, Published::Replaced)
            }
            Some(standing) if standing.same_outputs(record) => {
                self.alias(&record.recipe, &record.action)?;
                return Ok(Published::Same);
            }
            // A whole record is no rival of one with failed rows.
            Some(_) if record.incomplete => return Ok(Published::Same),
            Some(standing) => (Kind::Divergent, Published::Divergent(Box::new(standing))),
        };
        self.write(record, kind)?;
        Ok(published)
    }

    /// Publishes a record in place of the standing one, whatever that says: its objects are lost, say.
    ///
    /// # Errors
    /// When the log can not be written.
    pub fn replace(&self, record: &Record) -> Result<()> {
        self.write(record, Kind::Replace)
    }

    /// Publishes a record in place of an incomplete one. The same as [`Records::publish`], for readers' sake.
    ///
    /// # Errors
    /// When the log can not be read or written.
    pub fn replace_incomplete(&self, record: &Record) -> Result<Published> {
        self.publish(record)
    }

    /// The records that differ from the standing record of their action.
    ///
    /// # Errors
    /// When a log can not be read.
    pub fn divergences(&self) -> Result<Vec<Record>> {
        let rivals = lock(&self.state).index.rivals.clone();
        let mut divergent: Vec<Record> = Vec::new();
        for (action, place) in rivals {
            let rival: Option<Record> = self.read_at(place, &action)?;
            let Some(rival) = rival else { continue };
            let standing = self.by_action(&action)?;
            let differs = standing.is_some_and(|standing| !standing.same_outputs(&rival));
            if differs
                && !divergent
                    .iter()
                    .any(|other| other.action == action && other.same_outputs(&rival))
            {
                divergent.push(rival);
            }
        }
        Ok(divergent)
    }

    /// Picks up what other processes published.
    ///
    /// # Errors
    /// When a log can not be read.
    pub fn refresh(&self) -> Result<()> {
        self.refresh_locked(&mut lock(&self.state))
    }

    /// Writes the index beside the logs, so that the next opening reads it instead of them. The engine calls it at the
    /// end of a run; it does nothing when little is new.
    ///
    /// # Errors
    /// When it can not be written; nothing is lost then.
    pub fn write_index(&self) -> Result<()> {
        let mut state = lock(&self.state);
        if self.store.is_read_only() || !state.index.is_worth_writing() {
            return Ok(());
        }
        self.refresh_locked(&mut state)?;
        state.index.save(&self.folder, &self.store)
    }

    pub(crate) fn refresh_locked(&self, state: &mut State) -> Result<()> {
        state.index.refresh(&self.folder)?;
        state.refreshed = Instant::now();
        Ok(())
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, action: &Digest<Action>) -> Result<Option<T>> {
        let Some(mut place) = lock(&self.state).index.action(action).map(|entry| entry.place) else {
            return Ok(None);
        };
        let mut read = self.read_at(place, action)?;
        if read.is_none() {
            // Its log may have been joined with others meanwhile.
            self.refresh()?;
            let now = lock(&self.state).index.action(action).map(|entry| entry.place);
            if let Some(now) = now.filter(|now| *now != place) {
                place = now;
                read = self.read_at(now, action)?;
            }
        }
        if read.is_none() {
            tracing::warn!(action = %action.short(), "the record of an action is damaged and counts as absent");
            let mut state = lock(&self.state);
            if state.index.action(action).is_some_and(|entry| entry.place == place) {
                state.index.remove(action);
                state.damaged.insert(*action);
            }
        }
        Ok(read)
    }

    fn read_at<T: for<'de> Deserialize<'de>>(&self, place: Place, action: &Digest<Action>) -> Result<Option<T>> {
        let (file, path) = lock(&self.state).index.file(&self.folder, place.log)?;
        let Some(file) = file else { return Ok(None) };
        let mut bytes = vec![0; place.length as usize];
        let count = crate::log::read_up_to(&file, &mut bytes, place.offset)
            .map_err(|source| StoreError::io(crate::error::READ, path, source))?;
        let record = frame::open(&bytes[..count], MAGIC)
            .and_then(|body| Some((Heading::parse(body)?, body)))
            .filter(|(heading, _)| heading.action == *action)
            .and_then(|(_, body)| serde_json::from_slice(&body[Heading::LENGTH..]).ok());
        Ok(record)
    }

    fn write(&self, record: &Record, kind: Kind) -> Result<()> {
        let json = serde_json::to_vec(record)
            .map_err(|error| StoreError::io("encode a record for", &self.folder, std::io::Error::other(error)))?;
        let facts = facts(&record.outputs, record.rows);
        let mut state = lock(&self.state);
        let heading = state
            .index
            .heading(kind, !record.incomplete, record.action, record.recipe);
        self.append(&mut state, &heading, &json, facts)?;
        state.damaged.remove(&record.action);
        Ok(())
    }

    fn append(&self, state: &mut State, heading: &Heading, json: &[u8], facts: Option<Facts>) -> Result<()> {
        self.store.writable("publish a record in")?;
        let mut bytes = Vec::new();
        let length = frame::append(&mut bytes, MAGIC, &[&heading.encode(), json]);
        if state
            .own
            .as_ref()
            .is_none_or(|(log, _)| !log.is_usable() || log.length() > LOG_BYTES)
        {
            state.own = Some(Log::create(&self.folder, SUFFIX)?);
        }
        let Some((log, name)) = &mut state.own else {
            return Ok(());
        };
        let number = state.index.log_number(name);
        let offset = log.append(&bytes)?;
        self.store.note_written(log.path().to_owned());
        let place = Place {
            log: number,
            offset,
            length: u32::try_from(length).unwrap_or(u32::MAX),
        };
        state.index.insert(heading, place, facts);
        state.index.covered(number, offset + length as u64);
        Ok(())
    }
}

fn named(output: &Output) -> (&str, &Artifact) {
    (&output.name, &output.artifact)
}

/// What the index keeps of outputs that are one object.
fn facts(outputs: &[Output], rows: u64) -> Option<Facts> {
    let mut objects = outputs.iter().flat_map(|output| output.artifact.objects());
    let (Some((object, size)), None) = (objects.next(), objects.next()) else {
        return None;
    };
    Some(Facts {
        rows,
        output: outputs_digest(outputs.iter().map(named)),
        object: *object,
        size,
    })
}
