//! Endings and texts as cargo, rustc and libtest print them, with the resulting reasons.

use std::time::Duration;

use bytesize::ByteSize;

use super::*;
use crate::sandbox::Cores;

fn limits() -> Limits {
    Limits {
        cpus: 1.0,
        memory: ByteSize::gib(4),
        pids: 100,
        timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(30),
        output: ByteSize::mib(1),
        disk: ByteSize::gib(1),
        cores: Cores::Shared,
    }
}

fn output(text: &str) -> Output {
    Output { head: text.as_bytes().to_vec(), ..Output::default() }
}

fn reason_of_command(end: End, text: &str) -> String {
    let outcome = of_command(end, &output(text), &limits()).unwrap();
    format!("{}: {}", outcome.kind(), outcome.reason().unwrap_or_default())
}

fn reason_of_resolution(text: &str) -> String {
    let outcome = of_resolution(End::Code(101), &output(text), &[], &limits()).unwrap();
    format!("{}: {}", outcome.kind(), outcome.reason().unwrap_or_default())
}

#[test]
fn success_is_a_pass_whatever_was_printed() {
    let text = "error: could not compile `x`\ntest a ... FAILED\n";
    assert_eq!(of_command(End::Code(0), &output(text), &limits()), Some(Outcome::Passed));
}

#[test]
fn a_stopped_command_says_nothing() {
    assert_eq!(of_command(End::Stopped, &output(""), &limits()), None);
    assert_eq!(of_resolution(End::Stopped, &output(""), &[], &limits()), None);
}

#[test]
fn limits_are_inconclusive_even_when_tests_failed_before() {
    let failed = "test a ... FAILED\n";
    for (end, reason) in [
        (End::TimedOut, "inconclusive: still running after 1m"),
        (End::Idle, "inconclusive: no output and no CPU use for 30s"),
        (End::OutOfMemory, "inconclusive: needs more memory than 4.0 GiB"),
        (End::OverDisk, "inconclusive: needs more disk space than 1.0 GiB"),
        (End::OutOfProcesses, "inconclusive: needs more than 100 processes and threads"),
        (End::OutOfDisk, "inconclusive: no space left on the host's disk"),
        (End::HostOutOfMemory, "inconclusive: host: no memory left on the host, which killed a process"),
        (End::Signal(9), "inconclusive: host: killed by SIGKILL, which maar did not send"),
        (End::Signal(15), "inconclusive: host: killed by SIGTERM, which maar did not send"),
        (End::Flooded, "inconclusive: printed more than 256.0 MiB"),
    ] {
        assert_eq!(reason_of_command(end, failed), reason);
    }
}

#[test]
fn a_compile_error_names_its_codes_once_each() {
    let text = "\x1b[1m\x1b[91merror[E0554]\x1b[0m: `#![feature]` may not be used\n\
                error[E0308]: mismatched types\nerror[E0554]: again\n\
                \x1b[91merror\x1b[0m: could not compile `x` (lib) due to 3 previous errors\n";
    let expected = "failed: does not compile: E0554: `#![feature]` may not be used; also E0308";
    assert_eq!(reason_of_command(End::Code(101), text), expected);
}

#[test]
fn a_compile_error_without_a_code_is_a_compile_error() {
    let text = "error: expected one of `!` or `::`, found `<eof>`\n\nerror: could not compile `x` (lib)\n";
    let expected = "failed: does not compile: expected one of `!` or `::`, found `<eof>`";
    assert_eq!(reason_of_command(End::Code(101), text), expected);
}

#[test]
fn a_failing_build_script_is_named() {
    let text = "error: failed to run custom build command for `openssl-sys v0.9.1`\n\nCaused by:\n  process didn't";
    assert_eq!(reason_of_command(End::Code(101), text), "failed: the build script of openssl-sys v0.9.1 failed");
}

#[test]
fn failed_tests_are_named_and_the_rest_counted() {
    let text: String = (0..8).map(|n| format!("test t{n} ... FAILED\r\ntest ok{n} ... ok\r\n")).collect();
    assert_eq!(reason_of_command(End::Code(101), &text), "failed: tests failed: t0, t1, t2, t3, t4 and 3 more");
}

#[test]
fn a_crashing_test_binary_is_told_by_its_signal() {
    let text = "error: test failed, to rerun pass `--lib`\n\nCaused by:\n  \
                process didn't exit successfully: `/target/x` (signal: 11, SIGSEGV: invalid memory reference)\n";
    assert_eq!(reason_of_command(End::Code(101), text), "failed: tests of the library: killed by SIGSEGV");
}

#[test]
fn what_a_command_says_of_missing_subcommands_decides_nothing() {
    for text in ["$ cargo own\nerror: no such command: `geiger`\n", "$ own\nerror: no such command: `x`\n"] {
        let outcome = of_command(End::Code(101), &output(text), &limits()).unwrap();
        assert!(matches!(outcome, Outcome::Failed(_)), "{text}: {outcome:?}");
    }
}

#[test]
fn a_refusal_of_cargo_is_quoted() {
    for (text, reason) in [
        ("error: failed to parse manifest at `/crate/Cargo.toml`\n\nCaused by:\n  no `x`\n", "failed: cargo: no `x`"),
        (
            "error: rustc 1.95.0 is not supported by the following package:\n  msrv@0.1.0 requires rustc 1.999\n\n",
            "failed: cargo: rustc 1.95.0 is not supported by the following package: msrv@0.1.0 requires rustc 1.999",
        ),
        (
            "error: no example target named `x`.\n\nAvailable example targets:\n",
            "failed: cargo: no example target named `x`",
        ),
    ] {
        assert_eq!(reason_of_command(End::Code(101), text), reason);
    }
}

#[test]
fn an_unexplained_failure_is_its_exit_code() {
    assert_eq!(reason_of_command(End::Code(7), "hello\n"), "failed: exit code 7");
    assert_eq!(
        reason_of_command(End::Code(101), "error: test failed, to rerun pass `--lib`\n"),
        "failed: exit code 101"
    );
}

#[test]
fn reasons_are_one_short_line() {
    let text = format!("test {}\x07 ... FAILED\n", "é".repeat(10_000));
    let reason = reason_of_command(End::Code(101), &text);
    assert!(reason.chars().count() < 350 && !reason.chars().any(char::is_control), "{reason}");
}

#[test]
fn resolution_failures_are_broken_with_their_reason() {
    for (text, reason) in [
        (
            "error: no matching package named `nope` found\nlocation searched: index\n",
            "broken: dependency `nope` does not exist",
        ),
        (
            "error: failed to select a version for the requirement `itoa = \"^99\"`\ncandidate versions found which didn't match: 1.0.1\n",
            "broken: dependencies can't be resolved: failed to select a version for the requirement `itoa = \"^99\"`: \
             candidate versions found which didn't match: 1.0.1",
        ),
        (
            "error: failed to parse manifest at `/crate/Cargo.toml`\n\nCaused by:\n  failed to parse the `edition` key\
             \n\nCaused by:\n  supported edition values are `2015`\n",
            "broken: bad manifest: supported edition values are `2015`",
        ),
        (
            "error: unclosed table, expected `]`\n --> Cargo.toml:1:9\n  |\n",
            "broken: bad manifest: unclosed table, expected `]`",
        ),
        (
            "error: failed to parse manifest at `x`\n\nCaused by:\n  no targets specified in the manifest\n",
            "broken: neither a library nor a binary to build",
        ),
        (
            "error: failed to parse lock file at: /crate/Cargo.lock\n\nCaused by:\n  TOML parse error at line 1\n",
            "broken: bad lockfile: TOML parse error at line 1",
        ),
        (
            "error: failed to get `x` as a dependency of package `c`\n\nCaused by:\n  \
             failed to load source for dependency `x`\n\nCaused by:\n  unable to update /x\n",
            "broken: dependency `x` does not exist",
        ),
    ] {
        assert_eq!(reason_of_resolution(text), reason);
    }
}

#[test]
fn a_repository_that_is_gone_is_no_failure_of_the_network() {
    let text = |cause: &str| {
        format!(
            "error: failed to get `x` as a dependency of package `c v0.1.0`\n\nCaused by:\n  \
             failed to load source for dependency `x`\n\nCaused by:\n  \
             network failure seems to have happened\n  if a proxy or similar\n\nCaused by:\n  {cause}\n"
        )
    };
    for (cause, reason) in [
        ("unexpected http status code: 404; class=Http (34)", "broken: dependency `x` does not exist"),
        (
            "failed to connect to x.example: Connection refused; class=Os (2)",
            "inconclusive: network: failed to connect to x.example: Connection refused; class=Os (2)",
        ),
    ] {
        assert_eq!(reason_of_resolution(&text(cause)), reason);
    }
}

#[test]
fn what_a_crate_chose_to_be_called_decides_nothing() {
    let text = "error: failed to get `x` as a dependency of package `c v0.1.0 (/crate)`\n\nCaused by:\n  \
                failed to load source for dependency `x`\n\nCaused by:\n  \
                failed to read `/crate/failed to download from `/Cargo.toml`\n";
    assert_eq!(reason_of_resolution(text), "broken: dependency `x` does not exist");
}

#[test]
fn a_cargo_that_was_killed_or_failed_on_the_host_says_nothing_of_the_crate() {
    let killed = of_resolution(End::Signal(9), &output(""), &[], &limits()).unwrap();
    assert_eq!(killed, Outcome::Inconclusive(Cause::Host("cargo was killed by SIGKILL".to_owned())));
    for (text, reason) in [
        ("", "inconclusive: host: cargo failed without an error message"),
        (
            "error: could not execute process `rustc -vV` (never executed)\n",
            "inconclusive: host: could not execute process `rustc -vV` (never executed)",
        ),
    ] {
        assert_eq!(reason_of_resolution(text), reason);
    }
}

#[test]
fn an_unreachable_registry_is_never_the_crates_fault() {
    let text = "warning: spurious network error (3 tries remaining): [6] Could not resolve hostname\n\
                error: failed to get `itoa` as a dependency of package `c v0.1.0`\n\nCaused by:\n  \
                failed to load source for dependency `itoa`\n\nCaused by:\n  download of config.json failed\n";
    assert_eq!(reason_of_resolution(text), "inconclusive: network: download of config.json failed");
}

/// Reasons of compile errors: the output of cargo and rustc, and the reason.
#[test]
fn a_compile_error_names_its_part() {
    const OWN: &str = "   Compiling c v0.1.0 (/crate)\n";
    for (text, reason) in [
        (
            "   Compiling dep v0.0.3\nerror: expected item, found `@`\n --> /cargo/vendor/dep-0.0.3/src/lib.rs:1:1\n\n\
             error: could not compile `dep` (lib) due to 1 previous error\n"
                .to_owned(),
            "dependency dep v0.0.3 does not compile: expected item, found `@`",
        ),
        (
            "   Compiling dep v0.1.0 (https://git.example/dep#0123abcd)\nerror[E0425]: cannot find value `x`\n\
             error: could not compile `dep` (lib) due to 1 previous error\n"
                .to_owned(),
            "dependency dep v0.1.0 (https://git.example/dep#0123abcd) does not compile: E0425: cannot find value `x`",
        ),
        (
            // A dependency of the same name: the message doesn't name which, and the crate is the safer guess.
            format!(
                "   Compiling c v0.0.1\n{OWN}error: x\nerror: could not compile `c` (lib) due to 1 previous error\n"
            ),
            "does not compile: x",
        ),
        (
            format!(
                "{OWN}error[E0433]: no `y`\nerror: could not compile `c` (example \"demo\") due to 1 previous error\n"
            ),
            "example `demo` does not compile: E0433: no `y`",
        ),
        (
            format!("{OWN}error: z\nerror: could not compile `c` (bench \"speed\") due to 1 previous error\n"),
            "benchmark `speed` does not compile: z",
        ),
        (
            format!("{OWN}error: z\nerror: could not compile `c` (test \"t\") due to 1 previous error\n"),
            "test target `t` does not compile: z",
        ),
        (
            format!("{OWN}error: z\nerror: could not compile `c` (bin \"tool\" test) due to 1 previous error\n"),
            "binary `tool` (test build) does not compile: z",
        ),
        (
            format!(
                "{OWN}error: z\nerror: could not compile `c` (lib test) due to 1 previous error; 3 warnings emitted\n"
            ),
            "library (test build) does not compile: z",
        ),
        (
            format!("{OWN}error: z\nerror: could not compile `c` (build script) due to 1 previous error\n"),
            "its build script does not compile: z",
        ),
        (
            // As a cargo before 1.66 prints it.
            format!("{OWN}error: z\nerror: could not compile `c` due to previous error\n"),
            "does not compile: z",
        ),
        (
            format!(
                "{OWN}error: couldn't read `src/../../README.md`: No such file or directory (os error 2)\n \
                 --> src/lib.rs:1:10\n\nerror: could not compile `c` (lib) due to 1 previous error\n"
            ),
            "does not compile: couldn't read `src/../../README.md`: No such file or directory (os error 2)",
        ),
        (
            format!("{OWN}error[E0583]: file not found for module `gone`\nerror: could not compile `c` (lib)\n"),
            "does not compile: E0583: file not found for module `gone`",
        ),
        (
            format!(
                "{OWN}error: linking with `cc` failed: exit status: 1\n  |\n  = note:  \"cc\" \"-lx\" undefined\n  \
                 = note: rust-lld: error: unable to find library -lnosuchlib\n          collect2: error: ld returned 1 exit \
                 status\n\nerror: could not compile `c` (bin \"c\") due to 1 previous error\n"
            ),
            "binary `c` does not compile: linking with `cc`: unable to find library -lnosuchlib",
        ),
        (
            format!(
                "{OWN}error: linking with `cc` failed: exit status: 1\n  = note: /usr/bin/ld: cannot find -lz: No such file \
                 or directory\n\nerror: could not compile `c` (lib test)\n"
            ),
            "library (test build) does not compile: linking with `cc`: cannot find -lz: No such file or directory",
        ),
        (
            format!("{OWN}error: linker `cc` not found\n  = note: No such file\nerror: could not compile `c` (lib)\n"),
            "does not compile: linker `cc` not found",
        ),
        (
            " Documenting c v0.1.0 (/crate)\nerror: unresolved link to `X`\nerror: could not document `c`\n".to_owned(),
            "does not compile: unresolved link to `X`",
        ),
    ] {
        assert_eq!(reason_of_command(End::Code(101), &text), format!("failed: {reason}"), "{text}");
    }
}

#[test]
fn a_build_script_is_quoted() {
    let text = |printed: &str| {
        format!(
            "error: failed to run custom build command for `a v1.0.0`\n\nCaused by:\n  process didn't exit successfully: \
             `/target/build-script-build` (exit status: 101)\n{printed}"
        )
    };
    for (printed, why) in [
        ("", "exit status: 101"),
        ("  --- stderr\n\n  thread 'main' (5) panicked at build.rs:3:5:\n  no git here\n  more\n", "no git here"),
        ("  --- stderr\n  thread 'main' panicked at 'no tool', build.rs:3:5\n", "no tool"),
        (
            "  thread 'main' panicked at build.rs:1:1:\n  called `Result::unwrap()` on an `Err` value:\n  No such file\n",
            "called `Result::unwrap()` on an `Err` value: No such file",
        ),
        (
            "  thread 'main' panicked at build.rs:1:1:\n\n  pkg-config exited with status code 1\n  \
             The system library `openssl` required by crate `openssl-sys` was not found.\n",
            "The system library `openssl` required by crate `openssl-sys` was not found.",
        ),
        (
            "  error occurred in cc-rs: failed to find tool \"c++\": No such file or directory\n",
            "error occurred in cc-rs: failed to find tool \"c++\": No such file or directory",
        ),
    ] {
        let expected = format!("failed: the build script of a v1.0.0 failed: {why}");
        assert_eq!(reason_of_command(End::Code(101), &text(printed)), expected);
    }
}

#[test]
fn a_noisy_child_does_not_hide_the_names_of_failed_tests() {
    let text = "running 2 tests\r\nfrom the child\r\nno newlinetest talks ... FAILED\r\ntest writes ... ok, not\r\nFAILED\r\n\r\n\
                failures:\r\n\r\n---- talks stdout ----\r\nx\r\n\r\n\r\nfailures:\r\n    talks\r\n    writes\r\n\r\n\
                test result: FAILED. 0 passed; 2 failed\r\n\r\nrunning 1 test\r\ntest src/lib.rs - (line 3) ... FAILED\r\n\r\n\
                failures:\r\n    src/lib.rs - (line 3)\r\n\r\ntest a - should panic ... FAILED\r\n";
    let expected = "failed: tests failed: talks, writes, src/lib.rs - (line 3), a";
    assert_eq!(reason_of_command(End::Code(101), text), expected);
}

#[test]
fn a_target_with_a_harness_of_its_own_is_named_with_its_own_end() {
    let text = |flags: &str, end: &str| {
        format!(
            "     Running tests/conformance.rs (/target/debug/deps/conformance-0)\n3 of 200 cases failed\n\
             error: test failed, to rerun pass {flags}\n\nCaused by:\n  process didn't exit successfully: \
             `/target/debug/deps/conformance-0` ({end})\n\nerror: 1 target failed:\n    {flags}\n"
        )
    };
    for (flags, end, reason) in [
        ("`--test conformance`", "exit status: 1", "test target `conformance`: exit code 1"),
        ("'--test conformance'", "exit code: 3", "test target `conformance`: exit code 3"),
        ("`-p member --lib`", "signal: 6, SIGABRT: process abort signal", "tests of the library: killed by SIGABRT"),
        ("`--doc`", "exit status: 2", "doc tests: exit code 2"),
        ("`--bin tool`", "signal: 9, SIGKILL: kill", "tests of binary `tool`: killed by SIGKILL"),
        ("`--something new`", "exit status: 1", "`--something new`: exit code 1"),
    ] {
        assert_eq!(reason_of_command(End::Code(101), &text(flags, end)), format!("failed: {reason}"));
    }
}

#[test]
fn several_targets_that_failed_are_no_refusal_of_cargo() {
    let text = "error: 2 targets failed:\n    `--lib`\n    `--test t`\n";
    assert_eq!(reason_of_command(End::Code(101), text), "failed: exit code 101");
}

#[test]
fn a_reason_keeps_the_line_with_the_point() {
    for (text, reason) in [
        (
            "error: failed to select a version for `sqlite3-src`.\n    ... required by package `c v0.1.0 (/crate)`\n\
             versions that meet the requirements `=0.6.1` are: 0.6.1\n\npackage `sqlite3-src` links to the native library \
             `sqlite3`, but it conflicts with a previous package which links to `sqlite3` as well:\n\
             package `libsqlite3-sys v0.32.0`\n    ... which satisfies dependency\n",
            "failed to select a version for `sqlite3-src`: package `sqlite3-src` links to the native library `sqlite3`, but \
             it conflicts with a previous package which links to `sqlite3` as well: package `libsqlite3-sys v0.32.0`",
        ),
        (
            "error: failed to select a version for `d`.\n    ... required by package `c`\nversions that meet the requirements \
             `^1` are: 1.0.0\n\npackage `c` depends on `d` with feature `f` but `d` does not have that feature.\n",
            "failed to select a version for `d`: package `c` depends on `d` with feature `f` but `d` does not have that \
             feature.",
        ),
        (
            "error: cyclic package dependency: package `a v0.1.0` depends on itself. Cycle:\npackage `a v0.1.0`\n    \
             ... which satisfies dependency `a = \"^1\"` of package `b v0.1.0`\n",
            "cyclic package dependency: package `a v0.1.0` depends on itself. Cycle: package `a v0.1.0` ... which satisfies \
             dependency `a = \"^1\"` of package `b v0.1.0`",
        ),
    ] {
        assert_eq!(reason_of_resolution(text), format!("broken: dependencies can't be resolved: {reason}"));
    }
}

#[test]
fn a_manifest_is_refused_only_before_anything_is_compiled_or_run() {
    let refusal = "error: failed to parse manifest at `/crate/Cargo.toml`\n\nCaused by:\n  can't find `gone` example\n";
    let refused = |end, text: &str| refused_manifest(end, &output(text));
    assert_eq!(refused(End::Code(101), refusal).as_deref(), Some("can't find `gone` example"));
    let of_dependency = refusal.replace("/crate/", "/cargo/vendor/dep-1.0.0/");
    let expected = Some("of dependency dep-1.0.0: can't find `gone` example");
    assert_eq!(refused(End::Code(101), &of_dependency).as_deref(), expected);
    for begun in ["   Compiling a v1.0.0", "    Finished `test` profile", "     Running unittests", "   Doc-tests a"] {
        assert_eq!(refused(End::Code(101), &format!("{begun}\n{refusal}")), None, "{begun}");
    }
    assert_eq!(refused(End::Code(1), refusal), None);
    let cut = Output { dropped: 1, ..output(refusal) };
    assert_eq!(refused_manifest(End::Code(101), &cut), None);
}

#[test]
fn a_command_that_crashes_has_failed() {
    assert_eq!(reason_of_command(End::Signal(11), ""), "failed: killed by SIGSEGV");
    assert_eq!(reason_of_command(End::Signal(6), ""), "failed: killed by SIGABRT");
}
