//! The suites of the sandbox on a kernel with cgroups of version 2 only: one in an emulator, where the host has others.
//!
//! All of `sandbox` and `hostile`, as root and as an ordinary user with a delegated group; and under a real systemd
//! what it takes to get a group from there. Knows nothing of the cases but which to leave out.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Cases that the emulator is not given.
const LEFT_OUT: [&str; 9] = [
    // The suites' own way to become an ordinary user, without a delegated group. There is another here, with one.
    "the_same_holds_for_an_ordinary_user",
    // The machine has no Docker.
    "the_same_holds_in_containers",
    // The machine has neither a plain user's accounts nor Perl, and cgroups have no say in either.
    "plain::a_cell_differs_from_a_plain_users_shell_only_where_there_is_a_reason",
    "renames::folders_of_a_copy_can_be_renamed_and_the_next_cell_sees_it",
    // Hundreds of megabytes through a terminal: three minutes each in an emulator, and nothing that cgroups have a say
    // in. The cut in long output is tested by `output::one_endless_line_is_cut_in_the_middle`.
    "output::a_flood_is_ended",
    "limits::a_flood_of_output_is_kept_at_both_ends",
    "limits::who_prints_more_than_anyone_reads_is_ended",
    // Without any cgroups, and a disk in memory: hundreds of megabytes that an emulator takes minutes to write.
    "short::memory_is_limited_as_a_whole_where_no_controller_counts_it",
    "short::a_neighbour_of_who_fills_the_disk_does_not_fail_by_itself",
];

/// Tests of the group that maar itself is in; the tests without systemd show that limits hold below it.
const OF_SYSTEMD: [&str; 5] = [
    "systemd::",
    "probe::",
    "lifetime::sandboxes_leave_no_cgroups",
    "limits::a_command_may_have_cores_of_its_own",
    "limits::cpu_is_limited_and_accounted_for",
];

#[test]
fn all_holds_by_cgroups_of_version_2_for_root_and_for_a_user() {
    let left_out = LEFT_OUT.iter().flat_map(|case| ["--skip", case]);
    in_emulator("plain", &["sandbox", "hostile"], left_out);
}

#[test]
fn systemd_gives_root_and_a_user_a_group_when_asked() {
    in_emulator("systemd", &["sandbox"], OF_SYSTEMD);
}

/// Runs cases of suites in a machine of `tests/qemu/run`.
#[track_caller]
fn in_emulator<'a>(machine: &str, suites: &[&str], cases: impl IntoIterator<Item = &'a str>) {
    let Some(suites) = suites.iter().map(|suite| newest(suite)).collect::<Option<Vec<_>>>() else {
        assert!(std::env::var_os("CI").is_none(), "build the suites first: cargo test --no-run");
        return eprintln!("not tested here: not all of the suites {suites:?} are built");
    };
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/qemu/run"))
        .args([machine, env!("CARGO_BIN_EXE_maar")])
        .args(suites)
        .args(["--", "--test-threads=1"])
        .args(cases)
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

/// The newest program of a suite; cargo puts them beside this one.
fn newest(suite: &str) -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.to_owned();
    let programs = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .and_then(|name| name.strip_prefix(suite)?.strip_prefix('-'))
            .is_some_and(|hash| !hash.contains('.'))
    });
    programs
        .max_by_key(|entry| entry.metadata().and_then(|metadata| metadata.modified()).ok())
        .map(|entry| entry.path())
}
