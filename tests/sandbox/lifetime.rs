//! No process, mount, cgroup or folder outlives its owner.

use std::fs;
use std::path::Path;
use std::time::Duration;

use maar::sandbox::End;
use maar::stop::{Stop, StopLevel};

use crate::bench::{block_on, native, unconfined};

/// Names the folder of a driver: this test program, started once more to be killed.
const DRIVER: &str = "MAAR_TEST_DRIVER";

/// Whether any process of the host has this word on its command line.
pub(crate) fn is_running(word: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    processes.filter(|entry| *entry.file_name() != *own).any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    })
}

/// The cgroups of a process's sandboxes. A scope is systemd's to remove: `systemd::a_scope_goes_when_its_maar_does`.
fn groups_of(pid: u32) -> Vec<String> {
    let name = format!("maar-{pid}-");
    let mut found = Vec::new();
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let found_name = entry.file_name().to_string_lossy().into_owned();
                if found_name.starts_with(&name) && !found_name.ends_with(".scope") {
                    found.push(entry.path().display().to_string());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_daemon_dies_with_the_command_and_holds_nothing_up() {
    let bench = native();
    let script = "(setsid sh -c 'trap \"\" TERM HUP; sleep 7770001' &) ; sleep 0.1; echo done";
    bench.check(script, End::Code(0), "done\n");
    assert!(!is_running("7770001"));
}

#[test]
fn a_kill_ends_everything_and_a_drain_nothing() {
    let bench = native();
    let (stopper, stop) = maar::stop::channel();
    stopper.raise(StopLevel::Drain);
    let exit = block_on(async {
        let kill = async {
            wait_until(|| bench.dir.path().join("work/up").exists()).await;
            stopper.raise(StopLevel::Kill);
        };
        tokio::join!(bench.run_until("echo begun; touch up; setsid sleep 7770002 & sleep 7770002", &stop), kill).0
    });
    assert_eq!((exit.end, exit.output.head.as_slice()), (End::Stopped, b"begun\n".as_slice()));
    assert!(!is_running("7770002"));
}

#[test]
fn a_closed_cell_leaves_no_mount_no_cgroup_and_no_folder() {
    let mut bench = native();
    bench.overlay();
    bench.check("touch /overlay/a", End::Code(0), "");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bench.dir.path().to_str().unwrap()), "{mounts}");
    assert_eq!(fs::read_dir(&bench.spec.scratch).unwrap().count(), 0);
    bench.dir.close().unwrap();
}

#[test]
fn a_dropped_run_is_killed() {
    let bench = native();
    block_on(async {
        let run = tokio::time::timeout(Duration::from_secs(1), bench.run("sleep 7770003"));
        assert!(run.await.is_err());
        wait_until(|| !is_running("7770003")).await;
    });
}

#[test]
fn a_killed_maar_leaves_no_process() {
    for (kind, word) in [("native", "7770004"), ("unconfined", "7770005")] {
        let mut driver = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifetime::drive", "--nocapture"])
            .env(DRIVER, format!("{kind} {word}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = driver.id();
        block_on(async {
            wait_until(|| is_running(word)).await;
            driver.kill().unwrap();
            driver.wait().unwrap();
            wait_until(|| !is_running(word)).await;
        });
        // Its cgroups are swept by the next maar, and so are not those of one that lives.
        let alive = native();
        assert_eq!(groups_of(pid), Vec::<String>::new());
        drop(native());
        alive.check("exit 3", End::Code(3), "");
    }
}

/// Not a test: what `a_killed_maar_leaves_no_process` starts and kills.
#[test]
fn drive() {
    let Ok(words) = std::env::var(DRIVER) else { return };
    let (kind, word) = words.split_once(' ').unwrap();
    let bench = if kind == "native" { native() } else { unconfined() };
    block_on(
        bench.run_until(&format!("setsid sh -c 'trap \"\" HUP TERM; sleep {word}' & sleep {word}"), &Stop::never()),
    );
}

#[test]
fn sandboxes_leave_no_cgroups() {
    // In another process: tests of this one have sandboxes at the same time.
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifetime::drive"])
        .env(DRIVER, "native 0")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = status.id();
    let output = status.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(groups_of(pid), Vec::<String>::new());
}

/// Waits for something that comes by itself, at most ten seconds.
async fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come");
}
