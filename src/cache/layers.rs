//! The layers of one key: gives a crate those that are for it, and takes in what it compiled.
//!
//! Processes share them through the file system. Only adding takes a lock, and only for as long as files are renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use super::claims::Claims;
use super::error::CacheError;
use super::graph::{Code, Graph, Group};
use super::harvest::{self, UnitFile, harvest};
use super::key::Key;
use super::layer::{Id, Layer, Linked, note_use};
use super::tally::Tally;
use crate::owner::Owner;
use crate::sandbox::{Door, remove_folder};

/// The layers of one key. Clones are the same layers.
#[derive(Debug, Clone)]
pub struct Layers {
    dir: PathBuf,
    known: Arc<Mutex<Known>>,
    claims: Claims,
    rustc_info: Arc<OnceLock<Vec<u8>>>,
}

/// What this process knows of the layers on disk.
#[derive(Debug, Default)]
struct Known {
    layers: BTreeMap<Id, Arc<Layer>>,
    by_package: BTreeMap<String, BTreeSet<Id>>,
    /// Those that could not be read, or whose files were not whole.
    damaged: BTreeSet<Id>,
}

/// The folder that a crate's target folder is laid over: links to the files of the layers that are for it.
#[derive(Debug, Clone)]
pub struct Base {
    dir: PathBuf,
    /// Who the cells over it are, if not maar's own user.
    owner: Option<Owner>,
    /// What may not be laid under the units that are there already: they were made without it.
    occupied: BTreeSet<String>,
    laid: BTreeMap<Id, Arc<Layer>>,
}

/// The key in words; it also tells a folder of layers from anything else.
pub(super) const KEY: &str = "key.txt";
const LOCK: &str = ".lock";
/// What a layer is called until it is whole.
const NEW: &str = ".new";
/// How large cargo's notes on rustc may be, in bytes; they have 2 to 5 KiB.
const MAX_RUSTC_INFO: u64 = 64 << 10;
/// Where notes on crates are kept.
const NOTES: &str = "notes";

impl Base {
    /// An empty base in `dir`, for a target folder whose own changes are in `upper`, in cells that are `owner`.
    pub fn new(dir: PathBuf, upper: &Path, owner: Option<Owner>) -> Result<Self, CacheError> {
        Ok(Self { dir, owner, occupied: harvest::units_in(upper)?, laid: BTreeMap::new() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether something of a package is laid.
    pub fn has(&self, package: &str) -> bool {
        self.laid.values().any(|layer| layer.packages.contains(package))
    }

    /// Whether there are units of a crate's dependencies already where the base will be laid under.
    pub fn is_occupied_by(&self, graph: &Graph) -> bool {
        let names: BTreeSet<&str> = self.occupied.iter().filter_map(|unit| harvest::package_of(unit)).collect();
        graph.names().any(|name| names.contains(name))
    }

    fn has_unit_of(&self, layer: &Layer) -> bool {
        let laid = |unit| self.occupied.contains(unit) || self.laid.values().any(|layer| layer.units.contains(unit));
        layer.units.iter().any(laid)
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
        let (known, claims, rustc_info) = Default::default();
        Ok(Self { dir, known, claims, rustc_info })
    }

    /// What this process is compiling for them now.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What cargo noted of the key's rustc in a cell where no code of strangers ran; none before the first one.
    pub fn rustc_info(&self) -> Option<&[u8]> {
        self.rustc_info.get().map(Vec::as_slice)
    }

    /// Takes that from the file `name` in `upper`, if it isn't known yet. Without it, cargo asks rustc again.
    ///
    /// A cell wrote the folder, so only a regular file of cargo's form is taken.
    pub fn learn_rustc_info(&self, upper: &Path, name: &str) {
        if self.rustc_info.get().is_none()
            && let Ok(info) = Door::open(upper).and_then(|door| door.read(Path::new(name), MAX_RUSTC_INFO))
            && is_rustc_info(&info)
        {
            let _ = self.rustc_info.set(info);
        }
    }

    /// Links every layer that is for a crate into its base, except those that are there.
    pub fn lay(&self, graph: &Graph, base: &mut Base) -> Result<(), CacheError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.refresh(&self.dir)?;
        let candidates = known.candidates(graph);
        drop(known);
        // In the order in which they were made, each comes after what it needs.
        for (id, layer) in candidates {
            let is_founded = layer.needs.iter().all(|need| base.laid.contains_key(need));
            if !is_founded || base.laid.contains_key(&id) || base.has_unit_of(&layer) {
                continue;
            }
            match layer.link(&self.folder(id), &base.dir, base.owner)? {
                Linked::All => drop(base.laid.insert(id, layer)),
                Linked::Nothing => self.known.lock().unwrap_or_else(PoisonError::into_inner).forget(id),
            }
        }
        Ok(())
    }

    /// Links into `dir`, an empty folder, what of a base was made where no code ran but `code`.
    ///
    /// Compiled build scripts lie in layers, and cargo runs one again without asking anybody when its crate wants it to. A
    /// cell of which something is taken must not see others than those that may run in it.
    pub fn lay_for(&self, code: &Code, base: &Base, dir: &Path) -> Result<(), CacheError> {
        let allowed = base.laid.iter().filter(|(_, layer)| layer.code.is_subset(code));
        for (id, layer) in allowed {
            // One that is gone is compiled again.
            let (Linked::All | Linked::Nothing) = layer.link(&self.folder(*id), dir, base.owner)?;
        }
        Ok(())
    }

    /// Takes in what was completed in `upper`, in a cell over what [`lay_for`](Self::lay_for) links of `base` for
    /// `code`, where no other code ran, and lays it.
    ///
    /// Takes units of packages with exactly this code, and only if all that they were compiled against is laid. Says
    /// how many dependencies it took; `upper` is of no use afterwards.
    pub fn take(&self, graph: &Graph, code: &Code, upper: &Path, base: &mut Base) -> Result<usize, CacheError> {
        if !code.is_empty() && harvest::has_strangers(upper)? {
            return Ok(0);
        }
        let mut crops = harvest(upper)?;
        let groups = graph.groups(code, |name| crops.contains_key(name));

        let _lock = self.lock()?;
        // What another process has compiled in the meantime comes first: two copies of a unit may differ.
        self.lay(graph, base)?;
        let mut taken: BTreeMap<Id, BTreeSet<String>> = BTreeMap::new();
        let mut refused: BTreeSet<String> = BTreeSet::new();
        let mut count = 0;
        for Group { names, packages: versions } in groups {
            let crop = names.iter().map(|name| crops.remove(*name).flatten()).reduce(|all, crop| {
                let mut all = all?;
                all.join(crop?);
                Some(all)
            });
            let Some(crop) = crop.flatten() else {
                refused.extend(versions);
                continue;
            };
            let below: BTreeSet<&String> = versions.iter().filter_map(|one| graph.closure(one)).flatten().collect();
            let laid = base.laid.iter().map(|(id, layer)| (*id, &layer.packages));
            let needs = laid.chain(taken.iter().map(|(id, packages)| (*id, packages)));
            let needs = needs.filter(|(_, packages)| packages.iter().any(|one| below.contains(one)));
            let layer = Layer::new(versions.clone(), code, needs.map(|(id, _)| id).collect(), crop);
            if below.iter().any(|one| refused.contains(*one)) || base.has_unit_of(&layer) {
                refused.extend(versions);
                continue;
            }
            taken.insert(self.add(layer, upper, base.owner)?, versions);
            count += names.len();
        }
        self.lay(graph, base)?;
        Ok(count)
    }

    /// Takes out of a base what cargo doesn't use, given the hashes of the units that it does.
    ///
    /// A crate that looks into its target folder should find there what it would have compiled, and no second copy of a
    /// dependency that another crate wanted otherwise.
    pub fn keep_used(&self, used: &BTreeSet<String>, base: &mut Base) -> Result<(), CacheError> {
        let is_used = |path: &Path| harvest::unit_hash(path).is_some_and(|hash| used.contains(hash));
        for layer in base.laid.values() {
            for UnitFile { path, .. } in layer.files.iter().filter(|file| !is_used(&file.path)) {
                let path = base.dir.join(path);
                fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
            }
            for path in layer.folders.iter().rev().filter(|path| !is_used(path)) {
                // An empty one tells nobody anything.
                let _ = fs::remove_dir(base.dir.join(path));
            }
        }
        base.laid.retain(|_, layer| layer.files.iter().any(|file| is_used(&file.path)));
        Ok(())
    }

    /// Notes that a crate uses what is laid.
    pub fn note_uses(&self, base: &Base) {
        base.laid.keys().for_each(|id| note_use(&self.folder(*id)));
    }

    fn add(&self, mut layer: Layer, upper: &Path, from: Option<Owner>) -> Result<Id, CacheError> {
        let id = next_id(&self.dir)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make a layer older than what it was compiled against.
        let needed = layer.needs.iter().filter_map(|need| known.layers.get(need)).map(|need| need.made).max();
        layer.made = needed.map_or(layer.made, |made| made.max(layer.made));
        let new = self.dir.join(NEW);
        layer.write(&new, upper, from)?;
        let folder = self.folder(id);
        fs::rename(&new, &folder).map_err(CacheError::io("make", &folder))?;
        known.insert(id, layer);
        Ok(id)
    }

    /// Keeps other processes from adding. What one that died left half done is removed.
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

    /// What was noted of `subject`, if all that was laid then is laid in `base`.
    pub fn noted(&self, subject: &str, base: &Base) -> Option<String> {
        let text = fs::read_to_string(self.dir.join(NOTES).join(subject)).ok()?;
        let (ids, note) = text.split_once('\n')?;
        are_all(ids, |id| base.laid.contains_key(&id)).then(|| note.to_owned())
    }

    /// Notes a line on `subject`, a file name, that is true wherever all that is laid in `base` is laid.
    pub fn note(&self, subject: &str, base: &Base, note: &str) -> Result<(), CacheError> {
        let notes = self.dir.join(NOTES);
        let path = notes.join(subject);
        let ids: String = base.laid.keys().map(|id| format!("{id} ")).collect();
        let draft = tempfile::NamedTempFile::new_in(&notes).map_err(CacheError::io("write", &path))?;
        fs::write(draft.path(), format!("{ids}\n{note}")).map_err(CacheError::io("write", &path))?;
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
        for package in &layer.packages {
            self.by_package.entry(package.clone()).or_default().insert(id);
        }
        self.layers.insert(id, Arc::new(layer));
    }

    fn forget(&mut self, id: Id) {
        self.damaged.insert(id);
        let Some(layer) = self.layers.remove(&id) else { return };
        for package in &layer.packages {
            if let Some(ids) = self.by_package.get_mut(package) {
                ids.remove(&id);
            }
        }
    }

    /// The layers that a crate may be given, the oldest first.
    fn candidates(&self, graph: &Graph) -> Vec<(Id, Arc<Layer>)> {
        let ids: BTreeSet<Id> =
            graph.folders().filter_map(|folder| self.by_package.get(folder)).flatten().copied().collect();
        let layers = ids.into_iter().filter_map(|id| Some((id, Arc::clone(self.layers.get(&id)?))));
        layers.filter(|(_, layer)| layer.is_for(graph)).collect()
    }
}

/// Whether bytes have the form of cargo's notes on rustc.
fn is_rustc_info(bytes: &[u8]) -> bool {
    let is_object = |value: Option<&serde_json::Value>| value.is_some_and(serde_json::Value::is_object);
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|info| {
        info.get("rustc_fingerprint").is_some_and(serde_json::Value::is_u64) && is_object(info.get("outputs"))
    })
}

/// Takes the lock of a key's folder.
pub(super) fn lock(dir: &Path) -> Result<File, CacheError> {
    let path = dir.join(LOCK);
    let lock = File::options().write(true).create(true).truncate(false).open(&path);
    let lock = lock.map_err(CacheError::io("open", &path))?;
    lock.lock().map_err(CacheError::io("lock", &path))?;
    Ok(lock)
}

/// Removes the notes in a key's folder that hold nowhere any more, as a layer that they were noted over is gone.
pub(super) fn forget_notes(dir: &Path, is_there: impl Fn(Id) -> bool) -> Result<(), CacheError> {
    let notes = dir.join(NOTES);
    for entry in fs::read_dir(&notes).map_err(CacheError::io("list", &notes))?.flatten() {
        let path = entry.path();
        // Another process is about to give a draft its name.
        let is_draft = entry.file_name().as_bytes().starts_with(b".");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let holds = text.split_once('\n').is_some_and(|(ids, _)| are_all(ids, &is_there));
        if !is_draft && !holds {
            fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether all layers of a note are such.
fn are_all(ids: &str, is: impl Fn(Id) -> bool) -> bool {
    ids.split_whitespace().all(|id| id.parse().is_ok_and(&is))
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
