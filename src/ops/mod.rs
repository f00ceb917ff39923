//! What one step of a crate's queue does: one file per op.
//!
//! [`Op`] is data. Two matches know its variants: its stage and its run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of an op: lowercase ASCII letters, digits, `-` and `_`, beginning with a letter, at most 32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OpName(String);

/// Why a text is no op name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{}` is not an op name: lowercase ASCII letters, digits, `-` and `_` are allowed, a letter first, 32 at most",
    .0.escape_debug()
)]
pub struct BadOpName(String);

/// One step of a crate's queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Fetches sources and dependencies; once per crate, first, for all toolchains.
    Prepare,
    /// `cargo check`.
    Check,
    /// `cargo build`.
    Build,
    /// `cargo test`.
    Test,
    /// `cargo clippy`.
    Clippy,
    /// `cargo doc`.
    Doc,
    /// A command of the user's own.
    Command(CommandOp),
}

/// An op of the user's own, from `[op.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommandOp {
    /// Its name.
    pub name: OpName,
    /// The pool that runs it: never [`Stage::Fetch`].
    pub stage: Stage,
    /// The program and its arguments; not empty.
    pub run: Vec<String>,
}

/// A pool of workers, and the kind of work it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Stage {
    Fetch,
    Build,
    Test,
}

impl Op {
    /// The ops that need no definition, in the order of a typical list.
    pub const BUILT_IN: [Self; 6] = [Self::Prepare, Self::Check, Self::Build, Self::Test, Self::Clippy, Self::Doc];

    /// The name that op lists use.
    pub fn name(&self) -> OpName {
        let name = match self {
            Self::Prepare => "prepare",
            Self::Check => "check",
            Self::Build => "build",
            Self::Test => "test",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::Command(command) => return command.name.clone(),
        };
        OpName(name.to_owned())
    }

    /// The stage that runs it.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Prepare => Stage::Fetch,
            Self::Check | Self::Build | Self::Clippy | Self::Doc => Stage::Build,
            Self::Test => Stage::Test,
            Self::Command(command) => command.stage,
        }
    }
}

impl OpName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for OpName {
    type Err = BadOpName;

    fn from_str(name: &str) -> Result<Self, BadOpName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 32 && name.chars().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadOpName(name.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for OpName {
    type Error = BadOpName;

    fn try_from(name: String) -> Result<Self, BadOpName> {
        name.parse()
    }
}

impl From<OpName> for String {
    fn from(name: OpName) -> Self {
        name.0
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Stage {
    /// All stages, in the order in which crates pass them.
    pub const ALL: [Self; 3] = [Self::Fetch, Self::Build, Self::Test];

    /// The name that configuration and reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Build => "build",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
