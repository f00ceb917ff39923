//! Which crates of an experiment are worth another run: those that regressed, and those of which nothing is known.

use super::{Report, Results, Verdict};
use crate::krate::Selected;
use crate::plan::Fingerprint;

/// A crate to run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry<'r> {
    /// The crate, in the version that was run.
    pub krate: &'r Selected,
    /// The step that made its lockfile; none if it has no steps.
    pub prepare: Option<Fingerprint>,
    /// The verdict of the experiment.
    pub verdict: Verdict,
    /// Why.
    pub reason: Option<&'r str>,
}

/// The crates to run again, in the order of the selection.
pub fn retries<'r>(results: &'r Results, report: &'r Report) -> Vec<Retry<'r>> {
    let both = results.crates.iter().zip(&report.crates).filter(|(_, reported)| is_open(reported.verdict));
    let retry = both.map(|(krate, reported)| Retry {
        krate: &krate.krate,
        prepare: krate.steps.iter().find(|(step, _)| step.toolchain.is_none()).map(|(step, _)| step.fingerprint),
        verdict: reported.verdict,
        reason: reported.verdict_reason.as_deref(),
    });
    retry.collect()
}

fn is_open(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Regressed | Verdict::Inconclusive | Verdict::Error => true,
        Verdict::BuildFail
        | Verdict::TestFail
        | Verdict::Broken
        | Verdict::Fixed
        | Verdict::Pending
        | Verdict::Skipped
        | Verdict::Pass => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{compare, sample};

    #[test]
    fn regressed_and_inconclusive_crates_are_run_again_with_their_lockfiles() {
        let crates = [("good", ["pp", "pp"]), ("worse", ["pp", "pf"]), ("bad", ["pf", "pf"]), ("slow", ["i-", "pp"])];
        let crates = crates.iter().map(|(name, letters)| sample::named(name, "1.0.0", 'p', letters)).collect();
        let results = sample::results(2, crates);
        let report = compare(&results);
        let retries = retries(&results, &report);
        let names: Vec<_> = retries.iter().map(|retry| (retry.krate.id.name.as_str(), retry.verdict)).collect();
        assert_eq!(names, [("worse", Verdict::Regressed), ("slow", Verdict::Inconclusive)]);
        assert_eq!(retries[0].prepare, Some(results.crates[1].steps[0].0.fingerprint));
        assert!(retries[0].reason.unwrap().starts_with("test@nightly"));
    }
}
