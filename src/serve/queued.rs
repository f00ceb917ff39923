//! From an experiment that is planned to jobs that agents are given.
//!
//! Reads the plan from the database, crate by crate: the whole plan of a registry would not fit into memory.

use bytesize::ByteSize;

use super::leases::Dispatcher;
use super::problem::Problem;
use super::state::{log, note};
use crate::experiment::Experiment;
use crate::lease::Lane;
use crate::run::Earlier;
use crate::schedule::{self, Expectations};
use crate::store::service::NewJob;
use crate::store::{Store, StoreError};
use crate::toolchain::Toolchain;

/// How many crates run at a time, about, over all agents: large crates begin so much ahead of their turn that none runs
/// alone at the end.
const AT_ONCE: usize = 256;

/// Lays out the jobs of all experiments that are planned and wait.
pub(super) async fn begin(dispatcher: &Dispatcher) -> Result<(), Problem> {
    let queued = dispatcher.inner().database.with(|store| store.queued()).await?;
    for (experiment, generation, name) in queued {
        let large = dispatcher.state().large();
        let laid_out = dispatcher.inner().database.with(move |store| {
            let count = lay_out(store, (experiment, generation), &name, large)?;
            Ok::<_, StoreError>((name, count))
        });
        let (name, count) = laid_out.await?;
        note(&format!("experiment `{name}`: {count} crates wait for agents"));
        dispatcher.wake();
    }
    Ok(())
}

/// Lays out the jobs of one experiment: of each crate with a step left. `large`: how much memory makes a crate one for the
/// largest agents.
fn lay_out(
    store: &mut Store,
    (experiment, generation): (u32, u32),
    name: &str,
    large: Option<ByteSize>,
) -> Result<usize, StoreError> {
    let Some((settings, toolchains)) = store.assigned(experiment, generation)? else { return Ok(0) };
    let (Ok(settings), Ok(toolchains)) =
        (serde_json::from_str::<Experiment>(&settings), serde_json::from_str::<Vec<Toolchain>>(&toolchains))
    else {
        return Ok(0);
    };
    let expectations = Expectations::new(store.costs(|_| true)?);
    let mut waiting = Vec::new();
    let mut position = 0;
    while let Some(plan) = store.crate_plan(experiment, position)? {
        let (finished, attempts) = store.earlier_results(experiment, &plan)?;
        let left = Earlier { finished, attempts }.left(&settings, toolchains.len(), &plan);
        if !left.is_empty() {
            let krate = &plan.krate.id.name;
            let peak = left.iter().map(|step| expectations.peak(krate, step)).max().unwrap_or_default();
            let lane = if large.is_some_and(|large| peak > large) { Lane::Big } else { Lane::Std };
            waiting.push(((position, lane), expectations.total(krate, &left)));
        }
        position += 1;
    }
    let job = |(position, lane): (u32, Lane)| NewJob { position, lane: lane.to_string(), shard: (position % 64) as u8 };
    let jobs: Vec<NewJob> = schedule::order(waiting, AT_ONCE).into_iter().map(job).collect();
    store.distribute(name, &jobs)?;
    Ok(jobs.len())
}

/// Ends the jobs of experiments that are being aborted.
pub(super) async fn abort(dispatcher: &Dispatcher) -> Result<(), Problem> {
    for (experiment, generation, name) in dispatcher.inner().database.with(|store| store.aborting()).await? {
        if let Err(problem) = dispatcher.abort(experiment, generation).await {
            // The jobs are withdrawn: should the engine deliver one, it is skipped.
            note(&format!("experiment `{name}`: {}", problem.detail()));
        }
        let ended = dispatcher.inner().database.with(move |store| store.aborted(experiment)).await;
        if let Err::<(), StoreError>(error) = ended {
            log(&error);
        }
    }
    Ok(())
}
