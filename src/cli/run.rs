//! `maar run`: from a file and flags to a table, a report and an exit code.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytesize::ByteSize;

use super::args::RunOptions;
use super::exit::{Exit, Misuse};
use super::install::Installer;
use super::moved::moved;
use super::remarks::{SelectedBy, remarks};
use super::reused::{Reused, reused};
use super::select::{Chosen, Earlier, LockfileOf};
use super::{closing, components, dry_run, patches, sandbox, select, separation, signals, stored};
use crate::cache::{self, Collected};
use crate::compare::{self, Conclusion};
use crate::experiment::{self, Caching, Experiment, Host, Installing, Loaded};
use crate::home::Home;
use crate::host;
use crate::krate::{CrateId, CrateName, Selected};
use crate::ops::{self, Tools};
use crate::plan::{self, CratePlan};
use crate::printable::one_line;
use crate::progress::{self, Progress, Update};
use crate::registry::lockfile::Lockfile;
use crate::registry::{self, Access, Gate, Registry, Upstream, Watch};
use crate::run::{self, Setup};
use crate::schedule::Expectations;
use crate::stop::{self, Stop, StopLevel};
use crate::store::{ExperimentRecord, RunCost, Store};
use crate::toolchain::ToolchainSpec;
use crate::trace::Trace;

/// Runs an experiment to its end, or as far as it gets.
pub(super) fn run(file: Option<&Path>, options: &RunOptions, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let folder = std::env::current_dir().context("failed to find the working directory")?;
    let allowed = if options.offline || options.dry_run { Installing::Nothing } else { Installing::WhatIsMissing };
    let installer = Installer(allowed);
    let find = |spec: Option<&ToolchainSpec>, installing| installer.find(spec, installing);
    let host = Host { cores: host::cores(), folder: &folder, toolchain: &find };
    let loaded = experiment::load(file, &options.overrides(), &host)?;
    components::check(&loaded, installer)?;
    separation::seek(&loaded.experiment.sandbox, &loaded.toolchains, &options.home)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(run_loaded(loaded, options, out))
}

async fn run_loaded(loaded: Loaded, options: &RunOptions, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Loaded { mut experiment, mut toolchains, notes: of_file, installing: _ } = loaded;
    let home = Home::open(options.home.folder.clone())?;
    let _lock = home.lock(&experiment.name)?;
    let jobs = home.jobs()?;
    jobs.name(&experiment.name)?;
    let (stopper, stop) = stop::channel();
    signals::listen(stopper.clone()).context("failed to listen for signals")?;

    let trace = options.trace.as_deref().map(Trace::create).transpose()?;
    let sandbox = sandbox::open(&experiment.sandbox, &home).await?;
    let mut notes = sandbox.unenforced(experiment.cores());
    if options.require_limits && !notes.is_empty() {
        bail!(
            "this host doesn't enforce every limit, as --require-limits demands:\n  {}\n\
             help: `maar doctor` says how to change that",
            notes.join("\n  ")
        );
    }
    let access = if options.offline { Access::Offline } else { Access::Online };
    let config = registry::Config { upstream: Upstream::configured()?, cache: home.cache(), access };
    let registry = Registry::open_as_of(config, experiment.as_of.clone())?;
    let mut store = Store::open(&home.database())?;
    let earlier = earlier(&store, &experiment, options)?;
    let watch = watch(options.progress);
    let sources = select::Sources { registry: &registry, store: &store, dump: options.dump.as_deref(), watch: &watch };
    let chosen = tokio::select! {
        chosen = select::select(&sources, &experiment.crates, &earlier) => chosen?,
        () = stop.reached(StopLevel::Drain) => return Ok(Exit::Stopped),
    };
    drop(earlier);
    notes.extend(of_file);
    notes.extend(chosen.notes().map(str::to_owned));
    let Chosen { crates, queries, lockfiles } = chosen;
    let (selections, crates): (Vec<String>, Vec<Selected>) = crates.into_iter().unzip();
    experiment.apply_patterns(crates.iter().map(|krate| &krate.id.name));
    patches::look(&registry, &mut toolchains).await?;
    let mut plans = plan::plan(&experiment, &toolchains, crates);
    let finished = if options.fresh { HashMap::new() } else { store.finished(&experiment.name)? };
    plan::adopt(&mut plans, &experiment, &toolchains, &finished);
    let selected_by = if options.crates.is_empty() { SelectedBy::File } else { SelectedBy::Flags };
    notes.extend(remarks(&experiment, &toolchains, &plans, selected_by));
    if !options.fresh {
        notes.extend(moved(&store.toolchains(&experiment.name)?, &toolchains));
    }
    let planned: HashSet<&CrateName> = plans.iter().map(|plan| &plan.krate.id.name).collect();
    let expectations = Expectations::new(store.costs(|krate| planned.contains(krate))?);
    if options.dry_run {
        let (plans, finished, expectations) = (&plans, &finished, &expectations);
        let ahead = dry_run::Ahead { experiment: &experiment, plans, finished, expectations, notes: &notes };
        dry_run::write(&ahead, out)?;
        return Ok(Exit::Fine);
    }
    if options.fresh {
        // Not before it is certain that there is something to put in its place.
        store.fresh(&experiment.name)?;
    }
    store.begin(&ExperimentRecord {
        name: experiment.name.clone(),
        toolchains: toolchains.clone(),
        settings: serde_json::to_string(&experiment).context("failed to write the settings down")?,
        notes: notes.clone(),
        crates: selections.into_iter().zip(&plans).collect(),
        queries,
    })?;
    bring_lockfiles(&mut store, &experiment.name, &plans, &lockfiles)?;
    let attempts = store.attempts(&experiment.name)?;

    ops::provide::provide(jobs.dir(), &sandbox, &mut toolchains)?;
    let gate = Gate::new(registry.clone(), &experiment.allow_hosts);
    let index = Upstream::configured()?.index;
    let layers = match experiment.cache {
        Caching::On => ops::layers(&home.layers(), &sandbox, index.as_str(), &toolchains)?,
        Caching::Off => Vec::new(),
    };
    let cargo_bin = registry::cargo_bin();
    let tools = Tools { sandbox, registry, gate, toolchains, layers, cargo_bin };
    let name = experiment.name.clone();
    let registry = tools.registry.clone();
    let (cores, memory) = (host::cores(), host::memory());
    let setup = Setup { experiment, tools, plans, finished, attempts, jobs, expectations, cores, memory, trace };
    let reused = reused(&setup, &store.started(&name)?);
    let begun = store.begin_run(&name, &setup.experiment.workers.by_stage())?;
    let (ran, progress) = run_rest(setup, options, (notes, reused), &home, (stopper, stop.clone())).await?;
    let run::Ran { summary, removal } = ran;
    let downloaded = ByteSize(registry.downloaded_bytes());
    store.end_run(begun, RunCost { wall: summary.wall, removal, downloaded })?;

    let results = store.results(&name)?.context("the experiment vanished from the store while it ran")?;
    let mut report = stored::report(&store, &results)?;
    if let Some(run) = report.runs.last_mut() {
        run.count_stopped(summary.pools.iter().map(|pool| pool.busy));
    }
    progress.finish(report.runs.last());
    let (stopped, conclusion) = (stop.level(), compare::conclude(&report, options.fail_on.as_deref()));
    let page = closing::write_html(&store, &home, &report);
    if options.progress != progress::Kind::Json {
        // A reader that closes the pipe changes no result.
        let closing = closing::Closing { report: &report, page: page.as_deref().ok(), reused, conclusion, stopped };
        let _ = closing.write(out);
    }
    page?;
    Ok(match (stopped, conclusion) {
        (StopLevel::Drain | StopLevel::Kill, _) => Exit::Stopped,
        (StopLevel::Run, Conclusion::Clean) => Exit::Fine,
        (StopLevel::Run, Conclusion::Failures) => Exit::Regressed,
        (StopLevel::Run, Conclusion::HostFailed) => Exit::Host,
        (StopLevel::Run, Conclusion::SomeUntested(_)) => Exit::SomeUntested,
        (StopLevel::Run, Conclusion::NothingTested(_)) => Exit::NothingTested,
    })
}

/// The choices of earlier runs, if this one keeps to them.
///
/// Lockfiles of another moment would go on under `--update`, so that it changes nothing about the refusal.
fn earlier(store: &Store, experiment: &Experiment, options: &RunOptions) -> anyhow::Result<Earlier> {
    if options.fresh {
        return Ok(Earlier::default());
    }
    let settings = store.settings(&experiment.name)?;
    let before = settings.and_then(|settings| serde_json::from_str::<Experiment>(&settings).ok());
    if before.is_some_and(|before| before.as_of != experiment.as_of) {
        bail!(Misuse(format!(
            "experiment `{}` chose its versions as of another moment: give this one another --name, or start over with \
             --fresh",
            experiment.name
        )));
    }
    if options.update {
        return Ok(Earlier::default());
    }
    Ok(Earlier { pins: store.pins(&experiment.name)?, queries: store.queries(&experiment.name)? })
}

/// Shows what takes a while before anything runs.
fn watch(progress: progress::Kind) -> Watch {
    Arc::new(move |text: &str| match progress {
        progress::Kind::None => {}
        progress::Kind::Auto | progress::Kind::Bars | progress::Kind::Plain | progress::Kind::Json => {
            // A closed stderr has no reader.
            let _ = writeln!(anstream::stderr(), "{}", one_line(text));
        }
    })
}

/// Gives crates the lockfiles that they bring along, unless this experiment has made some of its own.
fn bring_lockfiles(
    store: &mut Store,
    experiment: &str,
    plans: &[CratePlan],
    lockfiles: &HashMap<CrateId, LockfileOf>,
) -> anyhow::Result<()> {
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

/// Runs the steps that no earlier run has settled, with progress.
async fn run_rest(
    setup: Setup,
    options: &RunOptions,
    (notes, reused): (Vec<String>, Option<Reused>),
    home: &Home,
    stop: (stop::Stopper, Stop),
) -> anyhow::Result<(run::Ran, Progress)> {
    let is_done = |krate: &usize| setup.left(*krate).is_empty();
    let ahead = progress::Plan {
        pools: run::pipeline_config(&setup.experiment).pools,
        crates: setup.plans.len(),
        already_done: (0..setup.plans.len()).filter(is_done).count(),
    };
    let mut progress = Progress::new(options.progress, ahead);
    for note in notes {
        progress.update(Update::Note(note));
    }
    // Other kinds of progress end with the closing table, which has it.
    if let (progress::Kind::Json, Some(reused)) = (options.progress, reused) {
        progress.update(Update::Note(reused.in_words()));
    }
    let reader = Store::open(&home.database())?;
    let writer = reader.writer()?;
    let (caching, budget) = (setup.experiment.cache, setup.experiment.cache_budget);
    let ran = tokio::select! {
        ran = run::run(setup, reader, &writer, &mut progress, stop) => ran,
        () = collect_now_and_then(caching, budget, home) => unreachable!("it goes on for ever"),
    };
    if let Some(note) = keep_cache_within(caching, budget, home) {
        progress.update(Update::Note(note));
    }
    // First what could not be kept, which is why the run ended.
    let kept = writer.flush().await.map_err(anyhow::Error::from);
    match kept.and_then(|()| Ok(ran?)) {
        Ok(ran) => Ok((ran, progress)),
        Err(error) => {
            progress.finish(None);
            Err(error)
        }
    }
}

/// The time between two collections of layers during a run.
const COLLECT_EVERY: Duration = Duration::from_secs(120);

/// Keeps what crates share from filling the disk in a long run. The last word on that, and on what goes wrong with it,
/// is for the end.
async fn collect_now_and_then(caching: Caching, budget: ByteSize, home: &Home) {
    loop {
        tokio::time::sleep(COLLECT_EVERY).await;
        let home = home.clone();
        let _ = tokio::task::spawn_blocking(move || keep_cache_within(caching, budget, &home)).await;
    }
}

/// Brings what crates share under its budget, and says what that took, if anything. That it can't is no reason to lose
/// what the run has found.
fn keep_cache_within(caching: Caching, budget: ByteSize, home: &Home) -> Option<String> {
    match caching {
        Caching::On => {}
        Caching::Off => return None,
    }
    match cache::keep_within(&home.layers(), budget) {
        Ok(Collected { removed: 0, .. }) => None,
        Ok(collected) => Some(format!("cache: {collected}; cache-budget is {}", budget.display().iec())),
        Err(error) => Some(format!("cache: failed to keep within cache-budget: {error}")),
    }
}
