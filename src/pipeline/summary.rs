//! The counts and times of a pipeline.

use std::time::Duration;

/// The counts and times of a pipeline, from the first admission to the end of the last job.
///
/// `admitted` is the sum of `finished`, `panicked`, `stopped` and `misplaced`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Jobs that were taken from the source.
    pub admitted: u64,
    /// Jobs that ran to their own end.
    pub finished: u64,
    /// Jobs that ended with the panic of a step.
    pub panicked: u64,
    /// Jobs that a stop dropped while they waited.
    pub stopped: u64,
    /// Jobs that named a pool that doesn't exist.
    pub misplaced: u64,
    /// The counts of each pool, in the order of [`Config::pools`](super::Config::pools).
    pub pools: Vec<PoolSummary>,
    /// How long it took.
    pub wall: Duration,
}

/// The counts and times of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolSummary {
    /// Steps that ended, those that panicked included.
    pub steps: u64,
    /// How long its workers were at it, summed over them.
    pub busy: Duration,
    /// How long its steps waited for a worker, and then for the budget, summed over them.
    pub waited: Duration,
    /// How much of that was for the budget, while a worker was free.
    pub held: Duration,
}

impl Summary {
    /// Steps that ended in all pools.
    pub fn steps(&self) -> u64 {
        self.pools.iter().map(|pool| pool.steps).sum()
    }

    pub(super) fn new(pools: usize) -> Self {
        Self {
            admitted: 0,
            finished: 0,
            panicked: 0,
            stopped: 0,
            misplaced: 0,
            pools: vec![PoolSummary::default(); pools],
            wall: Duration::ZERO,
        }
    }

    /// Adds what someone else counted. The wall time is the engine's alone to set.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.finished += other.finished;
        self.panicked += other.panicked;
        self.stopped += other.stopped;
        self.misplaced += other.misplaced;
        for (pool, theirs) in self.pools.iter_mut().zip(&other.pools) {
            pool.steps += theirs.steps;
            pool.busy += theirs.busy;
            pool.waited += theirs.waited;
            pool.held += theirs.held;
        }
    }
}
