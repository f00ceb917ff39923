//! What an experiment may choose about how a crate is built.

use serde::{Deserialize, Serialize};

/// Which dependencies a crate is built with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockfileMode {
    /// The newest compatible ones; a lockfile in the package is left out.
    #[default]
    Latest,
    /// Those of the package's own lockfile; the newest where it has none.
    Packaged,
}

/// Which features of a crate are on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Features {
    /// The default ones.
    #[default]
    Default,
    /// The default ones and these; the name `*` means all.
    With(Vec<String>),
}

impl Features {
    /// The flags that turn them on, for cargo's own subcommands.
    pub(super) fn flags(&self) -> Vec<String> {
        match self {
            Self::Default => Vec::new(),
            Self::With(names) if names.iter().any(|name| name == "*") => vec!["--all-features".to_owned()],
            Self::With(names) => vec!["--features".to_owned(), names.join(",")],
        }
    }
}
