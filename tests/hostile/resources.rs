//! Memory, disk and files, as much as there are and more.

use bytesize::ByteSize;
use maar::sandbox::End;

use crate::arena::{Attack, attack};

/// An attack on memory, where that is limited as a whole.
#[track_caller]
fn out_of_memory(script: &str) {
    if let Some(attack) = attack(script).enforced("memory") {
        attack.ends(End::OutOfMemory);
    }
}

fn on_disk(script: &str) -> Attack {
    attack(script).with(|bench| bench.spec.limits.disk = ByteSize::mib(64))
}

#[test]
fn memory_runs_out_wherever_it_is_taken() {
    out_of_memory("exec /attack memory");
    out_of_memory("/attack memory; exit 101");
    out_of_memory("(/attack memory; exit 5) & wait; exit 6");
    out_of_memory("exec /attack memfd");
}

#[test]
fn answers_that_wait_in_sockets_of_the_kernel_are_memory() {
    attack("ulimit -n $(ulimit -Hn); exec /attack netlink").ends(End::OutOfMemory);
}

#[test]
fn folders_in_memory_are_memory() {
    for folder in ["/tmp", "/var/tmp", "/dev/shm", "/home/maar"] {
        out_of_memory(&format!("head -c 500M /dev/zero > {folder}/a; exit 1"));
    }
}

#[test]
fn a_full_disk_is_the_attackers_own() {
    on_disk("i=0; while head -c 20M /dev/zero > $i; do i=$((i+1)); sleep 0.1; done").ends(End::OverDisk);
}

#[test]
fn files_count_although_they_are_empty() {
    on_disk("i=0; while :; do i=$((i+1)); seq $i$i 30000$i | xargs touch; done").ends(End::OverDisk);
}

#[test]
fn a_file_may_have_a_hole_of_any_size_and_what_it_holds_is_counted() {
    for folder in [".", "/tmp", "/dev/shm", "/home/maar"] {
        on_disk(&format!("cd {folder}; truncate -s 1T hole && stat -c %s hole")).prints("1099511627776\n");
    }
    on_disk(
        "truncate -s 1T hole; dd if=/dev/zero of=hole bs=1M count=100 seek=500000 conv=notrunc 2>/dev/null; sleep 600",
    )
    .ends(End::OverDisk);
}

#[test]
fn folders_of_any_depth_are_removed() {
    // The arena removes the attack's files.
    attack("/attack deep 3000").prints("made\n");
}

#[test]
fn open_files_are_limited() {
    attack("ulimit -n $(ulimit -Hn); /attack files").prints("refused\n");
}
