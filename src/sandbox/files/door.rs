//! Reads and replaces files of a folder that commands have written to, without leaving the folder.
//!
//! Only regular files are opened, and no link is followed: neither the last name of a path nor a folder on the way.
//! Every read and every list has a bound. [`remove_folder`](super::super::remove_folder) removes folders under the same
//! rules.

use std::ffi::{CString, OsStr};
use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::super::tree::FOLDER;
use crate::owner::Owner;

/// An open folder that commands have written to.
#[derive(Debug)]
pub struct Door {
    folder: OwnedFd,
}

/// The kind of an entry in such a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A link, a device, a pipe or a socket, or something behind a link.
    Other,
}

impl Door {
    /// Opens a folder by a path that only maar could have changed.
    ///
    /// # Errors
    /// When it isn't there or is not a folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: open(folder, FOLDER, Mode::empty())? })
    }

    /// Reads a regular file below the folder that has no second name and at most `max` bytes.
    ///
    /// # Errors
    /// When a name of the path is a link, the file is not such a file, or it can't be read.
    pub fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let file = File::from(self.reach(path, FILE).map_err(explain)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("it is not a regular file with one name"));
        }
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
        }
        Ok(bytes)
    }

    /// The names in a folder below this one, `.` for itself; bytes that are not UTF-8 become U+FFFD, so that nothing is
    /// found under such a name. `None`: the folder doesn't exist, or a link is in its place.
    ///
    /// # Errors
    /// When it holds more than `max` names or can't be read.
    pub fn names(&self, path: &Path, max: usize) -> io::Result<Option<Vec<String>>> {
        let folder = match self.reach(path, FOLDER) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Ok(None),
            folder => folder.map_err(explain)?,
        };
        let mut names = Vec::new();
        for (count, entry) in Dir::from_fd(folder)?.iter().enumerate() {
            if count > max.saturating_add(1) {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it holds more than {max} names")));
            }
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            names.extend(Some(name.into_owned()).filter(|name| ![".", ".."].contains(&name.as_str())));
        }
        Ok(Some(names))
    }

    /// The kind of the entry at a path below the folder.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn look(&self, path: &Path) -> io::Result<Found> {
        let place = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let metadata = match self.reach(path, place) {
            Err(Errno::ENOENT) => return Ok(Found::Nothing),
            Err(Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Ok(Found::Other),
            found => File::from(found.map_err(explain)?).metadata()?,
        };
        Ok(if metadata.is_dir() {
            Found::Folder
        } else if metadata.is_file() {
            Found::File { size: metadata.len(), executable: metadata.mode() & 0o100 != 0 }
        } else {
            Found::Other
        })
    }

    /// Moves a regular file from below the folder to `to`, a new name on the same file system that only maar can
    /// change, and gives it this mode and time.
    ///
    /// # Errors
    /// When a name of the path is a link, it is not a regular file, or it can't be moved.
    pub fn take(&self, path: &Path, to: &Path, mode: u32, times: FileTimes) -> io::Result<()> {
        let (around, name) = split(path)?;
        let file = File::from(self.reach(path, FILE).map_err(explain)?);
        let around = self.reach(around, FOLDER).map_err(explain)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        renameat(&around, name, AT_FDCWD, to)?;
        // The moved entry must be the opened one, and is changed through its descriptor.
        let moved = to.symlink_metadata()?;
        if (moved.dev(), moved.ino()) != (metadata.dev(), metadata.ino()) {
            return Err(io::Error::other("it was replaced while it was moved"));
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.set_times(times)
    }

    /// Removes the entry at a path below the folder, with its contents; an absent entry counts as removed. A link is
    /// removed itself, and behind one on the way there is nothing.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (around, name) = split(path)?;
        let around = match self.reach(around, FOLDER) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Ok(()),
            around => around.map_err(explain)?,
        };
        match unlinkat(&around, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            // Linux returns EISDIR, POSIX and some file systems EPERM.
            Err(Errno::EISDIR | Errno::EPERM) => {
                let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
                Ok(super::super::remove::remove(around, name)?)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a folder with mode 0755 of which nothing is there yet.
    ///
    /// # Errors
    /// When something has the name, or it can't be made.
    pub fn make_folder(&self, name: &str, owner: Option<Owner>) -> io::Result<()> {
        if name.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        mkdirat(&self.folder, name, Mode::S_IRWXU)?;
        let folder = File::from(self.reach(Path::new(name), FOLDER).map_err(explain)?);
        folder.set_permissions(Permissions::from_mode(0o755))?;
        owner.map_or(Ok(()), |Owner { uid, gid }| fchown(&folder, Some(uid), Some(gid)))
    }

    /// Opens the entry at a path, without following a link and without leaving the folder.
    fn reach(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        openat2(&self.folder, path, OpenHow::new().flags(flags).resolve(resolve))
    }

    /// Puts a new file into the folder, mode 0644, in place of a file or link of that name.
    ///
    /// # Errors
    /// When a folder has the name, or the file can't be written.
    pub fn write(&self, name: &str, contents: &[u8], owner: Option<Owner>) -> io::Result<()> {
        if name.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(contents)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        owner.map_or(Ok(()), |Owner { uid, gid }| fchown(&file, Some(uid), Some(gid)))
    }
}

/// How a file is opened. A FIFO opened without `O_NONBLOCK` would wait for a writer.
const FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Splits a relative path into its parent, `.` if the path is a single name, and its last name.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let (Some(around), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok((if around.as_os_str().is_empty() { Path::new(".") } else { around }, name))
}

fn explain(errno: Errno) -> io::Error {
    match errno {
        Errno::ELOOP | Errno::EXDEV => io::Error::other("a link on its path is not followed; replace it by a file"),
        Errno::ENOSYS => io::Error::other("openat2 is refused here; let the container around maar allow it"),
        errno => errno.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_small_regular_files_below_the_folder_are_read() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("plain"), "1234").unwrap();
        symlink(&secret, at("link")).unwrap();
        symlink(outside.path(), at("folder-link")).unwrap();
        fs::hard_link(&secret, at("second")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        let door = Door::open(dir.path()).unwrap();
        assert_eq!(door.read(Path::new("plain"), 4).unwrap(), b"1234");
        assert!(door.read(Path::new("plain"), 3).is_err());
        for name in ["link", "folder-link/secret", "second", "folder", "pipe", "sparse", "gone"] {
            assert!(door.read(Path::new(name), 64).is_err(), "{name}");
        }
        assert!(door.read(&secret, 64).is_err());
        assert!(door.read(Path::new("../secret"), 64).is_err());
        assert!(Door::open(&at("folder-link")).is_err());
    }

    #[test]
    fn a_write_replaces_a_link_and_leaves_its_target_alone() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = outside.path().join("victim");
        fs::write(&victim, "kept").unwrap();
        symlink(&victim, dir.path().join("link")).unwrap();
        let door = Door::open(dir.path()).unwrap();
        door.write("link", b"new", None).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(door.read(Path::new("link"), 9).unwrap(), b"new");
        assert!(door.write("../out", b"new", None).is_err());
    }

    #[test]
    fn only_files_and_folders_that_are_really_there_are_found_and_moved() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/file"), "1234").unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        symlink(outside.path(), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        let door = Door::open(dir.path()).unwrap();
        for (path, found) in [
            ("folder", Found::Folder),
            ("folder/file", Found::File { size: 4, executable: false }),
            ("folder/gone", Found::Nothing),
            ("link", Found::Other),
            ("link/secret", Found::Other),
            ("pipe", Found::Other),
            ("..", Found::Other),
        ] {
            assert_eq!(door.look(Path::new(path)).unwrap(), found, "{path}");
        }
        assert_eq!(door.names(Path::new("folder"), 1).unwrap(), Some(vec!["file".to_owned()]));
        assert_eq!(door.names(Path::new("link"), 9).unwrap(), None);
        assert!(door.names(Path::new("."), 2).is_err());

        let own = outside.path().join("own");
        let take = |path: &str| door.take(Path::new(path), &own, 0o600, FileTimes::new());
        for path in ["link/secret", "link", "pipe", "folder", "folder/gone"] {
            assert!(take(path).is_err(), "{path}");
            assert!(!own.exists(), "{path}");
        }
        take("folder/file").unwrap();
        assert_eq!(
            (fs::read_to_string(&own).unwrap().as_str(), own.metadata().unwrap().mode() & 0o777),
            ("1234", 0o600)
        );
        assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    }

    #[test]
    fn a_link_is_removed_itself_and_a_folder_with_all_that_is_in_it() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        fs::write(outside.path().join("kept"), "kept").unwrap();
        fs::create_dir_all(at("folder/sub")).unwrap();
        for link in ["link", "folder/sub/link"] {
            symlink(outside.path(), at(link)).unwrap();
        }
        let door = Door::open(dir.path()).unwrap();
        for path in ["link/kept", "link", "folder", "gone", "gone/gone"] {
            door.remove(Path::new(path)).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
