//! `maar simulate`: the time of a run with other workers, on another machine, over more crates.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use bytesize::ByteSize;

use super::args::SimulateArgs;
use super::exit::Exit;
use super::stored;
use crate::experiment::{DEFAULT_OVERCOMMIT, Experiment, Workers};
use crate::host;
use crate::ops::Stage;
use crate::printable::{bytes, crates, duration, thousands};
use crate::report::figures::percent;
use crate::run;
use crate::simulate::{Bottleneck, Machine, Recording, Replayed, best_split, replay};

/// How much shorter a run must be for its split to be printed: less is noise.
const WORTH_IT: f64 = 0.99;

/// Prints the run's times, its bottleneck and the best split of workers.
pub(super) fn run(args: &SimulateArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (_, store) = stored::open(&args.home)?;
    let results = run::results(&store, &args.name)?;
    let recording = Arc::new(Recording::of(&results)?);
    let cores = match args.cores {
        Some(cores) => cores.into(),
        None => host::cores(),
    };
    let memory = args.memory.or_else(host::memory).context("this host can't tell its memory: give --memory SIZE")?;
    let settings = store.settings(&args.name)?.and_then(|settings| serde_json::from_str::<Experiment>(&settings).ok());
    let overcommit = settings.map_or(DEFAULT_OVERCOMMIT, |experiment| experiment.overcommit);
    let recorded = results.runs.last().and_then(|run| Workers::from_stages(&run.workers));
    let workers = args.workers.unwrap_or_default().over(recorded.unwrap_or(Workers::for_host(cores, 1.0)));
    let budget = ByteSize((memory.as_u64() as f64 * overcommit) as u64);
    let machine = Machine { workers, cores, memory: budget };
    let count = args.crates.map_or(recording.len(), |crates| crates as usize);

    let asked = replay(&recording, count, &machine)?;
    let recorded = crates(recording.len());
    writeln!(out, "{} like the {recorded} of {}", crates(count), args.name)?;
    writeln!(out, "on {} cores with {}, {} crates at a time\n", cores, bytes(memory.as_u64()), workers.in_flight())?;
    table(&asked, workers, out)?;
    writeln!(out, "\nrun time    {}, cores {} busy", duration(asked.wall), percent(asked.cores_busy))?;
    writeln!(out, "bottleneck  {}", explain(&asked, &machine))?;
    let (best, replayed) = best_split(&recording, count, &machine)?;
    let split = format!("--workers fetch={},build={},test={}", best.fetch, best.build, best.test);
    let saved = if replayed.wall < asked.wall.mul_f64(WORTH_IT) { "" } else { ": no faster, with as few as it takes" };
    writeln!(out, "best split  {split} takes {}{saved}", duration(replayed.wall))?;
    Ok(Exit::Fine)
}

fn table(replayed: &Replayed, workers: Workers, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<6} {:>8} {:>10} {:>6} {:>14} {:>14}",
        "POOL", "WORKERS", "OPS", "BUSY", "OPS WAIT", "FOR MEMORY"
    )?;
    for stage in Stage::ALL {
        let pool = replayed.pool(stage);
        let ops = u32::try_from(pool.steps).unwrap_or(u32::MAX).max(1);
        let (busy, waited, held) = (replayed.utilisation(stage, workers), pool.waited / ops, pool.held / ops);
        writeln!(
            out,
            "{stage:<6} {:>8} {:>10} {:>6} {:>14} {:>14}",
            workers.of(stage),
            thousands(pool.steps as usize),
            percent(busy),
            duration(waited),
            duration(held),
        )?;
    }
    Ok(())
}

fn explain(replayed: &Replayed, machine: &Machine) -> String {
    match replayed.bottleneck(machine.workers) {
        Bottleneck::LongestCrate => format!("one crate, which alone takes {}", duration(replayed.longest)),
        Bottleneck::Cores => format!("the {} cores", machine.cores),
        Bottleneck::Memory => format!("memory: {} for all ops together", bytes(machine.memory.as_u64())),
        Bottleneck::Stage(stage) => {
            let busy = percent(replayed.utilisation(stage, machine.workers));
            format!("the {} workers of {stage}, which are {busy} busy", machine.workers.of(stage))
        }
    }
}
