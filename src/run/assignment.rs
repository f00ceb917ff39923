//! The work of a run: an experiment, and its crates one by one.
//!
//! Plain data besides the tools. An intake fills it in: that of `maar run` from its own store, an agent's from the
//! server's answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::repetition;
use crate::experiment::Experiment;
use crate::ops::Tools;
use crate::outcome::Outcome;
use crate::plan::{self, Attempt, Attempts, CratePlan, Fingerprint, Queue, Step};
use crate::schedule::Expectations;
use crate::stop::Stop;

/// An experiment that is being run: all that its crates share.
#[derive(Debug)]
pub struct Assignment {
    /// The experiment.
    pub experiment: Experiment,
    /// The tools of its ops, the toolchains among them.
    pub tools: Tools,
    /// Ends the jobs of this experiment alone.
    pub stop: Stop,
}

/// One crate to run, with all that its job has to know of earlier runs.
#[derive(Debug)]
pub struct Task {
    /// The experiment.
    pub assignment: Arc<Assignment>,
    /// The crate's place in the experiment.
    pub place: usize,
    /// The way of the crate.
    pub plan: CratePlan,
    /// The results of its steps in earlier runs.
    pub earlier: Earlier,
    /// The lockfile that an earlier run made, or why it can't be read: with other dependencies, results would differ
    /// from those of earlier runs.
    pub lockfile: Result<Option<Vec<u8>>, String>,
    /// The lockfiles that it made for toolchains with patches, by the places of these.
    pub patched: BTreeMap<usize, Vec<u8>>,
    /// Recorded times and sizes of its ops.
    pub expectations: Arc<Expectations>,
}

/// Results of earlier runs, by the steps' fingerprints.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    /// The outcomes that count.
    pub finished: HashMap<Fingerprint, Outcome>,
    /// All results of the steps that ran more than once, or whose single tests have a say.
    pub attempts: HashMap<Fingerprint, Attempts>,
}

impl Assignment {
    /// The toolchains with patches, each with the key of the lockfile that a `prepare` makes for it.
    pub fn patched(&self, prepare: &Fingerprint) -> impl Iterator<Item = (usize, Fingerprint)> {
        let toolchains = self.tools.toolchains.iter().enumerate();
        let with_patches = toolchains.filter(|(_, toolchain)| !toolchain.patches.is_empty());
        with_patches.map(|(place, toolchain)| (place, prepare.of_patched(toolchain)))
    }
}

impl Task {
    /// The remaining steps.
    pub fn left(&self) -> Queue {
        let Assignment { experiment, tools, .. } = &*self.assignment;
        self.earlier.left(experiment, tools.toolchains.len(), &self.plan)
    }
}

impl Earlier {
    /// The part of it that is about one crate.
    pub fn of(&self, plan: &CratePlan) -> Self {
        fn part<V: Clone>(of: &HashMap<Fingerprint, V>, plan: &CratePlan) -> HashMap<Fingerprint, V> {
            let known = |step: &Step| Some((step.fingerprint, of.get(&step.fingerprint)?.clone()));
            plan.steps.iter().filter_map(known).collect()
        }
        Self { finished: part(&self.finished, plan), attempts: part(&self.attempts, plan) }
    }

    /// The remaining steps of a crate.
    pub fn left(&self, experiment: &Experiment, toolchains: usize, plan: &CratePlan) -> Queue {
        let left = plan::remaining(experiment, plan, &self.finished);
        if !left.is_empty() {
            return left;
        }
        let repetition = repetition::due(plan, toolchains, |step| self.attempts(step));
        // A repetition needs the sources, which don't outlive a run.
        let sources = plan.steps.iter().filter(|step| step.toolchain.is_none() && !repetition.is_empty());
        sources.cloned().chain(repetition.iter().cloned()).collect()
    }

    /// The results of a step.
    pub(super) fn attempts(&self, step: &Step) -> Attempts {
        let only = || self.finished.get(&step.fingerprint);
        let only = || only().map(|outcome| Attempt { number: 1, outcome: outcome.clone(), tests: None });
        self.attempts.get(&step.fingerprint).cloned().unwrap_or_else(|| only().into_iter().collect())
    }
}
