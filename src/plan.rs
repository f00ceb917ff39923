//! Experiment → each crate's queue. Pure.
//!
//! Says what is to be done and in which order; never when, where or by whom.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::experiment::{CrateSettings, Experiment, SandboxKind};
use crate::krate::{Origin, Selected};
use crate::ops::{Features, LockfileMode, Op};
use crate::outcome::{Cause, Outcome};
use crate::sandbox::{Limits, MAX_PRINTED};
use crate::toolchain::Toolchain;

#[cfg(test)]
mod tests;

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

/// The SHA-256, in hexadecimal, of all that a step's result depends on: the crate and its checksum or digest, the op,
/// the identity of the toolchain, features, environment, lockfile mode and sandbox. Limits are not in it: a result
/// that a limit cut short is not settled under others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub String);

/// The whole way of one crate, whether done or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CratePlan {
    /// The crate.
    pub krate: Selected,
    /// Its steps in order: `prepare`, then the ops of the first toolchain, then those of the second.
    pub steps: Vec<Step>,
}

/// What is still to be done for one crate.
pub type Queue = VecDeque<Step>;

/// Lays out the way of every crate, in the order of `crates`.
///
/// A crate that doesn't exist, and one whose op list is empty, has no steps.
pub fn plan(experiment: &Experiment, toolchains: &[Toolchain], crates: &[Selected]) -> Vec<CratePlan> {
    crates.iter().map(|krate| CratePlan { krate: krate.clone(), steps: steps(experiment, toolchains, krate) }).collect()
}

/// What is still to be done of a plan, given the results of earlier runs, by the fingerprint of their steps.
///
/// Empty when everything has a result that running again wouldn't change, and when `prepare` has one that is no pass.
pub fn remaining(experiment: &Experiment, plan: &CratePlan, finished: &HashMap<Fingerprint, Outcome>) -> Queue {
    let settled = |step: &Step| {
        let limits = experiment.limits_of(&plan.krate.id.name, &step.op.name());
        finished.get(&step.fingerprint).filter(|outcome| is_settled(outcome, &limits))
    };
    let mut queue = Queue::new();
    let mut prepared = None;
    let mut over = None;
    for step in &plan.steps {
        if over.is_some() && over == step.toolchain {
            continue;
        }
        match (settled(step), step.toolchain) {
            (None, _) => queue.push_back(step.clone()),
            (Some(Outcome::Passed), None) => prepared = Some(step),
            (Some(Outcome::Passed), Some(_)) => {}
            (Some(_), None) => return Queue::new(),
            (Some(_), toolchain) => over = toolchain,
        }
    }
    // What `prepare` leaves are files in the job's folder, which doesn't outlive a run: whatever remains needs it again.
    if let (Some(prepare), false) = (prepared, queue.is_empty()) {
        queue.push_front(prepare.clone());
    }
    queue
}

/// Takes off the queue what the outcome of a step makes pointless.
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
        Outcome::Inconclusive(Cause::OverDisk(hit)) => *hit >= limits.disk,
        Outcome::Inconclusive(Cause::Flooded(hit)) => *hit >= MAX_PRINTED,
        // A host that had no network or no disk may have them now, and a defect of maar may be mended.
        Outcome::Inconclusive(Cause::OutOfDisk | Cause::Network(_) | Cause::Host(_)) | Outcome::Error(_) => false,
        Outcome::Passed | Outcome::Failed(_) | Outcome::Broken(_) | Outcome::Skipped => true,
    }
}

fn steps(experiment: &Experiment, toolchains: &[Toolchain], krate: &Selected) -> Vec<Step> {
    let ops = match krate.origin {
        Origin::Missing(_) => return Vec::new(),
        Origin::Registry { .. } | Origin::Path { .. } => experiment.ops_of(&krate.id.name),
    };
    let step = &|op: &Op, toolchain: Option<(usize, &Toolchain)>| Step {
        op: op.clone(),
        toolchain: toolchain.map(|(place, _)| place),
        attempt: 1,
        fingerprint: fingerprint(experiment, krate, op, toolchain.map(|(_, toolchain)| toolchain)),
    };
    let for_all = ops.iter().filter(|op| **op == Op::Prepare).map(|op| step(op, None));
    let per_toolchain = toolchains
        .iter()
        .enumerate()
        .flat_map(|numbered| ops.iter().filter(|op| **op != Op::Prepare).map(move |op| step(op, Some(numbered))));
    for_all.chain(per_toolchain).collect()
}

/// What a fingerprint is made of, written as JSON; the maps in it are sorted, so that equal inputs give equal texts.
#[derive(Serialize)]
struct Ingredients<'a> {
    name: &'a str,
    version: Option<&'a semver::Version>,
    /// The checksum of the tarball, or the digest of the folder: where the folder is doesn't matter.
    sources: Option<&'a str>,
    op: &'a Op,
    /// None for `prepare`: all toolchains share its sources and lockfile, in this run and in later ones with others.
    toolchain: Option<&'a str>,
    features: &'a Features,
    env: &'a BTreeMap<String, String>,
    lockfile: LockfileMode,
    sandbox: SandboxKind,
}

fn fingerprint(experiment: &Experiment, krate: &Selected, op: &Op, toolchain: Option<&Toolchain>) -> Fingerprint {
    let default = CrateSettings::default();
    let settings = experiment.crate_settings.get(&krate.id.name).unwrap_or(&default);
    let ingredients = Ingredients {
        name: krate.id.name.as_str(),
        version: krate.id.version.as_ref(),
        sources: match &krate.origin {
            Origin::Registry { checksum } => Some(checksum),
            Origin::Path { digest, .. } => Some(digest),
            Origin::Missing(_) => None,
        },
        op,
        toolchain: toolchain.map(|toolchain| toolchain.identity.as_str()),
        features: &settings.features,
        env: &settings.env,
        lockfile: experiment.lockfile,
        sandbox: experiment.sandbox,
    };
    let json = serde_json::to_vec(&ingredients).expect("every map in it has keys of text, and writing to memory works");
    Fingerprint(Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect())
}
