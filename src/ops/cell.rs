//! The cell that an op runs in: what is mounted where, and the fixed environment.

use std::path::{Path, PathBuf};

use crate::ops::workspace::{Workspace, WorkspaceError};
use crate::ops::{Op, Order, Tools};
use crate::sandbox::{
    self, Cell, Command, Console, Exit, Mount, MountKind, Network, Output, SandboxError, Spec, Usage,
};
use crate::toolchain::Toolchain;

/// Where things are in a cell.
pub(crate) const CRATE: &str = "/crate";
const CARGO_HOME: &str = "/cargo/home";
const CARGO_BIN: &str = "/cargo/bin";
const VENDOR: &str = "/cargo/vendor";
const SOURCES: &str = "/cargo/sources";
const TARGET: &str = "/target";
const TOOLCHAIN: &str = "/toolchain";

/// Why an op could not be run at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CellError {
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Runs one command of an op with its toolchain: offline, on the crate's sources under the toolchain's own overlay.
pub(crate) async fn run(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: usize,
    argv: Vec<String>,
) -> Result<Exit, CellError> {
    let cell = open(tools, workspace, order, toolchain).await?;
    finish(cell, order, Network::Loopback, argv).await
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
    let mut cell = open(tools, workspace, order, toolchain).await?;
    let mut env = environment(&cell, order, Network::Loopback);
    env.push(("PS1".to_owned(), format!("{}:\\w$ ", order.krate.id)));
    let argv = ["sh", "-c", SHELL].map(str::to_owned).to_vec();
    let command = Command { env, cwd: cell.path(Path::new(CRATE)), argv };
    let result = cell.attend(&command, &order.stop, console).await;
    cell.close().await?;
    Ok(result?)
}

async fn open(tools: &Tools, workspace: &Workspace, order: &Order<'_>, toolchain: usize) -> Result<Cell, CellError> {
    let dirs = workspace.toolchain(toolchain)?;
    let mut mounts = vec![
        read_only(CARGO_HOME, workspace.cargo_home()),
        Mount {
            at: CRATE.into(),
            what: MountKind::Overlay { lower: workspace.source(), upper: dirs.upper, work: dirs.work },
        },
        Mount { at: TARGET.into(), what: MountKind::Writable(dirs.target) },
    ];
    mounts.extend(shared_mounts(tools, workspace, &tools.toolchains[toolchain]));
    if let (Op::Command(_), Some(cargo_bin)) = (order.op, &tools.cargo_bin) {
        mounts.push(read_only(CARGO_BIN, cargo_bin.clone()));
    }
    Ok(tools.sandbox.open(spec(workspace, order, mounts, Network::Loopback)).await?)
}

/// Runs one cargo command of `prepare`: with the network, on the pristine sources themselves.
pub(crate) async fn resolve(
    tools: &Tools,
    workspace: &Workspace,
    order: &Order<'_>,
    toolchain: &Toolchain,
    argv: Vec<String>,
) -> Result<Exit, CellError> {
    let mut mounts = vec![
        Mount { at: CARGO_HOME.into(), what: MountKind::Writable(workspace.cargo_home()) },
        Mount { at: CRATE.into(), what: MountKind::Writable(workspace.source()) },
    ];
    mounts.extend(shared_mounts(tools, workspace, toolchain));
    let cell = tools.sandbox.open(spec(workspace, order, mounts, Network::Host)).await?;
    finish(cell, order, Network::Host, argv).await
}

/// Puts two commands' results together, as if they had been one.
pub(crate) fn join(first: Exit, second: Exit) -> Exit {
    let usage = Usage {
        wall: first.usage.wall + second.usage.wall,
        cpu: first.usage.cpu + second.usage.cpu,
        peak_memory: first.usage.peak_memory.max(second.usage.peak_memory),
    };
    // Only commands of `prepare` are joined, which are cargo's own and print little.
    let head = [first.output.head, first.output.tail, second.output.head].concat();
    let dropped = first.output.dropped + second.output.dropped;
    Exit { end: second.end, usage, output: Output { head, tail: second.output.tail, dropped } }
}

async fn finish(mut cell: Cell, order: &Order<'_>, network: Network, argv: Vec<String>) -> Result<Exit, CellError> {
    let prompt = format!("$ {}\n", argv.join(" "));
    let command = Command { env: environment(&cell, order, network), cwd: cell.path(Path::new(CRATE)), argv };
    let result = cell.run(&command, &order.stop).await;
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
fn environment(cell: &Cell, order: &Order<'_>, network: Network) -> Vec<(String, String)> {
    let path = |at: &str| cell.path(Path::new(at)).display().to_string();
    let jobs = order.limits.cpus.ceil().max(1.0);
    let mut env: Vec<(String, String)> = [
        ("PATH", format!("{}/bin:/usr/local/bin:/usr/bin:/bin:{}", path(TOOLCHAIN), path(CARGO_BIN))),
        ("HOME", path(sandbox::HOME)),
        ("USER", "maar".to_owned()),
        ("LOGNAME", "maar".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TERM", "xterm-256color".to_owned()),
        ("CARGO_HOME", path(CARGO_HOME)),
        ("CARGO_TARGET_DIR", path(TARGET)),
        ("CARGO_BUILD_JOBS", format!("{jobs}")),
        ("CARGO_INCREMENTAL", "0".to_owned()),
        ("CARGO_NET_OFFLINE", (network == Network::Loopback).to_string()),
        ("CARGO_TERM_COLOR", "always".to_owned()),
        ("CARGO_TERM_PROGRESS_WHEN", "never".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(flag) = order.op.lints() {
        env.extend(["RUSTFLAGS", "RUSTDOCFLAGS"].map(|name| (name.to_owned(), flag.to_owned())));
    }
    for (name, value) in order.env {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    env
}
