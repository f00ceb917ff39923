//! Toolchains: a user's spec (`ToolchainSpec`) and an installed toolchain (`Toolchain`).
//!
//! Looking toolchains up asks rustup or rustc. Only [`install`] installs anything, and only when it is called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::{Deserialize, Serialize};

mod install;
mod lookup;
mod program;
mod quote;
mod settings;
mod spec;

pub use install::{Missing, install, is_installed};
pub use lookup::{ToolchainError, active, cargo_commands, find, find_or_active, installed};
pub use settings::{BadSetting, Key, PatchSource, RESERVED_ENV, Settings, Shape};
pub use spec::{BadToolchainSpec, Base, ToolchainSpec};

/// An installed toolchain, with all settings of its spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// The name and the settings that the user gave.
    pub spec: ToolchainSpec,
    /// Its name in reports, which no other toolchain of the experiment has. Empty in results of an older maar.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    /// The version of its rustc, without the commit: `1.95.0`, `1.97.0-nightly`.
    pub version: Version,
    /// The output of `rustc --version`, which differs between two nightlies; for a locally built compiler also its
    /// build time, and where cargo or rustdoc are another toolchain's, their versions.
    pub identity: String,
    /// The folder of its rustc, which holds `bin/rustc`.
    pub sysroot: PathBuf,
    /// Its cargo, where that is another toolchain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cargo: Option<Program>,
    /// Its rustdoc, where that is another toolchain's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rustdoc: Option<Program>,
    /// What stands in for packages of the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
    /// Where links to the programs of other toolchains are, in this run.
    #[serde(skip)]
    pub programs: Option<PathBuf>,
    /// The file of the configuration that gives its patches to the user's own commands, in this run.
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// A program of another toolchain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The folder of the toolchain that it belongs to.
    pub sysroot: PathBuf,
    /// Its version.
    pub version: Version,
}

/// What stands in for a package of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The name of the package.
    pub name: String,
    /// What stands in for it.
    pub source: Patched,
}

/// A patch that has been looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patched {
    /// A commit of a git repository.
    Git {
        /// Its URL.
        url: String,
        /// The commit.
        rev: String,
    },
    /// A user's folder.
    Folder {
        /// The folder, or that of its whole workspace.
        root: PathBuf,
        /// Where the package is in it.
        member: PathBuf,
        /// The package's version.
        version: Version,
        /// The digest of all files in `root`.
        digest: String,
        /// The copy that the cells of this run see.
        #[serde(skip)]
        copy: Option<PathBuf>,
    },
}

impl Toolchain {
    /// A toolchain that has all its programs itself.
    pub fn new(spec: ToolchainSpec, version: Version, identity: String, sysroot: PathBuf) -> Self {
        let label = spec.label();
        Self {
            spec,
            label,
            version,
            identity,
            sysroot,
            cargo: None,
            rustdoc: None,
            patches: Vec::new(),
            programs: None,
            config: None,
        }
    }

    /// Its name in reports.
    pub fn label(&self) -> &str {
        if self.label.is_empty() { self.spec.as_str() } else { &self.label }
    }

    /// How it builds.
    pub fn settings(&self) -> &Settings {
        self.spec.settings()
    }

    /// The version of its cargo.
    pub fn cargo_version(&self) -> &Version {
        self.cargo.as_ref().map_or(&self.version, |cargo| &cargo.version)
    }

    /// The file that its cargo is.
    pub fn cargo_path(&self) -> PathBuf {
        self.cargo.as_ref().map_or(&*self.sysroot, |cargo| &*cargo.sysroot).join("bin/cargo")
    }

    /// Whether it builds as `other` does: the same programs with the same settings.
    pub fn builds_as(&self, other: &Self) -> bool {
        // Components and the names of programs change nothing that the identity doesn't show.
        let of = |toolchain: &Self| Settings {
            components: std::collections::BTreeSet::new(),
            cargo: None,
            rustdoc: None,
            patches: BTreeMap::new(),
            ..toolchain.settings().clone()
        };
        self.identity == other.identity && of(self) == of(other) && self.patches == other.patches
    }
}

/// Gives toolchains labels of their own: `stable (1)` and `stable (2)` where two would have the same.
pub fn label(toolchains: &mut [Toolchain]) {
    let labels: Vec<String> = toolchains.iter().map(|toolchain| toolchain.spec.label()).collect();
    for (place, toolchain) in toolchains.iter_mut().enumerate() {
        let same = |until: usize| labels[..until].iter().filter(|label| **label == labels[place]).count();
        toolchain.label = match same(labels.len()) {
            1 => labels[place].clone(),
            _ => format!("{} ({})", labels[place], same(place + 1)),
        };
    }
}

/// The place of the toolchain that has this label or spec; relative paths in it begin at `folder`.
pub fn position(toolchains: &[Toolchain], wanted: &str, folder: &Path) -> Option<usize> {
    let spec: Option<ToolchainSpec> = wanted.parse().ok();
    let rooted = spec.clone().map(|spec| spec.rooted(folder));
    let by_label = toolchains.iter().position(|toolchain| toolchain.label() == wanted);
    let is_meant = |toolchain: &Toolchain| [&spec, &rooted].into_iter().flatten().any(|spec| *spec == toolchain.spec);
    by_label.or_else(|| toolchains.iter().position(is_meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchains(specs: &[&str]) -> Vec<Toolchain> {
        let toolchain = |spec: &&str| {
            Toolchain::new(spec.parse().unwrap(), Version::new(1, 95, 0), "rustc 1".to_owned(), "/x".into())
        };
        let mut toolchains: Vec<Toolchain> = specs.iter().map(toolchain).collect();
        label(&mut toolchains);
        toolchains
    }

    #[test]
    fn no_two_toolchains_have_one_label() {
        let toolchains = toolchains(&["stable", "path:/a/stage1", "stable", "path:/b/stage1"]);
        let labels: Vec<&str> = toolchains.iter().map(Toolchain::label).collect();
        assert_eq!(labels, ["stable (1)", "path:stage1 (1)", "stable (2)", "path:stage1 (2)"]);
        let found = |wanted| position(&toolchains, wanted, Path::new("/b"));
        assert_eq!((found("stable (2)"), found("stable"), found("path:stage1")), (Some(2), Some(0), Some(3)));
        assert_eq!((found("path:/a/stage1"), found("beta")), (Some(1), None));
    }

    #[test]
    fn a_toolchain_of_an_older_maar_is_read() {
        let json = r#"{"spec":"stable","version":"1.95.0","identity":"rustc 1.95.0","sysroot":"/x"}"#;
        let toolchain: Toolchain = serde_json::from_str(json).unwrap();
        assert_eq!((toolchain.label(), toolchain.cargo_path()), ("stable", "/x/bin/cargo".into()));
    }
}
