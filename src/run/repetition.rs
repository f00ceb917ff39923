//! When two toolchains differ, the difference is repeated on both sides, with nothing that is shared. Where tests
//! differ, only these run again. If that doesn't confirm the difference, or something else differs, everything is
//! repeated.
//!
//! What was a chance, or came of something that is shared, doesn't happen again. Pure: what is known goes in, and what
//! is to be done comes out.

use std::collections::HashMap;
use std::sync::Arc;

use super::assignment::Earlier;
use crate::compare::{self, CrateResults, Deciding, Finding, OpResult, Verdict, judge};
use crate::libtest::Tests;
use crate::ops::{Op, Retest};
use crate::outcome::Outcome;
use crate::plan::{self, Attempt, Attempts, CratePlan, Fingerprint, Queue, Step};
use crate::toolchain::Toolchain;

/// The steps that repeat a difference between toolchains; none if they agree, or after two repetitions.
pub(super) fn due(plan: &CratePlan, toolchains: usize, attempts: impl Fn(&Step) -> Attempts) -> Queue {
    let results = results(plan, attempts);
    let judgement = judge(&results, toolchains);
    match (judgement.verdict, &judgement.deciding) {
        (
            Verdict::Regressed | Verdict::Fixed,
            Some(deciding @ Deciding { step, counterpart: Some(counterpart), finding }),
        ) if !deciding.is_repeated(&results) => {
            let last = results.steps.iter().map(|(step, _)| step.attempt).max();
            let number = last.unwrap_or_default() + 1;
            let [failed, passed] = [step, counterpart].map(|place| &results.steps[*place].0);
            match retest(&results, finding, [failed, passed]) {
                Some(retest) => plan::retest(failed, passed, &retest, number),
                None => plan::repetition(plan, failed, passed, number),
            }
        }
        (_, _) => Queue::new(),
    }
}

/// The tests that are to be repeated alone. `None`: everything is to be repeated.
fn retest(results: &CrateResults, finding: &Finding, steps: [&Step; 2]) -> Option<Retest> {
    let Finding::Differs(tests) = finding else { return None };
    // The user's own ops may have changed the sources of the tests.
    let is_pristine = results.steps.iter().all(|(step, _)| !matches!(step.op, Op::Command(_)));
    // A test alone can come out otherwise than among all others, so that asking again in this way tells nothing more.
    let is_undecided = |step: &Step| {
        let of_step = results.steps.iter().filter(|(other, _)| other.fingerprint == step.fingerprint);
        of_step.filter_map(|(_, result)| result.as_ref()).next_back().is_some_and(OpResult::is_partial)
    };
    if !is_pristine || steps.iter().any(|step| is_undecided(step)) {
        return None;
    }
    Retest::new(tests.iter().map(|test| (test.flag.as_ref(), test.name.as_str())))
}

/// A crate's results as far as verdicts need them: what ops cost plays no part.
fn results(plan: &CratePlan, attempts: impl Fn(&Step) -> Attempts) -> CrateResults {
    let mut steps = Vec::new();
    for step in &plan.steps {
        let attempts = attempts(step);
        if attempts.is_empty() {
            steps.push((step.clone(), None));
        }
        let of = |Attempt { number, outcome, tests }| {
            (Step { attempt: number, ..step.clone() }, Some(OpResult { tests, ..OpResult::of(outcome) }))
        };
        steps.extend(attempts.into_iter().map(of));
    }
    CrateResults { krate: plan.krate.clone(), steps }
}

/// The results of a crate's steps in this run. The job keeps it; events carry it as it was before their step.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    new: HashMap<Fingerprint, Attempts>,
}

impl History {
    /// Adds the result of a step. As in the store, it makes results of later attempts void.
    pub(super) fn add(&mut self, earlier: &Earlier, step: &Step, outcome: &Outcome, tests: Option<&Arc<Tests>>) {
        let attempts = self.new.entry(step.fingerprint).or_insert_with(|| earlier.attempts(step));
        attempts.retain(|earlier| earlier.number < step.attempt);
        attempts.push(Attempt { number: step.attempt, outcome: outcome.clone(), tests: tests.cloned() });
    }

    /// The results of a step in this run and, if it didn't run, in earlier ones.
    pub(super) fn attempts(&self, earlier: &Earlier, step: &Step) -> Attempts {
        self.new.get(&step.fingerprint).cloned().unwrap_or_else(|| earlier.attempts(step))
    }
}

/// The verdict on a crate from the results of this run and earlier ones, with its reason.
pub(super) fn verdict(
    plan: &CratePlan,
    earlier: &Earlier,
    history: &History,
    toolchains: &[Toolchain],
) -> (Verdict, Option<String>) {
    let results = results(plan, |step| history.attempts(earlier, step));
    let report = compare::report_crate(&results, toolchains);
    (report.verdict, report.verdict_reason)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::iter;

    use super::*;
    use crate::compare::sample;
    use crate::ops::{CommandOp, Features, Stage};

    /// The repeated steps of a crate with such results, in short: `build@0 test@0 …`, and as which attempt. Each letter
    /// is an attempt of an op, and `/` stands between ops.
    fn check(toolchains: &[&str], expected: Option<(&str, u32)>) {
        let krate = sample::crate_of('p', &vec!["--"; toolchains.len()]);
        let steps = krate.steps.iter().map(|(step, _)| step.clone()).collect();
        let plan = CratePlan { krate: krate.krate.clone(), steps };
        let letters = iter::once("p").chain(toolchains.iter().flat_map(|ops| ops.split('/')));
        let known: HashMap<Fingerprint, Attempts> = iter::zip(&plan.steps, letters)
            .map(|(step, letters)| {
                let ran = (1..).zip(letters.chars()).filter(|(_, letter)| *letter != '-');
                let outcome =
                    |(number, letter)| Attempt { number, outcome: sample::outcome(letter, &step.op), tests: None };
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

    /// The repeated steps of a crate whose tests have the results in these texts of [`sample::tested`], in short:
    /// `prepare …`, or the commands of tests that are repeated alone.
    fn repeated(toolchains: &[&[&str]], own_op: Option<Op>) -> Vec<String> {
        let mut krate = sample::tested(toolchains);
        let own_op = own_op.map(|op| (Step { op, ..krate.steps[1].0.clone() }, krate.steps[1].1.clone()));
        krate.steps.extend(own_op);
        let mut steps: Vec<Step> = krate.steps.iter().map(|(step, _)| step.clone()).collect();
        steps.retain(|step| step.attempt == 1);
        steps.sort_by_key(|step| step.toolchain);
        let plan = CratePlan { krate: krate.krate.clone(), steps };
        let attempts = |step: &Step| -> Attempts {
            let same = krate.steps.iter().filter(|(other, _)| other.fingerprint == step.fingerprint);
            let attempt = |(step, result): &(Step, Option<OpResult>)| {
                let OpResult { outcome, tests, .. } = result.clone()?;
                Some(Attempt { number: step.attempt, outcome, tests })
            };
            same.filter_map(attempt).collect()
        };
        let queue = due(&plan, toolchains.len(), attempts);
        let shown = |step: &Step| match &step.op {
            Op::Retest(_) => step.op.argv(&Features::Default).unwrap()[4..].join(" "),
            op => op.name().to_string(),
        };
        queue.iter().map(|step| format!("{}@{}", shown(step), step.toolchain.unwrap())).collect()
    }

    #[test]
    fn tests_that_differ_run_again_alone() {
        let (stable, nightly) = ("p a+ b+", "f a- b+");
        let alone = ["--lib -- --exact a@0", "--lib -- --exact a@1"];
        let whole = ["build@0", "test@0", "build@1", "test@1"];
        assert_eq!(repeated(&[&[stable], &[nightly]], None), alone);
        assert_eq!(repeated(&[&[nightly], &[stable]], None), alone);
        let patch = CommandOp { name: "patch".parse().unwrap(), stage: Stage::Build, run: vec!["true".to_owned()] };
        let patched = repeated(&[&[stable], &[nightly]], Some(Op::Command(patch)));
        assert!(patched.contains(&"test@0".to_owned()), "{patched:?}");
        assert_eq!(repeated(&[&[stable], &["f! a+"]], None), whole, "it failed outside of tests");
        assert_eq!(repeated(&[&["p a+"], &["f a+ ui-"]], None), [""; 0], "no test differs");
    }

    #[test]
    fn tests_that_come_out_otherwise_alone_run_again_among_all_others() {
        let (stable, nightly) = ("p a+ b+", "f a- b+");
        let whole = ["build@0", "test@0", "build@1", "test@1"];
        assert_eq!(repeated(&[&[stable, "p% a+"], &[nightly, "f% a-"]], None), [""; 0]);
        assert_eq!(repeated(&[&[stable, "p% a+"], &[nightly, "p% a+"]], None), whole);
        assert_eq!(repeated(&[&[stable, "p% a+"], &[nightly, "i"]], None), whole);
        let decided = [&[stable, "p% a+", stable][..], &[nightly, "p% a+", nightly]];
        assert_eq!(repeated(&decided, None), [""; 0]);
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
