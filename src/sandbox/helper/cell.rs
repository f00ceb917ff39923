//! The outer half of a cell: stays outside, makes the pid namespace, and sees to the death of everything in it.

use std::io::Write;
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid};
use serde::{Deserialize, Serialize};

use super::protocol::{self, Ended, Identity, Job, MAX_REPORT, Namespaces};
use super::{Streams, Wait, errno_of, fork_into, identity, init, reap, wait_for};
use crate::sandbox::error::{Fault, Step};

/// A message from the inside to the outside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// "I am in a new user namespace: map the cell's user, then send me a byte."
    MapMe,
    /// The command has ended.
    Ended(Ended),
    /// The command can't be run.
    Failed(Fault),
}

/// Runs a job in namespaces. When this returns, no process of it is left.
pub(super) fn run(job: &Job, namespaces: &Namespaces, streams: Streams) -> Result<Ended, Fault> {
    match namespaces.identity {
        Identity::Rootless(owner) => identity::enter_user_namespace(owner)?,
        // Once a user namespace denies setgroups, root's own groups could no longer be left.
        Identity::Unprivileged(_) => {
            nix::unistd::setgroups(&[]).map_err(|errno| Fault::new(Step::Identity, errno))?;
        }
    }
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| Fault::new(Step::Namespaces, errno))?;

    let (mut words, theirs) = UnixStream::pair().map_err(|error| Fault::new(Step::Handshake, errno_of(&error)))?;
    let Streams { control, terminal, outlet } = streams;
    let init = match fork_into(&job.cgroups)? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop((control, words));
            init::main(job, namespaces, theirs, terminal, outlet)
        }
    };
    drop((theirs, terminal, outlet));

    let attended = attend(namespaces, init, &control, &mut words);
    if attended.is_err() {
        // It waits for an answer that will not come.
        let _ = kill(init, Signal::SIGKILL);
    }
    // The kernel lets the init of a pid namespace be waited for only when all else in there is gone.
    reap(Some(init), Wait::Block).map_err(|errno| Fault::new(Step::Fork, errno))?;
    attended
}

/// Answers the inside until it hangs up.
fn attend(namespaces: &Namespaces, init: Pid, control: &UnixStream, words: &mut UnixStream) -> Result<Ended, Fault> {
    let mut ended = None;
    let mut control = Some(control);
    loop {
        let ready = wait_for(control, words)?;
        if ready.control {
            kill(init, Signal::SIGKILL).map_err(|errno| Fault::new(Step::Fork, errno))?;
            control = None;
        }
        if !ready.words {
            continue;
        }
        match protocol::receive(words, MAX_REPORT) {
            Ok(Word::MapMe) => {
                let Identity::Unprivileged(owner) = namespaces.identity else { continue };
                identity::map(init, owner, namespaces.roots)?;
                words.write_all(&[1]).map_err(|error| Fault::new(Step::Handshake, errno_of(&error)))?;
            }
            Ok(Word::Ended(how)) => ended = ended.or(Some(Ok(how))),
            Ok(Word::Failed(fault)) => ended = ended.or(Some(Err(fault))),
            // Everyone inside who could speak is gone.
            Err(_) => return ended.unwrap_or(Ok(Ended::Killed)),
        }
    }
}
