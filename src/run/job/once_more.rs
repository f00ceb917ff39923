//! Runs an op in doubt a second time, within its step: only the second run's result counts.
//!
//! Everything of the op's toolchain is made again, as for a repetition: half-done work of the first run must not
//! decide. The second run is never repeated in its turn.

use super::Job;
use crate::ops::Done;
use crate::ops::cell::sum;
use crate::outcome::{Cause, Outcome};
use crate::plan::{self, Step};
use crate::sandbox::{self, Doubt};
use crate::stop::{Stop, StopLevel};

impl Job {
    /// Runs the op of a step again, whose `first` run was in doubt. No outcome if everything is to stop: then the next
    /// run of the experiment does both.
    pub(super) async fn once_more(&mut self, step: &Step, doubt: Doubt, first: Done, stop: Stop) -> Done {
        if let Err(done) = self.forget(step).await {
            return add(first, done, doubt);
        }
        if doubt == Doubt::ShortDisk {
            tokio::select! {
                () = sandbox::until_roomy(self.bench.jobs().dir()) => {}
                () = stop.reached(StopLevel::Drain) => {}
            }
        }
        if stop.level() > StopLevel::Run {
            return Done { outcome: None, ..first };
        }
        let plan = &self.task.plan;
        let earlier: Vec<Step> = plan::earlier(plan, step).cloned().collect();
        let mut before = first;
        for step in earlier {
            let done = self.run_op(&step, None, stop.clone()).await;
            match &done.outcome {
                Some(Outcome::Passed) => before.usage = sum(before.usage, done.usage),
                None => return Done { outcome: None, ..before },
                Some(outcome) => {
                    let why = outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
                    let words = format!("`{}` did not pass again before it{why}", step.op.name());
                    let outcome = Some(Outcome::Inconclusive(Cause::Host(words)));
                    return add(before, Done { outcome, tests: None, ..done }, doubt);
                }
            }
        }
        let second = self.run_op(step, Some(doubt), stop).await;
        add(before, second, doubt)
    }

    /// Forgets the files of the first run, and those of ops before it.
    async fn forget(&mut self, step: &Step) -> Result<(), Done> {
        // Tests that are repeated alone ran from binaries of an earlier attempt. Now they need their own binaries
        // attempt, which shares nothing, and so do those of the other toolchain.
        if step.attempt > self.attempt {
            return self.restart(step.attempt).await;
        }
        let Some(workspace) = self.workspace.take() else { return Ok(()) };
        let released = self.release(&workspace).await;
        let forgotten = match step.toolchain {
            Some(toolchain) => {
                let forgotten = workspace.forget(toolchain).await;
                self.workspace = Some(workspace);
                self.unshared.remove(&toolchain);
                forgotten
            }
            // `prepare` makes the workspace, all of it.
            None => {
                workspace.retire().await;
                Ok(())
            }
        };
        released?;
        forgotten.map_err(|error| Done::failed_on_host(&error))
    }
}

/// The second run, with the costs of both.
fn add(first: Done, mut second: Done, doubt: Doubt) -> Done {
    let how = first.outcome.as_ref().and_then(Outcome::reason).unwrap_or_default();
    let note = format!("maar: the second run of the op, because {doubt} in the first ({how}):\n");
    second.output.head.splice(0..0, note.into_bytes());
    second.usage = sum(first.usage, second.usage);
    second.dependencies.compiled += first.dependencies.compiled;
    second
}
