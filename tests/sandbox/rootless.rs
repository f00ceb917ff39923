//! A whole suite once more as an ordinary user, when it runs as root: without and with subordinate ids.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, unshare};

use crate::bench::{HELPER, helper, is_root};

/// A user that no host has.
const USER: u32 = 54_321;

/// Who an id is outside, as `newuidmap` would map a user's subordinate ids.
const SUBORDINATE: u32 = 3_000_000;

/// Set where the suite runs again.
pub(crate) const AGAIN: &str = "MAAR_TEST_AGAIN";

/// Held by a suite that runs again: some cases look for their own processes among all of the host.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs this very test program as another user, with copies of programs under the variables that name them.
#[track_caller]
pub(crate) fn again(programs: &[(&str, &Path)]) {
    run(programs, |command| command.output().unwrap());
}

/// As [`again`], as root of a user namespace that has subordinate ids.
#[track_caller]
pub(crate) fn again_with_ids(programs: &[(&str, &Path)]) {
    run(programs, |command| {
        // Locks on ids are there: `/run` is the host's.
        let home = command.get_current_dir().unwrap().to_owned();
        command.env("XDG_RUNTIME_DIR", home);
        let new_namespace = || unshare(CloneFlags::CLONE_NEWUSER).map_err(Into::into);
        // SAFETY: makes one system call.
        unsafe { command.pre_exec(new_namespace) };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{}/{map}", child.id()), format!("0 {USER} 1\n1 {SUBORDINATE} 65536\n"))
                .unwrap();
        }
        child.stdin.take().unwrap().write_all(b"mapped\n").unwrap();
        child.wait_with_output().unwrap()
    });
}

#[track_caller]
fn run(programs: &[(&str, &Path)], start: impl FnOnce(&mut Command) -> Output) {
    if !is_root() || std::env::var_os(AGAIN).is_some() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let [tests, home] = ["tests", "home"].map(|name| dir.path().join(name));
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    // A shell, to have the second half of the start after the ids are mapped: a program gets capabilities when it
    // begins.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "read -r _; exec \"$0\""])
        .arg(&tests)
        .stdin(Stdio::null())
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin".as_ref()), ("HOME", home.as_os_str()), ("TMPDIR", home.as_os_str())])
        .env(AGAIN, "1")
        .current_dir(&home)
        .uid(USER)
        .gid(USER);
    for (variable, program) in programs.iter().copied().chain([(HELPER, helper().as_path())]) {
        let copy = dir.path().join(variable);
        std::fs::copy(program, &copy).unwrap();
        command.env(variable, copy);
    }
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = start(&mut command);
    drop(turn);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
