//! The store of unpacked packages: `NAME-VERSION-<first 16 digits of the SHA-256>/`, each an entry of cargo's directory
//! sources.
//!
//! A folder is made once and never changed: cells of many crates mount it at the same time. Nothing is ever evicted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Registry;
use super::error::RegistryError;
use super::flight::Flights;
use super::loads::Loads;
use super::lockfile::{Locked, Lockfile};
use super::package::{Checksum, Package};
use super::place::{self, Kind};
use super::unpack::unpack_package;
use super::{stand_in, tree};
use crate::krate::CrateName;
use crate::outcome::Outcome;

/// The number of packages of one lockfile that are fetched or unpacked in parallel.
const MAX_AT_ONCE: usize = 16;
/// The format of unpacked packages; the first format, which had no number, dropped the times of files.
const FORM: u32 = 2;
/// The file that cargo reads in every folder of a directory source.
const CHECKSUM_FILE: &str = ".cargo-checksum.json";

/// The store.
#[derive(Debug)]
pub(super) struct Sources {
    dir: PathBuf,
    /// The folders that this run has seen to be whole, by name.
    whole: Flights<String, Loads>,
    /// Unpacking is work for cores and disk: more in parallel would only disturb running ops.
    unpacking: Semaphore,
}

/// Cargo's part is `package` and `files`; it passes over the rest.
#[derive(Serialize, Deserialize)]
struct Seal {
    package: String,
    /// Empty: the tarball was verified as a whole, and only maar writes here.
    files: Empty,
    /// How many files and folders were there besides this file, and how many bytes, when the folder was published.
    items: usize,
    bytes: u64,
    /// Which cargos load its manifest.
    loads: Loads,
    /// How the folder was unpacked: one of another form is unpacked again.
    form: u32,
}

#[derive(Serialize, Deserialize)]
struct Empty {}

impl Sources {
    /// Opens the store in `dir`, which is made if absent.
    pub(super) fn open(dir: PathBuf) -> Result<Self, RegistryError> {
        fs::create_dir_all(&dir).map_err(RegistryError::io("create", &dir))?;
        // Cells read it under another user's id, despite any umask.
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).map_err(RegistryError::io("open up", &dir))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { dir, whole: Flights::default(), unpacking: Semaphore::new(cores) })
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes sure that a package is in the store, and gives its folder's name there.
    async fn ensure(&self, registry: &Registry, package: &Package) -> Result<(String, Loads), RegistryError> {
        let name = format!("{package}-{}", package.checksum.short());
        let work = async {
            let dir = self.dir.join(&name);
            let found = dir.clone();
            if let Some(seal) = tokio::task::spawn_blocking(move || whole(&found)).await? {
                return Ok(seal.loads);
            }
            let tarball = registry.tarball(package).await?;
            let (store, package) = (self.dir.clone(), package.clone());
            // The semaphore is never closed, so that an error could only mean a permit too many.
            let _permit = self.unpacking.acquire().await;
            tokio::task::spawn_blocking(move || publish(&store, &tarball, &package, &dir)).await?
        };
        let loads = self.whole.get(name.clone(), work).await?;
        Ok((name, loads))
    }
}

/// The outcome for a lockfile's packages.
#[derive(Debug, Default)]
pub struct Vendored {
    /// Packages with a stand-in, because they can't be unpacked, with the outcome of a crate that needs them.
    pub unusable: BTreeMap<String, Outcome>,
    /// Those whose manifest may not load.
    pub in_doubt: Vec<InDoubt>,
}

/// A package whose manifest not every cargo surely loads.
#[derive(Debug)]
pub struct InDoubt(Loads);

impl InDoubt {
    /// Whether this cargo surely loads it.
    pub fn is_settled_for(&self, cargo: &Version) -> bool {
        self.0.surely_in(cargo)
    }
}

impl Vendored {
    fn add(&mut self, (package, stored): (Package, Stored), into: &Path) -> Result<(), RegistryError> {
        match stored {
            Stored::Folder(folder, loads) => {
                link(&package, &folder, into)?;
                self.in_doubt.push(InDoubt(loads));
            }
            Stored::Nothing(error) => {
                self.unusable.insert(package.to_string(), error.outcome());
            }
        }
        Ok(())
    }
}

/// The form in which a package is present.
enum Stored {
    Folder(String, Loads),
    /// A stand-in, because it can't be unpacked.
    Nothing(RegistryError),
}

/// See [`Registry::vendor`].
pub(super) async fn vendor(
    registry: &Registry,
    lock: &Lockfile,
    present: Option<&Lockfile>,
    into: &Path,
) -> Result<Vendored, RegistryError> {
    if present.is_none() {
        place::dir(into, None).map_err(RegistryError::io("create", into))?;
    }
    let present = present.into_iter().flat_map(|lock| &lock.packages);
    let mut names: BTreeSet<String> = present.filter_map(Locked::folder).collect();
    let mut packages = JoinSet::new();
    let mut vendored = Vendored::default();
    for locked in &lock.packages {
        let Locked::Registry { name, version, checksum } = locked.clone() else { continue };
        // Nothing keeps a lockfile from naming a package twice.
        if !names.insert(format!("{name}-{version}")) {
            continue;
        }
        if packages.len() == MAX_AT_ONCE
            && let Some(done) = packages.join_next().await
        {
            vendored.add(done??, into)?;
        }
        let (registry, into) = (registry.clone(), into.to_owned());
        packages.spawn(async move {
            let package = pinned(&registry, name, version, checksum).await?;
            let stored = match registry.0.sources.ensure(&registry, &package).await {
                Ok((folder, loads)) => Stored::Folder(folder, loads),
                Err(error) if matches!(error.outcome(), Outcome::Broken(_)) => {
                    write_stand_in(&registry, &package, &into, &error.to_string()).await?;
                    Stored::Nothing(error)
                }
                Err(error) => return Err(error),
            };
            Ok::<_, RegistryError>((package, stored))
        });
    }
    while let Some(done) = packages.join_next().await {
        vendored.add(done??, into)?;
    }
    Ok(vendored)
}

/// Puts a stand-in, with the reason `why`, or the package itself in a folder of `vendor`, and replaces an older entry.
pub(super) async fn replace(
    registry: &Registry,
    lock: &Lockfile,
    folder: &str,
    vendor: &Path,
    why: Option<&str>,
) -> Result<(), RegistryError> {
    let path = vendor.join(folder);
    let removed = if path.is_symlink() { fs::remove_file(&path) } else { fs::remove_dir_all(&path) };
    removed.map_err(RegistryError::io("remove", &path))?;
    for locked in &lock.packages {
        let Locked::Registry { name, version, checksum } = locked.clone() else { continue };
        if format!("{name}-{version}") != folder {
            continue;
        }
        let package = pinned(registry, name, version, checksum).await?;
        return match why {
            Some(why) => write_stand_in(registry, &package, vendor, why).await,
            None => {
                let (stored, _) = registry.0.sources.ensure(registry, &package).await?;
                link(&package, &stored, vendor)
            }
        };
    }
    Err(RegistryError::Missing { package: folder.to_owned() })
}

async fn write_stand_in(registry: &Registry, package: &Package, vendor: &Path, why: &str) -> Result<(), RegistryError> {
    let line = registry.0.index.line(package).await?;
    let line = line.ok_or_else(|| RegistryError::Missing { package: package.to_string() })?;
    stand_in::write(&line, &package.checksum.to_string(), &vendor.join(package.to_string()), why)
}

/// See [`Registry::named_in`].
pub(super) fn named_in(lock: &Lockfile, text: &str) -> Option<String> {
    let folders = lock.packages.iter().filter_map(|locked| match locked {
        Locked::Registry { name, version, .. } => Some(format!("{name}-{version}")),
        Locked::Foreign { .. } | Locked::Local { .. } => None,
    });
    folders
        .filter_map(|folder| Some((text.rfind(&format!("/vendor/{folder}/"))?, folder)))
        .max()
        .map(|(_, folder)| folder)
}

/// The package that a lockfile means: pinned by the lockfile's own checksum, else by the index's.
async fn pinned(
    registry: &Registry,
    name: CrateName,
    version: Version,
    checksum: Option<Checksum>,
) -> Result<Package, RegistryError> {
    if let Some(checksum) = checksum {
        return Ok(Package { name, version, checksum });
    }
    let found = registry.package(&name, &version).await?;
    found.ok_or_else(|| RegistryError::Missing { package: format!("{name}-{version}") })
}

/// Links a vendor folder to the store; relative, so that both can be mounted elsewhere.
fn link(package: &Package, stored: &str, into: &Path) -> Result<(), RegistryError> {
    let path = into.join(package.to_string());
    place::link(&Path::new("../sources").join(stored), &path, None).map_err(RegistryError::io("link", &path))
}

/// Unpacks a tarball beside its place in the store, then moves it there in one step.
fn publish(store: &Path, tarball: &Path, package: &Package, dir: &Path) -> Result<Loads, RegistryError> {
    let temporary = TempDir::with_prefix_in(".new-", store).map_err(RegistryError::io("create a folder in", store))?;
    let fresh = temporary.path().join("fresh");
    unpack_package(tarball, &package.to_string(), &fresh, None)
        .map_err(|source| RegistryError::Unpack { package: package.to_string(), source: Arc::new(source) })?;
    let loads = seal(&fresh, package)?;
    // A power loss left a damaged folder here; or, if the folder is whole by now, another process was faster.
    if dir.exists() && !is_whole(dir) {
        fs::rename(dir, temporary.path().join("damaged")).map_err(RegistryError::io("replace", dir))?;
    }
    match fs::rename(&fresh, dir) {
        Err(error) if !is_whole(dir) => Err(RegistryError::io("create", dir)(error)),
        Ok(()) | Err(_) => Ok(loads),
    }
}

/// Seals a new folder, and returns which cargos load its package.
fn seal(dir: &Path, package: &Package) -> Result<Loads, RegistryError> {
    let path = dir.join(CHECKSUM_FILE);
    match fs::remove_file(&path) {
        // A tarball may bring such a file, which proves nothing.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            fs::remove_dir_all(&path).map_err(RegistryError::io("remove", &path))?;
        }
        Err(error) => return Err(RegistryError::io("remove", &path)(error)),
    }
    let (items, bytes) = tree::measure(dir)?;
    let seal = Seal {
        package: package.checksum.to_string(),
        files: Empty {},
        items,
        bytes,
        loads: Loads::of(dir),
        form: FORM,
    };
    let mut file = place::file(&path, Kind::Plain, None).map_err(RegistryError::io("create", &path))?;
    let json = serde_json::to_vec(&seal).map_err(io::Error::from);
    json.and_then(|json| file.write_all(&json)).map_err(RegistryError::io("write", &path))?;
    Ok(seal.loads)
}

fn is_whole(dir: &Path) -> bool {
    whole(dir).is_some()
}

/// The seal of a folder of the store that is there as it was published.
///
/// A power loss can leave files empty or cut short, under the names that they were to have: nothing here waits for the
/// disk. It can't leave them with the right size and the wrong contents on the file systems in use.
fn whole(dir: &Path) -> Option<Seal> {
    let json = fs::read(dir.join(CHECKSUM_FILE)).ok()?;
    let seal = serde_json::from_slice::<Seal>(&json).ok()?;
    let measured = tree::measure(dir).ok()?;
    (seal.form == FORM && measured == (seal.items + 1, seal.bytes + json.len() as u64)).then_some(seal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whole_until_a_file_is_cut_short_or_gone() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join("a");
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("src/lib.rs"), "pub fn a() {}").unwrap();
        // A tarball may bring this file, or a folder of that name.
        fs::write(dir.join(CHECKSUM_FILE), "{}").unwrap();
        assert!(!is_whole(&dir));
        fs::remove_file(dir.join(CHECKSUM_FILE)).unwrap();
        fs::create_dir_all(dir.join(CHECKSUM_FILE).join("folder")).unwrap();
        assert!(!is_whole(&dir));
        let (name, version) = ("a".parse().unwrap(), Version::new(1, 0, 0));
        seal(&dir, &Package { name, version, checksum: Checksum::of("") }).unwrap();
        assert!(is_whole(&dir));
        fs::write(dir.join("src/lib.rs"), "").unwrap();
        assert!(!is_whole(&dir));
        fs::write(dir.join("src/lib.rs"), "pub fn a() {}").unwrap();
        assert!(is_whole(&dir));
        fs::write(dir.join(CHECKSUM_FILE), "").unwrap();
        assert!(!is_whole(&dir));
    }
}
