//! `maar run`: from a file and flags to a table, a report and an exit code.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use bytesize::ByteSize;

use super::args::RunOptions;
use super::exit::Exit;
use super::{closing, doctor, signals};
use crate::compare::{self, Conclusion};
use crate::experiment::{self, Experiment, Host, Loaded, SandboxKind};
use crate::home::Home;
use crate::krate::{Origin, Selected};
use crate::ops::Tools;
use crate::pipeline::Summary;
use crate::plan::{self, CratePlan};
use crate::progress::{self, Progress, Update};
use crate::registry::select::Selection;
use crate::registry::{self, Registry, RegistryError, Upstream};
use crate::run::{self, Setup};
use crate::sandbox::Sandbox;
use crate::sandbox::native::{self, Native};
use crate::sandbox::unconfined::Unconfined;
use crate::stop::{self, Stop, StopLevel};
use crate::store::{ExperimentRecord, Store};
use crate::toolchain;

/// Runs an experiment to its end, or as far as it gets.
pub(super) fn run(file: Option<&Path>, options: &RunOptions, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let folder = std::env::current_dir().context("failed to find the working directory")?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let host = Host { cores, folder: &folder, toolchain: &toolchain::find_or_active };
    let loaded = experiment::load(file, &options.overrides(), &host)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(run_loaded(loaded, options, out))
}

async fn run_loaded(loaded: Loaded, options: &RunOptions, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Loaded { experiment, toolchains } = loaded;
    let home = Home::open(options.home.folder.clone())?;
    let _lock = home.lock(&experiment.name)?;
    let jobs = home.jobs()?;
    let (stopper, stop) = stop::channel();
    signals::listen(stopper.clone()).context("failed to listen for signals")?;

    if experiment.sandbox == SandboxKind::Native
        && let Some(why) = doctor::why_no_sandbox(&home).await
    {
        bail!("this host can't make sandboxes:\n{why}");
    }
    let sandbox = open_sandbox(&experiment);
    let unenforced = sandbox.unenforced(experiment.cores());
    if options.require_limits && !unenforced.is_empty() {
        bail!(
            "this host doesn't enforce every limit, as --require-limits demands:\n  {}\n\
             help: `maar doctor` says how to change that",
            unenforced.join("\n  ")
        );
    }
    let registry = Registry::open(registry::Config { upstream: Upstream::configured()?, cache: home.cache() })?;
    let mut store = Store::open(&home.database())?;
    if options.fresh {
        store.fresh(&experiment.name)?;
    }
    let pins = store.pins(&experiment.name)?;
    let selected = tokio::select! {
        selected = select(&registry, &experiment.crates, &pins) => selected?,
        () = stop.reached(StopLevel::Drain) => return Ok(Exit::Stopped),
    };
    let crates: Vec<Selected> = selected.iter().map(|(_, selected)| selected.clone()).collect();
    let plans = plan::plan(&experiment, &toolchains, &crates);
    let notes = notes(&experiment, &sandbox);
    store.begin(&ExperimentRecord {
        name: experiment.name.clone(),
        toolchains: toolchains.clone(),
        notes: notes.clone(),
        crates: selected.into_iter().map(|(selection, _)| selection).zip(plans.iter().cloned()).collect(),
    })?;
    let finished = store.finished(&experiment.name)?;

    let proxy = registry.serve().await?;
    let tools = Tools { sandbox, registry, proxy: proxy.url(), toolchains };
    let name = experiment.name.clone();
    let registry = tools.registry.clone();
    let setup = Setup { experiment, tools, plans, finished, jobs };
    let begun = store.begin_run(&name, &setup.experiment.workers.by_stage())?;
    let summary = run_rest(setup, options, notes, &home, (stopper, stop.clone())).await?;
    store.end_run(begun, summary.wall, ByteSize(registry.downloaded_bytes()))?;
    drop(proxy);

    let results = store.results(&name)?.context("the experiment vanished from the store while it ran")?;
    let report = compare::compare(&results);
    let page = closing::write_html(&store, &home, &report)?;
    if options.progress != progress::Kind::Json {
        closing::write(&report, &page, out)?;
    }
    if stop.level() > StopLevel::Run && options.progress != progress::Kind::Json {
        writeln!(out, "stopped; the same command goes on from here")?;
    }
    Ok(match (stop.level(), compare::conclude(&report)) {
        (StopLevel::Drain | StopLevel::Kill, _) => Exit::Stopped,
        (StopLevel::Run, Conclusion::Clean) => Exit::Fine,
        (StopLevel::Run, Conclusion::Regressions) => Exit::Regressed,
        (StopLevel::Run, Conclusion::HostFailed) => Exit::Host,
    })
}

fn open_sandbox(experiment: &Experiment) -> Sandbox {
    match experiment.sandbox {
        SandboxKind::Native => Sandbox::Native(Native::new(native::Config::default())),
        SandboxKind::None => Sandbox::Unconfined(Unconfined::new(native::Config::default())),
    }
}

/// What a reader of the results must know of how they came to be.
fn notes(experiment: &Experiment, sandbox: &Sandbox) -> Vec<String> {
    let mut notes = sandbox.unenforced(experiment.cores());
    if experiment.sandbox == SandboxKind::None {
        notes.insert(0, "no sandbox: crates run with your rights, and see your files and your network".to_owned());
    }
    notes
}

/// Runs what no earlier run has settled, showing how it goes.
async fn run_rest(
    setup: Setup,
    options: &RunOptions,
    notes: Vec<String>,
    home: &Home,
    stop: (stop::Stopper, Stop),
) -> anyhow::Result<Summary> {
    let left = |plan: &&CratePlan| !plan::remaining(&setup.experiment, plan, &setup.finished).is_empty();
    let ahead = progress::Plan {
        pools: run::pipeline_config(&setup.experiment).pools,
        crates: setup.plans.len(),
        already_done: setup.plans.len() - setup.plans.iter().filter(left).count(),
    };
    let mut progress = Progress::new(options.progress, ahead);
    for note in notes {
        progress.update(Update::Note(note));
    }
    let reader = Store::open(&home.database())?;
    let writer = reader.writer()?;
    let ran = run::run(setup, reader, &writer, &mut progress, stop).await;
    progress.finish();
    // First what could not be kept, which is why the run ended.
    writer.flush().await?;
    Ok(ran?)
}

/// Finds the crates that the selections mean; those an earlier run chose stay as they were chosen.
async fn select(
    registry: &Registry,
    selections: &[Selection],
    pins: &[(String, Selected)],
) -> Result<Vec<(String, Selected)>, RegistryError> {
    let pins: HashMap<&str, &Selected> =
        pins.iter().map(|(selection, selected)| (selection.as_str(), selected)).collect();
    let mut lookups = tokio::task::JoinSet::new();
    let mut selected: BTreeMap<usize, (String, Selected)> = BTreeMap::new();
    for (place, selection) in selections.iter().enumerate() {
        let text = selection.to_string();
        match pins.get(text.as_str()).map(|pinned| (*pinned).clone()) {
            // A folder may have changed, and a crate that was missing may have been published.
            Some(pinned) if matches!(pinned.origin, Origin::Registry { .. }) => {
                selected.insert(place, (text, pinned));
            }
            Some(_) | None => {
                let (registry, selection) = (registry.clone(), selection.clone());
                lookups.spawn(async move { (place, text, registry.select(&selection).await) });
            }
        }
    }
    while let Some(lookup) = lookups.join_next().await {
        let (place, text, result) = match lookup {
            Ok(lookup) => lookup,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        selected.insert(place, (text, result?));
    }
    // Two selections may mean the same crate, which is then run once.
    let mut seen = std::collections::HashSet::new();
    Ok(selected.into_values().filter(|(_, selected)| seen.insert(selected.id.clone())).collect())
}
