//! The one seam: crate jobs as pipeline work; events into the store and to the progress.
//!
//! Decides nothing about crates: the plan orders the steps, the ops do them, compare judges the results.

mod job;
mod pressure;
mod repetition;
mod share;
mod tracer;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use tokio::sync::{mpsc, watch};

use crate::compare::{self, OpResult, Verdict};
use crate::experiment::Experiment;
use crate::home::Jobs;
use crate::ops::removal::{self, Removers};
use crate::ops::{Done, Stage, Tools};
use crate::outcome::Outcome;
use crate::pipeline::{self, DropCause, Event, Pool, PoolId, Pressure, Summary, Times};
use crate::plan::{self, Attempt, Attempts, CratePlan, Fingerprint, Queue, Step};
use crate::progress::{Label, Progress, Update};
use crate::schedule::{self, Expectations};
use crate::stop::{Stop, StopLevel, Stopper};
use crate::store::{Record, Store, StoreError, Writer};
use crate::trace::{Trace, TraceError};
use job::{Job, StepReport, Tag};
use repetition::History;
use share::Left;
use tracer::Tracer;

/// All that a run needs.
pub struct Setup {
    /// The experiment.
    pub experiment: Experiment,
    /// What its ops work with.
    pub tools: Tools,
    /// The way of every crate.
    pub plans: Vec<CratePlan>,
    /// The results of earlier runs.
    pub finished: HashMap<Fingerprint, Outcome>,
    /// All of what they found out where they ran a step more than once, or single tests have a say.
    pub attempts: HashMap<Fingerprint, Attempts>,
    /// Where jobs have their folders.
    pub jobs: Jobs,
    /// Recorded times of the crates' ops.
    pub expectations: Expectations,
    /// How many cores the host has.
    pub cores: usize,
    /// How much memory it has, if it can tell.
    pub memory: Option<ByteSize>,
    /// Where a trace is written, if one is.
    pub trace: Option<Trace>,
}

/// Errors that end a run early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Results couldn't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pools can't be set up.
    #[error(transparent)]
    Pipeline(#[from] pipeline::ConfigError),
    /// The trace can't be begun. One that breaks off later doesn't end a run.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// The cost of a run besides its ops.
#[derive(Debug)]
pub struct Ran {
    /// The counts and times of the pools.
    pub summary: Summary,
    /// How long removing the folders of jobs took, summed over the threads that do it.
    pub removal: Duration,
}

/// Runs the remaining steps. The result of a step goes to the store as soon as it ends.
///
/// `reader` is a connection of its own, for the lockfiles of crates that an earlier run began.
pub async fn run(
    mut setup: Setup,
    reader: Store,
    writer: &Writer,
    progress: &mut Progress,
    (stopper, stop): (Stopper, Stop),
) -> Result<Ran, RunError> {
    let (pressure, pressed) = watch::channel(Pressure::Low);
    let config = pipeline::Config {
        budget: setup.memory.map_or(u64::MAX, |memory| (memory.as_u64() as f64 * setup.experiment.overcommit) as u64),
        pressure: pressed,
        ..pipeline_config(&setup.experiment)
    };
    let mut tracer = None;
    if let Some(trace) = setup.trace.take() {
        tracer = Some(Tracer::new(trace, &config.pools)?);
    }
    let shared = Arc::new(setup);
    let order = order(&shared);
    tell_known(&shared, &order, progress);
    let mut left = Left::all(order.len());
    let (removal, removers) = removal::start(shared.experiment.in_flight);
    let jobs = order.into_iter().filter_map({
        let shared = Arc::clone(&shared);
        move |krate| Job::new(&shared, krate, left(), &removal, &reader)
    });
    let (events, mut received) = mpsc::channel(EVENTS_AHEAD);
    let engine = pipeline::run(&config, jobs, stop.clone(), events);
    let sink = async {
        let mut sink = Sink { shared: &shared, writer, progress: &mut *progress, tracer, known: HashMap::new() };
        let mut result = Ok(());
        let mut level = StopLevel::Run;
        loop {
            let news = tokio::select! {
                biased;
                risen = stop.risen_above(level) => News::Stop(risen),
                event = received.recv() => News::Event(event),
            };
            match news {
                News::Stop(risen) => {
                    level = risen;
                    sink.progress.update(Update::Note(in_words(level).to_owned()));
                }
                News::Event(Some(event)) if result.is_ok() => {
                    result = sink.take(event).await;
                    if result.is_err() {
                        stopper.raise(StopLevel::Kill);
                    }
                }
                // Nothing can be kept any more; the engine still has to get rid of its events.
                News::Event(Some(_)) => {}
                News::Event(None) => return (result, sink.tracer),
            }
        }
    };
    let (summary, (kept, tracer)) = tokio::select! {
        both = async { tokio::join!(engine, sink) } => both,
        () = pressure::watch(pressure) => unreachable!("it watches for ever"),
    };
    let removal = removed(removers, progress).await;
    kept?;
    let summary = summary?;
    if let Some(tracer) = tracer {
        let downloaded = ByteSize(shared.tools.registry.downloaded_bytes());
        tracer.end(&summary, downloaded).unwrap_or_else(|error| progress.update(trace_ended(&error)));
    }
    Ok(Ran { summary, removal })
}

impl Setup {
    /// The remaining steps of a crate.
    pub fn left(&self, krate: usize) -> Queue {
        let plan = &self.plans[krate];
        let left = plan::remaining(&self.experiment, plan, &self.finished);
        if !left.is_empty() {
            return left;
        }
        let repetition = repetition::due(plan, self.tools.toolchains.len(), |step| self.attempts(step));
        // A repetition needs the sources, which don't outlive a run.
        let sources = plan.steps.iter().filter(|step| step.toolchain.is_none() && !repetition.is_empty());
        sources.cloned().chain(repetition.iter().cloned()).collect()
    }

    /// The toolchains with patches, each with the key of the lockfile that a `prepare` makes for it.
    fn patched(&self, prepare: &Fingerprint) -> impl Iterator<Item = (usize, Fingerprint)> {
        let toolchains = self.tools.toolchains.iter().enumerate();
        let with_patches = toolchains.filter(|(_, toolchain)| !toolchain.patches.is_empty());
        with_patches.map(|(place, toolchain)| (place, prepare.of_patched(toolchain)))
    }

    /// The results of earlier runs for a step.
    fn attempts(&self, step: &Step) -> Attempts {
        let only = || self.finished.get(&step.fingerprint);
        let only = || only().map(|outcome| Attempt { number: 1, outcome: outcome.clone(), tests: None });
        self.attempts.get(&step.fingerprint).cloned().unwrap_or_else(|| only().into_iter().collect())
    }
}

/// Waits for the removers, and prints a note where that takes a while.
async fn removed(removers: Removers, progress: &mut Progress) -> Duration {
    const SOON: Duration = Duration::from_secs(2);
    let removal = removers.finish();
    tokio::pin!(removal);
    match tokio::time::timeout(SOON, &mut removal).await {
        Ok(spent) => spent,
        Err(_) => {
            progress.update(Update::Note("removing the folders of the last crates".to_owned()));
            removal.await
        }
    }
}

/// Reports the verdicts of the crates that have nothing to run.
fn tell_known(setup: &Setup, begin: &[usize], progress: &mut Progress) {
    let begin: HashSet<usize> = begin.iter().copied().collect();
    for krate in (0..setup.plans.len()).filter(|krate| !begin.contains(krate)) {
        let (verdict, reason) = verdict(setup, krate, &History::default());
        let krate = setup.plans[krate].krate.id.to_string();
        progress.update(Update::Known { krate, verdict, reason });
    }
}

/// The crates of which something is left to do, in the order in which they begin.
fn order(setup: &Setup) -> Vec<usize> {
    let expected = |(place, plan): (usize, &CratePlan)| {
        let left = setup.left(place);
        (!left.is_empty()).then(|| (place, setup.expectations.total(&plan.krate.id.name, &left)))
    };
    let workers = setup.experiment.workers;
    schedule::order(setup.plans.iter().enumerate().filter_map(expected), workers.build + workers.test)
}

/// The messages that the sink waits for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, taken apart at once")]
enum News {
    Stop(StopLevel),
    Event(Option<Event<Job>>),
}

fn in_words(level: StopLevel) -> &'static str {
    match level {
        StopLevel::Run => "running",
        StopLevel::Drain => "stopping: finishing what is running (Ctrl-C again ends it now)",
        StopLevel::Kill => "stopping: ending what is running",
    }
}

/// How many events may wait for the store: enough to ride out a slow commit, few enough to bound the logs in memory.
const EVENTS_AHEAD: usize = 64;

/// The pools of an experiment: one per stage, [`PoolId`] being the place in [`Stage::ALL`].
pub fn pipeline_config(experiment: &Experiment) -> pipeline::Config {
    let pools =
        Stage::ALL.into_iter().map(|stage| Pool { name: stage.to_string(), workers: experiment.workers.of(stage) });
    pipeline::Config::new(pools.collect(), experiment.in_flight)
}

/// Passes events on: results to the store, changes to the progress.
struct Sink<'a> {
    shared: &'a Setup,
    writer: &'a Writer,
    progress: &'a mut Progress,
    tracer: Option<Tracer>,
    /// The results of crates that are on their way.
    known: HashMap<usize, History>,
}

impl Sink<'_> {
    async fn take(&mut self, event: Event<Job>) -> Result<(), StoreError> {
        match event {
            Event::Queued { pool, at, .. } => {
                self.trace(|tracer| tracer.load(pool, at, |load| load.waiting += 1));
                self.progress.update(Update::Queued { pool: pool.0 });
            }
            Event::Started { tag, pool, worker, at } => {
                self.trace(|tracer| {
                    tracer.load(pool, at, |load| {
                        load.waiting -= 1;
                        load.busy += 1;
                    })
                });
                self.progress.update(Update::Started(self.label(&tag, pool, worker)));
            }
            Event::Finished { tag, pool, worker, times, report, last } => {
                let label = self.label(&tag, pool, worker);
                self.finished(&tag, label, times, report).await?;
                if last {
                    self.conclude(tag.krate);
                }
            }
            Event::Dropped { tag, pool, cause, at } => {
                match cause {
                    DropCause::Stopped => self.trace(|tracer| tracer.load(pool, at, |load| load.waiting -= 1)),
                    // It was never queued.
                    DropCause::NoSuchPool => {}
                }
                self.progress.update(Update::Dropped { pool: pool.0 });
                self.conclude(tag.krate);
            }
        }
        Ok(())
    }

    async fn finished(
        &mut self,
        tag: &Tag,
        label: Label,
        times: Times,
        report: Result<StepReport, String>,
    ) -> Result<(), StoreError> {
        let StepReport { done, began, wall } = report.unwrap_or_else(|message| {
            let wall = times.finished.duration_since(times.started);
            let done = Done::without_commands(Outcome::Error(format!("maar panicked: {message}")));
            StepReport { done, began: SystemTime::now() - wall, wall }
        });
        self.trace(|tracer| {
            tracer.ended(&label, times, &done)?;
            tracer.load(PoolId(label.pool), times.finished, |load| load.busy -= 1)
        });
        let worker = label.worker;
        self.progress.update(Update::Finished {
            label,
            outcome: done.outcome.as_ref().map(Outcome::kind),
            reason: done.outcome.as_ref().and_then(Outcome::reason),
            wall,
        });
        // A stopped op has no result: the next run does it again.
        let Some(outcome) = done.outcome else { return Ok(()) };
        let result = OpResult {
            outcome,
            started: began,
            wall,
            cpu: done.usage.cpu,
            peak_memory: done.usage.peak_memory,
            waited: times.started.duration_since(times.queued),
            worker,
            units: done.dependencies,
            tests: done.tests,
        };
        self.known.entry(tag.krate).or_default().add(self.shared, &tag.step, &result.outcome, result.tests.as_ref());
        let toolchain = tag.step.toolchain.map(|index| &self.shared.tools.toolchains[index]);
        self.writer
            .append(Record {
                experiment: self.shared.experiment.name.clone(),
                step: tag.step.clone(),
                krate: self.shared.plans[tag.krate].krate.id.clone(),
                toolchain: toolchain.map(|toolchain| (toolchain.label().to_owned(), toolchain.identity.clone())),
                result,
                output: done.output,
                lockfile: done.lockfile,
                patched: self
                    .shared
                    .patched(&tag.step.fingerprint)
                    .filter_map(|(place, step)| Some((step, done.patched.get(&place)?.clone())))
                    .collect(),
            })
            .await
    }

    /// Adds to the trace, if there is one. A trace that can't be written any more ends there, and the run goes on.
    fn trace(&mut self, write: impl FnOnce(&mut Tracer) -> Result<(), TraceError>) {
        let Some(tracer) = &mut self.tracer else { return };
        if let Err(error) = write(tracer) {
            self.tracer = None;
            self.progress.update(trace_ended(&error));
        }
    }

    /// Reports the verdict of a crate whose last step has ended.
    fn conclude(&mut self, krate: usize) {
        let known = self.known.remove(&krate).unwrap_or_default();
        let (verdict, reason) = verdict(self.shared, krate, &known);
        let krate = self.shared.plans[krate].krate.id.to_string();
        self.progress.update(Update::Verdict { krate, verdict, reason });
    }

    fn label(&self, tag: &Tag, pool: PoolId, worker: usize) -> Label {
        Label {
            krate: self.shared.plans[tag.krate].krate.id.to_string(),
            op: tag.step.op.name().to_string(),
            toolchain: tag.step.toolchain.map(|index| self.shared.tools.toolchains[index].label().to_owned()),
            pool: pool.0,
            worker,
            activity: tag.activity.clone(),
        }
    }
}

fn trace_ended(error: &TraceError) -> Update {
    Update::Note(format!("the trace ends here: {error}"))
}

/// The verdict on a crate from the results of this run and earlier ones.
fn verdict(setup: &Setup, krate: usize, known: &History) -> (Verdict, Option<String>) {
    let results = repetition::results(&setup.plans[krate], |step| known.attempts(setup, step));
    let report = compare::report_crate(&results, &setup.tools.toolchains);
    (report.verdict, report.verdict_reason)
}
