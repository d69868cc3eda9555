//! How much is asked of a server at a time: requests side by side, requests and tokens in a minute, and a pause that
//! the server asks for. Executors of one model share it: whatever stages ask, the limits are the model's.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until};

use crate::model::{Limits, Model};

/// A second more than a minute: of two requests the later one may be the first to arrive.
const MINUTE: Duration = Duration::from_secs(61);

/// The gate of a served model.
#[derive(Debug)]
pub struct Gate {
    places: Semaphore,
    requests: Option<Pace>,
    tokens: Option<Pace>,
    /// Nothing is sent before.
    pause: Mutex<Option<Instant>>,
}

impl Gate {
    /// A gate of its own.
    pub fn new(limits: Limits) -> Self {
        Self::within(MINUTE, limits)
    }

    fn within(minute: Duration, limits: Limits) -> Self {
        let pace = |count: Option<u32>| count.and_then(NonZeroU32::new).map(|count| Pace::new(count, minute));
        Self {
            places: Semaphore::new(limits.concurrency.max(1) as usize),
            requests: pace(limits.requests_per_minute),
            tokens: pace(limits.tokens_per_minute),
            pause: Mutex::default(),
        }
    }

    /// The gate that everybody in this process has who asks this model.
    pub fn of(model: &Model) -> Arc<Self> {
        static GATES: OnceLock<Mutex<HashMap<String, Weak<Gate>>>> = OnceLock::new();
        let gates = GATES.get_or_init(Mutex::default);
        let mut gates = gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| gate.strong_count() > 0);
        let name = model.connection();
        if let Some(gate) = gates.get(&name).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::new(Self::new(model.limits));
        gates.insert(name, Arc::downgrade(&gate));
        gate
    }

    /// Waits until a request of about so many tokens may be sent; the place is free again when what is given is
    /// dropped.
    pub async fn enter(&self, tokens: u32) -> Option<SemaphorePermit<'_>> {
        // What is counted is sent at once: rows that were counted and then wait would be sent together.
        let place = self.places.acquire().await.ok()?;
        self.paused().await;
        if let Some(pace) = &self.tokens {
            pace.take(tokens).await;
        }
        if let Some(pace) = &self.requests {
            pace.take(1).await;
        }
        self.paused().await;
        Some(place)
    }

    async fn paused(&self) {
        loop {
            let until = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Nothing is sent for so long: a server that asked one request to wait means all.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if pause.is_none_or(|before| before < until) {
            *pause = Some(until);
        }
    }
}

/// So many in any minute, the first one included.
#[derive(Debug)]
struct Pace {
    most: u32,
    minute: Duration,
    /// Spreads them: a burst of all of a minute at once is what servers refuse.
    spread: DefaultDirectRateLimiter,
    /// The most at once.
    burst: NonZeroU32,
    /// What was taken in the last minute, and when. Whoever waits holds it, so that nobody is overtaken for ever.
    taken: tokio::sync::Mutex<VecDeque<(Instant, u32)>>,
}

impl Pace {
    fn new(count: NonZeroU32, minute: Duration) -> Self {
        let burst = NonZeroU32::new(count.get().div_ceil(6)).unwrap_or(NonZeroU32::MIN);
        let period = (minute / count.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_minute(count));
        Self {
            most: count.get(),
            minute,
            spread: RateLimiter::direct(quota.allow_burst(burst)),
            burst,
            taken: tokio::sync::Mutex::default(),
        }
    }

    /// Waits until there is room. One that is larger than a whole minute takes the whole minute.
    async fn take(&self, count: u32) {
        let mut taken = self.taken.lock().await;
        let spread = NonZeroU32::new(count).map_or(NonZeroU32::MIN, |count| count.min(self.burst));
        // It never fails: what is asked is no more than a burst.
        let _ = self.spread.until_n_ready(spread).await;
        let count = count.clamp(1, self.most);
        loop {
            while taken.front().is_some_and(|(at, _)| at.elapsed() >= self.minute) {
                taken.pop_front();
            }
            let sum: u64 = taken.iter().map(|(_, count)| u64::from(*count)).sum();
            match taken.front() {
                Some((at, _)) if sum + u64::from(count) > self.most.into() => {
                    sleep(self.minute.saturating_sub(at.elapsed())).await;
                }
                _ => break,
            }
        }
        taken.push_back((Instant::now(), count));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn limits(requests: Option<u32>, tokens: Option<u32>) -> Limits {
        Limits {
            concurrency: 2,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn requests_are_spread_over_the_minute() {
        run(async {
            // 600 a minute: 100 at once, then one each 100 ms.
            let gate = Gate::new(limits(Some(600), None));
            let start = Instant::now();
            for _ in 0..102 {
                drop(gate.enter(1).await.unwrap());
            }
            let took = start.elapsed();
            assert!(
                took >= Duration::from_millis(150) && took < Duration::from_secs(2),
                "{took:?}"
            );
        });
    }

    #[test]
    fn no_minute_holds_more_than_was_said_and_none_is_wasted() {
        // A minute of 300 ms. The first burst is of that minute, too.
        const SHORT: Duration = Duration::from_millis(300);
        for (limits, each, most) in [(limits(Some(12), None), 1, 12), (limits(None, Some(120)), 20, 6)] {
            run(async {
                let gate = Gate::within(SHORT, limits);
                let mut sent: Vec<Instant> = Vec::new();
                for _ in 0..2 * most + 1 {
                    drop(gate.enter(each).await.unwrap());
                    sent.push(Instant::now());
                }
                for window in sent.windows(most + 1) {
                    let took = window[most] - window[0];
                    assert!(took >= SHORT - Duration::from_millis(2), "{took:?}");
                }
                let took = sent[2 * most] - sent[0];
                assert!(took < 3 * SHORT, "two minutes and one more request: {took:?}");
            });
        }
    }

    #[test]
    fn tokens_are_counted_and_a_huge_request_is_not_stuck() {
        run(async {
            const SHORT: Duration = Duration::from_millis(200);
            let gate = Gate::within(SHORT, limits(None, Some(60_000)));
            let start = Instant::now();
            drop(gate.enter(u32::MAX).await.unwrap());
            assert!(start.elapsed() < SHORT / 2);
            drop(gate.enter(200).await.unwrap());
            let took = start.elapsed();
            assert!(took >= SHORT && took < Duration::from_secs(2), "{took:?}");
        });
    }

    #[test]
    fn places_are_given_back_and_a_pause_holds_all() {
        run(async {
            let gate = Gate::new(limits(None, None));
            let (one, two) = (gate.enter(1).await, gate.enter(1).await);
            let third = tokio::time::timeout(Duration::from_millis(30), gate.enter(1)).await;
            assert!(third.is_err(), "two at a time");
            drop((one, two));
            gate.pause(Duration::from_millis(80));
            gate.pause(Duration::from_millis(1));
            let start = Instant::now();
            drop(gate.enter(1).await);
            assert!(start.elapsed() >= Duration::from_millis(75));
        });
    }
}
