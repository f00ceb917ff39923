//! One crate's way through the pools, as work of the engine.
//!
//! Decides nothing: the plan has the next step, the op runs it, the schedule has its urgency and weight.

mod once_more;
#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Bench;
use super::assignment::{Assignment, Task};
use super::repetition::{self, History};
use super::share::Left;
use crate::experiment::CrateSettings;
use crate::krate::CrateName;
use crate::ops::removal::{Doomed, Removal};
use crate::ops::workspace::{Workspace, WorkspaceError};
use crate::ops::{Activity, Done, Environment, Op, Order, Sharing, Tally, Tools};
use crate::outcome::{Cause, Outcome};
use crate::pipeline::{PoolId, Stepped, Work};
use crate::plan::{self, Queue, Step};
use crate::sandbox::Doubt;
use crate::schedule;
use crate::stop::{Stop, StopLevel};

/// A repetition can come upon a difference that none has repeated yet, behind the one that it repeats. What is still to
/// be repeated after so many is left to the next run: an op that seldom passes could go on for ever.
pub(super) const MOST_REPETITIONS: u32 = 5;

/// One crate on its way.
pub(super) struct Job {
    bench: Arc<Bench>,
    task: Arc<Task>,
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
    /// The results of its steps. Shared with the events of a step, which have it as it was before.
    history: Arc<History>,
    /// How many packages its lockfile has, once there is one.
    packages: Option<u32>,
    left: Left,
    removal: Removal<Doomed>,
    activity: Activity,
}

/// Which step an event is about.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) task: Arc<Task>,
    pub(super) step: Step,
    /// The results of the crate's steps before this one.
    pub(super) history: Arc<History>,
    pub(super) activity: Activity,
}

/// A step's result, its beginning and the op's time, which does not include removing the folder.
pub(super) struct StepReport {
    pub(super) done: Done,
    pub(super) began: SystemTime,
    pub(super) wall: Duration,
}

impl Job {
    /// The job of a crate; the crate itself if nothing is left to do.
    pub(super) fn new(
        bench: &Arc<Bench>,
        task: Task,
        left: Left,
        removal: &Removal<Doomed>,
    ) -> Result<Self, Box<Task>> {
        let queue = task.left();
        if queue.is_empty() {
            return Err(Box::new(task));
        }
        let packages = task.lockfile.as_ref().ok().and_then(|lockfile| lockfile.as_deref()).map(packages);
        Ok(Self {
            bench: Arc::clone(bench),
            task: Arc::new(task),
            queue,
            depth: 0,
            workspace: None,
            attempt: 1,
            unshared: BTreeSet::new(),
            repetitions: 0,
            history: Arc::default(),
            packages,
            left,
            removal: removal.clone(),
            activity: Activity::default(),
        })
    }

    /// Does a step: runs its op, and once more if the failure may be somebody else's doing.
    async fn carry_out(&mut self, step: &Step, stop: Stop) -> Done {
        if let Err(done) = self.make_ready(step).await {
            return done;
        }
        let done = self.run_op(step, None, stop.clone()).await;
        match done.doubt.filter(|_| done.outcome.is_some()) {
            Some(doubt) => self.once_more(step, doubt, done, stop).await,
            None => done,
        }
    }

    /// Makes the folders that a step begins with.
    async fn make_ready(&mut self, step: &Step) -> Result<(), Done> {
        self.make_workspace().map_err(|error| Done::failed_on_host(&error))?;
        match (&step.op, step.toolchain) {
            (Op::Retest(_), Some(toolchain)) if self.unshared.contains(&toolchain) => self.restore(toolchain).await,
            _ if step.attempt > self.attempt => self.restart(step.attempt).await,
            _ => Ok(()),
        }
    }

    /// Runs the op of a step; `after`: why an earlier run of it was in doubt.
    async fn run_op(&mut self, step: &Step, after: Option<Doubt>, stop: Stop) -> Done {
        if let Err(error) = self.make_workspace() {
            return Done::failed_on_host(&error);
        }
        let workspace = self.workspace.as_ref().expect("it was made above");
        let lockfile = match &self.task.lockfile {
            Ok(lockfile) => lockfile.as_deref(),
            Err(why) => return Done::without_commands(Outcome::Inconclusive(Cause::Host(why.clone()))),
        };
        let Assignment { experiment, tools, .. } = &*self.task.assignment;
        let krate = &self.task.plan.krate;
        let limits = experiment.limits_of(&krate.id.name, &step.op.name());
        let defaults = CrateSettings::default();
        let settings = experiment.crate_settings.get(&krate.id.name).unwrap_or(&defaults);
        let environment = Environment::new(&step.op, &tools.toolchains, step.toolchain, &settings.env);
        let order = Order {
            op: &step.op,
            krate,
            toolchain: step.toolchain,
            limits: self.left.limits(limits, step.op.stage(), self.bench.cores()),
            after,
            features: &settings.features,
            environment: &environment,
            sharing: if self.attempt == 1 { Sharing::Layers } else { Sharing::Nothing },
            lockfile_mode: experiment.lockfile,
            lockfile,
            patched: &self.task.patched,
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
            let tools = self.tools();
            let (sources, user) = (tools.registry.sources_dir(), tools.sandbox.user());
            self.workspace = Some(Workspace::new(self.bench.jobs().dir(), sources, user, self.removal.clone())?);
        }
        Ok(())
    }

    /// The steps to repeat, now that everything has run.
    fn repetition(&self) -> Queue {
        let attempts = |step: &Step| self.history.attempts(&self.task.earlier, step);
        repetition::due(&self.task.plan, self.tools().toolchains.len(), attempts)
    }

    /// Makes sure that an attempt finds nothing that was left before.
    async fn restart(&mut self, attempt: u32) -> Result<(), Done> {
        if let Some(workspace) = &self.workspace {
            self.release(workspace).await?;
            let toolchains = self.tools().toolchains.len();
            workspace.restart(toolchains).await.map_err(|error| Done::failed_on_host(&error))?;
        }
        self.attempt = attempt;
        self.unshared.clear();
        Ok(())
    }

    /// Makes sure that tests which run again find the sources as they were, and their binaries.
    async fn restore(&self, toolchain: usize) -> Result<(), Done> {
        let Some(workspace) = &self.workspace else { return Ok(()) };
        self.release(workspace).await?;
        workspace.restore_sources(toolchain).await.map_err(|error| Done::failed_on_host(&error))
    }

    /// Closes the files of a workspace that the sandbox keeps open.
    async fn release(&self, workspace: &Workspace) -> Result<(), Done> {
        let released = self.tools().sandbox.release(&workspace.scratch()).await;
        released.map_err(|error| Done::failed_on_host(&error))
    }

    /// Hands the folder over to be removed, before the job's permit is given back.
    async fn retire(self) {
        let Self { workspace: Some(workspace), task, .. } = self else { return };
        // Resources that can't be released now end with maar.
        let _ = task.assignment.tools.sandbox.release(&workspace.scratch()).await;
        workspace.retire().await;
    }
}

impl Work for Job {
    type Report = StepReport;
    type Tag = Tag;

    fn pool(&self) -> PoolId {
        PoolId(self.next_step().op.stage().place())
    }

    fn tag(&self) -> Tag {
        Tag {
            task: Arc::clone(&self.task),
            step: self.next_step().clone(),
            history: Arc::clone(&self.history),
            activity: self.activity.clone(),
        }
    }

    fn priority(&self) -> u64 {
        let expected = self.task.expectations.wall(self.name(), self.next_step(), self.packages);
        schedule::priority(self.depth, expected)
    }

    /// Bytes.
    fn weight(&self) -> u64 {
        let step = self.next_step();
        let limit = self.task.assignment.experiment.limits_of(self.name(), &step.op.name()).memory;
        self.task.expectations.peak(self.name(), step).min(limit).as_u64()
    }

    async fn step(mut self, stop: Stop) -> Stepped<Self> {
        let step = self.queue.pop_front().expect("a job that is queued has a step");
        let (began, clock) = (SystemTime::now(), Instant::now());
        let stop = stop.or(&self.task.assignment.stop);
        let done = match stop.level() {
            StopLevel::Run => self.carry_out(&step, stop).await,
            // The engine starts no step while everything stops, but it doesn't know that this experiment does.
            StopLevel::Drain | StopLevel::Kill => Done { outcome: None, ..Done::without_commands(Outcome::Skipped) },
        };
        let wall = clock.elapsed();
        match &done.outcome {
            Some(outcome) => {
                plan::after(&mut self.queue, &step, outcome);
                Arc::make_mut(&mut self.history).add(&self.task.earlier, &step, outcome, done.tests.as_ref());
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
    fn tools(&self) -> &Tools {
        &self.task.assignment.tools
    }

    fn name(&self) -> &CrateName {
        &self.task.plan.krate.id.name
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
