//! How much one caller may ask for: requests a second, requests at a time, streams. Counts in memory only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::config::LimitsConfig;
use super::problem::{Kind, Problem};

/// How many seconds' worth of requests may come at once.
const BURST: f64 = 3.0;

/// How many callers are remembered. Beyond it, those that have been quiet are forgotten.
const CALLERS: usize = 10_000;

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A token, by its id.
    Token(String),
    /// An address without a valid token; of IPv6 its /64, which one host may have whole.
    Address(IpAddr),
}

/// The counts.
#[derive(Debug)]
pub(super) struct Limits {
    rate: f64,
    at_a_time: usize,
    callers: Mutex<HashMap<Key, Caller>>,
    streams: Arc<Semaphore>,
}

#[derive(Debug)]
struct Caller {
    /// The requests that it may make at once.
    tokens: f64,
    counted: Instant,
    open: Arc<Semaphore>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Admitted {
    _open: OwnedSemaphorePermit,
}

/// A stream that is open.
#[derive(Debug)]
pub(super) struct StreamPermit {
    _open: OwnedSemaphorePermit,
}

impl Key {
    pub(super) fn of(address: IpAddr) -> Self {
        Self::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
        })
    }
}

impl Limits {
    pub(super) fn new(config: &LimitsConfig) -> Self {
        Self {
            rate: config.requests_per_second.into(),
            at_a_time: config.concurrent_requests,
            callers: Mutex::default(),
            streams: Arc::new(Semaphore::new(config.streams)),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The caller asks too much, with the seconds after which it may ask again.
    pub(super) fn admit(&self, key: Key) -> Result<Admitted, Problem> {
        let now = Instant::now();
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS && !callers.contains_key(&key) {
            let full = Duration::from_secs_f64(BURST);
            callers.retain(|_, caller| now.duration_since(caller.counted) < full);
            if callers.len() >= CALLERS {
                return Err(Problem::new(Kind::TooManyRequests, "too many callers at a time").retry_after(5));
            }
        }
        let most = self.rate * BURST;
        let caller = callers.entry(key).or_insert_with(|| Caller {
            tokens: most,
            counted: now,
            open: Arc::new(Semaphore::new(self.at_a_time)),
        });
        let since = now.duration_since(caller.counted).as_secs_f64();
        caller.tokens = (caller.tokens + since * self.rate).min(most);
        caller.counted = now;
        if caller.tokens < 1.0 {
            let words = format!("more than {} requests a second; wait and ask again", self.rate);
            let wait = ((1.0 - caller.tokens) / self.rate).ceil();
            // Below a few seconds: a rate is at least one a second.
            return Err(Problem::new(Kind::TooManyRequests, words).retry_after(wait as u16));
        }
        let Ok(open) = Arc::clone(&caller.open).try_acquire_owned() else {
            let words = format!("more than {} requests at a time; wait for their answers", self.at_a_time);
            return Err(Problem::new(Kind::TooManyRequests, words).retry_after(1));
        };
        caller.tokens -= 1.0;
        Ok(Admitted { _open: open })
    }

    /// Counts a stream.
    ///
    /// # Errors
    /// Too many are open.
    pub(super) fn stream(&self) -> Result<StreamPermit, Problem> {
        match Arc::clone(&self.streams).try_acquire_owned() {
            Ok(open) => Ok(StreamPermit { _open: open }),
            Err(_) => {
                Err(Problem::new(Kind::Unavailable, "too many streams are open; ask again later").retry_after(10))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::new(&LimitsConfig { requests_per_second: 2, concurrent_requests: 3, streams: 1, ..Default::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_asks_too_often_waits_and_another_does_not() {
        let limits = limits();
        let key = || Key::Token("a".into());
        for _ in 0..6 {
            limits.admit(key()).unwrap();
        }
        let refused = limits.admit(key()).unwrap_err();
        assert_eq!(refused.kind(), Kind::TooManyRequests);
        limits.admit(Key::Token("b".into())).unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        limits.admit(key()).unwrap();
        limits.admit(key()).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn requests_at_a_time_are_limited_too() {
        let limits = limits();
        let key = || Key::of("127.0.0.1".parse().unwrap());
        let open: Vec<Admitted> = (0..3).map(|_| limits.admit(key()).unwrap()).collect();
        assert!(limits.admit(key()).unwrap_err().detail().contains("at a time"));
        drop(open);
        limits.admit(key()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_one_host_is_one_caller_and_many_callers_are_forgotten() {
        let key = |text: &str| Key::of(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        let limits = limits();
        for number in 0..CALLERS {
            limits.admit(Key::Token(number.to_string())).unwrap();
        }
        limits.admit(Key::Token("new".into())).unwrap_err();
        tokio::time::advance(Duration::from_secs(4)).await;
        limits.admit(Key::Token("new".into())).unwrap();
        assert_eq!(limits.callers.lock().unwrap().len(), 1);
    }
}
