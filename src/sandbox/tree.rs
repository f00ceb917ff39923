//! Walks folders that hostile code has made: of any depth and width, without following links, while they change.
//!
//! The first levels stay open, so that no folder that is moved about loses the way back to them. Below, two open
//! folders are enough for any depth: the way up is `..`, checked to be the folder that the way down came from.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

/// Whether a walk is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Stop,
}

/// A folder on the way, and what below it is still to be walked.
struct Level {
    status: FileStat,
    folders: Vec<CString>,
    /// Of the first levels, which stay open.
    folder: Option<OwnedFd>,
}

/// How many levels stay open: more than packages and target folders have, and few enough for many walks in parallel.
const OPEN: usize = 24;

/// A folder and nothing else, not even a link to one.
pub(super) const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Shows a folder and all that is in it to `visit`, in no order. What vanishes or may not be read is left out.
///
/// # Errors
/// When the folder itself can't be opened, or with `ESTALE` when folders were moved about so that some were not seen;
/// all others were.
pub(super) fn walk(folder: &Path, visit: &mut impl FnMut(&FileStat) -> Go) -> nix::Result<()> {
    let mut here = nix::fcntl::open(folder, FOLDER, Mode::empty())?;
    let status = fstat(&here)?;
    if visit(&status) == Go::Stop {
        return Ok(());
    }
    let Some(level) = look(&here, status, visit)? else { return Ok(()) };
    let mut levels = Vec::new();
    push(&mut levels, level, &here)?;
    let mut seen = Ok(());
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.folders.pop() else {
            levels.pop();
            let Some(above) = levels.last() else { break };
            match back(&here, above) {
                Ok(above) => here = above,
                // The folder above was moved, or its owner closed it.
                Err(_) => {
                    seen = Err(Errno::ESTALE);
                    while levels.last().is_some_and(|level| level.folder.is_none()) {
                        levels.pop();
                    }
                    let Some(open) = levels.last() else { break };
                    here = back(&here, open)?;
                }
            }
            continue;
        };
        let Ok(below) = openat(&here, name.as_c_str(), FOLDER, Mode::empty()) else { continue };
        let status = fstat(&below)?;
        // A mount is not a part of this tree.
        if status.st_dev != level.status.st_dev {
            continue;
        }
        match look(&below, status, visit) {
            Ok(Some(level)) => push(&mut levels, level, &below)?,
            Ok(None) => return Ok(()),
            // Its owner has closed it. The walk goes on with the other folders.
            Err(_) => continue,
        }
        here = below;
    }
    seen
}

/// Adds a level, whose folder is `here`.
fn push(levels: &mut Vec<Level>, level: Level, here: &OwnedFd) -> nix::Result<()> {
    let folder = if levels.len() < OPEN { Some(duplicate(here)?) } else { None };
    levels.push(Level { folder, ..level });
    Ok(())
}

/// The folder of the level above `from`.
fn back(from: &OwnedFd, above: &Level) -> nix::Result<OwnedFd> {
    above.folder.as_ref().map_or_else(|| climb(from, &above.status), duplicate)
}

fn duplicate(folder: &OwnedFd) -> nix::Result<OwnedFd> {
    folder.try_clone().map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// Visits the entries of a folder; `None`: the walk is over.
fn look(folder: &OwnedFd, status: FileStat, visit: &mut impl FnMut(&FileStat) -> Go) -> nix::Result<Option<Level>> {
    let mut folders = Vec::new();
    let mut entries = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    for entry in entries.iter() {
        let Ok(entry) = entry else { break };
        let name: &CStr = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(found) = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        if visit(&found) == Go::Stop {
            return Ok(None);
        }
        if entry.file_type().is_none_or(|kind| kind == Type::Directory) {
            folders.push(name.to_owned());
        }
    }
    Ok(Some(Level { status, folders, folder: None }))
}

/// Opens the folder above, which must be the one that is expected.
pub(super) fn climb(from: &OwnedFd, expected: &FileStat) -> nix::Result<OwnedFd> {
    let above = openat(from, "..", FOLDER, Mode::empty())?;
    let found = fstat(&above)?;
    if (found.st_dev, found.st_ino) == (expected.st_dev, expected.st_ino) { Ok(above) } else { Err(Errno::ESTALE) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A folder `one/` with so many levels, a file in each, that walks away to `two/` while the walk is in the last
    /// level.
    fn walk_away(levels: usize) -> (nix::Result<()>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let deepest = (0..levels).fold(dir.path().join("one"), |path: PathBuf, _| path.join("d"));
        fs::create_dir_all(&deepest).unwrap();
        let mut path = dir.path().to_owned();
        for name in std::iter::once("one").chain(std::iter::repeat_n("d", levels)) {
            path = path.join(name);
            fs::write(path.join("file"), "").unwrap();
        }
        fs::create_dir(dir.path().join("two")).unwrap();
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(deepest.join("file")).unwrap());
        let mut files = 0;
        let walked = walk(dir.path(), &mut |status| {
            files += usize::from(status.st_mode & libc::S_IFMT == libc::S_IFREG);
            if status.st_ino == inode {
                // The deepest folder, so that its `..` leads elsewhere.
                let _ = fs::rename(&deepest, dir.path().join("two/moved"));
            }
            Go::On
        });
        (walked, files)
    }

    #[test]
    fn a_folder_that_is_moved_away_loses_no_other_from_sight() {
        for levels in [1, 5, OPEN - 2] {
            let (walked, files) = walk_away(levels);
            assert_eq!(walked, Ok(()), "{levels}");
            assert!(files > levels, "{levels}: {files}");
        }
    }

    #[test]
    fn a_closed_folder_does_not_hide_others() {
        let dir = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        set(dir.path(), 0o755);
        for number in 0..20 {
            let (open, shut) = (dir.path().join(format!("open-{number}")), dir.path().join(format!("shut-{number}")));
            fs::create_dir(&open).unwrap();
            fs::write(open.join("file"), "").unwrap();
            fs::create_dir(&shut).unwrap();
            // An ordinary user can list it, and can't reach its entries.
            set(&shut, 0o444);
        }
        let mut files = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Of this thread only: root reaches everything.
                // SAFETY: takes numbers.
                unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
                walk(dir.path(), &mut |status| {
                    files += usize::from(status.st_mode & libc::S_IFMT == libc::S_IFREG);
                    Go::On
                })
                .unwrap();
            });
        });
        assert_eq!(files, 20);
    }

    #[test]
    fn folders_too_deep_to_stay_open_are_missed_and_that_is_said() {
        assert_eq!(walk_away(OPEN + 5).0, Err(Errno::ESTALE));
    }
}
