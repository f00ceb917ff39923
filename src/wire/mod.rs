//! What agents and the server write to each other: version 1 of the JSON that goes over HTTP, and the bundle of logs.
//!
//! Pure. Fields that this version doesn't define are ignored, so that either side may be newer; a peer whose
//! [`VERSION`] differs is refused before anything else is read. Trusts no size: see [`MAX_REPORT`] and [`bundle`].

pub mod bundle;
mod digest;
mod handout;
mod hello;
mod report;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use digest::{BadDigest, Digest};
pub use handout::{Assigned, Expected, GiveBack, Handout, Handouts, Past, Pull, Reason, Renew, Renewed};
pub use hello::{Hello, Welcome};
pub use report::{Answer, Blob, Report, StepReport, Units};

/// The version of everything in this room. It rises when an older peer would misread a message.
pub const VERSION: u32 = 1;

/// The longest report, in bytes of JSON.
pub const MAX_REPORT: usize = 256 * 1024;

/// The longest bundle of logs, in bytes.
pub const MAX_BUNDLE: usize = 64 * 1024 * 1024;

/// The longest message of an agent that is not a report or a bundle, in bytes of JSON.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A lease as agents see it: a text that only the server can read or make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease(pub String);

/// Why a peer is refused before its message is read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("wire version {theirs} is not supported, this maar has version {VERSION}: install the same maar on both hosts")]
pub struct OtherVersion {
    /// The version of the peer.
    pub theirs: u32,
}

/// Checks the version of a peer.
pub fn check_version(theirs: u32) -> Result<(), OtherVersion> {
    if theirs == VERSION { Ok(()) } else { Err(OtherVersion { theirs }) }
}
