//! What the kernel counts for all cells together, or for all of one user: nobody gets so much that others lack it.

use maar::sandbox::End;

use crate::arena::{Attack, attack};
use crate::bench::text;
use crate::ground::is_containers;

/// How many an attack got before it was refused.
#[track_caller]
fn refused_at(attack: Attack) -> usize {
    let exit = attack.ends(End::Code(0));
    text(&exit).trim().rsplit(' ').next().unwrap().parse().unwrap()
}

fn setting(path: &str) -> usize {
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

#[test]
fn one_cell_does_not_use_up_the_terminals_of_the_host() {
    // Docker mounts the terminals of its containers itself.
    if is_containers() {
        return;
    }
    let got = refused_at(attack("ulimit -n $(ulimit -Hn); /attack terminals"));
    assert!((16..=256).contains(&got), "{got}");
    assert!(got * 4 <= setting("/proc/sys/kernel/pty/max"), "{got}");
}

#[test]
fn one_cell_does_not_use_up_the_watchers_of_a_user() {
    if is_containers() {
        return;
    }
    let got = refused_at(attack("ulimit -n $(ulimit -Hn); /attack watchers"));
    let most = setting("/proc/sys/fs/inotify/max_user_instances");
    assert!(got >= 16 && got * 2 <= most, "{got} of {most}");
}

#[test]
fn buffers_of_connections_count_as_memory() {
    // Docker counts them with cgroups of version 2 only.
    if is_containers() {
        return;
    }
    let Some(attack) = attack("ulimit -n $(ulimit -Hn); /attack tcp").enforced("memory") else { return };
    let attack = attack.with(|bench| bench.spec.limits.memory = bytesize::ByteSize::mib(64));
    // A kernel that refuses more lets the attack go on; one that counts them with all else ends it.
    let exit = attack.exit();
    match exit.end {
        End::Code(0) => {
            let filled: usize = text(&exit).trim().rsplit(' ').next().unwrap().parse().unwrap();
            // Each end of a connection may hold a little, whatever the limit.
            assert!(filled <= 160, "{filled} MiB");
        }
        end => assert_eq!(end, End::OutOfMemory),
    }
}
