//! How much is asked of a server at a time: requests side by side, requests and tokens in a minute, and a pause that
//! the server asks for. Executors of one model share it: whatever stages ask, the limits are the model's.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::model::{Limits, Model};

/// The gate of a served model.
#[derive(Debug)]
pub struct Gate {
    places: Semaphore,
    requests: Option<DefaultDirectRateLimiter>,
    tokens: Option<(DefaultDirectRateLimiter, NonZeroU32)>,
    /// Nothing is sent before.
    pause: Mutex<Option<Instant>>,
}

impl Gate {
    /// A gate of its own.
    pub fn new(limits: Limits) -> Self {
        let minute = |count: u32| NonZeroU32::new(count);
        let requests = limits.requests_per_minute.and_then(minute);
        let tokens = limits.tokens_per_minute.and_then(minute);
        Self {
            places: Semaphore::new(limits.concurrency.max(1) as usize),
            // Spread over the minute: a burst of all of them at once is what servers refuse.
            requests: requests.map(|count| RateLimiter::direct(spread(count))),
            tokens: tokens.map(|count| (RateLimiter::direct(Quota::per_minute(count)), count)),
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
        if let Some((limiter, most)) = &self.tokens {
            // One that is larger than a whole minute takes the whole minute.
            let tokens = NonZeroU32::new(tokens.clamp(1, most.get())).unwrap_or(NonZeroU32::MIN);
            let _ = limiter.until_n_ready(tokens).await;
        }
        if let Some(limiter) = &self.requests {
            limiter.until_ready().await;
        }
        let place = self.places.acquire().await.ok()?;
        loop {
            let until = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return Some(place),
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

/// At most a sixth of a minute's requests at once.
fn spread(count: NonZeroU32) -> Quota {
    let burst = NonZeroU32::new(count.get().div_ceil(6)).unwrap_or(NonZeroU32::MIN);
    Quota::per_minute(count).allow_burst(burst)
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
    fn tokens_are_counted_and_a_huge_request_is_not_stuck() {
        run(async {
            let gate = Gate::new(limits(None, Some(60_000)));
            let start = Instant::now();
            drop(gate.enter(u32::MAX).await.unwrap());
            drop(gate.enter(200).await.unwrap());
            let took = start.elapsed();
            assert!(
                took >= Duration::from_millis(150) && took < Duration::from_secs(2),
                "{took:?}"
            );
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
