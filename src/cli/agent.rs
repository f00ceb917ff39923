//! `maar agent`: works for a server until it is told to end.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::args::AgentArgs;
use super::exit::{Exit, Misuse};
use crate::agent::{self, Client, Config};
use crate::home::Home;
use crate::progress::{self, Progress};
use crate::registry::Access;
use crate::run::Bench;
use crate::stop::{self, StopLevel, Stopper};

/// The longest token file that is read, in bytes.
const LONGEST_TOKEN: u64 = 4096;

/// Works for a server.
pub(super) fn run(args: &AgentArgs, _: &mut dyn Write) -> anyhow::Result<Exit> {
    let token = token(&args.token_file)?;
    let server = args.server.parse().map_err(|error: agent::BadServerUrl| Misuse(error.to_string()))?;
    let client = Client::new(server, &token).map_err(|error| Misuse(error.to_string()))?;
    let labels: BTreeSet<String> = args.labels.iter().cloned().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(async {
        let (stopper, stop) = stop::channel();
        listen(stopper.clone()).context("failed to listen for signals")?;
        let bench = Arc::new(Bench::open(Home::open(args.home.folder.clone())?, Access::Online)?);
        let plan = progress::Plan { pools: agent::pools(&bench), crates: 0, already_done: 0 };
        let mut progress = Progress::new(args.progress, plan);
        let config = Config { client, labels, cap: args.cap };
        let worked = agent::run(bench, config, &mut progress, (&stopper, &stop)).await;
        progress.finish(None);
        worked?;
        Ok(Exit::Fine)
    })
}

/// The token in a file that only its owner can read.
fn token(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("failed to read the token in {}", path.display());
    let metadata = std::fs::metadata(path).with_context(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        return Err(Misuse(format!("other users can read the token in {path}: `chmod 600 {path}`")).into());
    }
    if metadata.len() > LONGEST_TOKEN {
        return Err(Misuse(format!("{} is too long to hold a token", path.display())).into());
    }
    let text = std::fs::read_to_string(path).with_context(failed)?;
    match text.trim() {
        "" => {
            Err(Misuse(format!("{} is empty; `maar token create --role agent` prints a token", path.display())).into())
        }
        token => Ok(token.to_owned()),
    }
}

/// The first SIGTERM or SIGINT finishes the ops under way and gives the crates back, the second ends the ops.
fn listen(stopper: Stopper) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for level in [StopLevel::Drain, StopLevel::Kill] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopper.raise(level);
        }
    });
    Ok(())
}
