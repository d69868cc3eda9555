//! The run: a ready queue over the graph, bound by resources. One dispatcher owns the state and puts events in one order;
//! blocking threads do units of work.

mod groups;
mod unit;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fracture_cache::digest::Row;
use fracture_cache::{Digest, Memo};
use fracture_language::{Pipeline, Task, TaskId};
use fracture_stage::stage::RowPlan;
use fracture_stage::{Error, ErrorKind, Executor, Inputs, Outcome, Work};
use petgraph::Direction;
use petgraph::graph::NodeIndex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::event::{Event, RowCounts, Sink, Summary, TaskCounts};
use super::keys;
use super::plan::{Plan, State, TaskResult, as_seen, in_task, inputs_from, open_inputs, stored};
use super::session::{Landed, Queue};
use super::workspace::Workspace;
use super::{publish, store_error};
use unit::Unit;

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
        self.sink.event(&Event::Planned {
            total: self.tasks.total,
            cached,
        });
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
            let missing: HashSet<TaskId> = sources
                .map(|source| source.task)
                .filter(|id| self.status[id.0 as usize] != Status::Done)
                .collect();
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
        let summary = Summary {
            tasks: self.tasks,
            rows: self.rows,
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

    /// The first Ctrl-C lets the batch in flight finish, the second stops at once.
    fn interrupt(&mut self, heard: bool) {
        if !heard {
            return;
        }
        if self.cancelled.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        self.note(
            None,
            "interrupted: finishing what is in flight (once more stops at once)",
        );
        for id in std::mem::take(&mut self.ready) {
            self.status[id.0 as usize] = Status::Waiting;
        }
    }

    fn note(&self, task: Option<&Task>, message: impl Into<String>) {
        self.sink.event(&Event::Note {
            task: task.map(|task| task.name.to_string()),
            message: message.into(),
        });
    }

    fn tell(&self, event: impl FnOnce(String, String) -> Event, task: &Task) {
        self.sink.event(&event(
            task.name.to_string(),
            self.pipeline.stages[task.stage].name.to_string(),
        ));
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

    fn result(&self, id: TaskId) -> Option<Arc<TaskResult>> {
        self.plan
            .tasks
            .get(id.0 as usize)
            .and_then(|planned| planned.result.clone())
    }

    /// Looks whether a ready task's result is there by now; if not, starts it.
    fn start(&mut self, id: TaskId) -> Result<(), Error> {
        let pipeline = Arc::clone(&self.pipeline);
        let task = &pipeline.tasks[id.0 as usize];
        let Some(specs) = inputs_from(task, |id| self.result(id)) else {
            return Err(Error::internal(format!(
                "`{}` is ready but an input is not there",
                task.name
            )));
        };
        let inputs = open_inputs(&specs, &self.workspace);
        let planned = &self.plan.tasks[id.0 as usize];
        let (action, parts) = keys::action(task.implementation.as_ref(), &planned.files, &inputs);
        if let Some(result) = stored(task, action, &self.workspace, |id| self.result(id))? {
            self.workspace
                .records
                .alias(&planned.recipe, &action)
                .map_err(store_error)?;
            self.tasks.cached += 1;
            self.tell(|task, stage| Event::Cached { task, stage }, task);
            self.done(id, result);
            return Ok(());
        }
        if let Err(error) = self.workspace.present(&self.plan.tasks[id.0 as usize].files) {
            self.failed(id, error);
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
        self.tell(
            |task, stage| Event::Finished {
                task,
                stage,
                rows,
                seconds,
            },
            task,
        );
        let outputs = published
            .record
            .outputs
            .iter()
            .map(|output| (output.name.clone(), output.artifact.clone()));
        let seen = as_seen(task, published.record.action, rows, outputs, |id| self.result(id))
            .ok_or_else(|| Error::internal(format!("the input of `{}` is gone", task.name)))?;
        if published.record.incomplete {
            let error = Error::task(format!("rows of `{}` failed", task.name))
                .cause(published.record.notes.last().cloned().unwrap_or_default())
                .hint("run again: only those rows are tried again; if they fail again, the cause above says what to look at");
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
        for next in pipeline
            .graph
            .neighbors_directed(NodeIndex::new(id.0 as usize), Direction::Outgoing)
        {
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
