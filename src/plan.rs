//! Experiment → each crate's queue. Pure.
//!
//! Decides the steps and their order; never the time, the place or the worker.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::experiment::Experiment;
use crate::krate::{Origin, Selected};
use crate::libtest::Tests;
use crate::ops::{Op, Retest};
use crate::outcome::{Cause, Outcome};
use crate::sandbox::Limits;
use crate::toolchain::Toolchain;

mod fingerprint;
mod forms;
#[cfg(test)]
pub(crate) mod tests;

use fingerprint::Particulars;
pub use fingerprint::{BadFingerprint, Fingerprint};
pub use forms::adopt;

/// One step of a crate's way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// With which toolchain (its place in the experiment's list); none: for all, as `prepare`.
    pub toolchain: Option<usize>,
    /// 1, and more for a repetition.
    pub attempt: u32,
    /// What identifies the step's result.
    pub fingerprint: Fingerprint,
}

/// The key of a step's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId {
    /// The step.
    pub step: Fingerprint,
    /// Which time it was run: 1 is the first.
    pub attempt: u32,
}

/// The whole way of one crate, whether done or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CratePlan {
    /// The crate.
    pub krate: Selected,
    /// Its steps in order: `prepare`, then the ops of the first toolchain, then those of the second.
    pub steps: Vec<Step>,
}

/// The result of one run of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which time: 1 is the first.
    pub number: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The results of its tests, one by one, where they are known.
    pub tests: Option<Arc<Tests>>,
}

/// The results of a step, in the order of its runs.
pub type Attempts = Vec<Attempt>;

/// The remaining steps of one crate.
pub type Queue = VecDeque<Step>;

/// Lays out the way of every crate, in the order of `crates`.
///
/// A crate that doesn't exist or is skipped, and one whose op list is empty, has no steps.
pub fn plan(
    experiment: &Experiment,
    toolchains: &[Toolchain],
    crates: impl IntoIterator<Item = Selected>,
) -> Vec<CratePlan> {
    let plan = |mut krate: Selected| {
        if let Some(reason) = experiment.skip_of(&krate.id.name) {
            krate.origin = Origin::Skipped { reason: reason.to_owned(), source: Box::new(krate.origin) };
        }
        CratePlan { steps: steps(experiment, toolchains, &krate), krate }
    };
    crates.into_iter().map(plan).collect()
}

/// The remaining steps of a plan, given the results of earlier runs, by the fingerprint of their steps.
///
/// Empty when everything has a result that running again wouldn't change, and when `prepare` has one that is not a
/// pass.
pub fn remaining(experiment: &Experiment, plan: &CratePlan, finished: &HashMap<Fingerprint, Outcome>) -> Queue {
    let settled = |step: &Step| {
        let limits = experiment.limits_of(&plan.krate.id.name, &step.op.name());
        finished.get(&step.fingerprint).filter(|outcome| is_settled(outcome, &limits))
    };
    let steps = &plan.steps;
    let mut wanted = vec![false; steps.len()];
    let mut over = None;
    for (place, step) in steps.iter().enumerate() {
        if over.is_some() && over == step.toolchain {
            continue;
        }
        match (settled(step), step.toolchain) {
            (None, _) => wanted[place] = true,
            (Some(Outcome::Passed), _) => {}
            (Some(_), None) => return Queue::new(),
            (Some(_), toolchain) => over = toolchain,
        }
    }
    // Files in a job's folder don't outlive a run: the remaining steps need the steps again that made their files.
    for place in (0..steps.len()).rev() {
        let step = &steps[place];
        let needed = |later: usize| wanted[later] && step.toolchain.is_none_or(|of| steps[later].toolchain == Some(of));
        wanted[place] |= leaves_files(&step.op) && (place + 1..steps.len()).any(needed);
    }
    steps.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(step, _)| step.clone()).collect()
}

/// The steps of the same toolchain before a step, in order: what its op may rest on. Tests that are repeated alone rest
/// on none, for they do so only where no op changes the sources.
pub fn earlier<'a>(plan: &'a CratePlan, step: &Step) -> impl Iterator<Item = &'a Step> + use<'a> {
    let (toolchain, fingerprint) = (step.toolchain, step.fingerprint);
    let rests = toolchain.is_some() && !matches!(step.op, Op::Retest(_));
    let of_toolchain = plan.steps.iter().filter(move |earlier| rests && earlier.toolchain == toolchain);
    of_toolchain.take_while(move |earlier| earlier.fingerprint != fingerprint)
}

/// Whether later ops may see an op's changes to the crate's folder. Cargo's own files there can be made again.
pub fn leaves_files(op: &Op) -> bool {
    match op {
        Op::Prepare | Op::Command(_) => true,
        Op::Check | Op::Build | Op::BuildTests | Op::Test | Op::Retest(_) | Op::Clippy | Op::Doc => false,
    }
}

/// The steps that repeat a difference between two toolchains, given the step that failed and the one that passed: from
/// the first op on, for the folders that they wrote to are made anew, and further than what failed, should it pass.
pub fn repetition(plan: &CratePlan, failed: &Step, passed: &Step, attempt: u32) -> Queue {
    let end = plan.steps.iter().position(|step| (&step.op, step.toolchain) == (&passed.op, passed.toolchain));
    let is_wanted = |(place, step): &(usize, &Step)| {
        step.toolchain == failed.toolchain || step.toolchain == passed.toolchain && Some(*place) <= end
    };
    let steps = plan.steps.iter().enumerate().filter(is_wanted);
    steps.map(|(_, step)| Step { attempt, ..step.clone() }).collect()
}

/// The steps that run a few tests again in which two toolchains differ.
pub fn retest(one: &Step, other: &Step, retest: &Retest, attempt: u32) -> Queue {
    let again = |step: &Step| Step { op: Op::Retest(retest.clone()), attempt, ..step.clone() };
    let mut steps = [again(one), again(other)];
    steps.sort_by_key(|step| step.toolchain);
    steps.into()
}

/// Takes the steps off the queue that the outcome of a step makes pointless.
///
/// Without a pass, the later ops of the same toolchain are pointless; after `prepare`, everything is.
pub fn after(queue: &mut Queue, step: &Step, outcome: &Outcome) {
    match (outcome, step.toolchain) {
        (Outcome::Passed, _) => {}
        (_, None) => queue.clear(),
        (_, Some(toolchain)) => queue.retain(|queued| queued.toolchain != Some(toolchain)),
    }
}

/// Whether running again under these limits is pointless.
fn is_settled(outcome: &Outcome, limits: &Limits) -> bool {
    match outcome {
        Outcome::Inconclusive(Cause::TimedOut(hit)) => *hit >= limits.timeout,
        Outcome::Inconclusive(Cause::Idle(hit)) => *hit >= limits.idle_timeout,
        Outcome::Inconclusive(Cause::OutOfMemory(hit)) => *hit >= limits.memory,
        Outcome::Inconclusive(Cause::OutOfProcesses(hit)) => *hit >= limits.pids,
        Outcome::Inconclusive(Cause::OverDisk(hit)) => *hit >= limits.disk,
        Outcome::Inconclusive(Cause::Flooded(hit)) => *hit >= limits.most_printed(),
        // A host that had no network or no disk may have them now, a host that was refused may be allowed, and a defect
        // of maar may be mended.
        Outcome::Inconclusive(Cause::OutOfDisk | Cause::Network(_) | Cause::Refused(_) | Cause::Host(_))
        | Outcome::Error(_) => false,
        // Its fingerprint has all that decides it but the index, as with a crate that is broken.
        Outcome::Inconclusive(Cause::Unpatched(_))
        | Outcome::Passed
        | Outcome::Failed(_)
        | Outcome::Broken(_)
        | Outcome::Skipped => true,
    }
}

impl Step {
    /// What its log is kept under.
    pub fn log_id(&self) -> LogId {
        LogId { step: self.fingerprint, attempt: self.attempt }
    }
}

fn steps(experiment: &Experiment, toolchains: &[Toolchain], krate: &Selected) -> Vec<Step> {
    let ops = match krate.origin {
        Origin::Missing(_) | Origin::Unusable(_) | Origin::Skipped { .. } | Origin::Unavailable(_) => {
            return Vec::new();
        }
        Origin::Registry { .. } | Origin::Path { .. } => experiment.ops_of(&krate.id.name),
    };
    let step = |place: usize, toolchain: Option<usize>| {
        let op = ops[place].clone().before(&ops[place + 1..]);
        let particulars = Particulars { op: &op, before: &ops[..place], toolchains, toolchain };
        let fingerprint = Fingerprint::new(experiment, krate, particulars);
        Step { op, toolchain, attempt: 1, fingerprint }
    };
    let places = |once: bool| (0..ops.len()).filter(move |place| (ops[*place] == Op::Prepare) == once);
    let for_all = places(true).map(|place| step(place, None));
    let per_toolchain = (0..toolchains.len()).flat_map(|of| places(false).map(move |place| (place, of)));
    for_all.chain(per_toolchain.map(|(place, of)| step(place, Some(of)))).collect()
}
