//! Ops on a sandbox that only pretends.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use semver::Version;

use super::removal::Removal;
use super::*;
use crate::krate::{CrateId, Origin};
use crate::outcome::{Breakage, Failure};
use crate::registry::{self, Upstream};
use crate::sandbox::fake::{Fake, exit};
use crate::sandbox::{Command, Cores, End};

pub(crate) fn toolchain_of(spec: &str, version: &str) -> Toolchain {
    let sysroot = PathBuf::from("/toolchains").join(version);
    Toolchain::new(spec.parse().unwrap(), version.parse().unwrap(), format!("rustc {version}"), sysroot)
}

fn limits() -> Limits {
    Limits {
        cpus: 1.0,
        memory: ByteSize::gib(1),
        pids: 64,
        timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        output: ByteSize::mib(1),
        disk: ByteSize::gib(1),
        cores: Cores::Shared,
    }
}

/// What ops need, with a registry that answers nothing and keeps its files below `dir`.
pub(crate) fn tools(fake: &Fake, dir: &Path, toolchains: &[&str]) -> Tools {
    let upstream = Upstream { index: "sparse+http://127.0.0.1:9/".parse().unwrap(), ca_file: None };
    let registry =
        Registry::open(registry::Config { upstream, cache: dir.join("cache"), access: registry::Access::Online })
            .unwrap();
    Tools {
        sandbox: Sandbox::Fake(fake.clone()),
        gate: Gate::new(registry.clone(), &[]),
        registry,
        toolchains: toolchains.iter().map(|version| toolchain_of(version, version)).collect(),
        layers: Vec::new(),
        cargo_bin: None,
    }
}

fn krate(origin: Origin) -> Selected {
    Selected { id: CrateId { name: "a".parse().unwrap(), version: Some(Version::new(1, 0, 0)) }, origin }
}

/// The environment of an op with the first toolchain, of a crate that has these variables.
fn environment(tools: &Tools, op: &Op, env: &BTreeMap<String, String>) -> Environment {
    Environment::new(op, &tools.toolchains, (*op != Op::Prepare).then_some(0), env)
}

/// Orders an op with no settings.
fn order<'a>(op: &'a Op, krate: &'a Selected, environment: &'a Environment, limits: Limits) -> Order<'a> {
    let toolchain = (*op != Op::Prepare).then_some(0);
    Order {
        op,
        krate,
        toolchain,
        limits,
        after: None,
        features: &Features::Default,
        environment,
        sharing: Sharing::Layers,
        lockfile_mode: LockfileMode::Latest,
        lockfile: None,
        patched: const { &BTreeMap::new() },
        stop: Stop::never(),
        activity: Activity::default(),
    }
}

/// Runs an op whose commands end as the script says. Also says which commands these were.
async fn run(op: &Op, script: impl Fn(&Command) -> End + Send + Sync + 'static) -> (Done, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let fake =
        Fake::new(move |_, command| exit(script(command), &format!("output of {}\n", without_settings(&command.argv))));
    let tools = tools(&fake, dir.path(), &["1.95.0"]);
    let user = tools.sandbox.user();
    let workspace = Workspace::new(dir.path(), tools.registry.sources_dir(), user, Removal::at_once()).unwrap();
    let krate = krate(Origin::Registry { checksum: String::new() });
    let environment = environment(&tools, op, &BTreeMap::new());
    let order = order(op, &krate, &environment, limits());
    let done = Op::run(&tools, &workspace, &order).await;
    (done, fake.seen().into_iter().map(|(_, command)| without_settings(&command.argv)).collect())
}

/// A command without the flags that are the same for all ops.
pub(crate) fn without_settings(argv: &[String]) -> String {
    let start = argv.iter().position(|word| word == "--jobs").unwrap_or(argv.len());
    let rest = argv[start..].iter().position(|word| word == "--").map_or(&[][..], |end| &argv[start + end..]);
    [&argv[..start], rest].concat().join(" ")
}

#[tokio::test]
async fn settings_of_maars_own_stand_before_the_names_of_tests() {
    let target = libtest::TargetFlag::Lib;
    let retest = Retest::new([(Some(&target), "tests::one")]).unwrap();
    let (_, ran) = run(&Op::Retest(retest), |_| End::Code(0)).await;
    assert_eq!(ran, ["cargo test --frozen --no-fail-fast --lib -- --exact tests::one"]);
}

#[tokio::test]
async fn settings_of_maars_own_are_in_no_variable_that_tests_see() {
    let names = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&names);
    let (_, ran) = run(&Op::Test, move |command| {
        seen.lock().unwrap().extend(command.env.iter().map(|(name, _)| name.clone()));
        assert!(
            command.argv.ends_with(&["--config".to_owned(), "build.rustdocflags=[\"--cap-lints=warn\"]".to_owned()])
        );
        End::Code(0)
    })
    .await;
    assert_eq!(ran, ["cargo test --frozen --no-fail-fast"]);
    assert_eq!(
        *names.lock().unwrap(),
        ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "PWD", "CARGO_HOME"]
    );
}

#[tokio::test]
async fn variables_of_the_crates_reach_its_ops_and_not_prepare() {
    for (op, expected) in [(Op::Prepare, false), (Op::Build, true)] {
        let dir = tempfile::tempdir().unwrap();
        let [source, jobs] = ["crate", "jobs"].map(|name| dir.path().join(name));
        std::fs::create_dir(&source).and_then(|()| std::fs::create_dir(&jobs)).unwrap();
        let fake = Fake::new(|_, _| exit(End::Code(101), ""));
        let tools = tools(&fake, dir.path(), &["1.95.0"]);
        let krate = krate(Origin::Path { dir: source, digest: String::new(), member: "".into() });
        let env = BTreeMap::from([("LD_PRELOAD".to_owned(), "/crate/x.so".to_owned())]);
        let environment = environment(&tools, &op, &env);
        let order = order(&op, &krate, &environment, limits());
        let user = tools.sandbox.user();
        let workspace = Workspace::new(&jobs, tools.registry.sources_dir(), user, Removal::at_once()).unwrap();
        Op::run(&tools, &workspace, &order).await;
        let commands = fake.seen();
        assert!(!commands.is_empty(), "{op:?}");
        for (_, command) in commands {
            assert_eq!(command.env.iter().any(|(name, _)| name == "LD_PRELOAD"), expected, "{op:?}");
        }
    }
}

/// Prepares a folder with two toolchains, whose cargos take a while each and find a dependency missing.
async fn prepare_with_two_toolchains(timeout: Duration) -> (Done, Vec<Duration>) {
    const TAKES: Duration = Duration::from_millis(400);
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(|_, _| {
        std::thread::sleep(TAKES);
        exit(End::Code(101), "error: no matching package named `x` found\n")
    });
    let tools = tools(&fake, dir.path(), &["1.95.0", "1.96.0"]);
    let source = dir.path().join("crate");
    std::fs::create_dir(&source).unwrap();
    let krate = krate(Origin::Path { dir: source, digest: String::new(), member: "".into() });
    let environment = environment(&tools, &Op::Prepare, &BTreeMap::new());
    let order = order(&Op::Prepare, &krate, &environment, Limits { timeout, ..limits() });
    let jobs = dir.path().join("jobs");
    std::fs::create_dir(&jobs).unwrap();
    let user = tools.sandbox.user();
    let workspace = Workspace::new(&jobs, tools.registry.sources_dir(), user, Removal::at_once()).unwrap();
    let done = Op::run(&tools, &workspace, &order).await;
    let given: Vec<Duration> = fake.seen().into_iter().map(|(spec, _)| spec.limits.timeout).collect();
    assert!(given.windows(2).all(|pair| pair[1] + TAKES <= pair[0]), "{given:?}");
    (done, given)
}

#[tokio::test]
async fn all_commands_of_a_prepare_share_its_time() {
    let (done, given) = prepare_with_two_toolchains(Duration::from_secs(60)).await;
    assert_eq!(done.outcome, Some(Outcome::Broken(Breakage::MissingDependency("x".to_owned()))));
    assert_eq!(given.len(), 2);
    let short = Duration::from_millis(350);
    let (done, given) = prepare_with_two_toolchains(short).await;
    assert_eq!(done.outcome, Some(Outcome::Inconclusive(Cause::TimedOut(short))));
    assert_eq!(given.len(), 1);
}

const WITH_TESTS: &str = "cargo test --frozen --no-run";
const ALONE: &str = "cargo build --frozen";

/// The ends of a build together with the tests and of one without them, and what `build` says.
async fn check_build(ends: (End, End), commands: &[&str], outcome: Option<Outcome>) -> Done {
    let (done, ran) =
        run(&Op::BuildTests, move |command| if command.argv[1] == "test" { ends.0 } else { ends.1 }).await;
    assert_eq!(ran, commands);
    assert_eq!(done.outcome, outcome);
    done
}

#[tokio::test]
async fn a_package_that_builds_with_its_tests_is_built_once() {
    check_build((End::Code(0), End::Code(101)), &[WITH_TESTS], Some(Outcome::Passed)).await;
    check_build((End::Stopped, End::Code(101)), &[WITH_TESTS], None).await;
    let too_long = Some(Outcome::Inconclusive(Cause::TimedOut(Duration::from_secs(60))));
    check_build((End::TimedOut, End::Code(0)), &[WITH_TESTS], too_long).await;
}

#[tokio::test]
async fn what_breaks_the_tests_alone_is_no_failure_of_build() {
    let done = check_build((End::Code(101), End::Code(0)), &[WITH_TESTS, ALONE], Some(Outcome::Passed)).await;
    assert_eq!(done.usage.wall, Duration::from_secs(2));
    let log = String::from_utf8(done.output.head).unwrap();
    assert!(log.starts_with("maar: not built together with the tests ("), "{log}");
    assert!(log.contains(&format!("\n$ {ALONE} --jobs 1 --config ")), "{log}");
    assert!(log.ends_with(&format!("\noutput of {ALONE}\n")), "{log}");
    let failed = Some(Outcome::Failed(Failure::Exit(101)));
    check_build((End::Code(101), End::Code(101)), &[WITH_TESTS, ALONE], failed).await;
    check_build((End::Code(101), End::Stopped), &[WITH_TESTS, ALONE], None).await;
}
