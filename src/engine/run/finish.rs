//! The end of tasks and of a run.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fracture_language::TaskId;
use fracture_stage::{Error, ErrorKind, Usage};
use petgraph::Direction;
use petgraph::graph::NodeIndex;

use super::{Dispatcher, Outcomes, Status};
use crate::engine::event::{Event, Summary};
use crate::engine::plan::{State, TaskResult, as_seen, in_task};
use crate::engine::{publish, store_error};

impl Dispatcher<'_> {
    /// Records what a task made, or that it failed.
    pub(super) fn finish(&mut self, id: TaskId, result: Result<Box<publish::Draft>, Error>) -> Result<(), Error> {
        let published = result.and_then(|draft| {
            let pipeline = Arc::clone(&self.pipeline);
            for note in draft.notes() {
                self.note(Some(&pipeline.tasks[id.0 as usize]), note.clone());
            }
            publish::publish(&self.workspace, *draft)
        });
        // Whoever waits for the claim finds the record.
        self.neighbours.release(id);
        match published {
            Ok(published) => self.published(id, published),
            Err(error) if error.kind == ErrorKind::Interrupted => {
                self.status[id.0 as usize] = Status::Waiting;
                Ok(())
            }
            // What it could not read is made again, and then it is tried again.
            Err(error) if self.mend(id, &error) => Ok(()),
            Err(error) => {
                self.failed(id, error);
                Ok(())
            }
        }
    }

    fn published(&mut self, id: TaskId, published: publish::Standing) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        if let Some(divergence) = published.divergence {
            self.note(Some(task), divergence);
        }
        let record = published.record;
        if record.incomplete {
            // By it the run's record names what the store holds of this task.
            let parts = self.begun.get(&id).map(|begun| begun.parts.to_vec());
            self.plan.tasks[id.index()].action = Some(Box::new((record.action, parts.unwrap_or_default())));
            let error = Error::task(format!("rows of `{}` failed", task.name))
                .cause(record.notes.last().cloned().unwrap_or_default())
                .hint("run again: only those rows are tried again; if they fail again, the cause above says what to look at");
            self.failed(id, error);
            return Ok(());
        }
        self.tasks.ran += 1;
        let (rows, seconds) = (record.rows, record.seconds);
        self.tell(
            |task, stage| Event::Finished {
                task,
                stage,
                rows,
                seconds,
            },
            task,
        );
        let outputs = record.outputs.into_iter().map(|output| (output.name, output.artifact));
        let seen = as_seen(task, record.action, rows, outputs, |id| self.result(id))
            .ok_or_else(|| Error::internal(format!("the input of `{}` is gone", task.name)))?;
        self.mending.ran(id);
        self.done(id, seen);
        Ok(())
    }

    /// Takes a result that is there: recorded before, or by another process meanwhile.
    pub(super) fn adopt(&mut self, id: TaskId, result: TaskResult) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.pipeline);
        let recipe = self.plan.tasks[id.0 as usize].recipe;
        self.workspace
            .records
            .alias(&recipe, &result.action)
            .map_err(store_error)?;
        self.neighbours.release(id);
        self.tasks.cached += 1;
        self.tell(
            |task, stage| Event::Cached { task, stage },
            &pipeline.tasks[id.0 as usize],
        );
        self.done(id, result);
        Ok(())
    }

    pub(super) fn failed(&mut self, id: TaskId, error: Error) {
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        self.status[id.0 as usize] = Status::Failed;
        self.tasks.failed += 1;
        let error = in_task(error, task);
        let Error {
            message, causes, hint, ..
        } = error.clone();
        self.tell(
            |task, stage| Event::Failed {
                task,
                stage,
                message,
                causes,
                hint,
            },
            task,
        );
        self.failures.push((id, error));
        self.one_less(id);
    }

    /// A task of a group is over; the last one lets the model go.
    fn one_less(&mut self, id: TaskId) {
        self.begun.remove(&id);
        if let Some(group) = self.group_of(id) {
            group.unfinished = group.unfinished.saturating_sub(1);
            if group.unfinished == 0 {
                group.executor = None;
            }
        }
    }

    /// Notes a result and makes ready what waited for it alone.
    fn done(&mut self, id: TaskId, result: TaskResult) {
        let planned = &mut self.plan.tasks[id.0 as usize];
        let before = planned.result.replace(Arc::new(result));
        planned.state = State::Cached;
        before.into_iter().for_each(|before| self.mending.keep(before));
        self.status[id.0 as usize] = Status::Done;
        self.one_less(id);
        let pipeline = Arc::clone(&self.pipeline);
        let after = pipeline
            .graph
            .neighbors_directed(NodeIndex::new(id.0 as usize), Direction::Outgoing);
        let after = after.map(|next| pipeline.graph[next]);
        for next in after.chain(self.mending.released(id)) {
            let index = next.index();
            if self.status[index] != Status::Waiting {
                continue;
            }
            self.waiting_for[index] = self.waiting_for[index].saturating_sub(1);
            if self.waiting_for[index] == 0 {
                self.status[index] = Status::Ready;
                self.ready.insert(next);
            }
        }
    }

    /// Tells what was not reached and gives what the run came to.
    pub(super) fn end(mut self) -> Result<Outcomes, Error> {
        self.workspace.flush()?;
        let interrupted = self.cancelled.load(Ordering::Relaxed) && !self.all_done();
        for task in &self.pipeline.clone().tasks {
            if self.status[task.id.0 as usize] == Status::Waiting {
                self.tasks.skipped += 1;
                self.tell(|task, stage| Event::Skipped { task, stage }, task);
            }
        }
        self.failures.sort_by_key(|(id, _)| *id);
        let summary = Summary {
            tasks: self.tasks,
            rows: self.rows,
            served: (self.usage != Usage::default()).then_some(self.usage),
            seconds: self.started.elapsed().as_secs_f64(),
        };
        self.sink.event(&Event::Done { summary });
        self.workspace.close();
        Ok(Outcomes {
            plan: self.plan,
            summary,
            failures: self.failures,
            interrupted,
        })
    }

    fn all_done(&self) -> bool {
        self.status
            .iter()
            .all(|status| matches!(status, Status::Done | Status::Skipped))
    }
}
