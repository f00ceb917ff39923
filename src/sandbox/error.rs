//! Why a cell could not be made or a command not be run: never the command's own failure, which is an `End`.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Why a sandbox failed. The host, the configuration or maar is to blame, not the command.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The spec names something that no cell can have.
    #[error("the cell `{}` can't be made: {reason}", .label.escape_debug())]
    Spec {
        /// The label of the spec.
        label: String,
        /// The fault.
        reason: String,
    },
    /// A file or folder that the cell needs is not usable.
    #[error("failed to {doing} {}: {source}", .path.display())]
    Path {
        /// The action that failed, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A pseudo-terminal for the output could not be had.
    #[error("failed to open a pseudo-terminal: {0} (is /dev/pts mounted, and kernel.pty.max not reached?)")]
    Terminal(io::Error),
    /// The outlet of a cell could not be made.
    #[error("failed to open the cell's outlet: {0} (are file descriptors, `ulimit -n`, and ports left?)")]
    Outlet(io::Error),
    /// The helper process could not be started or reached.
    #[error("failed to {doing} the sandbox helper {}: {source}", .path.display())]
    Helper {
        /// The action that failed, as a verb.
        doing: &'static str,
        /// The program that serves as helper.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The helper process ended without a word.
    #[error("the sandbox helper was killed from outside, perhaps because the host ran out of memory")]
    HelperLost,
    /// The command, its environment or its mounts don't fit into one message.
    #[error("the command can't be handed to the sandbox helper: {0}")]
    Job(String),
    /// Docker could not be used.
    #[error(transparent)]
    Docker(#[from] super::docker::DockerError),
    /// A step inside the helper failed.
    #[error(transparent)]
    Setup(#[from] Fault),
    /// Processes were still there long after they were killed.
    #[error("processes of the cell `{label}` did not die within {seconds} s of being killed{remains}")]
    Undead {
        /// The label of the cell.
        label: String,
        /// How long maar waited.
        seconds: u64,
        /// Which processes were left then.
        remains: Remains,
    },
}

/// The remains of a cell whose processes did not die, as far as its cgroup shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remains {
    /// How many processes there were.
    processes: usize,
    /// How many of them wait for a disk or a network file system.
    waiting: usize,
}

impl Remains {
    /// Counts processes by their states, the letters of proc(5).
    pub(super) fn of(states: &[char]) -> Self {
        Self { processes: states.len(), waiting: states.iter().filter(|&&state| state == 'D').count() }
    }
}

impl std::fmt::Display for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { processes: 0, .. } => Ok(()),
            Self { processes, waiting: 0 } => {
                write!(f, ": {processes} are still running; the host may be too busy for them to end")
            }
            Self { processes, waiting } => {
                write!(f, ": {waiting} of {processes} wait for a disk or a network file system that doesn't answer")
            }
        }
    }
}

/// A step of a cell's setup that failed inside the helper.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error(
    "failed to {}{}: {}{}",
    .step.verb(),
    .path.as_deref().map(|path| format!(" {}", path.display())).unwrap_or_default(),
    io::Error::from_raw_os_error(*.errno),
    .step.advice(*.errno)
)]
pub struct Fault {
    /// The action that failed.
    pub step: Step,
    /// On which path, as the host or, once inside, as the cell sees it.
    pub path: Option<PathBuf>,
    /// The error number of the system call.
    pub errno: i32,
}

/// The actions of a helper, in about this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "`Step::verb` says each in words")]
pub enum Step {
    Handshake,
    EnterCgroup,
    Cores,
    UserNamespace,
    Namespaces,
    Fork,
    RootFolder,
    SystemFolder,
    MountPoint,
    Mount,
    Overlay,
    Proc,
    Devices,
    Loopback,
    Outlet,
    Hostname,
    LeaveHost,
    Keys,
    Identity,
    Capabilities,
    SystemCalls,
    Limits,
    Session,
    WorkingDirectory,
    Program,
}

impl Fault {
    pub(super) fn new(step: Step, errno: nix::errno::Errno) -> Self {
        Self { step, path: None, errno: errno as i32 }
    }

    pub(super) fn at(step: Step, path: impl Into<PathBuf>, errno: nix::errno::Errno) -> Self {
        Self { step, path: Some(path.into()), errno: errno as i32 }
    }
}

impl Step {
    fn verb(self) -> &'static str {
        match self {
            Self::Handshake => "talk to the sandbox helper",
            Self::EnterCgroup => "enter the cgroup",
            Self::Cores => "take its cores",
            Self::UserNamespace => "create a user namespace",
            Self::Namespaces => "create namespaces",
            Self::Fork => "fork",
            Self::RootFolder => "make the root of the cell in",
            Self::SystemFolder => "show the cell the system's",
            Self::MountPoint => "make the mount point",
            Self::Mount => "mount",
            Self::Overlay => "mount an overlay over",
            Self::Proc => "mount /proc in the cell",
            Self::Devices => "give the cell the device",
            Self::Loopback => "bring up the loopback interface",
            Self::Outlet => "open the cell's outlet",
            Self::Hostname => "set the host name",
            Self::LeaveHost => "leave the host's file system",
            Self::Keys => "leave the keyring",
            Self::Identity => "become an unprivileged user",
            Self::Capabilities => "drop capabilities",
            Self::SystemCalls => "refuse system calls",
            Self::Limits => "set resource limits",
            Self::Session => "make a session on the pseudo-terminal",
            Self::WorkingDirectory => "enter the working directory",
            Self::Program => "run",
        }
    }

    /// The remedy for a user, to be appended to the message.
    fn advice(self, errno: i32) -> &'static str {
        let denied = errno == libc::EPERM || errno == libc::EACCES;
        match self {
            Self::UserNamespace | Self::Namespaces if denied => {
                " (the kernel, AppArmor or a container around maar forbids namespaces; `maar doctor` says which)"
            }
            Self::UserNamespace if errno == libc::ENOSPC => " (raise the sysctl user.max_user_namespaces)",
            Self::SystemCalls => " (a kernel with CONFIG_SECCOMP_FILTER is needed, on x86-64 or 64-bit ARM)",
            Self::Keys if errno == libc::EDQUOT => " (raise the sysctl kernel.keys.maxkeys)",
            Self::Proc if denied => {
                " (a container around maar hides parts of /proc; run it with its /proc unmasked, as podman's \
                 `--security-opt unmask=ALL` does)"
            }
            Self::Overlay if denied => " (overlays in user namespaces need Linux 5.11 or newer)",
            Self::Overlay if errno == libc::EINVAL => {
                " (the file system below may not carry overlays; keep maar's home on ext4, xfs, btrfs or tmpfs)"
            }
            Self::SystemFolder | Self::Mount | Self::Devices if errno == libc::ENOSYS => {
                " (Linux 5.12 or newer is needed)"
            }
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn what_is_left_of_a_cell_is_told_by_what_it_does() {
        for (states, expected) in [
            (&[][..], ""),
            (&['R', 'S'], ": 2 are still running; the host may be too busy for them to end"),
            (&['R', 'D', 'D'], ": 2 of 3 wait for a disk or a network file system that doesn't answer"),
        ] {
            assert_eq!(Remains::of(states).to_string(), expected);
        }
    }

    #[test]
    fn a_fault_says_what_where_why_and_what_to_do() {
        let fault = Fault::new(Step::UserNamespace, Errno::ENOSPC);
        assert_eq!(
            fault.to_string(),
            "failed to create a user namespace: No space left on device (os error 28) \
             (raise the sysctl user.max_user_namespaces)"
        );
        let fault = Fault::at(Step::Mount, "/data", Errno::ENOENT);
        assert_eq!(fault.to_string(), "failed to mount /data: No such file or directory (os error 2)");
    }
}
