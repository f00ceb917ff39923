//! Who the command is: uid 1000 inside, an unprivileged user outside, without a single capability.

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{Gid, Pid, Uid};

use super::tell_kernel;
use crate::sandbox::Owner;
use crate::sandbox::error::{Fault, Step};

/// The user that commands are, inside.
pub(crate) const CELL_UID: u32 = 1000;
/// The group that commands are, inside.
pub(crate) const CELL_GID: u32 = 1000;

/// Enters a new user namespace where `owner`, who this process is, becomes the cell's user with all capabilities.
pub(super) fn enter_user_namespace(owner: Owner) -> Result<(), Fault> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| Fault::new(Step::UserNamespace, errno))?;
    // The kernel lets an ordinary user map no other.
    write_maps("self", owner, None)
}

/// Enters a new user namespace that `owner` makes, as root. The kernel counts much of a namespace for its maker, too,
/// and root's limits are those of the whole host.
pub(super) fn enter_user_namespace_of(owner: Owner) -> Result<(), Fault> {
    /// Capabilities outlast a change of the user; of linux/securebits.h. The new namespace resets it.
    const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0) })
        .and_then(|_| nix::unistd::seteuid(Uid::from_raw(owner.uid)))
        .map_err(|errno| Fault::new(Step::Identity, errno))?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| Fault::new(Step::UserNamespace, errno))
}

/// Makes `owner` the cell's user, and `root` its root, in the user namespace that `pid` has just entered.
pub(super) fn map(pid: Pid, owner: Owner, root: Option<Owner>) -> Result<(), Fault> {
    write_maps(&pid.to_string(), owner, root)
}

fn write_maps(process: &str, owner: Owner, root: Option<Owner>) -> Result<(), Fault> {
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{process}/{file}");
        tell_kernel(&path, text).map_err(|errno| Fault::at(Step::UserNamespace, path, errno))
    };
    write("setgroups", "deny")?;
    let with_root = |cell: u32, owner: u32, root: Option<u32>| {
        let root = root.map(|root| format!("0 {root} 1\n")).unwrap_or_default();
        format!("{root}{cell} {owner} 1\n")
    };
    write("uid_map", &with_root(CELL_UID, owner.uid, root.map(|root| root.uid)))?;
    write("gid_map", &with_root(CELL_GID, owner.gid, root.map(|root| root.gid)))
}

/// Becomes the cell's user for good; the caller's user namespace maps it.
pub(super) fn become_cell_user() -> Result<(), Fault> {
    let identity = |errno| Fault::new(Step::Identity, errno);
    let gid = Gid::from_raw(CELL_GID);
    nix::unistd::setresgid(gid, gid, gid).map_err(identity)?;
    let uid = Uid::from_raw(CELL_UID);
    nix::unistd::setresuid(uid, uid, uid).map_err(identity)
}

/// Leaves the keyring of maar's parent: a session keyring is inherited even across namespaces.
pub(super) fn leave_keys() -> Result<(), Fault> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: no name is given, so the kernel reads no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    match Errno::result(result) {
        // A kernel without keys has none to leave.
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(Fault::new(Step::Keys, errno)),
    }
}

/// Drops every capability from every set, and the ways to get one back.
pub(super) fn renounce_privileges() -> Result<(), Fault> {
    drop_capabilities().map_err(|errno| Fault::new(Step::Capabilities, errno))?;
    prctl::set_no_new_privs().map_err(|errno| Fault::new(Step::Capabilities, errno))
}

fn drop_capabilities() -> nix::Result<()> {
    for capability in 0..=63 {
        // SAFETY: takes numbers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            // The first number beyond the capabilities.
            Err(Errno::EINVAL) => break,
            dropped => dropped?,
        };
    }
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;

    /// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: 64 bits in two words.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    // Effective, permitted and inheritable, low words and then high words.
    let nothing = [0u32; 6];
    // SAFETY: header and data have the layout that this version asks for, and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr()) };
    Errno::result(result).map(drop)
}
