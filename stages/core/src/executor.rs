//! Row-wise work: requests to an executor that the tasks of one group share.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Names a submitted request; given back with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What an executor needs to compute one raw row; each kind has its own type.
pub type Payload = Arc<dyn Any + Send + Sync>;

/// One raw row that is wanted.
#[derive(Clone)]
pub struct Request {
    /// What, beside the lineage, determines the row: the rendered input and, only where it samples, the stream.
    pub key: Vec<u8>,
    /// What it takes of the executor's room, in the executor's own units (tokens).
    pub cost: u32,
    /// What the executor works from.
    pub payload: Payload,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} bytes of key, cost {})", self.key.len(), self.cost)
    }
}

/// Why a row could not be computed. Never memoised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The reason, for people.
    pub message: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The raw row; it enters the row memo.
    Raw(Vec<u8>),
    /// The row failed; it does not.
    Failed(RowError),
}

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Requests still inside.
    pub active: u32,
    /// Tokens decoded, texts scored: the unit of the kind's speed.
    pub units: u64,
}

/// What was used of a service that others run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Requests that were sent, repeated ones included.
    pub requests: u64,
    /// Repeated ones.
    pub retries: u64,
    /// Tokens of prompts, as the servers count them.
    pub prompt_tokens: u64,
    /// Tokens of answers, as the servers count them.
    pub completion_tokens: u64,
    /// What they cost by the prices that the user gave; `None` when none was given.
    pub cost: Option<f64>,
}

impl Usage {
    /// Adds what else was used.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.retries += other.retries;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cost = match (self.cost, other.cost) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0.0) + other.unwrap_or(0.0)),
        };
    }

    /// What was used since an earlier count of the same service.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            retries: self.retries - earlier.retries,
            prompt_tokens: self.prompt_tokens - earlier.prompt_tokens,
            completion_tokens: self.completion_tokens - earlier.completion_tokens,
            cost: self.cost.map(|cost| cost - earlier.cost.unwrap_or(0.0)),
        }
    }
}

/// Computes raw rows. Several tasks' requests are inside at once; a row's result never depends on the others.
pub trait Executor: Send {
    /// How much more fits now, in cost units. A request whose cost is above the room of an empty executor is taken alone.
    fn room(&self) -> u32;

    /// Takes a request. Only called when its cost fits, or when nothing is inside.
    ///
    /// # Errors
    /// When the executor can not go on at all; what is wrong with one row comes as that row's outcome.
    fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Error>;

    /// Works for a moment and hands out what is finished. `more` says that further requests will come, so that a batch may
    /// wait to be filled; without it everything inside must finish within finitely many steps.
    ///
    /// # Errors
    /// When the executor can not go on at all (a device is lost, a model gives NaN everywhere).
    fn step(&mut self, more: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error>;

    /// Gives back the requests inside of which nothing was computed yet; they never come as outcomes then. Called once, when
    /// the user interrupts: what is begun is finished by further steps.
    fn withdraw(&mut self) -> Vec<Ticket> {
        Vec::new()
    }

    /// Whether somebody is paid for rows: each is then written out when it lands, so that none is asked for twice.
    fn is_paid(&self) -> bool {
        false
    }

    /// What was used of a service since this was last asked.
    fn usage(&mut self) -> Usage {
        Usage::default()
    }

    /// Which numeric class computes here, for the record: CPU features, runtime version, provider.
    fn provenance(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
