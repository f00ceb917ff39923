//! Toolchains: a user's spec (`ToolchainSpec`) and an installed toolchain (`Toolchain`).
//!
//! Looking toolchains up asks rustup or rustc; nothing is ever installed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

mod lookup;
mod program;

pub use lookup::{ToolchainError, active, cargo_commands, find, find_or_active, installed};

/// A toolchain as the user names it: `stable`, `nightly-2026-05-15`, `1.95.0`, …
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolchainSpec(String);

/// Why a text names no toolchain.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not a toolchain name: only ASCII letters, digits, `.`, `-` and `_` are allowed", .0.escape_debug())]
pub struct BadToolchainSpec(String);

impl ToolchainSpec {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ToolchainSpec {
    type Err = BadToolchainSpec;

    fn from_str(spec: &str) -> Result<Self, BadToolchainSpec> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if spec.starts_with(|c: char| c.is_ascii_alphanumeric()) && spec.len() <= 128 && spec.chars().all(allowed) {
            Ok(Self(spec.to_owned()))
        } else {
            Err(BadToolchainSpec(spec.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for ToolchainSpec {
    type Error = BadToolchainSpec;

    fn try_from(spec: String) -> Result<Self, BadToolchainSpec> {
        spec.parse()
    }
}

impl From<ToolchainSpec> for String {
    fn from(spec: ToolchainSpec) -> Self {
        spec.0
    }
}

impl fmt::Display for ToolchainSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An installed toolchain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// The name the user gave.
    pub spec: ToolchainSpec,
    /// The version of its rustc, without the commit: `1.95.0`, `1.97.0-nightly`.
    pub version: Version,
    /// The output of `rustc --version`, which differs between two nightlies; for a locally built compiler also its
    /// build time.
    pub identity: String,
    /// Its folder, which holds `bin/cargo` and `bin/rustc`.
    pub sysroot: PathBuf,
}
