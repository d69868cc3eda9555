//! The run: a ready queue over the graph, bound by resources. One dispatcher owns the state and puts events in one order;
//! blocking threads do units of work.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fracture_cache::digest::Row;
use fracture_cache::{Digest, Memo};
use fracture_language::{Pipeline, Task, TaskId};
use fracture_stage::stage::{RowPlan, RowState};
use fracture_stage::{Error, ErrorKind, Executor, Inputs, Open, Outcome, Product, Work};
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::event::{Event, RowCounts, Sink, Summary, TaskCounts};
use super::keys;
use super::plan::{Plan, State, TaskResult, as_seen, in_task, inputs_from, open_inputs, stored};
use super::session::{Landed, Queue, Wanted, work};
use super::workspace::Workspace;
use super::{publish, store_error};

/// How a run goes.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Tasks that run at a time beside the model's.
    pub jobs: usize,
    /// Threads that one task may use.
    pub threads: usize,
    /// Go on with what does not depend on a failed task.
    pub keep_going: bool,
    /// Fetch nothing.
    pub offline: bool,
    /// Run only these tasks; empty is all.
    pub only: BTreeSet<TaskId>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcomes {
    /// The plan with every result that is there now.
    pub plan: Plan,
    /// The counts.
    pub summary: Summary,
    /// What failed, in the order of the tasks.
    pub failures: Vec<(TaskId, Error)>,
    /// Whether the user stopped it.
    pub interrupted: bool,
}

/// Runs what is missing of a plan.
///
/// # Errors
/// When the store fails; what failed of single tasks is in the outcomes.
pub fn run(
    pipeline: &Arc<Pipeline>,
    workspace: &Arc<Workspace>,
    plan: Plan,
    options: &RunOptions,
    sink: &dyn Sink,
) -> Result<Outcomes, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Environment, "can not start the scheduler").cause(error))?;
    let dispatcher = Dispatcher::new(pipeline, workspace, plan, options, sink);
    let outcomes = runtime.block_on(dispatcher.run());
    // Whatever a second Ctrl-C left behind is not waited for.
    runtime.shutdown_background();
    outcomes
}

/// What blocking threads tell the dispatcher.
enum Message {
    Done(TaskId, Result<Box<publish::Draft>, Error>),
    RowsKnown(TaskId, Result<Box<RowTask>, Error>),
    Landed(Arc<str>, Landed),
    SessionOver(Arc<str>, Option<Box<dyn Executor>>, Result<(), Error>),
    Note(Option<TaskId>, String),
}

/// A row-wise task whose rows are known.
struct RowTask {
    inputs: Inputs,
    plan: RowPlan,
    keys: Vec<Digest<Row>>,
    rows: HashMap<Digest<Row>, Outcome>,
    missing: HashSet<Digest<Row>>,
    memo: Arc<Memo>,
}

/// The tasks that share an executor.
#[derive(Default)]
struct Group {
    queue: Arc<Queue>,
    resource: &'static str,
    /// Tasks whose rows are being found out.
    planning: u32,
    /// Tasks that are not done.
    unfinished: u32,
    running: bool,
    first: u32,
    executor: Option<Box<dyn Executor>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Waiting,
    Ready,
    Running,
    Done,
    Failed,
    Skipped,
}

struct Dispatcher<'a> {
    pipeline: Arc<Pipeline>,
    workspace: Arc<Workspace>,
    options: RunOptions,
    sink: &'a dyn Sink,
    plan: Plan,
    status: Vec<Status>,
    waiting_for: Vec<u32>,
    ready: BTreeSet<TaskId>,
    /// Whole tasks that run now; row-wise ones wait for a session and hold no thread.
    whole: usize,
    /// The action, its parts and the start of each running task.
    begun: HashMap<TaskId, publish::Begun>,
    row_tasks: HashMap<TaskId, RowTask>,
    groups: BTreeMap<Arc<str>, Group>,
    /// Tasks that wait for a row.
    waiters: HashMap<Digest<Row>, Vec<TaskId>>,
    busy: usize,
    cancelled: Arc<AtomicBool>,
    failures: Vec<(TaskId, Error)>,
    tasks: TaskCounts,
    rows: RowCounts,
    sender: UnboundedSender<Message>,
    receiver: Option<UnboundedReceiver<Message>>,
    started: Instant,
}

impl<'a> Dispatcher<'a> {
    fn new(
        pipeline: &Arc<Pipeline>,
        workspace: &Arc<Workspace>,
        plan: Plan,
        options: &RunOptions,
        sink: &'a dyn Sink,
    ) -> Self {
        let count = pipeline.tasks.len();
        let (sender, receiver) = unbounded_channel();
        Self {
            pipeline: Arc::clone(pipeline),
            workspace: Arc::clone(workspace),
            options: options.clone(),
            sink,
            plan,
            status: vec![Status::Waiting; count],
            waiting_for: vec![0; count],
            ready: BTreeSet::new(),
            whole: 0,
            begun: HashMap::new(),
            row_tasks: HashMap::new(),
            groups: BTreeMap::new(),
            waiters: HashMap::new(),
            busy: 0,
            cancelled: Arc::new(AtomicBool::new(false)),
            failures: Vec::new(),
            tasks: TaskCounts::default(),
            rows: RowCounts::default(),
            sender,
            receiver: Some(receiver),
            started: Instant::now(),
        }
    }

    async fn run(mut self) -> Result<Outcomes, Error> {
        let Some(mut receiver) = self.receiver.take() else {
            return Err(Error::internal("a dispatcher runs once"));
        };
        self.begin();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_tasks()?;
            self.start_sessions();
            self.abandon();
            if self.busy == 0 && self.ready.is_empty() {
                break;
            }
            tokio::select! {
                Some(message) = receiver.recv() => {
                    self.receive(message)?;
                    while let Ok(message) = receiver.try_recv() {
                        self.receive(message)?;
                    }
                }
                _ = second.tick() => self.workspace.flush()?,
                signal = tokio::signal::ctrl_c() => self.interrupt(signal.is_ok()),
            }
        }
        self.end()
    }

    /// Counts what is there and what each task waits for.
    fn begin(&mut self) {
        let mut cached = 0;
        for task in &self.pipeline.clone().tasks {
            let index = task.id.0 as usize;
            self.tasks.total += 1;
            if self.plan.tasks[index].state == State::Cached {
                self.status[index] = Status::Done;
                cached += 1;
            } else if !self.options.only.is_empty() && !self.options.only.contains(&task.id) {
                self.status[index] = Status::Skipped;
                self.tasks.total -= 1;
            }
        }
        self.tasks.cached = cached;
        self.sink.event(&Event::Planned { total: self.tasks.total, cached });
        for task in &self.pipeline.clone().tasks {
            let index = task.id.0 as usize;
            if self.status[index] != Status::Waiting {
                continue;
            }
            if let Work::Rows(rows) = task.implementation.work() {
                let group = self.groups.entry(rows.group().into()).or_default();
                if group.unfinished == 0 {
                    group.first = task.id.0;
                }
                group.resource = rows.resource();
                group.unfinished += 1;
            }
            let sources = task.inputs.iter().flat_map(|connection| &connection.sources);
            let missing: HashSet<TaskId> =
                sources.map(|source| source.task).filter(|id| self.status[id.0 as usize] != Status::Done).collect();
            self.waiting_for[index] = missing.len() as u32;
            if missing.is_empty() {
                self.status[index] = Status::Ready;
                self.ready.insert(task.id);
            }
        }
    }

    fn end(mut self) -> Result<Outcomes, Error> {
        self.workspace.flush()?;
        let interrupted = self.cancelled.load(Ordering::Relaxed) && !self.all_done();
        for task in &self.pipeline.clone().tasks {
            if self.status[task.id.0 as usize] == Status::Waiting {
                self.tasks.skipped += 1;
                self.tell(|task, stage| Event::Skipped { task, stage }, task);
            }
        }
        self.failures.sort_by_key(|(id, _)| *id);
        let summary = Summary { tasks: self.tasks, rows: self.rows, seconds: self.started.elapsed().as_secs_f64() };
        self.sink.event(&Event::Done { summary });
        self.workspace.close();
        Ok(Outcomes { plan: self.plan, summary, failures: self.failures, interrupted })
    }

    fn all_done(&self) -> bool {
        self.status.iter().all(|status| matches!(status, Status::Done | Status::Skipped))
    }

    /// The first Ctrl-C lets the batch in flight finish, the second stops at once.
    fn interrupt(&mut self, heard: bool) {
        if !heard {
            return;
        }
        if self.cancelled.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        self.note(None, "interrupted: finishing what is in flight (once more stops at once)");
        for id in std::mem::take(&mut self.ready) {
            self.status[id.0 as usize] = Status::Waiting;
        }
    }

    fn note(&self, task: Option<&Task>, message: impl Into<String>) {
        self.sink.event(&Event::Note { task: task.map(|task| task.name.to_string()), message: message.into() });
    }

    fn tell(&self, event: impl FnOnce(String, String) -> Event, task: &Task) {
        self.sink.event(&event(task.name.to_string(), self.pipeline.stages[task.stage].name.to_string()));
    }

    fn stopping(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || (!self.failures.is_empty() && !self.options.keep_going)
    }

    /// Starts ready tasks while there is room for them.
    fn start_tasks(&mut self) -> Result<(), Error> {
        let mut held = BTreeSet::new();
        while !self.stopping() {
            let Some(id) = self.ready.pop_first() else { break };
            // Row-wise tasks all start: siblings share one running batch.
            if self.is_whole(id) && self.whole >= self.options.jobs.max(1) {
                held.insert(id);
            } else {
                self.start(id)?;
            }
        }
        self.ready.append(&mut held);
        if self.stopping() {
            for id in std::mem::take(&mut self.ready) {
                self.status[id.0 as usize] = Status::Waiting;
            }
        }
        Ok(())
    }

    fn is_whole(&self, id: TaskId) -> bool {
        matches!(self.pipeline.tasks[id.0 as usize].implementation.work(), Work::Whole(_))
    }

    /// After an interruption, ends the row-wise tasks whose rows will not come; what landed is in the memo.
    fn abandon(&mut self) {
        if !self.cancelled.load(Ordering::Relaxed) || self.groups.values().any(|group| group.running) {
            return;
        }
        let stopped: Vec<TaskId> = self.row_tasks.keys().copied().collect();
        for id in stopped {
            self.row_tasks.remove(&id);
            self.busy -= 1;
            self.status[id.0 as usize] = Status::Waiting;
        }
        self.waiters.clear();
    }

    fn result(&self, id: TaskId) -> Option<Arc<TaskResult>> {
        self.plan.tasks.get(id.0 as usize).and_then(|planned| planned.result.clone())
    }

    /// Looks whether a ready task's result is there by now; if not, starts it.
    fn start(&mut self, id: TaskId) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        let Some(specs) = inputs_from(task, |id| self.result(id)) else {
            return Err(Error::internal(format!("`{}` is ready but an input is not there", task.name)));
        };
        let inputs = open_inputs(&specs, &self.workspace);
        let planned = &self.plan.tasks[id.0 as usize];
        let (action, parts) = keys::action(task.implementation.as_ref(), &planned.files, &inputs);
        if let Some(result) = stored(task, action, &self.workspace, |id| self.result(id))? {
            self.workspace.records.alias(&planned.recipe, &action).map_err(store_error)?;
            self.tasks.cached += 1;
            self.tell(|task, stage| Event::Cached { task, stage }, task);
            self.done(id, result);
            return Ok(());
        }
        self.status[id.0 as usize] = Status::Running;
        self.tell(|task, stage| Event::Started { task, stage }, task);
        let begun = publish::Begun {
            action,
            recipe: planned.recipe,
            parts,
            files: Arc::clone(&planned.files),
            started: Instant::now(),
        };
        self.begun.insert(id, begun);
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

    fn start_whole(&self, id: TaskId, inputs: Inputs) {
        let unit = self.unit(id);
        tokio::task::spawn_blocking(move || {
            let task = &unit.pipeline.tasks[id.0 as usize];
            let done = unit.guarded(|open| {
                let Work::Whole(whole) = task.implementation.work() else {
                    return Err(Error::internal("the task changed its way of working"));
                };
                let product = whole.run(&inputs, open)?;
                publish::draft(&unit.workspace, task, &inputs, product, &unit.begun, false)
            });
            unit.send(Message::Done(id, done.map(Box::new)));
        });
    }

    fn start_rows(&mut self, id: TaskId, inputs: Inputs) {
        let unit = self.unit(id);
        if let Some(group) = self.group_of(id) {
            group.planning += 1;
            group.queue.set_more(true);
        }
        tokio::task::spawn_blocking(move || {
            let known = unit.guarded(|open| unit.know_rows(id, inputs, open));
            unit.send(Message::RowsKnown(id, known.map(Box::new)));
        });
    }

    fn group_of(&mut self, id: TaskId) -> Option<&mut Group> {
        let pipeline = Arc::clone(&self.pipeline);
        match pipeline.tasks[id.0 as usize].implementation.work() {
            Work::Rows(rows) => self.groups.get_mut(rows.group().as_str()),
            Work::Whole(_) => None,
        }
    }

    fn unit(&self, id: TaskId) -> Unit {
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

    /// Starts sessions of groups that have rows waiting, one a resource at a time, the earliest group first.
    fn start_sessions(&mut self) {
        let mut taken: HashSet<&'static str> =
            self.groups.values().filter(|group| group.running).map(|group| group.resource).collect();
        let mut waiting: Vec<_> = self.groups.iter().filter(|(_, group)| !group.running && !group.queue.is_empty()).collect();
        waiting.sort_by_key(|(_, group)| group.first);
        let names: Vec<Arc<str>> = waiting.into_iter().map(|(name, _)| Arc::clone(name)).collect();
        for name in names {
            let Some(group) = self.groups.get_mut(&name) else { continue };
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

    fn receive(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Note(task, message) => {
                let pipeline = Arc::clone(&self.pipeline);
                self.note(task.map(|id| &pipeline.tasks[id.0 as usize]), message);
                Ok(())
            }
            Message::Done(id, result) => {
                self.busy -= 1;
                self.whole -= usize::from(self.is_whole(id));
                self.finish(id, result)
            }
            Message::RowsKnown(id, result) => self.rows_known(id, result),
            Message::Landed(group, landed) => self.landed(&group, landed),
            Message::SessionOver(name, executor, result) => self.session_over(&name, executor, result),
        }
    }

    /// The rows of a task are known: those that the memo lacks join the group's queue.
    fn rows_known(&mut self, id: TaskId, known: Result<Box<RowTask>, Error>) -> Result<(), Error> {
        if let Some(group) = self.group_of(id) {
            group.planning -= 1;
        }
        let mut row_task = match known {
            Ok(row_task) => *row_task,
            Err(error) => {
                self.settle_more(id);
                self.busy -= 1;
                return self.finish(id, Err(error));
            }
        };
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        let unit = match task.implementation.work() {
            Work::Rows(rows) => rows.unit(),
            Work::Whole(_) => "rows",
        };
        let (all, reused) = (row_task.rows.len() + row_task.missing.len(), row_task.rows.len());
        self.rows.reused += reused as u64;
        let (rows, reused) = (all as u64, reused as u64);
        self.tell(|task, stage| Event::Rows { task, stage, rows, reused, unit }, task);
        for note in std::mem::take(&mut row_task.plan.notes) {
            self.note(Some(task), note);
        }
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
                wanted.push(Wanted { row: *row, request, memo: Arc::clone(&row_task.memo) });
            }
            waiters.push(id);
        }
        let complete = row_task.missing.is_empty();
        self.row_tasks.insert(id, row_task);
        if let Some(group) = self.group_of(id) {
            group.queue.extend(wanted);
        }
        self.settle_more(id);
        if complete {
            self.finish_rows(id);
        }
        Ok(())
    }

    fn settle_more(&mut self, id: TaskId) {
        if let Some(group) = self.group_of(id) {
            group.queue.set_more(group.planning > 0);
        }
    }

    fn landed(&mut self, group: &str, landed: Landed) -> Result<(), Error> {
        let mut complete = Vec::new();
        let mut counted: BTreeMap<usize, u64> = BTreeMap::new();
        let pipeline = Arc::clone(&self.pipeline);
        for (row, outcome) in landed.rows {
            for id in self.waiters.remove(&row).unwrap_or_default() {
                let stage = pipeline.tasks[id.0 as usize].stage;
                let Some(row_task) = self.row_tasks.get_mut(&id) else { continue };
                row_task.missing.remove(&row);
                row_task.rows.insert(row, outcome.clone());
                *counted.entry(stage).or_default() += 1;
                if row_task.missing.is_empty() {
                    complete.push(id);
                }
            }
            if matches!(outcome, Outcome::Raw(_)) {
                self.count_row(group);
            }
        }
        if counted.is_empty()
            && let Some(group) = self.groups.get(group)
        {
            counted.insert(pipeline.tasks[group.first as usize].stage, 0);
        }
        let mut units = landed.units;
        for (stage, rows) in counted {
            let stage = pipeline.stages[stage].name.to_string();
            self.sink.event(&Event::Progress { stage, rows, units: std::mem::take(&mut units) });
        }
        complete.into_iter().for_each(|id| self.finish_rows(id));
        Ok(())
    }

    fn count_row(&mut self, group: &str) {
        let first = self.groups.get(group).map(|group| group.first as usize);
        match first.map(|first| self.pipeline.tasks[first].declaration.name) {
            Some("generate") => self.rows.generated += 1,
            Some("judge") => self.rows.judged += 1,
            _ => {}
        }
    }

    /// All raw rows of a task are there: makes its table.
    fn finish_rows(&mut self, id: TaskId) {
        let Some(row_task) = self.row_tasks.remove(&id) else { return };
        let unit = self.unit(id);
        tokio::task::spawn_blocking(move || {
            let task = &unit.pipeline.tasks[id.0 as usize];
            let done = unit.guarded(|_| {
                let (product, incomplete) = make_table(task, &row_task)?;
                publish::draft(&unit.workspace, task, &row_task.inputs, product, &unit.begun, incomplete)
            });
            unit.send(Message::Done(id, done.map(Box::new)));
        });
    }

    fn session_over(
        &mut self,
        name: &str,
        executor: Option<Box<dyn Executor>>,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        self.busy -= 1;
        let stopped: Vec<TaskId> = {
            let group_has = |id: &TaskId| {
                matches!(self.pipeline.tasks[id.0 as usize].implementation.work(), Work::Rows(rows) if *rows.group() == *name)
            };
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

    /// Records what a task made, or that it failed.
    fn finish(&mut self, id: TaskId, result: Result<Box<publish::Draft>, Error>) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        let draft = match result {
            Ok(draft) => *draft,
            Err(error) if error.kind == ErrorKind::Interrupted => {
                self.status[id.0 as usize] = Status::Waiting;
                return Ok(());
            }
            Err(error) => {
                self.failed(id, error);
                return Ok(());
            }
        };
        for note in draft.notes() {
            self.note(Some(task), note.clone());
        }
        let published = match publish::publish(&self.workspace, draft) {
            Ok(published) => published,
            Err(error) => {
                self.failed(id, error);
                return Ok(());
            }
        };
        if let Some(divergence) = published.divergence {
            self.note(Some(task), divergence);
        }
        self.tasks.ran += 1;
        let (rows, seconds) = (published.record.rows, published.record.seconds);
        self.tell(|task, stage| Event::Finished { task, stage, rows, seconds }, task);
        let outputs = published.record.outputs.iter().map(|output| (output.name.clone(), output.artifact.clone()));
        let seen = as_seen(task, published.record.action, rows, outputs, |id| self.result(id))
            .ok_or_else(|| Error::internal(format!("the input of `{}` is gone", task.name)))?;
        if published.record.incomplete {
            let error = Error::task(format!("rows of `{}` failed", task.name))
                .cause(published.record.notes.last().cloned().unwrap_or_default())
                .hint("run again: only those rows are tried again");
            self.tasks.ran -= 1;
            self.failed(id, error);
            return Ok(());
        }
        self.done(id, seen);
        Ok(())
    }

    fn failed(&mut self, id: TaskId, error: Error) {
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        self.status[id.0 as usize] = Status::Failed;
        self.tasks.failed += 1;
        let error = in_task(error, task);
        let Error { message, causes, hint, .. } = error.clone();
        self.tell(|task, stage| Event::Failed { task, stage, message, causes, hint }, task);
        self.failures.push((id, error));
        if let Some(group) = self.group_of(id) {
            group.unfinished = group.unfinished.saturating_sub(1);
        }
    }

    /// Notes a result and makes ready what waited for it alone.
    fn done(&mut self, id: TaskId, result: TaskResult) {
        let planned = &mut self.plan.tasks[id.0 as usize];
        planned.result = Some(Arc::new(result));
        planned.state = State::Cached;
        self.status[id.0 as usize] = Status::Done;
        if let Some(group) = self.group_of(id) {
            group.unfinished = group.unfinished.saturating_sub(1);
            if group.unfinished == 0 {
                group.executor = None;
            }
        }
        let pipeline = Arc::clone(&self.pipeline);
        for next in pipeline.graph.neighbors_directed(NodeIndex::new(id.0 as usize), Direction::Outgoing) {
            let index = pipeline.graph[next].0 as usize;
            if self.status[index] != Status::Waiting {
                continue;
            }
            self.waiting_for[index] = self.waiting_for[index].saturating_sub(1);
            if self.waiting_for[index] == 0 {
                self.status[index] = Status::Ready;
                self.ready.insert(pipeline.graph[next]);
            }
        }
    }
}

/// Makes a row-wise task's table from its raw rows.
fn make_table(task: &Task, row_task: &RowTask) -> Result<(Product, bool), Error> {
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
    let states = row_task.plan.rows.iter().map(state).collect::<Result<Vec<_>, Error>>()?;
    let failed = states.iter().filter(|state| matches!(state, RowState::Failed(_))).count();
    let mut product = rows.finish(&row_task.inputs, &row_task.plan, &states)?;
    if failed > 0 {
        let reason = states.iter().find_map(|state| match state {
            RowState::Failed(error) => Some(error.message.as_str()),
            _ => None,
        });
        product.notes.push(format!("{failed} rows failed, the first one: {}", reason.unwrap_or_default()));
    }
    Ok((product, failed > 0))
}

/// What a blocking thread needs.
struct Unit {
    id: TaskId,
    pipeline: Arc<Pipeline>,
    workspace: Arc<Workspace>,
    begun: publish::Begun,
    threads: usize,
    offline: bool,
    cancelled: Arc<AtomicBool>,
    sender: UnboundedSender<Message>,
}

impl Unit {
    fn send(&self, message: Message) {
        // The dispatcher is gone only when the run is over.
        let _ = self.sender.send(message);
    }

    /// Runs work with what it may use; a panic becomes that task's error.
    fn guarded<T>(&self, work: impl FnOnce(&Open<'_>) -> Result<T, Error>) -> Result<T, Error> {
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

    fn know_rows(&self, id: TaskId, inputs: Inputs, open: &Open<'_>) -> Result<RowTask, Error> {
        let task = &self.pipeline.tasks[id.0 as usize];
        let Work::Rows(rows) = task.implementation.work() else {
            return Err(Error::internal("the task changed its way of working"));
        };
        let lineage = keys::lineage(task.implementation.as_ref(), rows, &self.begun.files);
        let memo = self.workspace.memo(&lineage)?;
        let plan = rows.plan(&inputs, open)?;
        let keys: Vec<Digest<Row>> = plan.requests.iter().map(|request| keys::row(&lineage, &request.key)).collect();
        let mut known = HashMap::new();
        let mut missing = HashSet::new();
        for key in &keys {
            if known.contains_key(key) || missing.contains(key) {
                continue;
            }
            match memo.get(key).map_err(store_error)? {
                Some(raw) => drop(known.insert(*key, Outcome::Raw(raw))),
                None => drop(missing.insert(*key)),
            }
        }
        Ok(RowTask { inputs, plan, keys, rows: known, missing, memo })
    }

    /// Opens the executor of a group if there is none and works through its queue.
    fn session(&self, id: TaskId, name: &Arc<str>, queue: &Queue, executor: Option<Box<dyn Executor>>) {
        let task = &self.pipeline.tasks[id.0 as usize];
        let mut kept = executor;
        let result = self.guarded(|open| {
            let Work::Rows(rows) = task.implementation.work() else {
                return Err(Error::internal("the task changed its way of working"));
            };
            let executor = match &mut kept {
                Some(executor) => executor,
                None => kept.insert(rows.open(open)?),
            };
            work(executor.as_mut(), queue, &self.cancelled, &mut |landed| {
                self.send(Message::Landed(Arc::clone(name), landed));
            })
        });
        self.send(Message::SessionOver(Arc::clone(name), kept, result));
    }
}
