//! What a store holds and who holds it: records, and the lock files, runs and pins that are roots of a collection.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fracture_cache::digest::Action;
use fracture_cache::gc::{Decision, Entry, Root};
use fracture_cache::{Digest, Record, Records, Store};
use fracture_stage::Error;

use crate::engine::history::{RunRecord, runs as recorded_runs};
use crate::engine::pins::{Pin, pins};
use crate::engine::projects::{Reached, reach};
use crate::engine::store_error;

/// What a store holds and who holds it.
pub struct Holdings {
    /// The standing records, and those that diverge from them.
    pub records: Vec<Record>,
    /// The names of tasks by action, from the runs and the lock files.
    pub names: HashMap<Digest<Action>, String>,
    /// When a run used an action last.
    pub used: HashMap<Digest<Action>, SystemTime>,
    /// The lock files.
    pub projects: Vec<Reached>,
    /// The runs, the latest first.
    pub runs: Vec<(RunRecord, SystemTime)>,
    /// What people pinned.
    pub pins: Vec<Pin>,
}

impl Holdings {
    /// Reads what there is to know of a store.
    ///
    /// # Errors
    /// When a part of it can not be read.
    pub fn read(store: &Store) -> Result<Self, Error> {
        let index = Records::open(store).map_err(store_error)?;
        let mut records = index.divergences().map_err(store_error)?;
        let mut actions = index.actions();
        actions.sort_by_key(|action| *action.as_bytes());
        for action in actions {
            records.extend(index.by_action(&action).map_err(store_error)?);
        }
        let (runs, _) = recorded_runs(store)?;
        let projects = reach(store)?;
        let (mut names, mut used) = (HashMap::new(), HashMap::new());
        for (run, ended) in &runs {
            for task in &run.tasks {
                if let Some(action) = task.incomplete {
                    names.entry(action).or_insert_with(|| task.task.clone());
                }
                let Some(action) = task.action else { continue };
                names.entry(action).or_insert_with(|| task.task.clone());
                let last = used.entry(action).or_insert(*ended);
                *last = (*last).max(*ended);
            }
        }
        for project in &projects {
            for (task, actions) in &project.registration.actions {
                for action in actions {
                    names.entry(*action).or_insert_with(|| task.clone());
                }
            }
        }
        let pins = pins(store)?;
        for pin in &pins {
            names.entry(pin.action).or_insert_with(|| pin.task.clone());
        }
        Ok(Self {
            records,
            names,
            used,
            projects,
            runs,
            pins,
        })
    }

    /// The name of a task that an action was, else its digest.
    pub fn name(&self, action: &Digest<Action>) -> String {
        self.names.get(action).cloned().unwrap_or_else(|| action.short())
    }

    /// The recorded results as a collection sees them.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |record: &Record| Entry {
            action: record.action,
            objects: record
                .outputs
                .iter()
                .flat_map(|output| output.artifact.objects())
                .map(|(blob, _)| *blob)
                .collect(),
            used: self.used.get(&record.action).copied(),
        };
        self.records.iter().map(entry).collect()
    }

    /// What holds results: lock files but those forgotten, the last runs, pins.
    pub fn roots(&self, keep_runs: usize, forgotten: &[PathBuf]) -> Vec<Root> {
        let projects = self.projects.iter().map(|project| &project.registration);
        let projects = projects
            .filter(|project| !forgotten.contains(&project.lock))
            .map(|project| Root {
                holder: format!("lock file {}", project.lock.display()),
                actions: project.actions.values().flatten().copied().collect(),
            });
        let runs = self.runs.iter().take(keep_runs).map(|(run, _)| Root {
            holder: format!("run {}", run.id),
            actions: run.tasks.iter().filter_map(|task| task.action).collect(),
        });
        let pins = self.pins.iter().map(|pin| Root {
            holder: format!("pin {}", pin.task),
            actions: [pin.action].into(),
        });
        projects.chain(runs).chain(pins).collect()
    }

    /// A lock file that somebody names, as it is registered: relative to where he stands, or through a link.
    ///
    /// # Errors
    /// When no such lock file holds results of the store.
    pub fn registered(&self, lock: &Path) -> Result<PathBuf, Error> {
        let absolute = std::path::absolute(lock).unwrap_or_else(|_| lock.to_owned());
        let mut named = vec![lock.to_owned()];
        named.extend(std::fs::canonicalize(&absolute));
        // It may be gone while its folder is there.
        if let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) {
            named.extend(std::fs::canonicalize(folder).map(|folder| folder.join(name)));
        }
        named.push(absolute);
        let mut locks = self.projects.iter().map(|project| &project.registration.lock);
        locks.find(|lock| named.contains(lock)).cloned().ok_or_else(|| {
            Error::input(format!("no lock file `{}` holds results of this store", lock.display()))
                .hint("`fracture gc --dry-run` lists those that do")
        })
    }

    /// The records that say something still: their results are held, or some of what they made is there.
    pub fn worth_keeping(&self, store: &Store, decision: &Decision) -> HashSet<Digest<Action>> {
        let there = |record: &&Record| {
            let mut objects = record.outputs.iter().flat_map(|output| output.artifact.objects());
            decision.held.contains_key(&record.action) || objects.all(|(digest, size)| store.contains(digest, size))
        };
        self.records.iter().filter(there).map(|record| record.action).collect()
    }
}
