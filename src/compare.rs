//! Results → one verdict per crate. Pure.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

use crate::krate::Selected;
use crate::outcome::Outcome;
use crate::plan::Step;
use crate::toolchain::Toolchain;

/// All that is known of an experiment.
#[derive(Debug, Clone)]
pub struct Results {
    /// Its name.
    pub experiment: String,
    /// Its toolchains, the baseline first.
    pub toolchains: Vec<Toolchain>,
    /// What a reader must know of how it ran, such as a limit that this host can't enforce.
    pub notes: Vec<String>,
    /// The crates in the order of the selection.
    pub crates: Vec<CrateResults>,
}

/// All that is known of one crate.
#[derive(Debug, Clone)]
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
}

/// What an experiment says of one crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A later toolchain fails what the baseline passes.
    Regressed,
    /// A later toolchain passes what the baseline fails.
    Fixed,
    /// It fails in the build stage, the same way on all toolchains.
    BuildFail,
    /// It fails in the test stage, the same way on all toolchains.
    TestFail,
    /// It can't be built by anyone.
    Broken,
    /// A limit or the host stood in the way on some toolchain.
    Inconclusive,
    /// maar itself failed on it.
    Error,
    /// Nothing was asked for.
    Skipped,
    /// It passes everything on all toolchains.
    Pass,
    /// The run has not finished it.
    Pending,
}

impl Verdict {
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
