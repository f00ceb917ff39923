//! How far a run is: crates by verdict.

use std::collections::BTreeMap;

use super::Plan;
use crate::compare::Verdict;

/// Crates by verdict.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) crates: usize,
    pub(super) already_done: usize,
    verdicts: BTreeMap<Verdict, usize>,
}

impl Tally {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { crates: plan.crates, already_done: plan.already_done, verdicts: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, verdict: Verdict) {
        *self.verdicts.entry(verdict).or_default() += 1;
    }

    pub(super) fn of(&self, verdict: Verdict) -> usize {
        self.verdicts.get(&verdict).copied().unwrap_or_default()
    }

    /// The crates that this run has finished, without pending ones.
    pub(super) fn finished(&self) -> usize {
        self.verdicts.iter().filter(|(verdict, _)| **verdict != Verdict::Pending).map(|(_, count)| count).sum()
    }

    /// The crates that this run and earlier ones have finished.
    pub(super) fn done(&self) -> usize {
        self.already_done + self.finished()
    }

    /// The verdicts of this run that there are.
    pub(super) fn verdicts(&self) -> &BTreeMap<Verdict, usize> {
        &self.verdicts
    }
}
