//! Whether a list of results is all that a crate's plan leads to: the check of a report that comes from another machine.
//!
//! Pure. Goes the way of [`Job`](super::job::Job) with the outcomes that are reported in place of ops.

use std::sync::Arc;

use super::assignment::Earlier;
use super::job::MOST_REPETITIONS;
use super::repetition::{self, History};
use crate::compare::Verdict;
use crate::experiment::Experiment;
use crate::libtest::Tests;
use crate::outcome::{Outcome, OutcomeKind};
use crate::plan::{self, CratePlan, Fingerprint, Step};
use crate::toolchain::Toolchain;

/// A result as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Which step.
    pub fingerprint: Fingerprint,
    /// Which time it ran.
    pub attempt: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The results of its tests.
    pub tests: Option<Arc<Tests>>,
}

/// Why results don't follow from a plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplayError {
    /// Another step was due.
    #[error(
        "result {place} is of step {} in attempt {attempt}, and attempt {wanted_attempt} of step {} was due",
        short(.found), short(.wanted)
    )]
    Other {
        /// The result's place, from 1.
        place: usize,
        /// Its step.
        found: Fingerprint,
        /// Its attempt.
        attempt: u32,
        /// The step that was due.
        wanted: Fingerprint,
        /// The attempt that was due.
        wanted_attempt: u32,
    },
    /// Nothing was due any more.
    #[error("result {0} is one too many: the crate had no step left")]
    TooMany(usize),
    /// Something is still due.
    #[error("{0} steps are missing at the end")]
    Incomplete(usize),
}

fn short(fingerprint: &Fingerprint) -> String {
    fingerprint.to_string().chars().take(12).collect()
}

/// The meaning of a list of results.
#[derive(Debug)]
pub struct Replayed {
    /// The steps that were reported, in order.
    pub steps: Vec<Step>,
    /// The verdict on the crate, earlier results included, with its reason.
    pub verdict: (Verdict, Option<String>),
}

/// Derives the steps that were reported, and the crate's verdict.
///
/// # Errors
/// They aren't those that the plan leads to with these outcomes, from the first to the last.
pub fn replay(
    experiment: &Experiment,
    toolchains: &[Toolchain],
    plan: &CratePlan,
    earlier: &Earlier,
    reported: &[Reported],
) -> Result<Replayed, ReplayError> {
    let mut queue = earlier.left(experiment, toolchains.len(), plan);
    let mut history = History::default();
    let mut repetitions = 0;
    let mut steps = Vec::new();
    for (place, Reported { fingerprint, attempt, outcome, tests }) in (1..).zip(reported) {
        let step = queue.pop_front().ok_or(ReplayError::TooMany(place))?;
        if (step.fingerprint, step.attempt) != (*fingerprint, *attempt) {
            return Err(ReplayError::Other {
                place,
                found: *fingerprint,
                attempt: *attempt,
                wanted: step.fingerprint,
                wanted_attempt: step.attempt,
            });
        }
        plan::after(&mut queue, &step, outcome);
        history.add(earlier, &step, outcome, tests.as_ref());
        if queue.is_empty() && repetitions < MOST_REPETITIONS {
            queue = repetition::due(plan, toolchains.len(), |step| history.attempts(earlier, step));
            repetitions += 1;
        }
        steps.push(step);
    }
    // A panic of maar ends a crate where it is.
    let is_cut = reported.last().is_some_and(|last| last.outcome.kind() == OutcomeKind::Error);
    if !queue.is_empty() && !is_cut {
        return Err(ReplayError::Incomplete(queue.len()));
    }
    let verdict = repetition::verdict(plan, earlier, &history, toolchains);
    Ok(Replayed { steps, verdict })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;
    use crate::experiment::{self, Host, Installing, Overrides};

    fn experiment() -> Experiment {
        let dir = tempfile::tempdir().unwrap();
        let toolchain =
            |_: Option<&crate::toolchain::ToolchainSpec>, _: Installing| Ok(sample::toolchains(1).remove(0));
        let host = Host { cores: 2, folder: dir.path(), toolchain: &toolchain };
        experiment::load(None, &Overrides::default(), &host).unwrap().experiment
    }

    /// The plan of `prepare`, and of `build` and `test` on two toolchains.
    fn plan() -> CratePlan {
        let krate = sample::crate_of('p', &["pp", "pp"]);
        CratePlan { krate: krate.krate, steps: krate.steps.into_iter().map(|(step, _)| step).collect() }
    }

    /// Reports steps by their places in the plan, each with its attempt and the letter of an outcome: `0p 1p 2f`, with
    /// `'` for a second attempt.
    fn check(text: &str) -> Result<usize, ReplayError> {
        let plan = plan();
        let reported: Vec<Reported> = text
            .split_whitespace()
            .map(|word| {
                let step = &plan.steps[word[..1].parse::<usize>().unwrap()];
                let attempt = 1 + word.matches('\'').count() as u32;
                let outcome = sample::outcome(word.chars().nth(1).unwrap(), &step.op);
                Reported { fingerprint: step.fingerprint, attempt, outcome, tests: None }
            })
            .collect();
        let replayed = replay(&experiment(), &sample::toolchains(2), &plan, &Earlier::default(), &reported);
        replayed.map(|replayed| replayed.steps.len())
    }

    #[test]
    fn whole_reports_follow_from_the_plan() {
        assert_eq!(check("0p 1p 2p 3p 4p"), Ok(5));
        assert_eq!(check("0b"), Ok(1));
        assert_eq!(check("0p 1f 3f"), Ok(3));
        // A difference, and its repetition.
        assert_eq!(check("0p 1p 2p 3p 4f 1p' 2p' 3p' 4f'"), Ok(9));
        assert_eq!(check("0p 1p 2p 3p 4f 1p' 2p' 3p' 4p'"), Ok(9));
        // A panic ends a crate.
        assert_eq!(check("0p 1e"), Ok(2));
    }

    #[test]
    fn reports_that_leave_out_add_or_exchange_a_step_are_refused() {
        assert_eq!(check(""), Err(ReplayError::Incomplete(5)));
        assert_eq!(check("0p 1p 2p"), Err(ReplayError::Incomplete(2)));
        assert_eq!(check("0p 1p 2p 3p 4p 4p"), Err(ReplayError::TooMany(6)));
        assert_eq!(check("0b 1p"), Err(ReplayError::TooMany(2)));
        // The liar that keeps silent about the repetition of its regression.
        assert_eq!(check("0p 1p 2p 3p 4f"), Err(ReplayError::Incomplete(4)));
        for exchanged in ["1p", "0p 2p", "0p 1p 3p", "0p 1p'", "0p 1f 2p"] {
            assert!(matches!(check(exchanged), Err(ReplayError::Other { .. })), "{exchanged}");
        }
    }
}
