//! Without a sandbox limits hold and nothing lives on all the same.

use std::time::Duration;

use maar::sandbox::End;

use crate::bench::{block_on, unconfined};
use crate::lifetime::is_running;

#[test]
fn ends_and_output_are_as_in_a_cell() {
    let bench = unconfined();
    bench.check("echo out; cat; exit 7", End::Code(7), "out\n");
    bench.check("kill -35 $$", End::Signal(35), "");
    bench.check("pwd", End::Code(0), &format!("{}\n", bench.dir.path().join("work").display()));
}

#[test]
fn daemons_die_and_times_are_kept() {
    let mut bench = unconfined();
    bench.check("(setsid sh -c 'sleep 7770006 & sleep 7770006' &); sleep 0.1; echo done", End::Code(0), "done\n");
    assert!(!is_running("7770006"));
    bench.spec.limits.timeout = Duration::from_secs(1);
    bench.check("setsid sleep 7770007 & while :; do :; done", End::TimedOut, "");
    assert!(!is_running("7770007"));
    bench.spec.limits.timeout = Duration::from_secs(60);
    bench.spec.limits.idle_timeout = Duration::from_secs(1);
    bench.check("sleep 7770008", End::Idle, "");
    assert!(!is_running("7770008"));
}

#[test]
fn an_overlay_is_a_copy() {
    let mut bench = unconfined();
    let (lower, upper) = bench.overlay();
    bench.file(&lower.join("file"), "old\n");
    let exit = block_on(async {
        let mut cell = bench.open().await;
        let mut command = bench.shell(&cell, "echo new >> file; cat file");
        command.cwd = cell.path("/overlay".as_ref());
        assert_eq!(command.cwd, upper);
        cell.run(&command, &maar::stop::Stop::never()).await.unwrap()
    });
    assert_eq!((exit.end, exit.output.head.as_slice()), (End::Code(0), b"old\nnew\n".as_slice()));
    assert_eq!(std::fs::read_to_string(lower.join("file")).unwrap(), "old\n");
}

#[test]
fn what_can_not_be_run_is_no_exit() {
    let bench = unconfined();
    let error = block_on(async {
        let mut cell = bench.open().await;
        let mut command = bench.shell(&cell, "");
        command.argv = vec!["no-such-program".to_owned()];
        cell.run(&command, &maar::stop::Stop::never()).await.unwrap_err()
    });
    assert_eq!(error.to_string(), "failed to run no-such-program: No such file or directory (os error 2)");
}
