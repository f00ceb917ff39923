//! From what a user means to what the registry has.
//!
//! That a crate or version doesn't exist is an answer, not an error.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use semver::Version;
use serde::Deserialize;

use super::error::RegistryError;
use super::index::{Entry, Index, Published};
use super::select::Selection;
use super::tree::{self, TreeError};
use crate::krate::{CrateId, CrateName, Origin, Selected};

/// The largest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// See [`super::Registry::select`].
pub(super) async fn resolve(index: &Index, selection: &Selection) -> Result<Selected, RegistryError> {
    let (name, wanted) = match selection {
        Selection::Newest(name) | Selection::Matching(name, _) => (name, None),
        Selection::Exact(name, version) | Selection::Locked(name, version, _) => (name, Some(version.clone())),
        Selection::Query(_) | Selection::Not(_) => {
            return Err(RegistryError::Query {
                query: selection.to_string(),
                reason: "it is not one crate".to_owned(),
            });
        }
        Selection::Path(dir) => {
            let dir = dir.clone();
            // A folder that can't be built is one broken crate, and no reason to keep the others from running.
            return tokio::task::spawn_blocking(move || at_path(&dir).or_else(|error| unusable(&dir, error))).await?;
        }
    };
    let missing = |name: &CrateName, text| Selected {
        id: CrateId { name: name.clone(), version: wanted.clone() },
        origin: Origin::Missing(text),
    };
    let Some(entry) = index.entry(name).await? else {
        return Ok(missing(name, no_such_crate(index, name).await?));
    };
    Ok(match choose(&entry, selection) {
        Ok(Published { version, checksum, .. }) => Selected {
            id: CrateId { name: entry.name.clone(), version: Some(version.clone()) },
            origin: Origin::Registry { checksum: checksum.to_string() },
        },
        Err(text) => missing(&entry.name, text),
    })
}

/// See [`super::Registry::versions`].
pub(super) async fn versions(index: &Index, name: &CrateName) -> Result<Vec<Selected>, RegistryError> {
    let missing = |text| Selected { id: CrateId { name: name.clone(), version: None }, origin: Origin::Missing(text) };
    let Some(entry) = index.entry(name).await? else {
        return Ok(vec![missing(no_such_crate(index, name).await?)]);
    };
    let mut versions: Vec<&Published> = entry.versions.iter().filter(|published| !published.yanked).collect();
    if versions.iter().any(|published| published.version.pre.is_empty()) {
        versions.retain(|published| published.version.pre.is_empty());
    }
    if versions.is_empty() {
        return Ok(vec![missing(format!("every version of `{name}` is yanked"))]);
    }
    versions.sort_unstable_by(|one, other| other.version.cmp(&one.version));
    let selected = versions.into_iter().map(|Published { version, checksum, .. }| Selected {
        id: CrateId { name: entry.name.clone(), version: Some(version.clone()) },
        origin: Origin::Registry { checksum: checksum.to_string() },
    });
    Ok(selected.collect())
}

/// The version that a selection means, or in words that there is none.
fn choose<'a>(entry: &'a Entry, selection: &Selection) -> Result<&'a Published, String> {
    let name = &entry.name;
    let unyanked = || entry.versions.iter().filter(|published| !published.yanked);
    let newest_of_all = newest(unyanked());
    let the_newest = || match newest_of_all {
        Some(published) => format!("the newest is {}", published.version),
        None => "every version is yanked".to_owned(),
    };
    match selection {
        Selection::Newest(_) | Selection::Path(_) | Selection::Query(_) | Selection::Not(_) => {
            newest_of_all.ok_or_else(|| format!("every version of `{name}` is yanked"))
        }
        Selection::Exact(_, version) | Selection::Locked(_, version, _) => {
            entry.find(version).ok_or_else(|| format!("`{name}` has no version {version}; {}", the_newest()))
        }
        Selection::Matching(_, requirement) => {
            let fits = |published: &&Published| requirement.matches(&published.version);
            newest(unyanked().filter(fits)).ok_or_else(|| {
                if entry.versions.iter().any(|published| fits(&published)) {
                    format!("every version of `{name}` that fits `{requirement}` is yanked; {}", the_newest())
                } else {
                    format!("`{name}` has no version that fits `{requirement}`; {}", the_newest())
                }
            })
        }
    }
}

/// The newest release; only where there is none, the newest pre-release.
fn newest<'a>(versions: impl Iterator<Item = &'a Published>) -> Option<&'a Published> {
    versions.max_by_key(|published| (published.version.pre.is_empty(), &published.version))
}

async fn no_such_crate(index: &Index, name: &CrateName) -> Result<String, RegistryError> {
    let text = name.as_str();
    // The usual mistake: registries take `_` and `-` for the same when a name is published, but not when it is asked for.
    for guess in [text.replace('_', "-"), text.replace('-', "_")] {
        if guess != text
            && let Ok(guess) = guess.parse()
            && let Some(entry) = index.entry(&guess).await?
        {
            return Ok(format!("no crate named `{name}` in the registry; did you mean `{}`?", entry.name));
        }
    }
    Ok(format!("no crate named `{name}` in the registry"))
}

/// The part of a manifest that names its package.
#[derive(Deserialize)]
struct Manifest {
    package: PackageTable,
    #[serde(default)]
    workspace: WorkspaceTable,
}

#[derive(Deserialize)]
struct PackageTable {
    name: CrateName,
    /// A text, or a table that says that the workspace has it.
    version: Option<toml::Value>,
}

#[derive(Default, Deserialize)]
struct WorkspaceTable {
    package: Option<WorkspacePackage>,
}

#[derive(Deserialize)]
struct WorkspacePackage {
    version: Option<Version>,
}

/// A folder of the user's, by its manifest; its version is 0.0.0 where the folder doesn't say.
fn at_path(dir: &Path) -> Result<Selected, RegistryError> {
    let path = dir.join("Cargo.toml");
    let bad = |reason: String| RegistryError::Manifest { path: path.clone(), reason };
    let real = path.canonicalize().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ELOOP) => bad("it is a link that leads nowhere".to_owned()),
        _ => RegistryError::io("read", &path)(error),
    })?;
    if !real.starts_with(dir.canonicalize().map_err(RegistryError::io("read", dir))?) {
        return Err(bad("it is a link that leads out of the folder; put the file itself there".to_owned()));
    }
    // Opening a pipe would wait for a writer.
    if !fs::symlink_metadata(&real).map_err(RegistryError::io("read", &path))?.is_file() {
        return Err(bad("it is not a regular file".to_owned()));
    }
    let mut text = String::new();
    let file = File::open(&real).map_err(RegistryError::io("read", &path))?;
    file.take(MAX_MANIFEST + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => bad("it is not UTF-8".to_owned()),
        _ => RegistryError::io("read", &path)(error),
    })?;
    if text.len() as u64 > MAX_MANIFEST {
        return Err(bad("it is larger than 1 MiB".to_owned()));
    }
    let manifest: Manifest = toml::from_str(&text).map_err(|error| bad(in_line(&text, &error)))?;
    let version = match manifest.package.version {
        Some(toml::Value::String(text)) => Some(text.parse().map_err(|error| bad(format!("`{text}`: {error}")))?),
        Some(_) => manifest.workspace.package.and_then(|package| package.version),
        None => None,
    };
    let id = CrateId { name: manifest.package.name, version: Some(version.unwrap_or(Version::new(0, 0, 0))) };
    let digest = tree::digest(dir)?.to_string();
    Ok(Selected { id, origin: Origin::Path { dir: dir.to_owned(), digest } })
}

/// What is wrong with a manifest, and in which line.
fn in_line(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{line}{}", error.message())
}

/// A folder whose package can't be used, by the folder's own name.
///
/// # Errors
/// When the host is to blame.
fn unusable(dir: &Path, error: RegistryError) -> Result<Selected, RegistryError> {
    let text = match &error {
        RegistryError::Manifest { reason, .. } => format!("Cargo.toml: {reason}"),
        RegistryError::Tree(problem) if !matches!(**problem, TreeError::Io { .. }) => problem.to_string(),
        _ => return Err(error),
    };
    Ok(Selected { id: CrateId { name: name_of(dir), version: None }, origin: Origin::Unusable(text) })
}

/// The name of a folder, as far as crates may be called that.
fn name_of(dir: &Path) -> CrateName {
    const LONGEST: usize = 64;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let mut name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).take(LONGEST).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name = format!("x{name}").chars().take(LONGEST).collect();
    }
    name.parse().expect("it has a letter and then what names may have")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_without_a_usable_package_has_a_name_all_the_same() {
        for (dir, name) in [("/a/mine", "mine"), ("/a/1 \u{1b}]0;x", "x1---0-x"), ("/", "x"), ("/a/..", "x")] {
            assert_eq!(name_of(Path::new(dir)).as_str(), name, "{dir:?}");
        }
        assert_eq!(name_of(Path::new(&"n".repeat(99))).as_str().len(), 64);
    }

    #[test]
    fn only_what_is_wrong_with_the_folder_itself_makes_it_unusable() {
        let dir = tempfile::tempdir().unwrap();
        let krate = dir.path().join("krate");
        fs::create_dir(&krate).unwrap();
        let origin = |error| unusable(&krate, error).map(|selected| selected.origin);
        symlink("nowhere", krate.join("Cargo.toml")).unwrap();
        let dangling = origin(at_path(&krate).unwrap_err()).unwrap();
        assert_eq!(dangling, Origin::Unusable("Cargo.toml: it is a link that leads nowhere".to_owned()));
        fs::remove_file(krate.join("Cargo.toml")).unwrap();
        fs::write(krate.join("Cargo.toml"), b"name = \"\xff\"").unwrap();
        let binary = origin(at_path(&krate).unwrap_err()).unwrap();
        assert_eq!(binary, Origin::Unusable("Cargo.toml: it is not UTF-8".to_owned()));
        let denied = RegistryError::io("read", &krate)(io::ErrorKind::PermissionDenied.into());
        assert!(origin(denied).is_err());
    }

    #[test]
    fn a_manifest_is_read_only_inside_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (krate, outside) = (dir.path().join("krate"), dir.path().join("outside.toml"));
        fs::create_dir(&krate).unwrap();
        fs::write(&outside, "[package]\nname = \"a\"").unwrap();
        let manifest = krate.join("Cargo.toml");
        symlink(&outside, &manifest).unwrap();
        assert!(at_path(&krate).unwrap_err().to_string().contains("leads out of the folder"));
        fs::remove_file(&manifest).unwrap();
        fs::copy(&outside, krate.join("real.toml")).unwrap();
        symlink("real.toml", &manifest).unwrap();
        assert_eq!(at_path(&krate).unwrap().id.name.as_str(), "a");
        fs::remove_file(&manifest).unwrap();
        nix::unistd::mkfifo(&manifest, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(at_path(&krate).unwrap_err().to_string().contains("not a regular file"));
    }
}
