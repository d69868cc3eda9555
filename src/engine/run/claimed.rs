//! Several processes on one store: a task is claimed before it runs. One that another process has claimed waits until its
//! record is there, or until its owner is gone, and is then adopted or taken over. Claims only save time: without them the
//! same work is done twice and recorded once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use fracture_cache::live::{Role, present};
use fracture_cache::{Claim, Claimed, Claims, Store};
use fracture_language::TaskId;
use fracture_stage::{Error, Outcome};

use super::{Dispatcher, RowKey, Status};
use crate::engine::event::Event;
use crate::engine::plan::TaskResult;
use crate::engine::store_error;

/// What became of the attempt to claim a task.
pub(super) enum Hold {
    /// It is ours to run.
    Mine,
    /// Another process runs it.
    Elsewhere,
    /// Another process recorded it meanwhile.
    Recorded(Box<TaskResult>),
}

/// The other processes at work in the store, and what is shared out between them and us.
#[derive(Default)]
pub(super) struct Neighbours {
    claims: Option<Claims>,
    ours: HashMap<TaskId, Claim>,
    /// Tasks that are ready and that others have claimed.
    pub(super) waiting: BTreeSet<TaskId>,
    /// Row-wise tasks, their rows known, that others have claimed.
    asleep: HashSet<TaskId>,
    /// Of whom the user was told that we wait for them.
    told: HashSet<String>,
    /// Who was there when we looked last.
    looked: Glance,
    crowd: bool,
}

/// The folder of those at work, seen from outside: when it changed, and the names in it, for a file system's clock may tick
/// as seldom as every other second.
#[derive(Debug, Default, PartialEq, Eq)]
struct Glance {
    changed: Option<SystemTime>,
    names: BTreeSet<OsString>,
}

impl Glance {
    fn at(store: &Store) -> Self {
        let live = store.root().join("live");
        // What can not be told is told by looking closely.
        let changed = fs::metadata(&live).and_then(|meta| meta.modified()).ok();
        let entries = fs::read_dir(&live).into_iter().flatten();
        Self {
            changed,
            names: entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect(),
        }
    }
}

impl Neighbours {
    /// Looks who is at work.
    ///
    /// # Errors
    /// When the store can not be read.
    pub(super) fn open(store: &Store, who: &str, patience: Duration) -> Result<Self, Error> {
        let looked = Glance::at(store);
        // One of them is ours.
        let crowd = present(store, Role::Run, None).map_err(store_error)?.len() > 1;
        Ok(Self {
            claims: Some(Claims::open(store, who, patience)),
            looked,
            crowd,
            ..Self::default()
        })
    }

    /// Whether somebody looked.
    pub(super) fn is_open(&self) -> bool {
        self.claims.is_some()
    }

    /// Whether something waits for others.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty() || !self.asleep.is_empty()
    }

    /// Whether a row-wise task waits for another process.
    pub(super) fn is_asleep(&self, id: TaskId) -> bool {
        self.asleep.contains(&id)
    }

    /// Ends our claim on a task.
    pub(super) fn release(&mut self, id: TaskId) {
        self.ours.remove(&id);
        self.asleep.remove(&id);
    }

    /// Whether other runs are at work, or were since we looked last: what they recorded is then to be looked for. Costs a
    /// glance at a folder while nobody comes or goes.
    fn crowded(&mut self, store: &Store) -> Result<bool, Error> {
        let now = Glance::at(store);
        if now == self.looked {
            return Ok(self.crowd);
        }
        self.looked = now;
        self.crowd = present(store, Role::Run, None).map_err(store_error)?.len() > 1;
        // Whoever went may have left something.
        Ok(true)
    }
}

impl Dispatcher<'_> {
    /// Claims a task whose action is known.
    pub(super) fn claim(&mut self, id: TaskId) -> Result<Hold, Error> {
        if self.neighbours.ours.contains_key(&id) {
            return Ok(Hold::Mine);
        }
        let Some(claims) = &self.neighbours.claims else {
            return Ok(Hold::Mine);
        };
        match claims.try_claim(&self.begun[&id].action).map_err(store_error)? {
            Claimed::Held { owner, .. } => {
                self.waits_for(id, owner);
                Ok(Hold::Elsewhere)
            }
            Claimed::Mine(claim) => {
                self.neighbours.ours.insert(id, claim);
                let store = Arc::clone(&self.workspace.store);
                if self.neighbours.crowded(&store)? {
                    // Its last owner may have recorded it after we looked.
                    self.workspace.records.refresh().map_err(store_error)?;
                }
                Ok(match self.recorded(id)? {
                    Some(result) => Hold::Recorded(Box::new(result)),
                    None => Hold::Mine,
                })
            }
        }
    }

    fn waits_for(&mut self, id: TaskId, owner: String) {
        if self.neighbours.told.contains(&owner) {
            return;
        }
        let pipeline = Arc::clone(&self.pipeline);
        let whose = if owner.is_empty() { "another process" } else { &owner };
        self.note(
            Some(&pipeline.tasks[id.0 as usize]),
            format!("{whose} is computing it; its result is taken when it is there"),
        );
        self.neighbours.told.insert(owner);
    }

    /// Takes what other processes recorded meanwhile; what they did not is tried again.
    pub(super) fn look_again(&mut self) -> Result<(), Error> {
        self.workspace.records.refresh().map_err(store_error)?;
        let waiting = std::mem::take(&mut self.neighbours.waiting);
        for id in waiting {
            if self.stopping() {
                self.status[id.0 as usize] = Status::Waiting;
            } else if let Some(result) = self.recorded(id)? {
                self.adopt(id, result)?;
            } else {
                self.ready.insert(id);
            }
        }
        for id in std::mem::take(&mut self.neighbours.asleep) {
            if let Some(result) = self.recorded(id)? {
                self.adopt_rows(id, result)?;
            } else if self.stopping() {
                self.give_up(id);
            }
        }
        Ok(())
    }

    /// A row-wise task whose record is there by now.
    pub(super) fn adopt_rows(&mut self, id: TaskId, result: TaskResult) -> Result<(), Error> {
        self.take_out(id);
        self.adopt(id, result)
    }

    fn give_up(&mut self, id: TaskId) {
        self.take_out(id);
        self.status[id.0 as usize] = Status::Waiting;
    }

    fn take_out(&mut self, id: TaskId) {
        if self.row_tasks.remove(&id).is_some() {
            self.busy -= 1;
        }
        if let Some(group) = self.group_of(id) {
            group.pending.remove(&id);
        }
    }

    /// Puts the rows of tasks whose turn it is into the queues of their groups.
    pub(super) fn admit(&mut self) -> Result<(), Error> {
        let mut names: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, group)| !group.pending.is_empty())
            .collect();
        if names.is_empty() || self.cancelled.load(Ordering::Relaxed) {
            return Ok(());
        }
        names.sort_by_key(|(_, group)| group.first);
        let names: Vec<Arc<str>> = names.into_iter().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            let Some(group) = self.groups.get(&name) else { continue };
            let free = group.running || group.resource == "network" || self.is_free(group.resource);
            let pending: Vec<TaskId> = group.pending.iter().copied().collect();
            for id in pending {
                let known = self.row_tasks.get(&id).is_none_or(|task| task.missing.is_empty());
                if self.neighbours.is_asleep(id) || !(free || known) {
                    continue;
                }
                match self.claim(id)? {
                    Hold::Mine => self.enqueue(id)?,
                    Hold::Recorded(result) => self.adopt_rows(id, *result)?,
                    Hold::Elsewhere => drop(self.neighbours.asleep.insert(id)),
                }
            }
        }
        Ok(())
    }

    /// Whether no group's rows wait for a resource or occupy it.
    fn is_free(&self, resource: &str) -> bool {
        let mut others = self.groups.values().filter(|group| group.resource == resource);
        !others.any(|group| group.running || !group.queue.is_empty())
    }

    /// Rows that other processes finished are taken out of our queues. Called once a second.
    pub(super) fn share_rows(&mut self) -> Result<(), Error> {
        let store = Arc::clone(&self.workspace.store);
        if self.row_tasks.is_empty() || !self.neighbours.crowded(&store)? {
            return Ok(());
        }
        let ours: Vec<TaskId> = self
            .row_tasks
            .keys()
            .copied()
            .filter(|id| self.neighbours.ours.contains_key(id))
            .collect();
        for id in ours {
            let found = self.known_by_now(id)?;
            if found.is_empty() {
                continue;
            }
            self.rows.reused += found.len() as u64;
            let keys: HashSet<_> = found.iter().map(|(row, _)| *row).collect();
            if let Some(group) = self.group_of(id) {
                group.queue.forget(&keys);
            }
            for (stage, rows) in self.settle(found) {
                self.progress(stage, rows, 0);
            }
        }
        Ok(())
    }

    /// The missing rows of a task that the memo has by now.
    pub(super) fn known_by_now(&self, id: TaskId) -> Result<Vec<(RowKey, Outcome)>, Error> {
        let Some(task) = self.row_tasks.get(&id).filter(|task| !task.missing.is_empty()) else {
            return Ok(Vec::new());
        };
        task.memo.refresh().map_err(store_error)?;
        let mut rows: Vec<_> = task.missing.iter().copied().collect();
        rows.retain(|row| task.memo.contains(row));
        let payloads = task.memo.get_many(&rows).map_err(store_error)?;
        let found = rows.into_iter().zip(payloads);
        Ok(found.filter_map(|(row, raw)| Some((row, Outcome::Raw(raw?)))).collect())
    }

    /// Says that so many rows of a task's stage are done.
    pub(super) fn progress(&self, stage: usize, rows: u64, units: u64) {
        let stage = self.pipeline.stages[stage].name.to_string();
        self.sink.event(&Event::Progress { stage, rows, units });
    }
}
