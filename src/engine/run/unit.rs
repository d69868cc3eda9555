//! What a blocking thread does: runs a stage's work, finds out which rows are known, works through a session.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fracture_language::{Pipeline, TaskId};
use fracture_stage::{Error, Executor, Inputs, Open, Outcome, Usage, Work};
use tokio::sync::mpsc::UnboundedSender;

use super::{Message, RowKey, RowTask};
use crate::engine::session::{Landed, Queue, work};
use crate::engine::workspace::Workspace;
use crate::engine::{keys, models, publish, store_error};

/// How often a session looks whether the files of its model are as they were.
const LOOK: Duration = Duration::from_secs(1);

/// What a blocking thread needs.
pub(super) struct Unit {
    pub(super) id: TaskId,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) workspace: Arc<Workspace>,
    pub(super) begun: publish::Begun,
    pub(super) threads: usize,
    pub(super) offline: bool,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) sender: UnboundedSender<Message>,
}

impl Unit {
    pub(super) fn send(&self, message: Message) {
        // The dispatcher is gone only when the run is over.
        let _ = self.sender.send(message);
    }

    /// Runs work with what it may use; a panic becomes that task's error.
    pub(super) fn guarded<T>(&self, work: impl FnOnce(&Open<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let note = |message: &str| self.send(Message::Note(Some(self.id), message.to_owned()));
        let open = Open {
            threads: self.threads,
            offline: self.offline,
            cancelled: &self.cancelled,
            note: &note,
            progress: &|_, _| {},
            files: &self.workspace.disk,
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&open)));
        caught.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Error::internal("a defect of fracture stopped the task")
                .cause(text.unwrap_or_default())
                .hint("please report it; the store is intact and other tasks are not affected"))
        })
    }

    /// Fetches what a task's models lack that was counted at locked digests.
    pub(super) fn bring(&self, id: TaskId) -> Result<(), Error> {
        let tell = |step| self.send(Message::Fetch(models::event(step)));
        let stage = self.pipeline.tasks[id.0 as usize].implementation.as_ref();
        let watch = models::watch(&tell, &self.cancelled);
        self.workspace.bring(stage, &self.begun.files, &watch)
    }

    pub(super) fn know_rows(&self, id: TaskId, inputs: Inputs, open: &Open<'_>) -> Result<RowTask, Error> {
        let task = &self.pipeline.tasks[id.0 as usize];
        let Work::Rows(rows) = task.implementation.work() else {
            return Err(Error::internal("the task changed its way of working"));
        };
        self.bring(id)?;
        let lineage = keys::lineage(task.implementation.as_ref(), rows, &self.begun.files);
        let memo = self.workspace.memo(&lineage)?;
        let plan = rows.plan(&inputs, open)?;
        let keys: Vec<RowKey> = plan
            .requests
            .iter()
            .map(|request| keys::row(&lineage, &request.key))
            .collect();
        let mut seen = HashSet::with_capacity(keys.len());
        let distinct: Vec<RowKey> = keys.iter().copied().filter(|key| seen.insert(*key)).collect();
        drop(seen);
        let payloads = memo.get_many(&distinct).map_err(store_error)?;
        let (mut known, mut missing) = (HashMap::new(), HashSet::new());
        for (key, payload) in distinct.into_iter().zip(payloads) {
            match payload {
                Some(raw) => drop(known.insert(key, Outcome::Raw(raw))),
                None => drop(missing.insert(key)),
            }
        }
        Ok(RowTask {
            inputs,
            plan,
            keys,
            rows: known,
            missing,
            memo,
        })
    }

    /// Opens the executor of a group if there is none and works through its queue.
    pub(super) fn session(&self, id: TaskId, name: &Arc<str>, queue: &Queue, executor: Option<Box<dyn Executor>>) {
        let task = &self.pipeline.tasks[id.0 as usize];
        let mut kept = executor;
        let result = self.guarded(|open| {
            let Work::Rows(rows) = task.implementation.work() else {
                return Err(Error::internal("the task changed its way of working"));
            };
            let executor = match &mut kept {
                Some(executor) => executor,
                None => {
                    let executor = kept.insert(rows.open(open)?);
                    // What was loaded must be what the keys of its rows say.
                    self.workspace.unchanged(&self.begun.files)?;
                    self.send(Message::Opened(Arc::clone(name), executor.provenance()));
                    executor
                }
            };
            let looked = Cell::new(Instant::now());
            // A model whose files are mapped into memory may change under our hands.
            let sound = || {
                if looked.get().elapsed() < LOOK {
                    return Ok(());
                }
                looked.set(Instant::now());
                self.workspace.unchanged(&self.begun.files)
            };
            let ended = work(executor.as_mut(), queue, &self.cancelled, &sound, &mut |landed| {
                self.send(Message::Landed(Arc::clone(name), landed));
            });
            // What failed was paid for, too.
            let usage = executor.usage();
            if usage != Usage::default() {
                let landed = Landed {
                    rows: Vec::new(),
                    units: 0,
                    usage,
                };
                self.send(Message::Landed(Arc::clone(name), landed));
            }
            ended
        });
        self.send(Message::SessionOver(Arc::clone(name), kept, result));
    }
}
