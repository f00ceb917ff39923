//! `where:REGEX`: which of the downloaded packages have sources that match.
//!
//! Looks only into tarballs that earlier runs fetched: it uses no network, and other crates never match.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzDecoder;
use regex::bytes::Regex;
use semver::Version;
use tar::Archive;

use super::catalogue::EndsWith;
use super::error::RegistryError;
use super::index::Index;
use super::package::Package;
use crate::krate::{CrateId, CrateName, Origin, Selected};

/// The most bytes that are looked at of one file.
const MAX_FILE: u64 = 4 << 20;
/// The most bytes that a tarball may unpack to: cargo's `MAX_UNPACK_SIZE`.
const MAX_UNPACKED: u64 = 512 << 20;

/// See [`super::Registry::search`].
pub(super) async fn selected(index: &Index, tarballs: &Path, pattern: &str) -> Result<Vec<Selected>, RegistryError> {
    let pattern = Regex::new(pattern)
        .map_err(|error| RegistryError::Query { query: format!("where:{pattern}"), reason: error.to_string() })?;
    let tarballs = tarballs.to_owned();
    let dropped = Arc::new(AtomicBool::new(false));
    let _guard = EndsWith(Arc::clone(&dropped));
    let found = tokio::task::spawn_blocking(move || search(&tarballs, &pattern, &|| !dropped.load(Ordering::Relaxed)));
    let mut selected = Vec::new();
    for package in found.await?? {
        // The name in a tarball's manifest may be a lie.
        let known = match index.package(&package.name, &package.version).await {
            // Its file of the index is not in the cache.
            Err(RegistryError::Offline { .. }) => None,
            known => known?,
        };
        if known.as_ref() == Some(&package) {
            let Package { name, version, checksum } = package;
            let origin = Origin::Registry { checksum: checksum.to_string() };
            selected.push(Selected { id: CrateId { name, version: Some(version) }, origin });
        }
    }
    Ok(selected)
}

/// The packages of which a Rust file or `Cargo.toml` matches, by name; of a crate the newest version that does.
fn search(tarballs: &Path, pattern: &Regex, go_on: &dyn Fn() -> bool) -> Result<Vec<Package>, RegistryError> {
    let mut found: BTreeMap<CrateName, Package> = BTreeMap::new();
    for entry in fs::read_dir(tarballs).map_err(RegistryError::io("list", tarballs))?.flatten() {
        let name = entry.file_name();
        let Some(checksum) = name.to_str().and_then(|name| name.strip_suffix(".crate")?.parse().ok()) else { continue };
        if !go_on() {
            break;
        }
        // A tarball that is damaged, or that another run is about to replace, matches nothing.
        let Ok(Some((name, version))) = matching(&entry.path(), pattern) else { continue };
        let package = Package { name: name.clone(), version, checksum };
        let known = found.entry(name).or_insert_with(|| package.clone());
        if package.version > known.version {
            *known = package;
        }
    }
    Ok(found.into_values().collect())
}

/// The package of a tarball, if one of its files matches.
fn matching(path: &Path, pattern: &Regex) -> io::Result<Option<(CrateName, Version)>> {
    let unpacked = GzDecoder::new(BufReader::new(File::open(path)?)).take(MAX_UNPACKED);
    // Raw: long names of tar would be read into memory whole. A file that has one is not looked at.
    for entry in Archive::new(unpacked).entries()?.raw(true) {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let is_source = path.extension().is_some_and(|extension| extension == "rs") || path.ends_with("Cargo.toml");
        if !entry.header().entry_type().is_file() || !is_source {
            continue;
        }
        let mut text = Vec::new();
        entry.take(MAX_FILE).read_to_end(&mut text)?;
        if pattern.is_match(&text) {
            let folder = path.components().next().and_then(|folder| folder.as_os_str().to_str());
            return Ok(folder.and_then(name_and_version));
        }
    }
    Ok(None)
}

/// `NAME-VERSION`. A name has no part that a version could begin with a digit after `-` and go on to the end.
fn name_and_version(folder: &str) -> Option<(CrateName, Version)> {
    folder.match_indices('-').find_map(|(at, _)| {
        let version = folder[at + 1..].parse().ok()?;
        Some((folder[..at].parse().ok()?, version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_name_and_a_version_whatever_hyphens_it_has() {
        for (folder, name, version) in [
            ("a-1.0.0", "a", "1.0.0"),
            ("x-86-64-0.1.0-rc.1+b-2", "x-86-64", "0.1.0-rc.1+b-2"),
            ("curl-sys-0.4.5+curl-7.60.0", "curl-sys", "0.4.5+curl-7.60.0"),
        ] {
            let expected = (name.parse().unwrap(), version.parse().unwrap());
            assert_eq!(name_and_version(folder), Some(expected), "{folder}");
        }
        assert_eq!(name_and_version("a"), None);
        assert_eq!(name_and_version("..-1.0.0"), None);
    }
}
