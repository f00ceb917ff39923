//! Gives the engine the waiting jobs, and publishes lost ones again.
//!
//! Both publish in the order of handouts. To publish a job twice is harmless: the dispatcher looks each one up.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::leases::{Dispatcher, unavailable};
use super::problem::Problem;
use super::queued;
use super::state::note;
use crate::lease::{Engine, JobId, Lane, Queue, Waiting};
use crate::store::service::{Running, WaitingJob};

/// How many jobs are read and published at a time.
const BATCH: usize = 2_000;

/// How many jobs are published until the place is noted.
const NOTED: u32 = 10_000;

/// How long a queue that has jobs and is asked may deliver none.
const QUIET: Duration = Duration::from_secs(600);

/// The pause between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Feeds and sweeps for as long as the server runs.
pub(super) async fn run(dispatcher: Dispatcher) {
    let mut swept = Instant::now();
    if let Err(problem) = begin(&dispatcher).await {
        note(problem.detail());
    }
    loop {
        if let Err(problem) = queued::begin(&dispatcher).await {
            note(&format!("laying out jobs: {}", problem.detail()));
        }
        if let Err(problem) = queued::abort(&dispatcher).await {
            note(&format!("aborting: {}", problem.detail()));
        }
        if let Err(problem) = feed(&dispatcher).await {
            note(&format!("publishing jobs: {}", problem.detail()));
        }
        if let Err(problem) = conclude(&dispatcher).await {
            note(&format!("ending experiments: {}", problem.detail()));
        }
        if swept.elapsed() >= dispatcher.times().sweep {
            swept = Instant::now();
            if let Err(problem) = sweep(&dispatcher).await {
                note(&format!("looking for lost jobs: {}", problem.detail()));
            }
        }
        dispatcher.woken(LOOK).await;
    }
}

/// An engine in memory has nothing after a start.
async fn begin(dispatcher: &Dispatcher) -> Result<(), Problem> {
    match dispatcher.inner().engine {
        Engine::Nats(_) => Ok(()),
        Engine::Here(_) => {
            let rewind = dispatcher
                .inner()
                .database
                .with(|store| store.handed_out()?.iter().try_for_each(|of| store.set_cursor(of.id, 0)));
            rewind.await.map_err(|error: crate::store::StoreError| error.into())
        }
    }
}

/// Publishes the jobs behind the cursor of each experiment.
async fn feed(dispatcher: &Dispatcher) -> Result<(), Problem> {
    let database = &dispatcher.inner().database;
    for Running { id, generation, cursor, .. } in database.with(|store| store.handed_out()).await? {
        let (mut cursor, mut noted) = (cursor, cursor);
        loop {
            let jobs = database.with(move |store| store.waiting_from(id, generation, cursor, BATCH)).await?;
            let Some(last) = jobs.last() else { break };
            let next = last.rank + 1;
            publish(dispatcher, (id, generation), 0, &jobs).await?;
            cursor = next;
            if cursor - noted >= NOTED {
                noted = cursor;
                database.with(move |store| store.set_cursor(id, cursor)).await?;
            }
        }
        if cursor != noted {
            database.with(move |store| store.set_cursor(id, cursor)).await?;
            dispatcher.wake();
        }
    }
    Ok(())
}

/// Ends the experiments without a job that waits.
async fn conclude(dispatcher: &Dispatcher) -> Result<(), Problem> {
    for (experiment, generation, name) in dispatcher.inner().database.with(|store| store.conclude_jobs()).await? {
        note(&format!("experiment `{name}`: all crates have ended"));
        dispatcher.forget(experiment, generation);
        dispatcher.inner().engine.forget(experiment, generation).await.map_err(unavailable)?;
    }
    Ok(())
}

/// Publishes jobs again that wait, that no agent holds, and that the engine has lost: their queue is empty.
async fn sweep(dispatcher: &Dispatcher) -> Result<(), Problem> {
    let database = &dispatcher.inner().database;
    for of in database.with(|store| store.handed_out()).await? {
        let Running { id, generation, cursor, .. } = of;
        // Another round than any before, so that the engine takes them in.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let round = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let mut empty = BTreeMap::new();
        let (mut rank, mut count) = (0, 0);
        loop {
            let jobs = database.with(move |store| store.waiting_from(id, generation, rank, BATCH)).await?;
            let Some(last) = jobs.last() else { break };
            rank = last.rank + 1;
            let mut lost = Vec::new();
            for job in jobs.into_iter().filter(|job| job.rank < cursor) {
                let lane: Lane = job.lane.parse().unwrap_or(Lane::Std);
                let queue = Queue { experiment: id, generation, lane };
                let is_empty = match empty.entry(queue) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(unknown) => *unknown.insert(is_empty(dispatcher, queue).await?),
                };
                if is_empty && !is_held(dispatcher, JobId { experiment: id, generation, position: job.position }) {
                    lost.push(job);
                }
            }
            count += lost.len();
            publish(dispatcher, (id, generation), round, &lost).await?;
        }
        if count > 0 {
            note(&format!("experiment `{}`: {count} jobs that the engine had lost are published again", of.name));
            dispatcher.wake();
        }
    }
    Ok(())
}

/// Whether a queue has no job. One that has some and delivers none for long gets a new consumer.
async fn is_empty(dispatcher: &Dispatcher, queue: Queue) -> Result<bool, Problem> {
    let held = dispatcher.inner().engine.held(queue).await.map_err(unavailable)?;
    let lease = dispatcher.times().lease;
    let (is_quiet, is_leased) = {
        let state = dispatcher.state();
        let is_quiet = state.quiet.get(&queue).is_some_and(|since| since.elapsed() > QUIET.max(2 * lease));
        let is_of = |(job, _): (JobId, u32)| job.queue(queue.lane) == queue;
        (is_quiet, state.desk.all(Instant::now(), lease).any(is_of))
    };
    if held > 0 && is_quiet && !is_leased {
        note(&format!("a queue has {held} jobs and delivers none: its consumer is made again"));
        dispatcher.inner().engine.mend(queue).await.map_err(unavailable)?;
        dispatcher.state().quiet.remove(&queue);
    }
    Ok(held == 0)
}

fn is_held(dispatcher: &Dispatcher, job: JobId) -> bool {
    dispatcher.state().desk.live(job, Instant::now(), dispatcher.times().lease).is_some()
}

/// Publishes jobs in their order, lane by lane.
async fn publish(
    dispatcher: &Dispatcher,
    (experiment, generation): (u32, u32),
    round: u32,
    jobs: &[WaitingJob],
) -> Result<(), Problem> {
    let lanes: BTreeSet<&str> = jobs.iter().map(|job| job.lane.as_str()).collect();
    for text in lanes {
        let lane = text.parse().unwrap_or(Lane::Std);
        let of_lane = jobs.iter().filter(|job| job.lane == text);
        let waiting: Vec<Waiting> = of_lane
            .map(|job| Waiting { job: JobId { experiment, generation, position: job.position }, shard: job.shard })
            .collect();
        let queue = Queue { experiment, generation, lane };
        dispatcher.inner().engine.publish(queue, round, &waiting).await.map_err(unavailable)?;
    }
    Ok(())
}
