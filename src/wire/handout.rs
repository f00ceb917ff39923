//! Work: an agent's requests, the handouts, and how an agent keeps or returns them.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Lease;
use crate::exact;
use crate::experiment::Experiment;
use crate::krate::Selected;
use crate::libtest::Tests;
use crate::ops::OpName;
use crate::outcome::Outcome;
use crate::plan::{Fingerprint, Step};
use crate::toolchain::Toolchain;

/// A request for work, which the server may hold until there is some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// How many crates at most.
    pub want: u32,
    /// How long to wait for the first, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// The answer to a pull. Empty: there is nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handouts {
    /// The crates, in the order in which to begin them.
    pub jobs: Vec<Handout>,
}

/// One crate to run, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handout {
    /// What keeps it the agent's.
    pub lease: Lease,
    /// The experiment's number.
    pub experiment: u32,
    /// Which time the experiment runs.
    pub generation: u32,
    /// Whether a machine was lost while it had the crate: an agent runs one such crate at a time.
    #[serde(default)]
    pub suspect: bool,
    /// The crate.
    pub krate: Selected,
    /// All of its steps, as the server planned them. An agent that plans others must not run it.
    pub steps: Vec<Step>,
    /// The outcomes of its steps that count so far.
    #[serde(default)]
    pub finished: BTreeMap<Fingerprint, Outcome>,
    /// All results of its steps that ran more than once, or whose single tests have a say.
    #[serde(default)]
    pub history: BTreeMap<Fingerprint, Vec<Past>>,
    /// What its ops took before, by their names.
    #[serde(default)]
    pub expect: BTreeMap<OpName, Expected>,
    /// The lockfile of an earlier run, which this one has to use.
    #[serde(default)]
    pub lockfile: Option<String>,
}

/// A result of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Which time the step ran: 1 is the first.
    pub attempt: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// The results of its tests, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Tests>,
}

/// The recorded cost of an op of the crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The mean time.
    pub wall_ms: u64,
    /// The most memory.
    #[serde(default, serialize_with = "exact::maybe_size")]
    pub peak: Option<ByteSize>,
}

/// An experiment as agents need it. It never changes within a generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    /// Its settings.
    pub experiment: Experiment,
    /// Its toolchains as the server pinned them; the folders are the server's and mean nothing to an agent.
    pub toolchains: Vec<Toolchain>,
}

/// A renewal of all leases of an agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Renew {
    /// The leases.
    pub leases: Vec<Lease>,
    /// The number of running ops.
    #[serde(default)]
    pub running: u32,
    /// The load of the host, as `uptime` has it for one minute.
    #[serde(default)]
    pub load: Option<f64>,
}

/// The answer to a renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The leases to drop, each with the reason.
    #[serde(default)]
    pub drop: Vec<(Lease, String)>,
}

/// Leases that an agent returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveBack {
    /// The leases.
    pub leases: Vec<Lease>,
    /// Why.
    pub reason: Reason,
    /// The same in words, for the page on agents.
    #[serde(default)]
    pub detail: String,
    /// From an agent that ends: all that it keeps. All else that it was given is returned, too, such as crates whose
    /// handout never reached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<Lease>>,
}

/// Why an agent returns a crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is ending, or has too little room now.
    Busy,
    /// It will never be able to run crates of this experiment: a toolchain or a sandbox is missing, or it plans other
    /// steps.
    Incapable,
}
