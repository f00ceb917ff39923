//! Jobs on a sandbox that only pretends: the ops that run once more, and the results that count.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use semver::Version;

use super::super::assignment::Earlier;
use super::*;
use crate::experiment::DEFAULT_LIMITS;
use crate::home::Home;
use crate::krate::{CrateId, Origin, Selected};
use crate::libtest::{TestResult, Tests};
use crate::ops::tests::{tools, without_settings};
use crate::ops::{CommandOp, Stage};
use crate::outcome::Failure;
use crate::plan::tests::experiment;
use crate::registry::Access;
use crate::sandbox::fake::{Fake, exit};
use crate::sandbox::{Command, End, Exit, MountKind, Spec};
use crate::stop::channel;

/// A crate with its op list, and what plays its commands.
pub(in crate::run) struct Play {
    dir: tempfile::TempDir,
    fake: Fake,
    ops: Vec<Op>,
    toolchains: &'static [&'static str],
    /// Ends this experiment alone.
    pub(in crate::run) own_stop: Stop,
}

/// A job's steps with their outcomes, and its commands with the reason why each was run again.
#[derive(Debug, Default)]
struct Played {
    steps: Vec<(String, Option<Outcome>)>,
    commands: Vec<(String, Option<Doubt>)>,
    logs: Vec<String>,
    tests: Vec<Option<Arc<Tests>>>,
}

const LOCKFILE: &str = "version = 3\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n";

/// The host's side of a folder that commands of this spec write to.
fn written(spec: &Spec, at: &str) -> PathBuf {
    let mount = spec.mounts.iter().find(|mount| mount.at == Path::new(at)).unwrap();
    match &mount.what {
        MountKind::Writable(path) | MountKind::Overlay { upper: path, .. } | MountKind::Copy { upper: path, .. } => {
            path.clone()
        }
        MountKind::ReadOnly(path) => panic!("{} is read-only", path.display()),
    }
}

/// A run in doubt.
fn doubtful(end: End, doubt: Doubt) -> Exit {
    Exit { doubt: Some(doubt), ..exit(end, "some words\n") }
}

impl Play {
    /// `script` gets the number of times that the same command was run before.
    pub(in crate::run) fn new(
        ops: &[Op],
        script: impl Fn(&Spec, &Command, usize) -> Exit + Send + Sync + 'static,
    ) -> Self {
        let seen: Mutex<HashMap<String, usize>> = Mutex::default();
        let fake = Fake::new(move |spec, command| {
            let words = command.argv.join(" ");
            let times = {
                let mut seen = seen.lock().unwrap();
                let times = seen.entry(words.clone()).or_default();
                *times += 1;
                *times - 1
            };
            if command.argv[1] == "update" {
                fs::write(written(spec, "/crate").join("Cargo.lock"), LOCKFILE).unwrap();
            }
            script(spec, command, times)
        });
        let dir = tempfile::tempdir().unwrap();
        let crate_dir = dir.path().join("crate");
        fs::create_dir(&crate_dir).unwrap();
        fs::write(crate_dir.join("Cargo.toml"), "[package]\nname = \"a\"\n").unwrap();
        Self { dir, fake, ops: [&[Op::Prepare], ops].concat(), toolchains: &["1.95.0"], own_stop: Stop::never() }
    }

    pub(in crate::run) fn task(&self) -> Task {
        let experiment = experiment(&self.ops);
        let tools = tools(&self.fake, self.dir.path(), self.toolchains);
        let id = CrateId { name: "a".parse().unwrap(), version: Some(Version::new(1, 0, 0)) };
        let origin = Origin::Path { dir: self.dir.path().join("crate"), digest: String::new(), member: PathBuf::new() };
        let mut plans = plan::plan(&experiment, &tools.toolchains, [Selected { id, origin }]);
        Task {
            assignment: Arc::new(Assignment { experiment, tools, stop: self.own_stop.clone() }),
            place: 0,
            plan: plans.pop().unwrap(),
            earlier: Earlier::default(),
            lockfile: Ok(None),
            patched: Default::default(),
            expectations: Arc::default(),
        }
    }

    pub(in crate::run) fn bench(&self) -> Arc<Bench> {
        let home = Home::open(Some(self.dir.path().join("home"))).unwrap();
        Arc::new(Bench::open(home, Access::Offline).unwrap())
    }

    async fn run(&self, stop: Stop) -> Played {
        let bench = self.bench();
        let mut next = Job::new(&bench, self.task(), Left::all(1)(), &Removal::at_once()).ok();
        let mut played = Played::default();
        while let Some(job) = next {
            let name = job.next_step().op.name().to_string();
            let Stepped { report, next: rest } = job.step(stop.clone()).await;
            next = rest;
            played.steps.push((name, report.done.outcome));
            played.tests.push(report.done.tests);
            played.logs.push(String::from_utf8(report.done.output.head).unwrap());
        }
        let commands = self.fake.seen().into_iter().map(|(spec, command)| (command.argv[1].clone(), spec.after));
        played.commands = commands.collect();
        // Only the folders of runs are left.
        assert_eq!(fs::read_dir(bench.jobs().dir()).unwrap().count(), 1);
        played
    }
}

/// The outcome of a test that ends like this, one run after the other, and the number of its runs.
async fn test_that_ends(exits: &[Exit]) -> (Option<Outcome>, usize) {
    let exits = exits.to_vec();
    let play = Play::new(&[Op::Test], move |_, command, times| match command.argv[1].as_str() {
        "test" => exits[times].clone(),
        _ => exit(End::Code(0), ""),
    });
    let played = play.run(Stop::never()).await;
    let runs = played.commands.iter().filter(|(command, _)| command == "test").count();
    (played.steps.last().unwrap().1.clone(), runs)
}

#[tokio::test]
async fn an_op_in_doubt_runs_once_more_and_its_second_run_counts() {
    let play = Play::new(&[Op::Test], |_, command, times| match (command.argv[1].as_str(), times) {
        ("test", 0) => doubtful(End::Code(101), Doubt::Memory),
        (_, _) => exit(End::Code(0), ""),
    });
    let played = play.run(Stop::never()).await;
    assert_eq!(
        played.steps,
        [("prepare".to_owned(), Some(Outcome::Passed)), ("test".to_owned(), Some(Outcome::Passed))]
    );
    assert_eq!(played.commands[1..], [("test".to_owned(), None), ("test".to_owned(), Some(Doubt::Memory))]);
    let note =
        "maar: the second run of the op, because it may have been refused memory in the first (exit code 101):\n";
    assert!(played.logs[1].starts_with(note), "{}", played.logs[1]);
}

#[tokio::test]
async fn words_lead_to_one_more_run_and_decide_nothing() {
    for doubt in [Doubt::Memory, Doubt::Processes, Doubt::Killed] {
        let exits = [doubtful(End::Code(101), doubt), doubtful(End::Code(101), doubt)];
        assert_eq!(test_that_ends(&exits).await, (Some(Outcome::Failed(Failure::Exit(101))), 2), "{doubt:?}");
    }
}

#[tokio::test]
async fn a_limit_that_the_second_run_is_seen_to_exceed_is_that_limit() {
    let exits = [doubtful(End::Code(101), Doubt::Processes), exit(End::OutOfProcesses, "")];
    let limit = Outcome::Inconclusive(Cause::OutOfProcesses(DEFAULT_LIMITS.pids));
    assert_eq!(test_that_ends(&exits).await, (Some(limit), 2));
}

#[tokio::test]
async fn an_op_that_is_killed_twice_from_outside_is_inconclusive_and_once_is_nothing() {
    let killed = doubtful(End::Signal(libc::SIGTERM), Doubt::Killed);
    let inconclusive = Outcome::Inconclusive(Cause::Host("killed by SIGTERM, which maar did not send".to_owned()));
    assert_eq!(test_that_ends(&[killed.clone(), killed.clone()]).await, (Some(inconclusive), 2));
    assert_eq!(test_that_ends(&[killed, exit(End::Code(0), "")]).await, (Some(Outcome::Passed), 2));
    let crashed = exit(End::Signal(libc::SIGSEGV), "");
    assert_eq!(test_that_ends(&[crashed]).await, (Some(Outcome::Failed(Failure::Signal(libc::SIGSEGV))), 1));
}

#[tokio::test]
async fn an_op_whose_disk_was_short_of_space_runs_again_in_the_same_run() {
    let short = doubtful(End::OutOfDisk, Doubt::ShortDisk);
    assert_eq!(test_that_ends(&[short.clone(), exit(End::Code(0), "")]).await, (Some(Outcome::Passed), 2));
    assert_eq!(test_that_ends(&[short.clone(), short]).await, (Some(Outcome::Inconclusive(Cause::OutOfDisk)), 2));
}

#[tokio::test]
async fn the_second_run_finds_what_the_ops_before_it_made_and_nothing_of_the_first() {
    let own = Op::Command(CommandOp {
        name: "own".parse().unwrap(),
        stage: Stage::Test,
        run: ["own", "word"].map(str::to_owned).to_vec(),
    });
    let play = Play::new(&[own, Op::Test], |spec, command, times| {
        let files = |name: &str| ["/crate", "/crate/target"].map(|at| written(spec, at).join(name));
        let write = |name: &str| files(name).iter().for_each(|file| fs::write(file, "").unwrap());
        let found = |name: &str| files(name).map(|file| file.exists());
        let name = command.argv[1].as_str();
        let is_right = name == "update" || (found("word"), found("test")) == ([name == "test"; 2], [false; 2]);
        if name != "update" {
            write(name);
        }
        match (name, times) {
            ("test", 0) => doubtful(End::Code(101), Doubt::Killed),
            (_, _) => exit(if is_right { End::Code(0) } else { End::Code(7) }, ""),
        }
    });
    let played = play.run(Stop::never()).await;
    assert_eq!(played.steps[2], ("test".to_owned(), Some(Outcome::Passed)));
    let commands: Vec<&str> = played.commands.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(commands, ["update", "word", "test", "word", "test"]);
}

#[tokio::test]
async fn an_op_whose_predecessor_does_not_pass_again_is_inconclusive() {
    let play = Play::new(&[Op::Check, Op::Test], |_, command, times| match (command.argv[1].as_str(), times) {
        ("check", 1) => exit(End::Code(101), ""),
        ("test", _) => doubtful(End::Code(101), Doubt::Memory),
        (_, _) => exit(End::Code(0), ""),
    });
    let played = play.run(Stop::never()).await;
    let words = "`check` did not pass again before it: exit code 101".to_owned();
    assert_eq!(played.steps[2].1, Some(Outcome::Inconclusive(Cause::Host(words))));
}

#[tokio::test]
async fn a_build_in_doubt_runs_again_before_its_parts_are_told_apart() {
    let play = Play::new(&[Op::Build, Op::Test], |_, command, times| {
        match (without_settings(&command.argv).as_str(), times) {
            ("cargo test --frozen --no-run", 0) => doubtful(End::Code(101), Doubt::Killed),
            (_, _) => exit(End::Code(0), ""),
        }
    });
    let played = play.run(Stop::never()).await;
    assert_eq!(played.steps[1], ("build".to_owned(), Some(Outcome::Passed)));
    let commands: Vec<&str> = played.commands.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(commands, ["update", "test", "test", "test"]);
}

#[tokio::test]
async fn a_prepare_in_doubt_begins_anew() {
    let play = Play::new(&[Op::Test], |spec, command, times| {
        let planted = (command.argv[1] == "update").then(|| written(spec, "/crate").join("planted"));
        match (planted, times) {
            (Some(planted), 0) => {
                fs::write(planted, "").unwrap();
                doubtful(End::OutOfDisk, Doubt::ShortDisk)
            }
            (Some(planted), _) => exit(if planted.exists() { End::Code(7) } else { End::Code(0) }, ""),
            (None, _) => exit(End::Code(0), ""),
        }
    });
    let played = play.run(Stop::never()).await;
    assert_eq!(played.steps[0], ("prepare".to_owned(), Some(Outcome::Passed)));
    assert_eq!(played.steps.len(), 2);
}

#[tokio::test]
async fn nothing_is_run_once_more_while_everything_stops() {
    let (stopper, stop) = channel();
    let play = Play::new(&[Op::Test], move |_, command, _| match command.argv[1].as_str() {
        "test" => {
            stopper.raise(StopLevel::Drain);
            doubtful(End::Code(101), Doubt::Memory)
        }
        _ => exit(End::Code(0), ""),
    });
    let played = play.run(stop).await;
    assert_eq!(played.steps[1], ("test".to_owned(), None));
    assert_eq!(played.commands.len(), 2);
}

#[tokio::test]
async fn the_stop_of_one_experiment_ends_its_jobs_alone() {
    let (stopper, own_stop) = channel();
    let mut play = Play::new(&[Op::Check, Op::Test], move |_, command, _| {
        if command.argv[1] == "check" {
            stopper.raise(StopLevel::Drain);
        }
        exit(End::Code(0), "")
    });
    play.own_stop = own_stop;
    let played = play.run(Stop::never()).await;
    let passed = |op: &str| (op.to_owned(), Some(Outcome::Passed));
    assert_eq!(played.steps, [passed("prepare"), passed("check"), ("test".to_owned(), None)]);
    assert!(played.commands.iter().all(|(command, _)| command != "test"), "{:?}", played.commands);
}

/// A test `a` that comes to this, as `cargo test` prints it.
fn printed(result: &str) -> String {
    let (counts, failures) = match result {
        "ok" => ("1 passed; 0 failed", ""),
        _ => ("0 passed; 1 failed", "failures:\n    a\n\n"),
    };
    let end = if result == "ok" { "" } else { "error: test failed, to rerun pass `--lib`\n" };
    format!(
        "     Running unittests src/lib.rs (target/debug/deps/a-c93b59a92189d5d2)\n\nrunning 1 test\ntest a ... {result}\n\n\
         {failures}test result: {result}. {counts}; 0 ignored; 0 measured; 0 filtered out; finished in 0.40s\n\n{end}"
    )
}

/// The commands that repeat a test in which two toolchains differ: the toolchain, whether it was in doubt before, and
/// whether the binaries of the first attempt are there. `doubtful`: the toolchain whose repetition is in doubt.
async fn repetitions(doubtful: Option<&'static str>) -> (Vec<(String, bool, bool)>, Played) {
    let seen: Arc<Mutex<Vec<(String, bool, bool)>>> = Arc::default();
    let repeated = Arc::clone(&seen);
    let mut play = Play::new(&[Op::Check, Op::Test], move |spec, command, _| {
        if command.argv[1] != "test" {
            return exit(End::Code(0), "");
        }
        let sysroot = spec.mounts.iter().find_map(|mount| match &mount.what {
            MountKind::ReadOnly(path) if mount.at == Path::new("/toolchain") => path.file_name()?.to_str(),
            _ => None,
        });
        let toolchain = sysroot.unwrap().to_owned();
        let compiled = written(spec, "/crate/target").join("compiled");
        if command.argv.iter().any(|word| word == "--exact") {
            repeated.lock().unwrap().push((toolchain.clone(), spec.after.is_some(), compiled.exists()));
            if doubtful == Some(&toolchain) && spec.after.is_none() {
                // Killed before it printed anything else than this.
                return Exit { doubt: Some(Doubt::Killed), ..exit(End::Signal(libc::SIGKILL), &printed("ok")) };
            }
        } else {
            fs::write(compiled, "").unwrap();
        }
        match toolchain.as_str() {
            "1.95.0" => exit(End::Code(0), &printed("ok")),
            _ => exit(End::Code(101), &printed("FAILED")),
        }
    });
    play.toolchains = &["1.95.0", "1.96.0"];
    let played = play.run(Stop::never()).await;
    let seen = seen.lock().unwrap().clone();
    (seen, played)
}

#[tokio::test]
async fn a_repeated_test_in_doubt_runs_again_as_itself_from_binaries_that_share_nothing() {
    let ran = |toolchain: &str, after: bool, compiled: bool| (toolchain.to_owned(), after, compiled);
    let (seen, _) = repetitions(None).await;
    assert_eq!(seen, [ran("1.95.0", false, true), ran("1.96.0", false, true)]);

    let (seen, played) = repetitions(Some("1.96.0")).await;
    assert_eq!(seen, [ran("1.95.0", false, true), ran("1.96.0", false, true), ran("1.96.0", true, false)]);
    assert_eq!(played.tests.last().unwrap().as_ref().unwrap().count(TestResult::Failed), 1, "of the second run");
    assert_eq!(played.commands.iter().filter(|(command, _)| command == "check").count(), 2, "one for each toolchain");

    // The other toolchain must not use what the first attempt compiled either, once these folders are gone.
    let (seen, _) = repetitions(Some("1.95.0")).await;
    assert_eq!(seen, [ran("1.95.0", false, true), ran("1.95.0", true, false), ran("1.96.0", false, false)]);
}

#[tokio::test]
async fn an_op_that_could_not_be_run_again_has_no_results_of_another_ops_tests() {
    let play = Play::new(&[Op::Test, Op::Check], |_, command, times| match (command.argv[1].as_str(), times) {
        ("test", 1) => exit(End::Code(101), &printed("FAILED")),
        ("test", _) => exit(End::Code(0), &printed("ok")),
        ("check", _) => doubtful(End::Code(101), Doubt::Killed),
        (_, _) => exit(End::Code(0), ""),
    });
    let played = play.run(Stop::never()).await;
    let has_tests: Vec<bool> = played.tests.iter().map(Option::is_some).collect();
    assert_eq!(has_tests, [false, true, false]);
}
