//! The refused requests of a command, in words for its log and its reason.

use std::fmt;
use std::net::IpAddr;

use bytesize::ByteSize;

use super::target::Target;

/// Something that a command wanted to reach and didn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// maar's rules forbid it.
    Refused {
        /// The refused target.
        target: String,
        /// The rule, and the remedy for a user.
        why: String,
    },
    /// It is allowed, but wasn't there.
    Unreachable {
        /// The refused target.
        target: String,
        /// Why it wasn't reached.
        why: String,
    },
}

impl Denial {
    pub(super) fn plain_http(authority: &str) -> Self {
        /// Names of hosts are no longer.
        const LONGEST: usize = 300;
        let authority: String = authority.chars().take(LONGEST).collect();
        Self::Refused { target: format!("http://{authority}"), why: "crates may fetch over https only".to_owned() }
    }

    pub(super) fn port(target: &Target) -> Self {
        let why = format!("its port is not that of https, 443 (`--allow-host {target}` allows it)");
        Self::Refused { target: target.to_string(), why }
    }

    pub(super) fn address(target: &Target, address: IpAddr) -> Self {
        let what = match target.host.parse::<IpAddr>() {
            Ok(_) => "it is not a public address".to_owned(),
            Err(_) => format!("its address {address} is not public"),
        };
        Self::Refused { target: target.to_string(), why: format!("{what} (`--allow-host {target}` allows it)") }
    }

    pub(super) fn too_much(target: &Target, limit: ByteSize) -> Self {
        let why = format!("more than {} were fetched already (`--disk` raises the limit)", limit.display().iec());
        Self::Refused { target: target.to_string(), why }
    }

    pub(super) fn unreachable(target: &Target, why: impl fmt::Display) -> Self {
        Self::Unreachable { target: target.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { target, why } => write!(f, "maar refuses {target}: {why}"),
            Self::Unreachable { target, why } => write!(f, "can't reach {target}: {why}"),
        }
    }
}
