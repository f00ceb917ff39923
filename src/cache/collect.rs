//! Says how large the layers of a home are, and keeps them under a budget: least recently used first.
//!
//! A layer goes together with those that were compiled against it. Crates that are using one keep their links to its
//! files, so that nothing is taken from under a cell.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytesize::ByteSize;

use super::error::CacheError;
use super::layer::{Id, Layer, last_used};
use super::layers::{KEY, folder_name, ids_in, lock};
use super::tally::Tally;
use crate::sandbox::remove_folder;

/// The layers of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The toolchain that made them, as `rustc --version` prints it.
    pub toolchain: String,
    /// How many there are.
    pub layers: usize,
    /// How much space their files take.
    pub size: ByteSize,
    /// When one of them was last used; none if there is none.
    pub last_used: Option<SystemTime>,
    /// What ops have made of them so far.
    pub tally: Tally,
}

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many layers were removed.
    pub removed: usize,
    /// How much space that made, once no crate uses them any more.
    pub freed: ByteSize,
    /// How much space the others take.
    pub left: ByteSize,
}

/// Where a layer is: its key's folder, and its place there.
type Place = (PathBuf, Id);

/// Looks at the layers of every key in `cache`.
pub fn summarise(cache: &Path) -> Result<Vec<Summary>, CacheError> {
    let mut summaries = Vec::new();
    for key in keys(cache)? {
        let layers: Vec<(Layer, SystemTime)> = stored(&key)?.into_values().flatten().collect();
        let text = fs::read_to_string(key.join(KEY)).unwrap_or_default();
        let toolchain = text.lines().find_map(|line| line.strip_prefix("toolchain ")).unwrap_or("unknown");
        summaries.push(Summary {
            toolchain: toolchain.to_owned(),
            layers: layers.len(),
            size: ByteSize(layers.iter().map(|(layer, _)| layer.size()).sum()),
            tally: Tally::read(&key),
            last_used: layers.iter().map(|(_, used)| *used).max(),
        });
    }
    Ok(summaries)
}

/// Removes layers until the rest takes no more than `budget`, and whatever can't be read.
pub fn collect(cache: &Path, budget: ByteSize) -> Result<Collected, CacheError> {
    let mut locks = Vec::new();
    let mut sizes: BTreeMap<Place, u64> = BTreeMap::new();
    let mut dependents: BTreeMap<Place, Vec<Place>> = BTreeMap::new();
    let mut oldest_first: Vec<(SystemTime, Place)> = Vec::new();
    for key in keys(cache)? {
        locks.push(lock(&key)?);
        for (id, layer) in stored(&key)? {
            let place = (key.clone(), id);
            let Some((layer, used)) = layer else {
                remove(&place)?;
                continue;
            };
            for need in &layer.needs {
                dependents.entry((key.clone(), *need)).or_default().push(place.clone());
            }
            sizes.insert(place.clone(), layer.size());
            oldest_first.push((used, place));
        }
    }
    oldest_first.sort();
    let mut left: u64 = sizes.values().sum();
    let (all, before) = (sizes.len(), left);
    for (_, place) in oldest_first {
        let mut going = if left > budget.as_u64() { vec![place] } else { break };
        while let Some(place) = going.pop() {
            if let Some(size) = sizes.remove(&place) {
                remove(&place)?;
                left -= size;
                going.extend(dependents.remove(&place).into_iter().flatten());
            }
        }
    }
    Ok(Collected { removed: all - sizes.len(), freed: ByteSize(before - left), left: ByteSize(left) })
}

fn remove((key, id): &Place) -> Result<(), CacheError> {
    let folder = key.join(folder_name(*id));
    remove_folder(&folder).map_err(CacheError::io("remove", &folder))
}

/// The folders of keys.
fn keys(cache: &Path) -> Result<Vec<PathBuf>, CacheError> {
    match fs::read_dir(cache) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.join(KEY).exists()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CacheError::io("list", cache)(error)),
    }
}

/// The layers of a key, and when each was last used; none for those that were damaged.
fn stored(key: &Path) -> Result<BTreeMap<Id, Option<(Layer, SystemTime)>>, CacheError> {
    let layer = |id| {
        let folder = key.join(folder_name(id));
        (id, Layer::read(&folder).map(|layer| (layer, last_used(&folder))))
    };
    Ok(ids_in(key)?.into_iter().map(layer).collect())
}
