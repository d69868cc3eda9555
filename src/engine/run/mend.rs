//! Lost objects in the middle of a run. What a table holds is looked at when it is read, so damage may be met by a task
//! whose input was counted on: the damaged object is then set aside, the task that made it goes back to the queue, and the
//! reader waits for it. Each object is made again at most once a run. Figures are read when all is done; what they lack goes
//! the same way.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fracture_cache::Digest;
use fracture_cache::digest::Bytes;
use fracture_language::{Task, TaskId};
use fracture_stage::{Error, ErrorKind};
use petgraph::Direction;
use petgraph::graph::NodeIndex;

use super::{Dispatcher, Status};
use crate::engine::plan::{State, TaskResult, inputs_from};
use crate::engine::store_error;
use crate::engine::views::Content;

/// So many tasks are named whose results are lost; after a disk died there may be thousands.
const NAMED: usize = 20;

/// What is made again, and for whom.
#[derive(Default)]
pub(super) struct Mending {
    /// Objects that were lost and whose tasks were sent back.
    objects: HashSet<Digest<Bytes>>,
    /// Which task was tried again because of which object.
    tried: HashSet<(TaskId, Digest<Bytes>)>,
    /// Tasks that wait for one that is not among their inputs: a column of a table further up.
    waiting: HashMap<TaskId, Vec<TaskId>>,
    /// Tasks that were executed in this run.
    ran: HashSet<TaskId>,
    /// Results that others took the place of. Those of map stages further down may still lead to them.
    replaced: Vec<Arc<TaskResult>>,
    /// Tasks of which was said that their result is lost.
    told: HashSet<TaskId>,
}

impl Mending {
    /// Notes that a task was executed.
    pub(super) fn ran(&mut self, id: TaskId) {
        self.ran.insert(id);
    }

    /// Keeps a result whose place another one takes.
    pub(super) fn keep(&mut self, result: Arc<TaskResult>) {
        self.replaced.push(result);
    }

    /// Those that wait for a task that is not among their inputs.
    pub(super) fn released(&mut self, id: TaskId) -> Vec<TaskId> {
        self.waiting.remove(&id).unwrap_or_default()
    }
}

impl Dispatcher<'_> {
    /// Says that the recorded result of a task that starts is lost, if it is.
    pub(super) fn tell_lost(&mut self, id: TaskId) -> Result<(), Error> {
        let action = self.begun[&id].action;
        let Some(summary) = self.workspace.records.summary(&action).map_err(store_error)? else {
            return Ok(());
        };
        let mut outputs = summary.outputs.iter();
        if summary.incomplete || outputs.all(|output| self.workspace.store.holds(&output.artifact)) {
            return Ok(());
        }
        if self.mending.told.insert(id) {
            let pipeline = Arc::clone(&self.pipeline);
            match self.mending.told.len() {
                ..=NAMED => self.note(
                    Some(&pipeline.tasks[id.index()]),
                    "an object of its result is missing, or was damaged and set aside: it is computed again",
                ),
                told if told == NAMED + 1 => self.note(None, "more results are lost: they are computed again, too"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends the tasks back whose objects a failed task could not read, and lets it wait for them. Gives whether it did:
    /// otherwise the failure stands.
    pub(super) fn mend(&mut self, id: TaskId, error: &Error) -> bool {
        if error.kind != ErrorKind::Store || self.stopping() {
            return false;
        }
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.index()];
        let Some(objects) = self.read_by(task) else {
            return false;
        };
        let lost = self.lost(&objects);
        // One that was made again after this task began is worth another try as well.
        let reasons = objects.iter().map(|(digest, _)| *digest);
        let reasons = reasons.filter(|digest| lost.contains(digest) || self.mending.objects.contains(digest));
        let reasons: Vec<_> = reasons.map(|digest| (id, digest)).collect();
        let mut fresh = false;
        for reason in reasons {
            fresh |= self.mending.tried.insert(reason);
        }
        if !fresh {
            return false;
        }
        let Some(makers) = self.makers(task, &lost) else {
            return false;
        };
        // Both are there, and made again at most once.
        if makers
            .iter()
            .any(|(maker, digest)| self.status[maker.index()] == Status::Done && self.mending.objects.contains(digest))
        {
            return false;
        }
        let mut awaited: HashSet<TaskId> = HashSet::new();
        for (maker, digest) in makers {
            self.mending.objects.insert(digest);
            if self.status[maker.index()] == Status::Done {
                self.send_back(maker);
            }
            awaited.insert(maker);
        }
        self.begun.remove(&id);
        let direct = self.not_done(task);
        for maker in awaited.iter().filter(|maker| !direct.contains(*maker)) {
            self.mending.waiting.entry(*maker).or_default().push(id);
        }
        self.wait_for(id, direct.union(&awaited).count());
        true
    }

    /// Sends the task of a figure back that could not be read, or those that made the tables it shows. Gives whether it did:
    /// otherwise the error stands.
    pub(super) fn mend_figure(&mut self, id: TaskId, error: &Error) -> Result<bool, Error> {
        if error.kind != ErrorKind::Store || self.stopping() || self.workspace.store.is_read_only() {
            return Ok(false);
        }
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.index()];
        let own = self.result(id).map(|result| {
            let outputs = result.outputs().iter().map(|(_, spec)| &spec.content);
            outputs.flat_map(objects_of).collect::<Vec<_>>()
        });
        let own = self.lost(&own.unwrap_or_default());
        let makers = if own.is_empty() {
            let shown = self.read_by(task).unwrap_or_default();
            self.makers(task, &self.lost(&shown)).unwrap_or_default()
        } else {
            own.into_iter().map(|digest| (id, digest)).collect()
        };
        let again = |(_, digest): &(TaskId, _)| self.mending.objects.contains(digest);
        if makers.is_empty() || makers.iter().any(again) {
            return Ok(false);
        }
        self.meet()?;
        for (maker, digest) in makers {
            self.mending.objects.insert(digest);
            if self.status[maker.index()] == Status::Done {
                self.send_back(maker);
            }
        }
        Ok(true)
    }

    /// Those of some objects that are not there.
    fn lost(&self, objects: &[(Digest<Bytes>, u64)]) -> HashSet<Digest<Bytes>> {
        let gone = objects
            .iter()
            .filter(|(digest, size)| !self.workspace.store.contains(digest, *size));
        gone.map(|(digest, _)| *digest).collect()
    }

    /// The objects of the tables and files that a task reads.
    fn read_by(&self, task: &Task) -> Option<Vec<(Digest<Bytes>, u64)>> {
        let inputs = inputs_from(task, |id| self.result(id))?;
        let contents = inputs.iter().flat_map(|(_, specs)| specs).map(|spec| &spec.content);
        Some(contents.flat_map(objects_of).collect())
    }

    /// For each lost object a task above this one that made it; `None` when one has none that is known.
    fn makers(&self, task: &Task, lost: &HashSet<Digest<Bytes>>) -> Option<Vec<(TaskId, Digest<Bytes>)>> {
        let mut sought = lost.clone();
        let mut makers = Vec::new();
        let mut seen = HashSet::new();
        let mut open: Vec<&Task> = vec![task];
        while let Some(next) = open.pop().filter(|_| !sought.is_empty()) {
            for source in next.inputs.iter().flat_map(|connection| &connection.sources) {
                if !seen.insert(source.task) {
                    continue;
                }
                let above = &self.pipeline.tasks[source.task.index()];
                let action = self.result(source.task)?.action;
                let summary = self.workspace.records.summary(&action).ok().flatten();
                for output in summary.iter().flat_map(|summary| &summary.outputs) {
                    for (digest, _) in output.artifact.objects() {
                        if sought.remove(digest) {
                            makers.push((source.task, *digest));
                        }
                    }
                }
                open.push(above);
            }
        }
        sought.is_empty().then_some(makers)
    }

    /// A task that was done is to be done again; those that wait for others wait for it as well.
    fn send_back(&mut self, id: TaskId) {
        let pipeline = Arc::clone(&self.pipeline);
        let counted = match self.mending.ran.remove(&id) {
            true => &mut self.tasks.ran,
            false => &mut self.tasks.cached,
        };
        *counted = counted.saturating_sub(1);
        self.plan.tasks[id.index()].state = State::Run;
        self.begun.remove(&id);
        self.join_group(&pipeline.tasks[id.index()]);
        for next in pipeline
            .graph
            .neighbors_directed(NodeIndex::new(id.index()), Direction::Outgoing)
        {
            let next = pipeline.graph[next];
            if self.ready.remove(&next) {
                self.wait_for(next, 1);
            } else if self.status[next.index()] == Status::Waiting {
                self.waiting_for[next.index()] += 1;
            }
        }
        let waits = self.not_done(&pipeline.tasks[id.index()]).len();
        self.wait_for(id, waits);
    }

    /// Lets a task wait for so many others; it is ready when there are none.
    fn wait_for(&mut self, id: TaskId, others: usize) {
        self.waiting_for[id.index()] = others as u32;
        if others == 0 {
            self.status[id.index()] = Status::Ready;
            self.ready.insert(id);
        } else {
            self.status[id.index()] = Status::Waiting;
        }
    }

    /// The tasks whose results arrive at a task and are not there.
    pub(super) fn not_done(&self, task: &Task) -> HashSet<TaskId> {
        let sources = task.inputs.iter().flat_map(|connection| &connection.sources);
        let sources = sources.map(|source| source.task);
        sources.filter(|id| self.status[id.index()] != Status::Done).collect()
    }
}

/// The objects that hold what a reader of an output sees.
fn objects_of(content: &Content) -> Vec<(Digest<Bytes>, u64)> {
    match content {
        Content::Layers(layers) => layers.iter().map(|table| (table.blob, table.size)).collect(),
        Content::Other(artifact) => artifact.objects().map(|(digest, size)| (*digest, size)).collect(),
    }
}
