//! Work that may hold so much memory and take so much time, and no more.
//!
//! The template engine counts instructions, but one instruction may double a text, and forty of them make it a
//! terabyte; so may a filter, a list that repeats itself, or a constant that is computed while the template is
//! compiled. What all of them do is allocate, so that is where the bound is: [`within`] runs the work on a thread of
//! its own, whose allocations the program's allocator counts. An allocator may neither fail (Rust ends the process)
//! nor unwind, but it may wait: at the bound the thread stops in it for good, with what it holds, and whoever asked
//! is told. The caller must not ask again for the same work: each refusal keeps up to the bound.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most that a piece of work may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that it may hold at a time.
    pub memory: usize,
    /// How long it may take.
    pub time: Duration,
}

/// Enough for any template that renders a conversation: the text itself may have 16 MB.
pub const TEMPLATE: Limits = Limits {
    memory: 256 << 20,
    time: Duration::from_secs(60),
};

/// The limit at which the work was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// It wanted more memory than this, in bytes.
    Memory(usize),
    /// It took longer than this.
    Time(Duration),
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "it needs more than {} MB of memory", bytes >> 20),
            Self::Time(time) => write!(f, "it takes longer than {} s", time.as_secs_f64()),
        }
    }
}

/// How often the caller looks whether the work has come to its bound. What ends well is told at once.
const LOOK: Duration = Duration::from_millis(5);
/// As the main thread's: templates may nest.
const STACK: usize = 8 << 20;
const UNBOUNDED: isize = isize::MAX;

/// What a caller and the thread tell each other.
#[derive(Default)]
struct Bound {
    /// The thread came to its limit and stopped.
    stopped: AtomicBool,
    /// The thread shall stop when it allocates again.
    stop: AtomicBool,
}

thread_local! {
    /// Bytes that this thread may still allocate.
    static LEFT: Cell<isize> = const { Cell::new(UNBOUNDED) };
    static BOUND: Cell<*const Bound> = const { Cell::new(ptr::null()) };
}

/// Does the work within the limits, on a thread of its own. A panic goes on in the caller.
///
/// # Errors
/// The limit to which the work came.
pub fn within<T: Send + 'static>(limits: Limits, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Exceeded> {
    let bound = Arc::new(Bound::default());
    let (sender, receiver) = mpsc::channel();
    let held = Arc::clone(&bound);
    let begun = Instant::now();
    let spawned = hand_over(Box::new(move || {
        // The thread keeps `held` for as long as it may look at it, which is for good once it has stopped.
        BOUND.set(Arc::as_ptr(&held));
        LEFT.set(isize::try_from(limits.memory).unwrap_or(UNBOUNDED - 1));
        let outcome = catch_unwind(AssertUnwindSafe(work));
        LEFT.set(UNBOUNDED);
        BOUND.set(ptr::null());
        // Nobody listens any more where the time was over.
        Box::new(move || drop(sender.send(outcome)))
    }));
    if let Err(error) = spawned {
        resume_unwind(Box::new(format!("no thread for a template: {error}")));
    }
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) if bound.stopped.load(Ordering::Acquire) => {
                return Err(Exceeded::Memory(limits.memory));
            }
            Err(RecvTimeoutError::Timeout) if begun.elapsed() > limits.time => {
                bound.stop.store(true, Ordering::Release);
                return Err(Exceeded::Time(limits.time));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => resume_unwind(Box::new("a template's thread ended")),
        }
    }
}

/// Work for a thread, and what it does last: by then it may be given more.
type Job = Box<dyn FnOnce() -> Box<dyn FnOnce()> + Send>;

/// Threads that wait for work. One that stopped never comes back.
static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<Sender<Job>>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives work to a thread that waits, or to a new one: to start a thread takes longer than to render most templates.
fn hand_over(job: Job) -> io::Result<()> {
    let waiting = idle().pop();
    let job = match waiting {
        None => job,
        Some(thread) => match thread.send(job) {
            Ok(()) => return Ok(()),
            Err(back) => back.0,
        },
    };
    let (sender, jobs) = mpsc::channel::<Job>();
    let work = move || {
        let mut next = Some(job);
        while let Some(job) = next.take().or_else(|| jobs.recv().ok()) {
            let last = job();
            idle().push(sender.clone());
            last();
        }
    };
    let thread = thread::Builder::new().name("bounded".to_owned()).stack_size(STACK);
    thread.spawn(work).map(drop)
}

/// The system's allocator, which counts for threads that have a bound.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Takes bytes (a negative number gives them back); stops the thread where there are not so many.
#[inline]
fn take(bytes: isize) {
    let left = LEFT.get();
    if left != UNBOUNDED {
        taken(left.saturating_sub(bytes).min(UNBOUNDED - 1), bytes > 0);
    }
}

#[cold]
fn taken(left: isize, more: bool) {
    LEFT.set(left);
    // SAFETY: a thread with a bound keeps what the pointer points to.
    let bound = unsafe { &*BOUND.get() };
    // A panic is on its way to the caller, perhaps with a lock in its hands, and ends.
    if more && (left < 0 || bound.stop.load(Ordering::Acquire)) && !thread::panicking() {
        // Whatever waiting allocates is not counted.
        LEFT.set(UNBOUNDED);
        bound.stopped.store(true, Ordering::Release);
        loop {
            thread::park();
        }
    }
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: the system's allocator does the work; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(size(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(size(layout.size()));
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        take(size(new) - size(layout.size()));
        unsafe { System.realloc(old, layout, new) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        take(-size(layout.size()));
        unsafe { System.dealloc(old, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits {
        memory: 4 << 20,
        time: Duration::from_millis(300),
    };

    #[test]
    fn what_stays_within_gives_its_result() {
        // What is given back may be taken again: 100 MB in all, 1 MB at a time.
        let work = || (0..100).map(|at| vec![1_u8; 1 << 20][at]).map(u32::from).sum::<u32>();
        assert_eq!(within(SMALL, work), Ok(100));
    }

    #[test]
    fn what_grows_is_stopped_wherever_it_grows() {
        let doubling = || (0..60).fold("x".to_owned(), |text, _| text.clone() + &text).len();
        assert_eq!(within(SMALL, doubling), Err(Exceeded::Memory(4 << 20)));
        let at_once = || std::hint::black_box(Vec::<u8>::with_capacity(1 << 50)).len();
        assert_eq!(within(SMALL, at_once), Err(Exceeded::Memory(4 << 20)));
        let zeroed = || std::hint::black_box(vec![0_u8; 1 << 40]).len();
        assert_eq!(within(SMALL, zeroed), Err(Exceeded::Memory(4 << 20)));
        let pushing = || {
            (0_u64..1 << 40)
                .fold(Vec::new(), |mut all, at| {
                    all.push(at);
                    all
                })
                .len()
        };
        assert_eq!(within(SMALL, pushing), Err(Exceeded::Memory(4 << 20)));
        // The caller has no bound.
        assert_eq!(vec![1_u8; 64 << 20].len(), 64 << 20);
    }

    #[test]
    fn what_does_not_end_is_stopped() {
        let stopped = within(SMALL, || {
            loop {
                drop(std::hint::black_box(Box::new(1)));
            }
        });
        assert_eq!(stopped, Err::<(), _>(Exceeded::Time(SMALL.time)));
        assert_eq!(Exceeded::Time(SMALL.time).to_string(), "it takes longer than 0.3 s");
        assert_eq!(
            Exceeded::Memory(SMALL.memory).to_string(),
            "it needs more than 4 MB of memory"
        );
    }

    #[test]
    fn a_panic_is_the_callers() {
        let outcome = catch_unwind(|| within(SMALL, || std::panic::panic_any("from inside")));
        assert_eq!(
            outcome.err().and_then(|panic| panic.downcast_ref::<&str>().copied()),
            Some("from inside")
        );
    }
}
