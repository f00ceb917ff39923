//! Events of the pipeline as a trace.

use std::time::Duration;

use tokio::time::Instant;

use crate::outcome::{Outcome, OutcomeKind};
use crate::pipeline::{PoolId, Times};
use crate::progress::Label;
use crate::trace::{Args, Load, Span, Trace, TraceError};

/// A trace, and what has to be remembered from event to event.
pub(super) struct Tracer {
    trace: Trace,
    begun: Instant,
    loads: Vec<Load>,
}

impl Tracer {
    pub(super) fn new(trace: Trace, pools: usize) -> Self {
        Self { trace, begun: Instant::now(), loads: vec![Load::default(); pools] }
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
    pub(super) fn ended(&mut self, label: &Label, times: Times, outcome: Option<&Outcome>) -> Result<(), TraceError> {
        let reason = outcome.and_then(Outcome::reason);
        let waited = times.started - times.queued;
        self.trace.span(&Span {
            pool: label.pool,
            worker: label.worker,
            from: self.since(times.started),
            wall: times.finished - times.started,
            args: Args {
                krate: &label.krate,
                op: &label.op,
                toolchain: label.toolchain.as_deref(),
                outcome: outcome.map(Outcome::kind).map_or("stopped", OutcomeKind::as_str),
                reason: reason.as_deref(),
                waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
            },
        })
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.begun)
    }
}
