//! Which crates a user means.

use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};

use crate::krate::CrateName;

/// One crate that a user selected, before the registry was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// `NAME`: its newest version that is neither yanked nor a pre-release (else the newest pre-release).
    Newest(CrateName),
    /// `NAME@REQ`, such as `semver@1`: the newest unyanked version that fits; a requirement as in cargo's manifests.
    Matching(CrateName, VersionReq),
    /// `NAME@1.2.3`, and the packages of a lockfile: this very version, yanked or not.
    Exact(CrateName, Version),
    /// `path:DIR`.
    Path(PathBuf),
}

/// Why a text selects nothing.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] crate::krate::BadCrateName),
    /// The version is none.
    #[error("`{0}` is not a version")]
    Version(String),
    /// A file or folder can't be read.
    #[error("failed to read {path}: {source}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads one selection; relative paths in it begin at `base`.
pub fn parse(text: &str, base: &Path) -> Result<Vec<Selection>, SelectError> {
    if let Some(dir) = text.strip_prefix("path:") {
        return Ok(vec![Selection::Path(base.join(dir))]);
    }
    if let Some(file) = text.strip_prefix("list:") {
        let path = base.join(file);
        let list = std::fs::read_to_string(&path).map_err(|source| SelectError::Read { path, source })?;
        let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        return lines.map(one).collect();
    }
    Ok(vec![one(text)?])
}

fn one(text: &str) -> Result<Selection, SelectError> {
    let Some((name, version)) = text.split_once('@') else { return Ok(Selection::Newest(text.parse()?)) };
    let name = name.parse()?;
    if let Ok(version) = Version::parse(version) {
        return Ok(Selection::Exact(name, version));
    }
    let requirement = VersionReq::parse(version).map_err(|_| SelectError::Version(version.to_owned()))?;
    Ok(Selection::Matching(name, requirement))
}
