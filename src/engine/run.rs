//! The run: a ready queue over the graph, bound by resources. One dispatcher owns the state and puts events in one order;
//! blocking threads do units of work.

mod claimed;
mod finish;
mod groups;
mod interrupt;
mod mend;
mod start;
mod unit;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fracture_cache::digest::Row;
use fracture_cache::{Digest, Memo};
use fracture_language::{Pipeline, Task, TaskId};
use fracture_stage::stage::RowPlan;
use fracture_stage::{Error, ErrorKind, Executor, Inputs, Outcome, Usage, Work};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::MissedTickBehavior;

use super::event::{Event, RowCounts, Sink, Summary, TaskCounts};
use super::plan::{Plan, TaskResult};
use super::publish;
use super::session::{Landed, Queue};
use super::store_error;
use super::workspace::Workspace;
use claimed::Neighbours;
use mend::Mending;

/// How often a run looks whether what other processes compute is there.
const POLL: Duration = Duration::from_millis(100);

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
    /// Who runs, for other processes that wait.
    pub who: String,
    /// Ends at once what outlives the process, before it goes: programs in groups of their own.
    pub stop_at_once: fn(),
    /// After this time without a sign of life another process's task is taken over.
    pub patience: Duration,
    /// When the user began to wait: before the plan.
    pub began: Instant,
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

/// Reads what the figures of a plan show, or says of which task that can not be done.
pub type Look<'a> = dyn FnMut(&Plan) -> Result<(), (TaskId, Error)> + 'a;

/// Runs what is missing of a plan. `look` is called when all is done, and again when what it could not read was made anew.
///
/// # Errors
/// When the store fails; what failed of single tasks is in the outcomes.
pub fn run(
    pipeline: &Arc<Pipeline>,
    workspace: &Arc<Workspace>,
    plan: Plan,
    options: &RunOptions,
    sink: &dyn Sink,
    look: &mut Look<'_>,
) -> Result<Outcomes, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Environment, "can not start the scheduler").cause(error))?;
    let dispatcher = Dispatcher::new(pipeline, workspace, plan, options, sink);
    let outcomes = runtime.block_on(dispatcher.run(look));
    // Whatever a second Ctrl-C left behind is not waited for.
    runtime.shutdown_background();
    outcomes
}

/// What blocking threads tell the dispatcher.
enum Message {
    Done(TaskId, Result<Box<publish::Draft>, Error>),
    RowsKnown(TaskId, Result<Box<RowTask>, Error>),
    Opened(Arc<str>, Vec<(String, String)>),
    Landed(Arc<str>, Landed),
    SessionOver(Arc<str>, Option<Box<dyn Executor>>, Result<(), Error>),
    Written(Result<(), Error>),
    Synced(Result<(), Error>),
    Interrupted,
    Note(Option<TaskId>, String),
    Fetch(Event),
}

/// What a raw row is remembered by.
type RowKey = Digest<Row>;

/// A row-wise task whose rows are known.
struct RowTask {
    inputs: Inputs,
    plan: RowPlan,
    keys: Vec<RowKey>,
    rows: HashMap<RowKey, Outcome>,
    missing: HashSet<RowKey>,
    memo: Arc<Memo>,
}

/// The tasks that share an executor.
#[derive(Default)]
struct Group {
    queue: Arc<Queue>,
    resource: &'static str,
    /// Tasks whose rows are being found out.
    planning: u32,
    /// Tasks whose rows are known and not in the queue: the resource is taken, or another process has the task.
    pending: BTreeSet<TaskId>,
    /// Tasks that are not done.
    unfinished: u32,
    running: bool,
    first: u32,
    executor: Option<Box<dyn Executor>>,
    /// What the executor computes on, once there was one.
    provenance: Vec<(String, String)>,
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
    neighbours: Neighbours,
    mending: Mending,
    /// Whole tasks that run now; row-wise ones wait for a session and hold no thread.
    whole: usize,
    /// The action, its parts and the start of each running task.
    begun: HashMap<TaskId, publish::Begun>,
    row_tasks: HashMap<TaskId, RowTask>,
    groups: BTreeMap<Arc<str>, Group>,
    /// Tasks that wait for a row.
    waiters: HashMap<RowKey, Vec<TaskId>>,
    busy: usize,
    writing: bool,
    syncing: bool,
    /// Bounds the work of row-wise tasks beside their sessions: finding out which rows are known, making tables.
    gate: Arc<Semaphore>,
    cancelled: Arc<AtomicBool>,
    failures: Vec<(TaskId, Error)>,
    tasks: TaskCounts,
    rows: RowCounts,
    /// What was used of services.
    usage: Usage,
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
            neighbours: Neighbours::default(),
            mending: Mending::default(),
            whole: 0,
            begun: HashMap::new(),
            row_tasks: HashMap::new(),
            groups: BTreeMap::new(),
            waiters: HashMap::new(),
            busy: 0,
            writing: false,
            syncing: false,
            gate: Arc::new(Semaphore::new(options.jobs.max(1))),
            cancelled: Arc::new(AtomicBool::new(false)),
            failures: Vec::new(),
            tasks: TaskCounts::default(),
            rows: RowCounts::default(),
            usage: Usage::default(),
            sender,
            receiver: Some(receiver),
            started: options.began,
        }
    }

    async fn run(mut self, look: &mut Look<'_>) -> Result<Outcomes, Error> {
        let Some(mut receiver) = self.receiver.take() else {
            return Err(Error::internal("a dispatcher runs once"));
        };
        self.begin()?;
        self.listen()?;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.start_tasks()?;
            self.admit()?;
            self.start_sessions();
            self.abandon();
            if self.busy == 0 && self.ready.is_empty() && self.neighbours.waiting.is_empty() {
                match look(&self.plan) {
                    Err((id, error)) if self.mend_figure(id, &error)? => continue,
                    _ => break,
                }
            }
            tokio::select! {
                Some(message) = receiver.recv() => {
                    self.receive(message)?;
                    while let Ok(message) = receiver.try_recv() {
                        self.receive(message)?;
                    }
                }
                _ = second.tick() => {
                    self.write();
                    self.share_rows()?;
                }
                _ = poll.tick(), if self.neighbours.waits() => self.look_again()?,
            }
        }
        while self.writing || self.syncing {
            let Some(message) = receiver.recv().await else { break };
            self.receive(message)?;
        }
        self.end()
    }

    /// Writes out rows that landed, and brings to the disk what was written before. Each goes at its own pace, beside the
    /// tasks: on a busy disk a sync takes seconds, in which a kill must not lose what lands.
    fn write(&mut self) {
        if !self.writing {
            self.writing = true;
            let (workspace, sender) = (Arc::clone(&self.workspace), self.sender.clone());
            tokio::task::spawn_blocking(move || {
                // The dispatcher is gone only when the run is over, and it writes then.
                let _ = sender.send(Message::Written(workspace.write_rows()));
            });
        }
        if !self.syncing {
            self.syncing = true;
            let (workspace, sender) = (Arc::clone(&self.workspace), self.sender.clone());
            tokio::task::spawn_blocking(move || {
                let synced = workspace.store.sync().map_err(store_error);
                let _ = sender.send(Message::Synced(synced));
            });
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

    fn is_whole(&self, id: TaskId) -> bool {
        matches!(self.pipeline.tasks[id.0 as usize].implementation.work(), Work::Whole(_))
    }

    fn result(&self, id: TaskId) -> Option<Arc<TaskResult>> {
        self.plan
            .tasks
            .get(id.0 as usize)
            .and_then(|planned| planned.result.clone())
    }

    fn receive(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Note(task, message) => {
                let pipeline = Arc::clone(&self.pipeline);
                self.note(task.map(|id| &pipeline.tasks[id.0 as usize]), message);
                Ok(())
            }
            Message::Fetch(event) => {
                self.sink.event(&event);
                Ok(())
            }
            Message::Done(id, result) => {
                self.busy -= 1;
                self.whole -= usize::from(self.is_whole(id));
                self.finish(id, result)
            }
            Message::RowsKnown(id, result) => self.rows_known(id, result),
            Message::Opened(name, provenance) => {
                if let Some(group) = self.groups.get_mut(&name) {
                    group.provenance = provenance;
                }
                Ok(())
            }
            Message::Landed(group, landed) => self.landed(&group, landed),
            Message::SessionOver(name, executor, result) => self.session_over(&name, executor, result),
            Message::Written(result) => {
                self.writing = false;
                result
            }
            Message::Synced(result) => {
                self.syncing = false;
                result
            }
            Message::Interrupted => {
                self.interrupted();
                Ok(())
            }
        }
    }
}
