//! The one seam: crates as work of the engine, its results into the store and its events to their readers.
//!
//! A [`Bench`] is opened once by a process. A [`Session`] prepares one experiment on it, and [`drive`] runs the crates of
//! an [`Intake`] and leaves their results with a [`Keeper`]. Decides nothing about crates: the plan orders the steps, the
//! ops do them, compare judges the results.

mod assignment;
mod bench;
mod error;
mod intake;
mod job;
mod moved;
mod patches;
mod planned;
mod pressure;
mod remarks;
mod repetition;
mod replay;
mod select;
mod session;
mod share;
mod sink;
mod stored;
#[cfg(test)]
mod tests;
mod tracer;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::sync::{mpsc, watch};

use crate::event::RunEvent;
use crate::experiment::{Experiment, Workers};
use crate::ops::Stage;
use crate::ops::removal::{self, Removers};
use crate::pipeline::{self, Pool, Pressure, Summary};
use crate::stop::{Stop, Stopper};
use crate::trace::Trace;
use intake::Jobs;
use sink::Sink;
use tracer::Tracer;

pub use assignment::{Assignment, Earlier, Task};
pub use bench::Bench;
pub use error::{KeepError, RunError, SessionError};
pub use intake::{CrateEnd, Intake, Keeper, Next};
pub use planned::Planned;
pub use remarks::SelectedBy;
pub use replay::{ReplayError, Replayed, Reported, replay};
pub use session::{Begun, Driven, Enforcement, Request, Reuse, Session};
pub use share::Left;
pub use stored::{report, results, results_with_tests, unknown};

/// How many ops a run has under way at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The workers of each stage.
    pub workers: Workers,
    /// How many crates may be in progress.
    pub in_flight: usize,
    /// How much memory running ops are expected to need together at most, as a multiple of the host's.
    pub overcommit: f64,
}

/// The cost of a run besides its ops.
#[derive(Debug)]
pub struct Ran {
    /// The counts and times of the pools.
    pub summary: Summary,
    /// How long removing the folders of jobs took, summed over the threads that do it.
    pub removal: Duration,
    /// The trace, if there is one and it is whole so far.
    tracer: Option<Tracer>,
}

/// How many events may wait for the store: enough to ride out a slow commit, few enough to bound the logs in memory.
const EVENTS_AHEAD: usize = 64;

impl Shape {
    /// The shape that an experiment asks for.
    pub fn of(experiment: &Experiment) -> Self {
        let Experiment { workers, in_flight, overcommit, .. } = experiment;
        Self { workers: *workers, in_flight: *in_flight, overcommit: *overcommit }
    }

    /// The pools: one per stage, [`PoolId`](pipeline::PoolId) being the place in [`Stage::ALL`].
    pub fn pools(&self) -> Vec<Pool> {
        let pool = |stage: Stage| Pool { name: stage.to_string(), workers: self.workers.of(stage) };
        Stage::ALL.into_iter().map(pool).collect()
    }
}

/// Runs crates until the intake has no more, or a stop comes. The result of a step goes to the keeper as soon as it ends,
/// and every change to `events`, which must not block.
///
/// # Errors
/// The keeper can't keep a result; then `stopper` is raised and running ops are ended. The pools can't be set up, or the
/// trace can't be begun; nothing has run then.
pub async fn drive<I: Intake, K: Keeper, E: FnMut(RunEvent)>(
    bench: &Arc<Bench>,
    shape: &Shape,
    (intake, keeper): (&I, &K),
    (events, trace): (&mut E, Option<Trace>),
    (stopper, stop): (&Stopper, &Stop),
) -> Result<Ran, RunError> {
    let (pressure, pressed) = watch::channel(Pressure::Low);
    let budget = bench.memory().map(|memory| (memory.as_u64() as f64 * shape.overcommit) as u64);
    let config = pipeline::Config {
        budget: budget.unwrap_or(u64::MAX),
        pressure: pressed,
        ..pipeline::Config::new(shape.pools(), shape.in_flight)
    };
    let tracer = trace.map(|trace| Tracer::new(trace, &config.pools)).transpose()?;
    let (removal, removers) = removal::start(shape.in_flight);
    let (sender, received) = mpsc::channel(EVENTS_AHEAD);
    // Both end with the engine: the last job's folder is removed when no one can hand over another.
    let engine = async {
        let jobs = Jobs { intake, bench: Arc::clone(bench), removal };
        pipeline::run(&config, &jobs, stop.clone(), sender).await
    };
    let sink = Sink { keeper, events: &mut *events, tracer };
    let (summary, (kept, tracer)) = tokio::select! {
        both = async { tokio::join!(engine, sink.take_all(received, stopper, stop)) } => both,
        () = pressure::watch(pressure) => unreachable!("it watches for ever"),
    };
    let removal = removed(removers, events).await;
    kept?;
    Ok(Ran { summary: summary?, removal, tracer })
}

/// Waits for the removers, and prints a note where that takes a while.
async fn removed(removers: Removers, events: &mut impl FnMut(RunEvent)) -> Duration {
    const SOON: Duration = Duration::from_secs(2);
    let removal = removers.finish();
    tokio::pin!(removal);
    match tokio::time::timeout(SOON, &mut removal).await {
        Ok(spent) => spent,
        Err(_) => {
            events(RunEvent::note("removing the folders of the last crates"));
            removal.await
        }
    }
}

impl Ran {
    /// Ends the trace, if there is one, with the totals of the run.
    fn end_trace(&mut self, downloaded: ByteSize, events: &mut impl FnMut(RunEvent)) {
        let Some(tracer) = self.tracer.take() else { return };
        tracer.end(&self.summary, downloaded).unwrap_or_else(|error| events(sink::trace_ended(&error)));
    }
}
