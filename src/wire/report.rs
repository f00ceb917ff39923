//! The report on one crate, as an agent sends it.

use serde::{Deserialize, Serialize};

use super::bundle::Span;
use super::{Digest, Lease};
use crate::outcome::Outcome;
use crate::plan::Fingerprint;

/// All results of a crate. The logs are in a bundle, which is uploaded first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The lease under which it was run.
    pub lease: Lease,
    /// The version of maar, for people.
    pub agent: String,
    /// The digest of the agent's compilers, libraries and ids.
    pub environment: Digest,
    /// The version lines of the toolchains, the baseline first.
    pub toolchains: Vec<String>,
    /// Every step that ran, in order.
    pub steps: Vec<StepReport>,
    /// The bundle; none if there is nothing in it.
    pub bundle: Option<Blob>,
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Which step.
    pub fingerprint: Fingerprint,
    /// Which time it ran.
    pub attempt: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// When it began, by the agent's clock, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it took.
    pub wall_us: u64,
    /// User and system time of all its processes.
    #[serde(default)]
    pub cpu_us: u64,
    /// The most memory it held, in bytes.
    #[serde(default)]
    pub peak: Option<u64>,
    /// How long it waited for a worker.
    #[serde(default)]
    pub waited_us: u64,
    /// Which worker ran it.
    #[serde(default)]
    pub worker: u32,
    /// Its dependencies that crates share.
    #[serde(default)]
    pub units: Units,
    /// The first part of its log.
    #[serde(default)]
    pub head: Span,
    /// The last part of its log, if some of it was dropped.
    #[serde(default)]
    pub tail: Span,
    /// How many bytes between the two were dropped.
    #[serde(default)]
    pub dropped: u64,
    /// The results of its tests, as JSON in the bundle.
    #[serde(default)]
    pub tests: Option<Span>,
    /// The lockfile that it made.
    #[serde(default)]
    pub lockfile: Option<Span>,
}

/// How many dependencies that crates share an op compiled or reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of `ops::Tally`")]
pub struct Units {
    pub compiled: u64,
    pub reused: u64,
    pub in_op: u64,
    pub again: u64,
}

/// Bytes that were uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Their digest.
    pub sha256: Digest,
    /// How many there are.
    pub bytes: u64,
}

/// The answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it counts: the first complete report on a crate does.
    pub accepted: bool,
    /// Why not.
    #[serde(default)]
    pub why: Option<String>,
}
