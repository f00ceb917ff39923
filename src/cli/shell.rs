//! `maar shell`: the cell that an op had, once more, for its user: same sources, lockfile, limits and environment.
//!
//! Nothing is kept: the crate is prepared in a folder of its own, and no result is touched.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::ShellArgs;
use super::exit::{Exit, Misuse};
use super::{logs, sandbox, signals, stored};
use crate::compare::{CrateResults, Results};
use crate::experiment::{CrateSettings, Experiment};
use crate::home::Home;
use crate::ops::removal::Removal;
use crate::ops::workspace::Workspace;
use crate::ops::{Done, Op, Order, Sharing, Tools};
use crate::outcome::{Outcome, OutcomeKind};
use crate::plan::Step;
use crate::registry::{self, Gate, Registry, Upstream};
use crate::sandbox::Console;
use crate::stop::{self, Stop};
use crate::store::Store;

/// How long a shell may be open, and idle: a user takes what time they need, and a year is more than that.
const NO_HURRY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Opens a shell, or repeats an op.
pub(super) fn run(args: &ShellArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (home, store) = stored::open(&args.home)?;
    let results = stored::results(&store, &args.name)?;
    let krate = logs::find(&results, &args.krate)?;
    let step = choose(&results, krate, args)?;
    let prepare = krate.steps.iter().map(|(step, _)| step).find(|step| step.op == Op::Prepare);
    let prepare = prepare.context("the crate has no op list, and so no cell")?;
    let Some(settings) = store.settings(&args.name)? else {
        bail!(
            "an older maar ran `{}`; run it once more, which repeats nothing, and its cells can be opened",
            args.name
        );
    };
    let experiment: Experiment =
        serde_json::from_str(&settings).context("failed to read the settings of the experiment")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    let visit =
        Visit { home, store, experiment, results: &results, krate, prepare, defaults: CrateSettings::default(), step };
    runtime.block_on(visit.make(args, out))
}

/// The step whose cell is meant: with the toolchain, the one that is to be repeated, else the last.
fn choose<'a>(results: &Results, krate: &'a CrateResults, args: &ShellArgs) -> Result<&'a Step, Misuse> {
    let toolchain = match &args.toolchain {
        None => 0,
        Some(wanted) => results.toolchains.iter().position(|toolchain| toolchain.spec == *wanted).ok_or_else(|| {
            let specs: Vec<&str> = results.toolchains.iter().map(|toolchain| toolchain.spec.as_str()).collect();
            Misuse(format!("experiment `{}` has no toolchain `{wanted}`, only {}", args.name, specs.join(", ")))
        })?,
    };
    let steps = || krate.steps.iter().map(|(step, _)| step).filter(|step| step.toolchain == Some(toolchain));
    let chosen = match &args.run {
        None => steps().next_back(),
        Some(wanted) => steps().find(|step| step.op.name() == *wanted),
    };
    chosen.ok_or_else(|| {
        let mut ops: Vec<String> = steps().map(|step| step.op.name().to_string()).collect();
        // Attempts at one op are beside each other.
        ops.dedup();
        Misuse(match (&args.run, ops.is_empty()) {
            (_, true) => format!("no op of {} has a toolchain, and so none has a cell to open", krate.krate.id),
            (Some(wanted), false) => format!("{} has no op `{wanted}` there, only {}", krate.krate.id, ops.join(", ")),
            (None, false) => format!("{} has no op with that toolchain", krate.krate.id),
        })
    })
}

/// All that is known of the cell.
struct Visit<'a> {
    home: Home,
    store: Store,
    experiment: Experiment,
    results: &'a Results,
    krate: &'a CrateResults,
    prepare: &'a Step,
    /// The settings of a crate that has none.
    defaults: CrateSettings,
    /// Whose cell it is.
    step: &'a Step,
}

impl Visit<'_> {
    async fn make(&self, args: &ShellArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
        let jobs = self.home.jobs()?;
        let (stopper, stop) = stop::channel();
        signals::listen(stopper).context("failed to listen for signals")?;
        let sandbox = sandbox::open(&self.experiment.sandbox, &self.home).await?;
        let registry =
            Registry::open(registry::Config { upstream: Upstream::configured()?, cache: self.home.cache() })?;
        let gate = Gate::new(registry.clone(), &self.experiment.allow_hosts);
        let tools = Tools {
            sandbox,
            registry,
            gate,
            toolchains: self.results.toolchains.clone(),
            // What the cell compiles stays in it.
            layers: Vec::new(),
            cargo_bin: registry::cargo_bin(),
        };
        let owner = tools.sandbox.owner();
        let workspace = Workspace::new(jobs.dir(), tools.registry.sources_dir(), owner, Removal::at_once())?;
        let done = self.visit(args, &tools, &workspace, &stop, out).await;
        tools.sandbox.release(&workspace.scratch()).await?;
        done
    }

    async fn visit(
        &self,
        args: &ShellArgs,
        tools: &Tools,
        workspace: &Workspace,
        stop: &Stop,
        out: &mut dyn Write,
    ) -> anyhow::Result<Exit> {
        let lockfile = self.store.lockfile(&self.results.experiment, &self.prepare.fingerprint)?;
        let order = |step| self.order(step, lockfile.as_deref(), stop);
        let prepared = Op::run(tools, workspace, &order(self.prepare)).await;
        if prepared.outcome != Some(Outcome::Passed) {
            return print(&prepared, out);
        }
        let mut order = order(self.step);
        if args.run.is_some() {
            return print(&Op::run(tools, workspace, &order).await, out);
        }
        order.limits.timeout = NO_HURRY;
        order.limits.idle_timeout = NO_HURRY;
        let toolchain = &self.results.toolchains[self.step.toolchain.unwrap_or_default()].spec;
        writeln!(
            out,
            "{} with {toolchain}, in the cell of `{}`; leave with `exit`",
            self.krate.krate.id,
            self.step.op.name()
        )?;
        if let Some(argv) = self.step.op.argv(order.features) {
            writeln!(out, "it ran: {}", argv.join(" "))?;
        }
        out.flush()?;
        let mut console = Console::open().map_err(|error| {
            Misuse(format!("a shell needs a terminal ({error}); `--run OP` repeats an op without one"))
        })?;
        let left = Op::enter(tools, workspace, &order, &mut console).await;
        drop(console);
        match left.outcome {
            None => Ok(Exit::Fine),
            Some(_) => print(&left, out),
        }
    }

    fn order<'a>(&'a self, step: &'a Step, lockfile: Option<&'a [u8]>, stop: &Stop) -> Order<'a> {
        let krate = &self.krate.krate;
        let settings = self.experiment.crate_settings.get(&krate.id.name).unwrap_or(&self.defaults);
        Order {
            op: &step.op,
            krate,
            toolchain: step.toolchain,
            limits: self.experiment.limits_of(&krate.id.name, &step.op.name()),
            after: None,
            features: &settings.features,
            env: &settings.env,
            sharing: Sharing::Layers,
            lockfile_mode: self.experiment.lockfile,
            lockfile,
            stop: stop.clone(),
        }
    }
}

/// Prints what an op printed and what came of it.
fn print(done: &Done, out: &mut dyn Write) -> anyhow::Result<Exit> {
    out.write_all(&done.output.head)?;
    if done.output.dropped > 0 {
        writeln!(out, "\n== {} bytes were not kept", done.output.dropped)?;
    }
    out.write_all(&done.output.tail)?;
    let Some(outcome) = &done.outcome else { return Ok(Exit::Stopped) };
    let reason = outcome.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
    writeln!(out, "== {}{reason}", outcome.kind())?;
    Ok(match outcome.kind() {
        OutcomeKind::Passed | OutcomeKind::Skipped => Exit::Fine,
        OutcomeKind::Failed | OutcomeKind::Broken => Exit::Regressed,
        OutcomeKind::Inconclusive | OutcomeKind::Error => Exit::Host,
    })
}
