//! The engine of a server without NATS: queues and leases in memory, gone with the process.
//!
//! Behaves as a work queue of JetStream does, on tokio's clock: a lease that runs out puts its job at the front, and a
//! job that was published a moment ago is not taken in a second time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{JobId, Queue, Receipt, Taken, Times, Waiting};

/// Queues and leases in memory.
#[derive(Debug, Default)]
pub struct Here {
    times: Times,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<Queue, Jobs>,
    /// The number of the next delivery.
    next: u64,
    leases: HashMap<u64, Lease>,
    /// When leases run out and returned jobs are to be taken again, by the numbers of their deliveries.
    due: BTreeSet<(Instant, u64)>,
    /// The messages of the last moments.
    known: HashSet<(JobId, u32)>,
    /// The same by time.
    recent: VecDeque<(Instant, JobId, u32)>,
}

#[derive(Debug, Default)]
struct Jobs {
    /// Jobs that were delivered before, which go first.
    again: VecDeque<JobId>,
    fresh: VecDeque<JobId>,
    leased: usize,
}

#[derive(Debug)]
struct Lease {
    job: JobId,
    queue: Queue,
    until: Instant,
}

impl Here {
    /// An engine without jobs.
    pub fn new(times: Times) -> Self {
        Self { times, state: Mutex::default() }
    }

    pub(super) fn publish(&self, queue: Queue, round: u32, jobs: &[Waiting]) {
        let mut state = self.state();
        let now = Instant::now();
        state.forget_published_before(now.checked_sub(self.times.duplicates));
        for Waiting { job, .. } in jobs {
            if state.known.insert((*job, round)) {
                state.recent.push_back((now, *job, round));
                state.queues.entry(queue).or_default().fresh.push_back(*job);
            }
        }
    }

    pub(super) fn take(&self, queue: Queue, most: usize) -> Vec<Taken> {
        let mut state = self.state();
        let now = Instant::now();
        state.take_back_due(now);
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(jobs) = state.queues.get_mut(&queue) else { break };
            let Some(job) = jobs.again.pop_front().or_else(|| jobs.fresh.pop_front()) else { break };
            jobs.leased += 1;
            let until = now + self.times.lease;
            let number = state.next;
            state.next += 1;
            state.leases.insert(number, Lease { job, queue, until });
            state.due.insert((until, number));
            taken.push(Taken { job, receipt: Receipt(number.to_string()) });
        }
        taken
    }

    pub(super) fn renew(&self, receipt: &Receipt) {
        self.state().set_due(receipt, Instant::now() + self.times.lease);
    }

    pub(super) fn put_back(&self, receipt: &Receipt, delay: Duration) {
        self.state().set_due(receipt, Instant::now() + delay);
    }

    pub(super) fn end(&self, receipt: &Receipt) {
        let mut state = self.state();
        let Some(lease) = number(receipt).and_then(|number| state.leases.remove_entry(&number)) else { return };
        let (number, Lease { queue, until, .. }) = lease;
        state.due.remove(&(until, number));
        if let Some(jobs) = state.queues.get_mut(&queue) {
            jobs.leased -= 1;
        }
    }

    pub(super) fn held(&self, queue: Queue) -> u64 {
        let state = self.state();
        let held = |jobs: &Jobs| jobs.again.len() + jobs.fresh.len() + jobs.leased;
        state.queues.get(&queue).map_or(0, held) as u64
    }

    pub(super) fn forget(&self, experiment: u32, generation: u32) {
        let mut state = self.state();
        let State { queues, leases, due, .. } = &mut *state;
        let is_of = |queue: &Queue| (queue.experiment, queue.generation) == (experiment, generation);
        queues.retain(|queue, _| !is_of(queue));
        for (number, lease) in leases.extract_if(|_, lease| is_of(&lease.queue)) {
            due.remove(&(lease.until, number));
        }
    }

    /// The state is whole between any two statements that could panic, so a poisoned lock changes nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_due(&mut self, receipt: &Receipt, due: Instant) {
        let Some(number) = number(receipt) else { return };
        let Some(lease) = self.leases.get_mut(&number) else { return };
        self.due.remove(&(lease.until, number));
        lease.until = due;
        self.due.insert((due, number));
    }

    /// Ends the leases that have run out, and returns their jobs to their queues.
    fn take_back_due(&mut self, now: Instant) {
        while let Some((until, number)) = self.due.first().copied().filter(|(until, _)| *until <= now) {
            self.due.remove(&(until, number));
            let Some(Lease { job, queue, .. }) = self.leases.remove(&number) else { continue };
            if let Some(jobs) = self.queues.get_mut(&queue) {
                jobs.leased -= 1;
                jobs.again.push_back(job);
            }
        }
    }

    fn forget_published_before(&mut self, moment: Option<Instant>) {
        while let Some((at, job, round)) = self.recent.front().copied().filter(|(at, ..)| Some(*at) < moment) {
            debug_assert!(Some(at) < moment);
            self.recent.pop_front();
            self.known.remove(&(job, round));
        }
    }
}

fn number(receipt: &Receipt) -> Option<u64> {
    receipt.0.parse().ok()
}
