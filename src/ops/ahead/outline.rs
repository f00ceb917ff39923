//! The outline of a crate: as much of it as cargo needs to list its units, and nothing that a dependency could take into
//! its own.
//!
//! Manifests, the lockfile, and an empty file that nobody can read in place of each source of a target. So a build script or
//! an `include!` of a dependency fails on the crate's own files, and the op compiles it with the crate itself.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{AheadError, at};
use crate::ops::workspace::{MAX_SOURCE, Workspace};
use crate::prebuild;
use crate::sandbox::{Door, Found};

/// How deep folders with manifests may be nested.
const MAX_DEPTH: usize = 12;
/// How many folders and names are looked at.
const MAX_NAMES: usize = 50_000;

/// The targets of a package that cargo finds without its manifest.
const TARGETS: [&str; 3] = ["build.rs", "src/lib.rs", "src/main.rs"];
/// The folder that a target folder is mounted on, over all that a package brings along in it.
const TARGET_FOLDER: &str = "target";
/// The folders in which it finds more: each file, and each folder with a `main.rs`.
const TARGET_FOLDERS: [&str; 4] = ["src/bin", "examples", "tests", "benches"];

/// The outline of a crate, by paths below its folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    files: BTreeMap<PathBuf, Content>,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Text(Vec<u8>),
    /// The source of a target.
    Hidden,
}

impl Outline {
    /// Takes it from the sources of a crate, to which a cell of `prepare` has written.
    pub(super) fn of(workspace: &Workspace) -> Result<Self, AheadError> {
        let source = workspace.source();
        let door = workspace.source_door().map_err(at("open", &source))?;
        let mut survey = Survey { door, outline: Self::default(), names: 0 };
        survey.folder(Path::new("."), 0).map_err(at("read manifests in", &source))?;
        survey.text(Path::new("Cargo.lock")).map_err(at("read", &source.join("Cargo.lock")))?;
        Ok(survey.outline)
    }

    /// A digest of all that cargo will see.
    pub(super) fn digest(&self) -> Sha256 {
        let mut digest = Sha256::new();
        for (path, content) in &self.files {
            let (kind, text): (u8, &[u8]) = match content {
                Content::Text(text) => (b't', text),
                Content::Hidden => (b'h', &[]),
            };
            let path = path.as_os_str().as_encoded_bytes();
            for bytes in [path, text] {
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(bytes);
            }
            digest.update([kind]);
        }
        digest
    }

    /// Writes it to `dir`, an empty folder that no cell can write to.
    pub(super) fn write(&self, dir: &Path) -> Result<(), AheadError> {
        for (path, content) in &self.files {
            let to = dir.join(path);
            let (text, mode): (&[u8], u32) = match content {
                Content::Text(text) => (text, 0o644),
                Content::Hidden => (&[], 0),
            };
            to.parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&to, text))
                .and_then(|()| fs::set_permissions(&to, Permissions::from_mode(mode)))
                .map_err(at("write", &to))?;
        }
        let target = dir.join(TARGET_FOLDER);
        fs::create_dir_all(&target).map_err(at("make", &target))
    }
}

/// A walk through the sources of a crate.
struct Survey {
    door: Door,
    outline: Outline,
    names: usize,
}

impl Survey {
    fn folder(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        if self.is_file(&folder.join("Cargo.toml"))? {
            self.package(folder)?;
        }
        if depth == MAX_DEPTH {
            return Ok(());
        }
        for name in self.names(folder)? {
            let below = folder.join(&name);
            let is_covered = depth == 0 && name == TARGET_FOLDER;
            if !name.starts_with('.') && !is_covered && self.door.look(&below)? == Found::Folder {
                self.folder(&below, depth + 1)?;
            }
        }
        Ok(())
    }

    fn package(&mut self, folder: &Path) -> io::Result<()> {
        let manifest = self.text(&folder.join("Cargo.toml"))?;
        let manifest = String::from_utf8_lossy(&manifest);
        let named = prebuild::target_files(&manifest);
        let mut targets: Vec<PathBuf> = TARGETS.iter().map(PathBuf::from).chain(named).collect();
        for below in TARGET_FOLDERS {
            for name in self.names(&folder.join(below))? {
                let target = Path::new(below).join(&name);
                match self.door.look(&folder.join(&target))? {
                    Found::Folder => targets.push(target.join("main.rs")),
                    Found::File { .. } | Found::Other if name.ends_with(".rs") => targets.push(target),
                    Found::File { .. } | Found::Other | Found::Nothing => {}
                }
            }
        }
        for target in targets.iter().map(|target| folder.join(target)) {
            if !matches!(self.door.look(&target)?, Found::Nothing | Found::Folder) {
                self.outline.files.entry(plain(&target)).or_insert(Content::Hidden);
            }
        }
        Ok(())
    }

    /// Takes a manifest or lockfile as it is.
    fn text(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let text = self.door.read(path, MAX_SOURCE)?;
        self.outline.files.insert(plain(path), Content::Text(text.clone()));
        Ok(text)
    }

    fn names(&mut self, folder: &Path) -> io::Result<Vec<String>> {
        let names = self.door.names(folder, MAX_NAMES - self.names)?.unwrap_or_default();
        self.names += names.len();
        Ok(names)
    }

    fn is_file(&self, path: &Path) -> io::Result<bool> {
        Ok(matches!(self.door.look(path)?, Found::File { .. }))
    }
}

/// Without `.`.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::ops::removal::Removal;
    use crate::sandbox::User;

    #[test]
    fn an_outline_has_manifests_and_the_places_of_targets_and_no_source() {
        let (jobs, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let workspace = Workspace::new(jobs.path(), jobs.path(), User::shared(None), Removal::at_once()).unwrap();
        for (path, text) in [
            ("Cargo.toml", "[package]\nname = 'a'\n[[test]]\nname = 'odd'\npath = 'odd/place.txt'"),
            ("Cargo.lock", "version = 4"),
            ("secret.txt", "SECRET"),
            ("src/lib.rs", "SECRET"),
            ("src/other.rs", "SECRET"),
            ("src/bin/tool.rs", "SECRET"),
            ("tests/it/main.rs", "SECRET"),
            ("tests/it/more.rs", "SECRET"),
            ("odd/place.txt", "SECRET"),
            ("sub/Cargo.toml", "[package]\nname = 'sub'"),
            ("sub/build.rs", "SECRET"),
            ("target/Cargo.toml", "SECRET"),
            (".cargo/Cargo.toml", "SECRET"),
        ] {
            let path = workspace.source().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink("/etc/passwd", workspace.source().join("src/main.rs")).unwrap();
        let outline = Outline::of(&workspace).unwrap();
        let is_text = |path: &str| outline.files[Path::new(path)] != Content::Hidden;
        let found: Vec<(&str, bool)> =
            outline.files.keys().map(|path| path.to_str().unwrap()).map(|path| (path, is_text(path))).collect();
        let expected = [
            ("Cargo.lock", true),
            ("Cargo.toml", true),
            ("odd/place.txt", false),
            ("src/bin/tool.rs", false),
            ("src/lib.rs", false),
            ("src/main.rs", false),
            ("sub/Cargo.toml", true),
            ("sub/build.rs", false),
            ("tests/it/main.rs", false),
        ];
        assert_eq!(found, expected);

        outline.write(out.path()).unwrap();
        assert_eq!(fs::metadata(out.path().join("src/lib.rs")).unwrap().permissions().mode() & 0o777, 0);
        assert_eq!(fs::metadata(out.path().join("src/main.rs")).unwrap().len(), 0);
        assert_eq!(fs::read_dir(out.path().join("target")).unwrap().count(), 0);
        let before = outline.digest().finalize();
        fs::write(workspace.source().join("src/lib.rs"), "other").unwrap();
        assert_eq!(Outline::of(&workspace).unwrap().digest().finalize(), before);
        fs::write(workspace.source().join("tests/new.rs"), "").unwrap();
        assert_ne!(Outline::of(&workspace).unwrap().digest().finalize(), before);
    }
}
