//! The layers of one key: gives a crate those of its units, and makes new ones of the units that a cell completed.
//!
//! Processes share them through the file system. Only adding takes a lock, and only for as long as files are renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::claims::Claims;
use super::error::CacheError;
use super::harvest::{self, Crop, Fingerprint, harvest};
use super::key::Key;
use super::layer::{Id, Layer, Linked, note_use};
use super::tally::Tally;
use super::unit::{Code, Unit, UnitKey};
use crate::owner::Owner;
use crate::sandbox::remove_folder;

/// The layers of one key. Clones are the same layers.
#[derive(Debug, Clone)]
pub struct Layers {
    dir: PathBuf,
    known: Arc<Mutex<Known>>,
    claims: Claims,
}

/// The layers on disk, as far as this process has read their records.
#[derive(Debug, Default)]
struct Known {
    layers: BTreeMap<Id, Arc<Layer>>,
    by_key: BTreeMap<UnitKey, BTreeSet<Id>>,
    /// Those that could not be read, or whose files were not whole.
    damaged: BTreeSet<Id>,
}

/// The folder under a crate's target folder: links to the files of the layers of its units.
#[derive(Debug, Clone)]
pub struct Base {
    dir: PathBuf,
    /// Who the cells over it are, if not maar's own user.
    owner: Option<Owner>,
    /// The units in the target folder itself, `PACKAGE-HASH`: no layer may be laid under those.
    occupied: BTreeSet<String>,
    laid: BTreeMap<Id, Arc<Layer>>,
    by_key: BTreeMap<UnitKey, Id>,
}

/// The units in the folder under the target folder of a cell that compiles ahead, `PACKAGE-HASH`.
#[derive(Debug, Default)]
pub struct Lower {
    units: BTreeSet<String>,
}

/// A unit that was completed in a cell.
#[derive(Debug, Clone)]
pub struct Made {
    /// The unit.
    pub unit: Unit,
    /// Its name in the target folder, `PACKAGE-HASH`.
    pub name: String,
}

/// The result of harvesting the units that a cell has completed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The units that have become layers.
    pub units: BTreeSet<UnitKey>,
    /// The path of a file that the cell left outside of its own units: nothing was taken.
    pub stranger: Option<PathBuf>,
}

/// The key in words; it also distinguishes a folder of layers from other folders.
pub(super) const KEY: &str = "key.txt";
const LOCK: &str = ".lock";
/// The name of a layer until it is whole.
const NEW: &str = ".new";
/// Where notes on crates are kept.
const NOTES: &str = "notes";
/// A note that no run has read for so long goes with the next collection.
const NOTE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

impl Base {
    /// An empty base in `dir`, for a target folder whose own changes are in `upper`, in cells that are `owner`.
    pub fn new(dir: PathBuf, upper: &Path, owner: Option<Owner>) -> Result<Self, CacheError> {
        Ok(Self { dir, owner, occupied: harvest::units_in(upper)?, laid: BTreeMap::new(), by_key: BTreeMap::new() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a layer of the unit is laid.
    pub fn has(&self, unit: &UnitKey) -> bool {
        self.by_key.contains_key(unit)
    }

    /// The units that are laid, with their names, `PACKAGE-HASH`.
    pub fn units(&self) -> impl Iterator<Item = (&UnitKey, &str)> {
        self.laid.values().map(|layer| (&layer.key, layer.name.as_str()))
    }

    /// The units in the target folder itself, `PACKAGE-HASH`.
    pub fn units_before(&self) -> &BTreeSet<String> {
        &self.occupied
    }

    /// The units whose packages have units in the target folder itself.
    pub fn occupied<'u>(&self, units: &'u [Unit]) -> impl Iterator<Item = &'u UnitKey> {
        let names: BTreeSet<&str> =
            self.occupied.iter().filter_map(|unit| harvest::split(unit)).map(|(name, _)| name).collect();
        units.iter().filter(move |unit| names.contains(unit.name())).map(|unit| &unit.key)
    }

    fn has_hash_of(&self, name: &str) -> bool {
        let hash = |name| harvest::split(name).map(|(_, hash)| hash);
        self.occupied.contains(name) || self.laid.values().any(|layer| hash(&layer.name) == hash(name))
    }

    fn insert(&mut self, id: Id, layer: Arc<Layer>) {
        self.by_key.insert(layer.key.clone(), id);
        self.laid.insert(id, layer);
    }
}

impl Layers {
    /// Opens the layers of a key in `cache`, which are made if absent.
    pub fn open(cache: &Path, key: &Key) -> Result<Self, CacheError> {
        let dir = cache.join(key.name());
        let notes = dir.join(NOTES);
        fs::create_dir_all(&notes).map_err(CacheError::io("make", &notes))?;
        // Every job's user may write to the files of layers, and no other user of the host.
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(CacheError::io("close", &dir))?;
        let path = dir.join(KEY);
        if !path.exists() {
            fs::write(&path, key.text()).map_err(CacheError::io("write", &path))?;
        }
        Ok(Self { dir, known: Arc::default(), claims: Claims::default() })
    }

    /// The units that this process is compiling now.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Links a layer of each unit into a base, where there is one, except for units that the base has already. `units`
    /// are those of one crate, each after the units that it needs.
    pub fn lay<'u>(&self, units: impl IntoIterator<Item = &'u Unit>, base: &mut Base) -> Result<(), CacheError> {
        self.known().refresh(&self.dir)?;
        for unit in units {
            let needs: Option<BTreeSet<Id>> = unit.needs.iter().map(|need| base.by_key.get(need).copied()).collect();
            let Some(needs) = needs.filter(|_| !base.has(&unit.key)) else { continue };
            // Not in the loop's head, which would hold the lock through its body.
            let candidates = self.known().candidates(unit);
            for (id, layer) in candidates {
                // Another copy of a dependency, which it may have been compiled against, can differ from this one.
                if layer.needs != needs || base.has_hash_of(&layer.name) {
                    continue;
                }
                match layer.link(&self.folder(id), &base.dir, base.owner)? {
                    Linked::All => {
                        base.insert(id, layer);
                        break;
                    }
                    Linked::Nothing => self.known().forget(id),
                }
            }
        }
        Ok(())
    }

    /// Links into `dir`, an empty folder, the layers of a base that units of `wanted` need. Leaves out those that were
    /// made where other packages than `code` could run code.
    ///
    /// Compiled build scripts lie in layers, and cargo runs one again, without a call of rustc, when its package wants
    /// it to. A cell whose output becomes layers must see only build scripts that may run in it.
    pub fn lay_for(
        &self,
        (code, wanted): (&Code, &BTreeSet<UnitKey>),
        units: &[Unit],
        base: &Base,
        dir: &Path,
    ) -> Result<Lower, CacheError> {
        let mut needed: BTreeSet<&UnitKey> = BTreeSet::new();
        for unit in units.iter().rev().filter(|unit| wanted.contains(&unit.key)) {
            needed.extend(&unit.needs);
        }
        // Each unit comes after those that it needs.
        for unit in units.iter().rev() {
            if needed.contains(&unit.key) {
                needed.extend(&unit.needs);
            }
        }
        let mut lower = Lower::default();
        for id in needed.into_iter().filter_map(|unit| base.by_key.get(unit)) {
            let layer = &base.laid[id];
            // One that is gone is compiled again.
            if layer.code.is_subset(code) && layer.link(&self.folder(*id), dir, base.owner)? == Linked::All {
                lower.units.insert(layer.name.clone());
            }
        }
        Ok(lower)
    }

    /// Makes layers of units that were completed in `upper`, in a cell over the folder `lower` that
    /// [`lay_for`](Self::lay_for) filled from `base` for `code`, and lays them. `made` has each unit after the units
    /// that it needs; `outside` are the other folders that the cell could write to, with their paths in it; `units` are
    /// all units of the crate.
    ///
    /// Takes a unit only if its package has exactly this code and all units that it needs are laid. Takes nothing from
    /// a cell that left a file outside the folders of its own units. `upper` is useless afterwards.
    pub fn take(
        &self,
        made: Vec<Made>,
        (code, units): (&Code, &[Unit]),
        (lower, upper, outside): (&Lower, &Path, &[(PathBuf, &str)]),
        base: &mut Base,
    ) -> Result<Taken, CacheError> {
        let laid = lower.units.iter().filter_map(|unit| harvest::split(unit)).map(|(_, hash)| hash);
        let mut taken = Taken { stranger: harvest::stranger(upper, &laid.collect())?, ..Taken::default() };
        for (folder, at) in outside {
            if !harvest::is_empty(folder)? {
                taken.stranger.get_or_insert_with(|| PathBuf::from(at));
            }
        }
        if taken.stranger.is_some() {
            return Ok(taken);
        }
        let mut crops = harvest(upper)?;

        let _lock = self.lock()?;
        // Layers that another process has made in the meantime come first: two copies of a unit may differ.
        self.lay(units, base)?;
        let mut new: BTreeMap<UnitKey, Id> = BTreeMap::new();
        let copies: BTreeSet<UnitKey> = made.iter().map(|made| made.unit.key.clone()).collect();
        for Made { unit, name } in made {
            // The cell's own copy of a unit goes before one that another process has made.
            let id_of = |need| if copies.contains(need) { new.get(need) } else { base.by_key.get(need) }.copied();
            let needs = unit.needs.iter().map(id_of).collect::<Option<BTreeSet<Id>>>();
            let is_known = base.has(&unit.key) || base.has_hash_of(&name);
            let crop = crops.remove(&name).flatten();
            let (Some(needs), Some(Crop { folders, files })) = (needs, crop) else { continue };
            // Only a cell for this very code gives its units.
            if is_known || *unit.code != *code {
                continue;
            }
            let Unit { key, package, .. } = unit;
            let (code, made) = (code.clone(), SystemTime::now());
            let layer = Layer { key: key.clone(), package, code, needs, name, folders, files, made };
            new.insert(key.clone(), self.add(layer, upper, base.owner)?);
            taken.units.insert(key);
        }
        self.lay(units, base)?;
        Ok(taken)
    }

    /// The fingerprint of a unit, `PACKAGE-HASH`, in a base or in the folder over it.
    pub fn fingerprint(base: &Base, upper: &Path, unit: &str) -> Option<Fingerprint> {
        harvest::fingerprint(upper, unit).or_else(|| harvest::fingerprint(&base.dir, unit))
    }

    /// Records that a crate uses the linked layers.
    pub fn note_uses(&self, base: &Base) {
        base.laid.keys().for_each(|id| note_use(&self.folder(*id)));
    }

    fn add(&self, mut layer: Layer, upper: &Path, from: Option<Owner>) -> Result<Id, CacheError> {
        let id = next_id(&self.dir)?;
        let mut known = self.known();
        // A clock that was set back must not make a layer older than the layers below it.
        let needed = layer.needs.iter().filter_map(|need| known.layers.get(need)).map(|need| need.made).max();
        layer.made = needed.map_or(layer.made, |made| made.max(layer.made));
        let new = self.dir.join(NEW);
        layer.write(&new, upper, from)?;
        let folder = self.folder(id);
        fs::rename(&new, &folder).map_err(CacheError::io("make", &folder))?;
        known.insert(id, layer);
        Ok(id)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other processes from adding. Removes a half-made layer of a process that died.
    fn lock(&self) -> Result<File, CacheError> {
        let lock = lock(&self.dir)?;
        let new = self.dir.join(NEW);
        remove_folder(&new).map_err(CacheError::io("remove", &new))?;
        Ok(lock)
    }

    fn folder(&self, id: Id) -> PathBuf {
        self.dir.join(folder_name(id))
    }

    /// Adds an op's tally to that of all runs.
    pub fn count(&self, tally: Tally) -> Result<(), CacheError> {
        let _lock = lock(&self.dir)?;
        tally.add(&self.dir);
        Ok(())
    }

    /// The note on `subject`, a file name. Marks it as read.
    pub fn noted(&self, subject: &str) -> Option<String> {
        let file = File::open(self.dir.join(NOTES).join(subject)).ok()?;
        let mut text = String::new();
        GzDecoder::new(&file).read_to_string(&mut text).ok()?;
        // At worst, the note goes earlier.
        let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        Some(text)
    }

    /// Notes a text on `subject`, a file name: something that holds for all crates of which the name can be made.
    pub fn note(&self, subject: &str, note: &str) -> Result<(), CacheError> {
        let notes = self.dir.join(NOTES);
        let path = notes.join(subject);
        let draft = tempfile::NamedTempFile::new_in(&notes).map_err(CacheError::io("write", &path))?;
        let mut packed = GzEncoder::new(draft.as_file(), Compression::fast());
        packed.write_all(note.as_bytes()).map_err(CacheError::io("write", &path))?;
        packed.finish().map_err(CacheError::io("write", &path))?;
        draft.persist(&path).map(drop).map_err(|error| CacheError::io("write", &path)(error.error))
    }
}

impl Known {
    /// Reads the layers that other processes have added, and forgets those that they removed.
    fn refresh(&mut self, dir: &Path) -> Result<(), CacheError> {
        let there: BTreeSet<Id> = ids_in(dir)?.into_iter().collect();
        let gone: Vec<Id> = self.layers.keys().filter(|id| !there.contains(id)).copied().collect();
        gone.into_iter().for_each(|id| self.forget(id));
        for id in there {
            if self.layers.contains_key(&id) || self.damaged.contains(&id) {
                continue;
            }
            match Layer::read(&dir.join(folder_name(id))) {
                Some(layer) => self.insert(id, layer),
                None => drop(self.damaged.insert(id)),
            }
        }
        Ok(())
    }

    fn insert(&mut self, id: Id, layer: Layer) {
        self.by_key.entry(layer.key.clone()).or_default().insert(id);
        self.layers.insert(id, Arc::new(layer));
    }

    fn forget(&mut self, id: Id) {
        self.damaged.insert(id);
        let Some(layer) = self.layers.remove(&id) else { return };
        if let Some(ids) = self.by_key.get_mut(&layer.key) {
            ids.remove(&id);
        }
    }

    /// The layers of a unit that its crate may be given, the oldest first.
    fn candidates(&self, unit: &Unit) -> Vec<(Id, Arc<Layer>)> {
        let ids = self.by_key.get(&unit.key).into_iter().flatten();
        let layers = ids.filter_map(|id| Some((*id, Arc::clone(self.layers.get(id)?))));
        layers.filter(|(_, layer)| layer.is_for(unit)).collect()
    }
}

/// Takes the lock of a key's folder.
pub(super) fn lock(dir: &Path) -> Result<File, CacheError> {
    let path = dir.join(LOCK);
    let lock = File::options().write(true).create(true).truncate(false).open(&path);
    let lock = lock.map_err(CacheError::io("open", &path))?;
    lock.lock().map_err(CacheError::io("lock", &path))?;
    Ok(lock)
}

/// Removes the notes in a key's folder that no run has read for long.
pub(super) fn forget_notes(dir: &Path) -> Result<(), CacheError> {
    let notes = dir.join(NOTES);
    let now = SystemTime::now();
    for entry in fs::read_dir(&notes).map_err(CacheError::io("list", &notes))?.flatten() {
        let path = entry.path();
        let read = path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(now);
        if now.duration_since(read).is_ok_and(|age| age > NOTE_LIFE) {
            fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
        }
    }
    Ok(())
}

pub(super) fn folder_name(id: Id) -> String {
    format!("{id:020}")
}

/// The layers in a key's folder, in no order.
pub(super) fn ids_in(dir: &Path) -> Result<Vec<Id>, CacheError> {
    let entries = fs::read_dir(dir).map_err(CacheError::io("list", dir))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Larger than all there are, and never one that was given before and is gone: other processes may remember it.
fn next_id(dir: &Path) -> Result<Id, CacheError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = Id::try_from(now.as_micros()).unwrap_or(0);
    Ok(ids_in(dir)?.into_iter().max().map_or(now, |last| now.max(last + 1)))
}
