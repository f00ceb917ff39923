//! Moves work through pools of workers. Knows nothing of crates, cargo or sandboxes.
//!
//! The number of jobs between admission and their end is bounded; queues are not: op lists may send a job forth and
//! back between two pools, and bounded queues in a cycle deadlock.

mod budget;
mod engine;
mod guard;
mod queue;
pub mod sim;
mod source;
mod summary;
#[cfg(test)]
mod tests;

use std::future::Future;

use tokio::sync::watch;
use tokio::time::Instant;

pub use self::engine::run;
pub use self::source::{Each, JobEnd, Source, each};
pub use self::summary::{PoolSummary, Summary};
use crate::stop::Stop;

/// Which pool runs a step: its place in [`Config::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub usize);

/// Something that goes through the pools, one step at a time.
pub trait Work: Sized + Send + 'static {
    /// The result of a step.
    type Report: Send + 'static;
    /// A description of a step for the readers of events.
    type Tag: Clone + Send + 'static;

    /// The pool that runs the next step.
    fn pool(&self) -> PoolId;

    /// Describes the next step. Every event of the step carries this tag, even if the step panics.
    fn tag(&self) -> Self::Tag;

    /// How early the next step should run among those waiting for the same pool: greater is earlier, equals in order
    /// of arrival. Later stages should be greater, so that jobs in progress end before more start.
    fn priority(&self) -> u64;

    /// How much of [`Config::budget`] the next step needs while it runs.
    fn weight(&self) -> u64 {
        0
    }

    /// Runs one step to its end. Never an `Err`: a failure is a report, too.
    ///
    /// At [`StopLevel::Kill`](crate::stop::StopLevel::Kill) the step ends itself: the engine waits for it, and never
    /// drops it halfway.
    fn step(self, stop: Stop) -> impl Future<Output = Stepped<Self>> + Send;
}

/// The result of a step, and the job for its next one.
#[derive(Debug)]
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
    /// How many jobs may be between admission and their end: from 1 to [`Config::MAX_IN_FLIGHT`].
    pub in_flight: usize,
    /// The largest total weight of the steps that run together. A step that is heavier by itself runs alone.
    pub budget: u64,
    /// While it is high, no step starts beside those that run. Low once its sender is gone.
    pub pressure: watch::Receiver<Pressure>,
}

/// How hard pressed the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// It has room for more.
    Low,
    /// More would do harm.
    High,
}

/// A pool of workers.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name, for messages.
    pub name: String,
    /// How many steps it runs at a time: from 1 to [`Pool::MAX_WORKERS`].
    pub workers: usize,
}

/// Why a pipeline of some shape can't run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A pool has no worker, or absurdly many.
    #[error("pool `{pool}` has {workers} workers: give it from 1 to {}", Pool::MAX_WORKERS)]
    Workers {
        /// The name of the pool.
        pool: String,
        /// How many workers it should have had.
        workers: usize,
    },
    /// No job may be in flight, or absurdly many.
    #[error("{0} jobs in flight: allow from 1 to {max}", max = Config::MAX_IN_FLIGHT)]
    InFlight(usize),
}

/// A step's times, stamped by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was put in its pool's queue.
    pub queued: Instant,
    /// When a worker started it.
    pub started: Instant,
    /// When it ended.
    pub finished: Instant,
}

/// A change of state in the pipeline.
///
/// A job's events come in order: for each step `Queued`, `Started`, `Finished`. Every admitted job ends with exactly
/// one of `Finished { last: true, .. }` and `Dropped`.
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
    /// A job ended without running its next step.
    Dropped {
        /// The step.
        tag: W::Tag,
        /// Its pool; one that doesn't exist when that is the cause.
        pool: PoolId,
        /// Why.
        cause: DropCause,
        /// When.
        at: Instant,
    },
}

/// Why a job ended without running its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropCause {
    /// It was in a queue when the pipeline was stopped.
    Stopped,
    /// It names a pool that doesn't exist, a defect in the code that made it; the step was never queued.
    NoSuchPool,
}

impl Config {
    /// The most jobs that may be in flight: more than any disk has room for.
    pub const MAX_IN_FLIGHT: u32 = 1 << 20;

    /// A pipeline in which nothing but its workers limits the number of running steps.
    pub fn new(pools: Vec<Pool>, in_flight: usize) -> Self {
        Self { pools, in_flight, budget: u64::MAX, pressure: watch::channel(Pressure::Low).1 }
    }

    /// How many jobs may be in flight, in the type of permits, if the pipeline can run.
    fn check(&self) -> Result<u32, ConfigError> {
        if let Some(pool) = self.pools.iter().find(|pool| !(1..=Pool::MAX_WORKERS).contains(&pool.workers)) {
            return Err(ConfigError::Workers { pool: pool.name.clone(), workers: pool.workers });
        }
        match u32::try_from(self.in_flight) {
            Ok(in_flight @ 1..=Self::MAX_IN_FLIGHT) => Ok(in_flight),
            Ok(_) | Err(_) => Err(ConfigError::InFlight(self.in_flight)),
        }
    }
}

impl Pool {
    /// The most workers of one pool: more than any one machine can use.
    pub const MAX_WORKERS: usize = 1 << 16;
}
