//! Reads the units that cargo has completed in a target folder: which files are whose.
//!
//! The folder was written by strangers, who are all dead by now. It is looked at through a [`Door`] only: links and
//! devices make a unit useless. Of files, only cargo's fingerprints and rustc's lists of sources are read. Whether a
//! unit may be shared is not decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CacheError;
use crate::sandbox::{Door, Found};

/// The folder below a target folder that the `dev` and `test` profiles use.
pub(super) const PROFILE: &str = "debug";
/// The folder of cargo's fingerprints, with a folder per unit, `PACKAGE-HASH`.
pub(super) const FINGERPRINTS: &str = ".fingerprint";
/// Where cargo puts libraries, `NAME-HASH.*`.
const DEPS: &str = "deps";
/// The folder of build scripts and their output, with a folder per unit.
const BUILD: &str = "build";
/// The names that cargo itself gives to files and folders of a target folder.
const CARGOS_OWN: [&str; 3] = [PROFILE, "CACHEDIR.TAG", ".rustc_info.json"];
/// The names that cargo itself gives in the folder of a profile.
const CARGOS_OWN_IN_PROFILE: [&str; 6] =
    [DEPS, BUILD, FINGERPRINTS, ".cargo-lock", ".cargo-build-lock", ".cargo-artifact-lock"];
/// Folders that cargo makes and that dependencies leave empty.
const EMPTY: [&str; 3] = ["tmp", "debug/examples", "debug/incremental"];

/// How many files and folders one unit may have.
const MAX_ITEMS: usize = 50_000;
/// The largest file that is shared, in bytes, holes included: the layers have a budget, and what compilers write is
/// smaller.
const MAX_FILE: u64 = 1 << 30;
/// How deep folders may be nested.
const MAX_DEPTH: usize = 64;
/// The largest number of names in one of cargo's folders: more than the largest workspaces have units.
const MAX_NAMES: usize = 200_000;
/// How large a fingerprint or a list of sources may be, in bytes; most have a few KiB.
const MAX_TEXT: u64 = 4 << 20;

/// The files of one unit that cargo has completed.
#[derive(Debug, Default)]
pub(super) struct Crop {
    /// Its folders, by their paths below the target folder, parents first.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Its files.
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

/// Cargo's fingerprint of a unit: its hash, and the hashes of the units that it depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its own number.
    pub own: u64,
    /// Those of its direct dependencies.
    pub needs: BTreeSet<u64>,
}

/// The completed units in `target`, by their names, `PACKAGE-HASH`. `None`: the unit can't be shared.
pub(super) fn harvest(target: &Path) -> Result<BTreeMap<String, Option<Crop>>, CacheError> {
    let door = open(target)?;
    if !is_cargos_own(&door) {
        return Ok(BTreeMap::new());
    }
    let mut crops: BTreeMap<String, Result<Crop, Useless>> = BTreeMap::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for unit in units(&door, target)? {
        let Some((_, hash)) = split(&unit) else { continue };
        let fingerprint = fingerprint_folder(&unit);
        if completed(&door, &fingerprint).is_none() {
            continue;
        }
        owners.insert(hash.to_owned(), unit.clone());
        let mut crop = Crop::default();
        let taken = crop.take(&door, &fingerprint, 0).and_then(|()| {
            let build = Path::new(PROFILE).join(BUILD).join(&unit);
            match door.look(&build) {
                Ok(Found::Nothing) => Ok(()),
                Ok(Found::Folder | Found::File { .. } | Found::Other) | Err(_) => crop.take(&door, &build, 0),
            }
        });
        crops.insert(unit, taken.map(|()| crop));
    }
    let deps = Path::new(PROFILE).join(DEPS);
    for name in names_in(&door, target, &deps)? {
        let Some(unit) = hash_of(&name).and_then(|hash| owners.get(hash)) else { continue };
        let Some(crop) = crops.get_mut(unit) else { continue };
        let package = split(unit).map_or("", |(package, _)| package);
        if let Ok(taken) = crop
            && (taken.take(&door, &deps.join(&name), 0).is_err() || reads_elsewhere(&door, &deps, &name, package))
        {
            *crop = Err(Useless);
        }
    }
    Ok(crops.into_iter().map(|(unit, crop)| (unit, crop.ok())).collect())
}

/// The fingerprint of a unit, `PACKAGE-HASH`, in a target folder. `None`: it isn't complete, or can't be read.
pub(super) fn fingerprint(target: &Path, unit: &str) -> Option<Fingerprint> {
    let door = Door::open(target).ok()?;
    let folder = fingerprint_folder(unit);
    let name = completed(&door, &folder)?;
    let read = |name: &str| String::from_utf8(door.read(&folder.join(name), MAX_TEXT).ok()?).ok();
    // In hexadecimal digits, the lowest byte first.
    let own = u64::from_str_radix(read(&name)?.trim(), 16).ok()?.swap_bytes();
    let record: serde_json::Value = serde_json::from_str(&read(&format!("{name}.json"))?).ok()?;
    let needs = record.get("deps")?.as_array()?.iter();
    // Each is a list whose last item is the number.
    let needs = needs.map(|need| need.as_array()?.last()?.as_u64()).collect::<Option<BTreeSet<u64>>>()?;
    Some(Fingerprint { own, needs })
}

/// The names of all units that a target folder has something of, completed or not.
pub(super) fn units_in(target: &Path) -> Result<BTreeSet<String>, CacheError> {
    units(&open(target)?, target)
}

/// The names of all units that were completed in a target folder, `PACKAGE-HASH`.
pub fn completed_units(target: &Path) -> Result<BTreeSet<String>, CacheError> {
    let door = open(target)?;
    let units = units(&door, target)?;
    Ok(units.into_iter().filter(|unit| completed(&door, &fingerprint_folder(unit)).is_some()).collect())
}

fn units(door: &Door, target: &Path) -> Result<BTreeSet<String>, CacheError> {
    Ok(names_in(door, target, &Path::new(PROFILE).join(FINGERPRINTS))?.into_iter().collect())
}

/// The path of something in a target folder that is neither cargo's own nor of a unit that was made there: a build
/// script wrote to a place that isn't its own, or changed a unit of `laid`, and a crate that reuses its units would
/// miss that.
pub(super) fn stranger(target: &Path, laid: &BTreeSet<&str>) -> Result<Option<PathBuf>, CacheError> {
    type IsKnown<'a> = &'a dyn Fn(&str) -> bool;
    let door = open(target)?;
    let profile = Path::new(PROFILE);
    let units = units(&door, target)?;
    let hashes: BTreeSet<&str> = units.iter().filter_map(|unit| split(unit)).map(|(_, hash)| hash).collect();
    let is_new = |hash: Option<&str>| hash.is_some_and(|hash| hashes.contains(hash) && !laid.contains(hash));
    let is_new_unit = |name: &str| units.contains(name) && is_new(split(name).map(|(_, hash)| hash));
    let is_dependencies_own = |folder: &str| EMPTY.contains(&folder);
    let checks: [(PathBuf, IsKnown<'_>); 5] = [
        (PathBuf::from("."), &|name| CARGOS_OWN.contains(&name) || is_dependencies_own(name)),
        (profile.to_owned(), &|name| {
            CARGOS_OWN_IN_PROFILE.contains(&name) || is_dependencies_own(&format!("{PROFILE}/{name}"))
        }),
        (profile.join(FINGERPRINTS), &is_new_unit),
        (profile.join(BUILD), &is_new_unit),
        (profile.join(DEPS), &|name| is_new(hash_of(name))),
    ];
    for (folder, is_known) in checks {
        if let Some(name) = names_in(&door, target, &folder)?.into_iter().find(|name| !is_known(name)) {
            return Ok(Some(folder.join(name)));
        }
    }
    for folder in EMPTY.map(Path::new) {
        let is_empty = match door.look(folder) {
            Ok(Found::Nothing) => true,
            Ok(Found::Folder) => names_in(&door, target, folder)?.is_empty(),
            Ok(Found::File { .. } | Found::Other) | Err(_) => false,
        };
        if !is_empty {
            return Ok(Some(folder.to_owned()));
        }
    }
    Ok(None)
}

/// Whether commands left anything in a folder.
pub(super) fn is_empty(folder: &Path) -> Result<bool, CacheError> {
    Ok(names_in(&open(folder)?, folder, Path::new("."))?.is_empty())
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

fn fingerprint_folder(unit: &str) -> PathBuf {
    Path::new(PROFILE).join(FINGERPRINTS).join(unit)
}

/// Something in a unit that can't be shared: a link, a device, a name that isn't text, or too many files.
struct Useless;

impl Crop {
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

/// Cargo writes `NAME` and `NAME.json` into a fingerprint when, and only when, the unit is done. Returns that name.
fn completed(target: &Door, fingerprint: &Path) -> Option<String> {
    let is_written = |name: &str| matches!(target.look(&fingerprint.join(name)), Ok(Found::File { size: 1.., .. }));
    let names = target.names(fingerprint, MAX_ITEMS).ok()??;
    let mut done = names.iter().filter_map(|name| name.strip_suffix(".json"));
    done.find(|done| is_written(done) && is_written(&format!("{done}.json"))).map(str::to_owned)
}

/// Whether a file is a list of the sources that rustc has read, and one of them is neither of the package nor of the
/// target folder: a file of the crate under test, for example.
fn reads_elsewhere(target: &Door, deps: &Path, name: &str, package: &str) -> bool {
    if Path::new(name).extension().is_none_or(|extension| extension != "d") {
        return false;
    }
    let Ok(text) = target.read(&deps.join(name), MAX_TEXT) else { return true };
    let text = String::from_utf8_lossy(&text);
    // Lines of make: `FILE: SOURCE SOURCE`, spaces in a name escaped.
    let sources = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
    let mut sources = sources.flat_map(|(_, sources)| sources.split_whitespace());
    sources.any(|source| !is_of_unit(Path::new(source), package))
}

/// Whether a source is in the folder of a version of `package` or in the target folder, however many `..` its path has.
/// Relative paths begin at the package's folder.
fn is_of_unit(source: &Path, package: &str) -> bool {
    let is_package = |folder: &OsStr| folder.to_str().is_some_and(|folder| folder.starts_with(&format!("{package}-")));
    // The part of the path that must stay: above a package's folder, which is a link, `..` leads to another folder than
    // the text suggests.
    let floor = match source.strip_prefix("/cargo/vendor") {
        Ok(below) if below.iter().next().is_some_and(is_package) => 3,
        Err(_) if source.starts_with("/crate/target") => 2,
        Err(_) if source.is_relative() => 0,
        Ok(_) | Err(_) => return false,
    };
    let mut depth = 0;
    source.components().all(|part| {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::Prefix(_) => return false,
        }
        // The floor holds as soon as it is reached.
        !matches!(part, Component::ParentDir) || depth >= floor
    })
}

/// The names in a folder; empty if the folder doesn't exist.
fn names_in(door: &Door, at: &Path, folder: &Path) -> Result<Vec<String>, CacheError> {
    let names = door.names(folder, MAX_NAMES).map_err(CacheError::io("list", &at.join(folder)))?;
    Ok(names.unwrap_or_default())
}

/// `serde_json-0123456789abcdef` → package and hash.
pub(super) fn split(unit: &str) -> Option<(&str, &str)> {
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
        let crop = crops.remove(&format!("{package}-{H}"))??;
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
    fn a_file_that_is_neither_of_a_new_unit_nor_cargos_own_is_a_stranger() {
        let own = [
            ".fingerprint/a-H/invoked.timestamp",
            "deps/a-H.d",
            "build/a-H/out/x",
            ".cargo-lock",
            "../.rustc_info.json",
        ];
        let strangers = |files: &[&str], laid: &[&str]| {
            let dir = target(files);
            for name in EMPTY {
                fs::create_dir_all(dir.path().join(name)).unwrap();
            }
            stranger(dir.path(), &laid.iter().copied().collect()).unwrap().is_some()
        };
        assert!(!strangers(&own, &["fedcba9876543210"]));
        assert!(strangers(&own, &[H]), "a unit that is laid was changed");
        for name in [
            "libnat.so",
            "deps/libnat.so",
            "deps/libother-fedcba9876543210.rlib",
            "build/other-fedcba9876543210/out/x",
            ".fingerprint/planted",
            "examples/x",
            "incremental/x",
            ".hidden",
            "../native/x",
            "../.hidden",
            "../tmp/x",
        ] {
            assert!(strangers(&[&own[..], &[name]].concat(), &[]), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_not_text_is_a_stranger_too() {
        use std::os::unix::ffi::OsStrExt;
        let dir = target(&[".fingerprint/a-H/invoked.timestamp"]);
        fs::write(dir.path().join(OsStr::from_bytes(b"\xff")), "x").unwrap();
        assert!(stranger(dir.path(), &BTreeSet::new()).unwrap().is_some());
        assert!(!is_empty(dir.path()).unwrap());
    }

    #[test]
    fn a_unit_whose_sources_are_not_of_dependencies_alone_is_not_taken() {
        for (source, is_taken) in [
            ("/cargo/vendor/a-1.0.0/src/lib.rs", true),
            ("/cargo/vendor/a-1.0.0/src/../data.txt", true),
            ("/crate/target/debug/build/a-H/out/x.rs", true),
            ("src/lib.rs", true),
            ("/crate/src/lib.rs", false),
            ("/crate/Cargo.toml", false),
            ("/cargo/vendor/a-1.0.0/../../../crate/x", false),
            ("/cargo/vendor/a-1.0.0/../b-1.0.0/x", false),
            ("/crate/target/../x", false),
            ("../x", false),
            ("/tmp/x", false),
        ] {
            let dir = target(&[".fingerprint/a-H/lib-a", ".fingerprint/a-H/lib-a.json", "deps/a-H.d"]);
            let list = format!("/crate/target/debug/deps/a-{H}.d: src/x.rs {source}\n\n{source}:\n");
            fs::write(dir.path().join(format!("debug/deps/a-{H}.d")), list).unwrap();
            assert_eq!(files(dir.path(), "a").is_some(), is_taken, "{source}");
        }
    }

    #[test]
    fn a_fingerprint_names_itself_and_the_units_that_it_needs() {
        let dir = target(&[".fingerprint/a-H/lib-a", ".fingerprint/a-H/lib-a.json"]);
        let folder = dir.path().join(format!("debug/.fingerprint/a-{H}"));
        fs::write(folder.join("lib-a"), "ee30f65fedcef294").unwrap();
        let json = r#"{"features":"[]","deps":[[1,"x",false,7],[2,"y",false,10732868380889854190]]}"#;
        fs::write(folder.join("lib-a.json"), json).unwrap();
        let expected =
            Fingerprint { own: 10_732_868_380_889_854_190, needs: BTreeSet::from([7, 10_732_868_380_889_854_190]) };
        assert_eq!(fingerprint(dir.path(), &format!("a-{H}")), Some(expected));
        fs::write(folder.join("lib-a.json"), "{").unwrap();
        assert_eq!(fingerprint(dir.path(), &format!("a-{H}")), None);
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
