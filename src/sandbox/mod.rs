//! Runs one command in a cell under limits, and measures its cost.
//!
//! A `Sandbox` opens `Cell`s; a cell runs commands, one at a time. Knows nothing of crates, ops or pools.

mod capture;
mod cgroup;
mod console;
mod copy;
mod cores;
mod disk;
pub mod docker;
mod doubt;
mod error;
#[cfg(test)]
pub mod fake;
mod files;
mod held_memory;
mod held_processes;
mod held_replies;
mod helper;
mod host_memory;
mod id_map;
mod launch;
mod live;
pub mod native;
mod outlet;
pub mod probe;
mod process_tree;
mod pty;
mod remove;
pub mod subordinate;
mod supervise;
mod tree;
pub mod unconfined;
mod unlinked;
mod users;

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub use self::cgroup::memory_limit;
pub use self::console::Console;
pub use self::disk::until_roomy;
pub use self::doubt::{Doubt, is_crash};
pub use self::error::{Fault, Remains, SandboxError, Step};
pub use self::files::{Door, Found};
pub use self::helper::{helper_main_if_asked, refuse_system_calls};
pub use self::live::Live;
pub use self::outlet::{Connections, Outlet, outlet};
pub use self::remove::remove_folder;
pub use self::users::User;
use crate::exact;
use crate::owner::Owner;
use crate::stop::Stop;

/// The home folder of the user that commands are: private to each command, in memory.
pub const HOME: &str = "/home/maar";

/// The folders in memory that a command has to itself and loses at its end.
pub const PRIVATE: [&str; 5] = ["/tmp", "/var/tmp", "/dev/shm", "/run/lock", HOME];

/// The host name in cells: always the same, so that no result depends on it.
pub const HOSTNAME: &str = "maar";

/// Something that opens cells.
#[derive(Debug, Clone)]
pub enum Sandbox {
    /// Namespaces, an overlay and cgroups.
    Native(native::Native),
    /// Containers of the Docker daemon.
    Docker(docker::Docker),
    /// Nothing but limits.
    Unconfined(unconfined::Unconfined),
    /// A script, for tests of what uses a sandbox.
    #[cfg(test)]
    Fake(fake::Fake),
}

/// A place for commands. Nothing lives on between them but the writable folders of its mounts.
#[derive(Debug)]
#[expect(missing_docs, reason = "the variants are those of `Sandbox`")]
pub enum Cell {
    Native(native::NativeCell),
    Docker(Box<docker::DockerCell>),
    Unconfined(unconfined::UnconfinedCell),
    #[cfg(test)]
    Fake(fake::FakeCell),
}

/// The inside of one cell, and its limits.
#[derive(Debug, Clone)]
pub struct Spec {
    /// A word for the cell's cgroup; ASCII letters, digits and `-`.
    pub label: String,
    /// Who commands are to the host, from [`Sandbox::user`]. Cells that share folders have the same.
    pub user: User,
    /// An existing, empty folder of the cell's own, removed by its owner after the cell is closed; or, if several cells
    /// have it one after another, after it is [released](Sandbox::release).
    pub scratch: PathBuf,
    /// The mounts, in this order.
    pub mounts: Vec<Mount>,
    /// What commands reach of the network.
    pub network: Network,
    /// The limits of a command.
    pub limits: Limits,
    /// Where the output of running commands can be followed, if it can.
    pub live: Option<Live>,
    /// Why an earlier run of the same commands was in doubt, if this one repeats it. Where no controller counts what it
    /// may have been refused, this run gets more than its limit, and is ended when it is seen to use more.
    pub after: Option<Doubt>,
}

/// A file or folder of the host that a cell sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where in the cell: an absolute path.
    pub at: PathBuf,
    /// The source.
    pub what: MountKind,
}

/// The source of a mount.
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
    /// As [`Overlay`](Self::Overlay), for a folder that commands may change in every way: its folders can be renamed
    /// too, unless maar is an ordinary user and the folder is large.
    Copy {
        /// As that of an overlay.
        lower: PathBuf,
        /// As that of an overlay.
        upper: PathBuf,
        /// As that of an overlay.
        work: PathBuf,
    },
}

/// The network of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A private loopback interface and nothing else.
    Loopback,
    /// As [`Loopback`](Self::Loopback), with an [`Outlet`] at [`Cell::outlet`].
    Outlet,
}

/// The limits of one command.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// CPU time per wall time: 1.5 is one and a half cores.
    pub cpus: f64,
    /// Memory of all its processes together, page cache and tmpfs included as the kernel counts them.
    #[serde(serialize_with = "exact::size")]
    pub memory: ByteSize,
    /// Concurrent processes and threads.
    pub pids: u32,
    /// Wall time.
    pub timeout: Duration,
    /// Wall time without output and with next to no CPU use.
    pub idle_timeout: Duration,
    /// How much output is kept: half of it from the beginning, half from the end. [`Limits::ALL_OUTPUT`] keeps it
    /// whole.
    #[serde(serialize_with = "exact::size")]
    pub output: ByteSize,
    /// How much the folders that it writes to may hold, all together; an empty file counts for 4 KiB, and a hole for
    /// nothing.
    #[serde(serialize_with = "exact::size")]
    pub disk: ByteSize,
    /// Whether others run on its cores.
    pub cores: Cores,
}

/// Which cores a command runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cores {
    /// On any, with others.
    #[default]
    Shared,
    /// On as many whole ones as [`Limits::cpus`] needs, which no other command of the sandbox gets in that time:
    /// `nproc` prints their number.
    Own,
}

/// How much any command may print, kept or not. Limits that keep more also let it print more.
const MAX_PRINTED: ByteSize = ByteSize::mib(256);

impl Limits {
    /// The [`Limits::output`] that keeps everything.
    pub const ALL_OUTPUT: ByteSize = ByteSize(u64::MAX);

    /// How much a command may print, kept or not, before it is ended.
    ///
    /// maar holds output in its own memory. Where all output is kept, its limit is the command's memory limit.
    pub fn most_printed(&self) -> ByteSize {
        if self.output == Self::ALL_OUTPUT { self.memory.max(MAX_PRINTED) } else { self.output.max(MAX_PRINTED) }
    }
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

/// The end, the cost and the output of a command.
#[derive(Debug, Clone)]
pub struct Exit {
    /// How it ended.
    pub end: End,
    /// Its cost.
    pub usage: Usage,
    /// Its output to stdout and stderr, which are one pseudo-terminal.
    pub output: Output,
    /// Why its failure may not be its own: a reason to run it once more, with this as [`Spec::after`].
    pub doubt: Option<Doubt>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal, which maar didn't send.
    Signal(i32),
    /// It ran longer than [`Limits::timeout`] and was killed.
    TimedOut,
    /// It did nothing for [`Limits::idle_timeout`] and was killed.
    Idle,
    /// The kernel killed one of its processes for lack of memory, and it did not succeed. Where no controller counts
    /// memory: it was seen to hold more than it may.
    OutOfMemory,
    /// The same, but it was the host that had no memory left: the command was within [`Limits::memory`].
    HostOutOfMemory,
    /// It was refused a process or thread because it had [`Limits::pids`], and did not succeed.
    OutOfProcesses,
    /// Its folders held more than [`Limits::disk`], and it did not succeed.
    OverDisk,
    /// The host's disk was full, and it did not succeed.
    OutOfDisk,
    /// It printed more than [`Limits::most_printed`] and was killed.
    Flooded,
    /// It was killed because everything is to stop.
    Stopped,
}

/// The cost of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From start to end.
    pub wall: Duration,
    /// User and system time of all its processes.
    pub cpu: Duration,
    /// Its memory peak, where the host accounts for it.
    pub peak_memory: Option<ByteSize>,
}

/// The output of a command: all of it, or its head and its tail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The first bytes; all of them when nothing was dropped.
    pub head: Vec<u8>,
    /// The last bytes; empty when nothing was dropped.
    pub tail: Vec<u8>,
    /// How many bytes between head and tail were dropped.
    pub dropped: u64,
}

impl Sandbox {
    /// Opens a cell.
    ///
    /// # Errors
    /// When the spec is invalid or its folders can't be used.
    pub async fn open(&self, spec: Spec) -> Result<Cell, SandboxError> {
        spec.check()?;
        match self {
            Self::Native(native) => native.open(spec).await.map(Cell::Native),
            Self::Docker(docker) => docker.open(spec).await.map(|cell| Cell::Docker(Box::new(cell))),
            Self::Unconfined(unconfined) => unconfined.open(spec).await.map(Cell::Unconfined),
            #[cfg(test)]
            Self::Fake(fake) => Ok(Cell::Fake(fake.open(spec))),
        }
    }

    /// A user for the commands of one job, who must own the files that they change, writable folders and both sides of
    /// overlays. As root, no two jobs have the same user at once.
    pub fn user(&self) -> User {
        match self {
            Self::Native(native) => native.user(),
            Self::Docker(docker) => docker.user(),
            Self::Unconfined(_) => User::of_maar(),
            #[cfg(test)]
            Self::Fake(fake) => User::shared(fake.owner),
        }
    }

    /// Gives up the resources for further cells with this scratch folder. A caller that removes the folders of its
    /// mounts calls it before.
    ///
    /// # Errors
    /// When it can't be given up.
    pub async fn release(&self, scratch: &Path) -> Result<(), SandboxError> {
        match self {
            Self::Docker(docker) => docker.release(scratch).await,
            Self::Native(_) | Self::Unconfined(_) => Ok(()),
            #[cfg(test)]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Describes the limits that this host can't enforce, for commands on such cores.
    pub fn unenforced(&self, cores: Cores) -> Vec<String> {
        match self {
            Self::Native(native) => native.unenforced(cores),
            Self::Docker(docker) => docker.unenforced(cores),
            Self::Unconfined(unconfined) => unconfined.unenforced(cores),
            #[cfg(test)]
            Self::Fake(_) => Vec::new(),
        }
    }
}

impl Cell {
    /// The path by which commands find the spec's mount at `at`, or files below it.
    pub fn path(&self, at: &Path) -> PathBuf {
        match self {
            Self::Native(_) | Self::Docker(_) => at.to_owned(),
            Self::Unconfined(cell) => cell.path(at),
            #[cfg(test)]
            Self::Fake(_) => at.to_owned(),
        }
    }

    /// The path of the mount at `at` for commands that see the host's folders above it.
    pub fn shows_folders_above(&self, at: &Path) -> Option<PathBuf> {
        match self {
            Self::Native(_) | Self::Docker(_) => None,
            Self::Unconfined(cell) => Some(cell.path(at)),
            #[cfg(test)]
            Self::Fake(_) => None,
        }
    }

    /// Where commands find the outlet of a cell that has one: the address of an HTTP proxy or another service.
    pub fn outlet(&self) -> SocketAddr {
        match self {
            Self::Native(_) | Self::Docker(_) => outlet::ADDRESS,
            Self::Unconfined(cell) => cell.outlet(),
            #[cfg(test)]
            Self::Fake(_) => outlet::ADDRESS,
        }
    }

    /// Runs a command to its end. When this returns, no process of it is left.
    ///
    /// # Errors
    /// When the command could not be started or kept; never because it failed.
    pub async fn run(&mut self, command: &Command, stop: &Stop) -> Result<Exit, SandboxError> {
        self.run_on(command, stop, None, None).await
    }

    /// As [`run`](Self::run), in a cell with [`Network::Outlet`]: the connections that the command makes come out at
    /// the other end of `outlet` until it ends.
    ///
    /// # Errors
    /// When the command could not be started or kept; never because it failed.
    pub async fn run_with(&mut self, command: &Command, stop: &Stop, outlet: Outlet) -> Result<Exit, SandboxError> {
        self.run_on(command, stop, None, Some(outlet)).await
    }

    /// As [`run`](Self::run), but lends the command the user's terminal while it runs.
    ///
    /// # Errors
    /// When the command could not be started or kept; never because it failed.
    pub async fn attend(
        &mut self,
        command: &Command,
        stop: &Stop,
        console: &mut Console,
    ) -> Result<Exit, SandboxError> {
        self.run_on(command, stop, Some(console), None).await
    }

    async fn run_on(
        &mut self,
        command: &Command,
        stop: &Stop,
        console: Option<&mut Console>,
        outlet: Option<Outlet>,
    ) -> Result<Exit, SandboxError> {
        match self {
            Self::Native(cell) => cell.run(command, stop, console, outlet).await,
            Self::Docker(cell) => cell.run(command, stop, console, outlet).await,
            Self::Unconfined(cell) => cell.run(command, stop, console, outlet).await,
            #[cfg(test)]
            Self::Fake(cell) => Ok(cell.run(command)),
        }
    }

    /// Removes the cell's traces on the host, besides the files that commands wrote. Dropping does too, silently.
    ///
    /// # Errors
    /// When something of it can't be removed.
    pub async fn close(self) -> Result<(), SandboxError> {
        match self {
            Self::Native(cell) => cell.close(),
            Self::Docker(cell) => {
                cell.close();
                Ok(())
            }
            Self::Unconfined(_) => Ok(()),
            #[cfg(test)]
            Self::Fake(_) => Ok(()),
        }
    }
}

impl Spec {
    /// The longest label, in bytes: names of cgroups end at 255, and get a number.
    const MAX_LABEL: usize = 63;

    fn check(&self) -> Result<(), SandboxError> {
        let refuse = |reason: String| Err(SandboxError::Spec { label: self.label.clone(), reason });
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.label.is_empty() || self.label.len() > Self::MAX_LABEL || !self.label.chars().all(allowed) {
            return refuse(format!("its label must be 1 to {} ASCII letters, digits and `-`", Self::MAX_LABEL));
        }
        if !(self.limits.cpus.is_finite() && self.limits.cpus > 0.0) {
            return refuse(format!("{} is no number of CPUs", self.limits.cpus));
        }
        // The kernel takes a file system in memory of size 0 for one without a limit.
        if self.limits.memory.as_u64() == 0 {
            return refuse("it has no memory".to_owned());
        }
        for Mount { at, .. } in &self.mounts {
            let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
            if !at.is_absolute() || at.parent().is_none() || !at.components().all(is_plain) {
                return refuse(format!("nothing can be mounted at `{}`", at.display()));
            }
        }
        Ok(())
    }

    /// The maximum size of each private folder in memory, in bytes. The kernel doesn't report that one is full.
    fn private_space(&self) -> u64 {
        /// Where only a measurement ends a command, the folders have room for more than its limit.
        const ROOM: u64 = 4;
        let memory = self.limits.memory.as_u64();
        if self.after == Some(Doubt::Memory) { memory.saturating_mul(ROOM) } else { memory }
    }

    /// The folders of the host that commands write to.
    fn written_folders(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().filter_map(|mount| match &mount.what {
            MountKind::ReadOnly(_) => None,
            MountKind::Writable(folder)
            | MountKind::Overlay { upper: folder, .. }
            | MountKind::Copy { upper: folder, .. } => Some(folder.as_path()),
        })
    }
}

/// Runs blocking work on a thread of the pool for it, and passes its panic on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(label: &str, at: &str) -> Spec {
        let limits = Limits {
            cpus: 1.0,
            memory: ByteSize::mib(1),
            pids: 1,
            timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            output: ByteSize::kib(1),
            disk: ByteSize::mib(1),
            cores: Cores::Shared,
        };
        let mounts = vec![Mount { at: at.into(), what: MountKind::ReadOnly("/x".into()) }];
        let (label, user) = (label.to_owned(), User::of_maar());
        Spec { label, user, scratch: "/s".into(), mounts, network: Network::Loopback, limits, after: None, live: None }
    }

    #[test]
    fn specs_that_could_lead_astray_are_refused() {
        assert!(spec("a-1", "/work/src").check().is_ok());
        for (label, at) in [
            ("", "/work"),
            ("a/b", "/work"),
            ("a\n", "/work"),
            (&"a".repeat(64), "/work"),
            ("a", "/"),
            ("a", "work"),
            ("a", "/work/../etc"),
        ] {
            assert!(spec(label, at).check().is_err(), "{label} {at}");
        }
    }

    #[test]
    fn limits_of_nothing_are_refused() {
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut spec = spec("a", "/work");
            spec.limits.cpus = cpus;
            assert!(spec.check().is_err(), "{cpus}");
        }
        let mut spec = spec("a", "/work");
        spec.limits.memory = ByteSize(0);
        assert_eq!(spec.check().unwrap_err().to_string(), "the cell `a` can't be made: it has no memory");
    }
}
