//! What building many real crates costs: maar, cold and warm, against two plain cargo loops, in one run.
//!
//!     cargo bench --bench ecosystem [-- CRATE…]
//!
//! Takes half an hour on two cores and fetches from the registry that cargo is configured for, before anything is
//! timed; not for continuous integration. Only the ratios are a claim. Every side has the same sources, lockfiles,
//! toolchain and lints. The running of the tests takes the same on all sides and is printed apart. CPU time is that of
//! all processes of a side, maar's own included.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use maar::compare::{OpResult, Results, judge};
use maar::home::Home;
use maar::krate::Origin;
use maar::ops::Stage;
use maar::plan::Step;
use maar::registry::{self, Package, Registry, Upstream};
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

fn main() {
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let names = if asked.is_empty() { CRATES.map(str::to_owned).into() } else { asked };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bench = Bench { toolchain: toolchain::find_or_active(None).unwrap(), dir: dir.path().to_owned() };
    let crates = bench.prepare(&names);

    let (fresh, own) = bench.fresh(&crates);
    let shared = bench.shared(&crates);
    let cold = bench.maar(&crates, "cold");
    let warm = bench.maar(&crates, "warm");

    println!("\n{:28}{:>9}{:>9}{:>11}{:>9}   and its tests", "", "wall", "CPU", "CPU ratio", "wall");
    let sides = [
        ("cargo, a folder per crate", &fresh),
        ("cargo, one folder", &shared),
        ("maar, cold", &cold),
        ("maar, warm", &warm),
    ];
    for (name, side) in sides {
        let Cost { wall, cpu } = side.build;
        println!(
            "{name:28}{:>8.1}s{:>8.1}s{:>11.3}{:>9.3}   {:.1}s of CPU",
            wall.as_secs_f64(),
            cpu.as_secs_f64(),
            cpu.div_duration_f64(fresh.build.cpu),
            wall.div_duration_f64(fresh.build.wall),
            side.tests.cpu.as_secs_f64(),
        );
    }
    println!("{:28}{:>8.1}s{:>8.1}s", "the crates' own units alone", own.wall.as_secs_f64(), own.cpu.as_secs_f64());
    println!();
    target("cold CPU ÷ a folder per crate", cold.build.cpu.div_duration_f64(fresh.build.cpu), 0.65);
    target("warm CPU ÷ a folder per crate", warm.build.cpu.div_duration_f64(fresh.build.cpu), 0.2);
    target("warm wall ÷ a folder per crate", warm.build.wall.div_duration_f64(fresh.build.wall), 0.2);
    target("warm CPU ÷ own units alone", warm.build.cpu.div_duration_f64(own.cpu), 1.3);

    let differing: Vec<&Krate> = crates
        .iter()
        .enumerate()
        .filter(|(place, _)| sides.iter().any(|(_, side)| side.verdicts[*place] != fresh.verdicts[*place]))
        .map(|(_, krate)| krate)
        .collect();
    for krate in &differing {
        let place = crates.iter().position(|other| other.name == krate.name).unwrap();
        let verdicts: Vec<&str> = sides.iter().map(|(_, side)| side.verdicts[place].as_str()).collect();
        println!("{}: the verdicts differ: {}", krate.name, verdicts.join(", "));
    }
    println!("{} crates, {} verdicts differ", crates.len(), differing.len());
    std::process::exit(i32::from(!differing.is_empty()));
}

fn target(what: &str, ratio: f64, most: f64) {
    let verdict = if ratio <= most { "reached" } else { "missed" };
    println!("{what:32}{ratio:>7.3}  (target: {most} or less: {verdict})");
}

/// One way of building all crates.
struct Side {
    /// Everything but the tests.
    build: Cost,
    tests: Cost,
    /// In the order of the crates.
    verdicts: Vec<String>,
}

#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// A crate as `prepare` leaves it.
struct Krate {
    name: String,
    source: PathBuf,
}

struct Bench {
    toolchain: Toolchain,
    dir: PathBuf,
}

impl Bench {
    /// Fetches everything that any side needs.
    fn prepare(&self, names: &[String]) -> Vec<Krate> {
        println!("fetching {} crates and what they depend on", names.len());
        let selection: Vec<&str> = names.iter().flat_map(|name| ["-c", name]).collect();
        self.run_maar("sources", &["--ops", "prepare"], &selection);
        let results = self.results("sources");
        let registry = registry::Config { upstream: Upstream::configured().unwrap(), cache: self.home().cache() };
        let registry = Registry::open(registry).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let prepared = results.crates.iter().map(|krate| {
            let id = krate.krate.id.clone();
            let Origin::Registry { checksum } = &krate.krate.origin else { panic!("{id} is not in the registry") };
            let source = self.dir.join("sources").join(id.name.as_str());
            let checksum = checksum.parse().unwrap();
            let package = Package { name: id.name.clone(), version: id.version.clone().unwrap(), checksum };
            runtime.block_on(registry.unpack(&package, &source, None)).unwrap();
            let krate = Krate { name: id.name.to_string(), source };
            std::fs::write(krate.source.join("Cargo.lock"), self.lockfile("sources", id.name.as_str())).unwrap();
            assert!(
                self.cargo(&krate, Path::new("unused"), &["fetch", "--locked"]).1,
                "cargo fetch for {}",
                krate.name
            );
            krate
        });
        std::fs::create_dir(self.dir.join("sources")).unwrap();
        prepared.collect()
    }

    /// A new target folder for each crate. Also what the crates' own units cost when all else is there.
    fn fresh(&self, crates: &[Krate]) -> (Side, Cost) {
        let mut own = Cost::default();
        let side = self.plain(crates, "fresh", |krate, target| {
            self.cargo(krate, target, &["clean", "--frozen", "--package", &krate.name]);
            own += self.cargo(krate, target, &["test", "--frozen", "--no-run"]).0;
            let folder = target.to_owned();
            std::fs::remove_dir_all(folder).unwrap();
        });
        (side, own)
    }

    /// One target folder for all.
    fn shared(&self, crates: &[Krate]) -> Side {
        self.plain(crates, "shared", |_, _| ())
    }

    /// A loop as anybody would write it: one crate after the other, on all cores.
    fn plain(&self, crates: &[Krate], name: &str, mut after: impl FnMut(&Krate, &Path)) -> Side {
        let target = self.dir.join(name);
        let mut side = Side { build: Cost::default(), tests: Cost::default(), verdicts: Vec::new() };
        for krate in crates {
            println!("{name}: {}", krate.name);
            let (cost, is_built) = self.cargo(krate, &target, &["build", "--frozen"]);
            side.build += cost;
            side.build += self.cargo(krate, &target, &["test", "--frozen", "--no-run"]).0;
            let (cost, is_tested) = self.cargo(krate, &target, &["test", "--frozen", "--no-fail-fast"]);
            side.tests += cost;
            let verdict = match (is_built, is_tested) {
                (true, true) => "pass",
                (true, false) => "test-fail",
                (false, _) => "build-fail",
            };
            side.verdicts.push(verdict.to_owned());
            after(krate, &target);
        }
        side
    }

    /// Runs cargo on a crate as maar would, but for the sandbox and debug information, and says whether it succeeded.
    fn cargo(&self, krate: &Krate, target: &Path, args: &[&str]) -> (Cost, bool) {
        let bin = self.toolchain.sysroot.join("bin");
        let path = std::env::join_paths([bin.clone(), "/usr/bin".into(), "/bin".into()]).unwrap();
        let mut command = Command::new(bin.join("cargo"));
        command.args(args).current_dir(&krate.source).env("PATH", path).env("CARGO_TARGET_DIR", target);
        command.env("CARGO_INCREMENTAL", "0").env("RUSTFLAGS", "--cap-lints=warn");
        command.env("RUSTDOCFLAGS", "--cap-lints=warn");
        for inherited in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            command.env_remove(inherited);
        }
        timed(&mut command)
    }

    /// An experiment of maar's over the layers that there are.
    fn maar(&self, crates: &[Krate], name: &str) -> Side {
        println!("maar: {name}");
        let selection: Vec<&str> = crates.iter().flat_map(|krate| ["-c", krate.name.as_str()]).collect();
        let whole = self.run_maar(name, &[], &selection);
        let results = self.results(name);
        for krate in crates {
            assert!(
                self.lockfile(name, &krate.name) == std::fs::read(krate.source.join("Cargo.lock")).unwrap(),
                "the registry has changed meanwhile: {} has other dependencies",
                krate.name
            );
        }
        let ran: Vec<(&Step, &OpResult)> = results
            .crates
            .iter()
            .flat_map(|krate| &krate.steps)
            .filter_map(|(step, result)| Some((step, result.as_ref()?)))
            .collect();
        let of = |stages: &[Stage]| {
            ran.iter()
                .filter(|(step, _)| stages.contains(&step.op.stage()))
                .map(|(_, result)| *result)
                .collect::<Vec<_>>()
        };
        let tests = of(&[Stage::Test]);
        let tests = Cost { wall: covered(&tests), cpu: tests.iter().map(|result| result.cpu).sum() };
        // What maar did before the first op and after the last is its own; while only tests ran, it built nothing.
        let everything = covered(&of(&Stage::ALL));
        let build = Cost {
            wall: whole.wall.saturating_sub(everything) + covered(&of(&[Stage::Fetch, Stage::Build])),
            cpu: whole.cpu.saturating_sub(tests.cpu),
        };
        let verdicts = results.crates.iter().map(|krate| judge(krate, 1).verdict.to_string()).collect();
        Side { build, tests, verdicts }
    }

    fn run_maar(&self, name: &str, options: &[&str], selection: &[&str]) -> Cost {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maar"));
        let spec = self.toolchain.spec.as_str();
        command.args(["run", "--name", name, "-t", spec, "--progress", "plain", "--home"]).arg(self.home_dir());
        command.args(options).args(selection).current_dir(&self.dir);
        timed(&mut command).0
    }

    fn home_dir(&self) -> PathBuf {
        self.dir.join("home")
    }

    fn home(&self) -> Home {
        Home::open(Some(self.home_dir())).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.home().database()).unwrap()
    }

    fn results(&self, name: &str) -> Results {
        self.store().results(name).unwrap().unwrap()
    }

    fn lockfile(&self, experiment: &str, krate: &str) -> Vec<u8> {
        let results = self.results(experiment);
        let krate = results.crates.iter().find(|other| other.krate.id.name.as_str() == krate).unwrap();
        self.store().lockfile(experiment, &krate.steps[0].0.fingerprint).unwrap().unwrap()
    }
}

/// Runs a command, and says what it and all its children cost and whether it succeeded.
fn timed(command: &mut Command) -> (Cost, bool) {
    let (before, begun) = (children(), Instant::now());
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    (Cost { wall: begun.elapsed(), cpu: children() - before }, status.success())
}

/// The CPU time of all children that have been waited for, and of theirs.
fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap())
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// For how long at least one of these ran.
fn covered(results: &[&OpResult]) -> Duration {
    let mut spans: Vec<(SystemTime, SystemTime)> =
        results.iter().map(|result| (result.started, result.started + result.wall)).collect();
    spans.sort_unstable();
    let (mut sum, mut until) = (Duration::ZERO, SystemTime::UNIX_EPOCH);
    for (begin, end) in spans {
        sum += end.duration_since(begin.max(until)).unwrap_or_default();
        until = until.max(end);
    }
    sum
}
