//! Which jobs wait, and who has a lease until when: the engine below the dispatcher.
//!
//! Has job numbers only. The feeder and the sweep publish lost jobs again, for SQLite owns the truth:
//! so a job may come twice, and the dispatcher checks each one that is taken. Two engines: [`Here`], in memory, and
//! [`Nats`], a work queue of NATS JetStream.

mod here;
mod nats;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::time::Duration;

pub use here::Here;
pub use nats::{Nats, NatsError, Server, find_server};
pub use token::{BadToken, Claims, Key};

/// One crate of an experiment, in one of its generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// The experiment's number.
    pub experiment: u32,
    /// Which time the experiment runs.
    pub generation: u32,
    /// The crate's place in the plan.
    pub position: u32,
}

/// Which agents a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Any agent.
    Std,
    /// Agents with much memory.
    Big,
    /// Any agent but one, which ran the crate before.
    Confirm {
        /// Its number.
        not: u32,
    },
}

/// The jobs of one lane of an experiment: they wait in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue {
    /// The experiment's number.
    pub experiment: u32,
    /// Which time the experiment runs.
    pub generation: u32,
    /// The lane.
    pub lane: Lane,
}

/// What identifies a delivery of a job to the engine. Only the engine that made it can read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

/// A job that was taken: a lease of it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The job.
    pub job: JobId,
    /// What renews and ends the lease.
    pub receipt: Receipt,
}

/// A job to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The job.
    pub job: JobId,
    /// A part of the lane, 0 to 63, for agents that have its dependencies; lane `confirm` has none.
    pub shard: u8,
}

/// The times of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How long a lease lasts without a renewal.
    pub lease: Duration,
    /// How long a job that was published is not taken in a second time.
    pub duplicates: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { lease: Duration::from_secs(120), duplicates: Duration::from_secs(120) }
    }
}

/// An engine.
#[derive(Debug)]
pub enum Engine {
    /// In the memory of this process.
    Here(Here),
    /// NATS JetStream.
    Nats(Nats),
}

impl Engine {
    /// Puts jobs in a queue, in this order. `round` is 0, or another number for jobs that were lost: a job of the same
    /// round is taken in once within [`Times::duplicates`].
    pub async fn publish(&self, queue: Queue, round: u32, jobs: &[Waiting]) -> Result<(), NatsError> {
        match self {
            Self::Here(here) => {
                here.publish(queue, round, jobs);
                Ok(())
            }
            Self::Nats(nats) => nats.publish(queue, round, jobs).await,
        }
    }

    /// Takes jobs out of a queue, at most `most`, without waiting for any.
    pub async fn take(&self, queue: Queue, most: usize) -> Result<Vec<Taken>, NatsError> {
        match self {
            Self::Here(here) => Ok(here.take(queue, most)),
            Self::Nats(nats) => nats.take(queue, most).await,
        }
    }

    /// Restarts the time of a lease. An engine that has forgotten the lease does nothing.
    pub async fn renew(&self, receipt: &Receipt) -> Result<(), NatsError> {
        match self {
            Self::Here(here) => {
                here.renew(receipt);
                Ok(())
            }
            Self::Nats(nats) => nats.renew(receipt).await,
        }
    }

    /// Ends a job: it is not taken again.
    pub async fn end(&self, receipt: &Receipt) -> Result<(), NatsError> {
        match self {
            Self::Here(here) => {
                here.end(receipt);
                Ok(())
            }
            Self::Nats(nats) => nats.end(receipt).await,
        }
    }

    /// Puts a job back into its queue, to be taken again once this long has passed.
    pub async fn put_back(&self, receipt: &Receipt, delay: Duration) -> Result<(), NatsError> {
        match self {
            Self::Here(here) => {
                here.put_back(receipt, delay);
                Ok(())
            }
            Self::Nats(nats) => nats.put_back(receipt, delay).await,
        }
    }

    /// How many jobs of a queue are published and not ended, leased ones included.
    pub async fn held(&self, queue: Queue) -> Result<u64, NatsError> {
        match self {
            Self::Here(here) => Ok(here.held(queue)),
            Self::Nats(nats) => nats.held(queue).await,
        }
    }

    /// Forgets all jobs of an experiment's generation, leased ones included.
    pub async fn forget(&self, experiment: u32, generation: u32) -> Result<(), NatsError> {
        match self {
            Self::Here(here) => {
                here.forget(experiment, generation);
                Ok(())
            }
            Self::Nats(nats) => nats.forget(experiment, generation).await,
        }
    }

    /// Replaces the consumer of a queue that has stopped delivering. Leases of it are lost.
    pub async fn mend(&self, queue: Queue) -> Result<(), NatsError> {
        match self {
            Self::Here(_) => Ok(()),
            Self::Nats(nats) => nats.mend(queue).await,
        }
    }
}

impl JobId {
    /// The queue of the job in a lane.
    pub fn queue(self, lane: Lane) -> Queue {
        Queue { experiment: self.experiment, generation: self.generation, lane }
    }
}

/// As the database keeps it.
impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Std => f.write_str("std"),
            Self::Big => f.write_str("big"),
            Self::Confirm { not } => write!(f, "confirm-{not}"),
        }
    }
}

impl std::str::FromStr for Lane {
    type Err = BadLane;

    fn from_str(text: &str) -> Result<Self, BadLane> {
        match text {
            "std" => Ok(Self::Std),
            "big" => Ok(Self::Big),
            other => {
                let not = other.strip_prefix("confirm-").and_then(|number| number.parse().ok());
                not.map(|not| Self::Confirm { not }).ok_or_else(|| BadLane(other.to_owned()))
            }
        }
    }
}

/// A text that is not a lane.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid lane `{}`: expected std, big or confirm-NUMBER", .0.escape_debug())]
pub struct BadLane(String);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { experiment, generation, position } = self;
        write!(f, "{experiment}.{generation}.{position}")
    }
}
