//! Failures that may be the doing of a limit or of the host: they lead to a second run, and words never decide.

use bytesize::ByteSize;
use maar::sandbox::native::{Config, Native};
use maar::sandbox::{Doubt, End, Sandbox};
use maar::stop::Stop;

use crate::arena::{Attack, attack};
use crate::bench::{Bench, block_on, helper};
use crate::ground::{ground, is_containers};

/// An attack where no controller counts memory or processes.
fn uncounted(script: &str) -> Attack {
    attack(script).seconds(120).with(without_cgroups)
}

fn without_cgroups(bench: &mut Bench) {
    bench.sandbox = Sandbox::Native(Native::without_cgroups(Config { helper: helper(), ..Config::default() }));
}

/// How a script ends in its first run, and why that is in doubt.
fn first(script: &str, change: fn(&mut Bench)) -> (End, Option<Doubt>) {
    let mut bench = ground();
    change(&mut bench);
    let exit = block_on(async {
        let exit = bench.run_once(script, &Stop::never(), None).await;
        bench.sandbox.release(&bench.spec.scratch).await.unwrap();
        exit
    });
    (exit.end, exit.doubt)
}

#[test]
fn memory_that_a_child_is_refused_is_the_limit_although_nothing_counts_it() {
    if is_containers() {
        return;
    }
    for script in [
        "/attack memory; exit 101",
        "/attack memory 2>/dev/null; exit 101",
        "(/attack memory; exit 5) & wait; exit 6",
        // Folders in memory are full when they hold as much as the command may.
        "head -c 500M /dev/zero > /tmp/a || { sleep 1; exit 101; }; sleep 600",
    ] {
        uncounted(script).ends(End::OutOfMemory);
    }
}

#[test]
fn processes_that_a_child_is_refused_are_the_limit_although_nothing_counts_them() {
    if is_containers() {
        return;
    }
    uncounted("/attack threads; exit 101").ends(End::OutOfProcesses);
    uncounted("f() { for i in $(seq 100); do sleep 100 & done; wait; }; (f) || exit 101").ends(End::OutOfProcesses);
}

#[test]
fn memory_that_is_asked_for_and_not_used_is_no_limit() {
    if is_containers() {
        return;
    }
    uncounted("/attack reserve || exit 101").prints("reserved 1024\n");
}

#[test]
fn who_prints_that_a_limit_was_hit_fails_all_the_same() {
    for words in ["memory allocation of 7 bytes failed", "Resource temporarily unavailable", "Cannot fork"] {
        attack(&format!("echo '{words}'; exit 101")).ends(End::Code(101));
        if !is_containers() {
            uncounted(&format!("echo '{words}'; exit 101")).ends(End::Code(101));
        }
    }
    attack("echo '(signal: 9, SIGKILL: kill)'; exit 101").ends(End::Code(101));
}

#[test]
fn words_are_a_reason_to_run_again_only_where_nothing_counts() {
    let memory = "echo 'memory allocation of 7 bytes failed'; exit 101";
    let as_it_is = |_: &mut Bench| {};
    if ground().enforces("memory") {
        assert_eq!(first(memory, as_it_is), (End::Code(101), None));
    }
    if !is_containers() {
        assert_eq!(first(memory, without_cgroups), (End::Code(101), Some(Doubt::Memory)));
    }
    assert_eq!(first("exit 101", as_it_is), (End::Code(101), None));
    assert_eq!(first("kill -TERM $$", as_it_is), (End::Signal(libc::SIGTERM), Some(Doubt::Killed)));
    assert_eq!(first("kill -SEGV $$", as_it_is), (End::Signal(libc::SIGSEGV), None));
}

#[test]
fn a_limit_that_a_grandchild_hits_is_that_limit() {
    let deep = |script: &str| format!("sh -c \"sh -c '{script}; exit 3'; exit 4\"; exit 101");
    if let Some(attack) = attack(&deep("/attack memory")).enforced("memory") {
        attack.ends(End::OutOfMemory);
    }
    attack(&deep("/attack threads")).ends(End::OutOfProcesses);
    attack(&deep("head -c 100M /dev/zero > a"))
        .with(|bench| bench.spec.limits.disk = ByteSize::mib(64))
        .ends(End::OverDisk);
}
