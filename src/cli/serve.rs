//! `maar serve`: opens the server, prints where it is, and answers until a signal.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::args::ServeArgs;
use super::exit::Exit;
use super::worker::InProcess;
use crate::home::Home;
use crate::registry::Access;
use crate::run::Bench;
use crate::serve::Server;
use crate::serve::config::Config;
use crate::serve::token::first_file;
use crate::serve::worker::Runner;
use crate::stop::{self, StopLevel, Stopper};

/// Serves until SIGINT or SIGTERM. Experiments that run then go on after the next start.
pub(super) fn run(args: &ServeArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let config = Config::load(args.file.as_deref(), args.listen)?;
    let home = Home::open(args.home.folder.clone())?;
    let _lock = home.lock_server()?;
    let token = first_file(&home);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(async {
        let (stopper, stop) = stop::channel();
        let reload = listen(stopper).context("failed to listen for signals")?;
        let runner: Option<Arc<dyn Runner>> = match config.worker.enabled {
            true => Some(Arc::new(InProcess::new(Bench::open(home.clone(), Access::Online)?))),
            false => None,
        };
        let server = Server::open(config, home, runner).await?;
        let mut lines = format!("{:<8}{}\n", "page", server.url());
        match server.first_token() {
            Some(path) => lines += &format!("{:<8}{} (an administrator's, new)\n", "token", path.display()),
            None if token.exists() => lines += &format!("{:<8}{}\n", "token", token.display()),
            None => {}
        }
        // A reader that closes the pipe doesn't end the server.
        let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
        server.answer(stop, reload).await;
        Ok(Exit::Fine)
    })
}

/// SIGINT finishes running ops, a second one and SIGTERM end them, SIGHUP reads the certificate again.
fn listen(stopper: Stopper) -> std::io::Result<mpsc::Receiver<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (reload, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut level = StopLevel::Run;
        loop {
            tokio::select! {
                _ = interrupt.recv() => level = if level == StopLevel::Run { StopLevel::Drain } else { StopLevel::Kill },
                _ = terminate.recv() => level = StopLevel::Kill,
                // One that is waiting is enough.
                _ = hangup.recv() => drop(reload.try_send(())),
            }
            stopper.raise(level);
        }
    });
    Ok(reloads)
}
