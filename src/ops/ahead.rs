//! Compiles a crate's dependencies ahead of the crate, in cells of their own, so that they can be shared.
//!
//! Cargo is run as the op will run it, but what it finds as `rustc` refuses all packages but a few: first those that
//! run no code at all, then, in a new cell each time, those that run the same code. What a cell completes becomes
//! layers, which later cells and at last the op itself lie over. The crate's own code is refused in all of them. Between
//! them cargo is asked what is next, and at last what of the layers it uses.
//!
//! Decides nothing about the crate: whatever goes wrong here, the op compiles what is missing.

mod messages;
mod stand_in;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{fmt, io};

use semver::Version;
use sha2::{Digest, Sha256};

use crate::cache::{self, Base, CacheError, Claim, Code, Graph, Key, Layers, Tally};
use crate::ops::cell::{self, Ahead, CellError};
use crate::ops::workspace::{For, ToolchainDirs, Workspace, WorkspaceError};
use crate::ops::{Features, Op, Order, Sharing, Tools, blocking};
use crate::registry::lockfile::{Lockfile, LockfileError};
use crate::sandbox::{Door, End, Exit, Sandbox, Usage};
use crate::stop::StopLevel;
use crate::toolchain::Toolchain;

/// The first cargo that goes on after a package that doesn't compile.
const KEEPS_GOING: Version = Version::new(1, 74, 0);

/// The op whose flags all layers are made with.
const SHARED: Op = Op::Build;

/// Where cargo keeps in a target folder what rustc told of itself: asking takes longer than all else that cargo does.
const RUSTC_INFO: &str = ".rustc_info.json";

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
    Lockfile(#[from] LockfileError),
    #[error("failed to {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// What an op lies over, and what that cost.
pub(super) struct Compiled {
    /// A folder of links to layers.
    pub(super) base: PathBuf,
    pub(super) usage: Usage,
    pub(super) tally: Tally,
    /// Why nothing is shared after all, if so.
    pub(super) problem: Option<AheadError>,
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
            let key = |toolchain| Key::new(toolchain, index, SHARED.build_env(toolchains));
            toolchains.iter().map(|toolchain| Layers::open(cache, &key(toolchain))).collect()
        }
        // A container is kept from op to op, so that its folders can't be laid anew for each.
        Sandbox::Docker(_) | Sandbox::Unconfined(_) => Ok(Vec::new()),
        #[cfg(test)]
        Sandbox::Fake(_) => Ok(Vec::new()),
    }
}

/// Lays what is there for an op, and compiles what isn't. `None`: this crate uses no layers.
pub(super) async fn compile(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
) -> Result<Option<Compiled>, WorkspaceError> {
    // Variables of a crate's own can change what any dependency becomes, and so can its manifest, on a nightly.
    let may_share = order.sharing == Sharing::Layers
        && order.env.is_empty()
        && workspace.read_source(Path::new("Cargo.toml")).is_ok_and(|manifest| cache::compiles_as_usual(&manifest));
    let Some(layers) = tools.layers.get(toolchain).filter(|_| may_share) else { return Ok(None) };
    let dirs = workspace.toolchain(toolchain)?;
    workspace.renew(&dirs.base, For::Cells)?;
    let path = dirs.base.clone();
    let work = Work { tools, workspace, order, toolchain, layers, dirs };
    // What other flags make of a dependency is another thing, which a base would only be in the way of.
    let build_env = |op: &Op| op.build_env(&tools.toolchains);
    let mut spent = Spent::default();
    let mut problem = None;
    if build_env(order.op).eq(build_env(&SHARED)) {
        problem = work.all(&mut spent).await.err();
    }
    if problem.is_some() {
        // What earlier ops wrote over a base is no folder of its own: the next one needs a base, too, if an empty one.
        workspace.renew(&path, For::Cells)?;
    }
    let Spent { usage, tally } = spent;
    Ok(Some(Compiled { base: path, usage, tally, problem }))
}

/// The command that compiles what an op's own command will need, and says what of it is fresh.
fn argv(op: &Op, features: &Features) -> Option<Vec<String>> {
    let what: &[&str] = match op {
        Op::Build => &["build"],
        // `cargo test` itself would stop at the first package that is refused. With examples and benches, all would be
        // compiled a second time for crates whose profile has `panic = "abort"`, which tests don't.
        Op::BuildTests | Op::Test | Op::Retest(_) => &["build", "--tests"],
        Op::Check => &["check", "--all-targets"],
        Op::Doc => &["check"],
        Op::Prepare | Op::Clippy | Op::Command(_) => return None,
    };
    let how = ["--frozen", "--keep-going", "--verbose", "--color=never"];
    let argv = ["cargo"].iter().chain(what).chain(&how).map(|&arg| arg.to_owned());
    Some(argv.chain(features.flags()).collect())
}

/// What a note is about: the same crate, lockfile and command have the same dependencies.
fn subject(workspace: &Workspace, member: &Path, argv: &[String]) -> Result<String, AheadError> {
    let mut digest = Sha256::new();
    for name in [Path::new("Cargo.toml"), Path::new("Cargo.lock"), &member.join("Cargo.toml")] {
        let text = workspace.read_source(name).map_err(at("read", &workspace.source().join(name)))?;
        digest.update(name.as_os_str().as_encoded_bytes());
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    argv.iter().for_each(|arg| digest.update(format!("{arg}\0")));
    Ok(digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// Whether everything was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Completion {
    Whole,
    /// As far as others shared what they compiled, or what lies in the target folder already lets it be shared.
    Partial,
    /// A limit was hit, or everything is to stop.
    CutShort,
}

/// The dependencies of one op.
struct Work<'a> {
    tools: &'a Tools,
    workspace: &'a Workspace,
    order: &'a Order<'a>,
    toolchain: usize,
    layers: &'a Layers,
    dirs: ToolchainDirs,
}

/// How far the work on them is.
struct Progress<'a> {
    graph: Arc<Graph>,
    base: Base,
    /// The hashes of the units that cargo found when it last looked at everything; none if it isn't known.
    used: Option<BTreeSet<String>>,
    spent: &'a mut Spent,
}

/// What somebody else is compiling, and how much of it had been compiled in vain when this op began to wait.
struct Held {
    packages: BTreeSet<String>,
    in_vain: usize,
}

/// What it took so far, whatever becomes of it.
#[derive(Debug, Default)]
struct Spent {
    usage: Usage,
    tally: Tally,
}

impl Work<'_> {
    async fn all(&self, spent: &mut Spent) -> Result<(), AheadError> {
        let (graph, base) = self.lay().await?;
        let mut progress = Progress { graph, base, used: None, spent };
        let Self { tools, workspace, order, layers, .. } = self;
        let keeps_going = tools.toolchains[self.toolchain].version >= KEEPS_GOING;
        let argv = argv(order.op, order.features).filter(|_| keeps_going && !progress.graph.is_empty());
        let Some(argv) = argv else {
            let (layers, base) = ((*layers).clone(), progress.base);
            blocking(move || layers.note_uses(&base)).await;
            return Ok(());
        };
        let subject = subject(workspace, order.krate.member(), &argv)?;
        let note = layers.noted(&subject, &progress.base).and_then(|note| Note::parse(&note));
        let is_noted = note.is_some();
        let mut completion = Completion::Whole;
        match note {
            Some(Note { packages, used }) => {
                progress.spent.tally.reused = packages;
                progress.used = Some(used);
            }
            None => completion = self.compile(&argv, &mut progress).await?,
        }
        let tally = progress.spent.tally;
        // What was compiled since cargo was last asked isn't in its answer.
        let used = progress.used.filter(|_| completion != Completion::CutShort);
        let note = used.map(|used| Note { packages: tally.reused + tally.compiled, used });
        let (layers, mut base) = ((*layers).clone(), progress.base);
        let is_new = !is_noted && completion == Completion::Whole;
        blocking(move || {
            if let Some(note) = &note {
                layers.keep_used(&note.used, &mut base)?;
            }
            layers.note_uses(&base);
            if let Some(note) = note.filter(|_| is_new) {
                layers.note(&subject, &base, &note.to_string())?;
            }
            layers.count(tally)
        })
        .await?;
        Ok(())
    }

    /// Lays what is there.
    async fn lay(&self) -> Result<(Arc<Graph>, Base), AheadError> {
        let path = self.workspace.source().join("Cargo.lock");
        let lockfile = self.workspace.read_source(Path::new("Cargo.lock")).map_err(at("read", &path))?;
        let lockfile = Lockfile::parse(&lockfile, &path)?;
        let (vendor, layers, dirs) = (self.workspace.vendor(), self.layers.clone(), self.dirs.clone());
        let owner = self.workspace.owner();
        let laid = blocking(move || {
            let graph = Arc::new(Graph::new(&lockfile, &vendor));
            let mut base = Base::new(dirs.base, &dirs.target, owner)?;
            layers.lay(&graph, &mut base)?;
            Ok::<_, CacheError>((graph, base))
        });
        Ok(laid.await?)
    }

    /// Compiles what isn't.
    async fn compile(&self, argv: &[String], progress: &mut Progress<'_>) -> Result<Completion, AheadError> {
        self.workspace.renew(&self.dirs.ahead, For::Maar)?;
        let stand_in = stand_in(&self.dirs);
        self.workspace.renew(&stand_in, For::Maar)?;
        stand_in::write(&stand_in)?;
        let begun = Instant::now();
        // Less code comes first: what a package needs has no more of it than the package itself.
        let mut ahead: BTreeSet<(usize, Code)> = BTreeSet::new();
        let mut tried: BTreeSet<Code> = BTreeSet::new();
        let mut held: BTreeMap<Code, Held> = BTreeMap::new();
        let claims = self.layers.claims();
        // An op of the user's own may have compiled dependencies: those can't be laid, whoever compiles them again.
        let is_occupied = progress.base.is_occupied_by(&progress.graph);
        let mut completion = if is_occupied { Completion::Partial } else { Completion::Whole };
        loop {
            let code = ahead.pop_first().map(|(_, code)| code);
            let claim = code.as_ref().map(|code| claims.claim(progress.graph.with_code(code)));
            let exit = self.one(code.as_ref().zip(claim.as_ref()), argv, progress).await?;
            progress.spent.usage = cell::sum(progress.spent.usage, exit.usage);
            if !matches!(exit.end, End::Code(_)) || begun.elapsed() > self.order.limits.timeout {
                return Ok(Completion::CutShort);
            }
            let text = String::from_utf8_lossy(&exit.output.head);
            let mut refused: BTreeSet<&str> = messages::refused(&text).collect();
            if let (Some(code), Some(claim)) = (&code, &claim) {
                // What was refused although it was its turn is somebody else's at the moment.
                let theirs = progress.graph.with_code(code).filter(|package| refused.contains(package));
                let theirs: BTreeSet<String> =
                    theirs.filter(|package| !claim.has(package)).map(str::to_owned).collect();
                if theirs.is_empty() {
                    tried.insert(code.clone());
                } else {
                    let in_vain = claims.in_vain(&theirs);
                    held.insert(code.clone(), Held { packages: theirs, in_vain });
                }
                let compiled = messages::compiled(&text).filter(|package| !is_occupied && claim.has(package));
                claim.was_in_vain(compiled.filter(|package| !progress.base.has(package)));
                // Whether more of a package is needed than what is laid, a look at everything tells.
                refused.retain(|package| !progress.base.has(package));
            } else {
                // Of all that was there, this op has compiled some.
                let fresh = messages::fresh(&text, &progress.graph);
                progress.spent.tally.reused = fresh.saturating_sub(progress.spent.tally.compiled);
                progress.used = (exit.output.dropped == 0).then(|| messages::used(&text));
            }
            drop(claim);
            let codes = refused.iter().filter_map(|package| progress.graph.code(package));
            let codes = codes.filter(|code| !tried.contains(*code) && !held.contains_key(*code));
            ahead.extend(codes.map(|code| (code.len(), code.clone())));
            if ahead.is_empty() && code.is_none() {
                if held.is_empty() {
                    return Ok(completion);
                }
                let Some((code, of)) = self.wait_for(&mut held, progress).await? else {
                    return Ok(Completion::CutShort);
                };
                // What needs what was held could not be compiled when it was its turn.
                tried.retain(|other| !other.is_superset(&code));
                if claims.in_vain(&of.packages) > of.in_vain {
                    // What they could not share this op could not either, most likely: its own command compiles it.
                    tried.insert(code);
                    completion = Completion::Partial;
                } else {
                    ahead.insert((code.len(), code));
                }
            }
        }
    }

    /// Waits until others have compiled what they hold of some code, lays that, and says of which code. `None`: that took
    /// longer than an op may take, or everything is to stop.
    async fn wait_for(
        &self,
        held: &mut BTreeMap<Code, Held>,
        progress: &mut Progress<'_>,
    ) -> Result<Option<(Code, Held)>, AheadError> {
        let groups = held.iter().map(|(code, of)| (code, &of.packages));
        let code = tokio::select! {
            code = self.layers.claims().released(groups) => code,
            () = self.order.stop.reached(StopLevel::Kill) => return Ok(None),
            () = tokio::time::sleep(self.order.limits.timeout) => return Ok(None),
        };
        let of = held.remove(&code).expect("it is one of those");
        let (layers, graph, mut base) = (self.layers.clone(), Arc::clone(&progress.graph), progress.base.clone());
        progress.base = blocking(move || layers.lay(&graph, &mut base).map(|()| base)).await?;
        Ok(Some((code, of)))
    }

    /// Compiles the claimed packages, which run exactly this code, in a new cell, as far as what they need is there; with
    /// nothing claimed, only finds out what is next.
    async fn one(
        &self,
        claimed: Option<(&Code, &Claim)>,
        argv: &[String],
        progress: &mut Progress<'_>,
    ) -> Result<Exit, AheadError> {
        let Self { tools, workspace, order, toolchain, layers, dirs } = self;
        let (stand_in, upper, work) = (stand_in(dirs), dirs.ahead.join("upper"), dirs.ahead.join("work"));
        let lower = dirs.ahead.join("base");
        workspace.renew(&upper, For::Cells)?;
        workspace.renew(&work, For::Cells)?;
        if let Some(info) = layers.rustc_info() {
            let written = Door::open(&upper).and_then(|door| door.write(RUSTC_INFO, info, None));
            written.map_err(at("write", &upper.join(RUSTC_INFO)))?;
        }
        stand_in::allow(&stand_in, claimed.iter().flat_map(|(_, claim)| claim.packages()))?;
        let Some((code, _)) = claimed else {
            // Whatever runs here, nothing is taken.
            let ahead = Ahead { stand_in: &stand_in, base: progress.base.dir(), upper: &upper, work: &work };
            let argv = argv.iter().cloned().chain([messages::AS_JSON.to_owned()]).collect();
            return Ok(cell::run_ahead(tools, workspace, order, *toolchain, ahead, argv).await?);
        };
        workspace.renew(&lower, For::Cells)?;
        let (of_key, own, base, dir) = ((*layers).clone(), code.clone(), progress.base.clone(), lower.clone());
        blocking(move || of_key.lay_for(&own, &base, &dir)).await?;
        let ahead = Ahead { stand_in: &stand_in, base: &lower, upper: &upper, work: &work };
        let exit = cell::run_ahead(tools, workspace, order, *toolchain, ahead, argv.to_vec()).await?;
        // Only a cargo that came to its own end has left nothing half written.
        if matches!(exit.end, End::Code(_)) {
            let (layers, graph, code) = ((*layers).clone(), Arc::clone(&progress.graph), code.clone());
            let mut base = progress.base.clone();
            // Nobody but cargo and rustc ran there.
            if code.is_empty() {
                layers.learn_rustc_info(&upper, RUSTC_INFO);
            }
            let taken = blocking(move || Ok::<_, CacheError>((layers.take(&graph, &code, &upper, &mut base)?, base)));
            let (taken, base) = taken.await?;
            progress.spent.tally.compiled += taken;
            progress.base = base;
        }
        Ok(exit)
    }
}

/// Where the stand-in for rustc is, outside of cells.
fn stand_in(dirs: &ToolchainDirs) -> PathBuf {
    dirs.ahead.join("bin")
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AheadError {
    let path = path.to_owned();
    move |source| AheadError::Io { what, path, source }
}

/// What is known of an op's dependencies when all that can be shared is there.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    packages: usize,
    /// The hashes of the units that cargo uses.
    used: BTreeSet<String>,
}

impl Note {
    fn parse(text: &str) -> Option<Self> {
        let (packages, used) = text.split_once(':')?;
        Some(Self { packages: packages.parse().ok()?, used: used.split_whitespace().map(str::to_owned).collect() })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.packages)?;
        self.used.iter().try_for_each(|hash| write!(f, " {hash}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = Note { packages: 7, used: ["a", "b"].map(str::to_owned).into() };
        assert_eq!(Note::parse(&note.to_string()), Some(note));
        let nothing = Note { packages: 0, used: BTreeSet::new() };
        assert_eq!(Note::parse(&nothing.to_string()), Some(nothing));
        // As an older maar wrote it.
        assert_eq!(Note::parse("7"), None);
    }
}
