//! Reads the units that cargo has completed in a target folder: which files are whose.
//!
//! The folder was written by strangers, who are all dead by now. It is looked at through a [`Door`] only: links and
//! devices make a unit useless, and no file is read. Whether a unit may be shared is not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CacheError;
use crate::sandbox::{Door, Found};

/// The folder below a target folder that the `dev` and `test` profiles use.
pub(super) const PROFILE: &str = "debug";
/// Where cargo notes what each unit was made from, a folder per unit, `PACKAGE-HASH`.
pub(super) const FINGERPRINTS: &str = ".fingerprint";
/// Where cargo puts libraries, `NAME-HASH.*`.
const DEPS: &str = "deps";
/// Where cargo puts build scripts and what they write, a folder per unit.
const BUILD: &str = "build";

/// How many files and folders one package's units may have.
const MAX_ITEMS: usize = 50_000;
/// The largest file that is shared, in bytes, holes included: the layers have a budget, and what compilers write is smaller.
const MAX_FILE: u64 = 1 << 30;
/// How deep folders may be nested.
const MAX_DEPTH: usize = 64;
/// How many names a folder of cargo's may hold: more than the largest workspaces have units.
const MAX_NAMES: usize = 200_000;

/// What cargo made of one package, and completed.
#[derive(Debug, Default)]
pub(super) struct Crop {
    /// The names of the units, `PACKAGE-HASH`.
    pub(super) units: BTreeSet<String>,
    /// Their folders, by their paths below the target folder, parents first.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Their files.
    pub(super) files: Vec<UnitFile>,
}

/// One file of a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct UnitFile {
    /// Its path below the target folder.
    pub(super) path: PathBuf,
    /// In bytes.
    pub(super) size: u64,
    /// Whether it is a program.
    pub(super) executable: bool,
}

/// The completed units in `target`, by the name of their package. `None`: they can't be shared.
pub(super) fn harvest(target: &Path) -> Result<BTreeMap<String, Option<Crop>>, CacheError> {
    let mut crops: BTreeMap<String, Crop> = BTreeMap::new();
    let door = open(target)?;
    if !is_cargos_own(&door) {
        return Ok(BTreeMap::new());
    }
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let mut useless = BTreeSet::new();
    for unit in units(&door, target)? {
        let Some((package, hash)) = split(&unit) else { continue };
        let fingerprint = Path::new(PROFILE).join(FINGERPRINTS).join(&unit);
        if !is_complete(&door, &fingerprint) {
            continue;
        }
        owners.insert(hash.to_owned(), package.to_owned());
        let crop = crops.entry(package.to_owned()).or_default();
        let taken = crop.take(&door, &fingerprint, 0).and_then(|()| {
            let build = Path::new(PROFILE).join(BUILD).join(&unit);
            match door.look(&build) {
                Ok(Found::Nothing) => Ok(()),
                Ok(Found::Folder | Found::File { .. } | Found::Other) | Err(_) => crop.take(&door, &build, 0),
            }
        });
        crop.units.insert(unit.clone());
        if taken.is_err() {
            useless.insert(package.to_owned());
        }
    }
    let deps = Path::new(PROFILE).join(DEPS);
    for name in names_in(&door, target, &deps)? {
        let Some(package) = hash_of(&name).and_then(|hash| owners.get(hash)) else { continue };
        let Some(crop) = crops.get_mut(package) else { continue };
        if crop.take(&door, &deps.join(&name), 0).is_err() {
            useless.insert(package.clone());
        }
    }
    let kept = |(package, crop)| if useless.contains(&package) { (package, None) } else { (package, Some(crop)) };
    Ok(crops.into_iter().map(kept).collect())
}

/// The names of all units that a target folder has something of, completed or not.
pub(super) fn units_in(target: &Path) -> Result<BTreeSet<String>, CacheError> {
    units(&open(target)?, target)
}

fn units(door: &Door, target: &Path) -> Result<BTreeSet<String>, CacheError> {
    Ok(names_in(door, target, &Path::new(PROFILE).join(FINGERPRINTS))?.into_iter().collect())
}

/// Whether there is anything in a target folder that is no unit's and not cargo's own: a build script wrote where it isn't
/// supposed to, or changed what is another's, and who reused its units would miss that.
pub(super) fn has_strangers(target: &Path) -> Result<bool, CacheError> {
    let door = open(target)?;
    let units = units(&door, target)?;
    let hashes: BTreeSet<&str> = units.iter().filter_map(|unit| split(unit)).map(|(_, hash)| hash).collect();
    let below = |folder: &str| names_in(&door, target, &Path::new(PROFILE).join(folder));
    let is_hidden = |name: &str| name.starts_with('.');
    let is_at_home = [
        names_in(&door, target, Path::new("."))?
            .iter()
            .all(|name| is_hidden(name) || [PROFILE, "CACHEDIR.TAG", "tmp"].contains(&name.as_str())),
        below("")?
            .iter()
            .all(|name| is_hidden(name) || [DEPS, BUILD, "examples", "incremental"].contains(&name.as_str())),
        below(DEPS)?.iter().all(|name| hash_of(name).is_some_and(|hash| hashes.contains(hash))),
        below(BUILD)?.iter().all(|name| units.contains(name)),
    ];
    Ok(is_at_home.contains(&false))
}

/// `serde_json-0123456789abcdef` → package.
pub(super) fn package_of(unit: &str) -> Option<&str> {
    split(unit).map(|(package, _)| package)
}

/// The hash of the unit that a file of a target folder belongs to.
pub fn unit_hash(path: &Path) -> Option<&str> {
    let mut names = path.iter().skip(1).map(|name| name.to_str());
    let (folder, name) = (names.next()??, names.next()??);
    if folder == DEPS { hash_of(name) } else { split(name).map(|(_, hash)| hash) }
}

/// Whether the folders that cargo makes are folders, and not links that lead away from here.
fn is_cargos_own(target: &Door) -> bool {
    let profile = Path::new(PROFILE);
    let folders = [profile.to_owned(), profile.join(FINGERPRINTS), profile.join(DEPS), profile.join(BUILD)];
    folders.iter().all(|folder| matches!(target.look(folder), Ok(Found::Folder | Found::Nothing)))
}

fn open(target: &Path) -> Result<Door, CacheError> {
    Door::open(target).map_err(CacheError::io("open", target))
}

/// Something in a unit that can't be shared: a link, a device, a name that is no text, or too much of it.
struct Useless;

impl Crop {
    /// Adds what is another package's.
    pub(super) fn join(&mut self, other: Self) {
        let Self { units, folders, files } = other;
        self.units.extend(units);
        self.folders.extend(folders);
        self.files.extend(files);
    }

    fn take(&mut self, target: &Door, path: &Path, depth: usize) -> Result<(), Useless> {
        if depth > MAX_DEPTH || self.files.len() + self.folders.len() >= MAX_ITEMS {
            return Err(Useless);
        }
        match target.look(path).map_err(|_| Useless)? {
            Found::File { size, .. } if size > MAX_FILE => Err(Useless),
            Found::File { size, executable } => {
                self.files.push(UnitFile { path: path.to_owned(), size, executable });
                Ok(())
            }
            Found::Folder => {
                self.folders.insert(path.to_owned());
                let names = target.names(path, MAX_ITEMS).map_err(|_| Useless)?.ok_or(Useless)?;
                names.into_iter().try_for_each(|name| self.take(target, &path.join(name), depth + 1))
            }
            Found::Nothing | Found::Other => Err(Useless),
        }
    }
}

/// Cargo writes `NAME` and `NAME.json` into a fingerprint when, and only when, the unit is done.
fn is_complete(target: &Door, fingerprint: &Path) -> bool {
    let is_written = |name: String| matches!(target.look(&fingerprint.join(name)), Ok(Found::File { size: 1.., .. }));
    let Ok(Some(names)) = target.names(fingerprint, MAX_ITEMS) else { return false };
    let mut done = names.iter().filter_map(|name| name.strip_suffix(".json"));
    done.any(|done| is_written(done.to_owned()) && is_written(format!("{done}.json")))
}

/// The names in a folder that are texts; none where there is no folder.
fn names_in(target: &Door, at: &Path, folder: &Path) -> Result<Vec<String>, CacheError> {
    let names = target.names(folder, MAX_NAMES).map_err(CacheError::io("list", &at.join(folder)))?;
    Ok(names.unwrap_or_default())
}

/// `serde_json-0123456789abcdef` → package and hash.
fn split(unit: &str) -> Option<(&str, &str)> {
    unit.rsplit_once('-').filter(|(_, hash)| is_hash(hash))
}

/// `libserde_json-0123456789abcdef.rlib` → hash.
fn hash_of(file: &str) -> Option<&str> {
    let (stem, _) = file.split_once('.')?;
    split(stem).map(|(_, hash)| hash)
}

/// Cargo's hashes have 64 bits.
fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const H: &str = "0123456789abcdef";

    fn target(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(PROFILE).join(file.replace('H', H));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    fn files(dir: &Path, package: &str) -> Option<Vec<String>> {
        let mut crops = harvest(dir).unwrap();
        let crop = crops.remove(package)??;
        let mut files: Vec<String> = crop.files.iter().map(|file| file.path.display().to_string()).collect();
        files.sort();
        Some(files.into_iter().map(|file| file.replace(H, "H")).collect())
    }

    #[test]
    fn a_completed_unit_has_its_fingerprint_its_libraries_and_its_build_folder() {
        let dir = target(&[
            ".fingerprint/a-b-H/lib-a_b",
            ".fingerprint/a-b-H/lib-a_b.json",
            "deps/liba_b-H.rlib",
            "deps/a_b-H.d",
            "deps/liba_b-fedcba9876543210.rlib",
            "build/a-b-H/out/x/y",
            "build/other-H/out/x",
            "liba_b.rlib",
        ]);
        let expected = [
            "debug/.fingerprint/a-b-H/lib-a_b",
            "debug/.fingerprint/a-b-H/lib-a_b.json",
            "debug/build/a-b-H/out/x/y",
            "debug/deps/a_b-H.d",
            "debug/deps/liba_b-H.rlib",
        ];
        assert_eq!(files(dir.path(), "a-b").unwrap(), expected);
    }

    #[test]
    fn what_is_not_completed_is_nothing() {
        for unfinished in [&[".fingerprint/a-H/invoked.timestamp"][..], &[".fingerprint/a-H/lib-a.json"], &[]] {
            let dir = target(&[unfinished, &["deps/liba-H.rlib"]].concat());
            assert_eq!(files(dir.path(), "a"), None);
        }
    }

    #[test]
    fn a_unit_with_a_link_is_not_taken() {
        let dir = target(&[".fingerprint/a-H/lib-a", ".fingerprint/a-H/lib-a.json", "build/a-H/out/x"]);
        assert!(files(dir.path(), "a").is_some());
        let out = dir.path().join(format!("debug/build/a-{H}/out"));
        std::os::unix::fs::symlink("/etc/passwd", out.join("link")).unwrap();
        assert_eq!(files(dir.path(), "a"), None);
        fs::remove_file(out.join("link")).unwrap();
        nix::unistd::mkfifo(&out.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(files(dir.path(), "a"), None);
    }

    #[test]
    fn what_is_no_units_and_not_cargos_is_a_stranger() {
        let own = [".fingerprint/a-H/invoked.timestamp", "deps/a-H.d", "build/a-H/out/x", ".cargo-lock"];
        assert!(!has_strangers(target(&own).path()).unwrap());
        for stranger in [
            "libnat.so",
            "deps/libnat.so",
            "deps/libother-fedcba9876543210.rlib",
            "build/other-fedcba9876543210/out/x",
            "../native/x",
        ] {
            assert!(has_strangers(target(&[&own[..], &[stranger]].concat()).path()).unwrap(), "{stranger}");
        }
    }

    #[test]
    fn the_files_of_a_unit_have_its_hash() {
        for (path, hash) in [
            ("debug/deps/liba_b-H.rlib", Some(H)),
            ("debug/.fingerprint/a-b-H/lib-a_b", Some(H)),
            ("debug/build/a-b-H/out/x/c-fedcba9876543210.o", Some(H)),
            ("debug/deps/liba.rlib", None),
            ("debug/x", None),
        ] {
            assert_eq!(unit_hash(Path::new(&path.replace('H', H))), hash, "{path}");
        }
    }

    #[test]
    fn a_link_in_place_of_a_folder_of_cargos_is_not_followed() {
        let dir = target(&[".fingerprint/a-H/lib-a", ".fingerprint/a-H/lib-a.json", "deps/liba-H.rlib"]);
        let elsewhere = tempfile::tempdir().unwrap();
        for folder in ["debug/deps", "debug"] {
            let (from, to) = (dir.path().join(folder), elsewhere.path().join(folder.replace('/', "-")));
            fs::rename(&from, &to).unwrap();
            std::os::unix::fs::symlink(&to, &from).unwrap();
            assert!(harvest(dir.path()).unwrap().is_empty(), "{folder}");
        }
    }

    #[test]
    fn only_names_that_cargo_would_give_are_looked_at() {
        for unit in ["a", "a-0123", "a-0123456789abcdeg", "-"] {
            let dir = target(&[&format!(".fingerprint/{unit}/lib-a"), &format!(".fingerprint/{unit}/lib-a.json")]);
            assert!(harvest(dir.path()).unwrap().is_empty(), "{unit}");
        }
    }
}
