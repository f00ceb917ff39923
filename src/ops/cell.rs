//! The cell that an op runs in: what is mounted where, and the fixed environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::flags::{self, By, Settings};
use crate::ops::workspace::{Workspace, WorkspaceError};
use crate::ops::{Environment, Op, Order, Tools};
use crate::registry::Denial;
use crate::sandbox::{
    self, Cell, Command, Console, Exit, Live, Mount, MountKind, Network, Outlet, Output, SandboxError, Spec, Usage,
};
use crate::toolchain::{Patch, Patched, Toolchain};

/// Where things are in a cell.
pub(crate) const CRATE: &str = "/crate";
const CARGO_HOME: &str = "/cargo/home";
const CARGO_BIN: &str = "/cargo/bin";
pub(crate) const VENDOR: &str = "/cargo/vendor";
const SOURCES: &str = "/cargo/sources";
/// Where cargo puts it by itself: tests write to `target/`, or look for programs in `target/debug/`.
pub(super) const TARGET: &str = "/crate/target";
pub(crate) const TOOLCHAIN: &str = "/toolchain";
/// Where the toolchains are whose cargo or rustdoc is used instead of the toolchain's own.
pub(super) const CARGO_TOOLCHAIN: &str = "/maar/cargo";
pub(super) const RUSTDOC_TOOLCHAIN: &str = "/maar/rustdoc";
/// Links to these programs, which commands find before all others.
const PROGRAMS: &str = "/maar/programs";
/// The folders of patches, by the names of packages.
const PATCHES: &str = "/cargo/patches";
/// Where cargo looks for a configuration beside its home's, above every crate.
const CONFIG: &str = "/.cargo";
/// The certificates that cargo trusts, if the user has named any: a file in cargo's home.
pub(super) const CA_FILE: &str = "ca.pem";
/// Where something may stand in for rustc; there is nothing while the crate's own code runs.
const STAND_IN: &str = "/maar/bin";

/// Why an op could not be run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CellError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Runs one command of an op with its toolchain: offline, on the crate's sources under the toolchain's own overlay.
///
/// The target folder lies over `base`, where there is one.
pub(crate) async fn run(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
    base: Option<&Path>,
    argv: Vec<String>,
) -> Result<Exit, CellError> {
    let by = if is_of_user(order) { By::User } else { By::Maar };
    let cell = open(tools, workspace, order, toolchain, (base, by)).await?;
    let toolchain = &tools.toolchains[toolchain];
    let mut settings = flags::settings(order, toolchain, By::Maar);
    if !is_of_user(order) {
        settings.flags.extend(as_flags(patch_settings(toolchain, |at| cell.path(at))));
    }
    finish(tools, cell, order, None, Call { toolchain, argv, settings, stands_in: false }).await
}

/// Opens the cell of an op to its user: a shell on their terminal.
pub(crate) async fn enter(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
    console: &mut Console,
) -> Result<Exit, CellError> {
    // What the image or the host has: bash is nicer to people.
    const SHELL: &str = "command -v bash >/dev/null && exec bash --norc -i || exec sh -i";
    let mut cell = open(tools, workspace, order, toolchain, (None, By::User)).await?;
    let toolchain = &tools.toolchains[toolchain];
    let Settings { env: settings, .. } = flags::settings(order, toolchain, By::User);
    let mut env = environment(tools, &cell, order, Network::Loopback, (toolchain, &settings));
    env.push(("PS1".to_owned(), format!("{}:\\w$ ", order.krate.id)));
    let argv = ["sh", "-c", SHELL].map(str::to_owned).to_vec();
    let command = Command { env, cwd: cell.path(&folder(order)), argv };
    let result = cell.attend(&command, &order.stop, console).await;
    cell.close().await?;
    Ok(result?)
}

fn is_of_user(order: &Order<'_>) -> bool {
    matches!(order.op, Op::Command(_))
}

async fn open(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
    (base, by): (Option<&Path>, By),
) -> Result<Cell, CellError> {
    let dirs = workspace.toolchain(toolchain)?;
    let target = match base {
        Some(base) => MountKind::Overlay { lower: base.to_owned(), upper: dirs.target, work: dirs.target_work },
        None => MountKind::Writable(dirs.target),
    };
    let mut mounts = vec![
        read_only(CARGO_HOME, workspace.cargo_home()),
        Mount {
            at: CRATE.into(),
            what: MountKind::Copy { lower: workspace.source_of(toolchain), upper: dirs.upper, work: dirs.work },
        },
        Mount { at: TARGET.into(), what: target },
    ];
    mounts.extend(shared_mounts(tools, workspace, &tools.toolchains[toolchain]));
    // A command of the user's own runs as it was written, without flags of maar's.
    mounts
        .extend(tools.toolchains[toolchain].config.clone().filter(|_| by == By::User).map(|at| read_only(CONFIG, at)));
    if let (Op::Command(_), Some(cargo_bin)) = (order.op, &tools.cargo_bin) {
        mounts.push(read_only(CARGO_BIN, cargo_bin.clone()));
    }
    Ok(tools.sandbox.open(spec(tools, workspace, order, mounts, Network::Loopback)).await?)
}

/// The folders of a cell that works ahead of an op.
pub(crate) struct Ahead<'a> {
    /// The crate as far as cargo must see it.
    pub(crate) outline: &'a Path,
    /// Holds a `rustc`, which commands find before the toolchain's.
    pub(crate) stand_in: &'a Path,
    /// What the target folder lies over; none for a target folder of its own.
    pub(crate) base: Option<&'a Path>,
    /// Where changes of the target folder go.
    pub(crate) upper: &'a Path,
    /// Beside `upper`, for the kernel's own use.
    pub(crate) work: &'a Path,
    /// Stands for the folders that each cell has to itself, in the order of [`sandbox::PRIVATE`]; none: nobody looks at
    /// those afterwards.
    pub(crate) outside: &'a [PathBuf],
}

/// Runs one command ahead of an op: offline, on an outline of the crate, which it can't change.
pub(crate) async fn run_ahead(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
    ahead: Ahead<'_>,
    argv: Vec<String>,
) -> Result<Exit, CellError> {
    let Ahead { outline, stand_in, base, upper, work, outside } = ahead;
    let target = match base {
        Some(base) => MountKind::Overlay { lower: base.to_owned(), upper: upper.to_owned(), work: work.to_owned() },
        None => MountKind::Writable(upper.to_owned()),
    };
    let mut mounts = vec![
        read_only(CARGO_HOME, workspace.cargo_home()),
        read_only(CRATE, outline.to_owned()),
        read_only(STAND_IN, stand_in.to_owned()),
        Mount { at: TARGET.into(), what: target },
    ];
    let outside = sandbox::PRIVATE.iter().zip(outside);
    mounts.extend(outside.map(|(at, dir)| Mount { at: at.into(), what: MountKind::Writable(dir.clone()) }));
    mounts.extend(shared_mounts(tools, workspace, &tools.toolchains[toolchain]));
    let spec = spec(tools, workspace, order, mounts, Network::Loopback);
    // Nobody follows what cargo prints for maar.
    let cell = tools.sandbox.open(Spec { live: None, ..spec }).await?;
    let toolchain = &tools.toolchains[toolchain];
    let settings = flags::settings(order, toolchain, By::Maar);
    finish(tools, cell, order, None, Call { toolchain, argv, settings, stands_in: true }).await
}

/// Runs one cargo command of `prepare` on pristine sources themselves, with the gate as its only way out. Returns what it
/// did not get, too. Sources that are those of a toolchain with patches are resolved with these.
pub(crate) async fn resolve(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    (toolchain, source): (&Toolchain, &Path),
    argv: Vec<String>,
) -> Result<(Exit, Vec<Denial>), CellError> {
    let mut mounts = vec![
        Mount { at: CARGO_HOME.into(), what: MountKind::Writable(workspace.cargo_home()) },
        Mount { at: CRATE.into(), what: MountKind::Writable(source.to_owned()) },
    ];
    mounts.extend(shared_mounts(tools, workspace, toolchain));
    let cell = tools.sandbox.open(spec(tools, workspace, order, mounts, Network::Outlet)).await?;
    let (outlet, connections) = sandbox::outlet();
    let mut settings = Settings::default();
    if source != workspace.source() {
        settings.flags = as_flags(patch_settings(toolchain, |at| cell.path(at)));
    }
    let call = Call { toolchain, argv, settings, stands_in: false };
    // Serving ends when the command does, and takes its outlet along.
    let (exit, denials) =
        tokio::join!(finish(tools, cell, order, Some(outlet), call), tools.gate.serve(connections, order.limits.disk));
    Ok((exit?, denials))
}

/// Runs `cargo build` where no rustc can run: offline, on the pristine sources, which nothing can change. cargo gets as
/// far as reading all manifests.
pub(crate) async fn without_rustc(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    place: usize,
) -> Result<Exit, CellError> {
    let toolchain = &tools.toolchains[place];
    let mut mounts = vec![read_only(CARGO_HOME, workspace.cargo_home()), read_only(CRATE, workspace.source_of(place))];
    mounts.extend(shared_mounts(tools, workspace, toolchain));
    let spec = spec(tools, workspace, order, mounts, Network::Loopback);
    // Nobody follows what cargo prints for maar.
    let cell = tools.sandbox.open(Spec { live: None, ..spec }).await?;
    let environment = Environment::of_variables(BTreeMap::from([("RUSTC".to_owned(), "/dev/null".to_owned())]));
    let argv = ["cargo", "build", "--frozen"].map(str::to_owned).to_vec();
    let flags = as_flags(patch_settings(toolchain, |at| cell.path(at)));
    let settings = Settings { flags, env: Vec::new() };
    let call = Call { toolchain, argv, settings, stands_in: false };
    finish(tools, cell, &Order { environment: &environment, ..order.clone() }, None, call).await
}

/// Puts two commands' results together, as if they had been one.
pub(crate) fn join(first: Exit, second: Exit) -> Exit {
    let usage = sum(first.usage, second.usage);
    // Only commands of `prepare` are joined, which are cargo's own and print little.
    let head = [first.output.head, first.output.tail, second.output.head].concat();
    let dropped = first.output.dropped + second.output.dropped;
    Exit { end: second.end, usage, output: Output { head, tail: second.output.tail, dropped }, doubt: second.doubt }
}

/// What two commands cost that ran one after the other.
pub(crate) fn sum(first: Usage, second: Usage) -> Usage {
    Usage {
        wall: first.wall + second.wall,
        cpu: first.cpu + second.cpu,
        peak_memory: first.peak_memory.max(second.peak_memory),
    }
}

/// A command, and how it gets maar's settings.
struct Call<'a> {
    toolchain: &'a Toolchain,
    argv: Vec<String>,
    settings: Settings,
    /// Whether something stands in for rustc.
    stands_in: bool,
}

/// A command as a shell takes it.
fn shown(argv: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:+@%".contains(c);
    let word = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The folder of the crate's manifest: [`CRATE`], or below it if that is a whole workspace.
fn folder(order: &Order<'_>) -> PathBuf {
    // Without the slash at the end that joining nothing leaves.
    Path::new(CRATE).join(order.krate.member()).components().collect()
}

async fn finish(
    tools: &Tools,
    mut cell: Cell,
    order: &Order<'_>,
    outlet: Option<Outlet>,
    Call { toolchain, mut argv, settings, stands_in }: Call<'_>,
) -> Result<Exit, CellError> {
    let network = if outlet.is_some() { Network::Outlet } else { Network::Loopback };
    // Arguments behind two hyphens are for the tests.
    let end = argv.iter().position(|word| word == "--").unwrap_or(argv.len());
    argv.splice(end..end, settings.flags);
    let prompt = format!("$ {}\n", shown(&argv));
    let mut env = environment(tools, &cell, order, network, (toolchain, &settings.env));
    if stands_in && let Some((_, path)) = env.iter_mut().find(|(name, _)| name == "PATH") {
        path.insert_str(0, &format!("{}:", cell.path(Path::new(STAND_IN)).display()));
    }
    let command = Command { env, cwd: cell.path(&folder(order)), argv };
    let result = match outlet {
        Some(outlet) => cell.run_with(&command, &order.stop, outlet).await,
        None => cell.run(&command, &order.stop).await,
    };
    let closed = cell.close().await;
    let mut exit = result?;
    // What can't be cleaned up is swept by the next run; the result stands.
    if let Err(error) = closed {
        let end = if exit.output.tail.is_empty() { &mut exit.output.head } else { &mut exit.output.tail };
        end.extend_from_slice(format!("\nmaar: {error}\n").as_bytes());
    }
    exit.output.head.splice(0..0, prompt.into_bytes());
    Ok(exit)
}

fn spec(tools: &Tools, workspace: &Workspace, order: &Order<'_>, mounts: Vec<Mount>, network: Network) -> Spec {
    Spec {
        label: label(order),
        user: workspace.user().clone(),
        scratch: workspace.scratch(),
        mounts,
        network,
        limits: order.limits,
        live: Some(Live { path: workspace.live(), heading: order.running(&tools.toolchains).to_line() }),
        after: order.after,
    }
}

/// The lines of a cargo configuration that put a toolchain's patches in the place of the registry's packages.
pub(super) fn patch_settings(toolchain: &Toolchain, path: impl Fn(&Path) -> PathBuf) -> Vec<String> {
    let text = |text: String| toml::Value::String(text).to_string();
    let of_patch = |patch: &Patch| {
        let key = format!("patch.crates-io.{}", text(patch.name.clone()));
        match &patch.source {
            Patched::Git { url, rev } => {
                vec![format!("{key}.git={}", text(url.clone())), format!("{key}.rev={}", text(rev.clone()))]
            }
            Patched::Folder { member, .. } => {
                let at = path(Path::new(&format!("{PATCHES}/{}", patch.name))).join(member);
                // Without the slash at the end that joining nothing leaves.
                let at: PathBuf = at.components().collect();
                vec![format!("{key}.path={}", text(at.display().to_string()))]
            }
        }
    };
    toolchain.patches.iter().flat_map(of_patch).collect()
}

fn as_flags(settings: Vec<String>) -> Vec<String> {
    settings.into_iter().flat_map(|setting| ["--config".to_owned(), setting]).collect()
}

/// Such as `build-serde-json`: what a host name may hold.
fn label(order: &Order<'_>) -> String {
    const LONGEST: usize = 60;
    let mut label = format!("{}-{}", order.op.name(), order.krate.id.name).replace('_', "-");
    label.truncate(LONGEST);
    label
}

fn shared_mounts(tools: &Tools, workspace: &Workspace, toolchain: &Toolchain) -> Vec<Mount> {
    let mut mounts = vec![read_only(TOOLCHAIN, toolchain.sysroot.clone())];
    let others = [(CARGO_TOOLCHAIN, &toolchain.cargo), (RUSTDOC_TOOLCHAIN, &toolchain.rustdoc)];
    let others = others.into_iter().filter_map(|(at, other)| Some(read_only(at, other.as_ref()?.sysroot.clone())));
    mounts.extend(others);
    mounts.extend(toolchain.programs.clone().map(|programs| read_only(PROGRAMS, programs)));
    for patch in &toolchain.patches {
        if let Patched::Folder { copy: Some(copy), .. } = &patch.source {
            mounts.push(read_only(&format!("{PATCHES}/{}", patch.name), copy.clone()));
        }
    }
    // There are none before the lockfile is made.
    if workspace.vendor().exists() {
        mounts.push(read_only(VENDOR, workspace.vendor()));
        mounts.push(read_only(SOURCES, tools.registry.sources_dir().to_owned()));
    }
    mounts
}

fn read_only(at: &str, from: PathBuf) -> Mount {
    Mount { at: at.into(), what: MountKind::ReadOnly(from) }
}

/// The whole environment of a command: fixed but for maar's own `settings` and the crate's `env`, and nothing of the
/// caller's.
fn environment(
    tools: &Tools,
    cell: &Cell,
    order: &Order<'_>,
    network: Network,
    (toolchain, settings): (&Toolchain, &[(String, String)]),
) -> Vec<(String, String)> {
    let path = |at: &str| cell.path(Path::new(at)).display().to_string();
    let programs = toolchain.programs.as_ref().map(|_| format!("{}:", path(PROGRAMS))).unwrap_or_default();
    let mut env: Vec<(String, String)> = [
        ("PATH", format!("{programs}{}/bin:/usr/local/bin:/usr/bin:/bin:{}", path(TOOLCHAIN), path(CARGO_BIN))),
        ("HOME", path(sandbox::HOME)),
        ("USER", "maar".to_owned()),
        ("LOGNAME", "maar".to_owned()),
        // As /etc/passwd has it: the one that every system has.
        ("SHELL", "/bin/sh".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TERM", "xterm-256color".to_owned()),
        ("PWD", cell.path(&folder(order)).display().to_string()),
        ("CARGO_HOME", path(CARGO_HOME)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    env.extend(settings.iter().cloned());
    if let Some(above) = cell.shows_folders_above(Path::new(CRATE)) {
        // A manifest, a configuration or a repository in a folder above the job's is not the crate's. The first name is
        // that of cargo's own tests, which for the same reason don't look above it.
        env.push(("__CARGO_TEST_ROOT".to_owned(), above.display().to_string()));
        let parent = above.parent().unwrap_or(&above).display().to_string();
        env.push(("GIT_CEILING_DIRECTORIES".to_owned(), parent));
    }
    // Variables such as LD_PRELOAD name code, and no code of the crate runs in `prepare`.
    let of_user = if *order.op == Op::Prepare { BTreeMap::new() } else { order.environment.env() };
    for (name, value) in of_user {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    if network == Network::Outlet {
        env.push(("CARGO_HTTP_PROXY".to_owned(), format!("http://{}", cell.outlet())));
        if tools.registry.ca_file().is_some() {
            env.push(("CARGO_HTTP_CAINFO".to_owned(), format!("{}/{CA_FILE}", path(CARGO_HOME))));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_takes_it() {
        let argv = ["cargo", "test", "--config", "a.b=[\"x\"]", "", "it's"].map(str::to_owned);
        assert_eq!(shown(&argv), "cargo test --config 'a.b=[\"x\"]' '' 'it'\\''s'");
    }
}
