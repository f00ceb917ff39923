//! Makes maar's own folders and files: plain modes at any umask, and an owner where the caller names one.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, fchown, lchown, symlink};
use std::path::Path;

use crate::owner::Owner;

/// Whether a file may be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Executable,
}

impl Kind {
    /// The kind that a mode's owner bits say. Every other bit is dropped, setuid first of all.
    pub(super) fn of_mode(mode: u32) -> Self {
        if mode & 0o100 == 0 { Self::Plain } else { Self::Executable }
    }

    fn mode(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Executable => 0o755,
        }
    }
}

/// Makes a folder that wasn't there, with mode 0755.
pub(super) fn dir(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))?;
    owner.map_or(Ok(()), |owner| chown(path, Some(owner.uid), Some(owner.gid)))
}

/// Makes a file that wasn't there, with mode 0644 or 0755.
pub(super) fn file(path: &Path, kind: Kind, owner: Option<Owner>) -> io::Result<File> {
    let file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(kind.mode()))?;
    if let Some(owner) = owner {
        fchown(&file, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(file)
}

/// Makes a symbolic link that wasn't there.
pub(super) fn link(target: &Path, path: &Path, owner: Option<Owner>) -> io::Result<()> {
    symlink(target, path)?;
    owner.map_or(Ok(()), |owner| lchown(path, Some(owner.uid), Some(owner.gid)))
}
