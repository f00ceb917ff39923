//! Installs missing parts of a toolchain, through rustup. Never on its own: a caller first names them to the user.

use super::spec::Base;
use super::{Toolchain, ToolchainError, program};

/// Something that rustup can install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A toolchain.
    Toolchain(String),
    /// A component of a toolchain.
    Component {
        /// The component.
        name: String,
        /// The toolchain, by rustup's name.
        toolchain: String,
    },
    /// The standard library of a platform.
    Target {
        /// The platform.
        name: String,
        /// The toolchain, by rustup's name.
        toolchain: String,
    },
}

impl Missing {
    /// The command that installs it.
    pub fn command(&self) -> Vec<&str> {
        match self {
            Self::Toolchain(name) => {
                vec!["rustup", "toolchain", "install", name, "--profile", "minimal", "--no-self-update"]
            }
            Self::Component { name, toolchain } => vec!["rustup", "component", "add", name, "--toolchain", toolchain],
            Self::Target { name, toolchain } => vec!["rustup", "target", "add", name, "--toolchain", toolchain],
        }
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Toolchain(name) => write!(f, "toolchain `{name}`"),
            Self::Component { name, toolchain } => write!(f, "component `{name}` of toolchain `{toolchain}`"),
            Self::Target { name, toolchain } => {
                write!(f, "the standard library for `{name}` of toolchain `{toolchain}`")
            }
        }
    }
}

/// Installs it. rustup prints its progress to standard error.
///
/// # Errors
/// When rustup can't be run, or fails.
pub fn install(missing: &Missing) -> Result<(), ToolchainError> {
    let words = missing.command();
    let command = words.join(" ");
    let status = program::run_shown(words[0], &words[1..])
        .map_err(|source| ToolchainError::Start { command: command.clone(), source })?;
    if status.success() {
        return Ok(());
    }
    Err(ToolchainError::NotInstallable { what: missing.to_string(), command })
}

/// Whether a toolchain has a component, as rustup notes it beside the toolchain's libraries; where there is no such
/// note, by the programs of the component. `None`: unknown.
pub fn is_installed(toolchain: &Toolchain, component: &str) -> Option<bool> {
    let libraries = toolchain.sysroot.join("lib/rustlib");
    if let Ok(list) = std::fs::read_to_string(libraries.join("components")) {
        return Some(list.lines().any(|line| is_named(line, component)));
    }
    let program = match component {
        "clippy" => "bin/cargo-clippy",
        "rustfmt" => "bin/rustfmt",
        "miri" => "bin/cargo-miri",
        "rust-src" => "lib/rustlib/src/rust",
        "rustc" => "bin/rustc",
        "cargo" => "bin/cargo",
        _ => return None,
    };
    Some(toolchain.sysroot.join(program).exists())
}

/// `clippy-preview-x86_64-unknown-linux-gnu` is the component `clippy`, and `rust-src` is itself.
fn is_named(line: &str, component: &str) -> bool {
    let rest = line.trim().strip_prefix(component);
    let rest = rest.map(|rest| rest.strip_prefix("-preview").unwrap_or(rest));
    rest.is_some_and(|rest| rest.is_empty() || is_platform(rest))
}

/// Whether it is what rustup appends for the platform that a toolchain is for.
fn is_platform(rest: &str) -> bool {
    rest.starts_with(&format!("-{}-", std::env::consts::ARCH))
}

impl Toolchain {
    /// Whether its folder has the standard library of a platform, or at least `core`.
    pub fn has_target(&self, target: &str) -> bool {
        let folder = self.sysroot.join("lib/rustlib").join(target).join("lib");
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("libcore-"))
    }

    /// Its name for rustup; `None` where its compiler is a folder.
    pub fn rustup_name(&self) -> Option<&str> {
        match self.spec.base() {
            Base::Named(name) => Some(name),
            Base::Path(_) => None,
        }
    }

    /// Whether this host can run the programs of a platform by itself.
    pub fn runs_here(target: &str) -> bool {
        let arch = target.split('-').next().unwrap_or(target);
        let host = std::env::consts::ARCH;
        let is_arch = arch == host || host == "x86_64" && matches!(arch, "i586" | "i686");
        is_arch && target.contains("-linux-") && !target.contains("android")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_told_apart_by_name() {
        for (line, component, expected) in [
            ("clippy-preview-x86_64-unknown-linux-gnu", "clippy", true),
            ("rust-std-x86_64-unknown-linux-gnu", "rust-std", true),
            ("rust-src", "rust-src", true),
            ("rust-std-x86_64-unknown-linux-gnu", "rust", false),
            ("rustc-x86_64-unknown-linux-gnu", "rust", false),
            ("rustfmt-preview-x86_64-unknown-linux-gnu", "clippy", false),
            ("rust-docs-json-preview-x86_64-unknown-linux-gnu", "rust-docs", false),
        ] {
            assert_eq!(is_named(line, component), expected, "{line} {component}");
        }
    }

    #[test]
    fn programs_of_other_machines_do_not_run_here() {
        let host = std::env::consts::ARCH;
        assert!(Toolchain::runs_here(&format!("{host}-unknown-linux-musl")));
        for target in ["sparc64-unknown-linux-gnu", "wasm32-unknown-unknown", &format!("{host}-pc-windows-gnu")] {
            assert!(!Toolchain::runs_here(target), "{target}");
        }
    }

    #[test]
    fn a_command_names_all_that_rustup_must_know() {
        let target = Missing::Target { name: "wasm32-unknown-unknown".to_owned(), toolchain: "beta".to_owned() };
        assert_eq!(target.command().join(" "), "rustup target add wasm32-unknown-unknown --toolchain beta");
        assert_eq!(target.to_string(), "the standard library for `wasm32-unknown-unknown` of toolchain `beta`");
    }
}
