//! Which crates a user means.

use std::path::PathBuf;

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
