//! Cores that are shared evenly, as the kernel shares them: when ops want more of them than there are, all are slowed
//! down by the same factor.
//!
//! Kept cheap by a second clock, of service: it runs at full speed while there are enough cores, and slower by the
//! factor when there aren't. Each computation ends at a fixed time of that clock, so that a change of speed moves none
//! of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// The cores.
pub(super) struct Cpu {
    cores: f64,
    state: Mutex<State>,
    /// Notified when a computation begins.
    begun: Notify,
}

struct State {
    /// When the clock of service was last set.
    at: Instant,
    /// The value of the shared clock at that time.
    service: Duration,
    /// How many cores are wanted.
    wanted: f64,
    computing: BinaryHeap<Reverse<Computing>>,
}

struct Computing {
    until: Duration,
    cores: f64,
    done: oneshot::Sender<()>,
}

impl Cpu {
    pub(super) fn new(cores: usize) -> Self {
        let state = State { at: Instant::now(), service: Duration::ZERO, wanted: 0.0, computing: BinaryHeap::new() };
        Self { cores: cores as f64, state: Mutex::new(state), begun: Notify::new() }
    }

    /// Occupies `cores` cores for `compute` of CPU time; takes longer when the cores are contended. Needs a running
    /// [`serve`](Self::serve).
    pub(super) async fn compute(&self, compute: Duration, cores: f64) {
        let (done, ended) = oneshot::channel();
        {
            let mut state = self.state();
            state.set_clock(self.cores);
            state.wanted += cores;
            let until = state.service + compute;
            state.computing.push(Reverse(Computing { until, cores, done }));
        }
        self.begun.notify_one();
        // The server outlives the engine, and so every computation.
        let _ = ended.await;
    }

    /// Ends computations as their times pass. Never returns.
    pub(super) async fn serve(&self) {
        loop {
            let next = {
                let mut state = self.state();
                state.set_clock(self.cores);
                state.end_what_is_done();
                let left = state.computing.peek().map(|Reverse(first)| first.until - state.service);
                left.map(|left| left.mul_f64(state.slowdown(self.cores)))
            };
            match next {
                None => self.begun.notified().await,
                Some(next) => tokio::select! {
                    () = tokio::time::sleep(next) => {}
                    () = self.begun.notified() => {}
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn slowdown(&self, cores: f64) -> f64 {
        (self.wanted / cores).max(1.0)
    }

    fn set_clock(&mut self, cores: f64) {
        let now = Instant::now();
        self.service += (now - self.at).div_f64(self.slowdown(cores));
        self.at = now;
    }

    fn end_what_is_done(&mut self) {
        while self.computing.peek().is_some_and(|Reverse(first)| first.until <= self.service) {
            if let Some(Reverse(Computing { cores, done, .. })) = self.computing.pop() {
                self.wanted -= cores;
                // An op that was dropped has no receiver.
                let _ = done.send(());
            }
        }
        if self.computing.is_empty() {
            // Sums of floats drift.
            self.wanted = 0.0;
        }
    }
}

impl Ord for Computing {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.until.cmp(&other.until)
    }
}

impl PartialOrd for Computing {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Computing {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until
    }
}

impl Eq for Computing {}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of some computations, given as (begin, seconds, cores), ends.
    async fn ends<const N: usize>(cores: usize, computations: [(u64, u64, f64); N]) -> Vec<f64> {
        let cpu = Cpu::new(cores);
        let begun = Instant::now();
        let run = async |(begin, seconds, wanted): (u64, u64, f64)| {
            tokio::time::sleep(Duration::from_secs(begin)).await;
            cpu.compute(Duration::from_secs(seconds), wanted).await;
            (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0
        };
        let mut all = std::pin::pin!(join(computations.map(run)));
        tokio::select! {
            () = cpu.serve() => unreachable!("it serves for ever"),
            ends = &mut all => ends,
        }
    }

    async fn join<const N: usize>(futures: [impl Future<Output = f64>; N]) -> Vec<f64> {
        let mut futures = futures.map(Box::pin);
        let mut ends: Vec<Option<f64>> = vec![None; N];
        std::future::poll_fn(|context| {
            for (future, end) in futures.iter_mut().zip(&mut ends) {
                if end.is_none()
                    && let std::task::Poll::Ready(at) = future.as_mut().poll(context)
                {
                    *end = Some(at);
                }
            }
            if ends.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        ends.into_iter().flatten().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn enough_cores_slow_nobody_down() {
        assert_eq!(ends(4, [(0, 10, 1.0), (0, 20, 2.0), (5, 10, 1.0)]).await, [10.0, 20.0, 15.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn too_few_cores_slow_all_down_by_the_same_factor() {
        assert_eq!(ends(2, [(0, 10, 1.0), (0, 10, 1.0), (0, 10, 2.0)]).await, [20.0, 20.0, 20.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_and_goes_changes_the_speed_of_the_others() {
        // Alone for 10 s, two on the core until the second has its 5 s at 20 s, then alone again.
        assert_eq!(ends(1, [(0, 20, 1.0), (10, 5, 1.0)]).await, [25.0, 20.0]);
    }
}
