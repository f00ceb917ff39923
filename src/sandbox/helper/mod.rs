//! The helper: maar's own binary, executed again, single-threaded, one for each command.
//!
//! It enters cgroups of version 1, makes the namespaces, forks the command's keeper and waits. When maar closes the
//! control socket, or dies, the helper kills everything; when the helper dies, the kernel does.

mod cell;
mod command;
pub(crate) mod etc;
mod identity;
mod init;
mod mounts;
mod place;
pub(crate) mod protocol;
mod quotas;
pub(crate) mod rootfs;
mod seccomp;
pub(crate) mod steward;
mod subreaper;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use nix::sys::time::TimeValLike;
use nix::unistd::{ForkResult, Pid};

use self::protocol::{ARGV0, Ended, Isolation, Job, MAX_JOB, MAX_REPORT, Report};
use super::cgroup::Entrances;
use super::error::{Fault, SandboxError, Step};
use super::{Network, outlet};

/// The helper's exit code when it could not even report; only a debugger reads it.
const NO_REPORT: i32 = 70;

/// Serves as a helper and never returns, if this process was started as one.
///
/// The first thing that `main` does: a helper must have no threads.
pub fn helper_main_if_asked() {
    let serve = match std::env::args_os().next() {
        Some(name) if name == ARGV0 => serve,
        Some(name) if name == steward::PROGRAM => steward::serve,
        Some(_) | None => return,
    };
    // A forked child must never unwind into the code of its parent.
    std::panic::set_hook(Box::new(|_| exit(NO_REPORT)));
    exit(if serve().is_ok() { 0 } else { NO_REPORT })
}

/// Refuses this thread and its children, for good, the system calls that cells are refused.
///
/// # Errors
/// When the kernel has no filters.
pub fn refuse_system_calls() -> Result<(), SandboxError> {
    Ok(seccomp::enter()?)
}

fn serve() -> io::Result<()> {
    let mut streams = Streams::take()?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let job: Job = protocol::receive(&mut streams.control, MAX_JOB)?;
    let mut control = streams.control.try_clone()?;
    let report = run(&job, streams).unwrap_or_else(Report::Failed);
    protocol::send(&mut control, &report, MAX_REPORT)
}

fn run(job: &Job, mut streams: Streams) -> Result<Report, Fault> {
    for file in &job.cgroups.files {
        // "0" is the thread that writes, and a helper has no other.
        std::fs::write(file, "0").map_err(|error| Fault::at(Step::EnterCgroup, file, errno_of(&error)))?;
    }
    if !job.cores.is_empty() {
        pin(&job.cores).map_err(|errno| Fault::new(Step::Cores, errno))?;
    }
    let before = usage_of_children()?;
    let ended = match &job.isolation {
        Isolation::Namespaces(namespaces) => cell::run(job, namespaces, streams)?,
        Isolation::None => {
            // Namespaces get theirs from the process that makes them.
            open_outlet(job.network, streams.outlet.take())?;
            subreaper::run(job, streams)?
        }
    };
    let after = usage_of_children()?;
    let largest = (after.largest > before.largest).then_some(after.largest);
    Ok(Report::Ended { ended, cpu: after.cpu.saturating_sub(before.cpu), largest })
}

/// What all children used that were waited for.
struct ChildUsage {
    /// User and system time.
    cpu: Duration,
    /// The most memory that one of them held, in bytes.
    largest: u64,
}

/// The usage of all that were waited for. Descendants count in full: each was waited for by its parent, by
/// init or by the subreaper.
fn usage_of_children() -> Result<ChildUsage, Fault> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|errno| Fault::new(Step::Fork, errno))?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    // The kernel reports kibibytes.
    let largest = usage.max_rss().unsigned_abs().saturating_mul(1024);
    Ok(ChildUsage { cpu: Duration::from_micros(micros.unsigned_abs()), largest })
}

/// Keeps this process, and those that it will start, on these cores.
fn pin(cores: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|&core| set.set(core))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// The descriptors that a helper was started with.
struct Streams {
    /// The socket to maar.
    control: UnixStream,
    /// The command's end of the pseudo-terminal.
    terminal: OwnedFd,
    /// Where the listener of an outlet is sent, if maar wants one.
    outlet: Option<OwnedFd>,
}

impl Streams {
    /// Takes over the standard streams, closes all other inherited descriptors, and leaves `/dev/null` in their place.
    fn take() -> io::Result<Self> {
        // SAFETY: nothing in this process has opened a descriptor yet, so no owned descriptor is closed.
        if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let terminal = io::stdout().as_fd().try_clone_to_owned()?;
        // Without an outlet it is /dev/null.
        let outlet = io::stderr().as_fd().try_clone_to_owned()?;
        let outlet = is_socket(&outlet)?.then_some(outlet);
        leave_standard_streams()?;
        Ok(Self { control, terminal, outlet })
    }
}

fn is_socket(fd: &OwnedFd) -> nix::Result<bool> {
    nix::sys::stat::fstat(fd).map(|status| status.st_mode & libc::S_IFMT == libc::S_IFSOCK)
}

/// Listens where the command will find the outlet, if it has one, and hands the listener to maar.
fn open_outlet(network: Network, outlet: Option<OwnedFd>) -> Result<(), Fault> {
    match (network, outlet) {
        // No helper serves it: without a sandbox maar itself listens.
        (Network::Loopback, _) | (Network::Outlet, None) => Ok(()),
        (Network::Outlet, Some(socket)) => {
            outlet::open(&socket).map_err(|error| Fault::new(Step::Outlet, errno_of(&error)))
        }
    }
}

/// Puts `/dev/null` in the place of the standard streams.
fn leave_standard_streams() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}

/// What became readable first, or both.
struct Ready {
    /// maar wants everything killed, or is dead.
    control: bool,
    /// The other socket has a message or its end.
    words: bool,
}

/// Waits for one of two descriptors. `None` is not watched.
fn wait_for(control: Option<&UnixStream>, words: &impl AsFd) -> Result<Ready, Fault> {
    let mut fds = vec![PollFd::new(words.as_fd(), PollFlags::POLLIN)];
    fds.extend(control.map(|control| PollFd::new(control.as_fd(), PollFlags::POLLIN)));
    loop {
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Fault::new(Step::Handshake, errno)),
        }
    }
    let is_ready = |fd: &PollFd| fd.any().unwrap_or(true);
    Ok(Ready { words: is_ready(&fds[0]), control: fds.get(1).is_some_and(is_ready) })
}

/// Whether to wait for a child that still runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Block,
    Poll,
}

/// Reaps one child, or any. `None`: they all still run. `Err(ECHILD)`: this process has no children.
///
/// nix's own function fails on real-time signals, which any command may die of.
fn reap(which: Option<Pid>, wait: Wait) -> nix::Result<Option<(Pid, Ended)>> {
    let flags = if wait == Wait::Poll { libc::WNOHANG } else { 0 };
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(which.map_or(-1, Pid::as_raw), &raw mut status, flags) };
        match Errno::result(pid).map(Pid::from_raw) {
            Ok(pid) if pid.as_raw() == 0 => return Ok(None),
            Ok(pid) if libc::WIFEXITED(status) => return Ok(Some((pid, Ended::Code(libc::WEXITSTATUS(status))))),
            Ok(pid) => return Ok(Some((pid, Ended::Signal(libc::WTERMSIG(status))))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Forks.
fn fork() -> Result<ForkResult, Fault> {
    // SAFETY: helpers are single-threaded, so the child may do the same as the parent.
    unsafe { nix::unistd::fork() }.map_err(|errno| Fault::new(Step::Fork, errno))
}

/// Forks a child that is born in the job's cgroup of version 2, if there is one. This process stays outside: it is
/// neither killed with the group nor charged to it.
fn fork_into(cgroups: &Entrances) -> Result<ForkResult, Fault> {
    /// Of linux/sched.h; libc's own constant is too narrow.
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let Some(folder) = &cgroups.folder else { return fork() };
    let failed = |errno| Fault::at(Step::EnterCgroup, folder, errno);
    let group = mounts::open_folder(folder).map_err(failed)?;
    // SAFETY: arguments of zeros are valid ones.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = u64::from(group.as_raw_fd().unsigned_abs());
    // SAFETY: helpers are single-threaded, and without CLONE_VM the child goes on with a copy of everything.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match Errno::result(child) {
        Ok(0) => Ok(ForkResult::Child),
        Ok(child) => i32::try_from(child)
            .map(|child| ForkResult::Parent { child: Pid::from_raw(child) })
            .map_err(|_| failed(Errno::EOVERFLOW)),
        // A container around maar may hide the call: then this process enters too.
        Err(Errno::ENOSYS) => {
            tell_kernel(folder.join("cgroup.procs"), "0").map_err(failed)?;
            fork()
        }
        Err(errno) => Err(failed(errno)),
    }
}

/// Ends this process without running anything else: a child must not repeat its parent's work at exit.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process in any state.
    unsafe { libc::_exit(code) }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Writes a small file of the kernel.
fn tell_kernel(path: impl AsRef<Path>, text: &str) -> nix::Result<()> {
    std::fs::write(path, text).map_err(|error| errno_of(&error))
}

/// Makes all descriptors above 2 close on exec.
fn close_on_exec() -> nix::Result<()> {
    // SAFETY: only sets flags.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result).map(drop)
}

/// Owns a descriptor that a system call has just returned, or returns its error.
fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the caller passes the result of a system call, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The path by which the kernel finds the file of one of this process's descriptors.
fn path_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
