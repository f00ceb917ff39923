//! The whole suite once more as an ordinary user, when it runs as root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;

use crate::bench::{HELPER, helper, is_root};

/// A user that no host has.
const USER: u32 = 54_321;

#[test]
fn the_same_holds_for_an_ordinary_user() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let [tests, maar, home] = ["tests", "maar", "home"].map(|name| dir.path().join(name));
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    std::fs::copy(helper(), &maar).unwrap();
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let output = std::process::Command::new(&tests)
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin".as_ref()), ("HOME", home.as_os_str()), ("TMPDIR", home.as_os_str())])
        .env(HELPER, &maar)
        .current_dir(&home)
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
