//! How a command ended and what it printed → an outcome. Pure.
//!
//! The end decides between pass, failure and limit; where code of the crate runs, the output only ever refines the
//! reason of a failure. What a crate prints can therefore change the words of its verdict, but not the verdict. In
//! `prepare` no code of the crate runs, and cargo's own messages tell a broken crate from a host without network.

use std::borrow::Cow;

use super::restrictions;
use crate::outcome::{Breakage, Cause, Failure, Outcome};
use crate::printable::one_line;
use crate::registry::Denial;
use crate::sandbox::{End, Limits, MAX_PRINTED, Output, is_crash};

/// Judges an op that builds or tests. `None`: it was stopped, so there is nothing to say.
pub(crate) fn of_command(end: End, output: &Output, limits: &Limits) -> Option<Outcome> {
    judge(end, limits, |code| {
        let text = plain_text(output);
        let failure = failure(code, &text);
        Outcome::Failed(match restrictions::met(&text) {
            Some(by) => Failure::Restricted { failure: Box::new(failure), by },
            None => failure,
        })
    })
}

/// Judges a cargo command of `prepare`, which runs no code of the crate. `None`: it was stopped.
///
/// What it was denied explains its failure better than cargo does, which heard no more than a status.
pub(crate) fn of_resolution(end: End, output: &Output, denials: &[Denial], limits: &Limits) -> Option<Outcome> {
    match end {
        // No code of the crate runs in `prepare`: whoever killed cargo was the host.
        End::Signal(signal) => {
            Some(Outcome::Inconclusive(Cause::Host(format!("cargo was {}", Failure::Signal(signal)))))
        }
        end => judge(end, limits, |_| {
            let text = plain_text(output);
            match resolution_failure(&text) {
                found @ (Outcome::Broken(_) | Outcome::Inconclusive(Cause::Network(_))) => {
                    denied(denials, &text).unwrap_or(found)
                }
                found => found,
            }
        }),
    }
}

fn judge(end: End, limits: &Limits, on_failure: impl FnOnce(i32) -> Outcome) -> Option<Outcome> {
    let outcome = match end {
        End::Code(0) => Outcome::Passed,
        End::Code(code) => on_failure(code),
        End::Signal(signal) if is_crash(signal) => Outcome::Failed(Failure::Signal(signal)),
        End::Signal(signal) => {
            Outcome::Inconclusive(Cause::Host(format!("{}, which maar did not send", Failure::Signal(signal))))
        }
        End::TimedOut => Outcome::Inconclusive(Cause::TimedOut(limits.timeout)),
        End::Idle => Outcome::Inconclusive(Cause::Idle(limits.idle_timeout)),
        End::OutOfMemory => Outcome::Inconclusive(Cause::OutOfMemory(limits.memory)),
        End::OverDisk => Outcome::Inconclusive(Cause::OverDisk(limits.disk)),
        End::Flooded => Outcome::Inconclusive(Cause::Flooded(MAX_PRINTED)),
        End::OutOfProcesses => Outcome::Inconclusive(Cause::OutOfProcesses(limits.pids)),
        End::OutOfDisk => Outcome::Inconclusive(Cause::OutOfDisk),
        End::HostOutOfMemory => {
            Outcome::Inconclusive(Cause::Host("no memory left on the host, which killed a process".to_owned()))
        }
        End::Stopped => return None,
    };
    Some(outcome)
}

/// Why a command of the build or test stage failed.
fn failure(code: i32, text: &str) -> Failure {
    // Failed tests come first: what a failing doctest prints may look like an error of the crate's own build, but
    // no test has run where the build failed.
    if let Some(tests) = failed_tests(text) {
        return tests;
    }
    let build_script = "failed to run custom build command for ";
    if let Some(package) = lines(text).find_map(|line| quoted_after(line, build_script)) {
        return Failure::BuildScript { package };
    }
    if lines(text).any(|line| {
        line.starts_with("error: could not compile ")
            || line.starts_with("error: could not document ")
            || line.starts_with("error: aborting due to ")
    }) {
        return Failure::Compile { codes: error_codes(text) };
    }
    // `process didn't exit successfully: `…` (signal: 11, SIGSEGV: invalid memory reference)`, as cargo says it.
    let signal = lines(text)
        .filter(|line| line.contains("process didn't exit successfully: "))
        .find_map(|line| number_after(line, "(signal: "));
    if let Some(signal) = signal {
        return Failure::Signal(signal);
    }
    match cargo_error(text) {
        // The summary that `cargo test` prints says no more than the exit code does.
        Some(error) if !error.starts_with("test failed") && !error.ends_with("target failed:") => Failure::Cargo(error),
        Some(_) | None => Failure::Exit(code),
    }
}

/// Why cargo could not resolve or fetch.
fn resolution_failure(text: &str) -> Outcome {
    /// What cargo guesses, above the cause, whenever git fails over HTTP.
    const HINT_OF_GIT: &str = "network failure seems to have happened";
    /// As libgit2 says it: a server that answers so was reached.
    const NO_SUCH_REPOSITORY: &str = "unexpected http status code: 404";
    const NETWORK: [&str; 6] = [
        "spurious network error",
        "failed to download ",
        "download of ",
        "[6] Could not resolve host",
        "failed to fetch `",
        HINT_OF_GIT,
    ];
    const HOST: [&str; 5] = [
        "could not execute process `",
        "failed to create directory `",
        "failed to write `",
        "No space left on device",
        "Too many open files",
    ];
    // Only where a line of cargo's begins: further on, it quotes names and paths that the crate chose.
    let said = |phrases: &[&str]| lines(text).rev().find(|line| phrases.iter().any(|phrase| begins(line, phrase)));
    if let Some(line) = said(&NETWORK)
        && said(&[NO_SUCH_REPOSITORY]).is_none()
    {
        let reason = if begins(line, HINT_OF_GIT) { cause(text) } else { None };
        return Outcome::Inconclusive(Cause::Network(reason.unwrap_or_else(|| shorten(message(line)))));
    }
    if let Some(line) = said(&HOST) {
        return Outcome::Inconclusive(Cause::Host(shorten(message(line))));
    }
    let Some(error) = cargo_error(text) else {
        return Outcome::Inconclusive(Cause::Host("cargo failed without saying why".to_owned()));
    };
    if let Some(name) = lines(text).find_map(|line| quoted_after(line, "no matching package named ")) {
        return Outcome::Broken(Breakage::MissingDependency(name));
    }
    let breakage = if text.contains("no targets specified in the manifest") {
        Breakage::NoTargets
    } else if text.contains("failed to parse lock file") {
        Breakage::Lockfile(cause(text).unwrap_or(error))
    } else if error.starts_with("failed to parse manifest") {
        Breakage::Manifest(cause(text).unwrap_or(error))
    } else if lines(text).any(|line| line.trim_start().starts_with("--> ") && line.contains("Cargo.toml:")) {
        Breakage::Manifest(error)
    } else if let Some(name) = lines(text).find_map(|line| quoted_after(line, "failed to load source for dependency "))
    {
        if is_outside(text) { Breakage::OutsideDependency(name) } else { Breakage::MissingDependency(name) }
    } else if lines(text).any(|line| line.contains(" is yanked")) {
        Breakage::Unresolvable(format!("{error}: every version that fits is yanked"))
    } else {
        Breakage::Unresolvable(error)
    };
    Outcome::Broken(breakage)
}

/// Whether cargo looked for a dependency in a folder other than the crate's own.
fn is_outside(text: &str) -> bool {
    const LOOKED: [&str; 2] = ["unable to update /", "Unable to update /"];
    lines(text).map(message).any(|line| {
        let path = LOOKED.iter().find_map(|looked| line.strip_prefix(looked));
        // Where a cell has the crate, and where a job has it.
        path.is_some_and(|path| !path.starts_with("crate/") && !path.contains("/source/"))
    })
}

/// What a failed command was denied: by the gate, or because nothing in its cell speaks the URL's protocol.
fn denied(denials: &[Denial], text: &str) -> Option<Outcome> {
    let refused = denials.iter().find(|denial| matches!(denial, Denial::Refused { .. }));
    let refused = refused.map(Denial::to_string).or_else(|| {
        let url = unspoken_url(text)?;
        Some(format!("maar refuses {}: crates may fetch git repositories over https only", shorten(url)))
    });
    let cause = match (refused, denials.first()) {
        (Some(refused), _) => Cause::Refused(refused),
        (None, Some(unreachable)) => Cause::Network(unreachable.to_string()),
        (None, None) => return None,
    };
    Some(Outcome::Inconclusive(cause))
}

/// The URL that cargo failed to fetch, if it is of a protocol that needs a network.
fn unspoken_url(text: &str) -> Option<&str> {
    const FETCHING: [&str; 2] = ["unable to update ", "failed to fetch submodule "];
    const UNSPOKEN: [&str; 4] = ["ssh://", "git+ssh://", "git://", "http://"];
    lines(text).rev().find_map(|line| {
        let line = message(line);
        let begins = |phrase: &&str| line.get(..phrase.len()).is_some_and(|start| start.eq_ignore_ascii_case(phrase));
        FETCHING.iter().find(|phrase| begins(phrase))?;
        let url = line.split([' ', '`']).rev().find(|word| word.contains("://"))?;
        UNSPOKEN.iter().any(|scheme| url.starts_with(scheme)).then_some(url)
    })
}

/// The distinct codes of `error[E0554]: …`, in order, a handful of them.
fn error_codes(text: &str) -> Vec<String> {
    const MOST: usize = 5;
    let mut codes: Vec<String> = Vec::new();
    for line in lines(text) {
        let Some((code, _)) = line.trim_start().strip_prefix("error[").and_then(|rest| rest.split_once(']')) else {
            continue;
        };
        let is_code = code.len() == 5 && code.starts_with('E') && code[1..].bytes().all(|b| b.is_ascii_digit());
        if is_code && codes.len() < MOST && !codes.iter().any(|known| known == code) {
            codes.push(code.to_owned());
        }
    }
    codes
}

/// The tests that libtest says failed: `test NAME ... FAILED`.
fn failed_tests(text: &str) -> Option<Failure> {
    let mut names: Vec<String> = Vec::new();
    let mut more = 0;
    for line in lines(text) {
        let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) else {
            continue;
        };
        if names.len() < Failure::MAX_TESTS {
            names.push(shorten(name));
        } else {
            more += 1;
        }
    }
    (!names.is_empty()).then_some(Failure::Tests { names, more })
}

/// The first error that cargo itself reports.
fn cargo_error(text: &str) -> Option<String> {
    lines(text).find_map(|line| line.strip_prefix("error: ")).map(|error| shorten(error.trim_end_matches('.')))
}

/// The innermost of cargo's `Caused by:` paragraphs, its first line.
fn cause(text: &str) -> Option<String> {
    let (_, innermost) = text.rsplit_once("Caused by:")?;
    lines(innermost).map(str::trim).find(|line| !line.is_empty()).map(shorten)
}

/// The text in backquotes that follows `phrase` at the beginning of a line.
fn quoted_after(line: &str, phrase: &str) -> Option<String> {
    let (name, _) = message(line).strip_prefix(phrase)?.strip_prefix('`')?.split_once('`')?;
    Some(shorten(name))
}

fn begins(line: &str, phrase: &str) -> bool {
    message(line).starts_with(phrase)
}

/// What a line of cargo's says, without the indentation of a cause.
fn message(line: &str) -> &str {
    let line = line.trim_start();
    line.strip_prefix("warning: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line)
}

fn number_after(line: &str, phrase: &str) -> Option<i32> {
    let (_, rest) = line.split_once(phrase)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// A reason is one line in a table: cut long ones, whatever a crate put there.
fn shorten(text: &str) -> String {
    const MOST: usize = 200;
    let line = one_line(text);
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.lines().map(|line| line.trim_end_matches('\r'))
}

/// What was printed, without colours and other escape sequences.
pub(super) fn plain_text(output: &Output) -> String {
    let plain = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match text.contains('\x1b') {
            true => Cow::Owned(anstream::adapter::strip_str(&text).to_string()),
            false => Cow::<str>::Owned(text.into_owned()),
        }
    };
    let mut text = plain(&output.head).into_owned();
    if !output.tail.is_empty() {
        text.push('\n');
        text.push_str(&plain(&output.tail));
    }
    text
}

#[cfg(test)]
mod tests {
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
        assert_eq!(reason_of_command(End::Code(101), text), "failed: does not compile: E0554, E0308");
    }

    #[test]
    fn a_compile_error_without_a_code_is_a_compile_error() {
        let text = "error: expected one of `!` or `::`, found `<eof>`\n\nerror: could not compile `x` (lib)\n";
        assert_eq!(reason_of_command(End::Code(101), text), "failed: does not compile");
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
        assert_eq!(reason_of_command(End::Code(101), text), "failed: killed by SIGSEGV");
    }

    #[test]
    fn a_command_that_crashes_has_failed() {
        assert_eq!(reason_of_command(End::Signal(11), ""), "failed: killed by SIGSEGV");
        assert_eq!(reason_of_command(End::Signal(6), ""), "failed: killed by SIGABRT");
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
        let text = "error: failed to parse manifest at `/crate/Cargo.toml`\n";
        assert_eq!(
            reason_of_command(End::Code(101), text),
            "failed: cargo: failed to parse manifest at `/crate/Cargo.toml`"
        );
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
        assert!(reason.chars().count() < 250 && !reason.chars().any(char::is_control), "{reason}");
    }

    #[test]
    fn resolution_failures_are_broken_with_their_reason() {
        for (text, reason) in [
            (
                "error: no matching package named `nope` found\nlocation searched: index\n",
                "broken: dependency `nope` does not exist",
            ),
            (
                "error: failed to select a version for the requirement `itoa = \"^99\"`\ncandidate versions",
                "broken: dependencies can't be resolved: failed to select a version for the requirement `itoa = \"^99\"`",
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
                "broken: dependency `x` is outside the folder, and maar copies no more than that: make both members of one \
                 workspace, or depend on a published version",
            ),
            (
                "error: failed to get `x` as a dependency of package `c`\n\nCaused by:\n  \
                 failed to load source for dependency `x`\n\nCaused by:\n  Unable to update /crate/x\n",
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
            ("", "inconclusive: host: cargo failed without saying why"),
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
}
