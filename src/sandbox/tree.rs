//! Walks folders that hostile code has made: of any depth and width, without following links, while they change.
//!
//! Two open folders are enough for any depth: the way up is `..`, checked to be the folder that the way down came from.

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
}

/// A folder and nothing else, not even a link to one.
pub(super) const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Shows a folder and all that is in it to `visit`, in no order. What vanishes or may not be read is left out.
///
/// # Errors
/// When the folder itself can't be opened, or folders are moved about so that the way back is lost.
pub(super) fn walk(folder: &Path, visit: &mut impl FnMut(&FileStat) -> Go) -> nix::Result<()> {
    let mut here = nix::fcntl::open(folder, FOLDER, Mode::empty())?;
    let status = fstat(&here)?;
    if visit(&status) == Go::Stop {
        return Ok(());
    }
    let Some(level) = look(&here, status, visit)? else { return Ok(()) };
    let mut levels = vec![level];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.folders.pop() else {
            levels.pop();
            if let Some(above) = levels.last() {
                here = climb(&here, &above.status)?;
            }
            continue;
        };
        let Ok(below) = openat(&here, name.as_c_str(), FOLDER, Mode::empty()) else { continue };
        let status = fstat(&below)?;
        // A mount is not what this tree holds.
        if status.st_dev != level.status.st_dev {
            continue;
        }
        here = below;
        match look(&here, status, visit)? {
            Some(level) => levels.push(level),
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Visits what is in a folder; `None`: the walk is over.
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
    Ok(Some(Level { status, folders }))
}

/// Opens the folder above, which must be the one that is expected.
pub(super) fn climb(from: &OwnedFd, expected: &FileStat) -> nix::Result<OwnedFd> {
    let above = openat(from, "..", FOLDER, Mode::empty())?;
    let found = fstat(&above)?;
    if (found.st_dev, found.st_ino) == (expected.st_dev, expected.st_ino) { Ok(above) } else { Err(Errno::ESTALE) }
}
