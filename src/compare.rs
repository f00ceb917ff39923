//! Results → one verdict per crate, and the report of all of them. Pure.
//!
//! What a run took is in `compare/account.rs`; what a verdict means is in `compare/judge.rs`; what single tests say of it
//! is in `compare/finding.rs`; what a report holds is in `compare/report.rs`.

mod account;
mod finding;
mod judge;
mod report;
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
pub use finding::{Finding, NotRun, TestName};
pub use judge::{Deciding, Judgement, Standing, first_trouble, judge};
pub(crate) use report::timestamp;
pub use report::{
    Conclusion, CrateReport, OpReport, Report, Source, Summary, ToolchainIdentity, ToolchainReport, compare, conclude,
    report_crate,
};

/// All that is known of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// Its name.
    pub experiment: String,
    /// Its toolchains, the baseline first.
    pub toolchains: Vec<Toolchain>,
    /// What a reader must know of how it ran, such as a limit that this host can't enforce.
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
    /// Every planned step in order, with what came of it, if it ran.
    pub steps: Vec<(Step, Option<OpResult>)>,
}

/// What came of a step that ran.
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
    /// What its tests came to, one by one, if it ran any.
    pub tests: Option<Arc<Tests>>,
}

impl OpResult {
    /// Whether it ran only some tests, to confirm a difference.
    pub fn is_partial(&self) -> bool {
        self.tests.as_ref().is_some_and(|tests| tests.selected)
    }
}

/// What an experiment says of one crate. The order is that of reports: what needs a look comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A later toolchain fails what the baseline passes.
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
    /// A later toolchain passes what the baseline fails.
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
