//! `prepare`: everything that needs the network, once per crate, for all toolchains. cargo has none but the gate.
//!
//! Sources are fetched and unpacked, whatever would redirect the build is dropped, one lockfile is made, and every
//! dependency is put where the later ops find it offline. Runs no code of the crate.

mod unusable;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::Tally;
use crate::krate::Origin;
use crate::ops::cell::{self, CellError};
use crate::ops::classify::{self, plain_text};
use crate::ops::patched::{self, Resolved};
use crate::ops::withheld::LeftOut;
use crate::ops::workspace::{self, Workspace};
use crate::ops::{Done, LockfileMode, Order, Tools, is_short_of_space};
use crate::outcome::{Breakage, Cause, Outcome};
use crate::registry::lockfile::{Lockfile, LockfileError};
use crate::registry::tree::copy_tree;
use crate::registry::{BadChecksum, Denial, Gate, Package, RegistryError};
use crate::sandbox::{Door, Doubt, Exit, Found, Limits, Network, Output, blocking};
use crate::stop::StopLevel;
use crate::toolchain::Toolchain;

/// What keeps a crate from being prepared, other than a cargo that says no.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Checksum(#[from] BadChecksum),
    #[error(transparent)]
    Lockfile(#[from] LockfileError),
    #[error(transparent)]
    Cell(#[from] CellError),
    #[error("failed to {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} is not in the registry")]
    Missing(String),
    #[error("its workspace is another folder (`package.workspace`): cargo leaves no Cargo.lock beside its manifest")]
    NoLockfile,
    #[error("stopped")]
    Stopped,
    #[error("not done after {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
}

/// The files of a package's folder that would redirect its build: to another compiler, registry or target folder.
const REDIRECTING: [&str; 4] = [".cargo/config", ".cargo/config.toml", "rust-toolchain", "rust-toolchain.toml"];

pub(super) async fn run(tools: &Tools, workspace: &Workspace, order: &Order<'_>) -> Done {
    let mut transcript = Transcript::default();
    let result = prepare(tools, workspace, order, &mut transcript).await;
    let mut doubt = None;
    let mut patched = BTreeMap::new();
    let (outcome, lockfile) = match result {
        Ok(Prepared::Ready(lockfile, of_patched)) => {
            patched = of_patched;
            (Some(Outcome::Passed), Some(lockfile))
        }
        Ok(Prepared::Refused(outcome)) => {
            doubt = transcript.exit.as_ref().and_then(|exit| exit.doubt);
            (outcome, None)
        }
        Err(PrepareError::Stopped) => (None, None),
        Err(error) => {
            transcript.note(&format!("maar: {error}"));
            doubt = is_short_of_space(&error).then_some(Doubt::ShortDisk);
            (Some(blame(error)), None)
        }
    };
    let (usage, output) = match transcript.exit {
        Some(exit) => (exit.usage, exit.output),
        None => (crate::sandbox::Usage::default(), Output { head: transcript.notes, ..Output::default() }),
    };
    Done { outcome, usage, output, lockfile, patched, dependencies: Tally::default(), doubt, tests: None }
}

enum Prepared {
    /// All is in place; the lockfile's text, and those of toolchains with patches.
    Ready(Vec<u8>, BTreeMap<usize, Vec<u8>>),
    /// cargo could not resolve it, or was stopped.
    Refused(Option<Outcome>),
}

async fn prepare(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    transcript: &mut Transcript,
) -> Result<Prepared, PrepareError> {
    let clock = Clock::start(order);
    let links = clock.within(place_sources(tools, workspace, order, &workspace.source())).await?;
    place_certificates(tools, workspace)?;
    let source = workspace.source_door().map_err(at("open", &workspace.source()))?;
    workspace.set_left_out(LeftOut::look(&source, &order.krate.origin, order.lockfile_mode, &REDIRECTING, links));
    drop_redirections(&workspace.source(), order.krate.member())?;
    let path = workspace.source().join("Cargo.lock");
    if let Some(saved) = order.lockfile {
        let door = workspace.source_door().map_err(at("open", &path))?;
        // A package may have a folder of that name.
        door.remove(Path::new("Cargo.lock")).map_err(at("remove", &path))?;
        door.write("Cargo.lock", saved, workspace.owner()).map_err(at("write", &path))?;
    } else {
        if order.lockfile_mode == LockfileMode::Latest {
            let removed = workspace.source_door().and_then(|door| door.remove(Path::new("Cargo.lock")));
            removed.map_err(at("remove", &path))?;
        }
        configure(workspace, &through_the_gate(), Network::Outlet)?;
        match resolve(tools, workspace, &clock, transcript).await? {
            Some(Outcome::Passed) => {}
            refused => return Ok(Prepared::Refused(refused)),
        }
    }
    let text = workspace.read_source(Path::new("Cargo.lock")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PrepareError::NoLockfile,
        _ => at("read", &path)(error),
    })?;
    let lockfile = Lockfile::parse(&text, Path::new("Cargo.lock"))?;
    let vendored = clock.within(async { Ok(tools.registry.vendor(&lockfile, &workspace.vendor()).await?) }).await?;
    if lockfile.has_foreign_sources() {
        configure(workspace, VENDORED, Network::Outlet)?;
        let argv = ["cargo", "fetch", "--locked"].map(str::to_owned).to_vec();
        let outcome = resolve_once(tools, workspace, &clock, newest(tools), argv, transcript).await?;
        if outcome != Some(Outcome::Passed) {
            return Ok(Prepared::Refused(outcome));
        }
    }
    configure(workspace, VENDORED, Network::Loopback)?;
    // On the heap: few crates come here, and the state of a cell is large.
    let settled = Box::pin(unusable::settle(tools, workspace, &clock, &lockfile, vendored, transcript));
    if let Some(outcome) = settled.await? {
        return Ok(Prepared::Refused(Some(outcome)));
    }
    let source = workspace.source();
    workspace.make_target(&source).map_err(at("make", &source.join("target")))?;
    let text = workspace.read_source(Path::new("Cargo.lock")).map_err(at("read", &path))?;
    let mut patched = BTreeMap::new();
    let places = (0..tools.toolchains.len()).filter(|place| !tools.toolchains[*place].patches.is_empty());
    for place in places {
        let made = Box::pin(prepare_patched(tools, workspace, &clock, place, (&text, &lockfile), transcript)).await?;
        patched.extend(made.map(|made| (place, made)));
    }
    Ok(Prepared::Ready(text.into_bytes(), patched))
}

/// Makes sources with a lockfile of its own for a toolchain with patches, and returns the lockfile. `None`: the patches
/// are not in the build, which is noted.
async fn prepare_patched(
    tools: &Tools,
    workspace: &Workspace,
    clock: &Clock<'_>,
    place: usize,
    (shared_text, shared): (&str, &Lockfile),
    transcript: &mut Transcript,
) -> Result<Option<Vec<u8>>, PrepareError> {
    let order = clock.order;
    let source = workspace.patched_source(place);
    clock.within(place_sources(tools, workspace, order, &source)).await?;
    drop_redirections(&source, order.krate.member())?;
    let saved = order.patched.get(&place);
    patched::write(workspace, place, saved.map_or(shared_text.as_bytes(), Vec::as_slice))?;
    let note = |outcome: Outcome| {
        workspace.note_unpatched(place, &outcome).map_err(at("write", &workspace.cargo()))?;
        Ok(None)
    };
    let result = async {
        if saved.is_none() {
            configure(workspace, &through_the_gate(), Network::Outlet)?;
        }
        let work = (tools, workspace, clock);
        let lockfile = match patched::resolve(work, place, shared, saved.is_some(), transcript).await? {
            Resolved::Patched(lockfile) => lockfile,
            Resolved::Unpatched(outcome) => return Ok(Err(outcome)),
        };
        let vendor = workspace.vendor();
        let vendored = async { Ok(tools.registry.vendor_beside(&lockfile, shared, &vendor).await?) };
        let vendored = clock.within(vendored).await?;
        if let Some(outcome) = vendored.unusable.values().next() {
            let why = outcome.reason().unwrap_or_default();
            return Ok(Err(patched::unpatched(format!("the patch needs a package that can't be used: {why}"))));
        }
        if lockfile.has_foreign_sources() {
            configure(workspace, VENDORED, Network::Outlet)?;
            if let Some(outcome) = patched::fetch((tools, workspace, clock), place, transcript).await? {
                return Ok(Err(outcome));
            }
        }
        Ok::<_, PrepareError>(Ok(()))
    };
    let result = Box::pin(result).await;
    configure(workspace, VENDORED, Network::Loopback)?;
    if let Err(outcome) = result? {
        return note(outcome);
    }
    workspace.make_target(&source).map_err(at("make", &source.join("target")))?;
    let path = source.join("Cargo.lock");
    let text = workspace::read_below(&source, Path::new("Cargo.lock")).map_err(at("read", &path))?;
    Ok(Some(text.into_bytes()))
}

/// The registry as cells of `prepare` see it.
fn through_the_gate() -> String {
    format!("replace-with = \"maar\"\n\n[source.maar]\nregistry = \"{}\"", Gate::registry_url())
}

/// Returns the paths below a folder of the user's that were left out, because they lead out of it or are no files.
async fn place_sources(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    source: &Path,
) -> Result<Vec<PathBuf>, PrepareError> {
    let (source, owner) = (source.to_owned(), workspace.owner());
    match (&order.krate.origin, &order.krate.id.version) {
        (Origin::Registry { checksum }, Some(version)) => {
            let name = order.krate.id.name.clone();
            let package = Package { name, version: version.clone(), checksum: checksum.parse()? };
            tools.registry.unpack(&package, &source, owner).await?;
            Ok(Vec::new())
        }
        (Origin::Path { dir, .. }, _) => {
            let dir = dir.clone();
            Ok(blocking(move || copy_tree(&dir, &source, owner)).await.map_err(RegistryError::from)?)
        }
        (
            Origin::Registry { .. }
            | Origin::Missing(_)
            | Origin::Unusable(_)
            | Origin::Skipped { .. }
            | Origin::Unavailable(_),
            _,
        ) => Err(PrepareError::Missing(order.krate.id.to_string())),
    }
}

/// Makes `Cargo.lock` with the oldest toolchain that can read the manifest, because newer ones read older lockfiles
/// and not the other way round.
async fn resolve(
    tools: &Tools,
    workspace: &Workspace,
    clock: &Clock<'_>,
    transcript: &mut Transcript,
) -> Result<Option<Outcome>, PrepareError> {
    let mut oldest_first: Vec<&Toolchain> = tools.toolchains.iter().collect();
    oldest_first.sort_by(|a, b| a.cargo_version().cmp(b.cargo_version()));
    oldest_first.dedup_by(|a, b| a.cargo_path() == b.cargo_path());
    let mut outcome = None;
    for toolchain in oldest_first {
        // Keeps what a packaged lockfile says and adds only what it lacks; makes a new one where there is none.
        let argv = ["cargo", "update", "--workspace"].map(str::to_owned).to_vec();
        outcome = resolve_once(tools, workspace, clock, toolchain, argv, transcript).await?;
        match &outcome {
            // Another cargo may know the manifest's keys, the lockfile's version or the protocol of the registry.
            Some(Outcome::Broken(_)) => {}
            Some(_) | None => break,
        }
    }
    Ok(outcome)
}

/// Runs one cargo command in the time that the op has left, and judges it.
async fn resolve_once(
    tools: &Tools,
    workspace: &Workspace,
    clock: &Clock<'_>,
    toolchain: &Toolchain,
    argv: Vec<String>,
    transcript: &mut Transcript,
) -> Result<Option<Outcome>, PrepareError> {
    let order = clock.rest()?;
    let source = workspace.source();
    let (exit, denials) = Box::pin(cell::resolve(tools, workspace, &order, (toolchain, &source), argv)).await?;
    let outcome = classify::of_resolution(exit.end, &exit.output, &denials, &clock.order.limits);
    let outcome = outcome.map(|outcome| workspace.left_out().annotate(outcome, &exit.output));
    transcript.append(exit);
    for denial in denials {
        let line = match denial {
            Denial::Refused { .. } => denial.to_string(),
            Denial::Unreachable { .. } => format!("maar: {denial}"),
        };
        transcript.note(&line);
    }
    Ok(outcome)
}

/// The time of a whole `prepare`, however many commands and downloads it takes.
pub(super) struct Clock<'a> {
    order: &'a Order<'a>,
    deadline: Instant,
}

impl<'a> Clock<'a> {
    fn start(order: &'a Order<'a>) -> Self {
        Self { order, deadline: Instant::now() + order.limits.timeout }
    }

    /// The order with the time that is left.
    pub(super) fn rest(&self) -> Result<Order<'a>, PrepareError> {
        let timeout = self.deadline.saturating_duration_since(Instant::now());
        if timeout.is_zero() {
            return Err(PrepareError::TimedOut(self.order.limits.timeout));
        }
        let limits = Limits { timeout, ..self.order.limits };
        Ok(Order { limits, ..self.order.clone() })
    }

    /// Ends work of maar's own with the run and with the op's time. Commands in cells end by themselves.
    async fn within<T>(&self, work: impl Future<Output = Result<T, PrepareError>>) -> Result<T, PrepareError> {
        tokio::select! {
            result = work => result,
            () = self.order.stop.reached(StopLevel::Kill) => Err(PrepareError::Stopped),
            () = tokio::time::sleep_until(self.deadline) => Err(PrepareError::TimedOut(self.order.limits.timeout)),
        }
    }
}

/// Puts the certificates that the user's cargo trusts where the cell's cargo finds them.
fn place_certificates(tools: &Tools, workspace: &Workspace) -> Result<(), PrepareError> {
    let Some(file) = tools.registry.ca_file() else { return Ok(()) };
    let path = workspace.cargo_home().join(cell::CA_FILE);
    let certificates = fs::read(file).map_err(at("read certificates from", file))?;
    let written = Door::open(&workspace.cargo_home())
        .and_then(|door| door.write(cell::CA_FILE, &certificates, workspace.owner()));
    written.map_err(at("write certificates to", &path))
}

fn newest(tools: &Tools) -> &Toolchain {
    tools
        .toolchains
        .iter()
        .max_by(|a, b| a.cargo_version().cmp(b.cargo_version()))
        .expect("an experiment has a toolchain")
}

/// Where cargo finds the dependencies of later ops. Relative to the folder above cargo's home, in a cell and outside one.
const VENDORED: &str = "replace-with = \"vendored\"\n\n[source.vendored]\ndirectory = \"vendor\"";

/// Writes the configuration in cargo's home, for cells that reach so much of a network.
fn configure(workspace: &Workspace, crates_io: &str, network: Network) -> Result<(), PrepareError> {
    let path = workspace.cargo_home().join("config.toml");
    let offline = network == Network::Loopback;
    let text = format!(
        "[source.crates-io]\n{crates_io}\n\n\
         [net]\nretry = 0\noffline = {offline}\n\n\
         [term]\nprogress.when = \"never\"\n"
    );
    // A cell has written to the folder since the first time.
    let written = Door::open(&workspace.cargo_home())
        .and_then(|door| door.write("config.toml", text.as_bytes(), workspace.owner()));
    written.map_err(at("write", &path))
}

/// Drops what would redirect the build, in each folder from the top to the one of the crate's manifest.
fn drop_redirections(source: &Path, member: &Path) -> Result<(), PrepareError> {
    let door = Door::open(source).map_err(at("open", source))?;
    for (above, name) in member.ancestors().flat_map(|above| REDIRECTING.map(|name| (above, Path::new(name)))) {
        // A folder that is a link would lead cargo to a file of another name.
        let folder = name.parent().filter(|folder| matches!(door.look(&above.join(folder)), Ok(Found::Other)));
        let path = above.join(folder.unwrap_or(name));
        door.remove(&path).map_err(at("remove", &source.join(&path)))?;
    }
    Ok(())
}

pub(super) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.to_owned();
    move |source| PrepareError::Io { what, path, source }
}

/// Whose fault an error is.
fn blame(error: PrepareError) -> Outcome {
    let text = error.to_string();
    match error {
        PrepareError::Registry(error) => error.outcome(),
        PrepareError::Checksum(_) => Outcome::Broken(Breakage::Archive(text)),
        PrepareError::Lockfile(LockfileError::Read { .. } | LockfileError::TooNew { .. })
        | PrepareError::Cell(_)
        | PrepareError::Io { .. }
        | PrepareError::Stopped => Outcome::Inconclusive(Cause::Host(text)),
        PrepareError::Lockfile(_) => Outcome::Broken(Breakage::Lockfile(text)),
        PrepareError::TimedOut(limit) => Outcome::Inconclusive(Cause::TimedOut(limit)),
        PrepareError::Missing(_) => Outcome::Broken(Breakage::Missing(text)),
        PrepareError::NoLockfile => Outcome::Broken(Breakage::Manifest(text)),
    }
}

/// What the commands of a prepare printed and cost, put together.
#[derive(Default)]
pub(super) struct Transcript {
    exit: Option<Exit>,
    notes: Vec<u8>,
}

impl Transcript {
    pub(super) fn append(&mut self, exit: Exit) {
        self.exit = Some(match self.exit.take() {
            Some(before) => cell::join(before, exit),
            None => exit,
        });
    }

    /// Adds a line of maar's own.
    pub(super) fn note(&mut self, line: &str) {
        let end = match &mut self.exit {
            Some(exit) if exit.output.tail.is_empty() => &mut exit.output.head,
            Some(exit) => &mut exit.output.tail,
            None => &mut self.notes,
        };
        end.extend_from_slice(line.as_bytes());
        end.push(b'\n');
    }
}
