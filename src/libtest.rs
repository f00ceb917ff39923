//! The results of a crate's tests, one by one, read from the output of `cargo test`.
//!
//! A stable libtest prints no JSON, so its lines for people are read, and a crate can print such lines itself. Whether
//! a command passed is therefore never read here: its exit decides that. A lie reaches no other crate.

use serde::{Deserialize, Serialize};

mod parse;
#[cfg(test)]
mod tests;

pub use parse::{MAX_BYTES, parse};

/// The results of the tests of one command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tests {
    /// The targets in the order in which they ran.
    pub targets: Vec<Target>,
    /// Whether some results are missing: there were more than [`MAX_BYTES`] of them, or not all output was kept.
    pub cut: bool,
    /// Whether only some tests were asked for, to repeat them.
    pub selected: bool,
    /// Whether failed tests alone explain cargo's list of failed targets: no target crashed, lacks a
    /// harness, or failed after its tests.
    pub accounted: bool,
}

/// The tests of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// As cargo names it: `unittests src/lib.rs`, `tests/ui.rs`, `doc-tests NAME`.
    pub target: String,
    /// The flag that selects it, which cargo prints only for a target that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<TargetFlag>,
    /// Whether every test that it announced has a result. Not so for a target without libtest's harness.
    pub complete: bool,
    /// The tests in the order in which they ended.
    pub tests: Vec<Test>,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Its path, such as `tests::parses`, or that of a documentation test: `src/lib.rs - two (line 1)`.
    pub name: String,
    /// Its result.
    pub result: TestResult,
}

/// The result of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum TestResult {
    Ignored,
    Ok,
    Failed,
}

/// A flag of `cargo test` that selects one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of the flags")]
pub enum TargetFlag {
    Lib,
    Bin(String),
    Test(String),
    Example(String),
    Bench(String),
    Doc,
}

impl Tests {
    /// All results: the target, the test.
    pub fn iter(&self) -> impl Iterator<Item = (&Target, &Test)> {
        self.targets.iter().flat_map(|target| target.tests.iter().map(move |test| (target, test)))
    }

    /// The number of tests with this result.
    pub fn count(&self, result: TestResult) -> usize {
        self.iter().filter(|(_, test)| test.result == result).count()
    }
}

impl Target {
    /// The prefix of the names of all targets of documentation tests.
    const DOC: &str = "doc-tests ";

    /// Whether it has the documentation tests.
    pub fn is_doc(&self) -> bool {
        self.target.starts_with(Self::DOC)
    }
}

impl TargetFlag {
    /// Reads a flag as cargo prints it. The text may be a crate's, so that nothing but a target's name gets through.
    fn read(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = |name: &str| {
            let fine = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && name.chars().all(allowed);
            fine.then(|| name.to_owned())
        };
        // In a workspace, `-p PACKAGE` comes first.
        let words: Vec<&str> = text.split(' ').collect();
        let words = if let ["-p", _, rest @ ..] = &words[..] { rest } else { &words[..] };
        match *words {
            ["--lib"] => Some(Self::Lib),
            ["--doc"] => Some(Self::Doc),
            ["--bin", of] => name(of).map(Self::Bin),
            ["--test", of] => name(of).map(Self::Test),
            ["--example", of] => name(of).map(Self::Example),
            ["--bench", of] => name(of).map(Self::Bench),
            _ => None,
        }
    }

    /// The arguments of `cargo test`.
    pub fn args(&self) -> Vec<String> {
        let (flag, name) = match self {
            Self::Lib => ("--lib", None),
            Self::Doc => ("--doc", None),
            Self::Bin(name) => ("--bin", Some(name)),
            Self::Test(name) => ("--test", Some(name)),
            Self::Example(name) => ("--example", Some(name)),
            Self::Bench(name) => ("--bench", Some(name)),
        };
        [flag.to_owned()].into_iter().chain(name.cloned()).collect()
    }
}
