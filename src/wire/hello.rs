//! The first message of an agent, and its answer.

use std::collections::BTreeSet;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::exact;

/// The description of an agent. It claims this; nothing is decided in favour of an agent because of it but the work
/// that it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of maar, for people.
    pub version: String,
    /// [`VERSION`](super::VERSION) of the agent.
    pub wire: u32,
    /// Such as `linux`.
    pub os: String,
    /// Such as `x86_64`.
    pub arch: String,
    /// How many cores ops may use.
    pub cores: u32,
    /// How much memory, if the host can tell.
    #[serde(default, serialize_with = "exact::maybe_size")]
    pub memory: Option<ByteSize>,
    /// How much room there is on the disk of its home.
    #[serde(default, serialize_with = "exact::maybe_size")]
    pub disk: Option<ByteSize>,
    /// The sandboxes that work there, such as `native`.
    pub sandbox: BTreeSet<String>,
    /// A digest of the compilers, libraries and ids of the host.
    pub environment: Digest,
    /// What its owner calls it, such as `big` or `gpu`.
    #[serde(default)]
    pub labels: BTreeSet<String>,
    /// The largest number of crates that it takes at a time.
    pub cap: u32,
    /// The agent's clock, in milliseconds since 1970.
    pub now_ms: u64,
}

/// The answer of the server: how the agent is called, and how often it has to renew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The name of the agent's token.
    pub name: String,
    /// How long a lease lasts without a renewal, in milliseconds.
    pub lease_ms: u64,
    /// How often to renew, in milliseconds.
    pub renew_ms: u64,
    /// How long a pull may wait, in milliseconds.
    pub poll_ms: u64,
    /// The largest number of crates that the agent may have at a time.
    pub cap: u32,
    /// The server's clock, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Welcome {
    /// How often to renew. Never quicker than ten times a second, even if the server asks for more.
    pub fn renew(&self) -> Duration {
        Duration::from_millis(self.renew_ms.max(100))
    }

    /// How long a pull may wait.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}
