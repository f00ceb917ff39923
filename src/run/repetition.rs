//! When two toolchains differ, the difference is repeated: once, on both sides, with everything made anew.
//!
//! What was a chance, or came of something that is shared, doesn't happen again. Pure: what is known goes in, and what
//! is to be done comes out.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::Setup;
use crate::compare::{CrateResults, Deciding, OpResult, Verdict, judge};
use crate::ops::Tally;
use crate::outcome::Outcome;
use crate::plan::{self, Attempts, CratePlan, Fingerprint, Queue, Step};

/// The steps that repeat what the toolchains differ in; none if they agree, or if that has happened twice already.
pub(super) fn due(plan: &CratePlan, toolchains: usize, attempts: impl Fn(&Step) -> Attempts) -> Queue {
    let results = results(plan, attempts);
    let judgement = judge(&results, toolchains);
    match (judgement.verdict, judgement.deciding) {
        (Verdict::Regressed | Verdict::Fixed, Some(deciding @ Deciding { step, counterpart: Some(counterpart) }))
            if !deciding.is_repeated(&results) =>
        {
            let last = results.steps.iter().map(|(step, _)| step.attempt).max();
            let [failed, passed] = [step, counterpart].map(|place| &results.steps[place].0);
            plan::repetition(plan, failed, passed, last.unwrap_or_default() + 1)
        }
        (_, _) => Queue::new(),
    }
}

/// A crate's results as far as verdicts need them: what ops cost plays no part.
pub(super) fn results(plan: &CratePlan, attempts: impl Fn(&Step) -> Attempts) -> CrateResults {
    let result = |outcome| OpResult {
        outcome,
        started: SystemTime::UNIX_EPOCH,
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
        peak_memory: None,
        waited: Duration::ZERO,
        worker: 0,
        units: Tally::default(),
    };
    let mut steps = Vec::new();
    for step in &plan.steps {
        let attempts = attempts(step);
        if attempts.is_empty() {
            steps.push((step.clone(), None));
        }
        let of = |(attempt, outcome)| (Step { attempt, ..step.clone() }, Some(result(outcome)));
        steps.extend(attempts.into_iter().map(of));
    }
    CrateResults { krate: plan.krate.clone(), steps }
}

/// What came of a crate's steps in this run and before.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Of the steps that ran in this one.
    new: HashMap<Fingerprint, Attempts>,
}

impl History {
    /// Adds what came of a step. As in the store, repetitions of an attempt that ran anew say nothing any more.
    pub(super) fn add(&mut self, setup: &Setup, step: &Step, outcome: Outcome) {
        let attempts = self.new.entry(step.fingerprint).or_insert_with(|| setup.attempts(step));
        attempts.retain(|(attempt, _)| *attempt < step.attempt);
        attempts.push((step.attempt, outcome));
    }

    pub(super) fn attempts(&self, setup: &Setup, step: &Step) -> Attempts {
        self.new.get(&step.fingerprint).cloned().unwrap_or_else(|| setup.attempts(step))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::iter;

    use super::*;
    use crate::compare::sample;

    /// What is repeated of a crate with such results, in short: `build@0 test@0 …`, and as which attempt. Each letter is
    /// an attempt of an op, and `/` stands between ops.
    fn check(toolchains: &[&str], expected: Option<(&str, u32)>) {
        let krate = sample::crate_of('p', &vec!["--"; toolchains.len()]);
        let steps = krate.steps.iter().map(|(step, _)| step.clone()).collect();
        let plan = CratePlan { krate: krate.krate.clone(), steps };
        let letters = iter::once("p").chain(toolchains.iter().flat_map(|ops| ops.split('/')));
        let known: HashMap<Fingerprint, Attempts> = iter::zip(&plan.steps, letters)
            .map(|(step, letters)| {
                let ran = (1..).zip(letters.chars()).filter(|(_, letter)| *letter != '-');
                let outcome = |(attempt, letter)| (attempt, sample::outcome(letter, &step.op));
                (step.fingerprint, ran.map(outcome).collect())
            })
            .collect();
        let queue = due(&plan, toolchains.len(), |step| known[&step.fingerprint].clone());
        let shown: Vec<_> =
            queue.iter().map(|step| format!("{}@{}", step.op.name(), step.toolchain.unwrap())).collect();
        let attempts: BTreeSet<u32> = queue.iter().map(|step| step.attempt).collect();
        let expected = expected.map_or_else(Default::default, |(steps, attempt)| (steps.to_owned(), [attempt].into()));
        assert_eq!((shown.join(" "), attempts), expected, "{toolchains:?}");
    }

    const BOTH: &str = "build@0 test@0 build@1 test@1";

    #[test]
    fn what_two_toolchains_differ_in_is_repeated_on_both() {
        check(&["p/p", "p/f"], Some((BOTH, 2)));
        check(&["p/f", "p/p"], Some((BOTH, 2)));
        check(&["p/p", "f/-"], Some(("build@0 build@1 test@1", 2)));
        check(&["p/p", "p/p", "p/f"], Some(("build@0 test@0 build@2 test@2", 2)));
    }

    #[test]
    fn nothing_is_repeated_where_nothing_differs_or_is_missing() {
        for [one, other] in
            [["p/p", "p/p"], ["p/f", "p/f"], ["f/-", "f/-"], ["p/-", "p/-"], ["p/p", "p/-"], ["p/p", "p/i"]]
        {
            check(&[one, other], None);
        }
        check(&["p/f"], None);
    }

    #[test]
    fn what_happened_twice_or_otherwise_is_not_repeated() {
        check(&["pp/pp", "pp/ff"], None);
        check(&["pp/p", "ff/-"], None);
        check(&["pp/pp", "pp/fp"], None);
        check(&["pp/pf", "pp/fp"], None);
    }

    #[test]
    fn a_repetition_that_was_cut_short_begins_again() {
        for cut_short in [["pp/p", "p/f"], ["pp/pp", "p/f"], ["pp/pp", "pp/f"], ["p/p", "p/ff"]] {
            check(&cut_short, Some((BOTH, 3)));
        }
    }

    #[test]
    fn a_difference_behind_the_one_that_was_repeated_is_repeated_too() {
        // The build was flaky, and now the tests fail.
        check(&["pp/p", "fp/-f"], Some((BOTH, 3)));
        check(&["ppp/p-p", "fpf/-ff"], None);
        // The tests ran on one side only once more, as the build failed again.
        check(&["ppp/p-p", "fpf/-f"], Some((BOTH, 4)));
        // One toolchain was flaky, and another differs as well.
        check(&["pp/p", "fp/-p", "f/-"], Some(("build@0 build@2 test@2", 3)));
    }
}
