//! The kernel's mount calls: detached trees that are restricted first and attached then.
//!
//! Targets are descriptors, never paths: no link that a crate planted can lead a mount astray.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{owned, path_of};

/// Nothing here gives privileges, and nothing here is a device.
pub(super) const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// As [`PLAIN`], and nothing here is a program.
pub(super) const DATA: u64 = PLAIN | libc::MOUNT_ATTR_NOEXEC;
/// As [`PLAIN`], and nothing here can be changed.
pub(super) const READ_ONLY: u64 = PLAIN | libc::MOUNT_ATTR_RDONLY;
/// For device nodes, which work although the mount can't be changed.
pub(super) const DEVICE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_RDONLY;

/// A tree of mounts that is not attached anywhere yet.
pub(super) struct Tree(OwnedFd);

/// A parameter of a file system.
pub(super) enum Parameter<'a> {
    Flag(&'a CStr),
    Text(&'a CStr, String),
}

impl Tree {
    /// A new instance of a file system.
    pub(super) fn new(kind: &CStr, parameters: &[Parameter<'_>], attributes: u64) -> nix::Result<Self> {
        // SAFETY: `kind` outlives the call.
        let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
        for parameter in parameters {
            match parameter {
                Parameter::Flag(key) => configure(&context, libc::FSCONFIG_SET_FLAG, Some(key), None)?,
                Parameter::Text(key, value) => {
                    let value = CString::new(value.as_str()).map_err(|_| Errno::EINVAL)?;
                    configure(&context, libc::FSCONFIG_SET_STRING, Some(key), Some(&value))?;
                }
            }
        }
        configure(&context, libc::FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: takes a descriptor and numbers.
        owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) })
            .map(Self)
    }

    /// Changes to `lower` go to `upper`.
    pub(super) fn overlay(
        lower: &Path,
        upper: &Path,
        work: &Path,
        marks: Marks,
        renames: Renames,
    ) -> nix::Result<Self> {
        let [lower, upper, work] = [open_folder(lower)?, open_folder(upper)?, open_folder(work)?];
        // Descriptors instead of paths: a path may hold characters that overlayfs takes for separators, and would be
        // seen from inside in /proc/self/mountinfo.
        let mut parameters = vec![
            Parameter::Text(c"lowerdir", path_of(&lower)),
            Parameter::Text(c"upperdir", path_of(&upper)),
            Parameter::Text(c"workdir", path_of(&work)),
        ];
        if marks == Marks::OfUser {
            parameters.push(Parameter::Flag(c"userxattr"));
        }
        if renames == Renames::OfAll {
            parameters.push(Parameter::Text(c"redirect_dir", "on".to_owned()));
        }
        Self::new(c"overlay", &parameters, PLAIN)
    }

    /// A folder as a separate file system, so that nothing inside shows where the host has it: an overlay without an
    /// upper folder, which must have a second one below, here an `empty` one.
    pub(super) fn view_of(folder: &Path, empty: &OwnedFd, marks: Marks, attributes: u64) -> nix::Result<Self> {
        let folder = open_folder(folder)?;
        let mut parameters = vec![Parameter::Text(c"lowerdir", format!("{}:{}", path_of(&folder), path_of(empty)))];
        if marks == Marks::OfUser {
            parameters.push(Parameter::Flag(c"userxattr"));
        }
        Self::new(c"overlay", &parameters, attributes)
    }

    /// A copy of the mounts at and below a host path.
    pub(super) fn copy_of(path: &Path) -> nix::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        open_tree(libc::AT_FDCWD, &path, libc::AT_RECURSIVE.cast_unsigned())
    }

    /// A copy of the mounts at and below a file or folder.
    pub(super) fn copy_of_open(place: &impl AsFd) -> nix::Result<Self> {
        let flags = libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
        open_tree(place.as_fd().as_raw_fd(), c"", flags.cast_unsigned())
    }

    /// Adds attributes to every mount of the tree.
    pub(super) fn restrict(self, attributes: u64) -> nix::Result<Self> {
        set_attributes(&self.0, attributes, libc::AT_RECURSIVE)?;
        Ok(self)
    }

    /// Mounts the tree on an open file or folder; returns its root.
    pub(super) fn attach(self, at: &impl AsFd) -> nix::Result<OwnedFd> {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        // SAFETY: takes descriptors, empty paths that outlive the call, and numbers.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                at.as_fd().as_raw_fd(),
                c"".as_ptr(),
                flags,
            )
        };
        Errno::result(result)?;
        Ok(self.0)
    }
}

/// Where overlayfs keeps its notes on changed files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    /// In attributes that only the host's root may write.
    OfRoot,
    /// In attributes that any user may write, who then can't reach them through the overlay.
    OfUser,
}

/// What commands may rename of what lies below an overlay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Renames {
    /// Files; a folder fails with EXDEV.
    OfFiles,
    /// Folders too, of which the overlay notes where they come from: not with [`Marks::OfUser`].
    OfAll,
}

/// Forbids changes through one mount that is already attached, not those below it.
pub(super) fn seal(mount: &OwnedFd) -> nix::Result<()> {
    set_attributes(mount, libc::MOUNT_ATTR_RDONLY, 0)
}

/// Opens a host folder as a location (`O_PATH`), not for reading.
pub(super) fn open_folder(path: &Path) -> nix::Result<OwnedFd> {
    nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn open_tree(at: i32, path: &CStr, flags: u32) -> nix::Result<Tree> {
    let flags = flags | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) }).map(Tree)
}

fn set_attributes(mount: &OwnedFd, attributes: u64, reach: i32) -> nix::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path and the attributes outlive the call, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | reach,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

fn configure(context: &OwnedFd, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> nix::Result<()> {
    let key = key.map_or(std::ptr::null(), CStr::as_ptr);
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: both texts, where given, outlive the call; the commands used here ask for no more than these.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    Errno::result(result).map(drop)
}
