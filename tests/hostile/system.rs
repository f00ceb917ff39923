//! The kernel's own doors.

use maar::sandbox::End;

use crate::arena::attack;

/// Runs a command that must not work.
#[track_caller]
fn refused(command: &str) {
    attack(&format!("({command}) >/dev/null 2>&1 && echo worked || echo refused")).prints("refused\n");
}

#[test]
fn settings_and_doors_of_proc_are_shut() {
    refused("echo b > /proc/sysrq-trigger");
    refused("echo '|/work/x' > /proc/sys/kernel/core_pattern");
    refused("echo 1 > /proc/sys/vm/drop_caches");
    refused("echo 0 > /proc/irq/0/smp_affinity");
    attack("head -c 1 /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | tr -d '=<>/a-z_ \\n'; echo").prints("\n");
}

#[test]
fn there_are_no_cgroups_to_leave() {
    attack(
        "find /sys -name 'cgroup*'; mkdir /sys/fs 2>/dev/null; cut -d' ' -f5 /proc/self/mountinfo |
         while read -r at; do ls -d $at/cgroup.procs 2>/dev/null; done; echo none",
    )
    .prints("none\n");
}

#[test]
fn there_are_no_devices_and_none_can_be_made() {
    refused("mknod disk b 8 0");
    refused("mknod /tmp/mem c 1 1");
    refused("head -c 1 /dev/sda /dev/vda /dev/mem /dev/kmsg");
}

#[test]
fn mounts_namespaces_and_roots_are_refused() {
    refused("mount -t tmpfs x /tmp");
    refused("mount --bind / /tmp");
    refused("umount /proc");
    refused("unshare -Ur true");
    refused("unshare -m true");
    refused("nsenter -t 1 -a true");
    refused("chroot / true");
    refused("pivot_root / /tmp");
}

#[test]
fn the_clock_and_the_host_name_stay() {
    refused("date -s 2000-01-01");
    refused("hwclock --systohc");
    refused("bash -c 'enable -f /nowhere x || echo x > /proc/sys/kernel/hostname'");
    attack("hostname owned 2>/dev/null; uname -n").prints("maar\n");
}

#[test]
fn calls_that_no_crate_needs_are_refused() {
    let calls = [
        "bpf",
        "fsopen",
        "init_module",
        "io_uring_setup",
        "keyctl",
        "kexec_load",
        "open_by_handle_at",
        "perf_event_open",
        "process_vm_readv",
        "reboot",
        "setns",
        "userfaultfd",
    ];
    let expected = calls.map(|call| format!("{call}: Operation not permitted (os error 1)\n")).concat();
    attack("/attack calls").prints(&expected);
}

#[test]
fn raw_and_foreign_sockets_are_refused() {
    // AF_INET, SOCK_RAW, ICMP.
    attack("/attack socket 2,3,1").prints("socket: Operation not permitted (os error 1)\n");
    // AF_PACKET, AF_ALG, AF_VSOCK.
    for family in [17, 38, 40] {
        attack(&format!("/attack socket {family},3,0"))
            .prints("socket: Address family not supported by protocol (os error 97)\n");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn numbers_of_another_architecture_are_fatal() {
    attack("exec /attack int80").ends(End::Signal(libc::SIGSYS));
}
