//! One layer on disk: `record.json` lists its units and the layers below it, `files/` holds the units.
//!
//! A layer is written beside its place and moved there whole; after that nothing in it changes but the time of its
//! record, whose time is that of the last use.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::CacheError;
use super::harvest::UnitFile;
use super::unit::{Code, Unit, UnitKey};
use crate::owner::Owner;
use crate::sandbox::Door;

/// The place of a layer among those of its key: the next one is always larger, and stands on smaller ones only.
pub(super) type Id = u64;

const RECORD: &str = "record.json";
const FILES: &str = "files";

/// In bytes: what nearly all file systems use.
const BLOCK: u64 = 4096;

/// A use is noted when the last one that was is older than this.
const USE_RESOLUTION: Duration = Duration::from_secs(600);

/// One unit, and how it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Layer {
    /// The unit.
    pub(super) key: UnitKey,
    /// The package, as `NAME-VERSION`, that it belongs to.
    pub(super) package: String,
    /// The packages whose code could run in the cell that made it.
    pub(super) code: Code,
    /// The layers that it was compiled against.
    pub(super) needs: BTreeSet<Id>,
    /// Its name in target folders, `PACKAGE-HASH`.
    pub(super) name: String,
    /// Its folders, parents first.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Its files.
    pub(super) files: Vec<UnitFile>,
    /// The time of all its files: not before that of any layer that it needs, for cargo compares.
    pub(super) made: SystemTime,
}

impl Layer {
    /// Whether a crate that has this unit may be given this layer: its build of the unit's package runs all code that
    /// could have changed the layer.
    pub(super) fn is_for(&self, unit: &Unit) -> bool {
        self.key == unit.key && self.package == unit.package && self.code.is_subset(&unit.code)
    }

    /// The disk space of its files, in bytes. Each takes whole blocks, and one for its inode.
    pub(super) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size.next_multiple_of(BLOCK) + BLOCK).sum()
    }

    /// Reads the record of a layer. `None`: it is not there, or was damaged by a power loss.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()
    }

    /// Moves the files of a crop from `target`, where cells were `from`, into a new layer at `folder`.
    pub(super) fn write(&self, folder: &Path, target: &Path, from: Option<Owner>) -> Result<(), CacheError> {
        fs::create_dir(folder).map_err(CacheError::io("make", folder))?;
        let files = folder.join(FILES);
        fs::create_dir(&files).map_err(CacheError::io("make", &files))?;
        let door = Door::open(target).map_err(CacheError::io("open", target))?;
        for UnitFile { path, executable, .. } in &self.files {
            let to = files.join(path);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(CacheError::io("make", parent))?;
            }
            // Every job has another user, and all must be let write. None does: these files lie below an overlay.
            let mode = match (from, executable) {
                (Some(_), true) => 0o777,
                (Some(_), false) => 0o666,
                (None, true) => 0o755,
                (None, false) => 0o644,
            };
            let times = FileTimes::new().set_modified(self.made);
            door.take(path, &to, mode, times).map_err(CacheError::io("move", &target.join(path)))?;
        }
        let record = folder.join(RECORD);
        let json = serde_json::to_vec(self).map_err(io::Error::from);
        json.and_then(|json| fs::write(&record, json)).map_err(CacheError::io("write", &record))
    }

    /// Links all files of the layer at `folder` into `base`, or none. What build scripts wrote becomes `owner`'s.
    pub(super) fn link(&self, folder: &Path, base: &Path, owner: Option<Owner>) -> Result<Linked, CacheError> {
        for path in &self.folders {
            make_below(base, path, owner)?;
        }
        let files = folder.join(FILES);
        for (done, UnitFile { path, size, .. }) in self.files.iter().enumerate() {
            let (from, to) = (files.join(path), base.join(path));
            if let Some(parent) = path.parent() {
                make_below(base, parent, owner)?;
            }
            // A power loss may have cut it short.
            let is_whole = from.symlink_metadata().is_ok_and(|metadata| metadata.len() == *size);
            let linked = match owner {
                _ if !is_whole => Err(io::ErrorKind::NotFound.into()),
                Some(owner) if is_a_scripts_own(path) => self.copy(&from, &to, owner),
                Some(_) | None => fs::hard_link(&from, &to),
            };
            match linked {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                    for UnitFile { path, .. } in &self.files[..done] {
                        fs::remove_file(base.join(path)).map_err(CacheError::io("remove", &base.join(path)))?;
                    }
                    return Ok(Linked::Nothing);
                }
                Err(error) => return Err(CacheError::io("link", &from)(error)),
            }
        }
        Ok(Linked::All)
    }
}

impl Layer {
    /// Copies a file of the layer for its new owner.
    fn copy(&self, from: &Path, to: &Path, Owner { uid, gid }: Owner) -> io::Result<()> {
        let mut from = File::open(from)?;
        let mut to = File::options().write(true).create_new(true).open(to)?;
        io::copy(&mut from, &mut to)?;
        let mode = from.metadata()?.permissions().mode() & 0o755;
        fchown(&to, Some(uid), Some(gid))?;
        to.set_permissions(Permissions::from_mode(mode))?;
        to.set_times(FileTimes::new().set_modified(self.made))
    }
}

/// Whether a build script wrote this file. It may run again, and then do to the file what only an owner may: change its
/// mode or its time, as copying over it does. cargo and rustc write to their files, or replace them.
fn is_a_scripts_own(path: &Path) -> bool {
    // debug/build/PACKAGE-HASH/out/…
    let names: Vec<_> = path.iter().take(4).collect();
    matches!(names[..], [_, build, _, out] if build == "build" && out == "out")
}

/// Whether a layer could be linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Linked {
    All,
    /// Another process has removed some of it, or a file of another layer is in the way.
    Nothing,
}

/// When a layer was last used.
pub(super) fn last_used(folder: &Path) -> SystemTime {
    fs::metadata(folder.join(RECORD)).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Best effort: a use that isn't noted makes a layer look older than it is.
pub(super) fn note_use(folder: &Path) {
    let now = SystemTime::now();
    let noted = File::open(folder.join(RECORD)).and_then(|file| Ok((file.metadata()?.modified()?, file)));
    if let Ok((last, file)) = noted
        && now.duration_since(last).is_ok_and(|age| age > USE_RESOLUTION)
    {
        let _ = file.set_times(FileTimes::new().set_modified(now));
    }
}

/// Makes a folder below `base`, and its parents, for cells to write to.
fn make_below(base: &Path, path: &Path, owner: Option<Owner>) -> Result<(), CacheError> {
    let full = base.join(path);
    match fs::create_dir(&full) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                make_below(base, parent, owner)?;
            }
            fs::create_dir(&full).map_err(CacheError::io("make", &full))?;
        }
        made => made.map_err(CacheError::io("make", &full))?,
    }
    let given = owner.map_or(Ok(()), |Owner { uid, gid }| chown(&full, Some(uid), Some(gid)));
    given
        .and_then(|()| fs::set_permissions(&full, Permissions::from_mode(0o755)))
        .map_err(CacheError::io("open up", &full))
}
