//! Ctrl-C: the first finishes what is running, the second ends it, the third leaves at once. The run itself says so.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use crate::stop::{StopLevel, Stopper};

/// Raises `stopper` as signals come. SIGTERM, which no person sends twice, ends everything at once.
///
/// # Errors
/// The kernel refuses the handlers.
pub(super) fn listen(stopper: Stopper) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => stopper.raise(StopLevel::Drain),
            _ = terminate.recv() => stopper.raise(StopLevel::Kill),
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopper.raise(StopLevel::Kill);
        interrupt.recv().await;
        // What is left behind is swept by the next run.
        std::process::exit(Exit::Stopped as i32);
    });
    Ok(())
}
