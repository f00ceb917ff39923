//! A whole suite once more as an ordinary user, when it runs as root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::bench::{HELPER, helper, is_root};

/// A user that no host has.
const USER: u32 = 54_321;

/// Runs this very test program as another user, with copies of programs under the variables that name them.
#[track_caller]
pub(crate) fn again(programs: &[(&str, &Path)]) {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let [tests, home] = ["tests", "home"].map(|name| dir.path().join(name));
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let mut command = std::process::Command::new(&tests);
    command
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin".as_ref()), ("HOME", home.as_os_str()), ("TMPDIR", home.as_os_str())])
        .current_dir(&home)
        .uid(USER)
        .gid(USER);
    for (variable, program) in programs.iter().copied().chain([(HELPER, helper().as_path())]) {
        let copy = dir.path().join(variable);
        std::fs::copy(program, &copy).unwrap();
        command.env(variable, copy);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
