//! maar's group from a real systemd: only where one is promised, as in the machine of `tests/cgroup_v2.rs`.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bench::{block_on, native};

/// Promises that systemd manages this host, and that others are in the group of this program.
const SYSTEMD: &str = "MAAR_TEST_SYSTEMD";

/// Makes a driver of this test program: one that has a sandbox until its input ends.
const DRIVER: &str = "MAAR_TEST_SCOPE_DRIVER";

/// What marks the line of output that the driver's group is on.
const MARK: &str = "group of the driver: ";

fn is_promised() -> bool {
    let is_promised = std::env::var_os(SYSTEMD).is_some();
    if !is_promised {
        eprintln!("not tested here: a scope of systemd ({SYSTEMD} is not set; tests/cgroup_v2.rs sets it)");
    }
    is_promised
}

/// Starts a driver and returns it with the folder of the scope that it moved to.
fn driver() -> (Child, PathBuf) {
    let mut driver = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "systemd::drive", "--nocapture"])
        .env(DRIVER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(driver.stderr.take().unwrap()).lines();
    let group = lines.map_while(Result::ok).find_map(|line| Some(line.split_once(MARK)?.1.to_owned())).unwrap();
    let scope = group.strip_suffix(&format!("/maar-{}-self", driver.id())).unwrap();
    let name = scope.rsplit('/').next().unwrap();
    assert!(name.starts_with(&format!("maar-{}-", driver.id())) && name.ends_with(".scope"), "{group}");
    let folder = PathBuf::from(format!("/sys/fs/cgroup{scope}"));
    (driver, folder)
}

#[test]
fn a_scope_goes_when_its_maar_does() {
    if !is_promised() {
        return;
    }
    let (mut ends, scope_of_ends) = driver();
    let (mut killed, scope_of_killed) = driver();
    assert_ne!(scope_of_ends, scope_of_killed);
    assert!(scope_of_ends.exists() && scope_of_killed.exists());
    drop(ends.stdin.take());
    assert!(ends.wait().unwrap().success());
    killed.kill().unwrap();
    killed.wait().unwrap();
    for scope in [scope_of_ends, scope_of_killed] {
        // systemd hears of it a little later.
        let gone = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !scope.exists()
        });
        assert!(gone, "{}", scope.display());
    }
}

/// Not a test: what `driver` starts.
#[test]
fn drive() {
    if std::env::var_os(DRIVER).is_none() {
        return;
    }
    let bench = native();
    assert_eq!(block_on(bench.run("exit 0")).end, maar::sandbox::End::Code(0));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    eprintln!("{MARK}{}", groups.trim().strip_prefix("0::").unwrap());
    let _ = std::io::stdin().read(&mut [0]);
}
