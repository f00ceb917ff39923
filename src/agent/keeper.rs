//! The results of crates, collected until a crate has ended, and then sealed in the outbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytesize::ByteSize;

use super::holding::Slot;
use super::{Agent, epoch_millis};
use crate::run::{CrateEnd, KeepError, Keeper, Task};
use crate::store::Record;
use crate::wire::bundle::{Bundle, Span};
use crate::wire::{Blob, Digest, MAX_BUNDLE, Reason, Report, StepReport, Units};

/// The keeper of the run.
pub(super) struct Spool {
    agent: Arc<Agent>,
    drafts: Mutex<HashMap<Slot, Draft>>,
}

/// A report that is being collected.
#[derive(Debug, Default)]
struct Draft {
    bundle: Bundle,
    steps: Vec<StepReport>,
}

impl Spool {
    /// Nothing yet.
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, drafts: Mutex::default() }
    }

    /// Writes the report of a crate to the outbox, and then lets go of it.
    async fn seal(&self, task: &Task, draft: Draft) {
        let Some(lease) = self.agent.holding.lease(task.place) else { return };
        let Draft { bundle, steps } = draft;
        let bundle = bundle.into_bytes();
        let blob = (!bundle.is_empty()).then(|| Blob { sha256: Digest::of(&bundle), bytes: bundle.len() as u64 });
        let toolchains = task.assignment.tools.toolchains.iter().map(|toolchain| toolchain.identity.clone());
        let report = Report {
            lease: lease.clone(),
            agent: self.agent.hello.version.clone(),
            environment: self.agent.hello.environment,
            toolchains: toolchains.collect(),
            steps,
            bundle: blob,
        };
        let agent = Arc::clone(&self.agent);
        let sealed = tokio::task::spawn_blocking(move || agent.outbox.seal(&report, &bundle)).await;
        match sealed {
            Ok(Ok(())) => {
                self.agent.holding.seal(lease);
                self.agent.sealed.notify_one();
            }
            // Another agent may have room.
            Ok(Err(error)) => {
                let detail = format!("failed to keep its report: {error}");
                self.agent.give_back(vec![lease], Reason::Busy, detail).await;
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// The drafts are whole between any two statements that could panic.
    fn drafts(&self) -> MutexGuard<'_, HashMap<Slot, Draft>> {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper for Spool {
    async fn keep(&self, task: &Arc<Task>, record: Record) -> Result<(), KeepError> {
        self.drafts().entry(task.place).or_default().add(record);
        Ok(())
    }

    async fn end(&self, task: &Arc<Task>, end: CrateEnd) -> Result<(), KeepError> {
        let draft = self.drafts().remove(&task.place).unwrap_or_default();
        match end {
            CrateEnd::Whole => {
                self.seal(task, draft).await;
                self.agent.holding.release(task.place);
            }
            CrateEnd::Cut => {
                let lease = self.agent.holding.release(task.place);
                self.agent.give_back(lease.into_iter().collect(), Reason::Busy, String::new()).await;
            }
        }
        self.agent.freed.notify_one();
        Ok(())
    }
}

impl Draft {
    fn add(&mut self, record: Record) {
        let Record { step, result, output, lockfile, .. } = record;
        let (head, tail) = (self.append(&output.head), self.append(&output.tail));
        // A log that has no room in the bundle is dropped as a whole.
        let missing = [(&output.head, head), (&output.tail, tail)].into_iter().filter(|(_, span)| span.is_none());
        let missing: u64 = missing.map(|(text, _)| text.len() as u64).sum();
        let tests = result.tests.as_ref().and_then(|tests| serde_json::to_vec(&**tests).ok());
        let units = result.units;
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let step = StepReport {
            fingerprint: step.fingerprint,
            attempt: step.attempt,
            outcome: result.outcome,
            started_ms: epoch_millis(result.started),
            wall_us: micros(result.wall),
            cpu_us: micros(result.cpu),
            peak: result.peak_memory.map(|ByteSize(bytes)| bytes),
            waited_us: micros(result.waited),
            worker: u32::try_from(result.worker).unwrap_or(u32::MAX),
            units: Units {
                compiled: units.compiled as u64,
                reused: units.reused as u64,
                in_op: units.in_op as u64,
                again: units.again as u64,
            },
            head: head.unwrap_or_default(),
            tail: tail.unwrap_or_default(),
            dropped: output.dropped.saturating_add(missing),
            tests: tests.and_then(|tests| self.append(&tests)),
            lockfile: lockfile.and_then(|lockfile| self.append(&lockfile)),
        };
        self.steps.push(step);
    }

    /// Appends a text; none if the bundle has no room for it.
    fn append(&mut self, text: &[u8]) -> Option<Span> {
        let before = self.bundle.len();
        let span = self.bundle.append(text);
        if self.bundle.len() > MAX_BUNDLE {
            self.bundle.truncate(before);
            return None;
        }
        Some(span)
    }
}
