//! Files and folders of a root under construction, found step by step and never through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid};

use super::errno_of;
use crate::sandbox::error::{Fault, Step};

/// The root of a cell while it is being furnished. Paths are absolute, as the cell will see them.
pub(super) struct Root(pub(super) OwnedFd);

/// How to open a place: not for reading, and a link as itself. As a folder it is then none.
const PLACE: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The target of a mount.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

impl Root {
    /// Opens the folder or file at `path`, made where it is missing, as are the folders above it.
    pub(super) fn place(&self, path: &Path, kind: Kind) -> Result<OwnedFd, Fault> {
        let fault = |errno| Fault::at(Step::MountPoint, path, errno);
        let names = names(path).map_err(fault)?;
        let mut place = self.0.try_clone().map_err(|error| fault(errno_of(&error)))?;
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            let kind = if is_last { kind } else { Kind::Folder };
            place = match open(&place, name, kind) {
                Err(Errno::ENOENT) => make(&place, name, kind).and_then(|()| open(&place, name, kind)),
                opened => opened,
            }
            .map_err(fault)?;
        }
        Ok(place)
    }

    /// Opens the file or folder at `path`, if it exists.
    pub(super) fn existing(&self, path: &Path) -> Result<Option<OwnedFd>, Fault> {
        let fault = |errno| Fault::at(Step::MountPoint, path, errno);
        let mut place = self.0.try_clone().map_err(|error| fault(errno_of(&error)))?;
        for name in names(path).map_err(fault)? {
            place = match open_any(&place, name) {
                Ok(place) => place,
                Err(Errno::ENOENT) => return Ok(None),
                Err(errno) => return Err(fault(errno)),
            };
        }
        Ok(Some(place))
    }

    /// Makes a link at `path`, and the folders above it where they are missing.
    pub(super) fn link(&self, path: &Path, target: &Path) -> Result<(), Fault> {
        let (folder, name) = self.parent(path)?;
        let fault = |errno| Fault::at(Step::RootFolder, path, errno);
        nix::unistd::symlinkat(target, &folder, name).map_err(fault)?;
        own_as_around(&folder, name).map_err(fault)
    }

    /// Writes a new file.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), Fault> {
        let fault = |errno| Fault::at(Step::RootFolder, path, errno);
        let (folder, name) = self.parent(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&folder, name, flags, Mode::from_bits_truncate(0o644)).map_err(fault)?;
        File::from(file).write_all(text.as_bytes()).map_err(|error| fault(errno_of(&error)))?;
        own_as_around(&folder, name).map_err(fault)
    }

    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Fault> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Fault::at(Step::RootFolder, path, Errno::EINVAL));
        };
        Ok((self.place(folder, Kind::Folder)?, name))
    }
}

fn open(folder: &OwnedFd, name: &OsStr, kind: Kind) -> nix::Result<OwnedFd> {
    if kind == Kind::Folder {
        return nix::fcntl::openat(folder, name, PLACE | OFlag::O_DIRECTORY, Mode::empty());
    }
    let place = open_any(folder, name)?;
    match fstat(&place)?.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Err(Errno::EISDIR),
        libc::S_IFLNK => Err(Errno::ELOOP),
        _ => Ok(place),
    }
}

fn open_any(folder: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    nix::fcntl::openat(folder, name, PLACE, Mode::empty())
}

/// Makes a folder or an empty file with the owner of the folder around it.
fn make(folder: &OwnedFd, name: &OsStr, kind: Kind) -> nix::Result<()> {
    match kind {
        Kind::Folder => mkdirat(folder, name, Mode::from_bits_truncate(0o755))?,
        Kind::File => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            nix::fcntl::openat(folder, name, flags, Mode::from_bits_truncate(0o644)).map(drop)?;
        }
    }
    own_as_around(folder, name)
}

/// Changes the owner of a folder's entry to the owner of the folder.
fn own_as_around(folder: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    let around = fstat(folder)?;
    let (uid, gid) = (Uid::from_raw(around.st_uid), Gid::from_raw(around.st_gid));
    nix::unistd::fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The names that an absolute path consists of.
fn names(path: &Path) -> nix::Result<Vec<&OsStr>> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err(Errno::EINVAL);
    }
    components
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => Err(Errno::EINVAL),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::mounts::open_folder;
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root(open_folder(folder.path()).unwrap());
        (folder, root)
    }

    #[test]
    fn missing_places_are_made_with_the_folders_above() {
        let (folder, root) = root();
        root.place(Path::new("/a/b"), Kind::Folder).unwrap();
        root.place(Path::new("/a/c/d"), Kind::File).unwrap();
        root.write(Path::new("/etc/hosts"), "x").unwrap();
        assert!(folder.path().join("a/b").is_dir());
        assert!(folder.path().join("a/c/d").is_file());
        assert_eq!(std::fs::read_to_string(folder.path().join("etc/hosts")).unwrap(), "x");
        assert!(root.existing(Path::new("/a/b")).unwrap().is_some());
        assert!(root.existing(Path::new("/a/x")).unwrap().is_none());
    }

    #[test]
    fn a_planted_link_leads_nowhere() {
        let (folder, root) = root();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("link")).unwrap();
        for (path, kind, errno) in [
            ("/link", Kind::Folder, Errno::ENOTDIR),
            ("/link/made", Kind::Folder, Errno::ENOTDIR),
            ("/link", Kind::File, Errno::ELOOP),
        ] {
            assert_eq!(root.place(Path::new(path), kind).unwrap_err().errno, errno as i32, "{path}");
        }
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn paths_that_climb_or_are_relative_are_refused() {
        let (_folder, root) = root();
        for path in ["a", "/a/../b", "", "/.."] {
            assert_eq!(root.place(Path::new(path), Kind::Folder).unwrap_err().errno, libc::EINVAL, "{path}");
        }
    }
}
