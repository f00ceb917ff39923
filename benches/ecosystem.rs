//! What sharing compiled dependencies saves on real crates: maar against plain loops of cargo.
//!
//!     cargo bench --bench ecosystem               # about twenty crates, half an hour on two cores
//!     cargo bench --bench ecosystem -- itoa log   # these instead
//!
//! Downloads first, then times five sides on the same sources, lockfiles, toolchain and lints, with cargo's own choice
//! of debug information and maar's: a loop of cargo with a target folder per crate, one with a folder that all share,
//! maar with nothing compiled yet, maar once more under another name, and the unavoidable part, the crates' own units
//! with all below them compiled. What counts is everything but the running of the tests, which is printed apart; the
//! CPU time of a `test` op that compiles something counts in full, and the crate is named.
//!
//! maar runs tests while it builds other crates, so that no subtraction gives the build time without them: the figure
//! is the run's time without the spans in which only tests ran, which is an upper bound. The wall time of the second
//! run is therefore taken from one more, whose op is what `build` does where `test` follows, with no `test`.
//!
//! CPU time is that of all descendants, as the kernel adds it up for a parent that waited. A side that used the
//! network, or found another verdict, can't be compared: the bench fails and names it.
#![expect(clippy::print_stdout, reason = "a bench talks to whoever runs it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use maar::compare::{CrateResults, Results, RunReport, Verdict, compare};
use maar::home::Home;
use maar::krate::Origin;
use maar::ops::Op;
use maar::registry::lockfile::Lockfile;
use maar::registry::{Access, Config, Package, Registry, Upstream};
use maar::store::Store;
use maar::toolchain::{self, Toolchain};
use nix::sys::resource::{UsageWho, getrusage};

/// Popular crates whose tests need no network and take no minutes.
const CRATES: [&str; 20] = [
    "anyhow",
    "bitflags",
    "bytes",
    "either",
    "env_logger",
    "hashbrown",
    "indexmap",
    "itertools",
    "itoa",
    "log",
    "once_cell",
    "rand",
    "semver",
    "serde_json",
    "smallvec",
    "tempfile",
    "thiserror",
    "url",
    "uuid",
    "walkdir",
];

/// The files of a package that maar drops, because they would redirect the build.
const REDIRECTING: [&str; 4] = [".cargo/config", ".cargo/config.toml", "rust-toolchain", "rust-toolchain.toml"];

/// The timed runs of maar.
const COLD: &str = "maar-cold";
const WARM: &str = "maar-warm";
const UNTESTED: &str = "maar-untested";

/// An op that compiles tests, for a run that doesn't run them.
const CONFIGURATION: &str = r#"
    [op.compile-tests]
    stage = "build"
    run = ["cargo", "test", "--frozen", "--no-run"]
"#;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    // Cargo itself adds `--bench`.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let crates = if named.is_empty() { CRATES.map(str::to_owned).to_vec() } else { named };
    let temporary = tempfile::tempdir()?;
    let bench = Bench::prepare(temporary.path().canonicalize()?, crates)?;
    let (fresh, limit) = bench.fresh_folders()?;
    let sides = [fresh, bench.shared_folder()?, bench.maar(COLD)?, bench.maar(WARM)?];
    let untested = bench.untested(&sides[0])?;
    print_table(&sides, untested, limit);
    let differences = differences(&sides);
    if differences.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nThe verdicts differ, so that the times can't be compared:\n  {}", differences.join("\n  "));
    println!("what cargo printed is in {}", temporary.keep().display());
    Ok(ExitCode::FAILURE)
}

/// What something took.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// The times and verdicts of one way to build and test all crates.
struct Side {
    name: &'static str,
    /// What counts, part by part.
    parts: Vec<(&'static str, Cost)>,
    tests: Cost,
    verdicts: BTreeMap<String, Verdict>,
}

/// All that the sides have in common.
struct Bench {
    dir: PathBuf,
    home: Home,
    toolchain: Toolchain,
    /// As the user names them.
    names: Vec<String>,
    crates: Vec<Krate>,
}

/// A crate, ready to be built offline.
struct Krate {
    /// As `NAME@VERSION`.
    id: String,
    source: PathBuf,
}

impl Bench {
    /// Lets maar download and lock everything, under all names that it will be timed with, and unpacks the same for
    /// cargo.
    fn prepare(dir: PathBuf, names: Vec<String>) -> Result<Self, Failure> {
        let home = Home::open(Some(dir.join("home")))?;
        let toolchain = toolchain::find_or_active(None)?;
        let mut bench = Self { dir, home, toolchain, names, crates: Vec::new() };
        fs::write(bench.dir.join("maar.toml"), CONFIGURATION)?;
        for name in [COLD, WARM, UNTESTED] {
            bench.run(name, "prepare")?;
        }
        let store = Store::open(&bench.home.database())?;
        let (cold, warm) = (bench.results(&store, COLD)?, bench.results(&store, WARM)?);
        let registry = Registry::open(Config {
            upstream: Upstream::configured()?,
            cache: bench.home.cache(),
            access: Access::Online,
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut locked = Vec::new();
        for (krate, again) in cold.crates.iter().zip(&warm.crates) {
            let lockfile = lockfile(&store, COLD, krate)?;
            let id = krate.krate.id.to_string();
            if lockfile != self::lockfile(&store, WARM, again)? {
                return Err(
                    format!("{id} was locked twice in different ways: the registry has changed between them").into()
                );
            }
            let source = bench.dir.join(&id);
            let package = package(krate)?;
            runtime.block_on(registry.unpack(&package, &source, None))?;
            for name in REDIRECTING {
                let path = source.join(name);
                path.exists().then(|| fs::remove_file(path)).transpose()?;
            }
            let path = source.join("Cargo.lock");
            fs::write(&path, &lockfile)?;
            locked.extend(Lockfile::read(&path)?.packages);
            bench.crates.push(Krate { id, source });
        }
        let all = Lockfile { packages: locked, dependencies: Vec::new() };
        std::os::unix::fs::symlink(registry.sources_dir(), bench.dir.join("sources"))?;
        let vendor = bench.dir.join("vendor");
        runtime.block_on(registry.vendor(&all, &vendor))?;
        fs::create_dir(bench.dir.join("cargo"))?;
        let config = "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = ";
        fs::write(bench.dir.join("cargo/config.toml"), format!("{config}{:?}\n", vendor.display().to_string()))?;
        Ok(bench)
    }

    /// Plain cargo with a target folder per crate, and the crates' own units alone, once the rest is compiled.
    fn fresh_folders(&self) -> Result<(Side, Cost), Failure> {
        let mut side = Side::of_cargo("a target folder per crate");
        let mut limit = Cost::default();
        for krate in &self.crates {
            let target = self.dir.join("target");
            self.build_and_test(&mut side, krate, &target)?;
            let (name, version) = krate.id.split_once('@').ok_or("a crate without a version")?;
            let id = format!("path+file://{}#{name}@{version}", krate.source.display());
            self.cargo("clean", krate, &target, &["clean", "--frozen", "-p", &id])?;
            for args in [BUILD, COMPILE_TESTS] {
                limit += self.cargo("own-units", krate, &target, args)?.1;
            }
            fs::remove_dir_all(&target)?;
        }
        Ok((side, limit))
    }

    /// Plain cargo with one target folder for all crates.
    fn shared_folder(&self) -> Result<Side, Failure> {
        let mut side = Side::of_cargo("one target folder");
        let target = self.dir.join("shared-target");
        for krate in &self.crates {
            self.build_and_test(&mut side, krate, &target)?;
        }
        fs::remove_dir_all(&target)?;
        Ok(side)
    }

    /// The commands a person would run for a crate, up to the first that fails.
    fn build_and_test(&self, side: &mut Side, krate: &Krate, target: &Path) -> Result<(), Failure> {
        let label = side.name.replace(' ', "-");
        let (builds, build) = self.cargo(&label, krate, target, BUILD)?;
        side.parts[0].1 += build;
        let mut passes = builds;
        if builds {
            let (compile, compiling) = self.cargo(&label, krate, target, COMPILE_TESTS)?;
            side.parts[1].1 += compiling;
            passes = compile;
        }
        if passes {
            let (pass, testing) = self.cargo(&label, krate, target, TEST)?;
            side.tests += testing;
            passes = pass;
        }
        let verdict = match (builds, passes) {
            (false, _) => Verdict::BuildFail,
            (true, false) => Verdict::TestFail,
            (true, true) => Verdict::Pass,
        };
        println!("{}: {} {verdict}", side.name, krate.id);
        side.verdicts.insert(krate.id.clone(), verdict);
        Ok(())
    }

    /// Runs one cargo command with maar's flags. Returns whether it succeeded, and its times.
    fn cargo(&self, label: &str, krate: &Krate, target: &Path, args: &[&str]) -> Result<(bool, Cost), Failure> {
        let bin = self.toolchain.sysroot.join("bin");
        let mut command = Command::new(bin.join("cargo"));
        command.args(args).current_dir(&krate.source).env_clear();
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
        command.env("HOME", &self.dir).env("CARGO_HOME", self.dir.join("cargo")).env("CARGO_TARGET_DIR", target);
        command.env("CARGO_NET_OFFLINE", "true").env("LANG", "C.UTF-8");
        command.env("CARGO_INCREMENTAL", "0").env("RUSTFLAGS", "--cap-lints=warn");
        command.env("RUSTDOCFLAGS", "--cap-lints=warn");
        self.measured(&format!("{label}-{}", krate.id), &mut command).map(|(code, cost)| (code == Some(0), cost))
    }

    /// maar, with an experiment that has been prepared and nothing else.
    fn maar(&self, name: &'static str) -> Result<Side, Failure> {
        let total = self.run(name, "prepare,build,test")?;
        let store = Store::open(&self.home.database())?;
        let results = self.results(&store, name)?;
        let mut report = compare(&results);
        let run = report.runs.pop().ok_or("maar has forgotten its run")?;
        if run.cpu > total.cpu {
            return Err("the CPU time of cells is not in that of maar's descendants".into());
        }
        if run.downloaded_bytes != Some(0) {
            return Err(format!("{name} used the network while it was timed").into());
        }
        let mut tests = Cost { wall: only_tests(&run), cpu: Duration::ZERO };
        for krate in &results.crates {
            let ran = krate.steps.iter().filter(|(step, _)| step.op == Op::Test);
            for (step, result) in ran.filter_map(|(step, result)| Some((step, result.as_ref()?))) {
                let log = store.log(name, step.log_id())?.unwrap_or_default();
                if has_compiled(&String::from_utf8_lossy(&log.head)) {
                    println!("{name}: `test` of {} compiled something, and its CPU counts in full", krate.krate.id);
                } else {
                    tests.cpu += result.cpu;
                }
            }
        }
        let counted = Cost { wall: total.wall.saturating_sub(tests.wall), cpu: total.cpu.saturating_sub(tests.cpu) };
        Ok(Side {
            name,
            parts: vec![("maar and all below it", counted)],
            tests,
            verdicts: report.crates.iter().map(|krate| (krate.id().to_string(), krate.verdict)).collect(),
        })
    }

    /// maar once more, with an op that compiles tests and doesn't run them; all that pass on a side must be compiled.
    fn untested(&self, side: &Side) -> Result<Cost, Failure> {
        let cost = self.run(UNTESTED, "prepare,compile-tests")?;
        let report = compare(&self.results(&Store::open(&self.home.database())?, UNTESTED)?);
        let passes = |id: &str| side.verdicts.get(id) == Some(&Verdict::Pass);
        let fails =
            report.crates.iter().find(|krate| krate.verdict != Verdict::Pass && passes(&krate.id().to_string()));
        match fails {
            Some(krate) => Err(format!("{UNTESTED} has not compiled {}", krate.id()).into()),
            None => Ok(cost),
        }
    }

    /// Runs maar to the end.
    fn run(&self, name: &str, ops: &str) -> Result<Cost, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maar"));
        command.args(["run", "--progress", "none", "--name", name, "--ops", ops]).current_dir(&self.dir);
        command.args(["--toolchain", self.toolchain.spec.as_str(), "--home"]).arg(self.home.dir());
        command.args(self.names.iter().flat_map(|krate| ["--crates", krate]));
        match self.measured(name, &mut command)? {
            // Failures of crates are results, too.
            (Some(0 | 1), cost) => Ok(cost),
            (code, _) => Err(format!("{name} ended with {code:?}; try {command:?}").into()),
        }
    }

    /// Runs a command to its end, its output in a file of that name.
    fn measured(&self, name: &str, command: &mut Command) -> Result<(Option<i32>, Cost), Failure> {
        let log = File::options().create(true).append(true).open(self.dir.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let (begun, before) = (Instant::now(), of_children()?);
        let status = command.status()?;
        Ok((status.code(), Cost { wall: begun.elapsed(), cpu: of_children()?.saturating_sub(before) }))
    }

    fn results(&self, store: &Store, name: &str) -> Result<Results, Failure> {
        Ok(store.results(name)?.ok_or("maar has forgotten the experiment")?)
    }
}

const BUILD: &[&str] = &["build", "--frozen"];
const COMPILE_TESTS: &[&str] = &["test", "--frozen", "--no-run"];
const TEST: &[&str] = &["test", "--frozen", "--no-fail-fast"];

impl Side {
    fn of_cargo(name: &'static str) -> Self {
        let parts = ["cargo build", "cargo test --no-run"].map(|part| (part, Cost::default())).into();
        Self { name, parts, tests: Cost::default(), verdicts: BTreeMap::new() }
    }

    fn counted(&self) -> Cost {
        let mut sum = Cost::default();
        self.parts.iter().for_each(|(_, cost)| sum += *cost);
        sum
    }
}

/// The lockfile that maar made for a crate.
fn lockfile(store: &Store, experiment: &str, krate: &CrateResults) -> Result<Vec<u8>, Failure> {
    let prepare = krate.steps.iter().find(|(step, _)| step.op == Op::Prepare);
    let made = prepare.map(|(step, _)| store.lockfile(experiment, &step.fingerprint)).transpose()?.flatten();
    made.ok_or_else(|| format!("{} could not be prepared", krate.krate.id).into())
}

fn package(krate: &CrateResults) -> Result<Package, Failure> {
    match (&krate.krate.origin, &krate.krate.id.version) {
        (Origin::Registry { checksum }, Some(version)) => {
            let name = krate.krate.id.name.clone();
            Ok(Package { name, version: version.clone(), checksum: checksum.parse()? })
        }
        _ => Err(format!("{} is not in the registry", krate.krate.id).into()),
    }
}

/// User and system time of all descendants that were waited for.
fn of_children() -> nix::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// Whether cargo compiled anything before the first test ran.
fn has_compiled(log: &str) -> bool {
    log.split("Running").next().is_some_and(|before| before.contains("Compiling"))
}

/// How long of a run nothing but tests ran.
fn only_tests(run: &RunReport) -> Duration {
    let mut changes: Vec<(Duration, bool, i32)> = Vec::new();
    for span in &run.spans {
        let is_test = span.op.as_str() == "test";
        changes.extend([(span.from, is_test, 1), (span.from + span.wall, is_test, -1)]);
    }
    changes.sort_unstable();
    let (mut tests, mut others, mut since, mut sum) = (0, 0, Duration::ZERO, Duration::ZERO);
    for (at, is_test, change) in changes {
        if tests > 0 && others == 0 {
            sum += at - since;
        }
        since = at;
        *(if is_test { &mut tests } else { &mut others }) += change;
    }
    sum
}

/// Prints the times of each side as a ratio to the first, beside the target.
fn print_table(sides: &[Side; 4], untested: Cost, limit: Cost) {
    let [fresh, _, cold, warm] = sides.each_ref().map(Side::counted);
    println!("\n{:<34}{:>10}{:>10}{:>8}{:>8}", "", "wall", "CPU", "ratio", "ratio");
    let line = |name: &str, Cost { wall, cpu }: Cost| {
        let (of_wall, of_cpu) = (wall.div_duration_f64(fresh.wall), cpu.div_duration_f64(fresh.cpu));
        let (wall, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
        println!("{name:<34}{wall:>8.1} s{cpu:>8.1} s{of_wall:>8.2}{of_cpu:>8.2}");
    };
    for side in sides {
        line(side.name, side.counted());
        for (part, cost) in side.parts.iter().filter(|_| side.parts.len() > 1) {
            line(&format!("    {part}"), *cost);
        }
        line("    tests, which don't count", side.tests);
    }
    line("maar-warm again, without tests", untested);
    line("the crates' own units alone", limit);
    println!();
    let target = |what: &str, ratio: f64, most: f64| {
        let met = if ratio <= most { "met" } else { "missed" };
        println!("{what:<34}{ratio:>8.2}  at most {most}: {met}");
    };
    target("CPU, cold / a folder per crate", cold.cpu.div_duration_f64(fresh.cpu), 0.65);
    target("CPU, warm / a folder per crate", warm.cpu.div_duration_f64(fresh.cpu), 0.2);
    target("wall, warm / a folder per crate", untested.wall.div_duration_f64(fresh.wall), 0.2);
    target("CPU, warm / own units alone", warm.cpu.div_duration_f64(limit.cpu), 1.3);
}

/// The crates whose verdicts are not the same on all sides, each with its verdicts.
fn differences(sides: &[Side; 4]) -> Vec<String> {
    let [first, others @ ..] = sides;
    let differs = |id: &&String| others.iter().any(|side| side.verdicts.get(*id) != first.verdicts.get(*id));
    let words = |id: &String| {
        let verdict = |side: &Side| side.verdicts.get(id).map_or("none", |verdict| verdict.as_str());
        let verdicts: Vec<String> = sides.iter().map(|side| format!("{} ({})", verdict(side), side.name)).collect();
        format!("{id}: {}", verdicts.join(", "))
    };
    first.verdicts.keys().filter(differs).map(words).collect()
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}
