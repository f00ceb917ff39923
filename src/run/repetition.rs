//! When two toolchains differ, the difference is repeated: once, on both sides, with everything made anew.
//!
//! What was a chance, or came of something that is shared, doesn't happen again. Pure: what is known goes in, and what
//! is to be done comes out.

use std::time::{Duration, SystemTime};

use crate::compare::{CrateResults, Deciding, OpResult, Verdict, judge};
use crate::ops::Tally;
use crate::outcome::Outcome;
use crate::plan::{self, CratePlan, Fingerprint, Queue, Step};

/// The steps that repeat what the toolchains differ in; none if they agree, or if both sides are repetitions already.
pub(super) fn due(
    plan: &CratePlan,
    toolchains: usize,
    outcome: impl Fn(&Step) -> Option<Outcome>,
    is_repetition: impl Fn(&Fingerprint) -> bool,
) -> Queue {
    let judgement = judge(&results(plan, outcome), toolchains);
    match (judgement.verdict, judgement.deciding) {
        (Verdict::Regressed | Verdict::Fixed, Some(Deciding { step, counterpart: Some(counterpart) })) => {
            // A run that was stopped in between has repeated one side alone.
            let is_over = [step, counterpart].iter().all(|&place| is_repetition(&plan.steps[place].fingerprint));
            if is_over { Queue::new() } else { plan::repetition(plan, step, counterpart) }
        }
        (_, _) => Queue::new(),
    }
}

/// A crate's results as far as verdicts need them: what ops cost plays no part.
pub(super) fn results(plan: &CratePlan, outcome: impl Fn(&Step) -> Option<Outcome>) -> CrateResults {
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
    let steps = plan.steps.iter().map(|step| (step.clone(), outcome(step).map(result)));
    CrateResults { krate: plan.krate.clone(), steps: steps.collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::compare::sample;

    /// What is repeated of a crate with such results, in short: `build@0 test@0 …`.
    fn check(toolchains: &[&str], repeated: &[usize], expected: &str) {
        let krate = sample::crate_of('p', toolchains);
        let known = |step: &Step| {
            let (_, result) = krate.steps.iter().find(|(other, _)| other == step)?;
            result.as_ref().map(|result| result.outcome.clone())
        };
        let steps = krate.steps.iter().map(|(step, _)| step.clone()).collect();
        let plan = CratePlan { krate: krate.krate.clone(), steps };
        let repeated: HashSet<Fingerprint> = repeated.iter().map(|&place| plan.steps[place].fingerprint).collect();
        let queue = due(&plan, toolchains.len(), known, |fingerprint| repeated.contains(fingerprint));
        assert!(queue.iter().all(|step| step.attempt == 2));
        let shown = queue.iter().map(|step| format!("{}@{}", step.op.name(), step.toolchain.unwrap()));
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{toolchains:?}");
    }

    #[test]
    fn what_two_toolchains_differ_in_is_repeated_on_both() {
        check(&["pp", "pf"], &[], "build@0 test@0 build@1 test@1");
        check(&["pf", "pp"], &[], "build@0 test@0 build@1 test@1");
        check(&["pp", "f-"], &[], "build@0 build@1 test@1");
        check(&["pp", "pp", "pf"], &[], "build@0 test@0 build@2 test@2");
    }

    #[test]
    fn nothing_is_repeated_where_nothing_differs_or_is_missing() {
        for same in [&["pp", "pp"], &["pf", "pf"], &["f-", "f-"], &["p-", "p-"], &["pp", "p-"], &["pp", "pi"]] {
            check(same, &[], "");
        }
        check(&["pf"], &[], "");
    }

    #[test]
    fn nothing_is_repeated_twice() {
        check(&["pp", "pf"], &[1, 2, 3, 4], "");
        check(&["pp", "f-"], &[1, 3], "");
    }

    #[test]
    fn a_repetition_that_was_cut_short_begins_again() {
        for done in [&[1][..], &[1, 2], &[1, 2, 3], &[4]] {
            check(&["pp", "pf"], done, "build@0 test@0 build@1 test@1");
        }
    }
}
