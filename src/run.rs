//! The one seam: crate jobs as pipeline work; events into the store and to whoever watches.
//!
//! Decides nothing about crates: the plan says what to do, the ops do it, compare judges it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use crate::compare::{self, CrateResults, OpResult, Verdict};
use crate::experiment::{CrateSettings, Experiment};
use crate::home::Jobs;
use crate::ops::workspace::{Workspace, WorkspaceError};
use crate::ops::{Done, Op, Order, Stage, Tools};
use crate::outcome::Outcome;
use crate::pipeline::{self, DropCause, Event, Pool, PoolId, Stepped, Summary, Times, Work};
use crate::plan::{self, CratePlan, Fingerprint, Queue, Step};
use crate::progress::{Label, Progress, Update};
use crate::stop::{Stop, StopLevel, Stopper};
use crate::store::{Record, Store, StoreError, Writer};

/// All that a run needs.
pub struct Setup {
    /// The experiment.
    pub experiment: Experiment,
    /// What its ops work with.
    pub tools: Tools,
    /// The way of every crate.
    pub plans: Vec<CratePlan>,
    /// What earlier runs found out.
    pub finished: HashMap<Fingerprint, Outcome>,
    /// Where jobs have their folders.
    pub jobs: Jobs,
}

/// What can end a run early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Results couldn't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pools can't be set up.
    #[error(transparent)]
    Pipeline(#[from] pipeline::ConfigError),
}

/// Does what is left to do. What a step found out is handed to the store as soon as it ends.
///
/// `reader` is a connection of its own, for the lockfiles of crates that an earlier run began.
pub async fn run(
    setup: Setup,
    reader: Store,
    writer: &Writer,
    progress: &mut Progress,
    (stopper, stop): (Stopper, Stop),
) -> Result<Summary, RunError> {
    let config = pipeline_config(&setup.experiment);
    let shared = Arc::new(setup);
    let jobs = (0..shared.plans.len()).filter_map({
        let shared = Arc::clone(&shared);
        move |krate| Job::new(&shared, krate, &reader)
    });
    let (events, mut received) = mpsc::channel(EVENTS_AHEAD);
    let engine = pipeline::run(&config, jobs, stop.clone(), events);
    let sink = async {
        let mut sink = Sink { shared: &shared, writer, progress, known: HashMap::new() };
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
                News::Event(None) => return result,
            }
        }
    };
    let (summary, kept) = tokio::join!(engine, sink);
    kept?;
    Ok(summary?)
}

/// What the sink waits for.
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

fn pool_of(stage: Stage) -> PoolId {
    PoolId(Stage::ALL.iter().position(|other| *other == stage).expect("`ALL` holds every stage"))
}

/// One crate on its way.
struct Job {
    shared: Arc<Setup>,
    krate: usize,
    queue: Queue,
    /// How many steps of the plan are behind it.
    depth: u64,
    workspace: Option<Workspace>,
    /// What an earlier run made, or why it can't be read: other dependencies would make old results and new ones differ.
    lockfile: Result<Option<Vec<u8>>, StoreError>,
}

/// Which step an event is about.
#[derive(Debug, Clone)]
struct Tag {
    krate: usize,
    step: Step,
}

/// What a step found out, when it began and how long the op took: the folder is made and removed on nobody's account.
struct StepReport {
    done: Done,
    began: SystemTime,
    wall: Duration,
}

impl Job {
    /// The job of a crate; none if nothing is left to do.
    fn new(shared: &Arc<Setup>, krate: usize, reader: &Store) -> Option<Self> {
        let plan = &shared.plans[krate];
        let queue = plan::remaining(&shared.experiment, plan, &shared.finished);
        let first = queue.front()?;
        let lockfile = reader.lockfile(&shared.experiment.name, &first.fingerprint);
        Some(Self { shared: Arc::clone(shared), krate, queue, depth: 0, workspace: None, lockfile })
    }

    async fn carry_out(&mut self, step: &Step, stop: Stop) -> Done {
        if let Err(error) = self.make_workspace() {
            return Done::failed_on_host(&error);
        }
        let lockfile = match &self.lockfile {
            Ok(lockfile) => lockfile.as_deref(),
            Err(error) => return Done::failed_on_host(error),
        };
        let Setup { experiment, tools, plans, .. } = &*self.shared;
        let krate = &plans[self.krate].krate;
        let defaults = CrateSettings::default();
        let settings = experiment.crate_settings.get(&krate.id.name).unwrap_or(&defaults);
        let order = Order {
            op: &step.op,
            krate,
            toolchain: step.toolchain,
            limits: experiment.limits_of(&krate.id.name, &step.op.name()),
            features: &settings.features,
            env: &settings.env,
            lockfile_mode: experiment.lockfile,
            lockfile,
            stop,
        };
        let workspace = self.workspace.as_ref().expect("it was made above");
        Op::run(tools, workspace, &order).await
    }

    fn make_workspace(&mut self) -> Result<(), WorkspaceError> {
        if self.workspace.is_none() {
            let Setup { tools, jobs, .. } = &*self.shared;
            self.workspace = Some(Workspace::new(jobs.dir(), tools.registry.sources_dir(), tools.sandbox.owner())?);
        }
        Ok(())
    }

    /// Frees the disk before the job's permit is given back. A target folder takes a while to remove.
    async fn retire(self) {
        let Some(workspace) = self.workspace else { return };
        // What can't be given up now goes when maar does.
        let _ = self.shared.tools.sandbox.release(&workspace.scratch()).await;
        // A panic in there is the removal's own and harms no result.
        let _ = tokio::task::spawn_blocking(move || drop(workspace)).await;
    }
}

impl Work for Job {
    type Report = StepReport;
    type Tag = Tag;

    fn pool(&self) -> PoolId {
        pool_of(self.next_step().op.stage())
    }

    fn tag(&self) -> Tag {
        Tag { krate: self.krate, step: self.next_step().clone() }
    }

    fn priority(&self) -> u64 {
        self.depth
    }

    async fn step(mut self, stop: Stop) -> Stepped<Self> {
        let step = self.queue.pop_front().expect("a job that is queued has a step");
        let (began, clock) = (SystemTime::now(), Instant::now());
        let done = self.carry_out(&step, stop).await;
        let wall = clock.elapsed();
        match &done.outcome {
            Some(outcome) => plan::after(&mut self.queue, &step, outcome),
            None => self.queue.clear(),
        }
        self.depth += 1;
        let report = StepReport { done, began, wall };
        if self.queue.is_empty() {
            self.retire().await;
            Stepped { report, next: None }
        } else {
            Stepped { report, next: Some(self) }
        }
    }
}

impl Job {
    fn next_step(&self) -> &Step {
        self.queue.front().expect("a job that is queued has a step")
    }
}

/// Takes what happens: results to the store, news to the progress.
struct Sink<'a> {
    shared: &'a Setup,
    writer: &'a Writer,
    progress: &'a mut Progress,
    /// The results of crates that are on their way.
    known: HashMap<usize, HashMap<Fingerprint, OpResult>>,
}

impl Sink<'_> {
    async fn take(&mut self, event: Event<Job>) -> Result<(), StoreError> {
        match event {
            Event::Queued { pool, .. } => self.progress.update(Update::Queued { pool: pool.0 }),
            Event::Started { tag, pool, worker, .. } => {
                self.progress.update(Update::Started(self.label(&tag, pool, worker)));
            }
            Event::Finished { tag, pool, worker, times, report, last } => {
                let label = self.label(&tag, pool, worker);
                self.finished(&tag, label, times, report).await?;
                if last {
                    self.conclude(tag.krate);
                }
            }
            Event::Dropped { tag, pool, cause: DropCause::Stopped | DropCause::NoSuchPool, .. } => {
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
        };
        self.known.entry(tag.krate).or_default().insert(tag.step.fingerprint.clone(), result.clone());
        let toolchain = tag.step.toolchain.map(|index| &self.shared.tools.toolchains[index]);
        self.writer
            .append(Record {
                experiment: self.shared.experiment.name.clone(),
                step: tag.step.clone(),
                krate: self.shared.plans[tag.krate].krate.id.clone(),
                toolchain: toolchain.map(|toolchain| (toolchain.spec.clone(), toolchain.identity.clone())),
                result,
                output: done.output,
                lockfile: done.lockfile,
            })
            .await
    }

    /// Says what came of a crate that has no further step.
    fn conclude(&mut self, krate: usize) {
        let known = self.known.remove(&krate).unwrap_or_default();
        let (verdict, reason) = verdict(self.shared, krate, known);
        let krate = self.shared.plans[krate].krate.id.to_string();
        self.progress.update(Update::Verdict { krate, verdict, reason });
    }

    fn label(&self, tag: &Tag, pool: PoolId, worker: usize) -> Label {
        Label {
            krate: self.shared.plans[tag.krate].krate.id.to_string(),
            op: tag.step.op.name().to_string(),
            toolchain: tag.step.toolchain.map(|index| self.shared.tools.toolchains[index].spec.to_string()),
            pool: pool.0,
            worker,
        }
    }
}

/// The verdict on a crate from what this run and earlier ones know of it.
fn verdict(setup: &Setup, krate: usize, mut known: HashMap<Fingerprint, OpResult>) -> (Verdict, Option<String>) {
    let plan = &setup.plans[krate];
    let earlier = |step: &Step| {
        let outcome = setup.finished.get(&step.fingerprint)?.clone();
        // What it cost then plays no part in the verdict.
        Some(OpResult {
            outcome,
            started: SystemTime::UNIX_EPOCH,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_memory: None,
            waited: Duration::ZERO,
            worker: 0,
        })
    };
    let steps = plan.steps.iter().map(|step| (step.clone(), known.remove(&step.fingerprint).or_else(|| earlier(step))));
    let results = CrateResults { krate: plan.krate.clone(), steps: steps.collect() };
    let report = compare::report_crate(&results, &setup.tools.toolchains);
    (report.verdict, report.verdict_reason)
}
