//! The suites of the sandbox on a kernel with cgroups of version 2 only: one in an emulator, where the host has others.
//!
//! What takes minutes there, as floods and memory do, is left to the suites themselves on hosts of version 2.

use std::path::Path;
use std::process::Command;

/// The cases that say something about cgroups.
const CASES: [&str; 6] = [
    "limits::cpu_is_limited",
    "limits::a_command_may_have_cores",
    "limits::processes_are_limited",
    "lifetime::a_kill",
    "lifetime::sandboxes_leave_no_cgroups",
    "probe::",
];

#[test]
fn limits_hold_by_cgroups_of_version_2_for_root_and_for_a_user() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(tests) = newest_test_program() else {
        assert!(std::env::var_os("CI").is_none(), "build the suite first: cargo test --test sandbox --no-run");
        return eprintln!("not tested here: the suite `sandbox` is not built");
    };
    let output = Command::new(root.join("tests/qemu/run"))
        .args([tests.as_path(), Path::new(env!("CARGO_BIN_EXE_maar"))])
        .args(CASES)
        .arg("--test-threads=1")
        .output()
        .unwrap();
    // EX_SOFTWARE of sysexits.h: something that the script needs is not installed.
    if output.status.code() == Some(70) && std::env::var_os("CI").is_none() {
        return eprintln!("not tested here: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The suite `sandbox`, which cargo puts beside this one.
fn newest_test_program() -> Option<std::path::PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.to_owned();
    let programs = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with("sandbox-") && !name.contains('.'))
    });
    programs
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok())
        .map(|entry| entry.path())
}
