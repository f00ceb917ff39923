//! One experiment from its settings to its results: open, select, plan, drive.
//!
//! Each part consumes the one before: a [`Session`] has plans and has written nothing, a [`Begun`] one is in the store,
//! a [`Driven`] one has run. Reads no command line and prints nothing.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;

use super::assignment::{Assignment, Earlier};
use super::bench::Bench;
use super::error::{RunError, SessionError};
use super::moved::moved;
use super::planned::Planned;
use super::remarks::{SelectedBy, remarks};
use super::select::{self, Choices, Chosen, LockfileOf};
use super::{KeepError, Ran, Shape, drive, patches, stored, upkeep};
use crate::compare::Report;
use crate::event::RunEvent;
use crate::experiment::{Experiment, Loaded};
use crate::home::ExperimentLock;
use crate::krate::{CrateId, CrateName, Selected};
use crate::ops;
use crate::outcome::Outcome;
use crate::pipeline::Summary;
use crate::plan::{self, CratePlan, Fingerprint};
use crate::registry::lockfile::Lockfile;
use crate::registry::{Registry, Watch};
use crate::sandbox::Sandbox;
use crate::schedule::Expectations;
use crate::stop::{Stop, StopLevel, Stopper};
use crate::store::{AnsweredQuery, ExperimentRecord, RunCost, RunId, Store};
use crate::toolchain::Toolchain;
use crate::trace::Trace;

/// The input of a session.
#[derive(Debug)]
pub struct Request {
    /// The experiment and its toolchains.
    pub loaded: Loaded,
    /// Where its crates were named.
    pub selected_by: SelectedBy,
    /// How much of earlier runs is reused.
    pub reuse: Reuse,
    /// Whether every limit must be enforced.
    pub limits: Enforcement,
    /// The registry's database dump, if the user has one.
    pub dump: Option<PathBuf>,
}

/// How much a run reuses of earlier runs of the same experiment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Versions, lockfiles and results.
    #[default]
    Everything,
    /// Results of versions that are still the newest; selections are resolved anew.
    NewestVersions,
    /// Nothing; results are deleted once there is a plan.
    Nothing,
}

/// Whether a host that doesn't enforce every limit will do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// The session goes on, with a note.
    #[default]
    WherePossible,
    /// The session ends with an error.
    Required,
}

/// A planned experiment that is locked for this process. Nothing of it is in the store yet.
#[derive(Debug)]
pub struct Session {
    bench: Arc<Bench>,
    lock: ExperimentLock,
    store: Store,
    sandbox: Sandbox,
    registry: Registry,
    reuse: Reuse,
    experiment: Experiment,
    toolchains: Vec<Toolchain>,
    notes: Vec<String>,
    plans: Vec<CratePlan>,
    /// The selection that chose each crate, as the user wrote it.
    selections: Vec<String>,
    queries: Vec<AnsweredQuery>,
    lockfiles: HashMap<CrateId, LockfileOf>,
    finished: HashMap<Fingerprint, Outcome>,
    expectations: Expectations,
}

impl Session {
    /// Opens the experiment, selects its crates and plans their steps. `None` if a stop came before.
    ///
    /// # Errors
    /// Another process runs the experiment, the host can't run it, or its crates can't be found.
    pub async fn open(
        bench: &Arc<Bench>,
        request: Request,
        watch: &Watch,
        stop: &Stop,
    ) -> Result<Option<Self>, SessionError> {
        let Request { loaded, selected_by, reuse, limits, dump } = request;
        let Loaded { mut experiment, mut toolchains, notes: of_file, installing: _ } = loaded;
        let lock = bench.home().lock(&experiment.name)?;
        let sandbox = bench.sandbox(&experiment.sandbox).await?;
        let mut notes = sandbox.unenforced(experiment.cores());
        if limits == Enforcement::Required && !notes.is_empty() {
            return Err(SessionError::Unenforced(notes));
        }
        let registry = bench.registry(experiment.as_of.clone())?;
        let store = Store::open(&bench.home().database())?;
        let choices = choices(&store, &experiment, reuse)?;
        let sources = select::Sources { registry: &registry, store: &store, dump: dump.as_deref(), watch };
        let chosen = tokio::select! {
            chosen = select::select(&sources, &experiment.crates, &choices) => chosen?,
            () = stop.reached(StopLevel::Drain) => return Ok(None),
        };
        drop(choices);
        notes.extend(of_file);
        notes.extend(chosen.notes().map(str::to_owned));
        let Chosen { crates, queries, lockfiles } = chosen;
        let (selections, crates): (Vec<String>, Vec<Selected>) = crates.into_iter().unzip();
        experiment.apply_patterns(crates.iter().map(|krate| &krate.id.name));
        patches::look(&registry, &mut toolchains).await?;
        let mut plans = plan::plan(&experiment, &toolchains, crates);
        let finished = match reuse {
            Reuse::Nothing => HashMap::new(),
            Reuse::Everything | Reuse::NewestVersions => store.finished(&experiment.name)?,
        };
        plan::adopt(&mut plans, &experiment, &toolchains, &finished);
        notes.extend(remarks(&experiment, &toolchains, &plans, selected_by));
        match reuse {
            Reuse::Nothing => {}
            Reuse::Everything | Reuse::NewestVersions => {
                notes.extend(moved(&store.toolchains(&experiment.name)?, &toolchains));
            }
        }
        let planned: HashSet<&CrateName> = plans.iter().map(|plan| &plan.krate.id.name).collect();
        let expectations = Expectations::new(store.costs(|krate| planned.contains(krate))?);
        Ok(Some(Self {
            bench: Arc::clone(bench),
            lock,
            store,
            sandbox,
            registry,
            reuse,
            experiment,
            toolchains,
            notes,
            plans,
            selections,
            queries,
            lockfiles,
            finished,
            expectations,
        }))
    }

    /// The experiment, its patterns applied to the selected crates.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// The plans of all crates.
    pub fn plans(&self) -> &[CratePlan] {
        &self.plans
    }

    /// The outcomes of earlier runs.
    pub fn finished(&self) -> &HashMap<Fingerprint, Outcome> {
        &self.finished
    }

    /// Recorded times and sizes of the crates' ops.
    pub fn expectations(&self) -> &Expectations {
        &self.expectations
    }

    /// Notes for the user on the host, the file and the selection.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Puts the plans into the store. `stop` ends the jobs of this experiment alone.
    ///
    /// # Errors
    /// The store or the layers can't be used, or a lockfile that a crate brings along can't be read.
    pub fn begin(self, stop: Stop) -> Result<Begun, SessionError> {
        let Self { bench, lock, mut store, sandbox, registry, reuse, experiment, mut toolchains, notes, plans, .. } =
            self;
        let name = experiment.name.clone();
        match reuse {
            // Not before it is certain that there is something to put in its place.
            Reuse::Nothing => store.fresh(&name)?,
            Reuse::Everything | Reuse::NewestVersions => {}
        }
        store.begin(&ExperimentRecord {
            name: name.clone(),
            toolchains: toolchains.clone(),
            settings: serde_json::to_string(&experiment).map_err(SessionError::Settings)?,
            notes: notes.clone(),
            crates: self.selections.into_iter().zip(&plans).collect(),
            queries: self.queries,
        })?;
        bring_lockfiles(&mut store, &name, &plans, &self.lockfiles)?;
        let attempts = store.attempts(&name)?;
        ops::provide::provide(bench.jobs().dir(), &sandbox, &mut toolchains)?;
        let layers = bench.layers(&experiment, &sandbox, &toolchains)?;
        let tools = bench.tools(&experiment, sandbox, registry, toolchains, layers);
        let reader = Store::open(&bench.home().database())?;
        let assignment = Arc::new(Assignment { experiment, tools, stop });
        let earlier = Earlier { finished: self.finished, attempts };
        let planned = Planned::new(assignment, plans, earlier, self.expectations, reader);
        Ok(Begun { bench, lock, store, notes, planned })
    }
}

/// An experiment whose plans are in the store.
#[derive(Debug)]
pub struct Begun {
    bench: Arc<Bench>,
    lock: ExperimentLock,
    store: Store,
    notes: Vec<String>,
    planned: Planned,
}

impl Begun {
    /// The crates to run, and their plans.
    pub fn planned(&self) -> &Planned {
        &self.planned
    }

    /// The experiment's results so far.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Notes for the user on the host, the file and the selection.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many ops it has under way at a time.
    pub fn shape(&self) -> Shape {
        Shape::of(&self.planned.assignment().experiment)
    }

    /// Runs the steps that no earlier run has settled, and keeps their results in the store. `events` gets every change, the
    /// verdicts of crates without remaining steps first, and must not block.
    ///
    /// # Errors
    /// A result can't be kept, or the pools or the trace can't be set up.
    pub async fn drive(
        self,
        events: &mut impl FnMut(RunEvent),
        trace: Option<Trace>,
        stop: (&Stopper, &Stop),
    ) -> Result<Driven, SessionError> {
        let shape = self.shape();
        let Self { bench, lock, mut store, notes: _, planned } = self;
        let Assignment { experiment, tools, .. } = &**planned.assignment();
        bench.jobs().name(&experiment.name)?;
        let run = store.begin_run(&experiment.name, &experiment.workers.by_stage())?;
        planned.known().for_each(&mut *events);
        let writer = store.writer()?;
        let (caching, budget, home) = (experiment.cache, experiment.cache_budget, bench.home());
        let ran = tokio::select! {
            ran = drive(&bench, &shape, (&planned, &writer), (&mut *events, trace), stop) => ran,
            () = upkeep::collect_now_and_then(caching, budget, home) => unreachable!("it goes on for ever"),
        };
        if let Some(note) = upkeep::keep_within_budget(caching, budget, home) {
            events(RunEvent::note(note));
        }
        // A result that could not be kept comes first: it is why the run ended.
        writer.flush().await.map_err(|error| RunError::from(KeepError::new(error)))?;
        let mut ran = ran?;
        let downloaded = ByteSize(tools.registry.downloaded_bytes());
        ran.end_trace(downloaded, events);
        let name = experiment.name.clone();
        Ok(Driven { _lock: lock, store, name, run: Some(run), ran, downloaded })
    }
}

/// An experiment that has run to its end, or as far as a stop let it.
#[derive(Debug)]
pub struct Driven {
    _lock: ExperimentLock,
    store: Store,
    name: String,
    run: Option<RunId>,
    ran: Ran,
    downloaded: ByteSize,
}

impl Driven {
    /// The counts and times of the pools.
    pub fn summary(&self) -> &Summary {
        &self.ran.summary
    }

    /// The experiment's results.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Notes the run's cost in the store, once, and returns the report on the experiment.
    ///
    /// # Errors
    /// The store can't be used, or another process deleted the experiment.
    pub fn report(&mut self) -> Result<Report, SessionError> {
        let Ran { summary, removal, .. } = &self.ran;
        if let Some(run) = self.run.take() {
            let cost = RunCost { wall: summary.wall, removal: *removal, downloaded: self.downloaded };
            self.store.end_run(run, cost)?;
        }
        let results = self.store.results(&self.name)?;
        let results = results.ok_or_else(|| SessionError::Vanished(self.name.clone()))?;
        let mut report = stored::report(&self.store, &results)?;
        if let Some(run) = report.runs.last_mut() {
            run.count_stopped(summary.pools.iter().map(|pool| pool.busy));
        }
        Ok(report)
    }
}

/// The choices of earlier runs, if this one keeps to them.
///
/// Lockfiles of another moment would go on under `--update`, so that it changes nothing about the refusal.
fn choices(store: &Store, experiment: &Experiment, reuse: Reuse) -> Result<Choices, SessionError> {
    let name = &experiment.name;
    if reuse == Reuse::Nothing {
        return Ok(Choices::default());
    }
    let settings = store.settings(name)?;
    let before = settings.and_then(|settings| serde_json::from_str::<Experiment>(&settings).ok());
    if before.is_some_and(|before| before.as_of != experiment.as_of) {
        return Err(SessionError::Misuse(format!(
            "experiment `{name}` chose its versions as of another moment: give this one another --name, or start over with \
             --fresh"
        )));
    }
    match reuse {
        Reuse::NewestVersions | Reuse::Nothing => Ok(Choices::default()),
        Reuse::Everything => Ok(Choices { pins: store.pins(name)?, queries: store.queries(name)? }),
    }
}

/// Gives crates the lockfiles that they bring along, unless this experiment has made some of its own.
fn bring_lockfiles(
    store: &mut Store,
    experiment: &str,
    plans: &[CratePlan],
    lockfiles: &HashMap<CrateId, LockfileOf>,
) -> Result<(), SessionError> {
    for plan in plans {
        let Some(lockfile) = lockfiles.get(&plan.krate.id) else { continue };
        let Some(prepare) = plan.steps.iter().find(|step| step.toolchain.is_none()) else { continue };
        match lockfile {
            LockfileOf::Step(other, made_by) => {
                store.adopt_lockfile((experiment, prepare.fingerprint), (other, *made_by))?;
            }
            LockfileOf::File(path) => {
                let text = Lockfile::read_text(path)?;
                store.keep_lockfile(experiment, prepare.fingerprint, text.as_bytes())?;
            }
        }
    }
    Ok(())
}
