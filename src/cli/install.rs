//! Installs toolchains and their missing parts, where the user allows it: by naming them, and without `--offline`.
//!
//! Nothing is installed in silence: a line names the missing part and the command that installs it, and rustup's own
//! progress follows. What can't be installed is an error before the run starts, with the command.

use std::io::Write;

use crate::experiment::Installing;
use crate::toolchain::{self, Missing, Toolchain, ToolchainError, ToolchainSpec};

/// Finds toolchains, and installs those that are missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Installer(pub(super) Installing);

/// A spec names three toolchains at most.
const MOST: usize = 3;

impl Installer {
    /// The toolchain of a spec, installed first where `installing` and the installer allow it.
    pub(super) fn find(
        self,
        spec: Option<&ToolchainSpec>,
        installing: Installing,
    ) -> Result<Toolchain, ToolchainError> {
        for _ in 0..MOST {
            match toolchain::find_or_active(spec) {
                Err(ToolchainError::NotInstalled { name, .. })
                    if installing == Installing::WhatIsMissing && self.may(&name) =>
                {
                    self.install(&Missing::Toolchain(name))?;
                }
                found => return found,
            }
        }
        toolchain::find_or_active(spec)
    }

    /// Whether rustup can know the name: anything else is a typo, or a linked toolchain that is gone.
    fn may(self, name: &str) -> bool {
        let of_channel = |channel: &str| {
            name.strip_prefix(channel).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
        };
        let is_version = name.starts_with(|c: char| c.is_ascii_digit()) && name.contains('.');
        self.0 == Installing::WhatIsMissing
            && (is_version || ["stable", "beta", "nightly"].iter().any(|it| of_channel(it)))
    }

    /// Installs something, and says so.
    ///
    /// # Errors
    /// When the user doesn't allow it, and when rustup fails.
    pub(super) fn install(self, missing: &Missing) -> Result<(), ToolchainError> {
        let command = missing.command().join(" ");
        match self.0 {
            Installing::WhatIsMissing => {}
            Installing::Nothing => {
                return Err(ToolchainError::NotAllowed { what: missing.to_string(), command });
            }
        }
        // A closed stderr has no reader.
        let _ = writeln!(anstream::stderr(), "maar: {missing} is not installed; installing it: {command}");
        toolchain::install(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_rustup_can_know_are_installed_and_only_where_that_is_allowed() {
        for (name, expected) in [
            ("beta", true),
            ("nightly-2026-05-01", true),
            ("1.94.0", true),
            ("1.94", true),
            ("nightyl", false),
            ("stage1", false),
            ("1", false),
        ] {
            assert_eq!(Installer(Installing::WhatIsMissing).may(name), expected, "{name}");
            assert!(!Installer(Installing::Nothing).may(name), "{name}");
        }
        let missing = Missing::Component { name: "miri".to_owned(), toolchain: "nightly".to_owned() };
        assert_eq!(
            Installer(Installing::Nothing).install(&missing).unwrap_err().to_string(),
            "component `miri` of toolchain `nightly` is not installed; \
             `rustup component add miri --toolchain nightly` installs it"
        );
    }
}
