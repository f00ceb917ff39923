//! The engine's cost and gain, on simulated work: `cargo bench --bench engine`.
//!
//! Prints ratios of times within this run, except for the cost of a step and of an ecosystem: those are real time and
//! memory on this machine. docs/performance.md explains the numbers.
#![expect(clippy::print_stdout, reason = "a bench talks to whoever runs it")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use maar::experiment::{Caching, DEFAULT_CACHE_BUDGET, DEFAULT_LIMITS, Experiment, SandboxKind, Workers};
use maar::krate::{CrateId, Origin, Selected};
use maar::ops::{LockfileMode, Op};
use maar::pipeline::sim::{Random, SimJob, SimStep, heavy_tailed, lower_bound};
use maar::pipeline::{Config, Pool, Summary, each, run};
use maar::plan::{self, CratePlan};
use maar::stop::Stop;
use maar::toolchain::Toolchain;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // First, while all memory that is needed is still to be had from the system.
    let queued = memory_per_queued_crate()?;
    let Ecosystem { took, peak } = ecosystem()?;
    println!("700,000 crates x 2 toolchains x 2 ops:  {took:>7.1} s  (target: 60 or less)");
    println!("the most memory meanwhile:              {:>7.0} MiB (target: 1024 or less)", mib(peak));
    println!("memory per queued crate:                {queued:>7.0} B");
    println!("engine time per step, 64 workers:       {:>7.2} µs (target: 10 or less)", step_cost()? * 1e6);
    println!("makespan / lower bound, heavy tail:     {:>7.3}    (target: 1.02 or less)", makespan_ratio()?);
    println!("one pool from start to end / by stage:  {:>7.3}    (target: 1.3 or more)", gain_of_stages()?);
    Ok(())
}

/// The cost of the largest experiment: real seconds, and bytes.
struct Ecosystem {
    took: f64,
    peak: u64,
}

/// As many crates as the largest registry will have in a while, planned as `maar run` plans them and run on 64 workers.
fn ecosystem() -> Result<Ecosystem, Box<dyn std::error::Error>> {
    const CRATES: usize = 700_000;
    let begun = Instant::now();
    let selected = (0..CRATES).map(selected).collect::<Result<Vec<_>, _>>()?;
    let toolchains = ["stable", "nightly"].map(toolchain).into_iter().collect::<Result<Vec<_>, _>>()?;
    let plans = plan::plan(&experiment(), &toolchains, selected);
    let mut random = Random::new(3);
    let jobs = plans.iter().enumerate().filter_map(|(id, plan)| simulated(id, plan, &mut random));
    let summary = drive(&virtual_time()?, &config([16, 32, 16], 256), jobs)?;
    assert_eq!(summary.steps(), 5 * CRATES as u64, "prepare, and build and test on two toolchains");
    Ok(Ecosystem { took: begun.elapsed().as_secs_f64(), peak: status("VmHWM:")? })
}

fn experiment() -> Experiment {
    Experiment {
        name: "ecosystem".to_owned(),
        toolchains: Vec::new(),
        crates: Vec::new(),
        ops: vec![Op::Prepare, Op::Build, Op::Test],
        workers: Workers { fetch: 16, build: 32, test: 16 },
        in_flight: 256,
        overcommit: 1.0,
        cache: Caching::Off,
        cache_budget: DEFAULT_CACHE_BUDGET,
        limits: DEFAULT_LIMITS,
        op_limits: BTreeMap::new(),
        crate_settings: BTreeMap::new(),
        crate_patterns: Vec::new(),
        lockfile: LockfileMode::Latest,
        sandbox: SandboxKind::Native,
        allow_hosts: Vec::new(),
        as_of: None,
    }
}

fn selected(place: usize) -> Result<Selected, Box<dyn std::error::Error>> {
    let id = CrateId { name: format!("crate-{place}").parse()?, version: Some(semver::Version::new(1, 0, 0)) };
    Ok(Selected { id, origin: Origin::Registry { checksum: format!("{place:064x}") } })
}

fn toolchain(spec: &str) -> Result<Toolchain, Box<dyn std::error::Error>> {
    let version = semver::Version::new(1, 95, 0);
    let sysroot = format!("/toolchains/{spec}").into();
    Ok(Toolchain::new(spec.parse()?, version, format!("rustc 1.95.0 ({spec})"), sysroot))
}

/// The steps of a plan, each taking up to ten seconds.
fn simulated(id: usize, plan: &CratePlan, random: &mut Random) -> Option<SimJob> {
    let mut steps = plan.steps.iter().map(|step| SimStep::new(step.op.stage().place(), 1 + random.below(10_000)));
    let first = steps.next()?;
    Some(SimJob::new(id, first, steps))
}

/// Bytes of this process for each job that waits for a worker.
fn memory_per_queued_crate() -> Result<f64, Box<dyn std::error::Error>> {
    const QUEUED: usize = 500_000;
    let before = status("VmRSS:")?;
    let mut during = before;
    // All of them are queued when the last one is taken from the iterator.
    let jobs = (0..QUEUED).inspect(|id| {
        if *id == QUEUED - 1 {
            during = status("VmRSS:").unwrap_or(before);
        }
    });
    let jobs = jobs.map(|id| SimJob::new(id, SimStep::new(0, 1), [SimStep::new(1, 1)]));
    drive(&virtual_time()?, &config([64, 64], QUEUED), jobs)?;
    Ok(during.saturating_sub(before) as f64 / QUEUED as f64)
}

/// A size of this process, in bytes, from `/proc/self/status`, whose unit is 1024 bytes.
fn status(name: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Real seconds per step that takes no time, with three pools on all cores. Other load on the machine only ever
/// adds to it, so the best of five runs counts.
fn step_cost() -> Result<f64, Box<dyn std::error::Error>> {
    let runtime = Builder::new_multi_thread().build()?;
    let config = config([16, 32, 16], 256);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let jobs = (0..100_000).map(|id| SimJob::new(id, SimStep::new(0, 0), [SimStep::new(1, 0), SimStep::new(2, 0)]));
        let begun = Instant::now();
        let summary = drive(&runtime, &config, jobs)?;
        best = best.min(begun.elapsed().as_secs_f64() / summary.steps() as f64);
    }
    Ok(best)
}

/// How much longer a heavy-tailed mix takes than any schedule must. As long as an ecosystem's run, because the time
/// over the bound is mostly the last large job, whose size is unknown beforehand.
fn makespan_ratio() -> Result<f64, Box<dyn std::error::Error>> {
    let config = config([16, 32, 16], 256);
    let jobs = heavy_tailed(1, 100_000, Duration::from_secs(1), &[0.2, 0.5, 0.3]);
    let bound = lower_bound(&config, &jobs);
    Ok(drive(&virtual_time()?, &config, jobs)?.wall.div_duration_f64(bound))
}

/// How much longer 32 workers take that each fetch, build and test one crate after another, a third of the time each,
/// than 16 that build and 16 that test while 16 more, who use no processor, fetch.
fn gain_of_stages() -> Result<f64, Box<dyn std::error::Error>> {
    let third = 1.0 / 3.0;
    let jobs = heavy_tailed(2, 20_000, Duration::from_secs(1), &[third; 3]);
    let whole = jobs.iter().enumerate().map(|(id, job)| {
        let millis = job.steps().map(|step| step.takes).sum::<Duration>().as_millis();
        SimJob::new(id, SimStep::new(0, millis as u64), [])
    });
    let one_pool = drive(&virtual_time()?, &config([32], 32), whole)?.wall;
    let by_stage = drive(&virtual_time()?, &config([16, 16, 16], 256), jobs)?.wall;
    Ok(one_pool.div_duration_f64(by_stage))
}

fn config<const N: usize>(workers: [usize; N], in_flight: usize) -> Config {
    let pool = |workers| Pool { name: String::new(), workers };
    Config::new(workers.map(pool).into(), in_flight)
}

fn virtual_time() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_time().start_paused(true).build()
}

/// Runs jobs to the end, and reads their events as a store would.
fn drive(
    runtime: &Runtime,
    config: &Config,
    jobs: impl IntoIterator<Item = SimJob>,
) -> Result<Summary, Box<dyn std::error::Error>> {
    let (sender, mut receiver) = mpsc::channel(1024);
    let reader = runtime.spawn(async move { while receiver.recv().await.is_some() {} });
    let summary = runtime.block_on(run(config, &each(jobs), Stop::never(), sender))?;
    runtime.block_on(reader)?;
    Ok(summary)
}
