//! The start of a run and of its tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use fracture_cache::StoreError;
use fracture_language::{Task, TaskId};
use fracture_stage::{Error, Inputs, Work};

use super::claimed::{Hold, Neighbours};
use super::unit::Unit;
use super::{Dispatcher, Message, Status};
use crate::engine::event::Event;
use crate::engine::plan::{State, in_task, inputs_from, open_inputs, stored};
use crate::engine::{keys, publish, store_error};

impl Dispatcher<'_> {
    /// Counts what is there and what each task waits for.
    ///
    /// # Errors
    /// When something is to be computed and the store may only be read, or a task lacks what it needs beside its files.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.pipeline);
        for task in &pipeline.tasks {
            let index = task.id.0 as usize;
            self.tasks.total += 1;
            if self.plan.tasks[index].state == State::Cached {
                self.status[index] = Status::Done;
                self.tasks.cached += 1;
            } else if !self.options.only.is_empty() && !self.options.only.contains(&task.id) {
                self.status[index] = Status::Skipped;
                self.tasks.total -= 1;
            }
        }
        let mut left = BTreeMap::new();
        for task in &pipeline.tasks {
            if self.status[task.id.index()] == Status::Waiting {
                *left.entry(pipeline.stages[task.stage].name.to_string()).or_default() += 1;
            }
        }
        self.sink.event(&Event::Planned {
            total: self.tasks.total,
            cached: self.tasks.cached,
            left,
        });
        if !self.status.contains(&Status::Waiting) {
            return Ok(());
        }
        if self.workspace.store.is_read_only() {
            return Err(store_error(StoreError::ReadOnly {
                doing: "record results in",
                path: self.workspace.store.root().to_owned(),
            }));
        }
        for task in &pipeline.tasks {
            if self.status[task.id.0 as usize] == Status::Waiting {
                let ready = task.implementation.ready(self.options.offline);
                ready.map_err(|error| in_task(error, task))?;
            }
        }
        self.meet()?;
        for task in &pipeline.tasks {
            let index = task.id.0 as usize;
            if self.status[index] != Status::Waiting {
                continue;
            }
            self.join_group(task);
            let missing = self.not_done(task);
            self.waiting_for[index] = missing.len() as u32;
            if missing.is_empty() {
                self.status[index] = Status::Ready;
                self.ready.insert(task.id);
            }
        }
        Ok(())
    }

    /// Looks at who else is at work, before something is computed.
    pub(super) fn meet(&mut self) -> Result<(), Error> {
        if !self.neighbours.is_open() {
            self.neighbours = Neighbours::open(&self.workspace.store, &self.options.who, self.options.patience)?;
            // Others may have come, recorded and gone since the records were opened.
            self.workspace.records.refresh().map_err(store_error)?;
        }
        Ok(())
    }

    /// Counts a row-wise task among those that share its executor.
    pub(super) fn join_group(&mut self, task: &Task) {
        if let Work::Rows(rows) = task.implementation.work() {
            let group = self.groups.entry(rows.group().into()).or_default();
            if group.unfinished == 0 {
                group.first = task.id.0;
            }
            group.resource = rows.resource();
            group.unfinished += 1;
        }
    }

    /// Starts ready tasks while there is room for them.
    pub(super) fn start_tasks(&mut self) -> Result<(), Error> {
        let mut held = BTreeSet::new();
        while !self.stopping() {
            let Some(id) = self.ready.pop_first() else { break };
            // Row-wise tasks all start: siblings share one running batch.
            if self.is_whole(id) && self.whole >= self.options.jobs.max(1) {
                held.insert(id);
                if held.len() > self.options.jobs {
                    // Row-wise tasks do not hide behind so many others.
                    break;
                }
            } else {
                self.start(id)?;
            }
        }
        // One by one: `append` would build the whole queue anew for each task that ends.
        self.ready.extend(held);
        if self.stopping() {
            for id in std::mem::take(&mut self.ready) {
                self.status[id.0 as usize] = Status::Waiting;
            }
        }
        Ok(())
    }

    /// Looks whether a ready task's result is there by now; if not, and if no other process computes it, starts it.
    fn start(&mut self, id: TaskId) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        let Some(specs) = inputs_from(task, |id| self.result(id)) else {
            return Err(Error::internal(format!(
                "`{}` is ready but an input is not there",
                task.name
            )));
        };
        let inputs = open_inputs(task.implementation.as_ref(), &specs, &self.workspace);
        self.know_action(id, &inputs);
        if let Some(result) = self.recorded(id)? {
            return self.adopt(id, result);
        }
        if self.is_whole(id) {
            match self.claim(id)? {
                Hold::Mine => {}
                Hold::Recorded(result) => return self.adopt(id, *result),
                Hold::Elsewhere => {
                    self.neighbours.waiting.insert(id);
                    return Ok(());
                }
            }
        }
        self.tell_lost(id)?;
        // Nobody else does it: it has to run here, with its files.
        if let Err(error) = self.workspace.attainable(&self.plan.tasks[id.0 as usize].files) {
            self.neighbours.release(id);
            self.failed(id, error);
            return Ok(());
        }
        self.status[id.0 as usize] = Status::Running;
        self.tell(|task, stage| Event::Started { task, stage }, task);
        self.busy += 1;
        match task.implementation.work() {
            Work::Whole(_) => {
                self.whole += 1;
                self.start_whole(id, inputs);
            }
            Work::Rows(_) => self.start_rows(id, inputs),
        }
        Ok(())
    }

    /// The action key of a task whose inputs are there: the plan's, when they were there then.
    fn know_action(&mut self, id: TaskId, inputs: &Inputs) {
        if let Some(begun) = self.begun.get_mut(&id) {
            begun.started = Instant::now();
            return;
        }
        let task = &self.pipeline.tasks[id.0 as usize];
        let planned = &mut self.plan.tasks[id.0 as usize];
        let known = planned.action.take().map(|known| *known);
        let (action, parts) =
            known.unwrap_or_else(|| keys::action(task.implementation.as_ref(), &planned.files, inputs));
        let begun = publish::Begun {
            action,
            recipe: planned.recipe,
            parts: parts.into(),
            files: Arc::clone(&planned.files),
            provenance: Arc::default(),
            started: Instant::now(),
        };
        self.begun.insert(id, begun);
    }

    /// The result of a task whose action is known, when it is recorded.
    pub(super) fn recorded(&self, id: TaskId) -> Result<Option<crate::engine::plan::TaskResult>, Error> {
        let task = &self.pipeline.tasks[id.0 as usize];
        let action = self.begun[&id].action;
        stored(task, action, &self.workspace, |id| self.result(id))
    }

    fn start_whole(&self, id: TaskId, inputs: Inputs) {
        let unit = self.unit(id);
        tokio::task::spawn_blocking(move || {
            let task = &unit.pipeline.tasks[id.0 as usize];
            let done = unit.guarded(|open| {
                let Work::Whole(whole) = task.implementation.work() else {
                    return Err(Error::internal("the task changed its way of working"));
                };
                unit.bring(id)?;
                let product = whole.run(&inputs, open)?;
                publish::draft(&unit.workspace, task, &inputs, product, &unit.begun, false)
            });
            unit.send(Message::Done(id, done.map(Box::new)));
        });
    }

    pub(super) fn unit(&self, id: TaskId) -> Unit {
        Unit {
            id,
            pipeline: Arc::clone(&self.pipeline),
            workspace: Arc::clone(&self.workspace),
            begun: self.begun[&id].clone(),
            threads: self.options.threads,
            offline: self.options.offline,
            cancelled: Arc::clone(&self.cancelled),
            sender: self.sender.clone(),
        }
    }
}
