//! What maar and its helper say to each other: one job there, one report back, as JSON over a socket.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sandbox::cgroup::Entrances;
use crate::sandbox::error::Fault;
use crate::sandbox::{Command, Console, Mount, Network, Owner};

/// The name under which a helper is started, as the first of its arguments.
pub(crate) const ARGV0: &str = "maar-sandbox-helper";

/// The longest job, in bytes. The kernel takes at most 2 MiB or so of arguments and environment anyway.
pub(crate) const MAX_JOB: usize = 4 << 20;

/// The longest report, in bytes.
pub(crate) const MAX_REPORT: usize = 64 << 10;

/// The job of a helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The cgroups to enter.
    pub(crate) cgroups: Entrances,
    /// The cores to run on; none: any.
    pub(crate) cores: Vec<usize>,
    /// What keeps the command in.
    pub(crate) isolation: Isolation,
    /// Its network.
    pub(crate) network: Network,
    /// Its standard input.
    pub(crate) input: Input,
    /// The command itself.
    pub(crate) command: Command,
    /// The kernel's limits for each process.
    pub(crate) rlimits: Rlimits,
}

/// The standard input of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Input {
    /// `/dev/null`.
    Nothing,
    /// The pseudo-terminal, to which a user types.
    Terminal,
}

impl Input {
    /// That of a command with or without a user.
    pub(crate) fn of(console: Option<&Console>) -> Self {
        console.map_or(Self::Nothing, |_| Self::Terminal)
    }
}

/// What keeps a command in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Isolation {
    /// Namespaces, a private root, an unprivileged user.
    Namespaces(Namespaces),
    /// Nothing: only its death is seen to.
    None,
}

/// The inside of a cell.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    /// Who the command is to the host.
    pub(crate) identity: Identity,
    /// The host's id for root inside; `None`: root inside has no id on the host.
    pub(crate) roots: Option<Owner>,
    /// An existing, empty folder to mount the cell's root on.
    pub(crate) root: PathBuf,
    /// Its mounts besides the system folders.
    pub(crate) mounts: Vec<Mount>,
    /// How large each of its private folders in memory may grow, in bytes.
    pub(crate) memory: u64,
}

/// Who a command, uid 1000 inside, is to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Identity {
    /// maar is root: namespaces and mounts belong to root, the command to this user.
    Unprivileged(Owner),
    /// maar is this user: so is the command, and a user namespace comes first.
    Rootless(Owner),
}

/// Limits of single processes, where nothing better exists or as a second line.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rlimits {
    /// Processes and threads of the cell's user.
    pub(crate) processes: Option<u64>,
    /// Private memory of one process, in bytes.
    pub(crate) data: Option<u64>,
    /// Into how many parts the limits that the kernel counts by user are divided: so many cells may have the same user.
    pub(crate) sharers: u64,
}

/// The result of a job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The command ran.
    Ended {
        /// How it ended.
        ended: Ended,
        /// User and system time of all its processes.
        cpu: Duration,
        /// The most memory that one of its processes held, in bytes, unless that of an earlier command hides it.
        largest: Option<u64>,
    },
    /// It could not be run.
    Failed(Fault),
}

/// How the main process of a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// Everything was killed from outside before it ended.
    Killed,
}

/// Encodes a job or report: its length in four bytes, little endian, then JSON.
pub(crate) fn encode(message: &impl Serialize, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= limit => bytes[..4].copy_from_slice(&prefix.to_le_bytes()),
        _ => return Err(io::Error::other(format!("it takes {length} bytes where {limit} are allowed"))),
    }
    Ok(bytes)
}

/// Decodes what [`encode`] made. `None`: there is not a single byte.
pub(crate) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> io::Result<Option<T>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    receive(&mut &bytes[..], bytes.len()).map(Some)
}

/// Sends a message of the helper.
pub(super) fn send(stream: &mut impl Write, message: &impl Serialize, limit: usize) -> io::Result<()> {
    stream.write_all(&encode(message, limit)?)
}

/// Receives one message of at most `limit` bytes.
pub(super) fn receive<T: for<'a> Deserialize<'a>>(stream: &mut impl Read, limit: usize) -> io::Result<T> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let length = u32::from_le_bytes(prefix) as usize;
    if length > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_way() {
        let bytes = encode(&Ended::Code(3), 100).unwrap();
        assert_eq!(decode::<Ended>(&bytes).unwrap(), Some(Ended::Code(3)));
        assert_eq!(decode::<Ended>(&[]).unwrap(), None);
    }

    #[test]
    fn messages_that_are_too_long_or_cut_short_are_refused() {
        assert!(encode(&"x".repeat(100), 100).is_err());
        assert!(decode::<Ended>(&u32::MAX.to_le_bytes()).is_err());
        let bytes = encode(&Ended::Killed, 100).unwrap();
        assert!(decode::<Ended>(&bytes[..bytes.len() - 1]).is_err());
    }
}
