//! Puts into a run's folder what cells need of toolchains besides their own folders: links to programs of other
//! toolchains, and copies of the folders of patches. Once for all crates, before anything runs.
//!
//! A copy can't change while a run goes on, and every job's user can read it, even if the original can't be read.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::ops::cell;
use crate::registry::tree::{TreeError, copy_tree, digest};
use crate::sandbox::Sandbox;
use crate::toolchain::{Patched, Program, Toolchain};

/// Why something couldn't be put there.
#[derive(Debug, thiserror::Error)]
pub enum ProvideError {
    /// A folder or link can't be made.
    #[error("failed to make {path}: {source}")]
    Make {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder can't be copied.
    #[error("failed to copy the folder of a patch: {0}")]
    Copy(#[from] TreeError),
    /// A folder has changed.
    #[error("the folder of patch `{name}`, {folder}, was changed since maar looked at it: run the command again")]
    Changed {
        /// The name of the package.
        name: String,
        /// The folder.
        folder: PathBuf,
    },
}

/// Makes links and copies in a new folder of `run`, which other users can enter. Toolchains without either need none.
///
/// # Errors
/// When the folder can't be written to, or a patch can't be read.
pub fn provide(run: &Path, sandbox: &Sandbox, toolchains: &mut [Toolchain]) -> Result<(), ProvideError> {
    let needs = |toolchain: &Toolchain| {
        toolchain.cargo.is_some() || toolchain.rustdoc.is_some() || !toolchain.patches.is_empty()
    };
    if !toolchains.iter().any(needs) {
        return Ok(());
    }
    // A process may run several experiments.
    let made = tempfile::Builder::new().prefix("toolchains-").tempdir_in(run);
    let folder = made.map_err(|source| ProvideError::Make { path: run.to_owned(), source })?.keep();
    open_up(&folder)?;
    for (place, toolchain) in toolchains.iter_mut().enumerate() {
        let others = [
            ("cargo", cell::CARGO_TOOLCHAIN, &toolchain.cargo),
            ("rustdoc", cell::RUSTDOC_TOOLCHAIN, &toolchain.rustdoc),
        ];
        let others: Vec<(&str, PathBuf)> = others
            .into_iter()
            .filter_map(|(name, at, other)| Some((name, seen_at(sandbox, at, other.as_ref()?).join("bin").join(name))))
            .collect();
        if !others.is_empty() {
            let programs = folder.join(format!("programs-{place}"));
            make(&programs)?;
            for (name, target) in others {
                let link = programs.join(name);
                symlink(target, &link).map_err(|source| ProvideError::Make { path: link.clone(), source })?;
            }
            toolchain.programs = Some(programs);
        }
        for patch in &mut toolchain.patches {
            if let Patched::Folder { root, digest, copy, .. } = &mut patch.source {
                let name = digest.clone();
                *copy = Some(copy_of(&patch.name, root, &name, &folder)?);
            }
        }
        if !toolchain.patches.is_empty() {
            let config = folder.join(format!("config-{place}"));
            make(&config)?;
            let path = config.join("config.toml");
            let settings = cell::patch_settings(toolchain, |at| at.to_owned());
            fs::write(&path, settings.join("\n") + "\n")
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
                .map_err(|source| ProvideError::Make { path, source })?;
            toolchain.config = Some(config);
        }
    }
    Ok(())
}

/// Where commands see the folder of another toolchain.
fn seen_at(sandbox: &Sandbox, at: &str, other: &Program) -> PathBuf {
    match sandbox {
        Sandbox::Unconfined(_) => other.sysroot.clone(),
        Sandbox::Native(_) | Sandbox::Docker(_) => at.into(),
        #[cfg(test)]
        Sandbox::Fake(_) => at.into(),
    }
}

/// Copies a folder, unless it is there from another toolchain.
fn copy_of(name: &str, root: &Path, expected: &str, folder: &Path) -> Result<PathBuf, ProvideError> {
    let copy = folder.join(format!("patch-{}", expected.get(..16).unwrap_or(expected)));
    if copy.exists() {
        return Ok(copy);
    }
    copy_tree(root, &copy, None)?;
    if digest(&copy)?.to_string() != expected {
        return Err(ProvideError::Changed { name: name.to_owned(), folder: root.to_owned() });
    }
    Ok(copy)
}

fn make(folder: &Path) -> Result<(), ProvideError> {
    fs::create_dir(folder).map_err(|source| ProvideError::Make { path: folder.to_owned(), source })?;
    open_up(folder)
}

fn open_up(folder: &Path) -> Result<(), ProvideError> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
        .map_err(|source| ProvideError::Make { path: folder.to_owned(), source })
}
