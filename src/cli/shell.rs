//! `maar shell`: the cell that an op had, once more, for its user: same sources, lockfile, limits and environment.
//!
//! Nothing is kept: the crate is prepared in a separate folder, and no result is touched.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::ShellArgs;
use super::exit::{Exit, Misuse};
use super::{logs, separation, signals, stored};
use crate::compare::{self, CrateResults, Results};
use crate::experiment::{CrateSettings, Experiment};
use crate::home::Home;
use crate::ops::removal::Removal;
use crate::ops::workspace::Workspace;
use crate::ops::{self, Activity, Done, Environment, Op, Order, Sharing, Tools};
use crate::outcome::{Outcome, OutcomeKind};
use crate::plan::{self, Step};
use crate::printable::one_line;
use crate::registry::Access;
use crate::report::terminal;
use crate::run::{self, Bench};
use crate::sandbox::Console;
use crate::stop::{self, Stop};
use crate::store::Store;

/// How long a shell may be open, and idle: a user takes what time they need, and a year is more than that.
const NO_HURRY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Opens a shell, or repeats an op.
pub(super) fn run(args: &ShellArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (home, store) = stored::open(&args.home)?;
    let results = run::results(&store, &args.name)?;
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
    separation::seek(&experiment.sandbox, &results.toolchains, &args.home)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    let visit =
        Visit { home, store, experiment, results: &results, krate, prepare, defaults: CrateSettings::default(), step };
    runtime.block_on(visit.make(args, out))
}

/// The step whose cell is meant: the op that failed, or the one that is to be repeated, with the toolchain if one is
/// named; else the last.
fn choose<'a>(results: &Results, krate: &'a CrateResults, args: &ShellArgs) -> Result<&'a Step, Misuse> {
    let failed = failed_step(results, krate, args)?;
    let toolchain = failed.and_then(|step| step.toolchain).or(named_toolchain(results, args)?).unwrap_or(0);
    let steps = || krate.steps.iter().map(|(step, _)| step).filter(|step| step.toolchain == Some(toolchain));
    let chosen = match &args.run {
        None => failed.filter(|step| step.toolchain.is_some()).or_else(|| steps().next_back()),
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

/// The place of the toolchain that the user named.
fn named_toolchain(results: &Results, args: &ShellArgs) -> Result<Option<usize>, Misuse> {
    let Some(wanted) = &args.toolchain else { return Ok(None) };
    logs::toolchain(results, &args.name, wanted).map(Some)
}

/// The step that did not pass: on the toolchain that the user named, else the one that decided the verdict. Of the op
/// that is to be repeated, if one is.
fn failed_step<'a>(results: &Results, krate: &'a CrateResults, args: &ShellArgs) -> Result<Option<&'a Step>, Misuse> {
    let place = match named_toolchain(results, args)? {
        Some(toolchain) => compare::first_trouble(krate, toolchain),
        None => compare::judge(krate, results.toolchains.len()).deciding.map(|deciding| deciding.step),
    };
    let step = place.map(|place| &krate.steps[place].0);
    Ok(step.filter(|step| args.run.as_ref().is_none_or(|wanted| step.op.name() == *wanted)))
}

/// The user's ops that ran before a step, and may have changed its sources.
fn before<'a>(krate: &'a CrateResults, step: &Step) -> Vec<&'a Step> {
    let mut before: Vec<&Step> = Vec::new();
    let of_toolchain = krate.steps.iter().map(|(step, _)| step).filter(|earlier| earlier.toolchain == step.toolchain);
    for earlier in of_toolchain.take_while(|earlier| earlier.op != step.op) {
        // Attempts at one op are beside each other.
        if plan::leaves_files(&earlier.op) && before.last().is_none_or(|last| last.op != earlier.op) {
            before.push(earlier);
        }
    }
    before
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
        let (stopper, stop) = stop::channel();
        signals::listen(stopper).context("failed to listen for signals")?;
        let bench = Bench::open(self.home.clone(), Access::Online)?;
        let sandbox = bench.sandbox(&self.experiment.sandbox).await?;
        let registry = bench.registry(self.experiment.as_of.clone())?;
        // Units that the cell compiles stay in it.
        let layers = Vec::new();
        let mut toolchains = self.results.toolchains.clone();
        ops::provide::provide(bench.jobs().dir(), &sandbox, &mut toolchains)?;
        let tools = bench.tools(&self.experiment, sandbox, registry, toolchains, layers);
        let user = tools.sandbox.user();
        let workspace = Workspace::new(bench.jobs().dir(), tools.registry.sources_dir(), user, Removal::at_once())?;
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
        let patched = self.patched()?;
        let environment = |step: &Step| {
            let settings = self.settings();
            Environment::new(&step.op, &self.results.toolchains, step.toolchain, &settings.env)
        };
        let (of_prepare, of_step) = (environment(self.prepare), environment(self.step));
        let earlier: Vec<(&Step, Environment)> =
            before(self.krate, self.step).into_iter().map(|step| (step, environment(step))).collect();
        let order = |step, environment| self.order(step, environment, (lockfile.as_deref(), &patched), stop);
        let prepared = Op::run(tools, workspace, &order(self.prepare, &of_prepare)).await;
        if prepared.outcome != Some(Outcome::Passed) {
            return print(&prepared, out);
        }
        for (earlier, environment) in &earlier {
            let done = Op::run(tools, workspace, &order(earlier, environment)).await;
            let (op, of) = (earlier.op.name(), self.step.op.name());
            if done.outcome != Some(Outcome::Passed) {
                let exit = print(&done, out)?;
                writeln!(out, "`{op}` comes before `{of}` and did not pass, so that `{of}` has no cell to open")?;
                return Ok(exit);
            }
            writeln!(out, "`{op}` ran first, as it did before `{of}`")?;
        }
        let mut order = order(self.step, &of_step);
        if args.run.is_some() {
            return print(&Op::run(tools, workspace, &order).await, out);
        }
        order.limits.timeout = NO_HURRY;
        order.limits.idle_timeout = NO_HURRY;
        let toolchain = self.results.toolchains[self.step.toolchain.unwrap_or_default()].label();
        writeln!(
            out,
            "{} with {toolchain}, in the cell of `{}`{}; leave with `exit`",
            self.krate.krate.id,
            self.step.op.name(),
            self.outcome()
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

    /// The outcome of the step, if it didn't pass.
    fn outcome(&self) -> String {
        let of_step = self.krate.steps.iter().filter(|(step, _)| step.log_id() == self.step.log_id());
        let reason = of_step.filter_map(|(_, result)| result.as_ref()?.outcome.reason()).next();
        reason.map(|reason| format!(" ({})", one_line(&reason))).unwrap_or_default()
    }

    fn settings(&self) -> &CrateSettings {
        self.experiment.crate_settings.get(&self.krate.krate.id.name).unwrap_or(&self.defaults)
    }

    /// The lockfiles of toolchains with patches.
    fn patched(&self) -> anyhow::Result<BTreeMap<usize, Vec<u8>>> {
        let mut patched = BTreeMap::new();
        for (place, toolchain) in self.results.toolchains.iter().enumerate() {
            let key = self.prepare.fingerprint.of_patched(toolchain);
            let lockfile = self.store.lockfile(&self.results.experiment, &key)?;
            patched.extend(lockfile.map(|lockfile| (place, lockfile)));
        }
        Ok(patched)
    }

    fn order<'a>(
        &'a self,
        step: &'a Step,
        environment: &'a Environment,
        (lockfile, patched): (Option<&'a [u8]>, &'a BTreeMap<usize, Vec<u8>>),
        stop: &Stop,
    ) -> Order<'a> {
        let krate = &self.krate.krate;
        let settings = self.settings();
        Order {
            op: &step.op,
            krate,
            toolchain: step.toolchain,
            limits: self.experiment.limits_of(&krate.id.name, &step.op.name()),
            after: None,
            features: &settings.features,
            environment,
            sharing: Sharing::Layers,
            lockfile_mode: self.experiment.lockfile,
            lockfile,
            patched,
            stop: stop.clone(),
            activity: Activity::default(),
        }
    }
}

/// Prints an op's output, as `maar logs` does, and its outcome.
fn print(done: &Done, out: &mut dyn Write) -> anyhow::Result<Exit> {
    terminal::write(&done.output.head, out)?;
    if done.output.dropped > 0 {
        writeln!(out, "\n== {} bytes were not kept", done.output.dropped)?;
    }
    terminal::write(&done.output.tail, out)?;
    let Some(outcome) = &done.outcome else { return Ok(Exit::Stopped) };
    let reason = outcome.reason().map(|reason| format!(": {}", one_line(&reason))).unwrap_or_default();
    writeln!(out, "== {}{reason}", outcome.kind())?;
    Ok(match outcome.kind() {
        OutcomeKind::Passed | OutcomeKind::Skipped => Exit::Fine,
        OutcomeKind::Failed | OutcomeKind::Broken => Exit::Regressed,
        OutcomeKind::Inconclusive | OutcomeKind::Error => Exit::Host,
    })
}
