//! The facts about a failed build or test: which part, which tests, which target, and the first error.
//!
//! Reads cargo's, rustc's and libtest's text between other output. It finds words for a failure and never
//! decides whether there is one.

use super::printed::{cargo_error, cause, lines, message, quoted_after, shorten};
use crate::outcome::{Failure, Part, ProcessEnd};

/// Why a command of the build or test stage failed.
pub(super) fn failure(code: i32, text: &str) -> Failure {
    // Failed tests come first: the output of a failing doctest may look like a build error of the crate itself, but
    // no test has run where the build failed.
    failed_tests(text)
        .or_else(|| build_script(text))
        .or_else(|| compile(text))
        .or_else(|| target(text))
        .or_else(|| signal(text))
        .or_else(|| refusal(text))
        .unwrap_or(Failure::Exit(code))
}

/// The tests that libtest reports as failed: in the list at the end of a target's output, which nothing interrupts, and
/// as `test NAME ... FAILED`, which is all that a harness killed later has printed.
fn failed_tests(text: &str) -> Option<Failure> {
    let mut failed: Vec<&str> = Vec::new();
    let mut in_list = false;
    for line in lines(text) {
        in_list = line == "failures:" || (in_list && line.starts_with("    "));
        if in_list && line != "failures:" {
            failed.push(line.trim());
        }
    }
    for line in lines(text) {
        let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) else {
            continue;
        };
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        if !failed.contains(&name) {
            failed.push(name);
        }
    }
    let names: Vec<String> = failed.iter().take(Failure::MAX_TESTS).map(|name| shorten(name)).collect();
    let more = failed.len() - names.len();
    (!names.is_empty()).then_some(Failure::Tests { names, more })
}

fn build_script(text: &str) -> Option<Failure> {
    const FAILED: &str = "failed to run custom build command for ";
    let package = lines(text).find_map(|line| quoted_after(line, FAILED))?;
    let mut below = lines(text).skip_while(|line| quoted_after(line, FAILED).is_none()).skip(1).peekable();
    let below: Vec<&str> = std::iter::from_fn(|| below.next_if(|line| !line.starts_with("error"))).collect();
    Some(Failure::BuildScript { package, why: complaint(&below) })
}

/// The complaint of a build script: a tool or library that it names, else its panic, else how it ended.
fn complaint(printed: &[&str]) -> Option<String> {
    /// How the crates that look for tools and libraries begin the line that names it.
    const NAMES_IT: [&str; 4] =
        ["The system library `", "Could not find directory of ", "error occurred", "Unable to find libclang"];
    let named =
        printed.iter().map(|line| line.trim()).find(|line| NAMES_IT.iter().any(|words| line.starts_with(words)));
    let ended = || {
        let line = printed.iter().find(|line| line.contains("process didn't exit successfully: "))?;
        line.rsplit_once('(')?.1.strip_suffix(')')
    };
    named
        .map(str::to_owned)
        .or_else(|| panic_message(printed))
        .or_else(|| ended().map(str::to_owned))
        .map(|why| shorten(&why))
}

/// The message of the first panic: on the line below, or since Rust 1.73 in quotes on the same.
fn panic_message(printed: &[&str]) -> Option<String> {
    let place = printed.iter().position(|line| line.contains("' panicked at ") || line.contains(") panicked at "))?;
    let (_, at) = printed[place].split_once("panicked at ")?;
    if let Some(quoted) = at.strip_prefix('\'') {
        return quoted.split_once("', ").map(|(message, _)| message.to_owned());
    }
    let mut below = printed[place + 1..].iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let first = below.next()?;
    // The message of an error that was unwrapped may begin with a line break.
    match below.next().filter(|_| first.ends_with(':')) {
        Some(second) => Some(format!("{first} {second}")),
        None => Some(first.to_owned()),
    }
}

fn compile(text: &str) -> Option<Failure> {
    let failed = lines(text).find(|line| {
        line.starts_with("error: could not compile ")
            || line.starts_with("error: could not document ")
            || line.starts_with("error: aborting due to ")
    })?;
    Some(Failure::Compile { part: part(failed, text), codes: error_codes(text), first: first_error(text) })
}

/// The part that a line such as ``error: could not compile `a` (example "demo") due to 1 previous error`` is about.
fn part(failed: &str, text: &str) -> Part {
    let Some((_, rest)) = failed.split_once('`') else { return Part::Crate };
    let Some((name, rest)) = rest.split_once('`') else { return Part::Crate };
    // `   Compiling a v1.0.0 (/crate)`; a dependency is of a registry or a repository, not of a folder.
    let begun = |line: &str| {
        let package = line
            .trim_start()
            .split_once(' ')
            .filter(|(verb, _)| matches!(*verb, "Compiling" | "Checking" | "Documenting"))?
            .1;
        let (of, version) = package.split_once(" v")?;
        (of == name).then(|| version.to_owned())
    };
    let versions: Vec<String> = lines(text).filter_map(begun).collect();
    let is_own = versions.is_empty() || versions.iter().any(|version| version.contains(" (/"));
    if !is_own {
        return Part::Dependency(shorten(&format!("{name} v{}", versions[0])));
    }
    let Some(target) = rest.trim_start().strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
        return Part::Crate;
    };
    let target = target.0;
    let (target, built) = match target.strip_suffix(" test") {
        Some(of) => (of, " (test build)"),
        None => (target, ""),
    };
    let quoted = target.split('"').nth(1).map(shorten);
    match (target.split(' ').next(), quoted) {
        (Some("example"), Some(name)) => Part::Target(format!("example `{name}`{built}")),
        (Some("bench"), Some(name)) => Part::Target(format!("benchmark `{name}`")),
        (Some("test"), Some(name)) => Part::Target(format!("test target `{name}`")),
        (Some("bin"), Some(name)) => Part::Target(format!("binary `{name}`{built}")),
        (Some("build"), None) => Part::Target("its build script".to_owned()),
        (Some("lib"), None) if !built.is_empty() => Part::Target("library (test build)".to_owned()),
        (_, _) => Part::Crate,
    }
}

/// A diagnostic of the compiler's that is an error: its code, if it has one, and its message.
fn diagnostic(line: &str) -> Option<(Option<&str>, &str)> {
    /// Errors that are cargo's, or that only count others.
    const SUMMARIES: [&str; 5] =
        ["could not compile ", "could not document ", "aborting due to ", "build failed", "failed to run custom build"];
    if let Some((code, message)) = line.trim_start().strip_prefix("error[").and_then(|rest| rest.split_once(']')) {
        let is_code = code.len() == 5 && code.starts_with('E') && code[1..].bytes().all(|b| b.is_ascii_digit());
        return is_code.then(|| (Some(code), message.trim_start_matches(':').trim()));
    }
    let message = line.strip_prefix("error: ")?;
    (!SUMMARIES.iter().any(|summary| message.starts_with(summary))).then_some((None, message))
}

/// The distinct codes of `error[E0554]: …`, in order, a handful of them.
fn error_codes(text: &str) -> Vec<String> {
    const MOST: usize = 5;
    let mut codes: Vec<String> = Vec::new();
    for code in lines(text).filter_map(|line| diagnostic(line)?.0) {
        if codes.len() < MOST && !codes.iter().any(|known| known == code) {
            codes.push(code.to_owned());
        }
    }
    codes
}

/// The first error in the compiler's words; for a failed link, the linker's missing input.
fn first_error(text: &str) -> Option<String> {
    let (place, (code, said)) =
        lines(text).enumerate().find_map(|(place, line)| diagnostic(line).map(|found| (place, found)))?;
    let said = if said.starts_with("linking with ") {
        match lines(text).skip(place + 1).find_map(linker_error) {
            Some(error) => format!("{}: {error}", said.split(" failed").next().unwrap_or(said)),
            None => said.to_owned(),
        }
    } else {
        said.to_owned()
    };
    Some(shorten(&code.map_or(said.clone(), |code| format!("{code}: {said}"))))
}

/// A linker's missing input, from a message of GNU ld, gold, lld or mold.
fn linker_error(line: &str) -> Option<&str> {
    const LACKS: [&str; 6] = [
        "unable to find library ",
        "cannot find ",
        "undefined reference to ",
        "undefined symbol: ",
        "undefined symbol ",
        "library not found",
    ];
    LACKS.iter().find_map(|words| line.find(words).map(|at| line[at..].trim()))
}

/// A test target that ended without a harness that counts failed tests, in cargo's words:
/// ``error: test failed, to rerun pass `--test NAME` ``, with a cause below.
fn target(text: &str) -> Option<Failure> {
    let all: Vec<&str> = lines(text).collect();
    all.iter().enumerate().find_map(|(place, line)| {
        let flags = line.strip_prefix("error: ")?.split_once(" failed, to rerun pass ")?.1;
        let caused =
            all[place + 1..].iter().take(4).find(|line| line.contains("process didn't exit successfully: "))?;
        Some(Failure::Target { target: in_words(flags), end: process_end(caused)? })
    })
}

/// The target that cargo's flags name, in words.
fn in_words(flags: &str) -> String {
    let flags = flags.trim_matches(|c: char| c == '`' || c == '\'' || c.is_whitespace());
    let mut words = flags.split_whitespace().peekable();
    // In a workspace the package comes first.
    if words.next_if_eq(&"-p").is_some() {
        words.next();
    }
    match (words.next(), words.next()) {
        (Some("--lib"), None) => "tests of the library".to_owned(),
        (Some("--doc"), None) => "doc tests".to_owned(),
        (Some("--bin"), Some(name)) => format!("tests of binary `{}`", shorten(name)),
        (Some("--test"), Some(name)) => format!("test target `{}`", shorten(name)),
        (Some("--example"), Some(name)) => format!("tests of example `{}`", shorten(name)),
        (Some("--bench"), Some(name)) => format!("benchmark `{}`", shorten(name)),
        (_, _) => format!("`{}`", shorten(flags)),
    }
}

/// How a process ended, as cargo prints it: `… (exit status: 1)` or `… (signal: 11, SIGSEGV: invalid memory
/// reference)`.
fn process_end(line: &str) -> Option<ProcessEnd> {
    let number = |phrase: &str| {
        let (_, rest) = line.rsplit_once(phrase)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    };
    number("(signal: ")
        .map(ProcessEnd::Signal)
        .or_else(|| number("(exit status: ").or_else(|| number("(exit code: ")).map(ProcessEnd::Code))
}

/// A signal that ended something of which cargo reports only that it ended.
fn signal(text: &str) -> Option<Failure> {
    let ends = lines(text).filter(|line| line.contains("process didn't exit successfully: ")).filter_map(process_end);
    ends.filter_map(|end| match end {
        ProcessEnd::Signal(signal) => Some(Failure::Signal(signal)),
        ProcessEnd::Code(_) => None,
    })
    .next()
}

/// cargo's own refusal.
fn refusal(text: &str) -> Option<Failure> {
    let error = cargo_error(text)?;
    // The summary that `cargo test` prints adds nothing to the exit code.
    let is_summary = message(&error).starts_with("test failed")
        || error.contains("target failed:")
        || error.contains("targets failed:");
    if is_summary {
        return None;
    }
    let error = if error.starts_with("failed to parse manifest") { cause(text).unwrap_or(error) } else { error };
    Some(Failure::Cargo(error))
}
