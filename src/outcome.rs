//! The outcome of an op, sorted by blame.
//!
//! Outcomes are values: they never travel inside an `Err`. Only `Passed` and `Failed` may ever count as a regression.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::exact;

/// The outcome of one op, or of one crate on one toolchain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "reason")]
pub enum Outcome {
    /// The op succeeded.
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
    /// Something doesn't compile.
    Compile {
        /// What.
        #[serde(default)]
        part: Part,
        /// The distinct error codes in the order they came, such as `E0554`. May be empty: not every error has a code.
        codes: Vec<String>,
        /// The first error in the compiler's words: `E0308: mismatched types`. None in results of an older maar.
        #[serde(default)]
        first: Option<String>,
    },
    /// Its build script, or that of a dependency, failed.
    BuildScript {
        /// The package whose build script it is, as cargo names it: `foo v1.0.0`.
        package: String,
        /// Its panic message, or else how it ended.
        #[serde(default)]
        why: Option<String>,
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
    /// A test target ended otherwise than a test harness does that counts its failed tests: it crashed, or has a
    /// custom harness.
    Target {
        /// Which, in words: "test target `conformance`".
        target: String,
        /// How its process ended.
        end: ProcessEnd,
    },
    /// The command ended with this exit code, and nothing more is known.
    Exit(i32),
    /// The command was ended by this signal (its number on Linux), which maar didn't send.
    Signal(i32),
    /// It failed, and something may be the cause that the crate has elsewhere and not in a cell.
    Without {
        /// How it failed.
        failure: Box<Failure>,
        /// The things that the cell lacks.
        withheld: Vec<Withheld>,
    },
}

/// The part of a build that doesn't compile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The crate's library or binary.
    #[default]
    Crate,
    /// Another target of the crate, in words: "example `demo`".
    Target(String),
    /// A dependency, as cargo names it: `foo v1.0.0`.
    Dependency(String),
}

/// How a process ended that didn't succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessEnd {
    /// With this exit code.
    Code(i32),
    /// By this signal: its number on Linux.
    Signal(i32),
}

/// Something that a crate has on its author's machine and not in a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withheld {
    /// A file of the crate that would redirect its build, such as `.cargo/config.toml`.
    File(String),
    /// The `.git` folder of the crate, or of a folder above it.
    Git,
    /// The workspace above the crate's folder.
    Workspace,
    /// A link that leads out of the crate's folder, or an entry that is not a file or folder.
    Link(String),
    /// The network.
    Network,
    /// rustup, and with it `cargo +TOOLCHAIN`.
    Rustup,
    /// Renames between folders that are on one file system elsewhere.
    Renames,
}

/// Why a crate can't be built by anyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breakage {
    /// The registry lacks the crate or the version; the text names it.
    Missing(String),
    /// The tarball is unusable: damaged, hostile or absurdly large.
    Archive(String),
    /// cargo can't read its manifest.
    Manifest(String),
    /// A dependency doesn't exist.
    MissingDependency(String),
    /// No published, unyanked version of a dependency fits.
    Unresolvable(String),
    /// The packaged lockfile can't be used as it is.
    Lockfile(String),
    /// It has nothing to build: neither a library nor a binary.
    NoTargets,
    /// It is broken in a cell, and something may be the cause that the crate has elsewhere.
    Without {
        /// Why it is broken.
        breakage: Box<Breakage>,
        /// The things that the cell lacks.
        withheld: Vec<Withheld>,
    },
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
    OutOfMemory(#[serde(serialize_with = "exact::size")] ByteSize),
    /// The op was refused a process or thread, having this many.
    OutOfProcesses(u32),
    /// The op's files take more space than this.
    OverDisk(#[serde(serialize_with = "exact::size")] ByteSize),
    /// The op printed more than this.
    Flooded(#[serde(serialize_with = "exact::size")] ByteSize),
    /// The host's disk is full.
    OutOfDisk,
    /// The registry or another network service couldn't be reached.
    Network(String),
    /// maar's rules forbid something that the op needs.
    Refused(String),
    /// A patch of the toolchain's is not in the build, so that a result would say nothing of it.
    Unpatched(String),
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
            | Self::Refused(_)
            | Self::Unpatched(_) => false,
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
            Self::Compile { part, codes, first } => {
                write!(f, "{part}does not compile")?;
                let said = |code: &&String| first.as_ref().is_some_and(|first| first.starts_with(code.as_str()));
                let others: Vec<&str> = codes.iter().filter(|code| !said(code)).map(String::as_str).collect();
                match (first, others.as_slice()) {
                    (None, []) => Ok(()),
                    (None, codes) => write!(f, ": {}", codes.join(", ")),
                    (Some(first), []) => write!(f, ": {first}"),
                    (Some(first), others) => write!(f, ": {first}; also {}", others.join(", ")),
                }
            }
            Self::BuildScript { package, why: None } => write!(f, "the build script of {package} failed"),
            Self::BuildScript { package, why: Some(why) } => write!(f, "the build script of {package} failed: {why}"),
            Self::Cargo(message) => write!(f, "cargo: {message}"),
            Self::Tests { names, more: 0 } => write!(f, "tests failed: {}", names.join(", ")),
            Self::Tests { names, more } => write!(f, "tests failed: {} and {more} more", names.join(", ")),
            Self::Target { target, end } => write!(f, "{target}: {end}"),
            Self::Exit(code) => ProcessEnd::Code(*code).fmt(f),
            Self::Signal(signal) => ProcessEnd::Signal(*signal).fmt(f),
            Self::Without { failure, withheld } => write!(f, "{failure} ({})", sentence(withheld)),
        }
    }
}

/// With a space behind it, or empty.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crate => Ok(()),
            Self::Target(target) => write!(f, "{target} "),
            Self::Dependency(package) => write!(f, "dependency {package} "),
        }
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "`{path}`"),
            Self::Git => write!(f, "`.git`"),
            Self::Workspace => write!(f, "the workspace above the folder"),
            Self::Link(path) => write!(f, "the link `{path}` out of the folder"),
            Self::Network => write!(f, "the network"),
            Self::Rustup => write!(f, "rustup and `cargo +TOOLCHAIN`"),
            Self::Renames => write!(f, "some renames, between two file systems"),
        }
    }
}

/// Such as "not in the cell: `.git`, the network".
fn sentence(withheld: &[Withheld]) -> String {
    let list: Vec<String> = withheld.iter().map(Withheld::to_string).collect();
    format!("not in the cell: {}", list.join(", "))
}

impl fmt::Display for Breakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => f.write_str(what),
            Self::Archive(what) => write!(f, "bad archive: {what}"),
            Self::Manifest(what) => write!(f, "bad manifest: {what}"),
            Self::MissingDependency(name) => write!(f, "dependency `{name}` does not exist"),
            Self::Unresolvable(what) => write!(f, "dependencies can't be resolved: {what}"),
            Self::Lockfile(what) => write!(f, "bad lockfile: {what}"),
            Self::NoTargets => write!(f, "neither a library nor a binary to build"),
            Self::Without { breakage, withheld } => write!(f, "{breakage} ({})", sentence(withheld)),
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
            Self::Refused(what) | Self::Unpatched(what) => f.write_str(what),
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
            Outcome::Failed(Failure::Compile { part: Part::Crate, codes: vec!["E0554".into()], first: None }),
            Outcome::Failed(Failure::Without {
                failure: Box::new(Failure::Target { target: "test target `a`".into(), end: ProcessEnd::Code(1) }),
                withheld: vec![Withheld::File(".cargo/config.toml".into()), Withheld::Network],
            }),
            Outcome::Broken(Breakage::Missing("no crate named `x`".into())),
            Outcome::Inconclusive(Cause::TimedOut(Duration::from_millis(1500))),
            // Which `bytesize` itself writes as "1.5 GiB".
            Outcome::Inconclusive(Cause::OutOfMemory(ByteSize::mib(1500))),
            Outcome::Skipped,
            Outcome::Error("a bug".into()),
        ] {
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome, "{json}");
        }
    }

    #[test]
    fn results_of_an_older_maar_are_still_read() {
        for (json, reason) in [
            (r#"{"kind":"failed","reason":{"compile":{"codes":["E0554"]}}}"#, "does not compile: E0554"),
            (
                r#"{"kind":"failed","reason":{"build-script":{"package":"a v1.0.0"}}}"#,
                "the build script of a v1.0.0 failed",
            ),
        ] {
            let outcome: Outcome = serde_json::from_str(json).unwrap();
            assert_eq!(outcome.reason().as_deref(), Some(reason));
        }
    }

    #[test]
    fn a_compile_error_names_the_part_the_first_error_and_the_other_codes() {
        let codes = vec!["E0308".to_owned(), "E0433".to_owned()];
        let first = Some("E0308: mismatched types".to_owned());
        let of = |part| Failure::Compile { part, codes: codes.clone(), first: first.clone() }.to_string();
        assert_eq!(of(Part::Crate), "does not compile: E0308: mismatched types; also E0433");
        assert_eq!(
            of(Part::Dependency("a v1.0.0".into())),
            "dependency a v1.0.0 does not compile: E0308: mismatched types; also E0433"
        );
    }
}
