//! Moves work through pools of workers. Knows nothing of crates, cargo or sandboxes.

use std::future::Future;

use tokio::time::Instant;

use crate::stop::Stop;

/// Which pool runs a step: its place in [`Config::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub usize);

/// Something that goes through the pools, one step at a time.
pub trait Work: Sized + Send + 'static {
    /// What a step reports.
    type Report: Send + 'static;
    /// What the next step is, in words for whoever watches.
    type Tag: Clone + Send + 'static;

    /// The pool that runs the next step.
    fn pool(&self) -> PoolId;

    /// What the next step is. Every event of the step carries it, even if the step panics.
    fn tag(&self) -> Self::Tag;

    /// How early the next step should run among those waiting for the same pool: greater is earlier, equals in order
    /// of arrival. Later stages should be greater, so that what is started ends before more starts.
    fn priority(&self) -> u64;

    /// Runs one step to its end. Never an `Err`: whatever happened is the report.
    fn step(self, stop: Stop) -> impl Future<Output = Stepped<Self>> + Send;
}

/// What came of a step.
pub struct Stepped<W: Work> {
    /// The report.
    pub report: W::Report,
    /// The work, if it has more steps.
    pub next: Option<W>,
}

/// The shape of a pipeline.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pools; [`PoolId`] is the place in this list.
    pub pools: Vec<Pool>,
    /// How many jobs may be between admission and their end.
    pub in_flight: usize,
}

/// A pool of workers.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name, for whoever watches.
    pub name: String,
    /// How many steps it runs at a time; at least 1.
    pub workers: usize,
}

/// A step's times, stamped by the engine.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// When it was put in its pool's queue.
    pub queued: Instant,
    /// When a worker took it.
    pub started: Instant,
    /// When it ended.
    pub finished: Instant,
}

/// What happens in the pipeline.
#[derive(Debug)]
pub enum Event<W: Work> {
    /// A step waits for its pool.
    Queued {
        /// The step.
        tag: W::Tag,
        /// Its pool.
        pool: PoolId,
        /// When.
        at: Instant,
    },
    /// A worker took a step.
    Started {
        /// The step.
        tag: W::Tag,
        /// Its pool.
        pool: PoolId,
        /// The worker's number in the pool, from 0.
        worker: usize,
        /// When.
        at: Instant,
    },
    /// A step ended.
    Finished {
        /// The step.
        tag: W::Tag,
        /// Its pool.
        pool: PoolId,
        /// The worker's number in the pool, from 0.
        worker: usize,
        /// When it was queued, started and finished.
        times: Times,
        /// The report, or the message of the panic that ended the step and its job.
        report: Result<W::Report, String>,
        /// Whether the job has no further step.
        last: bool,
    },
}
