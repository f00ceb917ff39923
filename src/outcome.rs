//! What came of an op, sorted by whose doing it is.
//!
//! Outcomes are values: they never travel inside an `Err`. Only `Passed` and `Failed` may ever count as a regression.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// What came of one op, or of one crate on one toolchain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "reason")]
pub enum Outcome {
    /// The op did what it should.
    Passed,
    /// The crate's doing: it doesn't compile, or its tests fail.
    Failed(Failure),
    /// The crate could never be built by anyone, on any toolchain.
    Broken(Breakage),
    /// Our limits or our host stood in the way: nothing is known about the crate.
    Inconclusive(Cause),
    /// It was not asked for.
    Skipped,
    /// A defect of maar itself.
    Error(String),
}

/// The name of an outcome, as reports and the store spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the variants are those of `Outcome`")]
pub enum OutcomeKind {
    Passed,
    Failed,
    Broken,
    Inconclusive,
    Skipped,
    Error,
}

/// How a crate failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// It doesn't compile; the distinct error codes in the order they came, such as `E0554`.
    Compile {
        /// May be empty: not every error has a code.
        codes: Vec<String>,
    },
    /// Its build script, or that of a dependency, failed.
    BuildScript {
        /// The package whose build script it is, as cargo names it: `foo v1.0.0`.
        package: String,
    },
    /// cargo refused before anything was compiled; its first error.
    Cargo(String),
    /// Tests failed; the names that libtest printed, in order, the first few of them.
    Tests {
        /// At most [`Failure::MAX_TESTS`] names.
        names: Vec<String>,
        /// How many more failed.
        more: usize,
    },
    /// The command ended with this exit code, and nothing more is known.
    Exit(i32),
    /// The command was ended by this signal (its number on Linux), which maar didn't send.
    Signal(i32),
    /// It failed, and printed that it met something that a cell doesn't have.
    Restricted {
        /// How it failed.
        failure: Box<Failure>,
        /// What it met.
        by: Restriction,
    },
}

/// What a plain user's shell has and a cell doesn't, as far as a failure can be told to come from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restriction {
    /// There is no rustup, so that `cargo +nightly` means nothing.
    NoRustup,
    /// Two folders of the package are on different file systems.
    CrossesDevices,
}

/// Why a crate can't be built by anyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breakage {
    /// The registry has no such crate or no such version; the text says which.
    Missing(String),
    /// The tarball is not what a registry should serve: damaged, hostile or absurdly large.
    Archive(String),
    /// cargo can't read its manifest.
    Manifest(String),
    /// A dependency doesn't exist.
    MissingDependency(String),
    /// A dependency is in a folder of the user's that maar didn't copy.
    OutsideDependency(String),
    /// No published, unyanked version of a dependency fits.
    Unresolvable(String),
    /// The packaged lockfile can't be used as it is.
    Lockfile(String),
    /// It has nothing to build: neither a library nor a binary.
    NoTargets,
}

/// Which limit was hit, or what failed on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The op ran longer than its time limit.
    TimedOut(Duration),
    /// The op printed nothing and used next to no CPU for this long.
    Idle(Duration),
    /// The kernel killed a process of the op for using more memory than the limit.
    OutOfMemory(ByteSize),
    /// The op was refused a process or thread, having this many.
    OutOfProcesses(u32),
    /// What the op wrote takes more space than this.
    OverDisk(ByteSize),
    /// The op printed more than this.
    Flooded(ByteSize),
    /// The host's disk is full.
    OutOfDisk,
    /// The registry or another network service couldn't be reached.
    Network(String),
    /// maar's rules forbid something that the op needs.
    Refused(String),
    /// The sandbox or the host failed.
    Host(String),
}

impl Failure {
    /// How many names of failed tests are kept.
    pub const MAX_TESTS: usize = 5;
}

impl Outcome {
    /// The name of the outcome, without its reason.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Passed => OutcomeKind::Passed,
            Self::Failed(_) => OutcomeKind::Failed,
            Self::Broken(_) => OutcomeKind::Broken,
            Self::Inconclusive(_) => OutcomeKind::Inconclusive,
            Self::Skipped => OutcomeKind::Skipped,
            Self::Error(_) => OutcomeKind::Error,
        }
    }

    /// The reason in words, for everything but a pass and a skip.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Passed | Self::Skipped => None,
            Self::Failed(failure) => Some(failure.to_string()),
            Self::Broken(breakage) => Some(breakage.to_string()),
            Self::Inconclusive(cause) => Some(cause.to_string()),
            Self::Error(message) => Some(message.clone()),
        }
    }
}

impl Cause {
    /// Whether the host is to blame rather than a limit.
    pub fn is_of_host(&self) -> bool {
        match self {
            Self::OutOfProcesses(_)
            | Self::TimedOut(_)
            | Self::Idle(_)
            | Self::OutOfMemory(_)
            | Self::OverDisk(_)
            | Self::Flooded(_)
            | Self::Refused(_) => false,
            Self::OutOfDisk | Self::Network(_) | Self::Host(_) => true,
        }
    }
}

impl OutcomeKind {
    /// The name that reports and the store use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Inconclusive => "inconclusive",
            Self::Skipped => "skipped",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compile { codes } if codes.is_empty() => write!(f, "does not compile"),
            Self::Compile { codes } => write!(f, "does not compile: {}", codes.join(", ")),
            Self::BuildScript { package } => write!(f, "the build script of {package} failed"),
            Self::Cargo(message) => write!(f, "cargo: {message}"),
            Self::Tests { names, more: 0 } => write!(f, "tests failed: {}", names.join(", ")),
            Self::Tests { names, more } => write!(f, "tests failed: {} and {more} more", names.join(", ")),
            Self::Restricted { failure, by } => write!(f, "{failure} ({by})"),
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRustup => write!(f, "a cell has no rustup, and `cargo +TOOLCHAIN` doesn't work there"),
            Self::CrossesDevices => {
                write!(f, "a cell's target folder, and an ordinary user's large packages, don't allow all renames")
            }
        }
    }
}

impl fmt::Display for Breakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => f.write_str(what),
            Self::Archive(what) => write!(f, "bad archive: {what}"),
            Self::Manifest(what) => write!(f, "bad manifest: {what}"),
            Self::MissingDependency(name) => write!(f, "dependency `{name}` does not exist"),
            Self::OutsideDependency(name) => write!(
                f,
                "dependency `{name}` is outside the folder, and maar copies no more than that: make both members of one \
                 workspace, or depend on a published version"
            ),
            Self::Unresolvable(what) => write!(f, "dependencies can't be resolved: {what}"),
            Self::Lockfile(what) => write!(f, "bad lockfile: {what}"),
            Self::NoTargets => write!(f, "neither a library nor a binary to build"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(limit) => write!(f, "still running after {}", humantime::format_duration(*limit)),
            Self::Idle(limit) => {
                write!(f, "no output and no CPU use for {}", humantime::format_duration(*limit))
            }
            Self::OutOfMemory(limit) => write!(f, "needs more memory than {}", limit.display().iec()),
            Self::OverDisk(limit) => write!(f, "needs more disk space than {}", limit.display().iec()),
            Self::Flooded(limit) => write!(f, "printed more than {}", limit.display().iec()),
            Self::OutOfProcesses(limit) => write!(f, "needs more than {limit} processes and threads"),
            Self::OutOfDisk => write!(f, "no space left on the host's disk"),
            Self::Network(what) => write!(f, "network: {what}"),
            Self::Refused(what) => f.write_str(what),
            Self::Host(what) => write!(f, "host: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_the_store() {
        for outcome in [
            Outcome::Passed,
            Outcome::Failed(Failure::Compile { codes: vec!["E0554".into()] }),
            Outcome::Broken(Breakage::Missing("no crate named `x`".into())),
            Outcome::Inconclusive(Cause::TimedOut(Duration::from_millis(1500))),
            Outcome::Inconclusive(Cause::OutOfMemory(ByteSize::gib(4))),
            Outcome::Skipped,
            Outcome::Error("a bug".into()),
        ] {
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome, "{json}");
        }
    }
}
