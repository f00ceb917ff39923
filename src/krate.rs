//! The identity of a crate: its name, its version and its source.
//!
//! Names are checked when they are made, so that a `CrateName` can be put in a path, a URL or a command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

/// The name of a crate, as the registry would accept it.
///
/// ASCII letters, digits, `-` and `_`, beginning with a letter, at most 64 characters: the rules of
/// [cargo's registry index](https://doc.rust-lang.org/cargo/reference/registry-index.html#name-restrictions).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CrateName(String);

/// Why a text is not a crate name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not a crate name: {reason}", .name.escape_debug())]
pub struct BadCrateName {
    name: String,
    reason: &'static str,
}

impl CrateName {
    /// The longest name that registries accept, in characters.
    pub const MAX_LEN: usize = 64;

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CrateName {
    type Err = BadCrateName;

    fn from_str(name: &str) -> Result<Self, BadCrateName> {
        let reason = match name.chars().next() {
            None => "it is empty",
            Some(first) if !first.is_ascii_alphabetic() => "it must begin with a letter",
            Some(_) if name.len() > Self::MAX_LEN => "it is longer than 64 characters",
            Some(_) if !name.chars().all(is_name_char) => "only ASCII letters, digits, `-` and `_` are allowed",
            Some(_) => return Ok(Self(name.to_owned())),
        };
        Err(BadCrateName { name: name.chars().take(80).collect(), reason })
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl TryFrom<String> for CrateName {
    type Error = BadCrateName;

    fn try_from(name: String) -> Result<Self, BadCrateName> {
        name.parse()
    }
}

impl From<CrateName> for String {
    fn from(name: CrateName) -> Self {
        name.0
    }
}

impl fmt::Display for CrateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A crate of an experiment: its name, and its version where one is known.
///
/// The version is absent only for a crate that the registry doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CrateId {
    /// The name.
    pub name: CrateName,
    /// The exact version.
    pub version: Option<Version>,
}

impl fmt::Display for CrateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => f.pad(&format!("{}@{version}", self.name)),
            None => self.name.fmt(f),
        }
    }
}

/// Where the sources of a selected crate come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The registry; the SHA-256 of its tarball, in hexadecimal, is in the index.
    Registry {
        /// 64 hexadecimal digits.
        checksum: String,
    },
    /// A local folder.
    Path {
        /// The folder, or the workspace that it is in, absolute.
        dir: PathBuf,
        /// The SHA-256, in hexadecimal, of the names and contents that were there when it was selected.
        digest: String,
        /// Where the crate is below `dir`, if that is a workspace that it is a member of; else empty.
        #[serde(default)]
        member: PathBuf,
    },
    /// Nowhere: the selection names a crate or version that doesn't exist, named here.
    Missing(String),
    /// A local folder without a package that cargo could build, and why.
    Unusable(String),
    /// The user skips it, for this reason.
    Skipped {
        /// Why.
        reason: String,
        /// Where its sources are.
        source: Box<Origin>,
    },
    /// The registry didn't answer, and why. A later run asks again.
    Unavailable(String),
}

impl Origin {
    /// Where the sources come from, whether or not the user skips the crate.
    pub fn source(&self) -> &Self {
        match self {
            Self::Skipped { source, .. } => source.source(),
            Self::Registry { .. } | Self::Path { .. } | Self::Missing(_) | Self::Unusable(_) | Self::Unavailable(_) => {
                self
            }
        }
    }
}

/// A crate that a selection names, with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// Which crate.
    pub id: CrateId,
    /// Where its sources are.
    pub origin: Origin,
}

impl Selected {
    /// Where the crate's manifest is below its sources: not at the top only if these are a whole workspace.
    pub fn member(&self) -> &Path {
        match self.origin.source() {
            Origin::Path { member, .. } => member,
            Origin::Registry { .. }
            | Origin::Missing(_)
            | Origin::Unusable(_)
            | Origin::Skipped { .. }
            | Origin::Unavailable(_) => Path::new(""),
        }
    }
}

/// The part of a version that compatible versions have in common, as cargo's default requirements see it.
pub fn series(version: &Version) -> (u64, u64, u64) {
    match (version.major, version.minor, version.patch) {
        (0, 0, patch) => (0, 0, patch),
        (0, minor, _) => (0, minor, 0),
        (major, _, _) => (major, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_registries_accept_are_accepted() {
        for name in ["a", "serde", "serde_json", "x86-64", "R2", &"a".repeat(64)] {
            assert_eq!(name.parse::<CrateName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_could_escape_a_path_or_a_line_are_refused() {
        for name in ["", "..", "a/b", "a\nb", "-a", "1a", "a b", "a\0", "é", &"a".repeat(65)] {
            assert!(name.parse::<CrateName>().is_err(), "{name:?} was accepted");
        }
    }
}
