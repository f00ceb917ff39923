//! The worker of this process: plans new experiments, runs the next one, and gives way to more urgent ones.
//!
//! Two threads, one that plans and one that runs, each with one experiment at a time. The caller's [`Runner`] does the
//! work; a stop that comes from here ends it within seconds. States are in the database, so that a killed server goes
//! on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;

use super::dispatch;
use super::state::{self, AppState};
use crate::progress::{self, Update};
use crate::stop::{self, Stop, StopLevel, Stopper};
use crate::store::StoreError;
use crate::store::service::{Change, Served, State, Submission, Via};

/// How often the queue is looked at without a call.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why an experiment could not be planned, run or reported.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The experiment asks for something that isn't there.
    #[error("{0}")]
    Invalid(String),
    /// The host failed.
    #[error("{0}")]
    Host(String),
}

/// A verdict: the crate as `NAME@VERSION`, the verdict, and its reason.
pub type Verdict = (String, String, Option<String>);

/// The code that does the work. Each call blocks its thread.
pub trait Runner: Send + Sync + 'static {
    /// Resolves the crates and puts the plan into the store.
    ///
    /// # Errors
    /// The crates can't be found, or the host fails.
    fn plan(&self, name: &str, submission: &Submission, stop: &Stop) -> Result<(), Trouble>;

    /// Runs the steps that no earlier run has settled.
    ///
    /// # Errors
    /// The host fails.
    fn run(&self, name: &str, submission: &Submission, watch: Watcher, stop: (&Stopper, &Stop)) -> Result<(), Trouble>;

    /// Writes the report of the results so far into the home, and returns all verdicts.
    ///
    /// # Errors
    /// The host fails.
    fn report(&self, name: &str) -> Result<Vec<Verdict>, Trouble>;
}

/// Why a running experiment is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Abort,
    Pause,
    Yield,
}

/// The experiment that runs.
#[derive(Debug)]
struct Running {
    name: String,
    stopper: Stopper,
    reason: Option<Reason>,
    since: Instant,
    done_before: u64,
    plan: Option<Ahead>,
    ops: Vec<Active>,
}

/// What lies ahead of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Ahead {
    /// All crates of the experiment.
    pub crates: usize,
    /// How many of them earlier runs have finished.
    pub already_done: usize,
    /// The pools and their workers.
    pub pools: Vec<(String, usize)>,
}

/// An op that runs now.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Active {
    /// The crate, as `NAME@VERSION`.
    #[serde(rename = "crate")]
    pub krate: String,
    /// The op.
    pub op: String,
    /// The toolchain; none for an op of all toolchains.
    pub toolchain: Option<String>,
}

/// The state of the worker.
#[derive(Debug, Default)]
pub struct Worker {
    running: Mutex<Option<Running>>,
    call: Notify,
}

/// The worker, as others see it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The experiment.
    pub name: String,
    /// How long this turn has taken.
    pub since: Duration,
    /// How many of its crates were finished when the turn began.
    pub done_before: u64,
    /// What lies ahead, once it is known.
    pub plan: Option<Ahead>,
    /// The ops that run now.
    pub ops: Vec<Active>,
}

impl Worker {
    /// Calls the worker to look at the queue.
    pub fn call(&self) {
        self.call.notify_waiters();
    }

    /// The experiment that runs now.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.with(|running| Snapshot {
            name: running.name.clone(),
            since: running.since.elapsed(),
            done_before: running.done_before,
            plan: running.plan.clone(),
            ops: running.ops.clone(),
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Running) -> T) -> Option<T> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(work)
    }

    /// Stops the experiment, if it runs.
    fn halt(&self, name: &str, reason: Reason, level: StopLevel) {
        self.with(|running| {
            if running.name == name && running.reason != Some(Reason::Abort) {
                running.reason = Some(reason);
                running.stopper.raise(level);
            }
        });
    }

    /// Ends the ops of an experiment at once, if it runs.
    pub fn abort(&self, name: &str) {
        self.halt(name, Reason::Abort, StopLevel::Kill);
    }
}

/// Passes a run's events on: to clients, and the verdicts to the database.
pub struct Watcher {
    state: AppState,
    name: String,
    verdicts: Vec<Verdict>,
    kept: Instant,
}

impl Watcher {
    /// Receives the plan's numbers.
    pub fn begin(&mut self, plan: &progress::Plan) {
        let ahead = Ahead {
            crates: plan.crates,
            already_done: plan.already_done,
            pools: plan.pools.iter().map(|pool| (pool.name.clone(), pool.workers)).collect(),
        };
        self.state.events().publish(&self.name, "plan", &ahead);
        self.state.worker().with(|running| running.plan = Some(ahead));
    }

    /// Passes an update on.
    pub fn update(&mut self, update: &Update) {
        let active = |label: &progress::Label| Active {
            krate: label.krate.clone(),
            op: label.op.clone(),
            toolchain: label.toolchain.clone(),
        };
        match update {
            Update::Started(label) => drop(self.state.worker().with(|running| running.ops.push(active(label)))),
            Update::Finished { label, .. } => {
                let ended = active(label);
                let is_it =
                    |op: &Active| (&op.krate, &op.op, &op.toolchain) == (&ended.krate, &ended.op, &ended.toolchain);
                self.state.worker().with(|running| {
                    if let Some(place) = running.ops.iter().position(is_it) {
                        running.ops.swap_remove(place);
                    }
                });
            }
            Update::Verdict { krate, verdict, reason } | Update::Known { krate, verdict, reason } => {
                self.verdicts.push((krate.clone(), verdict.to_string(), reason.clone()));
            }
            Update::Queued { .. } | Update::Dropped { .. } | Update::Note(_) => {}
        }
        let event = super::event::RunEvent::of(update);
        self.state.events().publish(&self.name, event.kind(), &event);
        if self.kept.elapsed() > Duration::from_millis(500) || self.verdicts.len() >= 500 {
            self.keep();
        }
    }

    fn keep(&mut self) {
        self.kept = Instant::now();
        let verdicts = std::mem::take(&mut self.verdicts);
        if verdicts.is_empty() {
            return;
        }
        if let Err(error) = self.state.database().now(|store| store.keep_verdicts(&self.name, &verdicts, false)) {
            // The end of the run writes all of them.
            state::log(&error);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.keep();
    }
}

/// Starts the worker's threads. They end when `stop` rises, and the running experiment goes on after the next start.
pub(super) async fn work(state: AppState, runner: Arc<dyn Runner>, stop: Stop) {
    let has_agents = state.agents().is_some();
    // What agents run goes on.
    if !has_agents && let Err(error) = state.database().with(adopt).await {
        state::log(&error);
    }
    let planner = tokio::task::spawn_blocking({
        let (state, runner, stop) = (state.clone(), Arc::clone(&runner), stop.clone());
        move || repeat(&state, &stop, |state| plan_one(state, &*runner, &stop))
    });
    let running = tokio::task::spawn_blocking({
        let (state, stop) = (state.clone(), stop.clone());
        move || match has_agents {
            true => repeat(&state, &stop, |state| report_one(state, &*runner)),
            false => repeat(&state, &stop, |state| run_one(state, &*runner, &stop)),
        }
    });
    let watching = watch(&state, &stop);
    let _ = tokio::join!(planner, running, watching);
}

/// Takes over the experiments of a dead server: its runs go on, and its aborts are done.
fn adopt(store: &mut crate::store::Store) -> Result<(), StoreError> {
    let change = |name: &str| Change::new("server", Via::Server, format!("experiment {name}: go on after a restart"));
    for Served { name, state, .. } in store.open_experiments()? {
        match state {
            Some(State::Running | State::Confirming | State::Reporting) => {
                let from = [State::Running, State::Confirming, State::Reporting];
                store.turn(&name, &from, State::Queued, None, Some(&change(&name)))?;
            }
            Some(State::Aborting) => {
                store.turn(&name, &[State::Aborting], State::Aborted, None, Some(&change(&name)))?;
            }
            Some(
                State::Planning | State::Invalid | State::Queued | State::ReportFailed | State::Done | State::Aborted,
            )
            | None => {}
        }
    }
    Ok(())
}

/// Does one task after another, and waits for the next one.
fn repeat(state: &AppState, stop: &Stop, one: impl Fn(&AppState) -> Result<bool, StoreError>) {
    let runtime = tokio::runtime::Handle::current();
    while stop.level() == StopLevel::Run {
        let called = state.worker().call.notified();
        match one(state) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => state::log(&error),
        }
        runtime.block_on(async {
            tokio::select! {
                () = called => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.reached(StopLevel::Drain) => {}
            }
        });
    }
}

fn plan_one(state: &AppState, runner: &dyn Runner, stop: &Stop) -> Result<bool, StoreError> {
    let open = state.database().now(|store| store.open_experiments())?;
    let Some(next) = open.iter().find(|experiment| experiment.state == Some(State::Planning)) else { return Ok(false) };
    let Some(submission) = state.database().now(|store| store.submission(&next.name))? else { return Ok(false) };
    let planned = runner.plan(&next.name, &submission, stop);
    if stop.level() > StopLevel::Run {
        return Ok(false);
    }
    match planned {
        Ok(()) => state.turn(&next.name, &[State::Planning], State::Queued, None)?,
        Err(Trouble::Invalid(why)) => state.turn(&next.name, &[State::Planning], State::Invalid, Some(&why))?,
        Err(Trouble::Host(why)) => {
            state::note(&format!("experiment {}: {why}", next.name));
            state.turn(&next.name, &[State::Planning], State::Invalid, Some(&why))?
        }
    };
    state.worker().call();
    Ok(true)
}

fn run_one(state: &AppState, runner: &dyn Runner, stop: &Stop) -> Result<bool, StoreError> {
    let open = state.database().now(|store| store.open_experiments())?;
    let Some(next) = dispatch::order(&open).first().map(|experiment| experiment.name.clone()) else { return Ok(false) };
    let Some(submission) = state.database().now(|store| store.submission(&next))? else { return Ok(false) };
    let (stopper, stopped) = stop::channel();
    let counts = state.database().now(|store| store.verdict_counts(&next))?;
    let done_before = counts.iter().filter(|(verdict, _)| verdict != "pending").map(|(_, count)| count).sum();
    *state.worker().running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running {
        name: next.clone(),
        stopper: stopper.clone(),
        reason: None,
        since: Instant::now(),
        done_before,
        plan: None,
        ops: Vec::new(),
    });
    if !state.turn(&next, &[State::Queued], State::Running, None)? {
        state.worker().running.lock().unwrap_or_else(PoisonError::into_inner).take();
        return Ok(true);
    }
    let watcher = Watcher { state: state.clone(), name: next.clone(), verdicts: Vec::new(), kept: Instant::now() };
    let ran = match stop.level() {
        StopLevel::Run => runner.run(&next, &submission, watcher, (&stopper, &stopped)),
        StopLevel::Drain | StopLevel::Kill => Ok(()),
    };
    let running = state.worker().running.lock().unwrap_or_else(PoisonError::into_inner).take();
    let reason = running.and_then(|running| running.reason);
    let from = [State::Running, State::Aborting];
    match (ran, stopped.level(), reason) {
        (_, _, Some(Reason::Abort)) => {
            report(state, runner, &next);
            state.turn(&next, &from, State::Aborted, None)?
        }
        (Err(trouble), ..) => {
            state::note(&format!("experiment {next}: {trouble}"));
            state.turn(&next, &from, State::Aborted, Some(&trouble.to_string()))?
        }
        (Ok(()), StopLevel::Run, _) => {
            state.turn(&next, &from, State::Reporting, None)?;
            finish_report(state, runner, &next)?
        }
        // Its turn comes again, in this process or the next one.
        (Ok(()), StopLevel::Drain | StopLevel::Kill, _) => state.turn(&next, &from, State::Queued, None)?,
    };
    state.worker().call();
    Ok(true)
}

/// Writes the report of an experiment that agents have run to its end.
fn report_one(state: &AppState, runner: &dyn Runner) -> Result<bool, StoreError> {
    let open = state.database().now(|store| store.open_experiments())?;
    let next = open.iter().find(|experiment| experiment.state == Some(State::Reporting));
    next.map_or(Ok(false), |next| finish_report(state, runner, &next.name))
}

/// Writes the report of an experiment in the state `reporting`, which it ends.
pub(super) fn finish_report(state: &AppState, runner: &dyn Runner, name: &str) -> Result<bool, StoreError> {
    match report(state, runner, name) {
        None => state.turn(name, &[State::Reporting], State::Done, None),
        Some(why) => state.turn(name, &[State::Reporting], State::ReportFailed, Some(&why)),
    }
}

/// Writes the report and all verdicts; returns the reason if it fails.
fn report(state: &AppState, runner: &dyn Runner, name: &str) -> Option<String> {
    match runner.report(name) {
        Ok(verdicts) => {
            let kept = state.database().now(|store| store.keep_verdicts(name, &verdicts, true));
            kept.err().map(|error| error.to_string())
        }
        Err(trouble) => {
            state::note(&format!("experiment {name}: {trouble}"));
            Some(trouble.to_string())
        }
    }
}

/// Stops the running experiment when it is paused or aborted, when another should run, and with the server.
async fn watch(state: &AppState, stop: &Stop) {
    let mut level = StopLevel::Run;
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = state.worker().call.notified() => {}
            risen = stop.risen_above(level) => {
                level = risen;
                state.worker().with(|running| running.stopper.raise(level));
            }
        }
        if level > StopLevel::Run {
            match state.worker().snapshot() {
                None => return,
                Some(_) => {
                    // It may have begun after the level rose.
                    state.worker().with(|running| running.stopper.raise(level));
                    continue;
                }
            }
        }
        let Some(running) = state.worker().snapshot() else { continue };
        let open = state.database().with(|store| store.open_experiments()).await;
        let open = match open {
            Ok(open) => open,
            Err(error) => {
                state::log(&error);
                continue;
            }
        };
        match dispatch::should_stop(&open, &running.name, running.since, state.config().worker.slice) {
            None => {}
            Some(dispatch::Why::Gone | dispatch::Why::Aborted) => state.worker().abort(&running.name),
            Some(dispatch::Why::Paused) => state.worker().halt(&running.name, Reason::Pause, StopLevel::Drain),
            Some(dispatch::Why::Later) => state.worker().halt(&running.name, Reason::Yield, StopLevel::Drain),
        }
    }
}
