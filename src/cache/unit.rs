//! A unit of a crate's dependencies, as plain data: one call of rustc, or one run of a build script.
//!
//! Where units come from is not known here.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The packages, as `NAME-VERSION`, whose code may run while a unit is compiled.
pub type Code = BTreeSet<String>;

/// A digest of everything that cargo decides about a unit, the units that it depends on included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitKey(String);

/// A unit that crates may share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Equal for two crates if and only if cargo would compile the same unit for both.
    pub key: UnitKey,
    /// Its package, as `NAME-VERSION`.
    pub package: String,
    /// The code that runs in a build of this package and of everything below it. The same for all units of a package.
    pub code: Arc<Code>,
    /// The units that it depends on directly.
    pub needs: BTreeSet<UnitKey>,
}

impl UnitKey {
    /// The key of a unit with this description.
    pub fn of(description: &str) -> Self {
        let digest = Sha256::digest(description);
        Self(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Unit {
    /// The name of its package.
    pub fn name(&self) -> &str {
        let is_version = |at: &usize| self.package[at + 1..].parse::<semver::Version>().is_ok();
        // Names and versions may both have hyphens.
        let mut hyphens = self.package.match_indices('-').map(|(at, _)| at);
        hyphens.find(is_version).map_or(&self.package, |at| &self.package[..at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_hyphens_and_a_version_may_too() {
        for (package, name) in
            [("a-1.0.0", "a"), ("a-b-1.0.0", "a-b"), ("a-2-1.0.0-beta.1", "a-2"), ("a-1.0.0+b-1", "a")]
        {
            let (key, code, needs) = (UnitKey::of(package), Arc::default(), BTreeSet::new());
            assert_eq!(Unit { key, package: package.to_owned(), code, needs }.name(), name);
        }
    }
}
