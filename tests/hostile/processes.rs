//! Too many processes, processes that will not die, and processes that would rather kill.

use maar::sandbox::{End, Mount, MountKind};

use crate::arena::{Attack, attack};
use crate::bench::helper;

#[test]
fn a_fork_bomb_ends_with_its_time() {
    attack("f() { f | f & f; }; f 2>/dev/null & exec sleep 1000").seconds(2).ends(End::TimedOut);
}

#[test]
fn a_bomb_that_spins_ends_with_its_time_and_dies_in_time() {
    // Without a limit of CPU time, thousands of spinning processes slow down all tests that run beside it.
    let Some(attack) = attack("exec /attack bomb").enforced("cpu") else { return };
    attack
        .seconds(3)
        .with(|bench| {
            bench.spec.limits.pids = 2000;
            bench.spec.limits.memory = bytesize::ByteSize::gib(2);
            bench.spec.limits.cpus = 0.25;
        })
        .ends(End::TimedOut);
}

#[test]
fn a_thread_bomb_is_refused_threads() {
    attack("/attack threads").ends(End::OutOfProcesses);
}

#[test]
fn a_daemon_that_ignores_signals_dies_with_the_command() {
    attack("(setsid sh -c 'trap \"\" TERM HUP INT; (sleep 7771001 &) ; sleep 7771001' &); exit 4").ends(End::Code(4));
    assert!(!std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|word| word == b"7771001")
    }));
}

#[test]
fn a_new_session_is_no_way_out_of_the_time_limit() {
    attack("setsid -f sh -c 'trap \"\" TERM HUP; while :; do :; done'; setsid -w sleep 1000")
        .seconds(2)
        .ends(End::TimedOut);
}

#[test]
fn a_command_that_stops_itself_is_idle() {
    let idle = |script| attack(script).with(|bench| bench.spec.limits.idle_timeout = std::time::Duration::from_secs(1));
    idle("kill -STOP $$").ends(End::Idle);
    idle("sleep 1000 & kill -STOP -1; sleep 1000").ends(End::Idle);
}

#[test]
fn doing_nothing_and_doing_too_much_both_end() {
    attack("exec sleep 1000")
        .with(|bench| bench.spec.limits.idle_timeout = std::time::Duration::from_secs(1))
        .ends(End::Idle);
    attack("while :; do :; done").seconds(2).ends(End::TimedOut);
}

#[test]
fn init_can_not_be_killed_traced_or_starved() {
    attack("kill -9 1; kill -ABRT 1; kill -STOP 1; echo alive").prints("alive\n");
    attack("/attack trace").prints("trace: Operation not permitted (os error 1)\n");
    attack("/attack limit").prints("limit: Operation not permitted (os error 1)\n");
    let refused = ["priority", "priority", "priority", "policy", "cores"];
    let lines = refused.map(|what| format!("{what}: Operation not permitted (os error 1)\n"));
    attack("/attack schedule").prints(&lines.concat());
}

#[test]
fn killing_everything_kills_nobody_else() {
    attack("kill -9 -1 2>/dev/null; echo alone").prints("alone\n");
    attack("kill -9 0").ends(End::Signal(libc::SIGKILL));
}

#[test]
fn the_kernel_is_told_by_nobody_to_spare_a_command() {
    attack("echo -1000 2>/dev/null > /proc/self/oom_score_adj || echo refused; renice -n -5 $$ >/dev/null 2>&1 || echo refused")
        .prints("refused\nrefused\n");
}

/// Has maar itself at `/nested`.
fn with_maar(attack: Attack) -> Attack {
    attack.with(|bench| bench.spec.mounts.push(Mount { at: "/nested".into(), what: MountKind::ReadOnly(helper()) }))
}

#[test]
fn the_helper_serves_nobody_inside() {
    for name in ["maar-sandbox-helper", "/maar/steward"] {
        with_maar(attack(&format!("bash -c 'exec -a {name} /nested'"))).ends(End::Code(70));
    }
}

#[test]
fn maar_in_maar_makes_no_cells() {
    // A toolchain that is found and never gets to run anything.
    let toolchain = "mkdir -p bin && cd bin && printf '#!/bin/sh
        [ $1 = --print ] && echo /work || echo rustc 1.97.0' > rustc && chmod +x rustc && cp rustc cargo && cd ..";
    let run = "PATH=/work/bin:$PATH HOME=/work /nested run --crates any --home /work/home";
    let exit = with_maar(attack(&format!("{toolchain} && {run}"))).ends(End::Code(3));
    let printed = String::from_utf8(exit.output.head).unwrap();
    assert!(printed.contains("this host can't make sandboxes:\n"), "{printed}");
}
