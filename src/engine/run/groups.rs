//! The row-wise part of the dispatcher: rows of sibling tasks join the queue of their group, one session a resource works
//! through it, and a task's table is made when its rows have landed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fracture_language::{Task, TaskId};
use fracture_stage::stage::RowState;
use fracture_stage::{Error, ErrorKind, Executor, Inputs, Outcome, Product, Work};

use super::{Dispatcher, Group, Message, RowKey, RowTask, Status};
use crate::engine::event::Event;
use crate::engine::publish;
use crate::engine::session::{Landed, Wanted};

impl Dispatcher<'_> {
    /// After an interruption, ends the row-wise tasks whose rows will not come; what landed is in the memo.
    pub(super) fn abandon(&mut self) {
        if !self.cancelled.load(Ordering::Relaxed) || self.groups.values().any(|group| group.running) {
            return;
        }
        let stopped: Vec<TaskId> = self.row_tasks.keys().copied().collect();
        for id in stopped {
            self.row_tasks.remove(&id);
            self.busy -= 1;
            self.status[id.0 as usize] = Status::Waiting;
            self.neighbours.release(id);
        }
        self.groups.values_mut().for_each(|group| group.pending.clear());
        self.waiters.clear();
    }

    pub(super) fn start_rows(&mut self, id: TaskId, inputs: Inputs) {
        let unit = self.unit(id);
        if let Some(group) = self.group_of(id) {
            group.planning += 1;
            group.queue.set_more(true);
        }
        self.beside(move || {
            let known = unit.guarded(|open| unit.know_rows(id, inputs, open));
            unit.send(Message::RowsKnown(id, known.map(Box::new)));
        });
    }

    /// Does work of a row-wise task beside its session, for as many tasks at a time as `--jobs` says.
    fn beside(&self, work: impl FnOnce() + Send + 'static) {
        let gate = Arc::clone(&self.gate);
        tokio::spawn(async move {
            // The gate is never closed.
            let Ok(permit) = gate.acquire_owned().await else { return };
            tokio::task::spawn_blocking(move || {
                work();
                drop(permit);
            });
        });
    }

    pub(super) fn group_of(&mut self, id: TaskId) -> Option<&mut Group> {
        let pipeline = Arc::clone(&self.pipeline);
        match pipeline.tasks[id.0 as usize].implementation.work() {
            Work::Rows(rows) => self.groups.get_mut(rows.group().as_str()),
            Work::Whole(_) => None,
        }
    }

    /// Starts sessions of groups that have rows waiting, one a resource at a time, the earliest group first.
    pub(super) fn start_sessions(&mut self) {
        let mut taken: HashSet<&'static str> = self
            .groups
            .values()
            .filter(|group| group.running)
            .map(|group| group.resource)
            .collect();
        let mut waiting: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, group)| !group.running && !group.queue.is_empty())
            .collect();
        waiting.sort_by_key(|(_, group)| group.first);
        let names: Vec<Arc<str>> = waiting.into_iter().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            let Some(group) = self.groups.get_mut(&name) else {
                continue;
            };
            if group.resource != "network" && !taken.insert(group.resource) {
                continue;
            }
            if self.cancelled.load(Ordering::Relaxed) {
                continue;
            }
            group.running = true;
            let queue = Arc::clone(&group.queue);
            let executor = group.executor.take();
            let Some(id) = self.row_tasks.iter().filter(|(_, task)| !task.missing.is_empty()).map(|(id, _)| *id).find(|id| {
                matches!(self.pipeline.tasks[id.0 as usize].implementation.work(), Work::Rows(rows) if *rows.group() == *name)
            }) else {
                group.running = false;
                continue;
            };
            self.busy += 1;
            let unit = self.unit(id);
            tokio::task::spawn_blocking(move || unit.session(id, &name, &queue, executor));
        }
    }

    /// The rows of a task are known: it waits for its turn.
    pub(super) fn rows_known(&mut self, id: TaskId, known: Result<Box<RowTask>, Error>) -> Result<(), Error> {
        if let Some(group) = self.group_of(id) {
            group.planning -= 1;
        }
        match known {
            Ok(row_task) => {
                self.row_tasks.insert(id, *row_task);
                if let Some(group) = self.group_of(id) {
                    group.pending.insert(id);
                }
                self.admit()?;
                self.settle_more(id);
                Ok(())
            }
            Err(error) => {
                self.settle_more(id);
                self.busy -= 1;
                self.finish(id, Err(error))
            }
        }
    }

    /// It is a claimed task's turn: the rows that the memo lacks join the group's queue.
    pub(super) fn enqueue(&mut self, id: TaskId) -> Result<(), Error> {
        if let Some(group) = self.group_of(id) {
            group.pending.remove(&id);
        }
        // Others may have finished some since they were looked up: whoever had the task before us, say.
        let found = self.known_by_now(id)?;
        let Some(row_task) = self.row_tasks.get_mut(&id) else {
            return Ok(());
        };
        self.rows.reused += found.len() as u64;
        for (row, outcome) in found {
            row_task.missing.remove(&row);
            row_task.rows.insert(row, outcome);
        }
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        let unit = match task.implementation.work() {
            Work::Rows(rows) => rows.unit(),
            Work::Whole(_) => "rows",
        };
        let notes = std::mem::take(&mut row_task.plan.notes);
        let mut wanted = Vec::new();
        for (index, row) in row_task.keys.iter().enumerate() {
            if !row_task.missing.contains(row) {
                continue;
            }
            let waiters = self.waiters.entry(*row).or_default();
            if waiters.contains(&id) {
                continue;
            }
            if waiters.is_empty() {
                let request = row_task.plan.requests[index].clone();
                wanted.push(Wanted {
                    row: *row,
                    request,
                    memo: Arc::clone(&row_task.memo),
                });
            }
            waiters.push(id);
        }
        let complete = row_task.missing.is_empty();
        let (rows, reused) = (
            (row_task.rows.len() + row_task.missing.len()) as u64,
            row_task.rows.len() as u64,
        );
        self.rows.reused += reused;
        self.tell(
            |task, stage| Event::Rows {
                task,
                stage,
                rows,
                reused,
                unit,
            },
            task,
        );
        for note in notes {
            self.note(Some(task), note);
        }
        if let Some(group) = self.group_of(id) {
            group.queue.extend(wanted);
        }
        if complete {
            self.finish_rows(id);
        }
        Ok(())
    }

    pub(super) fn settle_more(&mut self, id: TaskId) {
        if let Some(group) = self.group_of(id) {
            group.queue.set_more(group.planning > 0);
        }
    }

    pub(super) fn landed(&mut self, group: &str, landed: Landed) -> Result<(), Error> {
        self.usage.add(&landed.usage);
        let made = landed
            .rows
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Raw(_)));
        for _ in 0..made.count() {
            self.count_row(group);
        }
        let mut counted = self.settle(landed.rows);
        if counted.is_empty()
            && let Some(group) = self.groups.get(group)
        {
            counted.insert(self.pipeline.tasks[group.first as usize].stage, 0);
        }
        let mut units = landed.units;
        for (stage, rows) in counted {
            self.progress(stage, rows, std::mem::take(&mut units));
        }
        Ok(())
    }

    /// Gives rows to the tasks that wait for them, and makes the tables of those that have all; gives how many rows each
    /// stage got.
    pub(super) fn settle(&mut self, rows: Vec<(RowKey, Outcome)>) -> BTreeMap<usize, u64> {
        let mut complete = Vec::new();
        let mut counted: BTreeMap<usize, u64> = BTreeMap::new();
        for (row, outcome) in rows {
            for id in self.waiters.remove(&row).unwrap_or_default() {
                let stage = self.pipeline.tasks[id.0 as usize].stage;
                let Some(row_task) = self.row_tasks.get_mut(&id) else {
                    continue;
                };
                row_task.missing.remove(&row);
                row_task.rows.insert(row, outcome.clone());
                *counted.entry(stage).or_default() += 1;
                if row_task.missing.is_empty() {
                    complete.push(id);
                }
            }
        }
        complete.into_iter().for_each(|id| self.finish_rows(id));
        counted
    }

    pub(super) fn count_row(&mut self, group: &str) {
        let first = self.groups.get(group).map(|group| group.first as usize);
        match first.map(|first| self.pipeline.tasks[first].declaration.name) {
            Some("generate") => self.rows.generated += 1,
            Some("judge") => self.rows.judged += 1,
            _ => {}
        }
    }

    /// All raw rows of a task are there: makes its table.
    pub(super) fn finish_rows(&mut self, id: TaskId) {
        let Some(row_task) = self.row_tasks.remove(&id) else {
            return;
        };
        let mut unit = self.unit(id);
        if let Some(group) = self.group_of(id) {
            unit.begun.provenance = group.provenance.clone().into();
        }
        self.beside(move || {
            let task = &unit.pipeline.tasks[id.0 as usize];
            let mut begun = unit.begun.clone();
            let done = unit.guarded(|_| {
                let (product, incomplete, said) = make_table(task, &row_task)?;
                begun.provenance = begun.provenance.iter().cloned().chain(said).collect();
                publish::draft(&unit.workspace, task, &row_task.inputs, product, &begun, incomplete)
            });
            unit.send(Message::Done(id, done.map(Box::new)));
        });
    }

    pub(super) fn session_over(
        &mut self,
        name: &str,
        executor: Option<Box<dyn Executor>>,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        self.busy -= 1;
        let stopped: Vec<TaskId> = {
            let group_has = |id: &TaskId| matches!(self.pipeline.tasks[id.0 as usize].implementation.work(), Work::Rows(rows) if *rows.group() == *name);
            self.row_tasks.keys().filter(|id| group_has(id)).copied().collect()
        };
        let cancelled = self.cancelled.load(Ordering::Relaxed);
        if let Some(group) = self.groups.get_mut(name) {
            group.running = false;
            group.executor = executor.filter(|_| group.unfinished > 0 && !cancelled && result.is_ok());
        }
        let error = match result {
            Err(error) => error,
            // Whatever did not finish was not started because of the interruption; its rows are in the memo.
            Ok(()) if cancelled => Error::new(ErrorKind::Interrupted, "interrupted"),
            Ok(()) => return Ok(()),
        };
        if let Some(group) = self.groups.get_mut(name) {
            group.queue.clear();
            group.pending.clear();
        }
        for id in stopped {
            if let Some(row_task) = self.row_tasks.remove(&id) {
                for row in &row_task.missing {
                    self.waiters.remove(row);
                }
            }
            self.busy -= 1;
            self.finish(id, Err(error.clone()))?;
        }
        Ok(())
    }
}

/// Facts for a record: names and values.
type Facts = Vec<(String, String)>;

/// Makes a row-wise task's table from its raw rows; says too whether rows failed, and what the rows say of their origin.
fn make_table(task: &Task, row_task: &RowTask) -> Result<(Product, bool, Facts), Error> {
    let Work::Rows(rows) = task.implementation.work() else {
        return Err(Error::internal("the task changed its way of working"));
    };
    let state = |request: &Option<u32>| {
        let outcome = request.map(|request| row_task.rows.get(&row_task.keys[request as usize]));
        match outcome {
            None => Ok(RowState::Absent),
            Some(Some(Outcome::Raw(raw))) => Ok(RowState::Raw(raw)),
            Some(Some(Outcome::Failed(error))) => Ok(RowState::Failed(error)),
            Some(None) => Err(Error::internal("a raw row is missing")),
        }
    };
    let states = row_task
        .plan
        .rows
        .iter()
        .map(state)
        .collect::<Result<Vec<_>, Error>>()?;
    let failed = states
        .iter()
        .filter(|state| matches!(state, RowState::Failed(_)))
        .count();
    let mut product = rows.finish(&row_task.inputs, &row_task.plan, &states)?;
    if failed > 0 {
        let reason = states.iter().find_map(|state| match state {
            RowState::Failed(error) => Some(error.message.as_str()),
            _ => None,
        });
        product.notes.push(format!(
            "{failed} of {} rows failed, the first one: {}",
            states.len(),
            reason.unwrap_or_default()
        ));
    }
    let said = rows.provenance(&states);
    Ok((product, failed > 0, said))
}
