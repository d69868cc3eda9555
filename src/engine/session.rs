//! A session: one executor works through the raw rows that the tasks of its group ask for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fracture_cache::digest::Row;
use fracture_cache::{Digest, Memo};
use fracture_stage::{Error, Executor, Outcome, Request, Ticket, Usage};

use super::store_error;

/// How long a session waits for further requests before it looks again.
const PATIENCE: Duration = Duration::from_millis(10);

/// A raw row that is wanted, and where it will be remembered.
pub struct Wanted {
    /// Its key.
    pub row: Digest<Row>,
    /// What the executor works from.
    pub request: Request,
    /// Where it is remembered.
    pub memo: Arc<Memo>,
}

/// The requests of a group. Tasks add to it while the session runs.
#[derive(Default)]
pub struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    wanted: VecDeque<Wanted>,
    /// Further requests are on their way.
    more: bool,
}

impl Queue {
    /// Adds requests.
    pub fn extend(&self, wanted: impl IntoIterator<Item = Wanted>) {
        self.lock().wanted.extend(wanted);
        self.changed.notify_all();
    }

    /// Says whether further requests are on their way, so that a batch may wait to be filled.
    pub fn set_more(&self, more: bool) {
        self.lock().more = more;
        self.changed.notify_all();
    }

    /// Takes back requests whose rows came another way.
    pub fn forget(&self, rows: &HashSet<Digest<Row>>) {
        self.lock().wanted.retain(|wanted| !rows.contains(&wanted.row));
    }

    /// Takes back all requests.
    pub fn clear(&self) {
        self.lock().wanted.clear();
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.lock().wanted.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows that were finished in one step.
pub struct Landed {
    /// The rows with what became of them.
    pub rows: Vec<(Digest<Row>, Outcome)>,
    /// Tokens decoded or texts scored.
    pub units: u64,
    /// What was used of a service.
    pub usage: Usage,
}

/// Works until the queue is empty and nothing more is on its way. Once cancelled, takes no further request and finishes
/// what is inside.
///
/// # Errors
/// When the executor can not go on; rows that landed before are remembered.
pub fn work(
    executor: &mut dyn Executor,
    queue: &Queue,
    cancelled: &AtomicBool,
    landed: &mut dyn FnMut(Landed),
) -> Result<(), Error> {
    let mut inside: HashMap<Ticket, Wanted> = HashMap::new();
    let mut next = 0;
    loop {
        let cancel = cancelled.load(Ordering::Relaxed);
        if !cancel {
            fill(executor, queue, &mut inside, &mut next)?;
        }
        let more = !cancel && {
            let state = queue.lock();
            state.more || !state.wanted.is_empty()
        };
        if inside.is_empty() {
            if !more {
                return Ok(());
            }
            wait(queue);
            continue;
        }
        let mut finished = Vec::new();
        let progress = executor.step(more, &mut |ticket, outcome| finished.push((ticket, outcome)))?;
        if finished.is_empty() && progress.units == 0 && more {
            wait(queue);
        }
        let mut rows = Vec::with_capacity(finished.len());
        for (ticket, outcome) in finished {
            let wanted = inside
                .remove(&ticket)
                .ok_or_else(|| Error::internal(format!("the executor gave a row twice (ticket {})", ticket.0)))?;
            // Only rows that succeeded are remembered: the next run tries the others again.
            if let Outcome::Raw(raw) = &outcome {
                wanted.memo.put(&wanted.row, raw).map_err(store_error)?;
                if executor.is_paid() {
                    wanted.memo.flush().map_err(store_error)?;
                }
            }
            rows.push((wanted.row, outcome));
        }
        let usage = executor.usage();
        if !rows.is_empty() || progress.units > 0 || usage != Usage::default() {
            landed(Landed {
                rows,
                units: progress.units,
                usage,
            });
        }
    }
}

/// Submits what fits. A request that is larger than all the room goes in alone.
fn fill(
    executor: &mut dyn Executor,
    queue: &Queue,
    inside: &mut HashMap<Ticket, Wanted>,
    next: &mut u64,
) -> Result<(), Error> {
    loop {
        let room = executor.room();
        let wanted = {
            let mut state = queue.lock();
            match state.wanted.front() {
                Some(wanted) if wanted.request.cost <= room || inside.is_empty() => state.wanted.pop_front(),
                _ => None,
            }
        };
        let Some(wanted) = wanted else { return Ok(()) };
        let ticket = Ticket(*next);
        *next += 1;
        executor.submit(ticket, wanted.request.clone())?;
        inside.insert(ticket, wanted);
    }
}

fn wait(queue: &Queue) {
    let state = queue.lock();
    if state.wanted.is_empty() {
        // Woken or not, the caller looks again.
        drop(queue.changed.wait_timeout(state, PATIENCE));
    }
}
