//! The client as the scheduler drives it: rows in, raw rows out, as many side by side as the model's `concurrency`
//! says.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use fracture_stage::{Error, ErrorKind, Executor, Outcome, Progress, Request, RowError, Ticket, Usage};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::budget::Budget;
use crate::client::Client;
use crate::failure::Failure;
use crate::model::Model;

/// How long a step waits for a row.
const WAIT: Duration = Duration::from_millis(25);

/// The work of a row.
pub type JobFuture = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>;

/// What is asked for a row: one request or several.
pub trait Job: Send + Sync {
    /// Asks and gives the raw row. `flying` counts the requests that are on their way.
    fn run(&self, client: Arc<Client>, flying: Arc<AtomicU32>) -> JobFuture;
}

/// The payload of a row's request.
#[derive(Clone)]
pub struct Work(pub Arc<dyn Job>);

/// A row inside.
struct Inside {
    task: AbortHandle,
    flying: Arc<AtomicU32>,
    /// Its outcome is on its way to us.
    landed: Arc<AtomicBool>,
}

/// A served model as an executor.
pub struct ServedExecutor {
    model: Arc<Model>,
    client: Arc<Client>,
    runtime: Option<Runtime>,
    inside: HashMap<Ticket, Inside>,
    sender: Sender<(Ticket, Result<Vec<u8>, Failure>)>,
    receiver: Receiver<(Ticket, Result<Vec<u8>, Failure>)>,
    budget: Budget,
    told: Usage,
    /// Tokens that were told as progress.
    tokens: u64,
    stopping: Arc<AtomicBool>,
    /// Why it can not go on; told when what is on its way has landed.
    ending: Option<Error>,
}

impl ServedExecutor {
    /// Opens a model: reads its key from the environment. Asks nothing.
    ///
    /// # Errors
    /// When the key is not there, or threads can not be had.
    pub fn open(model: &Arc<Model>) -> Result<Self, Error> {
        let stopping = Arc::new(AtomicBool::new(false));
        let client = Arc::new(Client::open(model, Arc::clone(&stopping))?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("served")
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Environment, "can not start a thread for requests").cause(error))?;
        let (sender, receiver) = channel();
        Ok(Self {
            model: Arc::clone(model),
            client,
            runtime: Some(runtime),
            inside: HashMap::new(),
            sender,
            receiver,
            budget: Budget::default(),
            told: Usage::default(),
            tokens: 0,
            stopping,
            ending: None,
        })
    }

    /// Takes a row's outcome; what concerns every row ends the executor.
    fn take(&mut self, ticket: Ticket, result: Result<Vec<u8>, Failure>, done: &mut dyn FnMut(Ticket, Outcome)) {
        if self.inside.remove(&ticket).is_none() {
            return;
        }
        match result {
            Ok(raw) => {
                self.budget.landed();
                done(ticket, Outcome::Raw(raw));
            }
            Err(failure) => {
                let end = match failure.sort.concerns_all() {
                    true => Some(failure.clone().into_error(&self.model)),
                    false => self.budget.failed(&failure, &self.model),
                };
                match end {
                    // The row that ends it is not handed out: the session would be over before it is told why.
                    Some(end) => self.end(end),
                    None => {
                        let message = format!("model `{}`: {failure}", self.model.shown);
                        done(ticket, Outcome::Failed(RowError { message }));
                    }
                }
            }
        }
    }

    /// Lets what is on its way land, and drops the rest.
    fn end(&mut self, error: Error) {
        if self.ending.is_none() {
            self.ending = Some(error);
            self.drop_waiting();
        }
    }

    /// Drops the rows of which no request is on its way.
    fn drop_waiting(&mut self) -> Vec<Ticket> {
        self.stopping.store(true, Ordering::SeqCst);
        let waits =
            |inside: &Inside| inside.flying.load(Ordering::SeqCst) == 0 && !inside.landed.load(Ordering::SeqCst);
        let waiting: Vec<Ticket> = self
            .inside
            .iter()
            .filter(|(_, inside)| waits(inside))
            .map(|(t, _)| *t)
            .collect();
        for ticket in &waiting {
            if let Some(inside) = self.inside.remove(ticket) {
                inside.task.abort();
            }
        }
        waiting
    }
}

impl Executor for ServedExecutor {
    fn room(&self) -> u32 {
        match self.ending {
            Some(_) => 0,
            None => self.model.limits.concurrency.saturating_sub(self.inside.len() as u32),
        }
    }

    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error> {
        if let Some(error) = &self.ending {
            return Err(error.clone());
        }
        let work = request
            .payload
            .downcast_ref::<Work>()
            .ok_or_else(|| Error::internal("a served model was given something that it can not be asked"))?;
        let Some(runtime) = &self.runtime else {
            return Err(Error::internal("a served model was asked after its end"));
        };
        let (flying, landed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let job = work.0.run(Arc::clone(&self.client), Arc::clone(&flying));
        let (sender, is_there) = (self.sender.clone(), Arc::clone(&landed));
        let task = runtime.spawn(async move {
            let result = job.await;
            is_there.store(true, Ordering::SeqCst);
            // The executor is gone only when nobody waits for the row.
            let _ = sender.send((ticket, result));
        });
        let task = task.abort_handle();
        self.inside.insert(ticket, Inside { task, flying, landed });
        Ok(())
    }

    fn step(&mut self, _: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
        if let Some(error) = self.ending.clone().filter(|_| self.inside.is_empty()) {
            return Err(error);
        }
        match self.receiver.recv_timeout(WAIT) {
            Ok((ticket, result)) => self.take(ticket, result, done),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        while let Ok((ticket, result)) = self.receiver.try_recv() {
            self.take(ticket, result, done);
        }
        let tokens = self.client.usage().completion_tokens;
        let units = tokens - std::mem::replace(&mut self.tokens, tokens);
        let ending = u32::from(self.ending.is_some());
        Ok(Progress {
            active: self.inside.len() as u32 + ending,
            units,
        })
    }

    fn withdraw(&mut self) -> Vec<Ticket> {
        self.drop_waiting()
    }

    fn is_paid(&self) -> bool {
        true
    }

    fn usage(&mut self) -> Usage {
        let now = self.client.usage();
        let used = now.since(&self.told);
        self.told = now;
        used
    }
}

impl Drop for ServedExecutor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Requests on their way are not waited for.
            runtime.shutdown_background();
        }
    }
}
