//! Events of the pipeline as a trace.

use std::iter;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::time::Instant;

use crate::event::StepEvent;
use crate::ops::{Done, Tally};
use crate::outcome::{Outcome, OutcomeKind};
use crate::pipeline::{Pool, PoolId, Summary, Times};
use crate::trace::{Args, Load, PoolTotals, Span, Totals, Trace, TraceError};

/// A trace, and the state between events.
#[derive(Debug)]
pub(super) struct Tracer {
    trace: Trace,
    begun: Instant,
    pools: Vec<Pool>,
    loads: Vec<Load>,
    cpu: Duration,
    units: Tally,
}

impl Tracer {
    pub(super) fn new(mut trace: Trace, pools: &[Pool]) -> Result<Self, TraceError> {
        trace.name(pools)?;
        let loads = vec![Load::default(); pools.len()];
        let (cpu, units) = Default::default();
        Ok(Self { trace, begun: Instant::now(), pools: pools.to_vec(), loads, cpu, units })
    }

    /// A pool has more or less to do.
    pub(super) fn load(&mut self, pool: PoolId, at: Instant, change: impl FnOnce(&mut Load)) -> Result<(), TraceError> {
        let at = self.since(at);
        // A pool that doesn't exist is a defect that is told of elsewhere.
        let Some(load) = self.loads.get_mut(pool.0) else { return Ok(()) };
        change(load);
        self.trace.load(pool.0, at, *load)
    }

    /// An op has ended.
    pub(super) fn ended(
        &mut self,
        krate: &str,
        step: &StepEvent,
        worker: usize,
        times: Times,
        done: &Done,
    ) -> Result<(), TraceError> {
        let Done { outcome, usage, dependencies, .. } = done;
        self.cpu = self.cpu.saturating_add(usage.cpu);
        self.units = self.units.plus(*dependencies);
        let reason = outcome.as_ref().and_then(Outcome::reason);
        self.trace.span(&Span {
            pool: step.pool,
            worker,
            from: self.since(times.started),
            wall: times.finished - times.started,
            args: Args {
                krate,
                op: &step.op,
                toolchain: step.toolchain.as_deref(),
                outcome: outcome.as_ref().map(Outcome::kind).map_or("stopped", OutcomeKind::as_str),
                reason: reason.as_deref(),
                waited_ms: millis(times.started - times.queued),
                cpu_ms: millis(usage.cpu),
                peak_memory_bytes: usage.peak_memory.map(|peak| peak.as_u64()),
                compiled: dependencies.compiled,
                reused: dependencies.reused,
            },
        })
    }

    /// The run is over.
    pub(super) fn end(mut self, summary: &Summary, downloaded: ByteSize) -> Result<(), TraceError> {
        let pools = iter::zip(&self.pools, &summary.pools).map(|(Pool { name, workers }, pool)| PoolTotals {
            name,
            workers: *workers,
            ops: pool.steps,
            busy_ms: millis(pool.busy),
            waited_ms: millis(pool.waited),
            held_ms: millis(pool.held),
        });
        let totals = Totals {
            wall_ms: millis(summary.wall),
            cpu_ms: millis(self.cpu),
            compiled: self.units.compiled,
            reused: self.units.reused,
            downloaded_bytes: downloaded.as_u64(),
            pools: pools.collect(),
        };
        self.trace.end(self.begun.elapsed(), &totals)
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.begun)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
