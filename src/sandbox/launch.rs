//! One command from start to end, for all back ends: group, terminal, helper, watch, verdict.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use bytesize::ByteSize;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::Child;

use super::cgroup::{Cgroups, Controller, KEEPERS};
use super::cores::{CorePool, Lease};
use super::disk::Allowance;
use super::doubt::{Doubt, Signs};
use super::held_memory::MemoryWatch;
use super::held_processes::{ProcessWatch, ROOM};
use super::held_replies::RepliesWatch;
use super::helper::protocol::{self, ARGV0, Ended, Input, Isolation, Job, MAX_JOB, Report, Rlimits};
use super::host_memory::HostKills;
use super::outlet;
use super::pty::Pty;
use super::supervise::{self, CpuMeter, Watched};
use super::unlinked::Processes;
use super::{Command, Console, Cores, End, Exit, Limits, Live, Network, Outlet, Output, SandboxError, Usage, User};
use crate::stop::{Stop, StopLevel};

/// What starting commands takes, the same for all cells of a sandbox.
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    /// The program that serves as helper.
    pub(super) helper: PathBuf,
    /// Where groups are made.
    pub(super) cgroups: Arc<Cgroups>,
    cores: CorePool,
}

/// One command and its surroundings.
pub(super) struct Launch<'a> {
    pub(super) label: &'a str,
    pub(super) limits: &'a Limits,
    /// The doubt about an earlier run.
    pub(super) after: Option<Doubt>,
    pub(super) command: &'a Command,
    pub(super) isolation: Isolation,
    pub(super) network: Network,
    /// Who the command is to the host.
    pub(super) user: &'a User,
    /// Folders on the file systems that it writes to.
    pub(super) writes_to: Vec<&'a Path>,
    pub(super) stop: &'a Stop,
    /// The user's terminal, if the command is to have it.
    pub(super) console: Option<&'a mut Console>,
    /// Where its output can be followed.
    pub(super) live: Option<&'a Live>,
    /// Where its connections go.
    pub(super) outlet: Option<Opening>,
}

/// An outlet and where its listener is made.
pub(super) enum Opening {
    /// In the cell, by the helper.
    Inside(Outlet),
    /// On the host, by maar.
    Outside(std::net::TcpListener, Outlet),
}

impl Launcher {
    /// A launcher with the groups that this host allows.
    pub(super) fn new(helper: PathBuf) -> Self {
        Self::with(Cgroups::discover(), helper)
    }

    /// A launcher with these groups.
    pub(super) fn with(cgroups: Cgroups, helper: PathBuf) -> Self {
        Self { helper, cgroups: Arc::new(cgroups), cores: CorePool::of_this_process() }
    }

    /// Describes the limits that are not enforced, for commands on such cores.
    pub(super) fn unenforced(&self, limits: &[Controller], cores: Cores) -> Vec<String> {
        let mut limits = limits.to_vec();
        if cores == Cores::Own {
            limits.push(Controller::CpuSet);
        }
        self.cgroups.unenforced(&limits)
    }

    /// Runs a command. When this returns, nothing of it is left but its output and its files.
    pub(super) async fn run(&self, launch: Launch<'_>) -> Result<Exit, SandboxError> {
        let Launch { label, limits, after, command, isolation, network, user, writes_to, stop, console, live, outlet } =
            launch;
        let lease = match limits.cores {
            Cores::Shared => None,
            Cores::Own => tokio::select! {
                lease = self.cores.lease(limits.cpus) => lease,
                () = stop.reached(StopLevel::Kill) => return Ok(not_begun()),
            },
        };
        let cores = lease.as_ref().map(Lease::cores).unwrap_or_default();
        let group = self.cgroups.open(label, limits, cores)?;
        let has_own_user = matches!(isolation, Isolation::Namespaces(_));
        let (counts_memory, counts_processes) =
            (self.cgroups.has(Controller::Memory), self.cgroups.has(Controller::Pids));
        // Outside a user namespace the number counts all processes of the user.
        let limits_processes = has_own_user && !counts_processes;
        let measures_processes = limits_processes && after == Some(Doubt::Processes);
        let processes = u64::from(limits.pids) + KEEPERS;
        let job = Job {
            cgroups: group.entrances(),
            cores: cores.to_vec(),
            isolation,
            network,
            input: Input::of(console.as_deref()),
            command: command.clone(),
            rlimits: Rlimits {
                processes: limits_processes.then_some(processes + if measures_processes { ROOM } else { 0 }),
                data: refuses_memory(counts_memory, after).then_some(limits.memory.as_u64()),
                sharers: user.sharers(),
            },
        };
        let job = protocol::encode(&job, MAX_JOB).map_err(|error| SandboxError::Job(error.to_string()))?;

        let (pty, slave) = Pty::open(user.owner(), console.as_deref()).map_err(SandboxError::Terminal)?;
        let (third, outlet) = match outlet {
            None => (None, None),
            Some(Opening::Outside(listener, outlet)) => {
                (None, Some((host_listener(listener).map_err(SandboxError::Outlet)?, outlet)))
            }
            Some(Opening::Inside(outlet)) => {
                let (source, theirs) = outlet::inside().map_err(SandboxError::Outlet)?;
                (Some(theirs), Some((source, outlet)))
            }
        };
        let (mut control, child) = self.spawn(slave, third)?;
        // A helper that dies early is noticed when its report is missing.
        let _ = control.write_all(&job).await;
        let helper = child.id();
        let who = match (group.list(), helper) {
            (Some(list), _) => Processes::Listed(list),
            (None, helper) => Processes::Below(helper.unwrap_or(u32::MAX)),
        };
        let memory = helper.filter(|_| has_own_user && !counts_memory);
        let memory = memory.map(|helper| MemoryWatch { helper, limit: limits.memory });
        let measured = helper.filter(|_| measures_processes);
        let measured = measured.map(|helper| ProcessWatch { helper, limit: processes });
        let replies = has_own_user.then(|| RepliesWatch { who: who.clone(), limit: limits.memory });
        let mut disk = Allowance::new(&writes_to, who, limits.disk);
        let cpu = CpuMeter::new(&group, helper);
        let host = HostKills::begin(counts_memory);
        let watch = supervise::watch(Watched {
            pty,
            control,
            child: Some(child),
            cpu,
            kills: Some(&group),
            console,
            live,
            disk: &mut disk,
            memory,
            replies,
            processes: measured,
            limits,
            stop,
            label,
        });
        let watched = outlet::during(outlet, watch).await?;

        let counts = Counts {
            ooms: group.oom_kills(),
            reached: group.has_reached_memory(),
            refused: group.refused_processes(),
            ooms_of_host: host.since(),
        };
        let (peak_memory, metered_cpu) = (group.peak_memory(), group.cpu());
        group.remove().await?;
        let (ended, cpu, largest) = match watched.report {
            Some(Report::Ended { ended, cpu, largest }) => (ended, metered_cpu.unwrap_or(cpu), largest.map(ByteSize)),
            Some(Report::Failed(fault)) => return Err(fault.into()),
            // Even the helper can be the kernel's choice when the group's memory is used up.
            None => (Ended::Killed, metered_cpu.unwrap_or_default(), None),
        };
        let end = end_of(watched.killed_for, ended, counts, &mut disk).await?;
        let signs = Signs { end, output: &watched.output, largest, memory_limit: limits.memory };
        let (end, doubt) = signs.weigh(after, |controller| self.cgroups.has(controller));
        Ok(Exit { end, usage: Usage { wall: watched.wall, cpu, peak_memory }, output: watched.output, doubt })
    }

    /// Starts the helper. `outlet` is where it sends the listener of an outlet.
    fn spawn(&self, slave: OwnedFd, outlet: Option<OwnedFd>) -> Result<(UnixStream, Child), SandboxError> {
        let failed = |doing| {
            let path = self.helper.clone();
            move |source: io::Error| SandboxError::Helper { doing, path, source }
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed("reach"))?;
        ours.set_nonblocking(true).map_err(failed("reach"))?;
        let ours = UnixStream::from_std(ours).map_err(failed("reach"))?;
        let mut command = std::process::Command::new(&self.helper);
        command
            .arg0(ARGV0)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(slave))
            .stderr(outlet.map_or_else(Stdio::null, Stdio::from))
            // Ctrl-C at the terminal reaches maar alone, which stops its helpers.
            .process_group(0);
        let child = tokio::process::Command::from(command).spawn().map_err(failed("start"))?;
        Ok((ours, child))
    }
}

fn host_listener(listener: std::net::TcpListener) -> io::Result<outlet::Source> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener).map(outlet::Source::Host)
}

/// The kernel's refusals to a command, as far as it counts them.
pub(super) struct Counts {
    /// How many of its processes were killed for lack of memory.
    pub(super) ooms: u64,
    /// Whether it ever had as much memory as it may.
    pub(super) reached: bool,
    /// The number of processes on the whole host that were killed for lack of memory in that time, where no controller
    /// counts the command's own.
    pub(super) ooms_of_host: u64,
    /// How many processes or threads it was refused.
    pub(super) refused: u64,
}

/// Classifies how a command ended from the kill reason, the cgroup counters and the disk quota.
pub(super) async fn end_of(
    killed_for: Option<End>,
    ended: Ended,
    counts: Counts,
    disk: &mut Allowance,
) -> Result<End, SandboxError> {
    Ok(match (killed_for, ended) {
        (Some(reason), _) => reason,
        (None, Ended::Code(0)) => End::Code(0),
        (None, _) if counts.ooms > 0 && counts.reached => End::OutOfMemory,
        // By the limit of a group around it, or for lack of memory on the host.
        (None, _) if counts.ooms > 0 || counts.ooms_of_host > 0 => End::HostOutOfMemory,
        (None, _) if counts.refused > 0 => End::OutOfProcesses,
        (None, Ended::Killed) => return Err(SandboxError::HelperLost),
        (None, Ended::Code(_) | Ended::Signal(_)) if disk.is_exceeded().await => End::OverDisk,
        (None, Ended::Code(_) | Ended::Signal(_)) if disk.is_host_full() => End::OutOfDisk,
        (None, Ended::Code(code)) => End::Code(code),
        (None, Ended::Signal(signal)) => End::Signal(signal),
    })
}

/// How a command ended that was to stop before it had any cores.
pub(super) fn not_begun() -> Exit {
    Exit { end: End::Stopped, usage: Usage::default(), output: Output::default(), doubt: None }
}

/// Whether each process is refused more private memory than the limit: where nothing counts memory, unless that is what
/// an earlier run was in doubt about.
pub(super) fn refuses_memory(is_counted: bool, after: Option<Doubt>) -> bool {
    !is_counted && after != Some(Doubt::Memory)
}
