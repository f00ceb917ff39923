//! Removes folders that commands wrote to, with any permissions, depth or names in them.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::tree::{self, FOLDER};

/// A folder that is being emptied.
struct Level {
    status: FileStat,
    /// Its name in the folder above.
    name: CString,
    /// The folders that it still holds.
    folders: Vec<CString>,
}

/// Removes a folder and all that is in it. One that isn't there is removed already. Links are not followed.
///
/// # Errors
/// When something in it belongs to another user, is being changed by one, or the disk fails.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    let (Some(around), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let around = if around.as_os_str().is_empty() { Path::new(".") } else { around };
    let removed = nix::fcntl::open(around, FOLDER.difference(OFlag::O_NOFOLLOW), Mode::empty())
        .and_then(|around| remove(around, CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?));
    match removed {
        Err(Errno::ENOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Removes a folder of an open folder.
pub(super) fn remove(around: OwnedFd, name: CString) -> nix::Result<()> {
    let mut levels = vec![Level { status: fstat(&around)?, name: CString::default(), folders: vec![name] }];
    let mut here = around;
    loop {
        let Some(level) = levels.last_mut() else { return Ok(()) };
        if let Some(name) = level.folders.pop() {
            here = open(&here, &name)?;
            let status = fstat(&here)?;
            let folders = empty(&here)?;
            levels.push(Level { status, name, folders });
            continue;
        }
        let name = std::mem::take(&mut level.name);
        levels.pop();
        let Some(above) = levels.last() else { return Ok(()) };
        here = tree::climb(&here, &above.status)?;
        unlinkat(&here, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
    }
}

/// Opens a folder for its owner, who may have lost all permissions.
fn open(around: &OwnedFd, name: &CString) -> nix::Result<OwnedFd> {
    let owner = Mode::S_IRWXU;
    let folder = match openat(around, name.as_c_str(), FOLDER, Mode::empty()) {
        Err(Errno::EACCES) => {
            // A link can't fail like this: the kernel checks for a link before it checks permissions.
            fchmodat(around, name.as_c_str(), owner, FchmodatFlags::FollowSymlink)?;
            openat(around, name.as_c_str(), FOLDER, Mode::empty())?
        }
        opened => opened?,
    };
    if !Mode::from_bits_truncate(fstat(&folder)?.st_mode).contains(owner) {
        fchmod(&folder, owner)?;
    }
    Ok(folder)
}

/// Removes all but the folders from a folder, and returns the folders.
fn empty(folder: &OwnedFd) -> nix::Result<Vec<CString>> {
    let mut folders = Vec::new();
    let mut entries = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // Most file systems give the type of an entry, which saves one failed removal for each folder.
        if entry.file_type() == Some(Type::Directory) {
            folders.push(name.to_owned());
            continue;
        }
        match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // Linux returns EISDIR, POSIX and some file systems EPERM.
            Err(Errno::EISDIR | Errno::EPERM) => folders.push(name.to_owned()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn folders_without_permissions_are_removed_too_and_links_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (dir.path().join("folder"), dir.path().join("elsewhere"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join("a/link")).unwrap();
        fs::write(folder.join("a/b/file"), "").unwrap();
        for closed in ["a/b", "a"] {
            fs::set_permissions(folder.join(closed), Permissions::from_mode(0o000)).unwrap();
        }
        remove_folder(&folder).unwrap();
        assert!(!folder.exists());
        assert_eq!(fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o777, 0o755);
        remove_folder(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_is_a_link_or_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("link")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["link", "file"] {
            assert_eq!(
                remove_folder(&dir.path().join(name)).unwrap_err().kind(),
                io::ErrorKind::NotADirectory,
                "{name}"
            );
        }
    }

    #[test]
    fn no_depth_is_too_deep_to_count_or_remove() {
        /// More levels than a process may have open files or a path has room for names.
        const DEPTH: usize = 3_000;
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep");
        fs::create_dir(&folder).unwrap();
        let mut here = nix::fcntl::open(&folder, FOLDER, Mode::empty()).unwrap();
        for _ in 1..DEPTH {
            nix::sys::stat::mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
            here = openat(&here, "d", FOLDER, Mode::empty()).unwrap();
        }
        let mut seen = 0;
        tree::walk(&folder, &mut |_| {
            seen += 1;
            tree::Go::On
        })
        .unwrap();
        assert_eq!(seen, DEPTH);
        remove_folder(&folder).unwrap();
        assert!(!folder.exists());
    }
}
