//! The root of a cell: system folders that it can't change, private folders in memory, the mounts of its spec.
//!
//! Nothing of the host is shown by default. Everything in a cell is named in this file, in `etc.rs` or in its spec.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::etc;
use super::identity::{CELL_GID, CELL_UID};
use super::mounts::{self, DATA, DEVICE, Marks, PLAIN, Parameter, READ_ONLY, Renames, Tree};
use super::place::{Kind, Root};
use super::protocol::{Identity, Namespaces};
use crate::sandbox::error::{Fault, Step};
use crate::sandbox::id_map;
use crate::sandbox::{HOME, Mount, MountKind, Owner, PRIVATE};

/// Folders of programs and libraries, as distributions have them.
pub(crate) const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Files and folders of /proc that tell of the host or change it, hidden as container runtimes hide them: the list is
/// the default of the [OCI runtimes](https://github.com/moby/moby/blob/master/daemon/pkg/oci/defaults.go).
pub(crate) const HIDDEN: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// The parts of /proc that may be read, but not written inside; same source.
pub(crate) const FROZEN: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A folder where nothing is ever put.
const EMPTY: &str = "/media";

/// How many pseudo-terminals a cell may have: the host has 4096 for everybody (`kernel.pty.max`), a quarter of them for
/// itself alone.
const TERMINALS: u32 = 64;

/// The size of the root itself, which holds mount points and a few small files.
const ROOT_SIZE: &str = "16m";

/// Makes the cell's root and moves this process, alone in its mount namespace, into it. Returns the kernel's settings
/// in `/proc/sys`, open for writing, as no other process in the cell sees them.
pub(super) fn enter(cell: &Namespaces) -> Result<OwnedFd, Fault> {
    // Later mounts stay in this namespace.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|errno| Fault::new(Step::Namespaces, errno))?;
    let root = new_root(&cell.root, cell.roots)?;
    system_folders(&root)?;
    etc::furnish(&root)?;
    devices(&root)?;
    let settings = proc(&root)?;
    private_folders(&root, cell)?;
    let marks = marks();
    for mount in &cell.mounts {
        add(&root, mount, marks)?;
    }
    let leave = |errno| Fault::new(Step::LeaveHost, errno);
    mounts::seal(&root.0).map_err(leave)?;
    nix::unistd::fchdir(&root.0).map_err(leave)?;
    // `pivot_root` mounts the old root over the new one, where it is unmounted.
    nix::unistd::pivot_root(".", ".").map_err(leave)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(leave)?;
    nix::unistd::chdir("/").map_err(leave)?;
    Ok(settings)
}

/// An empty root that belongs to `owner`, as all does that is made in it.
fn new_root(folder: &Path, owner: Option<Owner>) -> Result<Root, Fault> {
    let fault = |errno| Fault::at(Step::RootFolder, folder, errno);
    let tree = tmpfs(ROOT_SIZE.to_owned(), "755", owner, PLAIN).map_err(fault)?;
    let below = mounts::open_folder(folder).map_err(fault)?;
    tree.attach(&below).map(Root).map_err(fault)
}

fn system_folders(root: &Root) -> Result<(), Fault> {
    for path in SYSTEM.map(Path::new) {
        if let Ok(target) = std::fs::read_link(path) {
            root.link(path, &target)?;
        } else {
            etc::show(root, path)?;
        }
    }
    Ok(())
}

fn devices(root: &Root) -> Result<(), Fault> {
    for path in DEVICES.map(Path::new) {
        let fault = |errno| Fault::at(Step::Devices, path, errno);
        let node = Tree::copy_of(path).and_then(|node| node.restrict(DEVICE)).map_err(fault)?;
        node.attach(&root.place(path, Kind::File)?).map_err(fault)?;
    }
    let pts = Path::new("/dev/pts");
    let fault = |errno| Fault::at(Step::Devices, pts, errno);
    let parameters = [
        Parameter::Flag(c"newinstance"),
        Parameter::Text(c"ptmxmode", "0666".to_owned()),
        Parameter::Text(c"mode", "0620".to_owned()),
        Parameter::Text(c"max", TERMINALS.to_string()),
    ];
    let terminals = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let tree = Tree::new(c"devpts", &parameters, terminals).map_err(fault)?;
    tree.attach(&root.place(pts, Kind::Folder)?).map_err(fault)?;
    for (link, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        root.link(Path::new(link), Path::new(target))?;
    }
    Ok(())
}

fn proc(root: &Root) -> Result<OwnedFd, Fault> {
    let fault = |errno| Fault::new(Step::Proc, errno);
    let tree = Tree::new(c"proc", &[], DATA).map_err(fault)?;
    tree.attach(&root.place(Path::new("/proc"), Kind::Folder)?).map_err(fault)?;
    let settings = root.existing(Path::new("/proc/sys"))?.ok_or_else(|| fault(Errno::ENOENT))?;

    let empty_folder = root.place(Path::new(EMPTY), Kind::Folder)?;
    for path in HIDDEN.map(Path::new) {
        let Some(place) = root.existing(path)? else { continue };
        let fault = |errno| Fault::at(Step::Proc, path, errno);
        let is_folder = is_folder(&place).map_err(fault)?;
        let cover = if is_folder {
            Tree::copy_of_open(&empty_folder).and_then(|tree| tree.restrict(READ_ONLY))
        } else {
            Tree::copy_of(Path::new("/dev/null")).and_then(|tree| tree.restrict(DEVICE))
        };
        cover.and_then(|cover| cover.attach(&place)).map_err(fault)?;
    }
    for path in FROZEN.map(Path::new) {
        let Some(place) = root.existing(path)? else { continue };
        Tree::copy_of_open(&place)
            .and_then(|tree| tree.restrict(DATA | READ_ONLY))
            .and_then(|tree| tree.attach(&place))
            .map_err(|errno| Fault::at(Step::Proc, path, errno))?;
    }
    Ok(settings)
}

/// The private folders of every cell, which end with the cell; they count as the cell's memory.
fn private_folders(root: &Root, cell: &Namespaces) -> Result<(), Fault> {
    let user = match cell.identity {
        Identity::Unprivileged(owner) => owner,
        Identity::Rootless(_) => Owner { uid: CELL_UID, gid: CELL_GID },
    };
    for path in PRIVATE {
        let mode = if path == HOME { "700" } else { "1777" };
        let fault = |errno| Fault::at(Step::Mount, path, errno);
        let tree = tmpfs(cell.memory.to_string(), mode, Some(user), PLAIN).map_err(fault)?;
        tree.attach(&root.place(Path::new(path), Kind::Folder)?).map_err(fault)?;
    }
    Ok(())
}

/// What overlays of this process may mark files with: only root of the host has the marks of root.
fn marks() -> Marks {
    if id_map::is_initial() { Marks::OfRoot } else { Marks::OfUser }
}

fn add(root: &Root, mount: &Mount, marks: Marks) -> Result<(), Fault> {
    let plain = |source: &Path, attributes| {
        let fault = |errno| Fault::at(Step::Mount, source, errno);
        let tree = Tree::copy_of(source).and_then(|tree| tree.restrict(attributes)).map_err(fault)?;
        let kind = if source.is_dir() { Kind::Folder } else { Kind::File };
        tree.attach(&root.place(&mount.at, kind)?).map_err(fault)
    };
    match &mount.what {
        MountKind::ReadOnly(source) if source.is_dir() => match view(root, source, marks)? {
            Some(tree) => {
                let place = root.place(&mount.at, Kind::Folder)?;
                tree.attach(&place).map_err(|errno| Fault::at(Step::Mount, source, errno))?
            }
            None => plain(source, READ_ONLY)?,
        },
        MountKind::ReadOnly(source) => plain(source, READ_ONLY)?,
        MountKind::Writable(source) => plain(source, PLAIN)?,
        MountKind::Overlay { lower, upper, work } => {
            let fault = |errno| Fault::at(Step::Overlay, lower, errno);
            let tree = Tree::overlay(lower, upper, work, marks, Renames::OfFiles).map_err(fault)?;
            tree.attach(&root.place(&mount.at, Kind::Folder)?).map_err(fault)?
        }
        MountKind::Copy { lower, upper, work } => {
            let fault = |errno| Fault::at(Step::Overlay, lower, errno);
            let renames = match marks {
                Marks::OfRoot => Renames::OfAll,
                Marks::OfUser => Renames::OfFiles,
            };
            let tree = Tree::overlay(lower, upper, work, marks, renames).map_err(fault)?;
            tree.attach(&root.place(&mount.at, Kind::Folder)?).map_err(fault)?
        }
    };
    Ok(())
}

/// A host folder that `/proc/self/mountinfo` doesn't show the path of; `None`: its file system can't be laid
/// under an overlay, as some network file systems and stacked overlays can't.
fn view(root: &Root, source: &Path, marks: Marks) -> Result<Option<Tree>, Fault> {
    let empty = root.place(Path::new(EMPTY), Kind::Folder)?;
    match Tree::view_of(source, &empty, marks, READ_ONLY) {
        Ok(tree) => Ok(Some(tree)),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EREMOTE | Errno::EPERM) => Ok(None),
        Err(errno) => Err(Fault::at(Step::Mount, source, errno)),
    }
}

fn tmpfs(size: String, mode: &str, owner: Option<Owner>, attributes: u64) -> nix::Result<Tree> {
    let mut parameters = vec![Parameter::Text(c"size", size), Parameter::Text(c"mode", mode.to_owned())];
    if let Some(owner) = owner {
        parameters.push(Parameter::Text(c"uid", owner.uid.to_string()));
        parameters.push(Parameter::Text(c"gid", owner.gid.to_string()));
    }
    Tree::new(c"tmpfs", &parameters, attributes)
}

fn is_folder(place: &OwnedFd) -> nix::Result<bool> {
    nix::sys::stat::fstat(place).map(|status| status.st_mode & libc::S_IFMT == libc::S_IFDIR)
}
