//! The ops of a crate as they ran: one that several toolchains share is there once.

use std::time::Duration;

use crate::compare::{CrateReport, OpReport};

/// An op that ran, with the toolchains whose result it is.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) op: &'a OpReport,
    pub(super) toolchains: Vec<&'a str>,
}

/// The ops of a crate, in the order in which they ran.
pub(super) fn runs(krate: &CrateReport) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for result in &krate.results {
        for op in &result.ops {
            let same = |run: &&mut Run<'_>| run.op.log == op.log;
            match runs.iter_mut().find(same) {
                Some(run) => run.toolchains.push(&result.toolchain),
                None => runs.push(Run { op, toolchains: vec![&result.toolchain] }),
            }
        }
    }
    runs
}

/// How long all of them took.
pub(super) fn wall(runs: &[Run<'_>]) -> Duration {
    runs.iter().map(|run| Duration::from_millis(run.op.wall_ms)).fold(Duration::ZERO, Duration::saturating_add)
}

/// The CPU time of all of them.
pub(super) fn cpu(runs: &[Run<'_>]) -> Duration {
    runs.iter().map(|run| Duration::from_millis(run.op.cpu_ms)).fold(Duration::ZERO, Duration::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{compare, sample};

    #[test]
    fn what_toolchains_share_is_there_once() {
        let report = compare(&sample::results(2, vec![sample::crate_of('p', &["pp", "f-"])]));
        let runs = runs(&report.crates[0]);
        let shown: Vec<(&str, usize)> = runs.iter().map(|run| (run.op.op.as_str(), run.toolchains.len())).collect();
        assert_eq!(shown, [("prepare", 2), ("build", 1), ("test", 1), ("build", 1)]);
        assert_eq!(wall(&runs), Duration::from_millis(4 * 61_500));
        assert_eq!(cpu(&runs), Duration::from_millis(4 * 59_123));
    }
}
