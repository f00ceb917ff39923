//! Experiment → each crate's queue. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::krate::Selected;
use crate::ops::Op;

/// One step of a crate's way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// With which toolchain (its place in the experiment's list); none: for all, as `prepare`.
    pub toolchain: Option<usize>,
    /// 1, and more for a repetition.
    pub attempt: u32,
    /// What identifies the step's result.
    pub fingerprint: Fingerprint,
}

/// The SHA-256, in hexadecimal, of all that a step's result depends on: the crate and its checksum or digest, the op,
/// the identity of the toolchain, features, environment, lockfile mode and sandbox. Limits are not in it: a result
/// that a limit cut short is not settled under others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub String);

/// The whole way of one crate, whether done or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CratePlan {
    /// The crate.
    pub krate: Selected,
    /// Its steps in order: `prepare`, then the ops of the first toolchain, then those of the second.
    pub steps: Vec<Step>,
}

/// What is still to be done for one crate.
pub type Queue = VecDeque<Step>;
