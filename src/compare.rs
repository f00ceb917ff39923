//! Results → one verdict per crate, and the report of all of them. Pure.
//!
//! The cost of runs is in `compare/account.rs`, the rules of verdicts in `compare/judge.rs`, those of single tests in
//! `compare/finding.rs`, and the fields of a report in `compare/report.rs`.

mod account;
mod expected;
mod finding;
mod judge;
mod report;
mod retry;
#[cfg(test)]
pub(crate) mod sample;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

use crate::krate::Selected;
use crate::libtest::Tests;
use crate::ops::Tally;
use crate::outcome::Outcome;
use crate::plan::Step;
use crate::toolchain::Toolchain;

pub use account::{PoolReport, RunRecord, RunReport, Span};
pub use expected::expect_failures;
pub use finding::{Finding, NotRun, TestName};
pub use judge::{Deciding, Judgement, Standing, first_trouble, judge};
pub(crate) use report::timestamp;
pub use report::{
    Conclusion, CrateReport, OpReport, Report, Source, Summary, ToolchainIdentity, ToolchainReport, compare, conclude,
    report_crate,
};
pub use retry::{Retry, retries};

/// All that is known of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// Its name.
    pub experiment: String,
    /// Its toolchains, the baseline first.
    pub toolchains: Vec<Toolchain>,
    /// Notes for the reader, such as a limit that this host can't enforce.
    pub notes: Vec<String>,
    /// The crates in the order of the selection.
    pub crates: Vec<CrateResults>,
    /// How it was run, the first time first.
    pub runs: Vec<RunRecord>,
}

/// All that is known of one crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrateResults {
    /// The crate.
    pub krate: Selected,
    /// Every planned step in order, with its result, if it ran.
    pub steps: Vec<(Step, Option<OpResult>)>,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpResult {
    /// The outcome.
    pub outcome: Outcome,
    /// When it started.
    pub started: SystemTime,
    /// How long it took.
    pub wall: Duration,
    /// User and system time of all its processes.
    pub cpu: Duration,
    /// The most memory it held, where the host can tell.
    pub peak_memory: Option<ByteSize>,
    /// How long it waited until it could start.
    pub waited: Duration,
    /// The number of its worker in the pool, from 0.
    pub worker: usize,
    /// Its dependencies that crates share: those that were compiled ahead of it, and those that were there.
    pub units: Tally,
    /// The results of its tests, one by one, if it ran any.
    pub tests: Option<Arc<Tests>>,
}

impl OpResult {
    /// A result with an outcome alone: of no known time, and without any cost.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            started: SystemTime::UNIX_EPOCH,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_memory: None,
            waited: Duration::ZERO,
            worker: 0,
            units: Tally::default(),
            tests: None,
        }
    }

    /// Whether it ran only some tests, to confirm a difference.
    pub fn is_partial(&self) -> bool {
        self.tests.as_ref().is_some_and(|tests| tests.selected)
    }
}

/// The answer of an experiment for one crate. The order is that of reports: crates that need a look come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Passes on the baseline, fails on a later toolchain.
    Regressed,
    /// maar itself failed on it.
    Error,
    /// It fails in the build stage, on all toolchains.
    BuildFail,
    /// It fails in the test stage, on all toolchains.
    TestFail,
    /// A limit or the host stood in the way on some toolchain.
    Inconclusive,
    /// It can't be built by anyone.
    Broken,
    /// Fails on the baseline, passes on a later toolchain.
    Fixed,
    /// The run has not finished it.
    Pending,
    /// Nothing was asked for.
    Skipped,
    /// It passes everything on all toolchains.
    Pass,
}

impl Verdict {
    /// All verdicts, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Regressed,
        Self::Error,
        Self::BuildFail,
        Self::TestFail,
        Self::Inconclusive,
        Self::Broken,
        Self::Fixed,
        Self::Pending,
        Self::Skipped,
        Self::Pass,
    ];

    /// The name that reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Regressed => "regressed",
            Self::Error => "error",
            Self::BuildFail => "build-fail",
            Self::TestFail => "test-fail",
            Self::Inconclusive => "inconclusive",
            Self::Broken => "broken",
            Self::Fixed => "fixed",
            Self::Pending => "pending",
            Self::Skipped => "skipped",
            Self::Pass => "pass",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
