//! The cell that an op runs in: what is mounted where, and the fixed environment.

use std::path::{Path, PathBuf};

use crate::ops::workspace::{Workspace, WorkspaceError};
use crate::ops::{Op, Order, Tools};
use crate::registry::Denial;
use crate::sandbox::{
    self, Cell, Command, Console, Exit, Mount, MountKind, Network, Outlet, Output, SandboxError, Spec, Usage,
};
use crate::toolchain::Toolchain;

/// Where things are in a cell.
pub(crate) const CRATE: &str = "/crate";
const CARGO_HOME: &str = "/cargo/home";
const CARGO_BIN: &str = "/cargo/bin";
pub(crate) const VENDOR: &str = "/cargo/vendor";
const SOURCES: &str = "/cargo/sources";
pub(super) const TARGET: &str = "/target";
pub(crate) const TOOLCHAIN: &str = "/toolchain";
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
    let cell = open(tools, workspace, order, toolchain, base).await?;
    finish(tools, cell, order, None, argv).await
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
    let mut cell = open(tools, workspace, order, toolchain, None).await?;
    let mut env = environment(tools, &cell, order, Network::Loopback);
    env.push(("PS1".to_owned(), format!("{}:\\w$ ", order.krate.id)));
    let argv = ["sh", "-c", SHELL].map(str::to_owned).to_vec();
    let command = Command { env, cwd: cell.path(Path::new(CRATE)), argv };
    let result = cell.attend(&command, &order.stop, console).await;
    cell.close().await?;
    Ok(result?)
}

async fn open(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
    base: Option<&Path>,
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
            what: MountKind::Overlay { lower: workspace.source(), upper: dirs.upper, work: dirs.work },
        },
        Mount { at: TARGET.into(), what: target },
    ];
    mounts.extend(shared_mounts(tools, workspace, &tools.toolchains[toolchain]));
    if let (Op::Command(_), Some(cargo_bin)) = (order.op, &tools.cargo_bin) {
        mounts.push(read_only(CARGO_BIN, cargo_bin.clone()));
    }
    Ok(tools.sandbox.open(spec(workspace, order, mounts, Network::Loopback)).await?)
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
    let cell = tools.sandbox.open(spec(workspace, order, mounts, Network::Loopback)).await?;
    finish(tools, cell, order, None, argv).await
}

/// Runs one cargo command of `prepare` on the pristine sources themselves, with the gate as its only way out. Returns
/// what it did not get, too.
pub(crate) async fn resolve(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: &Toolchain,
    argv: Vec<String>,
) -> Result<(Exit, Vec<Denial>), CellError> {
    let mut mounts = vec![
        Mount { at: CARGO_HOME.into(), what: MountKind::Writable(workspace.cargo_home()) },
        Mount { at: CRATE.into(), what: MountKind::Writable(workspace.source()) },
    ];
    mounts.extend(shared_mounts(tools, workspace, toolchain));
    let cell = tools.sandbox.open(spec(workspace, order, mounts, Network::Outlet)).await?;
    let (outlet, connections) = sandbox::outlet();
    // Serving ends when the command does, and takes its outlet along.
    let (exit, denials) =
        tokio::join!(finish(tools, cell, order, Some(outlet), argv), tools.gate.serve(connections, order.limits.disk));
    Ok((exit?, denials))
}

/// Puts two commands' results together, as if they had been one.
pub(crate) fn join(first: Exit, second: Exit) -> Exit {
    let usage = sum(first.usage, second.usage);
    // Only commands of `prepare` are joined, which are cargo's own and print little.
    let head = [first.output.head, first.output.tail, second.output.head].concat();
    let dropped = first.output.dropped + second.output.dropped;
    Exit { end: second.end, usage, output: Output { head, tail: second.output.tail, dropped } }
}

/// What two commands cost that ran one after the other.
pub(crate) fn sum(first: Usage, second: Usage) -> Usage {
    Usage {
        wall: first.wall + second.wall,
        cpu: first.cpu + second.cpu,
        peak_memory: first.peak_memory.max(second.peak_memory),
    }
}

async fn finish(
    tools: &Tools,
    mut cell: Cell,
    order: &Order<'_>,
    outlet: Option<Outlet>,
    argv: Vec<String>,
) -> Result<Exit, CellError> {
    let network = if outlet.is_some() { Network::Outlet } else { Network::Loopback };
    let prompt = format!("$ {}\n", argv.join(" "));
    let command = Command { env: environment(tools, &cell, order, network), cwd: cell.path(Path::new(CRATE)), argv };
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

fn spec(workspace: &Workspace, order: &Order<'_>, mounts: Vec<Mount>, network: Network) -> Spec {
    Spec { label: label(order), scratch: workspace.scratch(), mounts, network, limits: order.limits }
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

/// The whole environment of a command: fixed but for the crate's own `env`, and nothing of the caller's.
fn environment(tools: &Tools, cell: &Cell, order: &Order<'_>, network: Network) -> Vec<(String, String)> {
    let path = |at: &str| cell.path(Path::new(at)).display().to_string();
    let jobs = order.limits.cpus.ceil().max(1.0);
    let mut env: Vec<(String, String)> = [
        (
            "PATH",
            format!("{}:{}/bin:/usr/local/bin:/usr/bin:/bin:{}", path(STAND_IN), path(TOOLCHAIN), path(CARGO_BIN)),
        ),
        ("HOME", path(sandbox::HOME)),
        ("USER", "maar".to_owned()),
        ("LOGNAME", "maar".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TERM", "xterm-256color".to_owned()),
        ("CARGO_HOME", path(CARGO_HOME)),
        ("CARGO_TARGET_DIR", path(TARGET)),
        ("CARGO_BUILD_JOBS", format!("{jobs}")),
        ("CARGO_NET_OFFLINE", (network == Network::Loopback).to_string()),
        ("CARGO_TERM_COLOR", "always".to_owned()),
        ("CARGO_TERM_PROGRESS_WHEN", "never".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    env.extend(order.op.build_env(&tools.toolchains).map(|(name, value)| (name.to_owned(), value.to_owned())));
    for (name, value) in order.env {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    if network == Network::Outlet {
        env.push(("CARGO_HTTP_PROXY".to_owned(), format!("http://{}", cell.outlet())));
        if tools.registry.ca_file().is_some() {
            env.push(("CARGO_HTTP_CAINFO".to_owned(), format!("{}/{CA_FILE}", path(CARGO_HOME))));
        }
    }
    env
}
