//! Guesses from what a failed command printed that a limit stopped it, where no controller counts.
//!
//! Without the memory controller, a process that may not have more memory is told so like any other failure; likewise
//! without the pids controller. A guess that is wrong costs a result; none at all could make a limit a failure.

use super::cgroup::Controller;
use super::{End, Output};

/// What Rust's and the C library's messages say when memory is refused.
const MEMORY: [&str; 3] = ["memory allocation of ", "Cannot allocate memory", "std::bad_alloc"];
/// What they, and the shell of Debian, say when a process or thread is.
const PROCESSES: [&str; 2] = ["Resource temporarily unavailable", "Cannot fork"];

/// The end of a command, or the limit that it probably hit instead, of those that none of the controllers counts.
pub(super) fn reconsider(end: End, output: &Output, counted: impl Fn(Controller) -> bool) -> End {
    match end {
        End::Code(0) => end,
        End::Code(_) | End::Signal(_) => suspect(output, counted).unwrap_or(end),
        End::TimedOut
        | End::Idle
        | End::OutOfMemory
        | End::OutOfProcesses
        | End::OverDisk
        | End::OutOfDisk
        | End::Flooded
        | End::Stopped => end,
    }
}

fn suspect(output: &Output, counted: impl Fn(Controller) -> bool) -> Option<End> {
    let printed =
        |phrases: &[&str]| phrases.iter().any(|phrase| says(&output.head, phrase) || says(&output.tail, phrase));
    if !counted(Controller::Memory) && printed(&MEMORY) {
        Some(End::OutOfMemory)
    } else if !counted(Controller::Pids) && printed(&PROCESSES) {
        Some(End::OutOfProcesses)
    } else {
        None
    }
}

fn says(text: &[u8], phrase: &str) -> bool {
    text.windows(phrase.len()).any(|window| window == phrase.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspected(text: &str, counted: &[Controller]) -> Option<End> {
        let output = Output { head: text.as_bytes().to_vec(), ..Output::default() };
        suspect(&output, |controller| counted.contains(&controller))
    }

    #[test]
    fn what_no_controller_counts_is_told_by_its_message() {
        assert_eq!(suspected("memory allocation of 64 bytes failed\n", &[]), Some(End::OutOfMemory));
        let threads = "Os { code: 11, kind: WouldBlock, message: \"Resource temporarily unavailable\" }";
        assert_eq!(suspected(threads, &[Controller::Memory]), Some(End::OutOfProcesses));
    }

    #[test]
    fn only_plain_failures_are_reconsidered() {
        let output = Output { head: b"memory allocation of 64 bytes failed".to_vec(), ..Output::default() };
        let reconsidered = |end| reconsider(end, &output, |_| false);
        for end in [End::Code(101), End::Signal(6)] {
            assert_eq!(reconsidered(end), End::OutOfMemory);
        }
        for end in [End::Code(0), End::TimedOut, End::OverDisk, End::Stopped] {
            assert_eq!(reconsidered(end), end);
        }
    }

    #[test]
    fn what_a_controller_counts_is_left_to_it() {
        let text = "memory allocation of 64 bytes failed\nResource temporarily unavailable\n";
        assert_eq!(suspected(text, &[Controller::Memory, Controller::Pids]), None);
        assert_eq!(suspected("assertion failed", &[]), None);
    }
}
