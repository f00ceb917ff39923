//! Runs a command without a cell: on the host, as maar's own user.
//!
//! For trusted crates. This process becomes the parent of orphans, so that everything can be found and killed when the
//! command ends.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid};

use super::cell::Word;
use super::protocol::{self, Ended, Job, MAX_REPORT};
use super::{Streams, Wait, command, errno_of, fork_into, reap, wait_for};
use crate::sandbox::error::{Fault, Step};

/// Runs a job. When this returns, no process of it is left.
pub(super) fn run(job: &Job, streams: Streams) -> Result<Ended, Fault> {
    let broken = |errno| Fault::new(Step::Session, errno);
    prctl::set_child_subreaper(true).map_err(broken)?;
    let mut child_ended = SigSet::empty();
    child_ended.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&child_ended), None).map_err(broken)?;
    let signals = SignalFd::with_flags(&child_ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(broken)?;

    let (mut words, mut theirs) = UnixStream::pair().map_err(|error| Fault::new(Step::Handshake, errno_of(&error)))?;
    // Where there is one, the host or the container has been listening for long.
    let Streams { control, terminal, outlet: _ } = streams;
    let main = match fork_into(&job.cgroups)? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => command::main(job, &mut theirs, &terminal),
    };
    drop((theirs, terminal));

    let ended = attend(main, &control, &signals);
    kill_descendants();
    // Closed by a successful exec, so that this ends at once; a fault was sent before its process ended.
    let mut said = Vec::new();
    let _ = (&mut words).take(MAX_REPORT as u64).read_to_end(&mut said);
    match protocol::decode(&said) {
        Ok(Some(Word::Failed(fault))) => Err(fault),
        _ => ended,
    }
}

/// Reaps until the command ends or maar wants it to.
fn attend(main: Pid, control: &UnixStream, signals: &SignalFd) -> Result<Ended, Fault> {
    loop {
        let ready = wait_for(Some(control), signals)?;
        if ready.control {
            return Ok(Ended::Killed);
        }
        while let Ok(Some(_)) = signals.read_signal() {}
        while let Ok(Some((pid, ended))) = reap(None, Wait::Poll) {
            if pid == main {
                return Ok(ended);
            }
        }
    }
}

/// Kills children until none is left: the children of a killed one become ours.
fn kill_descendants() {
    let init = Pid::from_raw(1);
    loop {
        if Pid::this() == init {
            // Process 1 of a container: kills all others at once, so that none gets to fork in between.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        } else {
            for child in children() {
                let _ = kill(child, Signal::SIGKILL);
            }
        }
        while let Ok(Some(_)) = reap(None, Wait::Poll) {}
        if reap(None, Wait::Poll) == Err(Errno::ECHILD) {
            return;
        }
        // The list of children may miss one that is just being handed to us, so that waiting for it could be forever.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The processes whose parent this one is, from /proc.
fn children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let text = std::fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
