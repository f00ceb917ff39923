//! A cell beside a plain user's shell on the same host: each difference must be on a list, with its reason.
//!
//! Compared are files that a minimal Debian has, devices, limits, the process's own attributes and every system call.
//! The environment of ops is compared where there are ops: `fidelity` in `tests/experiments`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use maar::sandbox::{End, Mount, MountKind};

use crate::bench::{block_on, is_root, native};

/// Asks the test below to print its findings instead of comparing.
const ASKED: &str = "MAAR_TEST_PLAIN_PROBE";

/// Who the plain user is, where the tests run as root: a user that no host has.
const USER: u32 = 54_323;

/// The first characters of each line of a probe, which separate it from the test harness's output.
const MARK: &str = "seen: ";

/// The allowed differences, and their reasons. A name that ends in `*` stands for all that begin so.
const DIFFERENCES: &[(&str, &str)] = &[
    // Files.
    (
        "file /*: owner nobody",
        "the host's own files belong to its root, whom a cell doesn't map; those of the cell are root's",
    ),
    (
        "file /*: owner root",
        "the cell's own files, where the shell's user namespace doesn't map the host's root either",
    ),
    ("file /dev/console", "the host's console"),
    ("file /dev/core", "/proc/kcore, which is hidden"),
    ("file /dev/mqueue", "queues of POSIX work without it: mq_open(2) takes no path"),
    ("file /dev/ptmx", "a link to the cell's own pseudo-terminals, as devpts(4) recommends"),
    ("file /dev/tty", "the terminal of the command"),
    ("file /etc/.pwd.lock", "nobody in a cell changes accounts"),
    ("file /etc/adduser.conf", "nobody in a cell changes accounts"),
    ("file /etc/apt", "nobody in a cell installs packages"),
    ("file /etc/bindresvport.blacklist", "a cell has no services whose ports are to be left alone"),
    ("file /etc/cron.*", "nothing in a cell runs by itself"),
    ("file /etc/debconf.conf", "nobody in a cell installs packages"),
    ("file /etc/default", "settings of services, of which a cell has none"),
    ("file /etc/deluser.conf", "nobody in a cell changes accounts"),
    ("file /etc/dpkg", "nobody in a cell installs packages"),
    ("file /etc/e2scrub.conf", "nobody in a cell checks disks"),
    ("file /etc/environment", "people keep tokens there"),
    ("file /etc/fstab", "nobody in a cell mounts"),
    ("file /etc/group-", "a copy of what was there before"),
    ("file /etc/gshadow*", "secrets"),
    ("file /etc/init.d", "nothing in a cell runs by itself"),
    ("file /etc/issue.net", "nobody logs in"),
    ("file /etc/kernel", "nobody in a cell boots"),
    ("file /etc/libaudit.conf", "nothing in a cell runs by itself"),
    ("file /etc/logrotate.d", "nothing in a cell runs by itself"),
    ("file /etc/mke2fs.conf", "nobody in a cell makes file systems"),
    ("file /etc/motd", "nobody logs in"),
    ("file /etc/opt", "what a host has there is its users' own"),
    ("file /etc/pam.*", "nobody logs in"),
    ("file /etc/passwd-", "a copy of what was there before"),
    ("file /etc/profile.d", "people keep tokens there"),
    ("file /etc/rc*", "nothing in a cell runs by itself"),
    ("file /etc/rmt", "nobody in a cell has tapes"),
    ("file /etc/security", "nobody logs in"),
    ("file /etc/selinux", "nobody in a cell sets policies"),
    ("file /etc/shadow*", "secrets"),
    ("file /etc/skel", "nobody in a cell makes accounts"),
    ("file /etc/subgid*", "which accounts the host has"),
    ("file /etc/subuid*", "which accounts the host has"),
    ("file /etc/sysctl.*", "nobody in a cell sets up the kernel"),
    ("file /etc/systemd", "nothing in a cell runs by itself"),
    ("file /etc/update-motd.d", "nobody logs in"),
    ("file /etc/mtab: link", "the same file, by a shorter or a longer path"),
    ("file /etc/hostname", "every cell has the same name"),
    ("file /etc/hosts", "every cell has the same name"),
    ("file /etc/resolv.conf", "a cell has no network, and its file is never a link"),
    ("file /etc/*: mode", "the cell's own files can be read by all"),
    ("file /root", "nobody's home"),
    ("file /run/mount", "nobody in a cell mounts"),
    ("file /sys/block", "the host's devices"),
    ("file /sys/bus", "the host's devices"),
    ("file /sys/class", "the host's devices"),
    ("file /sys/dev", "the host's devices"),
    ("file /sys/firmware", "the host's firmware"),
    ("file /sys/fs", "the host's file systems and control groups"),
    ("file /sys/hypervisor", "the host's hardware"),
    ("file /sys/module", "the host's kernel"),
    ("file /sys/power", "the host's power"),
    ("file /sys*: mode", "a folder that holds the few that are shown"),
    ("file /var/opt", "what a host has there is its users' own"),
    ("file /var/*: mode", "a set-group-id bit for administrators"),
    ("file /var/lib/*", "the state of services, of which a cell has none"),
    ("file /home: *", "the home of the cell's user is the only one"),
    ("file /boot: mode", "nothing is in it"),
    ("file /tmp: owner", "each cell has a folder of its own"),
    ("file /var/tmp: owner", "each cell has a folder of its own"),
    ("file /dev/shm: owner", "each cell has a folder of its own"),
    ("file /run/lock: *", "each cell has a folder of its own"),
    ("file /*: owner me", "an ordinary user's cell can't map the host's root, so that what it makes is its user's"),
    // Devices.
    ("device *", "devices but for those of POSIX and the few that every container has are the host's"),
    // Limits.
    ("limit Max core file size", "a dump of memory is of no use to anybody after the cell"),
    ("limit Max cpu time", "not set by maar: as maar was started"),
    ("limit Max data size", "where no control group counts memory, each process may have as much as the op"),
    ("limit Max file locks", "not set by maar: as maar was started"),
    ("limit Max locked memory", "the same on every host"),
    ("limit Max msgqueue size", "not set by maar: as maar was started"),
    ("limit Max nice priority", "not set by maar: as maar was started"),
    ("limit Max open files", "the same on every host"),
    ("limit Max pending signals", "not set by maar: as maar was started"),
    ("limit Max processes", "the limit of the op"),
    ("limit Max realtime priority", "not set by maar: as maar was started"),
    ("limit Max stack size", "the same on every host"),
    // The process.
    ("process CapBnd", "capabilities can't be got back, by no program"),
    ("process Groups", "a cell's user has no other groups"),
    ("process NoNewPrivs", "set-user-ID programs are nothing special"),
    ("process SigIgn", "signals are as at birth, whatever whoever started maar ignored"),
    ("process Seccomp", "the filter of system calls"),
    ("process Seccomp_filters", "the filter of system calls"),
    ("process THP_enabled", "not set by maar: as maar was started"),
    ("process Speculation*", "the kernel's answer to a filter"),
    ("process Cpus_allowed*", "the cores that the op may use"),
    ("process oom_score_adj", "when memory runs out, the kernel takes a command rather than what keeps it"),
    ("process user", "every cell has the same user"),
    ("process uid", "every cell has the same user"),
    ("process gid", "every cell has the same user"),
    ("process host", "every cell has the same name"),
    // System calls that the filter refuses and the kernel might not: those of Docker's default profile, and a few more.
    ("call add_key", "keys outlive a cell"),
    ("call bpf", "programs in the kernel"),
    ("call fanotify_init", "watching file systems"),
    ("call fsopen", "mounting"),
    ("call fspick", "mounting"),
    ("call fsmount", "mounting"),
    ("call fsconfig", "mounting"),
    ("call get_mempolicy", "memory of other processes' nodes, as Docker has it"),
    ("call 206", "io_setup, of whose requests the whole host has few"),
    ("call io_uring_*", "a way around the filter, as Docker has it"),
    ("call kcmp", "comparing other processes"),
    ("call keyctl", "keys outlive a cell"),
    ("call lookup_dcookie", "the host's file names"),
    ("call mbind", "memory of other nodes, as Docker has it"),
    ("call migrate_pages", "memory of other nodes, as Docker has it"),
    ("call mount_setattr", "mounting"),
    ("call move_mount", "mounting"),
    ("call move_pages", "memory of other nodes, as Docker has it"),
    ("call name_to_handle_at", "a way around folders"),
    ("call open_by_handle_at", "a way around folders"),
    ("call open_tree", "mounting"),
    ("call perf_event_open", "the host's counters"),
    ("call pidfd_getfd", "descriptors of other processes"),
    ("call process_vm_*", "memory of other processes"),
    ("call quotactl*", "the host's disks"),
    ("call request_key", "keys outlive a cell"),
    ("call set_mempolicy*", "memory of other nodes, as Docker has it"),
    ("call setns", "namespaces"),
    ("call syslog", "the host's kernel"),
    ("call sysfs", "a call that nobody uses any more"),
    ("call unshare", "namespaces"),
    ("call uselib", "a call that nobody uses any more"),
    ("call userfaultfd", "a help for attacks on the kernel"),
    ("call ustat", "a call that nobody uses any more"),
    ("call vmsplice", "as Docker has it"),
    ("call adjtimex", "the host's clock"),
    ("call chroot", "roots"),
    ("call clock_adjtime", "the host's clock"),
    ("call clock_settime", "the host's clock"),
    ("call clone", "namespaces, which the arguments of the probe ask for"),
    ("call landlock_restrict_self", "needs no_new_privs, which a plain user's shell doesn't have"),
    ("call mount", "mounting"),
    ("call process_madvise", "memory of other processes"),
    ("call settimeofday", "the host's clock"),
    ("call swapo*", "the host's memory"),
    ("call umount2", "mounting"),
    ("call clone3", "its arguments can't be looked into: the C library takes clone in its place"),
    ("call newer *", "calls that came after Linux 6.7 do not exist"),
    ("call * refused anyhow", "the kernel refuses it to an ordinary user too, with another word"),
];

#[test]
fn a_cell_differs_from_a_plain_users_shell_only_where_there_is_a_reason() {
    if std::env::var_os(ASKED).is_some() {
        println!("\n{}", probe());
        return;
    }
    let program = std::env::current_exe().unwrap();
    let name = "plain::a_cell_differs_from_a_plain_users_shell_only_where_there_is_a_reason";

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Where an ordinary user finds it.
    let copy = dir.path().join("probe");
    std::fs::copy(&program, &copy).unwrap();
    let mut plain = std::process::Command::new(&copy);
    plain.args([name, "--exact", "--nocapture"]).env_clear().env(ASKED, "1").current_dir("/");
    if is_root() {
        plain.uid(USER).gid(USER);
    }
    let plain = plain.output().unwrap();
    assert!(plain.status.success(), "{}", String::from_utf8_lossy(&plain.stderr));
    let plain = seen(&String::from_utf8_lossy(&plain.stdout));

    let mut bench = native();
    bench.env.push((ASKED.to_owned(), "1".to_owned()));
    bench.spec.mounts.push(Mount { at: "/probe".into(), what: MountKind::ReadOnly(copy) });
    let exit = block_on(bench.run(&format!("exec /probe {name} --exact --nocapture")));
    let printed = String::from_utf8_lossy(&exit.output.head).into_owned();
    assert_eq!(exit.end, End::Code(0), "{printed}");
    let cell = seen(&printed);

    assert!(plain.len() > 300 && cell.len() > 300, "{} {}", plain.len(), cell.len());
    let names: std::collections::BTreeSet<&String> = plain.keys().chain(cell.keys()).collect();
    let mut unexplained = String::new();
    for name in names {
        let (plain, cell) = (plain.get(name), cell.get(name));
        if plain != cell && !is_explained(name, plain, cell) {
            writeln!(unexplained, "{name}: plainly {plain:?}, in a cell {cell:?}").unwrap();
        }
    }
    assert!(unexplained.is_empty(), "nothing on the list explains:\n{unexplained}");
}

/// Whether the list explains a difference as a whole, or each field of it that differs.
fn is_explained(name: &str, plain: Option<&String>, cell: Option<&String>) -> bool {
    let is_listed = |what: &str| DIFFERENCES.iter().any(|(pattern, _)| fits(pattern, what));
    let (Some(plain), Some(cell)) = (plain, cell) else { return is_listed(name) };
    if name.starts_with("call ") && [plain, cell].iter().all(|what| ["EPERM", "ENOSYS"].contains(&what.as_str())) {
        return is_listed(&format!("{name} refused anyhow"));
    }
    // Kinds have no name, and are explained only with the whole.
    let differing = plain.split(", ").zip(cell.split(", ")).filter(|(plain, cell)| plain != cell);
    let mut field = differing.map(|(_, cell)| {
        let word = cell.split(' ').next().unwrap_or_default();
        is_listed(&format!("{name}: {word}")) || is_listed(&format!("{name}: {cell}"))
    });
    is_listed(name) || field.all(|is_listed| is_listed)
}

/// Whether a name is as a pattern has it, where `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| fits(after, &rest[at..]))
        }),
    }
}

/// The output of a probe: names and values.
fn seen(printed: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().filter_map(|line| line.trim_end().strip_prefix(MARK)?.split_once(" = "));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// All that this process sees, a line each.
fn probe() -> String {
    let mut lines = String::new();
    let mut say = |name: &str, value: &str| writeln!(lines, "{MARK}{name} = {value}").unwrap();
    for path in FILES {
        if let Some(text) = file(Path::new(path)) {
            say(&format!("file {path}"), &text);
        }
    }
    for entry in std::fs::read_dir("/dev").unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_char_device() || kind.is_block_device() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !FILES.contains(&format!("/dev/{name}").as_str()) {
                say(&format!("device {name}"), "there");
            }
        }
    }
    for line in std::fs::read_to_string("/proc/self/limits").unwrap().lines().skip(1) {
        let (name, values) = line.split_at(26);
        say(&format!("limit {}", name.trim()), &values.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    }
    // Values that differ between any two processes are ignored.
    const OWN: [&str; 21] = [
        "Name",
        "State",
        "Tgid",
        "Ngid",
        "Pid",
        "PPid",
        "Uid",
        "Gid",
        "FDSize",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
        "Threads",
        "SigQ",
        "SigPnd",
        "ShdPnd",
        "Kthread",
        "x86_Thread_features",
        "x86_Thread_features_locked",
        "TracerPid",
    ];
    // Of this thread: the main one blocks signals while it starts another.
    for line in std::fs::read_to_string("/proc/thread-self/status").unwrap().lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if !OWN.contains(&name)
            && !name.starts_with("Vm")
            && !name.starts_with("Rss")
            && !name.contains("switches")
            && !name.starts_with("Huge")
        {
            say(&format!("process {name}"), value.trim());
        }
    }
    say("process oom_score_adj", std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim());
    say("process uid", &nix::unistd::geteuid().to_string());
    say("process gid", &nix::unistd::getegid().to_string());
    say("process host", &nix::unistd::gethostname().unwrap().to_string_lossy());
    for user in ["root", "daemon", "nobody"] {
        let found = nix::unistd::User::from_name(user).unwrap();
        say(&format!("user {user}"), &found.map(|user| user.uid.to_string()).unwrap_or_default());
    }
    for group in ["root", "tty", "nogroup", "users"] {
        let found = nix::unistd::Group::from_name(group).unwrap();
        say(&format!("group {group}"), &found.map(|group| group.gid.to_string()).unwrap_or_default());
    }
    #[cfg(target_arch = "x86_64")]
    for number in 0..=470 {
        if let Some(answer) = call(number) {
            let name = CALLS.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned());
            let name =
                name.unwrap_or_else(|| if number > 456 { format!("newer {number}") } else { number.to_string() });
            say(&format!("call {name}"), &answer);
        }
    }
    lines
}

/// A file in words: kind, mode, owner, and where a link leads.
fn file(path: &Path) -> Option<String> {
    let metadata = path.symlink_metadata().ok()?;
    let kind = metadata.file_type();
    let owner = match metadata.uid() {
        0 => "root",
        uid if uid == nix::unistd::geteuid().as_raw() => "me",
        65_534 => "nobody",
        _ => "somebody",
    };
    if kind.is_symlink() {
        let target = std::fs::read_link(path).ok()?;
        return Some(format!("a link, link {}, owner {owner}", target.display()));
    }
    let what = if kind.is_dir() {
        "a folder"
    } else if kind.is_char_device() {
        "a device"
    } else {
        "a file"
    };
    Some(format!("{what}, mode {:o}, owner {owner}", metadata.mode() & 0o7777))
}

/// Makes a system call with arguments that mean nothing, in a separate process: whether it exists and is allowed.
/// `None`: not to be tried.
#[cfg(target_arch = "x86_64")]
fn call(number: libc::c_long) -> Option<String> {
    // The first writes all disks, and the second would leave a queue behind.
    if [libc::SYS_sync, libc::SYS_msgget].contains(&number) {
        return None;
    }
    // SAFETY: the child makes two system calls, and ends; the parent waits for it.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(1);
            let result = libc::syscall(number, -1, -1, -1, -1, -1, -1);
            libc::_exit(if result == -1 { *libc::__errno_location() } else { 0 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    };
    // Any other end means that the kernel has looked at the arguments.
    Some(match libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)) {
        Some(libc::ENOSYS) => "ENOSYS".to_owned(),
        Some(libc::EPERM) => "EPERM".to_owned(),
        Some(_) | None => "there".to_owned(),
    })
}

#[test]
fn a_pattern_fits_what_begins_and_ends_like_it() {
    for (pattern, name, expected) in [
        ("call bpf", "call bpf", true),
        ("call bpf", "call bpfx", false),
        ("file /etc/rc*", "file /etc/rc0.d", true),
        ("file /*: owner nobody", "file /dev/null: owner nobody", true),
        ("file /*: owner nobody", "file /dev/null: owner me", false),
        ("call * refused anyhow", "call acct refused anyhow", true),
    ] {
        assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
    }
}

/// The top of a minimal Debian 12, two levels deep where folders matter, as `debootstrap --variant=minbase` makes it.
const FILES: &[&str] = &[
    "/bin",
    "/bin/sh",
    "/boot",
    "/dev",
    "/dev/console",
    "/dev/core",
    "/dev/fd",
    "/dev/full",
    "/dev/mqueue",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/random",
    "/dev/shm",
    "/dev/stderr",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
    "/etc",
    "/etc/.pwd.lock",
    "/etc/adduser.conf",
    "/etc/alternatives",
    "/etc/apt",
    "/etc/bash.bashrc",
    "/etc/bindresvport.blacklist",
    "/etc/ca-certificates",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/debconf.conf",
    "/etc/debian_version",
    "/etc/default",
    "/etc/default/locale",
    "/etc/deluser.conf",
    "/etc/dpkg",
    "/etc/e2scrub.conf",
    "/etc/environment",
    "/etc/ethertypes",
    "/etc/fstab",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/group-",
    "/etc/gshadow",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/init.d",
    "/etc/issue",
    "/etc/issue.net",
    "/etc/kernel",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/libaudit.conf",
    "/etc/localtime",
    "/etc/login.defs",
    "/etc/logrotate.d",
    "/etc/machine-id",
    "/etc/mime.types",
    "/etc/mke2fs.conf",
    "/etc/motd",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/opt",
    "/etc/os-release",
    "/etc/pam.conf",
    "/etc/pam.d",
    "/etc/passwd",
    "/etc/passwd-",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/rc0.d",
    "/etc/rc1.d",
    "/etc/rc2.d",
    "/etc/rc3.d",
    "/etc/rc4.d",
    "/etc/rc5.d",
    "/etc/rc6.d",
    "/etc/rcS.d",
    "/etc/resolv.conf",
    "/etc/rmt",
    "/etc/rpc",
    "/etc/security",
    "/etc/selinux",
    "/etc/services",
    "/etc/shadow",
    "/etc/shells",
    "/etc/skel",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/subgid",
    "/etc/subuid",
    "/etc/systemd",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/update-motd.d",
    "/etc/xattr.conf",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/diskstats",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/net/dev",
    "/proc/partitions",
    "/proc/self/cgroup",
    "/proc/self/mounts",
    "/proc/stat",
    "/proc/sys/kernel/osrelease",
    "/proc/uptime",
    "/proc/version",
    "/root",
    "/run",
    "/run/lock",
    "/run/mount",
    "/sbin",
    "/srv",
    "/sys",
    "/sys/block",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices",
    "/sys/devices/system/cpu",
    "/sys/devices/system/cpu/online",
    "/sys/firmware",
    "/sys/fs",
    "/sys/kernel",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/module",
    "/sys/power",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/bin/env",
    "/usr/lib",
    "/usr/share/zoneinfo",
    "/var",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/misc",
    "/var/lib/pam",
    "/var/lib/shells.state",
    "/var/lib/systemd",
    "/var/local",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/opt",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// The names of those calls that the list above has.
#[cfg(target_arch = "x86_64")]
const CALLS: &[(libc::c_long, &str)] = &[
    (libc::SYS_add_key, "add_key"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_fanotify_init, "fanotify_init"),
    (libc::SYS_fsopen, "fsopen"),
    (libc::SYS_fspick, "fspick"),
    (libc::SYS_fsmount, "fsmount"),
    (libc::SYS_fsconfig, "fsconfig"),
    (libc::SYS_get_mempolicy, "get_mempolicy"),
    (libc::SYS_io_uring_setup, "io_uring_setup"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_io_uring_register, "io_uring_register"),
    (libc::SYS_kcmp, "kcmp"),
    (libc::SYS_keyctl, "keyctl"),
    (libc::SYS_lookup_dcookie, "lookup_dcookie"),
    (libc::SYS_mbind, "mbind"),
    (libc::SYS_migrate_pages, "migrate_pages"),
    (libc::SYS_mount_setattr, "mount_setattr"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_move_pages, "move_pages"),
    (libc::SYS_name_to_handle_at, "name_to_handle_at"),
    (libc::SYS_open_by_handle_at, "open_by_handle_at"),
    (libc::SYS_open_tree, "open_tree"),
    (libc::SYS_perf_event_open, "perf_event_open"),
    (libc::SYS_pidfd_getfd, "pidfd_getfd"),
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    (libc::SYS_quotactl, "quotactl"),
    (libc::SYS_quotactl_fd, "quotactl_fd"),
    (libc::SYS_request_key, "request_key"),
    (libc::SYS_set_mempolicy, "set_mempolicy"),
    (libc::SYS_set_mempolicy_home_node, "set_mempolicy_home_node"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_syslog, "syslog"),
    (libc::SYS_sysfs, "sysfs"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_uselib, "uselib"),
    (libc::SYS_userfaultfd, "userfaultfd"),
    (libc::SYS_ustat, "ustat"),
    (libc::SYS_vmsplice, "vmsplice"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_landlock_restrict_self, "landlock_restrict_self"),
    (libc::SYS_prlimit64, "prlimit64"),
    (libc::SYS_process_madvise, "process_madvise"),
    (libc::SYS_acct, "acct"),
    (libc::SYS_chroot, "chroot"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_pivot_root, "pivot_root"),
    (libc::SYS_reboot, "reboot"),
    (libc::SYS_swapon, "swapon"),
    (libc::SYS_swapoff, "swapoff"),
    (libc::SYS_settimeofday, "settimeofday"),
    (libc::SYS_clock_settime, "clock_settime"),
    (libc::SYS_adjtimex, "adjtimex"),
    (libc::SYS_clock_adjtime, "clock_adjtime"),
    (libc::SYS_init_module, "init_module"),
    (libc::SYS_finit_module, "finit_module"),
    (libc::SYS_delete_module, "delete_module"),
    (libc::SYS_kexec_load, "kexec_load"),
    (libc::SYS_kexec_file_load, "kexec_file_load"),
    (libc::SYS_iopl, "iopl"),
    (libc::SYS_ioperm, "ioperm"),
    (libc::SYS_vhangup, "vhangup"),
    (libc::SYS_nfsservctl, "nfsservctl"),
];
