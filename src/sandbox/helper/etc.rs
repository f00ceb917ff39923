//! The contents of a cell's root besides programs, mounts and devices: accounts, `/etc`, and folders that every system
//! has.
//!
//! A program must find the same files as in a plain user's shell, so that nothing fails here that works elsewhere: the
//! test `plain` of the suite `sandbox` compares them. Accounts, the name of the machine and its number are the same on
//! every host. Nothing here is a secret, and all hosts of one distribution look the same.

use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::identity::{CELL_GID, CELL_UID};
use super::mounts::{READ_ONLY, Tree};
use super::place::{Kind, Root};
use super::rootfs::SYSTEM;
use crate::sandbox::error::{Fault, Step};
use crate::sandbox::{HOME, HOSTNAME};

/// The parts of the host's `/etc` that programs need: how to link, whom to trust, what time it is, which system this
/// is. No keys, no accounts, and none of the files where people keep tokens, such as `/etc/environment` or
/// `/etc/gitconfig`.
pub(crate) const ETC: [&str; 40] = [
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/default/locale",
    "/etc/ethertypes",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/inputrc",
    "/etc/issue",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/login.defs",
    "/etc/lsb-release",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/networks",
    "/etc/os-release",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/profile",
    "/etc/protocols",
    "/etc/redhat-release",
    "/etc/rpc",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/xattr.conf",
];

/// The visible parts of other folders of the host: which packages are installed, and how many cores and how much memory
/// of which kind there are, as the C library and allocators ask.
const SHOWN: [&str; 5] = [
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
    "/var/lib/dpkg",
    "/var/lib/rpm",
];

/// Folders that every system has. They are empty: a host's files there belong to its users.
const FOLDERS: [&str; 15] = [
    "/boot",
    "/media",
    "/mnt",
    "/opt",
    "/run",
    "/srv",
    "/sys",
    "/usr",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/local",
    "/var/log",
    "/var/mail",
    "/var/spool",
];

/// Links that every system has.
const LINKS: [(&str, &str); 3] =
    [("/etc/mtab", "../proc/self/mounts"), ("/var/lock", "/run/lock"), ("/var/run", "/run")];

/// Where names are looked up: `/etc/nsswitch.conf`.
pub(crate) const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// The number of the machine, of machine-id(5): the same for all, as its name is.
const MACHINE_ID: &str = "6d616172000000000000000000000000\n";

/// Without a network no server answers, and a request fails at once.
const RESOLV_CONF: &str = "nameserver 127.0.0.1\n";

/// `/etc/passwd`, where `uid` is the user that commands are: the accounts are Debian's.
pub(crate) fn passwd(uid: u32, gid: u32) -> String {
    const OTHERS: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
sync:x:4:65534:sync:/bin:/bin/sync
games:x:5:60:games:/usr/games:/usr/sbin/nologin
man:x:6:12:man:/var/cache/man:/usr/sbin/nologin
lp:x:7:7:lp:/var/spool/lpd:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
news:x:9:9:news:/var/spool/news:/usr/sbin/nologin
uucp:x:10:10:uucp:/var/spool/uucp:/usr/sbin/nologin
proxy:x:13:13:proxy:/bin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
backup:x:34:34:backup:/var/backups:/usr/sbin/nologin
list:x:38:38:Mailing List Manager:/var/list:/usr/sbin/nologin
irc:x:39:39:ircd:/run/ircd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";
    format!("{OTHERS}maar:x:{uid}:{gid}:maar:{HOME}:/bin/sh\n")
}

/// `/etc/group`, likewise.
pub(crate) fn group(gid: u32) -> String {
    const OTHERS: [(&str, u32); 38] = [
        ("root", 0),
        ("daemon", 1),
        ("bin", 2),
        ("sys", 3),
        ("adm", 4),
        ("tty", 5),
        ("disk", 6),
        ("lp", 7),
        ("mail", 8),
        ("news", 9),
        ("uucp", 10),
        ("man", 12),
        ("proxy", 13),
        ("kmem", 15),
        ("dialout", 20),
        ("fax", 21),
        ("voice", 22),
        ("cdrom", 24),
        ("floppy", 25),
        ("tape", 26),
        ("sudo", 27),
        ("audio", 29),
        ("dip", 30),
        ("www-data", 33),
        ("backup", 34),
        ("operator", 37),
        ("list", 38),
        ("irc", 39),
        ("src", 40),
        ("shadow", 42),
        ("utmp", 43),
        ("video", 44),
        ("sasl", 45),
        ("plugdev", 46),
        ("staff", 50),
        ("games", 60),
        ("users", 100),
        ("nogroup", 65534),
    ];
    let others = OTHERS.iter().map(|(name, gid)| format!("{name}:x:{gid}:\n"));
    others.chain([format!("maar:x:{gid}:\n")]).collect()
}

/// Puts all of it into a root under construction.
pub(super) fn furnish(root: &Root) -> Result<(), Fault> {
    for path in FOLDERS {
        root.place(Path::new(path), Kind::Folder)?;
    }
    for path in ETC.iter().chain(&SHOWN) {
        show(root, Path::new(path))?;
    }
    for (path, target) in LINKS {
        root.link(Path::new(path), Path::new(target))?;
    }
    for (path, text) in [
        ("/etc/group", group(CELL_GID)),
        ("/etc/hostname", format!("{HOSTNAME}\n")),
        ("/etc/hosts", format!("127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n")),
        ("/etc/machine-id", MACHINE_ID.to_owned()),
        ("/etc/nsswitch.conf", NSSWITCH.to_owned()),
        ("/etc/passwd", passwd(CELL_UID, CELL_GID)),
        ("/etc/resolv.conf", RESOLV_CONF.to_owned()),
    ] {
        root.write(Path::new(path), &text)?;
    }
    Ok(())
}

/// Shows one of the host's files or folders at the same path, read-only, if it exists. A link into a system folder
/// stays a link: programs read where `/etc/localtime` leads.
pub(super) fn show(root: &Root, path: &Path) -> Result<(), Fault> {
    if let Ok(target) = std::fs::read_link(path)
        && is_shown(&lexical(&path.parent().unwrap_or(path).join(&target)))
    {
        return root.link(path, &target);
    }
    let fault = |errno| Fault::at(Step::SystemFolder, path, errno);
    let tree = match Tree::copy_of(path) {
        Ok(tree) => tree.restrict(READ_ONLY).map_err(fault)?,
        // What leads nowhere, or is not for this user to see, is as good as nothing.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => return Ok(()),
        Err(errno) => return Err(fault(errno)),
    };
    let kind = if path.is_dir() { Kind::Folder } else { Kind::File };
    tree.attach(&root.place(path, kind)?).map(drop).map_err(fault)
}

/// Whether a path leads to a file in a system folder.
fn is_shown(path: &Path) -> bool {
    SYSTEM.iter().any(|folder| path.starts_with(folder)) && path.exists()
}

/// An absolute path without `.` and `..`, as far as no folder in it is a link.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Normal(_) | Component::Prefix(_) => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_has_a_group_and_a_number_of_its_own() {
        let passwd = passwd(1000, 1000);
        let groups = group(1000);
        let group_ids: Vec<&str> = groups.lines().map(|line| line.split(':').nth(2).unwrap()).collect();
        let mut ids = std::collections::BTreeSet::new();
        for line in passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            assert_eq!(fields.len(), 7, "{line}");
            assert!(ids.insert(fields[2]) && group_ids.contains(&fields[3]), "{line}");
        }
    }

    #[test]
    fn a_link_is_followed_on_paper() {
        assert_eq!(lexical(Path::new("/etc/../usr/./lib/x")), Path::new("/usr/lib/x"));
        assert_eq!(lexical(Path::new("/etc/../../usr")), Path::new("/usr"));
        assert!(is_shown(Path::new("/usr/bin")) && !is_shown(Path::new("/usr/no-such-file")));
        assert!(!is_shown(Path::new("/etc/passwd")) && !is_shown(Path::new("/usrx")));
    }
}
