//! The inner half of a cell: process 1 of its pid namespace.
//!
//! Builds the inside, gives up every privilege, forks the command, reaps orphans, and exits with the
//! command: the kernel then kills all that is left.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::ForkResult;

use super::cell::Word;
use super::protocol::{self, Ended, Identity, Job, MAX_REPORT, Namespaces};
use super::{Wait, command, errno_of, exit, fork, identity, open_outlet, quotas, reap, rootfs, seccomp};
use crate::sandbox::HOSTNAME;
use crate::sandbox::error::{Fault, Step};

/// Serves as init of the cell and never returns.
pub(super) fn main(
    job: &Job,
    namespaces: &Namespaces,
    mut words: UnixStream,
    terminal: OwnedFd,
    outlet: Option<OwnedFd>,
) -> ! {
    let word = match enter(job, namespaces, &mut words, outlet).and_then(|()| keep(job, &mut words, terminal)) {
        Ok(ended) => Word::Ended(ended),
        Err(fault) => Word::Failed(fault),
    };
    // A closed socket means that maar is gone.
    let _ = protocol::send(&mut words, &word, MAX_REPORT);
    exit(0)
}

/// Makes the inside and becomes its unprivileged user.
fn enter(job: &Job, namespaces: &Namespaces, words: &mut UnixStream, outlet: Option<OwnedFd>) -> Result<(), Fault> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWNET;
    unshare(flags).map_err(|errno| Fault::new(Step::Namespaces, errno))?;
    bring_up_loopback().map_err(|errno| Fault::new(Step::Loopback, errno))?;
    open_outlet(job.network, outlet)?;
    nix::unistd::sethostname(HOSTNAME).map_err(|errno| Fault::new(Step::Hostname, errno))?;
    let settings = rootfs::enter(namespaces)?;
    identity::leave_keys()?;

    if let Identity::Unprivileged(owner) = namespaces.identity {
        // All the namespaces above stay root's: no capability that is had below this line counts in them.
        identity::enter_user_namespace_of(owner)?;
        let handshake = |error: std::io::Error| Fault::new(Step::Handshake, errno_of(&error));
        protocol::send(words, &Word::MapMe, MAX_REPORT).map_err(handshake)?;
        words.read_exact(&mut [0]).map_err(handshake)?;
        identity::become_cell_user()?;
    }
    quotas::set(&settings, job.rlimits.sharers)?;
    drop(settings);
    identity::renounce_privileges()?;

    // The command has the same user: it must not trace this process nor look through its /proc entries.
    prctl::set_dumpable(false).map_err(|errno| Fault::new(Step::Identity, errno))?;
    // After the change of user, which resets it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| Fault::new(Step::Session, errno))?;
    if is_alone(words) {
        exit(0)
    }
    seccomp::enter()
}

/// Whether the outer half died before this one asked to die with it.
fn is_alone(words: &UnixStream) -> bool {
    let mut fds = [PollFd::new(words.as_fd(), PollFlags::empty())];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).is_err() || fds[0].any().unwrap_or(true)
}

/// Runs the command and reaps until it ends.
fn keep(job: &Job, words: &mut UnixStream, terminal: OwnedFd) -> Result<Ended, Fault> {
    let main = match fork()? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => command::main(job, words, &terminal),
    };
    drop(terminal);
    loop {
        match reap(None, Wait::Block) {
            Ok(Some((pid, ended))) if pid == main => return Ok(ended),
            Ok(_) => {}
            Err(errno) => return Err(Fault::new(Step::Fork, errno)),
        }
    }
}

/// Sets the interface that a new network namespace has, `lo`, to up.
fn bring_up_loopback() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an `ifreq` of zeros is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request reads one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(result).map(drop)
}
