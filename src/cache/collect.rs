//! Measures the layers of a home, and keeps them under a budget: least recently used first.
//!
//! A layer goes after those that were compiled against it. Crates that are using one keep their links to its
//! files, so that nothing is taken from under a cell.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytesize::ByteSize;

use super::error::CacheError;
use super::layer::{Id, Layer, last_used};
use super::layers::{KEY, folder_name, forget_notes, ids_in, lock};
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
    /// The last use of any of them; `None` without layers.
    pub last_used: Option<SystemTime>,
    /// What ops have made of them so far.
    pub tally: Tally,
}

/// The result of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many layers were removed.
    pub removed: usize,
    /// How much space that made, once no crate uses them any more.
    pub freed: ByteSize,
    /// How much space the others take.
    pub left: ByteSize,
}

/// Such as `removed 3 layers, 1.2 GiB; 19.6 GiB left`.
impl fmt::Display for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { removed, freed, left } = self;
        let layers = if *removed == 1 { "layer" } else { "layers" };
        write!(f, "removed {removed} {layers}, {}; {} left", freed.display().iec(), left.display().iec())
    }
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

/// Collects if the layers take more than `budget`; otherwise no lock is needed.
pub fn keep_within(cache: &Path, budget: ByteSize) -> Result<Collected, CacheError> {
    let size = ByteSize(summarise(cache)?.iter().map(|summary| summary.size.as_u64()).sum());
    if size > budget { collect(cache, budget) } else { Ok(Collected { left: size, ..Collected::default() }) }
}

/// Removes layers until the rest takes no more than `budget`, and useless ones: layers that can't be read, layers that
/// were compiled against layers that are gone, and notes that no run has read for long.
pub fn collect(cache: &Path, budget: ByteSize) -> Result<Collected, CacheError> {
    let mut locks = Vec::new();
    let mut stock = Stock::default();
    for key in keys(cache)? {
        locks.push(lock(&key)?);
        for (id, layer) in stored(&key)? {
            let place = (key.clone(), id);
            match layer {
                Some((layer, used)) => stock.add(&place, &layer, used),
                None => remove(&place)?,
            }
        }
    }
    let (layers, size) = (stock.layers.len(), stock.size);
    stock.remove(stock.unfounded())?;
    for place in stock.oldest_first() {
        if stock.size <= budget.as_u64() {
            break;
        }
        stock.remove(vec![place])?;
    }
    for key in keys(cache)? {
        forget_notes(&key)?;
    }
    let removed = layers - stock.layers.len();
    Ok(Collected { removed, freed: ByteSize(size - stock.size), left: ByteSize(stock.size) })
}

/// All layers there are.
#[derive(Default)]
struct Stock {
    /// How large each is, and when it was last used.
    layers: BTreeMap<Place, (u64, SystemTime)>,
    dependents: BTreeMap<Place, Vec<Place>>,
    size: u64,
}

impl Stock {
    fn add(&mut self, place: &Place, layer: &Layer, used: SystemTime) {
        for need in &layer.needs {
            self.dependents.entry((place.0.clone(), *need)).or_default().push(place.clone());
        }
        self.size += layer.size();
        self.layers.insert(place.clone(), (layer.size(), used));
    }

    /// Those used least recently first, and each after all that was compiled against it: who uses that uses both,
    /// though the times that were noted may differ by some minutes. So no more goes than has to.
    fn oldest_first(&self) -> Vec<Place> {
        let mut places: Vec<&Place> = self.layers.keys().collect();
        // A layer compiled against another always has the larger number.
        places.sort_by_key(|(_, id)| Reverse(*id));
        let mut last_used: BTreeMap<&Place, SystemTime> = BTreeMap::new();
        for place in &places {
            let dependents = self.dependents.get(*place).into_iter().flatten();
            let uses = dependents.filter_map(|dependent| last_used.get(dependent)).copied();
            let own = self.layers[*place].1;
            last_used.insert(place, uses.fold(own, SystemTime::max));
        }
        // A stable sort: of the same time, the larger number stays first.
        places.sort_by_key(|place| last_used[place]);
        places.into_iter().cloned().collect()
    }

    /// A layer that a process compiled against another one, which was removed in the meantime.
    fn unfounded(&self) -> Vec<Place> {
        let gone = self.dependents.iter().filter(|(need, _)| !self.layers.contains_key(need));
        gone.flat_map(|(_, dependents)| dependents).cloned().collect()
    }

    /// Removes these layers, and the layers compiled against them.
    fn remove(&mut self, mut going: Vec<Place>) -> Result<(), CacheError> {
        while let Some(place) = going.pop() {
            if let Some((size, _)) = self.layers.remove(&place) {
                remove(&place)?;
                self.size -= size;
                going.extend(self.dependents.remove(&place).into_iter().flatten());
            }
        }
        Ok(())
    }
}

fn remove((key, id): &Place) -> Result<(), CacheError> {
    let folder = key.join(folder_name(*id));
    remove_folder(&folder).map_err(CacheError::io("remove", &folder))
}

/// The folders of keys, sorted: two processes that take all their locks in one order never wait for each other.
fn keys(cache: &Path) -> Result<Vec<PathBuf>, CacheError> {
    match fs::read_dir(cache) {
        Ok(entries) => {
            let paths = entries.flatten().map(|entry| entry.path());
            let mut keys: Vec<PathBuf> = paths.filter(|path| path.join(KEY).exists()).collect();
            keys.sort();
            Ok(keys)
        }
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
