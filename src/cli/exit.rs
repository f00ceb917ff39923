//! The meaning of exit codes.

use std::process::ExitCode;

/// How a command ended. The numbers are a promise; `--help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Every crate was tested, and nothing regressed; with one toolchain, nothing failed.
    Fine = 0,
    /// Something regressed; with one toolchain, something failed. With `--fail-on`, a crate got one of its verdicts.
    Regressed = 1,
    /// The command or the configuration is wrong.
    Usage = 2,
    /// maar or its host failed.
    Host = 3,
    /// Some crates could not be tested, and nothing regressed.
    SomeUntested = 4,
    /// No crate could be tested.
    NothingTested = 5,
    /// The user stopped it, as by SIGINT.
    Stopped = 130,
}

/// The command asks for something that isn't there; ends with [`Exit::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misuse(pub(super) String);

/// The list for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
    0  every crate was tested, and nothing regressed (one toolchain: nothing failed)
    1  regressions (one toolchain: failures), or the verdicts of --fail-on
    2  the command or the configuration is wrong
    3  maar or its host failed, and nothing regressed
    4  some crates could not be tested (inconclusive, broken), and nothing regressed
    5  no crate could be tested
  130  stopped";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help() {
        for exit in [
            Exit::Fine,
            Exit::Regressed,
            Exit::Usage,
            Exit::Host,
            Exit::SomeUntested,
            Exit::NothingTested,
            Exit::Stopped,
        ] {
            let code = format!("{:>5}  ", exit as u8);
            assert!(HELP.lines().any(|line| line.starts_with(&code)), "{exit:?}");
        }
    }
}
