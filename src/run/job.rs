//! One crate's way through the pools, as work of the engine.
//!
//! Decides nothing: the plan says what is next, the op does it, the schedule says how urgent and how heavy it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Setup;
use super::removal::Removal;
use super::repetition::{self, History};
use super::share::Left;
use crate::experiment::CrateSettings;
use crate::krate::CrateName;
use crate::ops::workspace::{Workspace, WorkspaceError};
use crate::ops::{Activity, Done, Op, Order, Sharing, Tally};
use crate::pipeline::{PoolId, Stepped, Work};
use crate::plan::{self, Queue, Step};
use crate::schedule;
use crate::stop::Stop;
use crate::store::{Store, StoreError};

/// A repetition can come upon a difference that none has repeated yet, behind the one that it repeats. What is still to
/// be repeated after so many is left to the next run: an op that seldom passes could go on for ever.
const MOST_REPETITIONS: u32 = 5;

/// One crate on its way.
pub(super) struct Job {
    shared: Arc<Setup>,
    krate: usize,
    queue: Queue,
    /// How many steps of the plan are behind it.
    depth: u32,
    workspace: Option<Workspace>,
    /// Which time its steps are run, the folders being made anew for each.
    attempt: u32,
    /// The toolchains whose tests lie compiled in the folder, of pristine sources and without anything shared.
    unshared: BTreeSet<usize>,
    /// How often it has been looked whether something is to be repeated.
    repetitions: u32,
    /// What came of its steps.
    history: History,
    /// What an earlier run made, or why it can't be read: other dependencies would make old results and new ones differ.
    lockfile: Result<Option<Vec<u8>>, StoreError>,
    /// How many packages its lockfile has, once there is one.
    packages: Option<u32>,
    left: Left,
    removal: Removal<Workspace>,
    activity: Activity,
}

/// Which step an event is about.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) krate: usize,
    pub(super) step: Step,
    pub(super) activity: Activity,
}

/// What a step found out, when it began and how long the op took: removing the folder is on nobody's account.
pub(super) struct StepReport {
    pub(super) done: Done,
    pub(super) began: SystemTime,
    pub(super) wall: Duration,
}

impl Job {
    /// The job of a crate; none if nothing is left to do.
    pub(super) fn new(
        shared: &Arc<Setup>,
        krate: usize,
        left: Left,
        removal: &Removal<Workspace>,
        reader: &Store,
    ) -> Option<Self> {
        let queue = shared.left(krate);
        let first = queue.front()?;
        let lockfile = reader.lockfile(&shared.experiment.name, &first.fingerprint);
        let packages = lockfile.as_ref().ok().and_then(|lockfile| lockfile.as_deref()).map(packages);
        Some(Self {
            shared: Arc::clone(shared),
            krate,
            queue,
            depth: 0,
            workspace: None,
            attempt: 1,
            unshared: BTreeSet::new(),
            repetitions: 0,
            history: History::default(),
            lockfile,
            packages,
            left,
            removal: removal.clone(),
            activity: Activity::default(),
        })
    }

    async fn carry_out(&mut self, step: &Step, stop: Stop) -> Done {
        if let Err(error) = self.make_workspace() {
            return Done::failed_on_host(&error);
        }
        let workspace = self.workspace.as_ref().expect("it was made above");
        match (&step.op, step.toolchain) {
            (Op::Retest(_), Some(toolchain)) if self.unshared.contains(&toolchain) => {
                if let Err(done) = self.restore(workspace, toolchain).await {
                    return done;
                }
            }
            _ if step.attempt > self.attempt => {
                if let Err(done) = self.restart(workspace).await {
                    return done;
                }
                self.attempt = step.attempt;
                self.unshared.clear();
            }
            _ => {}
        }
        let lockfile = match &self.lockfile {
            Ok(lockfile) => lockfile.as_deref(),
            Err(error) => return Done::failed_on_host(error),
        };
        let Setup { experiment, tools, plans, cores, .. } = &*self.shared;
        let krate = &plans[self.krate].krate;
        let limits = experiment.limits_of(&krate.id.name, &step.op.name());
        let defaults = CrateSettings::default();
        let settings = experiment.crate_settings.get(&krate.id.name).unwrap_or(&defaults);
        let order = Order {
            op: &step.op,
            krate,
            toolchain: step.toolchain,
            limits: self.left.limits(limits, step.op.stage(), *cores),
            features: &settings.features,
            env: &settings.env,
            sharing: if self.attempt == 1 { Sharing::Layers } else { Sharing::Nothing },
            lockfile_mode: experiment.lockfile,
            lockfile,
            stop,
            activity: self.activity.clone(),
        };
        let tested =
            step.toolchain.filter(|toolchain| step.op == Op::Test && workspace.has_pristine_sources(*toolchain));
        let done = Op::run(tools, workspace, &order).await;
        let shares_nothing = self.attempt > 1 || done.dependencies == Tally::default();
        self.unshared.extend(tested.filter(|_| shares_nothing));
        done
    }

    fn make_workspace(&mut self) -> Result<(), WorkspaceError> {
        if self.workspace.is_none() {
            let Setup { tools, jobs, .. } = &*self.shared;
            self.workspace = Some(Workspace::new(jobs.dir(), tools.registry.sources_dir(), tools.sandbox.user())?);
        }
        Ok(())
    }

    /// What is to be repeated, now that everything has run.
    fn repetition(&self) -> Queue {
        let Setup { plans, tools, .. } = &*self.shared;
        let attempts = |step: &Step| self.history.attempts(&self.shared, step);
        repetition::due(&plans[self.krate], tools.toolchains.len(), attempts)
    }

    /// Makes sure that a repetition finds nothing that was left before.
    async fn restart(&self, workspace: &Workspace) -> Result<(), Done> {
        let tools = &self.shared.tools;
        let released = tools.sandbox.release(&workspace.scratch()).await;
        released.map_err(|error| Done::failed_on_host(&error))?;
        workspace.restart(tools.toolchains.len()).map_err(|error| Done::failed_on_host(&error))
    }

    /// Makes sure that tests which run again find the sources as they were, and what was compiled of them.
    async fn restore(&self, workspace: &Workspace, toolchain: usize) -> Result<(), Done> {
        let released = self.shared.tools.sandbox.release(&workspace.scratch()).await;
        released.map_err(|error| Done::failed_on_host(&error))?;
        workspace.restore_sources(toolchain).map_err(|error| Done::failed_on_host(&error))
    }

    /// Hands the folder over to be removed, before the job's permit is given back.
    async fn retire(self) {
        let Some(workspace) = self.workspace else { return };
        // What can't be given up now goes when maar does.
        let _ = self.shared.tools.sandbox.release(&workspace.scratch()).await;
        self.removal.take(workspace).await;
    }
}

impl Work for Job {
    type Report = StepReport;
    type Tag = Tag;

    fn pool(&self) -> PoolId {
        PoolId(self.next_step().op.stage().place())
    }

    fn tag(&self) -> Tag {
        Tag { krate: self.krate, step: self.next_step().clone(), activity: self.activity.clone() }
    }

    fn priority(&self) -> u64 {
        let expected = self.shared.expectations.wall(self.name(), self.next_step(), self.packages);
        schedule::priority(self.depth, expected)
    }

    /// Bytes.
    fn weight(&self) -> u64 {
        let step = self.next_step();
        let limit = self.shared.experiment.limits_of(self.name(), &step.op.name()).memory;
        self.shared.expectations.peak(self.name(), step).min(limit).as_u64()
    }

    async fn step(mut self, stop: Stop) -> Stepped<Self> {
        let step = self.queue.pop_front().expect("a job that is queued has a step");
        let (began, clock) = (SystemTime::now(), Instant::now());
        let done = self.carry_out(&step, stop).await;
        let wall = clock.elapsed();
        match &done.outcome {
            Some(outcome) => {
                plan::after(&mut self.queue, &step, outcome);
                self.history.add(&self.shared, &step, outcome, done.tests.as_ref());
                if self.queue.is_empty() && self.repetitions < MOST_REPETITIONS {
                    self.queue = self.repetition();
                    self.repetitions += 1;
                }
            }
            None => self.queue.clear(),
        }
        self.depth += 1;
        if let Some(lockfile) = &done.lockfile {
            self.packages = Some(packages(lockfile));
        }
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
    fn name(&self) -> &CrateName {
        &self.shared.plans[self.krate].krate.id.name
    }

    fn next_step(&self) -> &Step {
        self.queue.front().expect("a job that is queued has a step")
    }
}

/// How many packages a lockfile has, itself included.
fn packages(lockfile: &[u8]) -> u32 {
    let lines = lockfile.split(|byte| *byte == b'\n');
    u32::try_from(lines.filter(|line| line.starts_with(b"[[package]]")).count()).unwrap_or(u32::MAX)
}
