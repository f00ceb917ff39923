//! Made-up results for tests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

use super::{CrateResults, OpResult, Results, RunRecord};
use crate::krate::{CrateId, Origin, Selected};
use crate::libtest::{Target, TargetFlag, Test, TestResult, Tests};
use crate::ops::{Op, Stage, Tally};
use crate::outcome::{Breakage, Cause, Failure, Outcome, Part};
use crate::plan::{Fingerprint, Step};
use crate::toolchain::Toolchain;

/// When all ops start.
pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_779_000_000)
}

/// An outcome by its letter: `p`assed, `f`ailed, `b`roken, `i`nconclusive, `e`rror, `s`kipped.
pub(crate) fn outcome(letter: char, op: &Op) -> Outcome {
    match letter {
        'p' => Outcome::Passed,
        'f' if *op == Op::Test => {
            Outcome::Failed(Failure::Tests { names: vec!["tests::parses".into(), "tests::prints".into()], more: 0 })
        }
        'f' => Outcome::Failed(Failure::Compile { part: Part::Crate, codes: vec!["E0308".into()], first: None }),
        'b' => Outcome::Broken(Breakage::Manifest("no `[package]` in Cargo.toml".into())),
        'i' => Outcome::Inconclusive(Cause::OutOfMemory(ByteSize::gib(4))),
        'e' => Outcome::Error("the worker panicked".into()),
        's' => Outcome::Skipped,
        other => panic!("no outcome has the letter `{other}`"),
    }
}

/// The crate `sample` whose `prepare` came out like the letter, and whose build and test on each toolchain came out
/// like the letters of [`outcome`]; `-` has not run.
pub(crate) fn crate_of(prepare: char, toolchains: &[&str]) -> CrateResults {
    named("sample", "1.0.0", prepare, toolchains)
}

pub(crate) fn named(name: &str, version: &str, prepare: char, toolchains: &[&str]) -> CrateResults {
    let step = |op: Op, toolchain: Option<usize>, letter: char| {
        let fingerprint = Fingerprint::of(&format!("{name} {version} {} {toolchain:?}", op.name()));
        let result = (letter != '-').then(|| OpResult {
            outcome: outcome(letter, &op),
            started: start(),
            wall: Duration::from_millis(61_500),
            cpu: Duration::from_millis(59_123),
            peak_memory: Some(ByteSize::mib(300)),
            waited: Duration::from_millis(5),
            worker: 1,
            units: Tally { compiled: 1, reused: 20, ..Tally::default() },
            tests: None,
        });
        (Step { op, toolchain, attempt: 1, fingerprint }, result)
    };
    let mut steps = vec![step(Op::Prepare, None, prepare)];
    for (toolchain, letters) in toolchains.iter().enumerate() {
        for (op, letter) in [Op::Build, Op::Test].into_iter().zip(letters.chars()) {
            steps.push(step(op, Some(toolchain), letter));
        }
    }
    let id = CrateId { name: name.parse().unwrap(), version: Some(version.parse().unwrap()) };
    CrateResults { krate: Selected { id, origin: Origin::Registry { checksum: "0".repeat(64) } }, steps }
}

/// The crate `sample` whose tests came out like the texts on each toolchain, each time that they ran.
///
/// The first letter is that of [`outcome`]; behind it `!` stands for a failure outside of tests, `?` for targets that are
/// not complete, `*` for a list that was cut, and `%` for an attempt at some tests only. Then come the tests, in one target
/// or as `TARGET/NAME`: `+` passed, `-` failed, `~` ignored. Without any, nothing is known of tests.
pub(crate) fn tested(toolchains: &[&[&str]]) -> CrateResults {
    let mut krate = crate_of('p', &vec!["p"; toolchains.len()]);
    for (toolchain, attempts) in toolchains.iter().enumerate() {
        for (attempt, text) in (1..).zip(*attempts) {
            let mut words = text.split(' ');
            let kind = words.next().unwrap();
            let mut tests = Tests {
                accounted: kind.starts_with('f') && !kind.contains('!'),
                cut: kind.contains('*'),
                selected: kind.contains('%'),
                targets: Vec::new(),
            };
            words.for_each(|word| add(&mut tests, word, !kind.contains('?')));
            let failed: Vec<String> = tests
                .iter()
                .filter(|(_, test)| test.result == TestResult::Failed)
                .map(|(_, test)| test.name.clone())
                .collect();
            tests.accounted &= !failed.is_empty();
            let mut krate_of_one = crate_of('p', &["pp"]);
            let (step, mut result) = krate_of_one.steps.swap_remove(2);
            let of_test = result.as_mut().unwrap();
            of_test.outcome = match (kind.starts_with('p'), failed.is_empty()) {
                (true, _) => Outcome::Passed,
                (false, true) => Outcome::Failed(Failure::Exit(101)),
                (false, false) => Outcome::Failed(Failure::Tests { names: failed, more: 0 }),
            };
            of_test.tests = (!tests.targets.is_empty()).then(|| Arc::new(tests));
            let fingerprint = Fingerprint::of(&format!("tests on {toolchain}"));
            krate.steps.push((Step { toolchain: Some(toolchain), attempt, fingerprint, ..step }, result));
        }
    }
    krate
}

fn add(tests: &mut Tests, word: &str, complete: bool) {
    let (target, test) = word.split_once('/').unwrap_or(("lib", word));
    let target = if target == "doc-tests" { "doc-tests sample" } else { target };
    let (name, sign) = test.split_at(test.len() - 1);
    let result = match sign {
        "+" => TestResult::Ok,
        "-" => TestResult::Failed,
        "~" => TestResult::Ignored,
        other => panic!("no result is written `{other}`"),
    };
    if !tests.targets.iter().any(|known| known.target == target) {
        let flag = Some(TargetFlag::Lib);
        tests.targets.push(Target { target: target.to_owned(), flag, complete, tests: Vec::new() });
    }
    let target = tests.targets.iter_mut().find(|known| known.target == target).unwrap();
    target.tests.push(Test { name: name.to_owned(), result });
}

/// The crate `absent`, which the registry doesn't have.
pub(crate) fn missing_crate(reason: &str) -> CrateResults {
    let id = CrateId { name: "absent".parse().unwrap(), version: None };
    CrateResults { krate: Selected { id, origin: Origin::Missing(reason.to_owned()) }, steps: Vec::new() }
}

/// The first so many of three toolchains.
pub(crate) fn toolchains(count: usize) -> Vec<Toolchain> {
    let named = [("stable", "1.95.0"), ("nightly", "1.97.0-nightly"), ("beta", "1.96.0-beta.3")];
    named[..count]
        .iter()
        .map(|(spec, version)| {
            let identity = format!("rustc {version} (0123456789 2026-05-15)");
            Toolchain::new(spec.parse().unwrap(), version.parse().unwrap(), identity, "/toolchain".into())
        })
        .collect()
}

pub(crate) fn results(toolchain_count: usize, crates: Vec<CrateResults>) -> Results {
    Results {
        experiment: "sample".to_owned(),
        toolchains: toolchains(toolchain_count),
        notes: vec!["this host can't limit memory".to_owned()],
        crates,
        runs: Vec::new(),
    }
}

/// A run of ten minutes in which all ops of these results ran.
pub(crate) fn run() -> RunRecord {
    RunRecord {
        started: start(),
        workers: Stage::ALL.map(|stage| (stage, 2)).into(),
        wall: Some(Duration::from_secs(600)),
        removal: Some(Duration::from_secs(7)),
        downloaded: Some(ByteSize::mib(3)),
    }
}

/// At least one crate of every verdict, with names, versions and reasons that try to break out of a report.
pub(crate) fn every_verdict() -> Results {
    let mut hostile = named("hostile", "0.1.0-a.b+c.d", 'p', &["p", "p"]);
    let markup = "</code><script>alert(1)</script> | `x` ``` \u{1b}[31m\r\n\u{202e}@all &amp; #1";
    hostile.steps[2].1.as_mut().unwrap().outcome = Outcome::Inconclusive(Cause::Host(markup.to_owned()));
    results(
        2,
        vec![
            named("alpha", "1.0.18", 'p', &["pp", "pp"]),
            named("beta", "2.1.0", 'p', &["pp", "pf"]),
            named("gamma", "0.3.7", 'p', &["f-", "pp"]),
            named("delta", "0.1.0", 'p', &["f-", "f-"]),
            named("epsilon", "0.2.0", 'p', &["pf", "pf"]),
            hostile,
            named("zeta", "3.0.0", 'p', &["e-", "pp"]),
            named("eta", "1.0.0", 'p', &["pp", "--"]),
            named("theta", "1.0.0", 's', &["ss", "ss"]),
            missing_crate("the registry has no crate named `absent`"),
        ],
    )
}
