//! The kernel's counts per user, limited for a cell by the cell's own user namespace.
//!
//! Cells may share one user. The kernel counts a user's objects in every namespace on the way up, and each namespace
//! has limits in `/proc/sys/user`, see namespaces(7): so no cell can use up the share of others.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::errno_of;
use crate::sandbox::error::{Fault, Step};

/// The limits of a namespace, each with the host's limit for one user that it is a part of.
const SHARED: [(&str, &str); 2] = [
    ("user/max_inotify_instances", "fs/inotify/max_user_instances"),
    ("user/max_inotify_watches", "fs/inotify/max_user_watches"),
];

/// Sets the limits, in the user namespace of the calling process and by its capabilities there. `settings` is
/// `/proc/sys`. A cell gets one part in `sharers` of the host's limit for one user, and all of it where no other cell
/// has that user.
pub(super) fn set(settings: &OwnedFd, sharers: u64) -> Result<(), Fault> {
    if sharers <= 1 {
        return Ok(());
    }
    SHARED.iter().try_for_each(|(own, hosts)| {
        match part_of(settings, hosts, sharers).and_then(|most| write(settings, own, most)) {
            // A kernel without the one has nothing that the other would limit.
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Fault::at(Step::Limits, format!("/proc/sys/{own}"), errno)),
        }
    })
}

fn part_of(settings: &OwnedFd, name: &str, sharers: u64) -> nix::Result<u64> {
    let mut text = String::new();
    let mut file = File::from(openat(settings, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    file.read_to_string(&mut text).map_err(|error| errno_of(&error))?;
    text.trim().parse::<u64>().map(|most| (most / sharers).max(1)).map_err(|_| Errno::EINVAL)
}

fn write(settings: &OwnedFd, name: &str, most: u64) -> nix::Result<()> {
    let mut file = File::from(openat(settings, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?);
    file.write_all(most.to_string().as_bytes()).map_err(|error| errno_of(&error))
}
