//! A session: one executor works through the raw rows that the tasks of its group ask for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fracture_cache::digest::Row;
use fracture_cache::{Digest, Memo};
use fracture_stage::{Error, Executor, Outcome, Request, Ticket, Usage};

use super::store_error;

/// How long a session waits for further requests before it looks again.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long rows that are being computed may go on after an interruption. Longer ones are dropped: they are computed again
/// by the next run, and come out the same.
const GRACE: Duration = Duration::from_secs(4);

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

/// Works until the queue is empty and nothing more is on its way. Once cancelled, takes no further request, gives back those
/// that were not begun, and lets the others go on for a few seconds. `sound` is asked before rows are remembered.
///
/// # Errors
/// When the executor can not go on, or `sound` says that what it computes is not what it should be; rows that landed before
/// are remembered.
pub fn work(
    executor: &mut dyn Executor,
    queue: &Queue,
    cancelled: &AtomicBool,
    sound: &dyn Fn() -> Result<(), Error>,
    landed: &mut dyn FnMut(Landed),
) -> Result<(), Error> {
    let mut inside: HashMap<Ticket, Wanted> = HashMap::new();
    let mut next = 0;
    let mut stopped: Option<Instant> = None;
    loop {
        let cancel = cancelled.load(Ordering::Relaxed);
        if !cancel {
            fill(executor, queue, &mut inside, &mut next)?;
        } else if stopped.is_none() {
            stopped = Some(Instant::now());
            for ticket in executor.withdraw() {
                inside.remove(&ticket);
            }
        }
        if stopped.is_some_and(|since| since.elapsed() >= GRACE) {
            return Ok(());
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
        if !finished.is_empty() {
            sound()?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use fracture_cache::{Store, StoreOptions};
    use fracture_stage::Progress;

    use super::*;

    /// Computes two rows at a time, each in so many steps; on the way it may be interrupted.
    struct Slow<'a> {
        waiting: VecDeque<Ticket>,
        running: Vec<(Ticket, u32)>,
        steps: u32,
        pause: Duration,
        taken: usize,
        interrupt_at: u32,
        done: u32,
        cancelled: &'a AtomicBool,
    }

    impl Executor for Slow<'_> {
        fn room(&self) -> u32 {
            u32::MAX
        }

        fn submit(&mut self, ticket: Ticket, _: Request) -> Result<(), Error> {
            self.taken += 1;
            self.waiting.push_back(ticket);
            Ok(())
        }

        fn step(&mut self, _: bool, done: &mut dyn FnMut(Ticket, Outcome)) -> Result<Progress, Error> {
            while self.running.len() < 2 {
                let Some(ticket) = self.waiting.pop_front() else { break };
                self.running.push((ticket, self.steps));
            }
            self.done += 1;
            if self.done == self.interrupt_at {
                self.cancelled.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(self.pause);
            self.running.iter_mut().for_each(|(_, left)| *left -= 1);
            for (ticket, _) in self.running.extract_if(.., |(_, left)| *left == 0) {
                done(ticket, Outcome::Raw(ticket.0.to_le_bytes().to_vec()));
            }
            Ok(Progress {
                active: (self.running.len() + self.waiting.len()) as u32,
                units: 1,
            })
        }

        fn withdraw(&mut self) -> Vec<Ticket> {
            self.waiting.drain(..).collect()
        }
    }

    /// How many rows landed of ten, and what became of the session.
    fn session(
        steps: u32,
        pause: Duration,
        interrupt_at: u32,
        sound: &dyn Fn() -> Result<(), Error>,
    ) -> (usize, usize, Result<(), Error>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &StoreOptions::default()).unwrap();
        let memo = Arc::new(Memo::open(&store, &Digest::from_bytes([1; 32])).unwrap());
        let (queue, cancelled) = (Queue::default(), AtomicBool::new(false));
        queue.extend((0..10).map(|row: u8| Wanted {
            row: Digest::from_bytes([row; 32]),
            request: Request {
                key: vec![row],
                cost: 1,
                payload: Arc::new(row),
            },
            memo: Arc::clone(&memo),
        }));
        let mut executor = Slow {
            waiting: VecDeque::new(),
            running: Vec::new(),
            steps,
            pause,
            taken: 0,
            interrupt_at,
            done: 0,
            cancelled: &cancelled,
        };
        let mut rows = 0;
        let result = work(&mut executor, &queue, &cancelled, sound, &mut |landed| {
            rows += landed.rows.len()
        });
        assert_eq!(executor.taken, 10);
        (rows, memo.len(), result)
    }

    #[test]
    fn an_interruption_lets_what_is_begun_finish_and_gives_back_the_rest() {
        let sound = || Ok(());
        let (rows, remembered, result) = session(3, Duration::ZERO, 4, &sound);
        assert!(result.is_ok());
        // Two were done, two were running, six waited.
        assert_eq!((rows, remembered), (4, 4));
        let (rows, remembered, _) = session(3, Duration::ZERO, u32::MAX, &sound);
        assert_eq!((rows, remembered), (10, 10));
    }

    #[test]
    fn what_takes_too_long_after_an_interruption_is_dropped() {
        let started = Instant::now();
        let (rows, _, result) = session(1_000, Duration::from_millis(50), 1, &|| Ok(()));
        assert!(result.is_ok());
        assert_eq!(rows, 0);
        assert!(started.elapsed() < 2 * GRACE, "{:?}", started.elapsed());
    }

    #[test]
    fn rows_of_files_that_changed_are_not_remembered() {
        let asked = Cell::new(0);
        let sound = || {
            asked.set(asked.get() + 1);
            match asked.get() {
                3 => Err(Error::input("it changed")),
                _ => Ok(()),
            }
        };
        let (rows, remembered, result) = session(1, Duration::ZERO, u32::MAX, &sound);
        assert!(result.is_err());
        assert_eq!((rows, remembered), (4, 4));
    }
}
