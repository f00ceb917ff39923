//! Limits that hold, and that differ from each other and from a command's own failure.

use std::time::Duration;

use bytesize::ByteSize;
use maar::sandbox::{Cores, End};

use crate::bench::{Bench, block_on, native, text};

/// A shell script that takes more memory than the bench's limit, in this very shell.
const GLUTTON: &str = "x=0123456789abcdef; while :; do x=$x$x; done";

fn ends(bench: &Bench, script: &str) -> End {
    block_on(bench.run(script)).end
}

#[test]
fn wall_time_is_limited() {
    let mut bench = native();
    // An emulator may take a second to come as far as the first word.
    bench.spec.limits.timeout = Duration::from_secs(3);
    bench.check("echo begun; while :; do :; done", End::TimedOut, "begun\n");
    bench.check("trap '' TERM INT HUP; echo begun; sleep 1000", End::TimedOut, "begun\n");
}

#[test]
fn silence_without_work_is_idle_and_silent_work_is_not() {
    let mut bench = native();
    bench.spec.limits.idle_timeout = Duration::from_secs(1);
    assert_eq!(ends(&bench, "sleep 1000"), End::Idle);
    assert_eq!(ends(&bench, "kill -STOP $$"), End::Idle);
    // An emulator may take a second for next to nothing.
    bench.spec.limits.idle_timeout = Duration::from_secs(4);
    bench.spec.limits.timeout = Duration::from_secs(6);
    assert_eq!(ends(&bench, "while :; do :; done"), End::TimedOut);
    assert_eq!(ends(&bench, "while sleep 0.1; do echo; done"), End::TimedOut);
}

#[test]
fn running_out_of_memory_is_told_even_when_only_a_child_dies() {
    let bench = native();
    if !bench.enforces("memory") {
        return;
    }
    assert_eq!(ends(&bench, GLUTTON), End::OutOfMemory);
    assert_eq!(ends(&bench, &format!("sh -c '{GLUTTON}'; exit 101")), End::OutOfMemory);
    // A command that copes with the loss has succeeded.
    assert_eq!(ends(&bench, &format!("sh -c '{GLUTTON}'; exit 0")), End::Code(0));
    // Files in memory count as memory.
    assert_eq!(ends(&bench, "head -c 500M /dev/zero > /tmp/a; exit 1"), End::OutOfMemory);
    // And the next command has all of it again.
    assert_eq!(ends(&bench, "head -c 200M /dev/zero > /tmp/a"), End::Code(0));
}

#[test]
fn processes_are_limited() {
    let bench = native();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do for j in 1 2 3 4 5 6 7 8; do sleep 1000 & done; done";
    assert_eq!(ends(&bench, script), End::OutOfProcesses);
    // A fork bomb harms no process outside and ends with its time.
    let mut bench = bench;
    bench.spec.limits.timeout = Duration::from_secs(1);
    assert_eq!(ends(&bench, "f() { f | f & f; }; f 2>/dev/null & exec sleep 1000"), End::TimedOut);
}

#[test]
fn cpu_is_limited_and_accounted_for() {
    let mut bench = native();
    if !bench.enforces("cpu") {
        return;
    }
    bench.spec.limits.cpus = 0.2;
    bench.spec.limits.timeout = Duration::from_secs(2);
    let exit = block_on(bench.run("while :; do :; done & while :; do :; done"));
    assert_eq!(exit.end, End::TimedOut);
    assert!(exit.usage.cpu * 3 < exit.usage.wall, "{:?}", exit.usage);
}

#[test]
fn a_command_may_have_cores_of_its_own() {
    let mut bench = native();
    bench.spec.limits.cpus = 1.0;
    bench.spec.limits.cores = Cores::Own;
    bench.check("nproc", End::Code(0), "1\n");
    // Two at a time are on different ones, if there are two.
    let which = "grep ^Cpus_allowed_list /proc/self/status; sleep 0.5";
    let mut other = native();
    (other.sandbox, other.spec.limits) = (bench.sandbox.clone(), bench.spec.limits);
    let both = block_on(async { tokio::join!(bench.run(which), other.run(which)) });
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert_ne!(text(&both.0), text(&both.1));
    }
    if bench.enforces("cpuset") {
        bench.check("taskset -c 0-1023 nproc", End::Code(0), "1\n");
    }
}

#[test]
fn disk_space_is_limited() {
    let mut bench = native();
    bench.spec.limits.disk = ByteSize::mib(64);
    // In one file, in many, and in so many that none of them holds anything.
    let script = "for i in 1 2 3 4; do head -c 20M /dev/zero > $i; done; sleep 1000";
    assert_eq!(ends(&bench, script), End::OverDisk);
    bench.empty();
    assert_eq!(ends(&bench, "exec head -c 80M /dev/zero > a"), End::OverDisk);
    bench.empty();
    bench.check("truncate -s 65M hole 2>/dev/null; ls -s", End::Code(0), "total 0\n0 hole\n");
    assert_eq!(ends(&bench, "rm *; for i in 1 2 3 4; do head -c 15M /dev/zero > $i; done"), End::Code(0));
    assert_eq!(ends(&bench, "rm *; seq 20000 | xargs touch; sleep 1000"), End::OverDisk);
    bench.empty();
    // A command that fails by itself is not over the limit.
    assert_eq!(ends(&bench, "head -c 15M /dev/zero > a; exit 1"), End::Code(1));
}

#[test]
fn who_prints_more_than_anyone_reads_is_ended() {
    let exit = block_on(native().run("exec cat /dev/zero"));
    assert_eq!(exit.end, End::Flooded);
}

#[test]
fn usage_covers_all_processes() {
    let bench = native();
    let idle = block_on(bench.run("sh -c : & wait"));
    let busy = block_on(bench.run("sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done' & wait"));
    assert_eq!((idle.end, busy.end), (End::Code(0), End::Code(0)));
    assert!(busy.usage.cpu > idle.usage.cpu * 3, "{:?} {:?}", busy.usage, idle.usage);
    if bench.enforces("memory") {
        let exit = block_on(bench.run("head -c 100M /dev/zero > /dev/shm/a"));
        assert!((ByteSize::mib(95)..ByteSize::mib(200)).contains(&exit.usage.peak_memory.unwrap()), "{:?}", exit.usage);
    }
}

#[test]
fn a_flood_of_output_is_kept_at_both_ends() {
    let mut bench = native();
    bench.spec.limits.output = ByteSize::kib(8);
    let exit = block_on(bench.run("echo first; head -c 200M /dev/zero; echo last"));
    assert_eq!(exit.end, End::Code(0));
    assert_eq!((exit.output.head.len(), exit.output.tail.len()), (4096, 4096));
    assert_eq!(exit.output.dropped, (200 << 20) + 6 + 5 - 8192);
    assert!(exit.output.head.starts_with(b"first\n\0"));
    assert!(exit.output.tail.ends_with(b"\0last\n"));
}

#[test]
fn a_full_disk_is_told_apart() {
    // The host's own disk can't be filled for a test: a small file system takes its place where one may be mounted.
    let bench = native();
    let full = bench.folder("full");
    let options = Some("size=18m,mode=777");
    let flags = nix::mount::MsFlags::empty();
    if let Err(errno) = nix::mount::mount(Some("tmpfs"), &full, Some("tmpfs"), flags, options) {
        return eprintln!("not tested here: a full disk (only root may mount one: {errno})");
    }
    let mut spec = bench.spec.clone();
    let what = maar::sandbox::MountKind::Writable(full.clone());
    spec.mounts.push(maar::sandbox::Mount { at: "/full".into(), what });
    let ends = |script| {
        block_on(async {
            let mut cell = bench.sandbox.open(spec.clone()).await.unwrap();
            let command = bench.shell(&cell, script);
            cell.run(&command, &maar::stop::Stop::never()).await.unwrap()
        })
    };
    let (roomy, filled) = (ends("exit 1").end, ends("head -c 50M /dev/zero > /full/a"));
    nix::mount::umount(&full).unwrap();
    assert_eq!(roomy, End::Code(1));
    assert_eq!(filled.end, End::OutOfDisk);
    assert!(text(&filled).contains("No space left on device"));
}
