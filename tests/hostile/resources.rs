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
fn a_hole_is_no_larger_than_a_file_may_be() {
    on_disk("exec truncate -s 1T hole").ends(End::OverDisk);
    on_disk("sh -c 'truncate -s 1T hole; :' 2>/dev/null; stat -c %s hole").prints("0\n");
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
