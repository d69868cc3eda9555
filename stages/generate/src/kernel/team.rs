//! A team of threads that hands out small pieces of work in less than a microsecond.
//!
//! One token of a small model is some eighty products of ten to fifty microseconds each. A general pool costs several
//! microseconds a product, since its threads go to sleep in between; the helpers of a team keep looking for the next
//! piece for a moment before they sleep. Who computes a piece changes no bit: pieces write to places of their own.

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

/// Looks at the next job before a helper gives its time slice away, about 50 microseconds.
const LOOKS: u32 = 1 << 11;
/// Time slices it gives away before it sleeps.
const YIELDS: u32 = 1 << 5;

type Job = dyn Fn(usize) + Sync;

/// What the owner of a team and its helpers share.
struct Shared {
    /// The number of the job in the upper half, the pieces that nobody has taken yet in the lower.
    left: AtomicU64,
    /// The job and its pieces. Written while no piece is left and every piece that was taken is finished.
    job: UnsafeCell<Option<(*const Job, usize)>>,
    finished: AtomicUsize,
    panicked: AtomicBool,
    over: AtomicBool,
}

// SAFETY: `job` is read only by who holds a piece of it, see there; the rest is atomic.
unsafe impl Sync for Shared {}
unsafe impl Send for Shared {}

struct Helper {
    asleep: Arc<AtomicBool>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// Threads that work on one job at a time, that of their owner.
pub(crate) struct Team {
    shared: Arc<Shared>,
    /// It works for some thread.
    taken: AtomicBool,
    helpers: Vec<Helper>,
}

thread_local! {
    /// The team that works for this thread, if any and if it is idle.
    static CURRENT: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
}

impl Team {
    /// A team of `threads`, the one that gives the work included.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            left: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            finished: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let mut team = Self {
            shared,
            taken: AtomicBool::new(false),
            helpers: Vec::new(),
        };
        for number in 1..threads {
            let (shared, asleep) = (team.shared.clone(), Arc::new(AtomicBool::new(false)));
            let own = asleep.clone();
            let handle = std::thread::Builder::new()
                .name(format!("generate-{number}"))
                .spawn(move || help(&shared, &own))?;
            let thread = handle.thread().clone();
            team.helpers.push(Helper {
                asleep,
                thread,
                handle: Some(handle),
            });
        }
        Ok(team)
    }

    /// The threads, the owner included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs `work`, whose [`scatter`]s this team shares. While it works for another thread already, `work` has no team.
    pub fn install<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.taken.swap(true, Ordering::Acquire) {
            let _alone = Restore::set(std::ptr::null());
            return work();
        }
        let _free = Free(&self.taken);
        let _restore = Restore::set(self);
        work()
    }

    /// Runs pieces `0..pieces` and returns when all are finished.
    fn run(&self, pieces: usize, job: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: no job is running (`CURRENT` is empty while one is), so nobody reads `job`; what is borrowed outlives
        // the call, which ends when every piece is finished.
        unsafe {
            *shared.job.get() = Some((
                std::mem::transmute::<*const (dyn Fn(usize) + Sync), *const Job>(job),
                pieces,
            ));
        }
        shared.finished.store(0, Ordering::Relaxed);
        let number = (shared.left.load(Ordering::Relaxed) >> 32).wrapping_add(1) & u64::from(u32::MAX);
        shared.left.store(number << 32 | pieces as u64, Ordering::SeqCst);
        for helper in &self.helpers {
            if helper.asleep.load(Ordering::SeqCst) {
                helper.thread.unpark();
            }
        }
        let mut panic = None;
        while let Some(piece) = take(shared) {
            // SAFETY: the piece was taken.
            if let Err(cause) = catch_unwind(AssertUnwindSafe(|| unsafe { perform(shared, piece) })) {
                panic = Some(cause);
            }
            shared.finished.fetch_add(1, Ordering::Release);
        }
        let mut looks = 0;
        while shared.finished.load(Ordering::Acquire) < pieces {
            looks += 1;
            match looks < LOOKS {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        }
        if let Some(cause) = panic {
            resume_unwind(cause);
        }
        assert!(
            !shared.panicked.swap(false, Ordering::Relaxed),
            "a helper thread panicked"
        );
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for helper in &mut self.helpers {
            helper.thread.unpark();
            if let Some(handle) = helper.handle.take() {
                let _ = handle.join();
            }
        }
    }
}

/// Lets the next thread have the team.
struct Free<'a>(&'a AtomicBool);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Puts back the team that was current.
struct Restore(*const Team);

impl Restore {
    fn set(team: *const Team) -> Self {
        Self(CURRENT.replace(team))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Takes a piece of the running job, if any is left: its number counts down to one.
fn take(shared: &Shared) -> Option<usize> {
    let mut left = shared.left.load(Ordering::Acquire);
    loop {
        let pieces = left & u64::from(u32::MAX);
        if pieces == 0 {
            return None;
        }
        match shared
            .left
            .compare_exchange_weak(left, left - 1, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => return Some(pieces as usize),
            Err(now) => left = now,
        }
    }
}

/// # Safety
/// The piece was taken and is not finished: until then the job stays.
unsafe fn perform(shared: &Shared, left: usize) {
    // SAFETY: the owner writes here only when all pieces are finished.
    if let Some((job, pieces)) = unsafe { *shared.job.get() } {
        unsafe { (*job)(pieces - left) };
    }
}

fn help(shared: &Shared, asleep: &AtomicBool) {
    let mut idle = 0;
    while !shared.over.load(Ordering::Relaxed) {
        if let Some(piece) = take(shared) {
            // SAFETY: the piece was taken.
            if catch_unwind(AssertUnwindSafe(|| unsafe { perform(shared, piece) })).is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
            shared.finished.fetch_add(1, Ordering::Release);
            idle = 0;
            continue;
        }
        idle += 1;
        if idle < LOOKS {
            std::hint::spin_loop();
        } else if idle < LOOKS + YIELDS {
            std::thread::yield_now();
        } else {
            asleep.store(true, Ordering::SeqCst);
            let nothing = shared.left.load(Ordering::SeqCst) & u64::from(u32::MAX) == 0;
            if nothing && !shared.over.load(Ordering::SeqCst) {
                std::thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

/// Runs `piece(0)`, `piece(1)`, .. `piece(pieces - 1)`, each once, in any order: on the team that is installed on this
/// thread if `threads` allows more than one, else one after the other. Inside a piece there is no team.
pub(crate) fn scatter(threads: usize, pieces: usize, piece: impl Fn(usize) + Sync) {
    let team = CURRENT.get();
    if threads <= 1 || pieces <= 1 || team.is_null() {
        return (0..pieces).for_each(piece);
    }
    let _busy = Restore::set(std::ptr::null());
    // SAFETY: `install` holds the team while it is current.
    unsafe { &*team }.run(pieces, &piece);
}

/// [`scatter`] over runs of `length` items, the last one perhaps shorter: `piece` gets each run and its number.
pub(crate) fn scatter_mut<T: Send>(
    threads: usize,
    items: &mut [T],
    length: usize,
    piece: impl Fn(usize, &mut [T]) + Sync,
) {
    let count = items.len();
    let base = Base(items.as_mut_ptr(), PhantomData);
    scatter(threads, count.div_ceil(length.max(1)), |number| {
        let from = number * length;
        // SAFETY: runs do not overlap and lie inside `items`; each is handed out once.
        let run = unsafe { std::slice::from_raw_parts_mut(base.get().add(from), length.min(count - from)) };
        piece(number, run);
    });
}

struct Base<'a, T>(*mut T, PhantomData<&'a mut [T]>);

// SAFETY: what it points to goes to one thread each.
unsafe impl<T: Send> Sync for Base<'_, T> {}

impl<T> Base<'_, T> {
    fn get(&self) -> *mut T {
        self.0
    }
}
