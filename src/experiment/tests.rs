use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use semver::Version;

use super::*;
use crate::ops::Stage;
use crate::toolchain::{Toolchain, ToolchainError};

mod crates;
mod flags;
mod found;
mod refused;

/// A host that has `stable` and `nightly`, two cores and this working directory.
fn load_in(folder: &Path, overrides: &Overrides) -> Result<Experiment, ExperimentError> {
    let host = Host { cores: 2, folder, toolchain: &|spec, _| toolchain(spec) };
    load(None, overrides, &host).map(|loaded| {
        assert_eq!(loaded.toolchains.len(), loaded.experiment.toolchains.len().max(1));
        loaded.experiment
    })
}

fn toolchain(spec: Option<&ToolchainSpec>) -> Result<Toolchain, ToolchainError> {
    let spec = spec.cloned().unwrap_or_else(|| "stable".parse().unwrap());
    if !["stable", "nightly"].contains(&spec.as_str()) {
        return Err(ToolchainError::NotInstalled { name: spec.to_string(), nearest: Some("nightly".to_owned()) });
    }
    let version = Version::new(1, 95, 0);
    let identity = format!("rustc {version}");
    Ok(Toolchain::new(spec, version, identity, PathBuf::from("/sysroot")))
}

/// The experiment of this `maar.toml`, which is named on the command line.
fn load_text(text: &str, overrides: &Overrides) -> Result<Experiment, ExperimentError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("maar.toml"), text).unwrap();
    let host = Host { cores: 2, folder: folder.path(), toolchain: &|spec, _| toolchain(spec) };
    load(Some(Path::new("maar.toml")), overrides, &host).map(|loaded| loaded.experiment)
}

fn accepted(text: &str) -> Experiment {
    load_text(text, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn demo() -> Experiment {
    let folder = tempfile::tempdir().unwrap();
    load_in(folder.path(), &Overrides::default()).unwrap()
}

fn name(text: &str) -> CrateName {
    text.parse().unwrap()
}

fn op(text: &str) -> OpName {
    text.parse().unwrap()
}

#[test]
fn settings_are_read_as_they_were_written_down() {
    let file = r#"
        crates = ["itoa"]
        sandbox = "docker"
        limits = { memory = "2GiB", timeout = "90s" }
        [op.geiger]
        stage = "build"
        run = ["cargo", "geiger"]
        [op.test.limits]
        cpus = 2
        [crate.itoa]
        ops = ["prepare", "geiger"]
        features = ["*"]
        env = { A = "b" }
    "#;
    let experiment = load_text(file, &Overrides::default()).unwrap();
    let read: Experiment = serde_json::from_str(&serde_json::to_string(&experiment).unwrap()).unwrap();
    assert_eq!(read, Experiment { crates: Vec::new(), ..experiment });
}

#[test]
fn without_a_file_the_demo_is_run_with_the_documented_defaults() {
    let names = ["adler2", "cfg-if", "either", "fnv", "percent-encoding", "scopeguard", "strsim", "utf8parse"];
    let expected = Experiment {
        name: "demo".to_owned(),
        toolchains: Vec::new(),
        crates: names.map(|text| Selection::Newest(name(text))).to_vec(),
        ops: vec![Op::Prepare, Op::Build, Op::Test],
        workers: Workers { fetch: 8, build: 2, test: 2 },
        in_flight: 16,
        overcommit: 1.0,
        limits: Limits {
            cpus: 1.0,
            memory: ByteSize::gib(4),
            pids: 4096,
            timeout: Duration::from_secs(900),
            idle_timeout: Duration::from_secs(300),
            output: ByteSize::mib(16),
            disk: ByteSize::gib(20),
            cores: Cores::Shared,
        },
        op_limits: BTreeMap::new(),
        crate_settings: BTreeMap::new(),
        crate_patterns: Vec::new(),
        lockfile: LockfileMode::Latest,
        sandbox: SandboxKind::Native,
        as_of: None,
        allow_hosts: Vec::new(),
        cache: Caching::On,
        cache_budget: ByteSize::gib(20),
    };
    assert_eq!(demo(), expected);
}

const DEFAULT_FILE: &str = include_str!("../../maar.toml");

/// A line of the default file that is a setting once its `#` is taken off.
fn uncommented(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|setting| setting.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
}

#[test]
fn every_commented_out_default_of_the_default_file_is_the_default() {
    let is_default = |setting: &&str| !setting.starts_with("toolchains") && !setting.starts_with("skip");
    // From the first table that is commented out, all are examples.
    let commented = DEFAULT_FILE.lines().take_while(|line| !line.starts_with("#[")).filter_map(uncommented);
    let defaults: Vec<&str> = commented.filter(is_default).collect();
    assert_eq!(defaults.len(), 18, "{defaults:?}");
    for setting in defaults {
        let file = DEFAULT_FILE.replacen(&format!("#{setting}"), setting, 1);
        assert_eq!(accepted(&file), demo(), "{setting}");
    }
}

#[test]
fn every_commented_out_example_of_the_default_file_is_accepted() {
    let lines: Vec<&str> = DEFAULT_FILE.lines().map(|line| uncommented(line).unwrap_or(line)).collect();
    let experiment = accepted(&lines.join("\n"));
    assert_eq!(experiment.toolchains.len(), 2);
    assert_eq!(experiment.ops, [Op::Prepare, Op::Build]);
    assert_eq!(experiment.limits_of(&name("fnv"), &op("test")).timeout, Duration::from_secs(1800));
    assert_eq!(experiment.limits_of(&name("either"), &op("test")).memory, ByteSize::gib(8));
    assert_eq!(experiment.crate_settings[&name("either")].features, Features::With(vec!["serde".to_owned()]));
}

#[test]
fn ops_of_the_users_own_can_be_listed_and_limited() {
    let experiment = accepted(
        r#"
        crates = ["itoa"]
        ops = ["prepare", "geiger"]
        [op.geiger]
        stage = "test"
        run = ["cargo", "geiger", "-p", "a", "-p", "b"]
        limits = { cpus = 2 }
        "#,
    );
    let run = ["cargo", "geiger", "-p", "a", "-p", "b"].map(str::to_owned).to_vec();
    let geiger = crate::ops::CommandOp { name: op("geiger"), stage: Stage::Test, run };
    assert_eq!(experiment.ops, [Op::Prepare, Op::Command(geiger)]);
    assert_eq!(experiment.limits_of(&name("itoa"), &op("geiger")).cpus, 2.0);
    assert_eq!(experiment.limits_of(&name("itoa"), &op("prepare")).cpus, 1.0);
}

#[test]
fn limits_of_a_crate_go_over_those_of_the_op_and_these_over_the_experiments() {
    let experiment = accepted(
        r#"
        crates = ["itoa"]
        [limits]
        cpus = 2
        memory = "1GiB"
        timeout = "1m"
        idle-timeout = "10s"
        pids = 100
        output = "1MiB"
        disk = "3GiB"
        [op.test.limits]
        memory = "2GiB"
        timeout = "1h 30m"
        [crate.itoa.limits]
        timeout = "3m"
        cpuset = true
        "#,
    );
    let expected = Limits {
        cpus: 2.0,
        memory: ByteSize::gib(2),
        pids: 100,
        timeout: Duration::from_secs(180),
        idle_timeout: Duration::from_secs(10),
        output: ByteSize::mib(1),
        disk: ByteSize::gib(3),
        cores: Cores::Own,
    };
    assert_eq!(experiment.limits_of(&name("itoa"), &op("test")), expected);
    assert_eq!(experiment.limits_of(&name("ryu"), &op("test")).timeout, Duration::from_secs(5400));
    assert_eq!(experiment.limits_of(&name("ryu"), &op("build")).memory, ByteSize::gib(1));
}

#[test]
fn a_crate_may_have_its_own_list_or_take_ops_off() {
    let experiment = accepted(
        r#"
        crates = ["a", "b", "c", "d"]
        skip = ["build"]
        [crate.a]
        ops = ["prepare", "build", "check"]
        skip = ["check"]
        [crate.b]
        skip = ["test"]
        [crate.c]
        ops = []
        "#,
    );
    for (krate, ops) in [
        ("a", vec![Op::Prepare, Op::Build]),
        ("b", vec![Op::Prepare]),
        ("c", vec![]),
        ("d", vec![Op::Prepare, Op::Test]),
    ] {
        assert_eq!(experiment.ops_of(&name(krate)), ops, "{krate}");
    }
}

#[test]
fn features_and_variables_of_a_crate_are_kept() {
    let experiment = accepted(
        r#"
        crates = ["a"]
        [crate.a]
        features = ["std", "dep/extra", "*"]
        env = { RUSTFLAGS = "--cfg x", A1 = "" }
        "#,
    );
    let settings = &experiment.crate_settings[&name("a")];
    assert_eq!(settings.features, Features::With(["std", "dep/extra", "*"].map(str::to_owned).to_vec()));
    let env = [("A1", ""), ("RUSTFLAGS", "--cfg x")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(settings.env, BTreeMap::from(env));
}

#[test]
fn workers_suit_the_host_and_what_an_op_may_use() {
    for (cores, cpus, workers) in [(2, 1.0, 2), (16, 1.0, 16), (16, 4.0, 4), (2, 4.0, 1), (2, 0.5, 2), (1, 1.0, 1)] {
        let expected = Workers { fetch: 8, build: workers, test: workers };
        assert_eq!(Workers::for_host(cores, cpus), expected, "{cores} cores, {cpus} CPUs");
    }
    let experiment = accepted("crates = [\"a\"]\nworkers = { build = 5 }");
    assert_eq!(experiment.workers, Workers { fetch: 8, build: 5, test: 2 });
    assert_eq!(experiment.in_flight, 22);
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("top.txt"), "# the top\nitoa\n\nryu@1.0.0\n").unwrap();
    std::fs::write(inner.join("top.toml"), "crates = [\"list:top.txt\"]").unwrap();
    let host = Host { cores: 2, folder: folder.path(), toolchain: &|spec, _| toolchain(spec) };
    let loaded = load(Some(Path::new("inner/top.toml")), &Overrides::default(), &host).unwrap();
    let expected = [Selection::Newest(name("itoa")), Selection::Exact(name("ryu"), Version::new(1, 0, 0))];
    assert_eq!(loaded.experiment.crates, expected);
    assert_eq!(loaded.experiment.name, "top");
}

#[test]
fn the_name_is_that_of_the_folder_where_nothing_says_another() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("my crates");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("maar.toml"), "crates = [\"itoa\"]").unwrap();
    assert_eq!(load_in(&inner, &Overrides::default()).unwrap().name, "my-crates");
}

#[test]
fn output_may_be_kept_whole() {
    let limits =
        load_text("crates = [\"a\"]\nlimits = { output = \"unlimited\", memory = \"1GiB\" }", &Overrides::default());
    let limits = limits.unwrap().limits;
    assert_eq!((limits.output, limits.most_printed()), (Limits::ALL_OUTPUT, ByteSize::gib(1)));
    let limits = |output| Limits { output, ..DEFAULT_LIMITS };
    assert_eq!(limits(ByteSize::mib(512)).most_printed(), ByteSize::mib(512));
    assert_eq!(limits(ByteSize::mib(1)).most_printed(), ByteSize::mib(256));
}
