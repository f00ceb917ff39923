//! Runs one command in a cell under limits, and says what it cost.
//!
//! A `Sandbox` opens `Cell`s; a cell runs commands, one at a time. Knows nothing of crates, ops or pools.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// What one cell looks like from inside, and what it may use.
#[derive(Debug, Clone)]
pub struct Spec {
    /// A word for the cell's cgroup and host name; ASCII letters, digits and `-`.
    pub label: String,
    /// An existing, empty folder of the cell's own, removed by its owner after the cell is closed.
    pub scratch: PathBuf,
    /// What is mounted where, in this order.
    pub mounts: Vec<Mount>,
    /// Whether commands reach the network.
    pub network: Network,
    /// What a command may use.
    pub limits: Limits,
}

/// Something of the host's that a cell sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where in the cell: an absolute path.
    pub at: PathBuf,
    /// What is there.
    pub what: MountKind,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A file or folder of the host, read-only.
    ReadOnly(PathBuf),
    /// A folder of the host, writable.
    Writable(PathBuf),
    /// A read-only folder whose changes go to another.
    Overlay {
        /// The folder seen through; never changed.
        lower: PathBuf,
        /// Where changes go: an existing folder that outlives the cell, so that the next cell sees them.
        upper: PathBuf,
        /// An existing folder on the file system of `upper`, for the kernel's own use.
        work: PathBuf,
    },
}

/// Whether a cell reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The host's network.
    Host,
    /// A loopback interface of its own and nothing else.
    Loopback,
}

/// What one command may use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// CPU time per wall time: 1.5 is one and a half cores.
    pub cpus: f64,
    /// Memory of all its processes together, page cache and tmpfs included as the kernel counts them.
    pub memory: ByteSize,
    /// Processes and threads at one time.
    pub pids: u32,
    /// Wall time.
    pub timeout: Duration,
    /// Wall time without output and with next to no CPU use.
    pub idle_timeout: Duration,
    /// How much output is kept: half of it from the beginning, half from the end.
    pub output: ByteSize,
}

/// A command to run in a cell. Paths are those `Cell::path` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program, an absolute path or a name that is looked up in the `PATH` of `env`, then its arguments.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: PathBuf,
}

/// How a command ended, what it cost and what it printed.
#[derive(Debug, Clone)]
pub struct Exit {
    /// How it ended.
    pub end: End,
    /// What it cost.
    pub usage: Usage,
    /// What it printed to stdout and stderr, which are one pseudo-terminal.
    pub output: Output,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal, which nobody outside the cell sent.
    Signal(i32),
    /// It ran longer than [`Limits::timeout`] and was killed.
    TimedOut,
    /// It did nothing for [`Limits::idle_timeout`] and was killed.
    Idle,
    /// The kernel killed one of its processes for lack of memory, and it did not succeed.
    OutOfMemory,
    /// It found no space left on the disk, and did not succeed.
    OutOfDisk,
    /// It was killed because everything is to stop.
    Stopped,
}

/// What a command cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From start to end.
    pub wall: Duration,
    /// User and system time of all its processes.
    pub cpu: Duration,
    /// The most memory it held at one time, where the host can tell.
    pub peak_memory: Option<ByteSize>,
}

/// What a command printed: all of it, or its head and its tail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The first bytes; all of them when nothing was dropped.
    pub head: Vec<u8>,
    /// The last bytes; empty when nothing was dropped.
    pub tail: Vec<u8>,
    /// How many bytes between head and tail were dropped.
    pub dropped: u64,
}
