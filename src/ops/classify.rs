//! The end and the output of a command → an outcome. Pure.
//!
//! The end decides between pass, failure and limit. Where code of the crate runs, the output only adds facts to the
//! reason of a failure: it can change the words of a verdict, but not the verdict. In `prepare` no code of the crate
//! runs, and cargo's own messages separate a broken crate from a host without network.

mod failure;
mod printed;
mod resolution;

use crate::outcome::{Cause, Failure, Outcome};
use crate::registry::Denial;
use crate::sandbox::{End, Limits, Output, is_crash};
pub(super) use printed::plain_text;

/// Judges an op that builds or tests. `None`: it was stopped, so there is nothing to say.
pub(crate) fn of_command(end: End, output: &Output, limits: &Limits) -> Option<Outcome> {
    judge(end, limits, |code| Outcome::Failed(failure::failure(code, &plain_text(output))))
}

/// Judges a cargo command of `prepare`, which runs no code of the crate. `None`: it was stopped.
///
/// A denial explains a failure better than cargo does, which heard only a status.
pub(crate) fn of_resolution(end: End, output: &Output, denials: &[Denial], limits: &Limits) -> Option<Outcome> {
    match end {
        // No code of the crate runs in `prepare`: only the host can have killed cargo.
        End::Signal(signal) => {
            Some(Outcome::Inconclusive(Cause::Host(format!("cargo was {}", Failure::Signal(signal)))))
        }
        end => judge(end, limits, |_| {
            let text = plain_text(output);
            match resolution::failure(&text) {
                found @ (Outcome::Broken(_) | Outcome::Inconclusive(Cause::Network(_))) => {
                    resolution::denied(denials, &text).unwrap_or(found)
                }
                found => found,
            }
        }),
    }
}

/// Why cargo refused a manifest before it compiled anything, if the output reads like that.
///
/// A crate that silences cargo can print the same, so this is proof only of a command that runs no code of the crate.
pub(super) fn refused_manifest(end: End, output: &Output) -> Option<String> {
    match end {
        // cargo's exit code for a refusal.
        End::Code(101) if output.dropped == 0 => resolution::refused_manifest(&plain_text(output)),
        End::Code(_)
        | End::Signal(_)
        | End::TimedOut
        | End::Idle
        | End::OutOfMemory
        | End::OverDisk
        | End::Flooded
        | End::OutOfProcesses
        | End::OutOfDisk
        | End::HostOutOfMemory
        | End::Stopped => None,
    }
}

fn judge(end: End, limits: &Limits, on_failure: impl FnOnce(i32) -> Outcome) -> Option<Outcome> {
    let outcome = match end {
        End::Code(0) => Outcome::Passed,
        End::Code(code) => on_failure(code),
        End::Signal(signal) if is_crash(signal) => Outcome::Failed(Failure::Signal(signal)),
        End::Signal(signal) => {
            Outcome::Inconclusive(Cause::Host(format!("{}, which maar did not send", Failure::Signal(signal))))
        }
        End::TimedOut => Outcome::Inconclusive(Cause::TimedOut(limits.timeout)),
        End::Idle => Outcome::Inconclusive(Cause::Idle(limits.idle_timeout)),
        End::OutOfMemory => Outcome::Inconclusive(Cause::OutOfMemory(limits.memory)),
        End::OverDisk => Outcome::Inconclusive(Cause::OverDisk(limits.disk)),
        End::Flooded => Outcome::Inconclusive(Cause::Flooded(limits.most_printed())),
        End::OutOfProcesses => Outcome::Inconclusive(Cause::OutOfProcesses(limits.pids)),
        End::OutOfDisk => Outcome::Inconclusive(Cause::OutOfDisk),
        End::HostOutOfMemory => {
            Outcome::Inconclusive(Cause::Host("no memory left on the host, which killed a process".to_owned()))
        }
        End::Stopped => return None,
    };
    Some(outcome)
}

#[cfg(test)]
mod tests;
