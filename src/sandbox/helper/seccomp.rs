//! Which system calls a cell's processes may make.
//!
//! A deny list that leaves no more than the
//! [default profile of Docker](https://github.com/moby/profiles/blob/main/seccomp/default.json) does, and less of a
//! few doors: other processes' memory, netlink beyond routes, handles of files. Refused calls fail; nothing is killed
//! for trying but programs of another architecture (32-bit x86), whose numbers mean something else. `ptrace` is
//! allowed, as it is there: a command sees only the crate's own processes, and init may not be traced.

use std::collections::BTreeMap;

use nix::errno::Errno;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::sandbox::error::{Fault, Step};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Filtered<T> = Result<T, BackendError>;

/// Calls that fail with EPERM for all arguments. Calls that no supported kernel has are left out.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

/// Calls that fail with ENOSYS, as where the kernel has none. Of the requests of `io_setup` the whole host has 65536,
/// and one process may take them all; programs that use it do without on kernels that are built so.
const ABSENT: [libc::c_long; 2] = [libc::SYS_clone3, libc::SYS_io_setup];

/// The last call that was looked at: `futex_requeue`, the same number on all architectures (asm-generic/unistd.h).
/// Newer calls may have effects that this list doesn't know. Calls of the x32 ABI have larger numbers too.
const LAST_KNOWN: u32 = 456;

/// What `clone` must not make: mount, cgroup, UTS, IPC, user, pid and network namespaces.
const NEW_NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Input that is put into the queue of a terminal, or of the console.
const TERMINAL_INPUT: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question which one it is: those that Docker allows.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Calls that schedule the process of their first argument.
const OF_ONE_PROCESS: [libc::c_long; 4] =
    [libc::SYS_sched_setaffinity, libc::SYS_sched_setattr, libc::SYS_sched_setparam, libc::SYS_sched_setscheduler];

/// Calls that give a priority to a process, a group of processes or a user, with the kernel's numbers for these three:
/// sys/resource.h, linux/ioprio.h.
const PRIORITIES: [(libc::c_long, u64, u64, u64); 2] =
    [(libc::SYS_setpriority, 0, 1, 2), (libc::SYS_ioprio_set, 1, 2, 3)];

/// Kinds of sockets that have no name beyond this cell's own network.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Refuses these calls to this process and all its children, for good. It must have no way to new privileges.
pub(super) fn enter() -> Result<(), Fault> {
    let programs = TargetArch::try_from(std::env::consts::ARCH)
        .and_then(programs)
        .map_err(|_| Fault::new(Step::SystemCalls, Errno::ENOSYS))?;
    programs.iter().try_for_each(|program| {
        seccompiler::apply_filter(program).map_err(|error| {
            let errno = match error {
                seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => super::errno_of(&source),
                _ => Errno::EINVAL,
            };
            Fault::new(Step::SystemCalls, errno)
        })
    })
}

/// One program for each way to refuse: the kernel obeys the one that refuses.
fn programs(arch: TargetArch) -> Filtered<[BpfProgram; 3]> {
    let mut absent = program(Errno::ENOSYS, ABSENT.map(|call| (call, Vec::new())).into(), arch)?;
    absent.splice(0..0, beyond_last_known());
    Ok([program(Errno::EPERM, forbidden()?, arch)?, program(Errno::EAFNOSUPPORT, sockets()?, arch)?, absent])
}

fn program(errno: Errno, rules: Rules, arch: TargetArch) -> Filtered<BpfProgram> {
    SeccompFilter::new(rules, SeccompAction::Allow, refuse(errno), arch)?.try_into()
}

fn refuse(errno: Errno) -> SeccompAction {
    SeccompAction::Errno((errno as i32).cast_unsigned())
}

fn forbidden() -> Filtered<Rules> {
    let mut rules: Rules = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    // `clone3` keeps its flags in memory, where no filter can read them: without it, libraries fall back to `clone`.
    let new_namespace =
        |flag: i32| argument(0, SeccompCmpOp::MaskedEq(bits(flag)), bits(flag)).and_then(|is| all([is]));
    rules.insert(libc::SYS_clone, NEW_NAMESPACES.into_iter().map(new_namespace).collect::<Filtered<_>>()?);
    let terminal_input = |request| argument(1, SeccompCmpOp::Eq, request).and_then(|is| all([is]));
    rules.insert(libc::SYS_ioctl, TERMINAL_INPUT.into_iter().map(terminal_input).collect::<Filtered<_>>()?);
    // The command has init's user, and could let init use no more CPU time than it has had: the kernel would kill it.
    rules.insert(libc::SYS_prlimit64, vec![all([argument(0, SeccompCmpOp::Eq, 1)?])?]);
    rules.extend(scheduling_of_init()?);
    let none_of = PERSONALITIES.into_iter().map(|allowed| argument(0, SeccompCmpOp::Ne, allowed));
    rules.insert(libc::SYS_personality, vec![all(none_of.collect::<Filtered<Vec<_>>>()?)?]);
    Ok(rules)
}

/// The calls that could make init, process 1 of the same user, run last or never: a cell ends only when init has run.
fn scheduling_of_init() -> Filtered<Rules> {
    let is_init = |place| argument(place, SeccompCmpOp::Eq, 1);
    let which = |number| argument(0, SeccompCmpOp::Eq, number);
    let mut rules: Rules = BTreeMap::new();
    for call in OF_ONE_PROCESS {
        rules.insert(call, vec![all([is_init(0)?])?]);
    }
    // (call, one process, a process group, all processes of a user). A command's group is never that of init.
    for (call, process, group, user) in PRIORITIES {
        let refused = [all([which(process)?, is_init(1)?])?, all([which(group)?, is_init(1)?])?, all([which(user)?])?];
        rules.insert(call, refused.into());
    }
    Ok(rules)
}

fn sockets() -> Filtered<Rules> {
    let none_of = FAMILIES.into_iter().map(|family| argument(0, SeccompCmpOp::Ne, bits(family)));
    let other_family = all(none_of.collect::<Filtered<Vec<_>>>()?)?;
    let other_netlink = all([
        argument(0, SeccompCmpOp::Eq, bits(libc::AF_NETLINK))?,
        argument(2, SeccompCmpOp::Ne, bits(libc::NETLINK_ROUTE))?,
    ])?;
    Ok(BTreeMap::from([
        (libc::SYS_socket, vec![other_family.clone(), other_netlink]),
        (libc::SYS_socketpair, vec![other_family]),
    ]))
}

/// Instructions that answer ENOSYS to numbers above the last known one, and else go on with what follows.
fn beyond_last_known() -> [sock_filter; 3] {
    let instruction = |code: u32, k: u32, jf: u8| sock_filter { code: code as u16, jt: 0, jf, k };
    [
        // The number is the first field of `seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, LAST_KNOWN, 1),
        instruction(libc::BPF_RET | libc::BPF_K, u32::from(refuse(Errno::ENOSYS)), 0),
    ]
}

/// A condition on the lower half of an argument: the kernel looks at no more of those that are compared here.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Filtered<SeccompCondition> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

fn all(conditions: impl Into<Vec<SeccompCondition>>) -> Filtered<SeccompRule> {
    SeccompRule::new(conditions.into())
}

fn bits(number: i32) -> u64 {
    u64::from(number.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of a system call in a thread behind the filter, as root or not.
    fn behind_the_filter(call: libc::c_long, arguments: [u64; 3]) -> nix::Result<()> {
        let thread = std::thread::spawn(move || {
            enter().unwrap();
            let [a, b, c] = arguments;
            // SAFETY: calls of these tests touch no memory but that of a refused call, which touches none.
            Errno::result(unsafe { libc::syscall(call, a, b, c, 0, 0, 0) }).map(drop)
        });
        thread.join().unwrap()
    }

    #[track_caller]
    fn check(call: libc::c_long, arguments: [u64; 3], expected: nix::Result<()>) {
        assert_eq!(behind_the_filter(call, arguments), expected, "{call} {arguments:x?}");
    }

    #[test]
    fn refused_calls_fail_and_nothing_dies() {
        for &call in REFUSED {
            check(call, [0; 3], Err(Errno::EPERM));
        }
    }

    #[test]
    fn calls_that_are_not_known_are_absent() {
        for call in ABSENT {
            check(call, [0; 3], Err(Errno::ENOSYS));
        }
        for call in [457, 462, 470, 4096] {
            check(call, [0; 3], Err(Errno::ENOSYS));
        }
    }

    /// Numbers of calls are those of the host; what differs is whose numbers a program takes them for.
    #[test]
    fn programs_are_for_one_architecture_and_kill_what_is_of_another() {
        // `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64` of linux/audit.h.
        for (arch, number) in [(TargetArch::x86_64, 0xc000_003e), (TargetArch::aarch64, 0xc000_00b7)] {
            for program in programs(arch).unwrap() {
                let at = program.iter().position(|step| step.k == number).unwrap();
                let [is_it, otherwise] = [&program[at], &program[at + 1]];
                assert_eq!((is_it.jt, is_it.jf), (1, 0), "{number:x}");
                assert_eq!(otherwise.k, libc::SECCOMP_RET_KILL_PROCESS, "{number:x}");
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn another_abi_is_no_way_around() {
        /// `__X32_SYSCALL_BIT` of asm/unistd.h.
        const X32: libc::c_long = 0x4000_0000;
        for call in [libc::SYS_getpid, libc::SYS_mount, libc::SYS_unshare] {
            check(X32 | call, [0; 3], Err(Errno::ENOSYS));
        }
    }

    #[test]
    fn clone_makes_no_namespaces() {
        for flag in NEW_NAMESPACES {
            check(libc::SYS_clone, [bits(flag) | libc::SIGCHLD as u64, 0, 0], Err(Errno::EPERM));
            // The kernel ignores the upper half; so must the filter.
            check(libc::SYS_clone, [1 << 40 | bits(flag), 0, 0], Err(Errno::EPERM));
        }
    }

    #[test]
    fn terminals_take_no_input_from_inside() {
        for request in TERMINAL_INPUT {
            check(libc::SYS_ioctl, [u64::MAX, request, 0], Err(Errno::EPERM));
            check(libc::SYS_ioctl, [u64::MAX, 1 << 32 | request, 0], Err(Errno::EPERM));
        }
        check(libc::SYS_ioctl, [u64::MAX, libc::TIOCGWINSZ, 0], Err(Errno::EBADF));
    }

    #[test]
    fn limits_are_set_for_anybody_but_init() {
        check(libc::SYS_prlimit64, [1, 0, 0], Err(Errno::EPERM));
        check(libc::SYS_prlimit64, [0, 0, 0], Ok(()));
        // No process has that number.
        check(libc::SYS_prlimit64, [0x7fff_fffe, 0, 0], Err(Errno::ESRCH));
    }

    #[test]
    fn init_is_scheduled_as_it_was() {
        for call in OF_ONE_PROCESS {
            check(call, [1, 0, 0], Err(Errno::EPERM));
        }
        for (call, process, group, user) in PRIORITIES {
            for arguments in [[process, 1, 0], [group, 1, 0], [user, 0, 0], [user, 1000, 0]] {
                check(call, arguments, Err(Errno::EPERM));
            }
            check(call, [process, 0, 0], Ok(()));
        }
        // The calling thread: the call is made, and finds no parameters.
        check(libc::SYS_sched_setparam, [0, 0, 0], Err(Errno::EINVAL));
    }

    #[test]
    fn only_harmless_personalities_are_taken_on() {
        check(libc::SYS_personality, [0xffff_ffff, 0, 0], Ok(()));
        check(libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE as u64, 0, 0], Err(Errno::EPERM));
        check(libc::SYS_personality, [libc::READ_IMPLIES_EXEC as u64, 0, 0], Err(Errno::EPERM));
    }

    #[test]
    fn sockets_are_local_internet_or_of_routes() {
        let stream = libc::SOCK_STREAM as u64;
        let raw = libc::SOCK_RAW as u64;
        for family in [libc::AF_UNIX, libc::AF_INET] {
            check(libc::SYS_socket, [bits(family), stream, 0], Ok(()));
        }
        check(libc::SYS_socket, [bits(libc::AF_NETLINK), raw, bits(libc::NETLINK_ROUTE)], Ok(()));
        check(libc::SYS_socket, [bits(libc::AF_NETLINK), raw, 12], Err(Errno::EAFNOSUPPORT));
        for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK, libc::AF_BLUETOOTH, libc::AF_XDP, libc::AF_TIPC] {
            check(libc::SYS_socket, [bits(family), raw, 0], Err(Errno::EAFNOSUPPORT));
            check(libc::SYS_socketpair, [bits(family), raw, 0], Err(Errno::EAFNOSUPPORT));
        }
    }

    #[test]
    fn ordinary_work_goes_on() {
        behind_the_filter(libc::SYS_getpid, [0; 3]).unwrap();
        let thread = std::thread::spawn(|| {
            enter().unwrap();
            // A thread, a child, a file and a socket of the standard library's.
            std::thread::spawn(|| 1).join().unwrap();
            let output = std::process::Command::new("true").output().unwrap();
            tempfile::tempfile().unwrap();
            std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            output.status.success()
        });
        assert!(thread.join().unwrap());
    }
}
