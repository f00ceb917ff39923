//! The same ends as in the native sandbox, from the same commands.

use std::time::Duration;

use bytesize::ByteSize;
use maar::sandbox::End;
use maar::stop::{Stop, StopLevel};

use crate::bench::{block_on, text};
use crate::setup::{daemon, docker};

/// A shell script that takes more memory than the bench's limit, in this very shell.
const GLUTTON: &str = "x=0123456789abcdef; while :; do x=$x$x; done";

/// Runs scripts, one after another in one container, and asserts how each ends.
#[track_caller]
fn check(cases: &[(&str, End)]) {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let bench = docker().await;
        for (script, end) in cases {
            let exit = bench.run(script).await;
            assert_eq!(exit.end, *end, "{script}: {}", String::from_utf8_lossy(&exit.output.head));
        }
        bench.sandbox.release(&bench.spec.scratch).await.unwrap();
        assert_eq!(std::fs::read_dir(&bench.spec.scratch).unwrap().count(), 0);
    });
}

#[test]
fn codes_and_signals_are_told_as_they_are() {
    check(&[
        ("true", End::Code(0)),
        ("exit 101", End::Code(101)),
        ("kill -SEGV $$", End::Signal(11)),
        ("kill -KILL $$", End::Signal(9)),
        ("sleep 1000 & kill -KILL -1; wait; exit 3", End::Code(3)),
        ("kill -KILL 1; exit 3", End::Code(3)),
    ]);
}

#[test]
fn running_out_of_memory_is_told_even_when_only_a_child_dies() {
    check(&[
        (GLUTTON, End::OutOfMemory),
        (&format!("sh -c '{GLUTTON}'; exit 101"), End::OutOfMemory),
        (&format!("sh -c '{GLUTTON}'; exit 0"), End::Code(0)),
        ("head -c 500M /dev/zero > /tmp/a; exit 1", End::OutOfMemory),
        // And the next command has all of it again.
        ("head -c 200M /dev/zero > /tmp/a", End::Code(0)),
        ("head -c 200M /dev/zero > /dev/shm/a", End::Code(0)),
        ("exit 1", End::Code(1)),
    ]);
}

#[test]
fn processes_are_limited() {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do for j in 1 2 3 4 5 6 7 8; do sleep 1000 & done; done";
    check(&[(script, End::OutOfProcesses), ("true", End::Code(0))]);
}

#[test]
fn time_is_limited_and_silence_is_idle() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let mut bench = docker().await;
        bench.spec.limits.timeout = Duration::from_secs(1);
        let bomb = "f() { f | f & f; }; f 2>/dev/null & exec sleep 1000";
        for script in ["while :; do :; done", "trap '' TERM INT HUP; setsid sleep 1000", bomb] {
            assert_eq!(bench.run(script).await.end, End::TimedOut, "{script}");
        }
        bench.spec.limits.timeout = Duration::from_secs(3);
        bench.spec.limits.idle_timeout = Duration::from_secs(1);
        assert_eq!(bench.run("sleep 1000").await.end, End::Idle);
        assert_eq!(bench.run("kill -STOP $$").await.end, End::Idle);
        assert_eq!(bench.run("while :; do :; done").await.end, End::TimedOut);
        assert_eq!(bench.run("while sleep 0.1; do echo; done").await.end, End::TimedOut);
    });
}

#[test]
fn a_kill_ends_everything_and_a_drain_nothing() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let bench = docker().await;
        // The container is there already, so that the time is the command's.
        assert_eq!(bench.run("true").await.end, End::Code(0));
        let (stopper, stop) = maar::stop::channel();
        stopper.raise(StopLevel::Drain);
        let kill = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stopper.raise(StopLevel::Kill);
        };
        let run = bench.run_until("echo begun; setsid sleep 7780002 & sleep 7780002", &stop);
        let (exit, ()) = tokio::join!(run, kill);
        assert_eq!((exit.end, text(&exit).as_str()), (End::Stopped, "begun\n"));
        assert_eq!(bench.run("pgrep -f 778000[2]").await.end, End::Code(1));
    });
}

#[test]
fn cpu_is_limited_and_usage_covers_all_processes() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let mut bench = docker().await;
        let work = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done";
        let (idle, busy) = (bench.run("true").await, bench.run(&format!("sh -c '{work}' & wait")).await);
        assert!(busy.usage.cpu > idle.usage.cpu * 3, "{:?} {:?}", busy.usage, idle.usage);
        let idle = bench.run("true").await;
        assert!(busy.usage.cpu > idle.usage.cpu * 3, "the time of one command is not the next one's");
        let exit = bench.run("head -c 100M /dev/zero > /dev/shm/a").await;
        assert!((ByteSize::mib(95)..ByteSize::mib(200)).contains(&exit.usage.peak_memory.unwrap()), "{:?}", exit.usage);
        assert!(bench.run("true").await.usage.peak_memory.is_none_or(|peak| peak < ByteSize::mib(95)));

        bench.spec.limits.cpus = 0.2;
        bench.spec.limits.timeout = Duration::from_secs(2);
        let exit = bench.run_until("while :; do :; done & while :; do :; done", &Stop::never()).await;
        assert_eq!(exit.end, End::TimedOut);
        assert!(exit.usage.cpu * 3 < exit.usage.wall, "{:?}", exit.usage);
    });
}

#[test]
fn output_comes_unchanged_and_a_flood_is_kept_at_both_ends() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let mut bench = docker().await;
        let exit = bench.run("printf 'a\\nb\\r\\377\\0\\033[0m'; [ -t 1 ] && [ -t 2 ] && ! [ -t 0 ]").await;
        assert_eq!((exit.end, exit.output.head.as_slice()), (End::Code(0), b"a\nb\r\xff\0\x1b[0m".as_slice()));
        bench.spec.limits.output = ByteSize::kib(8);
        let exit = bench.run("echo first; head -c 200M /dev/zero; echo last").await;
        assert_eq!(exit.end, End::Code(0));
        assert_eq!((exit.output.head.len(), exit.output.tail.len()), (4096, 4096));
        assert_eq!(exit.output.dropped, (200 << 20) + 6 + 5 - 8192);
        assert!(exit.output.tail.ends_with(b"\0last\n"));
    });
}
