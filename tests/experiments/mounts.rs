//! Mounts that only one test sees: file systems that are full or can't be written, and toolchains that others may read.
//!
//! Only root can make them, which tests are where they must run.

use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Runs `work` on a thread whose mounts, and those of its child processes, are private. `None` where this user
/// may not have any; a test that must run then fails.
pub(crate) fn in_private<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "only root can mount what this test needs");
        eprintln!("not run: only root can mount what this test needs");
        return None;
    }
    let isolated = || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        work()
    };
    std::thread::scope(|scope| match scope.spawn(isolated).join() {
        Ok(result) => Some(result),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Mounts an empty file system in memory, with so much space.
pub(crate) fn small_disk(at: &Path, size: &str) {
    std::fs::create_dir_all(at).unwrap();
    let options = format!("size={size},mode=755");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
}

/// Gives a file system in memory this much space from now on.
pub(crate) fn resize(at: &Path, size: &str) {
    let options = format!("size={size}");
    mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT, Some(options.as_str())).unwrap();
}

/// Takes all the space that a file system has left, until the file is removed that is returned.
pub(crate) fn fill(at: &Path) -> PathBuf {
    let path = at.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

/// Makes a folder read-only, with all below it.
pub(crate) fn freeze(at: &Path) {
    show(at, at);
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, at, None::<&str>, read_only, None::<&str>).unwrap();
}

/// Shows a folder at another path too.
pub(crate) fn show(folder: &Path, at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    mount(Some(folder), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// Shows a file in the place of another.
pub(crate) fn show_file(file: &Path, at: &Path) {
    mount(Some(file), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}
