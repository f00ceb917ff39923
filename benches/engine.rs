//! What the engine costs and what it gains, on simulated work: `cargo bench --bench engine`.
//!
//! Prints ratios of times within this run, except for the cost of a step, which is real time on this machine.
#![expect(clippy::print_stdout, reason = "a bench talks to whoever runs it")]

use std::time::{Duration, Instant};

use maar::pipeline::sim::{SimJob, SimStep, heavy_tailed, lower_bound};
use maar::pipeline::{Config, Pool, Summary, run};
use maar::stop::Stop;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("engine time per step, 64 workers:      {:>7.2} µs (target: 10 or less)", step_cost()? * 1e6);
    println!("makespan / lower bound, heavy tail:    {:>7.3} (target: 1.02 or less)", makespan_ratio()?);
    println!("one pool from start to end / by stage: {:>7.3} (target: 1.3 or more)", gain_of_stages()?);
    Ok(())
}

/// Real seconds per step that takes no time, with three pools on all cores. Whatever else the machine does only ever
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

/// How much longer a heavy-tailed mix takes than any schedule must. As long as an ecosystem's run, because what is over
/// the bound is mostly the last large job, which nobody can know beforehand.
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
    let summary = runtime.block_on(run(config, jobs, Stop::never(), sender))?;
    runtime.block_on(reader)?;
    Ok(summary)
}
