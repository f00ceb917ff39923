//! The commands that list the units of an op, and those that compile them ahead of it.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::ops::{Features, Op};

/// What cargo is asked about an op's dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commands {
    /// The op's own command.
    pub(super) op: Vec<String>,
    /// Commands that compile the same units and go on after a failure, the likeliest first. None: the units are laid and
    /// not compiled ahead.
    pub(super) ahead: Vec<Vec<String>>,
}

impl Commands {
    /// The commands of an op; `None`: it shares nothing.
    pub(super) fn of(op: &Op, features: &Features) -> Option<Self> {
        // `cargo test` itself would stop at the first package that is refused.
        const TESTS: &[&[&str]] = &[
            &["build", "--tests", "--profile", "test"],
            &["build", "--lib", "--bins", "--tests", "--examples", "--profile", "test"],
        ];
        let (own, ahead): (&[&str], &[&[&str]]) = match op {
            Op::Build => (&["build"], &[&["build"]]),
            Op::BuildTests | Op::Test | Op::Retest(_) => (&["test"], TESTS),
            Op::Check => (&["check", "--all-targets"], &[&["check", "--all-targets"]]),
            Op::Doc => (&["doc", "--no-deps"], &[&["check"], &["check", "--lib", "--bins"]]),
            // Most of them test the crate in one way or another.
            Op::Command(_) => (&["test"], &[]),
            Op::Prepare | Op::Clippy => return None,
        };
        let command = |args: &&[&str]| {
            let words = ["cargo"].iter().chain(*args).chain(&["--frozen"]).map(|&word| word.to_owned());
            words.chain(features.flags()).collect()
        };
        Some(Self { op: command(&own), ahead: ahead.iter().map(command).collect() })
    }

    /// A file name for cargo's answer about a crate with this outline, whose manifest is in the folder `member` of it.
    pub(super) fn subject(&self, member: &Path, mut outline: Sha256) -> String {
        outline.update(member.as_os_str().as_encoded_bytes());
        outline.update(b"\n");
        for command in std::iter::once(&self.op).chain(&self.ahead) {
            command.iter().for_each(|word| outline.update(format!("{word}\0")));
            outline.update(b"\n");
        }
        outline.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Makes a command list its units instead of running: cargo does so only if it takes itself for a nightly one.
pub(super) fn listing(command: &[String]) -> Vec<String> {
    let before = ["env", "RUSTC_BOOTSTRAP=1"].map(str::to_owned);
    let after = ["--unit-graph", "-Zunstable-options", "--color=never"].map(str::to_owned);
    before.into_iter().chain(command.iter().cloned()).chain(after).collect()
}

/// Makes a command go on after a failure, and report each unit that it finds or makes as a line of JSON.
pub(super) fn reporting(command: &[String]) -> Vec<String> {
    let after = ["--keep-going", "--message-format=json-render-diagnostics", "--color=never"].map(str::to_owned);
    command.iter().cloned().chain(after).collect()
}
