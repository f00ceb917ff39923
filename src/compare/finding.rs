//! The tests of an op that failed on one toolchain: did one fail that passes on another? Pure.
//!
//! Repetitions of a few tests confirm a difference and never refute one: a test alone can come out otherwise than among
//! all others.

use std::collections::{BTreeMap, BTreeSet};

use super::{CrateResults, OpResult};
use crate::libtest::{TargetFlag, TestResult, Tests};
use crate::outcome::OutcomeKind;

/// The evidence of tests about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing: something failed outside of them, or not all of their results are known.
    Unknown,
    /// These failed, and passed on the other toolchain. Never empty.
    Differs(Vec<TestName>),
    /// None that failed passed on the other toolchain, and some didn't run there.
    NotRun(NotRun),
    /// All that failed failed on the other toolchain, too, or passed another time.
    Shared,
}

/// Why tests didn't run on a toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRun {
    /// They are ignored there.
    Ignored,
    /// They are not compiled there.
    Absent,
    /// Some the one, some the other.
    Mixed,
}

/// A test of a crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestName {
    /// Its target, as cargo names it.
    pub target: String,
    /// The flag that selects the target, if cargo has printed it.
    pub flag: Option<TargetFlag>,
    /// Its name in the target.
    pub name: String,
}

/// Compares the tests of a step that failed with those of the same op on another toolchain.
pub(super) fn find(krate: &CrateResults, failed: usize, other: usize) -> Finding {
    let (failed, other) = (History::whole(krate, failed), History::whole(krate, other));
    let mut differs = Vec::new();
    let mut not_run = BTreeSet::new();
    let mut is_unknown = !failed.is_accounted;
    for (&(target, name), seen) in &failed.tests {
        if seen.failed == 0 || seen.passed > 0 {
            continue;
        }
        match other.look_up(target, name) {
            Some(there) if there.failed > 0 => {}
            Some(there) if there.passed > 0 => {
                let flag = failed.targets.get(target).and_then(|target| target.flag.cloned());
                differs.push(TestName { target: target.to_owned(), flag, name: name.to_owned() });
            }
            Some(_) => _ = not_run.insert(false),
            None if other.lacks(target, &failed) => _ = not_run.insert(true),
            None => is_unknown = true,
        }
    }
    match (differs.is_empty(), is_unknown, not_run.contains(&false), not_run.contains(&true)) {
        (false, _, _, _) => Finding::Differs(differs),
        (true, true, _, _) => Finding::Unknown,
        (true, false, true, false) => Finding::NotRun(NotRun::Ignored),
        (true, false, false, true) => Finding::NotRun(NotRun::Absent),
        (true, false, true, true) => Finding::NotRun(NotRun::Mixed),
        (true, false, false, false) => Finding::Shared,
    }
}

/// Whether these tests failed more than once at one step and passed more than once at the other.
pub(super) fn is_repeated(krate: &CrateResults, tests: &[TestName], failed: usize, other: usize) -> bool {
    let (failed, other) = (History::all(krate, failed), History::all(krate, other));
    let times = |history: &History<'_>, test: &TestName, count: fn(&Seen) -> usize| {
        history.look_up(&test.target, &test.name).map_or(0, |seen| count(&seen))
    };
    tests.iter().all(|test| times(&failed, test, |seen| seen.failed) > 1 && times(&other, test, |seen| seen.passed) > 1)
}

/// The number of times that a test had each result.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    passed: usize,
    failed: usize,
}

/// The results of a target.
#[derive(Debug, Clone, Copy)]
struct SeenTarget<'a> {
    flag: Option<&'a TargetFlag>,
    /// Whether every attempt has a result of every test.
    complete: bool,
    is_doc: bool,
}

/// The tests of a step, in all its attempts.
#[derive(Debug)]
struct History<'a> {
    tests: BTreeMap<(&'a str, &'a str), Seen>,
    targets: BTreeMap<&'a str, SeenTarget<'a>>,
    /// Whether every attempt has all results.
    is_whole: bool,
    /// Whether failed tests are all that failed in any attempt.
    is_accounted: bool,
}

impl<'a> History<'a> {
    /// Of attempts at all tests.
    fn whole(krate: &'a CrateResults, step: usize) -> Self {
        Self::of(krate.attempts(step).filter(|result| !result.is_partial()))
    }

    /// Of all attempts.
    fn all(krate: &'a CrateResults, step: usize) -> Self {
        Self::of(krate.attempts(step))
    }

    fn of(attempts: impl Iterator<Item = &'a OpResult>) -> Self {
        let mut history = Self { tests: BTreeMap::new(), targets: BTreeMap::new(), is_whole: true, is_accounted: true };
        let mut count = 0;
        for attempt in attempts {
            count += 1;
            let Some(tests) = attempt.tests.as_deref() else {
                history.is_whole = false;
                history.is_accounted = false;
                continue;
            };
            history.is_whole &= !tests.cut;
            history.is_accounted &= match attempt.outcome.kind() {
                OutcomeKind::Passed => true,
                OutcomeKind::Failed => tests.accounted && !tests.cut,
                OutcomeKind::Broken | OutcomeKind::Inconclusive | OutcomeKind::Skipped | OutcomeKind::Error => false,
            };
            history.add(tests);
        }
        history.is_whole &= count > 0;
        history
    }

    fn add(&mut self, tests: &'a Tests) {
        for target in &tests.targets {
            let is_doc = target.is_doc();
            let seen = SeenTarget { flag: target.flag.as_ref(), complete: target.complete, is_doc };
            let known = self.targets.entry(&target.target).or_insert(seen);
            known.complete &= target.complete;
            known.flag = known.flag.or(seen.flag);
            for test in &target.tests {
                let seen = self.tests.entry((&target.target, &test.name)).or_default();
                match test.result {
                    TestResult::Ok => seen.passed += 1,
                    TestResult::Failed => seen.failed += 1,
                    TestResult::Ignored => {}
                }
            }
        }
    }

    /// The results of a test; `None` for an unknown one. Cargo has named targets otherwise in former times.
    fn look_up(&self, target: &str, name: &str) -> Option<Seen> {
        if self.targets.contains_key(target) {
            return self.tests.get(&(target, name)).copied();
        }
        let of_name = self.tests.iter().filter(|((_, test), _)| *test == name);
        of_name
            .map(|(_, seen)| *seen)
            .reduce(|all, seen| Seen { passed: all.passed + seen.passed, failed: all.failed + seen.failed })
    }

    /// Whether a test of this target that is not known here has certainly not run, given where it is known.
    fn lacks(&self, target: &str, other: &Self) -> bool {
        let is_complete = self.targets.get(target).is_none_or(|target| target.complete);
        self.is_whole && is_complete && !self.may_have_renamed(target, other)
    }

    /// Documentation tests are named by rustdoc: another one may name the same test otherwise.
    fn may_have_renamed(&self, target: &str, other: &Self) -> bool {
        let is_doc = other.targets.get(target).is_some_and(|target| target.is_doc);
        let of_target = |(of, _): &&(&str, &str)| *of == target;
        is_doc && self.tests.keys().filter(of_target).any(|test| !other.tests.contains_key(test))
    }
}

#[cfg(test)]
mod tests {
    use crate::compare::sample::tested;
    use crate::compare::{Verdict, compare, sample};

    /// The verdict on a crate whose tests came out like this on stable and on nightly, each time that they ran, and its
    /// reason: see [`tested`].
    fn verdict(stable: &[&str], nightly: &[&str]) -> (Verdict, String) {
        let report = compare(&sample::results(2, vec![tested(&[stable, nightly])])).crates.remove(0);
        (report.verdict, report.verdict_reason.unwrap_or_default())
    }

    #[track_caller]
    fn check(stable: &[&str], nightly: &[&str], expected: Verdict, reason: &str) {
        assert_eq!(verdict(stable, nightly), (expected, reason.to_owned()), "{stable:?} {nightly:?}");
    }

    use Verdict::{Fixed, Pass, Regressed, TestFail};

    #[test]
    fn a_test_that_passed_and_fails_is_a_regression() {
        check(&["p a+ b+", "p a+ b+"], &["f a- b+", "f a- b+"], Regressed, "test@nightly: tests failed: a");
        check(&["p a+"], &["f a-"], Regressed, "test@nightly: tests failed: a (not repeated)");
    }

    #[test]
    fn a_test_that_did_not_run_on_the_baseline_is_a_failure_and_no_regression() {
        check(&["p a+ ui~"], &["f a+ ui-"], TestFail, "test@nightly: tests failed: ui (ignored on stable)");
        check(&["p a+"], &["f a+ ui-"], TestFail, "test@nightly: tests failed: ui (not there on stable)");
        check(&["p ui~"], &["f ui- new-"], TestFail, "test@nightly: tests failed: ui, new (not run on stable)");
        // Partial results can hide anything.
        for unknown in ["p? a+", "p* a+", "p"] {
            check(&[unknown], &["f a+ ui-"], Regressed, "test@nightly: tests failed: ui (not repeated)");
        }
    }

    #[test]
    fn a_failure_outside_of_tests_is_a_regression_as_before() {
        check(&["p a+"], &["f! a+"], Regressed, "test@nightly: exit code 101 (not repeated)");
        check(&["p a+ ui~"], &["f! a+ ui-"], Regressed, "test@nightly: tests failed: ui (not repeated)");
        check(&["p a+ ui~"], &["f* a+ ui-"], Regressed, "test@nightly: tests failed: ui (not repeated)");
        check(&["p a+"], &["f"], Regressed, "test@nightly: exit code 101 (not repeated)");
    }

    #[test]
    fn what_fails_on_both_does_not_hide_a_test_that_passed_and_fails() {
        let reason = "test@nightly: tests failed: b (1 more failed that stable doesn't pass)";
        check(&["f a- b+", "f a- b+"], &["f a- b-", "f a- b-"], Regressed, reason);
        check(&["f a- b+"], &["f a- b+"], TestFail, "test@stable: tests failed: a");
        // The other way round the crate fails still.
        check(&["f a- b-"], &["f a- b+"], TestFail, "test@stable: tests failed: a, b");
    }

    #[test]
    fn a_fix_takes_a_test_that_failed_and_passes() {
        check(&["f a-", "f a-"], &["p a+", "p a+"], Fixed, "test@stable: tests failed: a");
        check(&["f a-"], &["p a~"], TestFail, "test@stable: tests failed: a (ignored on nightly)");
        check(&["f a- b+"], &["p b+"], TestFail, "test@stable: tests failed: a (not there on nightly)");
    }

    #[test]
    fn tests_that_ran_alone_confirm_a_difference_and_refute_none() {
        let stable = "p a+ b+";
        check(&[stable, "p% a+"], &["f a- b+", "f% a-"], Regressed, "test@nightly: tests failed: a");
        let unconfirmed = "test@nightly: tests failed: a (not repeated)";
        check(&[stable, "p% a+"], &["f a- b+", "p% a+"], Regressed, unconfirmed);
        check(&[stable, "f% a-"], &["f a- b+", "f% a-"], Regressed, unconfirmed);
        // Among all others it fails again.
        let whole = ["f a- b+", "p% a+", "f a- b+"];
        check(&[stable, "p% a+", stable], &whole, Regressed, "test@nightly: tests failed: a");
        check(
            &[stable, "p% a+", stable],
            &["f a- b+", "p% a+", "p a+ b+"],
            Pass,
            "flaky: test@nightly: tests failed: a",
        );
    }

    #[test]
    fn a_test_that_both_passes_and_fails_on_one_toolchain_is_no_evidence() {
        let reason = "test@nightly: tests failed: b (no test failed each time on nightly and passed on stable)";
        check(&["p a+ b+", "p a+ b+"], &["f a- b+", "f a+ b-"], TestFail, reason);
        let reason = "test@nightly: tests failed: a (flaky on stable)";
        check(&["p a+", "f a-"], &["f a-", "f a-"], TestFail, reason);
        // A baseline that is flaky in another test is evidence.
        check(&["p a+ b+", "f a+ b-"], &["f a- b+", "f a- b+"], Regressed, "test@nightly: tests failed: a");
    }

    #[test]
    fn targets_are_told_apart_unless_a_cargo_names_them_otherwise() {
        check(&["p ui/a+ lib/a~"], &["f ui/a+ lib/a-"], TestFail, "test@nightly: tests failed: a (ignored on stable)");
        check(&["p old/a+", "p old/a+"], &["f lib/a-", "f lib/a-"], Regressed, "test@nightly: tests failed: a");
        // rustdoc may name its tests otherwise, too.
        check(&["p doc-tests/a+"], &["f doc-tests/b-"], Regressed, "test@nightly: tests failed: b (not repeated)");
        check(
            &["p doc-tests/a+"],
            &["f doc-tests/a+ doc-tests/b-"],
            TestFail,
            "test@nightly: tests failed: b (not there on stable)",
        );
    }

    #[test]
    fn a_crate_that_lies_about_its_tests_changes_no_failure_into_a_pass() {
        // "All passed", and yet an unusual exit code.
        check(&["p a+"], &["f a+"], Regressed, "test@nightly: exit code 101 (not repeated)");
        check(&["f a+"], &["f a+"], TestFail, "test@stable: exit code 101");
        // A baseline that claims to have failed what passed hides its own regression, as a failure.
        let shared = "test@nightly: tests failed: a (no test failed each time on nightly and passed on stable)";
        check(&["p a-"], &["f a-"], TestFail, shared);
    }
}
