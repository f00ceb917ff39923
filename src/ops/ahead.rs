//! Compiles a crate's dependencies ahead of the crate, in cells of their own, so that they can be shared.
//!
//! Cargo lists the units of the op's very command. Those that have layers are linked under the op's target folder. The
//! others are compiled round by round, as [`Rounds`] orders them: cargo runs as the op will run it, but what it finds as
//! `rustc` compiles the packages of the round and no others. Units that a cell completes become layers, which later cells
//! and at last the op itself lie over. The crate's own sources are not in these cells.
//!
//! Decides nothing about the crate: whatever goes wrong here, the op compiles the units that are missing.

mod commands;
mod ledger;
mod outline;
mod stand_in;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use semver::Version;

use self::commands::Commands;
pub(crate) use self::ledger::LINE;
use self::ledger::{Ledger, Reason};
use self::outline::Outline;
use crate::cache::{Base, CacheError, Code, Key, Layers, Tally, UnitKey};
use crate::ops::cell::{self, Ahead, CellError};
use crate::ops::workspace::{For, ToolchainDirs, Workspace, WorkspaceError};
use crate::ops::{Environment, Op, Order, Sharing, Tools};
use crate::prebuild::{self, BadUnitGraph, Dependencies, Outcome, Refusal, Round, Rounds, Step, UnitGraph};
use crate::sandbox::{End, Exit, Limits, PRIVATE, Sandbox, Usage, blocking};
use crate::stop::StopLevel;
use crate::toolchain::Toolchain;

/// The first cargo that goes on after a package that doesn't compile.
const KEEPS_GOING: Version = Version::new(1, 74, 0);

/// The op whose flags all layers are made with.
const SHARED: Op = Op::Build;

/// How much of cargo's answers is kept: the largest lists of units have some ten MiB.
const ANSWER: ByteSize = ByteSize::mib(64);

/// Why no layers could be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AheadError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Cell(#[from] CellError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Graph(#[from] BadUnitGraph),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Settings(&'static str),
    #[error("cargo {0} can't go on after a package that is refused; {KEEPS_GOING} and later can")]
    OldCargo(Version),
    #[error("cargo didn't list the units of `{command}`: {}", .line.as_deref().unwrap_or("it printed nothing"))]
    NoAnswer { command: String, line: Option<String> },
    #[error("failed to {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// The lower folder of an op's target folder, and its cost.
pub(super) struct Compiled {
    /// A folder of links to layers.
    pub(super) base: PathBuf,
    /// The op's target folder, which lies over it.
    target: PathBuf,
    usage: Usage,
    /// The fate of each unit so far.
    ledger: Ledger,
    /// Why nothing is shared after all, if so.
    problem: Option<AheadError>,
}

/// The account of compiled dependencies after an op's own command.
pub(super) struct Settled {
    pub(super) usage: Usage,
    pub(super) tally: Tally,
    /// Lines for the op's log.
    pub(super) notes: String,
}

impl Compiled {
    /// Counts the units that the op's own command compiled.
    pub(super) async fn settle(self) -> Settled {
        let Self { base: _, target, usage, ledger, problem } = self;
        let mut notes = ledger.lines();
        notes.extend(problem.map(|error| format!("maar: no compiled dependencies are shared: {error}\n")));
        let tally = blocking(move || ledger.settle(&target)).await.unwrap_or_else(|error| {
            notes.push_str(&format!("maar: compiled dependencies are not counted: {error}\n"));
            Tally::default()
        });
        Settled { usage, tally, notes }
    }
}

/// The layers of each toolchain, in `cache`, for the registry at `index`; none where the sandbox can't lay them.
pub fn layers(
    cache: &Path,
    sandbox: &Sandbox,
    index: &str,
    toolchains: &[Toolchain],
) -> Result<Vec<Layers>, CacheError> {
    match sandbox {
        Sandbox::Native(_) => {
            let key = |place: usize| {
                let environment = Environment::new(&SHARED, toolchains, Some(place), &BTreeMap::new());
                Key::new(&toolchains[place], index, &environment.key())
            };
            (0..toolchains.len()).map(|place| Layers::open(cache, &key(place))).collect()
        }
        // A container is kept from op to op, so that its folders can't be laid anew for each.
        Sandbox::Docker(_) | Sandbox::Unconfined(_) => Ok(Vec::new()),
        #[cfg(test)]
        Sandbox::Fake(_) => Ok(Vec::new()),
    }
}

/// Lays the layers of an op's dependencies, and makes those that are missing. `None`: this crate uses no layers.
pub(super) async fn compile(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
) -> Result<Option<Compiled>, WorkspaceError> {
    // Variables of a crate's own can change what any dependency becomes, and so can its manifest, on a nightly.
    let may_share = order.sharing == Sharing::Layers
        && order.environment.of_crate().is_empty()
        && workspace.read_source(Path::new("Cargo.toml")).is_ok_and(|manifest| prebuild::compiles_as_usual(&manifest));
    let Some(layers) = tools.layers.get(toolchain).filter(|_| may_share) else { return Ok(None) };
    let dirs = workspace.toolchain(toolchain)?;
    workspace.renew(&dirs.base, For::Cells).await?;
    let (path, target) = (dirs.base.clone(), dirs.target.clone());
    let work = Work { tools, workspace, order, toolchain, layers, dirs, began: Instant::now() };
    // Other flags make other units of a dependency, which a base would only be in the way of.
    let shared = Environment::new(&SHARED, &tools.toolchains, Some(toolchain), &BTreeMap::new());
    let mut spent = Spent::default();
    let mut problem = order.environment.unshared().map(AheadError::Settings);
    if problem.is_none() && order.environment.compiles_as(&shared) {
        problem = work.all(&mut spent).await.err();
    }
    if problem.is_some() {
        // Earlier ops wrote into an overlay, so the next one needs a lower folder, too, even an empty one.
        workspace.renew(&path, For::Cells).await?;
    }
    let Spent { usage, ledger } = spent;
    Ok(Some(Compiled { base: path, target, usage, ledger, problem }))
}

/// The dependencies of one op.
struct Work<'a> {
    tools: &'a Tools,
    workspace: &'a Workspace,
    order: &'a Order<'a>,
    toolchain: usize,
    layers: &'a Layers,
    dirs: ToolchainDirs,
    began: Instant,
}

/// The dependencies of a command, and the command that compiles them ahead; none if they are only to be laid.
struct Plan {
    dependencies: Arc<Dependencies>,
    argv: Option<Vec<String>>,
}

/// What it took so far, whatever becomes of it.
#[derive(Debug, Default)]
struct Spent {
    usage: Usage,
    ledger: Ledger,
}

/// How a wait for other ops ended.
enum Waited {
    /// The units of this code set are free.
    Released(Code),
    /// Compiling them alone would not have taken longer.
    LongEnough,
    /// The op has no time left, or everything is to stop.
    CutShort,
}

impl Work<'_> {
    async fn all(&self, spent: &mut Spent) -> Result<(), AheadError> {
        let version = self.tools.toolchains[self.toolchain].cargo_version();
        if *version < KEEPS_GOING {
            return Err(AheadError::OldCargo(version.clone()));
        }
        let Some(commands) = Commands::of(self.order.op, self.order.features) else { return Ok(()) };
        let outline = Outline::of(self.workspace)?;
        self.workspace.renew(&self.dirs.ahead, For::Maar).await?;
        let folder = self.outline();
        self.workspace.renew(&folder, For::Maar).await?;
        outline.write(&folder)?;
        let stand_in = self.stand_in();
        self.workspace.renew(&stand_in, For::Maar).await?;
        stand_in::write(&stand_in)?;

        let Plan { dependencies, argv } = self.plan(&commands, &outline, spent).await?;
        let mut base = Base::new(self.dirs.base.clone(), &self.dirs.target, self.workspace.owner())?;
        self.lay(&dependencies, &mut base).await?;
        spent.ledger.begin(self.layers.clone(), dependencies.units(), &base);
        let filled = match argv {
            Some(argv) => self.fill(&dependencies, &argv, &mut base, spent).await,
            None => Ok(()),
        };
        spent.ledger.lay(&base);
        let layers = self.layers.clone();
        blocking(move || layers.note_uses(&base)).await;
        filled
    }

    /// Lists the units of the op's own command, and finds the command that compiles most of them ahead.
    async fn plan(&self, commands: &Commands, outline: &Outline, spent: &mut Spent) -> Result<Plan, AheadError> {
        let subject = commands.subject(self.order.krate.member(), outline.digest());
        let noted = self.layers.noted(&subject).and_then(|note| {
            let (place, graph) = note.split_once('\n')?;
            Some((place.parse::<usize>().ok()?, UnitGraph::parse(graph).ok()?))
        });
        let (place, graph) = match noted {
            Some(noted) => noted,
            None => {
                let answer = self.ask(&commands.op, spent).await?;
                let graph = UnitGraph::parse(&answer)?;
                let place = self.best(commands, &Dependencies::new(&graph)?, spent).await?;
                self.layers.note(&subject, &format!("{place}\n{answer}"))?;
                (place, graph)
            }
        };
        let argv = commands.ahead.get(place).cloned();
        Ok(Plan { dependencies: Arc::new(Dependencies::new(&graph)?), argv })
    }

    /// The place of the command that compiles most of the op's units.
    async fn best(&self, commands: &Commands, wanted: &Dependencies, spent: &mut Spent) -> Result<usize, AheadError> {
        let mut best = (0, 0);
        for (place, command) in commands.ahead.iter().enumerate() {
            if commands.ahead.len() == 1 || wanted.units().is_empty() {
                break;
            }
            let answer = self.ask(command, spent).await?;
            let covered = wanted.covered_by(&Dependencies::new(&UnitGraph::parse(&answer)?)?);
            if covered > best.1 {
                best = (place, covered);
            }
            if covered == wanted.units().len() {
                break;
            }
        }
        Ok(best.0)
    }

    /// Asks cargo for the units of a command. No package is compiled in the cell.
    async fn ask(&self, argv: &[String], spent: &mut Spent) -> Result<String, AheadError> {
        let (upper, work) = (self.dirs.ahead.join("upper"), self.dirs.ahead.join("work"));
        self.workspace.renew(&upper, For::Cells).await?;
        stand_in::allow(&self.stand_in(), std::iter::empty())?;
        let (outline, stand_in) = (self.outline(), self.stand_in());
        let ahead =
            Ahead { outline: &outline, stand_in: &stand_in, base: None, upper: &upper, work: &work, outside: &[] };
        let exit = self.run(ahead, commands::listing(argv), spent).await?;
        let text = String::from_utf8_lossy(&exit.output.head);
        match prebuild::find(&text).filter(|_| exit.end == End::Code(0) && exit.output.dropped == 0) {
            Some(answer) => Ok(answer.to_owned()),
            None => {
                let is_error = |line: &&str| line.starts_with("error");
                let line = text.lines().map(str::trim).find(is_error).map(str::to_owned);
                Err(AheadError::NoAnswer { command: argv.join(" "), line })
            }
        }
    }

    /// Compiles the units that have no layer.
    async fn fill(
        &self,
        dependencies: &Arc<Dependencies>,
        argv: &[String],
        base: &mut Base,
        spent: &mut Spent,
    ) -> Result<(), AheadError> {
        let claims = self.layers.claims();
        // Units that lie in the target folder already were compiled there because they couldn't be shared, or by an op of
        // the user's own. Layers can't be laid under them.
        let occupied: BTreeSet<UnitKey> = base.occupied(dependencies.units()).cloned().collect();
        spent.ledger.blame(&occupied, &Reason::Occupied);
        let mut rounds = Rounds::new(dependencies.units());
        // The code sets that this op doesn't wait for any longer.
        let mut alone: BTreeSet<Code> = BTreeSet::new();
        while self.rest().is_some() {
            match rounds.next(|unit| base.has(unit)) {
                Step::Done => break,
                Step::Compile(round) => {
                    let in_vain = |unit: &UnitKey| claims.in_vain(&BTreeSet::from([unit.clone()])) > 0;
                    spent.ledger.blame(round.units().filter(|unit| in_vain(unit)), &Reason::InVain);
                    let Some(round) = round.without(|unit| occupied.contains(unit) || in_vain(unit)) else {
                        rounds.record(&round.code, Outcome::InVain);
                        continue;
                    };
                    let code = round.code.clone();
                    let is_alone = alone.contains(&code);
                    let outcome = self.round(round, is_alone, dependencies, argv, base, spent).await?;
                    let Some(outcome) = outcome else { break };
                    rounds.record(&code, outcome);
                }
                Step::Wait(held) => {
                    let in_vain: BTreeMap<&Code, usize> =
                        held.iter().map(|(code, units)| (code, claims.in_vain(units))).collect();
                    let began = Instant::now();
                    let waited = self.wait_for(&held).await;
                    // The op's clock runs while it waits.
                    spent.usage.wall += began.elapsed();
                    match waited {
                        Waited::Released(code) => {
                            self.lay(dependencies, base).await?;
                            let is_in_vain = claims.in_vain(&held[&code]) > in_vain[&code];
                            rounds.record(&code, if is_in_vain { Outcome::InVain } else { Outcome::Released });
                        }
                        Waited::LongEnough => {
                            held.keys().for_each(|code| rounds.record(code, Outcome::Released));
                            alone.extend(held.into_keys());
                        }
                        Waited::CutShort => break,
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until other ops release the units of one of the code sets, but not for longer than this op would take to
    /// compile them alone.
    async fn wait_for(&self, held: &BTreeMap<Code, BTreeSet<UnitKey>>) -> Waited {
        let claims = self.layers.claims();
        let alone = claims.pace().alone(held.values().map(BTreeSet::len).sum());
        let Some(rest) = self.rest() else { return Waited::CutShort };
        tokio::select! {
            code = claims.released(held.iter()) => Waited::Released(code),
            () = self.order.stop.reached(StopLevel::Kill) => Waited::CutShort,
            () = tokio::time::sleep(alone.min(rest)) => Waited::LongEnough,
        }
    }

    /// Compiles one round. `None`: the op has no time left, or everything is to stop.
    async fn round(
        &self,
        round: Round,
        is_alone: bool,
        dependencies: &Arc<Dependencies>,
        argv: &[String],
        base: &mut Base,
        spent: &mut Spent,
    ) -> Result<Option<Outcome>, AheadError> {
        let claim = self.layers.claims().claim(round.units());
        // Another op may have made some since they were looked for.
        self.lay(dependencies, base).await?;
        let missing = |unit: &&UnitKey| !base.has(unit);
        let theirs: BTreeSet<UnitKey> =
            round.units().filter(missing).filter(|unit| !claim.has(unit) && !is_alone).cloned().collect();
        let is_ours = |units: &BTreeSet<UnitKey>| {
            units.iter().any(|unit| !base.has(unit)) && units.iter().all(|unit| !theirs.contains(unit))
        };
        let packages: Vec<&str> =
            round.packages.iter().filter(|(_, units)| is_ours(units)).map(|(package, _)| package.as_str()).collect();
        if packages.is_empty() {
            return Ok(Some(if theirs.is_empty() { Outcome::Compiled } else { Outcome::Held(theirs) }));
        }
        stand_in::allow(&self.stand_in(), packages.into_iter())?;
        let taken = self.cell(&round, dependencies, argv, base, spent).await?;
        // What is laid by now was not compiled in vain, whoever compiled it.
        let laid: BTreeSet<UnitKey> = round.units().filter(|unit| base.has(unit)).cloned().collect();
        if taken.is_some() || self.order.stop.level() < StopLevel::Kill {
            claim.came_to(&laid);
        }
        if taken.is_none() {
            spent.ledger.blame(round.units().filter(|unit| !base.has(unit)), &Reason::CutShort);
        }
        Ok(taken.map(|()| if theirs.is_empty() { Outcome::Compiled } else { Outcome::Held(theirs) }))
    }

    /// Compiles what the stand-in allows of a round, in a new cell in which only packages of its code set run code, and
    /// takes in the units that it completes. `None`: it was cut short.
    async fn cell(
        &self,
        round: &Round,
        dependencies: &Arc<Dependencies>,
        argv: &[String],
        base: &mut Base,
        spent: &mut Spent,
    ) -> Result<Option<()>, AheadError> {
        let [upper, work, lower] = ["upper", "work", "base"].map(|name| self.dirs.ahead.join(name));
        for folder in [&upper, &work, &lower] {
            self.workspace.renew(folder, For::Cells).await?;
        }
        let around = self.dirs.ahead.join("outside");
        self.workspace.renew(&around, For::Maar).await?;
        let outside: Vec<PathBuf> = (0..PRIVATE.len()).map(|place| around.join(place.to_string())).collect();
        for folder in &outside {
            self.workspace.renew(folder, For::Cells).await?;
        }
        let code = round.code.clone();
        let wanted: BTreeSet<UnitKey> = round.units().cloned().collect();
        let (layers, all, laid, to) = (self.layers.clone(), Arc::clone(dependencies), base.clone(), lower.clone());
        let under = blocking(move || layers.lay_for((&code, &wanted), all.units(), &laid, &to)).await?;

        let (outline, stand_in) = (self.outline(), self.stand_in());
        let ahead = Ahead {
            outline: &outline,
            stand_in: &stand_in,
            base: Some(&lower),
            upper: &upper,
            work: &work,
            outside: &outside,
        };
        let exit = self.run(ahead, commands::reporting(argv), spent).await?;
        // Only a cargo that came to its own end has left nothing half written.
        if !matches!(exit.end, End::Code(_)) {
            return Ok(None);
        }
        let (layers, dependencies, code) = (self.layers.clone(), Arc::clone(dependencies), round.code.clone());
        let mut laid = base.clone();
        let (taken, laid) = blocking(move || {
            let text = String::from_utf8_lossy(&exit.output.head);
            let artifacts = prebuild::artifacts(&text, Path::new(cell::TARGET));
            let known = laid.units().map(|(unit, name)| (unit.clone(), name.to_owned())).collect();
            let fingerprint = |unit: &str| Layers::fingerprint(&laid, &upper, unit);
            let made = prebuild::identify(&dependencies, &artifacts, &known, fingerprint);
            let outside: Vec<(PathBuf, &str)> = outside.into_iter().zip(PRIVATE).collect();
            let taken = layers.take(made, (&code, dependencies.units()), (&under, &upper, &outside), &mut laid)?;
            Ok::<_, CacheError>((taken, laid))
        })
        .await?;
        let reason = taken.stranger.map_or(Reason::NotCompleted, Reason::Stranger);
        spent.ledger.blame(round.units().filter(|unit| !laid.has(unit)), &reason);
        spent.ledger.compiled += taken.units.len();
        *base = laid;
        Ok(Some(()))
    }

    async fn lay(&self, dependencies: &Arc<Dependencies>, base: &mut Base) -> Result<(), AheadError> {
        let (layers, dependencies, mut laid) = (self.layers.clone(), Arc::clone(dependencies), base.clone());
        *base = blocking(move || layers.lay(dependencies.units(), &mut laid).map(|()| laid)).await?;
        Ok(())
    }

    async fn run(&self, ahead: Ahead<'_>, argv: Vec<String>, spent: &mut Spent) -> Result<Exit, AheadError> {
        let Self { tools, workspace, order, toolchain, .. } = self;
        let timeout = self.rest().unwrap_or_default();
        let limits = Limits { timeout, output: ANSWER * 2_u64, ..order.limits };
        let order = Order { limits, ..(*order).clone() };
        let exit = cell::run_ahead(tools, workspace, &order, *toolchain, ahead, argv).await?;
        spent.usage = cell::sum(spent.usage, exit.usage);
        Ok(exit)
    }

    /// The time that the op has left to compile ahead; `None`: none.
    fn rest(&self) -> Option<Duration> {
        self.order.limits.timeout.checked_sub(self.began.elapsed()).filter(|rest| !rest.is_zero())
    }

    /// Where the stand-in for rustc is, outside of cells.
    fn stand_in(&self) -> PathBuf {
        self.dirs.ahead.join("bin")
    }

    /// Where the outline of the crate is, outside of cells.
    fn outline(&self) -> PathBuf {
        self.dirs.ahead.join("crate")
    }
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AheadError {
    let path = path.to_owned();
    move |source| AheadError::Io { what, path, source }
}
