//! Reads and replaces files of a folder that commands have written to, without leaving the folder.
//!
//! Only regular files are opened, and no link is followed: neither the last name of a path nor a folder on the way. Every
//! read has a bound. Does not list, move or remove folders.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::owner::Owner;

/// An open folder that commands have written to.
#[derive(Debug)]
pub struct Door {
    folder: OwnedFd,
}

impl Door {
    /// Opens a folder by a path that only maar could have changed.
    ///
    /// # Errors
    /// When it isn't there or is not a folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: open(folder, super::super::tree::FOLDER, Mode::empty())? })
    }

    /// Reads a regular file below the folder that has no second name and at most `max` bytes.
    ///
    /// # Errors
    /// When a name of the path is a link, the file is not such a file, or it can't be read.
    pub fn read(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        // A FIFO opened without `O_NONBLOCK` would wait for a writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let opened = openat2(&self.folder, path, OpenHow::new().flags(flags).resolve(resolve));
        let file = File::from(opened.map_err(explain)?);
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
}
