//! Looks at the folders that patches name, before anything runs: each must be the package that it stands in for.

use semver::Version;

use super::error::SessionError;
use crate::krate::Origin;
use crate::ops::TAKES_CONFIG;
use crate::registry::Registry;
use crate::registry::select::Selection;
use crate::toolchain::{Patch, PatchSource, Patched, Toolchain};

/// Fills in the patches of all toolchains.
pub(super) async fn look(registry: &Registry, toolchains: &mut [Toolchain]) -> Result<(), SessionError> {
    for toolchain in toolchains {
        let patches = toolchain.settings().patches.clone();
        if !patches.is_empty() && *toolchain.cargo_version() < TAKES_CONFIG {
            let (label, version) = (toolchain.label(), toolchain.cargo_version());
            return Err(SessionError::Misuse(format!(
                "`{label}` has a patch, and its cargo {version} takes none on its command line: {TAKES_CONFIG} and later \
                 do; `+cargo=stable` uses a newer one"
            )));
        }
        for (name, source) in patches {
            let source = match source {
                PatchSource::Git { url, rev } => Patched::Git { url, rev },
                PatchSource::Folder(dir) => {
                    let folder = dir.display().to_string();
                    if !dir.is_dir() {
                        return Err(SessionError::Misuse(format!("patch `{name}`: {folder} is not a folder")));
                    }
                    let selected = registry.select(&Selection::Path { dir, top: None }).await?;
                    let version = selected.id.version.unwrap_or(Version::new(0, 0, 0));
                    match selected.origin {
                        Origin::Path { .. } if selected.id.name.as_str() != name => {
                            return Err(SessionError::Misuse(format!(
                                "patch `{name}`: the package in {folder} is `{}`",
                                selected.id.name
                            )));
                        }
                        Origin::Path { dir: root, digest, member } => {
                            Patched::Folder { root, member, version, digest, copy: None }
                        }
                        Origin::Unusable(why) => {
                            return Err(SessionError::Misuse(format!("patch `{name}`: {folder} can't be used: {why}")));
                        }
                        Origin::Registry { .. }
                        | Origin::Missing(_)
                        | Origin::Skipped { .. }
                        | Origin::Unavailable(_) => unreachable!("a folder is selected as a folder"),
                    }
                }
            };
            toolchain.patches.push(Patch { name, source });
        }
    }
    Ok(())
}
