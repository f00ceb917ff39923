//! From a folder that the user names to a crate: its name and version, and the workspace that it is a member of.
//!
//! A workspace is copied whole, since cargo builds no member without it. Reads manifests only; what else is in the
//! folder is
//! [`tree`]'s business.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use semver::Version;
use serde::Deserialize;

use super::error::RegistryError;
use super::tree::{self, TreeError};
use crate::krate::{CrateId, CrateName, Origin, Selected};

/// The largest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// The part of a manifest that names its package and its workspace.
#[derive(Deserialize)]
struct Manifest {
    /// The old name, which cargo takes up to the edition of 2021, is `project`.
    #[serde(alias = "project")]
    package: Option<PackageTable>,
    workspace: Option<WorkspaceTable>,
}

#[derive(Deserialize)]
struct PackageTable {
    name: CrateName,
    /// A text, or a table that refers to the workspace.
    version: Option<toml::Value>,
    /// Where its workspace is, if that is not the next one above.
    workspace: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct WorkspaceTable {
    package: Option<WorkspacePackage>,
    #[serde(default)]
    members: Vec<PathBuf>,
    #[serde(default)]
    exclude: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct WorkspacePackage {
    version: Option<Version>,
}

/// Selects the crate in a folder, whose workspace may be as far above as `top`, if that is given. A folder that can't
/// be built is one broken crate, and no reason to keep the others from running.
///
/// # Errors
/// When the host is to blame.
pub(super) fn select(dir: &Path, top: Option<&Path>) -> Result<Selected, RegistryError> {
    at_path(dir, top).or_else(|error| unusable(dir, error))
}

/// A user's folder, by its manifest; its version is 0.0.0 where nothing gives one.
fn at_path(dir: &Path, top: Option<&Path>) -> Result<Selected, RegistryError> {
    let path = dir.join("Cargo.toml");
    let bad = |reason: String| RegistryError::Manifest { path: path.clone(), reason };
    let manifest = Manifest::read(dir)?;
    let Some(package) = manifest.package else {
        let Some(workspace) = manifest.workspace else {
            return Err(bad("it has neither a `[package]` nor a `[workspace]`".to_owned()));
        };
        // Cargo builds all its members.
        return selected(dir, name_of(dir), workspace.version(), dir);
    };
    let above = match &manifest.workspace {
        Some(_) => None,
        None => workspace_above(dir, package.workspace.as_deref(), top),
    };
    let (root, workspace) = match above {
        Some((root, workspace)) => (root, Some(workspace)),
        None => (dir.to_owned(), manifest.workspace),
    };
    let version = match package.version {
        Some(toml::Value::String(text)) => Some(text.parse().map_err(|error| bad(format!("`{text}`: {error}")))?),
        Some(_) => workspace.and_then(|workspace| workspace.version()),
        None => None,
    };
    selected(dir, package.name, version, &root)
}

/// The crate in `dir`, which is `root` or below it.
fn selected(dir: &Path, name: CrateName, version: Option<Version>, root: &Path) -> Result<Selected, RegistryError> {
    let id = CrateId { name, version: Some(version.unwrap_or(Version::new(0, 0, 0))) };
    let digest = tree::digest(root)?.to_string();
    let member = dir.strip_prefix(root).unwrap_or(Path::new("")).to_owned();
    Ok(Selected { id, origin: Origin::Path { dir: root.to_owned(), digest, member } })
}

/// The workspace that cargo would find for a crate: the one that its manifest names, else the next one above that
/// doesn't exclude it. `None` where that is not above the crate, or further up than `top`: it is then left out.
fn workspace_above(dir: &Path, named: Option<&Path>, top: Option<&Path>) -> Option<(PathBuf, WorkspaceTable)> {
    let read = |root: &Path| Some((root.to_owned(), Manifest::read(root).ok()?.workspace?));
    let may_reach = |root: &Path| top.is_none_or(|top| root.starts_with(top));
    match named {
        Some(named) => {
            let root = dir.join(named).canonicalize().ok()?;
            if dir.starts_with(&root) && may_reach(&root) { read(&root) } else { None }
        }
        None => {
            let above = dir.ancestors().skip(1).take_while(|root| may_reach(root));
            above.filter_map(read).find(|(root, workspace)| !workspace.excludes(dir, root))
        }
    }
}

impl WorkspaceTable {
    fn version(&self) -> Option<Version> {
        self.package.as_ref()?.version.clone()
    }

    /// Whether the workspace at `root` leaves out the package in `dir`, as in cargo: an entry of `members` outweighs
    /// one of `exclude`, and patterns are taken literally.
    fn excludes(&self, dir: &Path, root: &Path) -> bool {
        let names = |paths: &[PathBuf]| paths.iter().any(|path| dir.starts_with(root.join(path)));
        names(&self.exclude) && !names(&self.members)
    }
}

impl Manifest {
    fn read(dir: &Path) -> Result<Self, RegistryError> {
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
        toml::from_str(&text).map_err(|error| bad(in_line(&text, &error)))
    }
}

/// The fault of a manifest, and its line.
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

    /// A folder with these files, and the crates that are selected below it.
    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, impl Fn(&str, Option<&str>) -> String) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = dir.path().canonicalize().unwrap();
        let selected = move |krate: &str, top: Option<&str>| {
            let top = top.map(|top| root.join(top));
            let Selected { id, origin } = select(&root.join(krate), top.as_deref()).unwrap();
            match origin {
                Origin::Path { dir, member, .. } => {
                    format!("{id} in `{}` at `{}`", dir.strip_prefix(&root).unwrap().display(), member.display())
                }
                other => format!("{id}: {other:?}"),
            }
        };
        (dir, selected)
    }

    #[test]
    fn a_member_brings_its_workspace_along_as_far_as_the_selection_may_reach() {
        let (_dir, selected) = folder(&[
            (
                "ws/Cargo.toml",
                "[workspace]\nmembers = ['a']\nexclude = ['out', 'in']\n[workspace.package]\nversion = '0.3.0'",
            ),
            ("ws/a/Cargo.toml", "[package]\nname = 'a'\nversion.workspace = true"),
            ("ws/deep/b/Cargo.toml", "[package]\nname = 'b'\nversion = '1.0.0'\nworkspace = '../..'"),
            ("ws/out/Cargo.toml", "[package]\nname = 'out'\nversion = '1.0.0'"),
            ("ws/own/Cargo.toml", "[package]\nname = 'own'\nversion = '1.0.0'\n[workspace]"),
            ("ws/away/Cargo.toml", "[package]\nname = 'away'\nversion = '1.0.0'\nworkspace = '../../other'"),
            ("other/Cargo.toml", "[workspace]\nmembers = ['../ws/away']"),
        ]);
        assert_eq!(selected("ws/a", None), "a@0.3.0 in `ws` at `a`");
        assert_eq!(selected("ws/a", Some("ws")), "a@0.3.0 in `ws` at `a`");
        assert_eq!(selected("ws/a", Some("ws/a")), "a@0.0.0 in `ws/a` at ``");
        assert_eq!(selected("ws/deep/b", None), "b@1.0.0 in `ws` at `deep/b`");
        assert_eq!(selected("ws/out", None), "out@1.0.0 in `ws/out` at ``");
        assert_eq!(selected("ws/own", None), "own@1.0.0 in `ws/own` at ``");
        // Only a folder above can be copied together with the crate.
        assert_eq!(selected("ws/away", None), "away@1.0.0 in `ws/away` at ``");
    }

    #[test]
    fn a_virtual_workspace_is_one_crate_by_the_name_of_its_folder() {
        let (_dir, selected) = folder(&[
            ("virt/Cargo.toml", "[workspace]\nmembers = ['a']\n[workspace.package]\nversion = '0.3.0'"),
            ("bare/Cargo.toml", "[workspace]"),
            ("nothing/Cargo.toml", "[dependencies]"),
        ]);
        assert_eq!(selected("virt", None), "virt@0.3.0 in `virt` at ``");
        assert_eq!(selected("bare", None), "bare@0.0.0 in `bare` at ``");
        assert!(
            selected("nothing", None).contains("neither a `[package]` nor a `[workspace]`"),
            "{}",
            selected("nothing", None)
        );
    }

    #[test]
    fn a_package_may_be_called_a_project_as_long_as_cargo_takes_it() {
        let (_dir, selected) = folder(&[("old/Cargo.toml", "[project]\nname = 'old'\nversion = '0.1.0'")]);
        assert_eq!(selected("old", None), "old@0.1.0 in `old` at ``");
    }

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
        let dangling = origin(at_path(&krate, None).unwrap_err()).unwrap();
        assert_eq!(dangling, Origin::Unusable("Cargo.toml: it is a link that leads nowhere".to_owned()));
        fs::remove_file(krate.join("Cargo.toml")).unwrap();
        fs::write(krate.join("Cargo.toml"), b"name = \"\xff\"").unwrap();
        let binary = origin(at_path(&krate, None).unwrap_err()).unwrap();
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
        assert!(at_path(&krate, None).unwrap_err().to_string().contains("leads out of the folder"));
        fs::remove_file(&manifest).unwrap();
        fs::copy(&outside, krate.join("real.toml")).unwrap();
        symlink("real.toml", &manifest).unwrap();
        assert_eq!(at_path(&krate, None).unwrap().id.name.as_str(), "a");
        fs::remove_file(&manifest).unwrap();
        nix::unistd::mkfifo(&manifest, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(at_path(&krate, None).unwrap_err().to_string().contains("not a regular file"));
    }
}
