//! Reasons to run a failed command once more: signs that the host or a limit stopped it, and no proof of either.
//!
//! A sign may be a phrase that the command printed, so it decides nothing: at most it leads to a second run. That run
//! [may exceed](super::Spec::after) the limit in doubt, where the kernel would refuse without a count. Only then do
//! measurements end it.

use std::fmt;

use bytesize::ByteSize;

use super::cgroup::Controller;
use super::{End, Output};

/// Why the failure of a command may not be its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It may have been refused memory, and no controller counts that.
    Memory,
    /// It may have been refused a process or thread, and no controller counts that.
    Processes,
    /// Another program may have killed it, or one of its processes.
    Killed,
    /// The host's disk was short of space.
    ShortDisk,
}

/// The facts about a command that has ended.
pub(super) struct Signs<'a> {
    pub(super) end: End,
    pub(super) output: &'a Output,
    /// The most memory that one of its processes held.
    pub(super) largest: Option<ByteSize>,
    pub(super) memory_limit: ByteSize,
}

/// Messages of Rust's and the C library's about memory that is refused, folders in memory included.
const MEMORY: [&str; 4] =
    ["memory allocation of ", "Cannot allocate memory", "std::bad_alloc", "No space left on device"];
/// Their messages, and those of Debian's shell, about a process or thread that is refused.
const PROCESSES: [&str; 2] = ["Resource temporarily unavailable", "Cannot fork"];
/// Cargo's message about a program that was killed, as the kernel does when the host runs out of memory.
const KILLED: [&str; 1] = ["(signal: 9, SIGKILL"];

/// Signals that the kernel sends a program because of the program's own actions or requests.
const OF_ITS_OWN: [i32; 11] = [
    libc::SIGABRT,
    libc::SIGALRM,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGPIPE,
    libc::SIGPROF,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGVTALRM,
];

/// Whether a program that ends by this signal has crashed, rather than having been killed.
pub fn is_crash(signal: i32) -> bool {
    OF_ITS_OWN.contains(&signal)
}

impl Doubt {
    /// Finds a reason to doubt that a command failed by itself. `counts`: whether a controller counts its resource.
    pub(super) fn of(signs: &Signs<'_>, counts: impl Fn(Controller) -> bool) -> Option<Self> {
        match signs.end {
            End::OutOfDisk => Some(Self::ShortDisk),
            // The host's kills may be others': a second run that is refused memory as the first would end like it.
            End::HostOutOfMemory => signs.guess(counts).filter(|doubt| *doubt == Self::Memory).or(Some(Self::Killed)),
            End::Signal(signal) if !is_crash(signal) => Some(Self::Killed),
            End::Code(0)
            | End::TimedOut
            | End::Idle
            | End::OutOfMemory
            | End::OutOfProcesses
            | End::OverDisk
            | End::Flooded
            | End::Stopped => None,
            End::Code(_) | End::Signal(_) => signs.guess(counts),
        }
    }
}

impl Signs<'_> {
    /// How the command ended and whether that is in doubt, after an earlier run that was in doubt for `after`.
    pub(super) fn weigh(self, after: Option<Doubt>, counts: impl Fn(Controller) -> bool) -> (End, Option<Doubt>) {
        let has_ended = matches!(self.end, End::Code(_) | End::Signal(_) | End::HostOutOfMemory);
        let is_over = self.largest.is_some_and(|largest| largest > self.memory_limit);
        // It was refused nothing this time, and its largest process was measured: a controller would have ended it,
        // even if it held that much for too short a time to be seen.
        if after == Some(Doubt::Memory) && has_ended && is_over && !counts(Controller::Memory) {
            return (End::OutOfMemory, None);
        }
        (self.end, Doubt::of(&self, counts))
    }

    fn guess(&self, counts: impl Fn(Controller) -> bool) -> Option<Doubt> {
        // A request for as much again as a process holds is refused while it holds half of its limit.
        let is_large = || self.largest.is_some_and(|largest| largest.as_u64() > self.memory_limit.as_u64() / 2);
        if !counts(Controller::Memory) && (is_large() || self.printed(&MEMORY)) {
            Some(Doubt::Memory)
        } else if !counts(Controller::Pids) && self.printed(&PROCESSES) {
            Some(Doubt::Processes)
        } else if self.printed(&KILLED) {
            Some(Doubt::Killed)
        } else {
            None
        }
    }

    fn printed(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| contains(&self.output.head, phrase) || contains(&self.output.tail, phrase))
    }
}

fn contains(text: &[u8], phrase: &str) -> bool {
    text.windows(phrase.len()).any(|window| window == phrase.as_bytes())
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "it may have been refused memory",
            Self::Processes => "it may have been refused a process or thread",
            Self::Killed => "something other than maar may have killed it",
            Self::ShortDisk => "the disk was short of space",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: ByteSize = ByteSize::mib(100);

    fn doubt(end: End, text: &str, largest: ByteSize, counted: &[Controller]) -> Option<Doubt> {
        let output = Output { tail: text.as_bytes().to_vec(), ..Output::default() };
        let signs = Signs { end, output: &output, largest: Some(largest), memory_limit: LIMIT };
        Doubt::of(&signs, |controller| counted.contains(&controller))
    }

    fn guess(text: &str, counted: &[Controller]) -> Option<Doubt> {
        doubt(End::Code(101), text, ByteSize::mib(1), counted)
    }

    #[test]
    fn a_message_about_what_no_controller_counts_is_a_reason_to_run_again() {
        assert_eq!(guess("memory allocation of 64 bytes failed\n", &[]), Some(Doubt::Memory));
        assert_eq!(guess("No space left on device (os error 28)\n", &[Controller::Pids]), Some(Doubt::Memory));
        let threads = "Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }";
        assert_eq!(guess(threads, &[Controller::Memory]), Some(Doubt::Processes));
        assert_eq!(guess("assertion failed", &[]), None);
    }

    #[test]
    fn a_message_about_what_a_controller_counts_is_not() {
        let text = "memory allocation of 64 bytes failed\nResource temporarily unavailable\n";
        assert_eq!(guess(text, &[Controller::Memory, Controller::Pids]), None);
    }

    #[test]
    fn a_process_that_held_half_of_what_it_may_is_a_reason_without_any_message() {
        assert_eq!(doubt(End::Code(1), "", ByteSize::mib(51), &[]), Some(Doubt::Memory));
        assert_eq!(doubt(End::Code(1), "", ByteSize::mib(49), &[]), None);
        assert_eq!(doubt(End::Code(1), "", ByteSize::mib(51), &[Controller::Memory]), None);
    }

    #[test]
    fn a_command_that_was_killed_is_in_doubt_and_one_that_crashed_is_not() {
        let ended = |signal| doubt(End::Signal(signal), "", ByteSize(0), &Controller::LIMITING);
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGXFSZ, libc::SIGRTMIN()] {
            assert_eq!(ended(signal), Some(Doubt::Killed), "{signal}");
        }
        for signal in [libc::SIGSEGV, libc::SIGABRT, libc::SIGPIPE] {
            assert_eq!(ended(signal), None, "{signal}");
        }
        let text = "process didn't exit successfully: `rustc` (signal: 9, SIGKILL: kill)";
        assert_eq!(guess(text, &Controller::LIMITING), Some(Doubt::Killed));
    }

    #[test]
    fn a_success_and_a_limit_that_was_counted_are_never_in_doubt() {
        for end in [End::Code(0), End::TimedOut, End::OverDisk, End::OutOfMemory, End::Stopped] {
            assert_eq!(doubt(end, "memory allocation of 64 bytes failed", LIMIT, &[]), None, "{end:?}");
        }
    }

    #[test]
    fn a_short_disk_and_a_host_without_memory_are_in_doubt() {
        assert_eq!(doubt(End::OutOfDisk, "", ByteSize(0), &[]), Some(Doubt::ShortDisk));
        assert_eq!(doubt(End::HostOutOfMemory, "", ByteSize(0), &[]), Some(Doubt::Killed));
        let refused = "memory allocation of 64 bytes failed";
        assert_eq!(doubt(End::HostOutOfMemory, refused, ByteSize(0), &[]), Some(Doubt::Memory));
        assert_eq!(doubt(End::HostOutOfMemory, refused, ByteSize(0), &[Controller::Memory]), Some(Doubt::Killed));
    }

    #[test]
    fn a_second_run_that_held_more_than_it_may_is_over_the_limit_even_if_it_succeeded() {
        let output = Output::default();
        let weigh = |end, largest, after, counted: &[Controller]| {
            let signs = Signs { end, output: &output, largest: Some(largest), memory_limit: LIMIT };
            signs.weigh(after, |controller| counted.contains(&controller)).0
        };
        let (more, after) = (ByteSize::mib(101), Some(Doubt::Memory));
        for end in [End::Code(0), End::Code(1), End::Signal(libc::SIGABRT), End::HostOutOfMemory] {
            assert_eq!(weigh(end, more, after, &[]), End::OutOfMemory);
            assert_eq!(weigh(end, LIMIT, after, &[]), end);
            assert_eq!(weigh(end, more, None, &[]), end);
            assert_eq!(weigh(end, more, after, &[Controller::Memory]), end);
        }
        assert_eq!(weigh(End::TimedOut, more, after, &[]), End::TimedOut);
    }
}
