//! Ctrl-C: the first finishes running ops, the second ends them, the third leaves at once. The run prints these
//! meanings. SIGTERM and SIGHUP end running ops.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

use super::exit::Exit;
use crate::stop::{StopLevel, Stopper};

/// Raises `stopper` as signals come. SIGTERM, which no person sends twice, ends everything at once, and so does SIGHUP,
/// which a terminal sends when it is closed.
///
/// # Errors
/// The kernel refuses the handlers.
pub(super) fn listen(stopper: Stopper) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Under `nohup` it is ignored, and must stay so.
    let mut hangup = if is_ignored(Signal::SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) };
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => stopper.raise(StopLevel::Drain),
            _ = terminate.recv() => stopper.raise(StopLevel::Kill),
            () = received(&mut hangup) => stopper.raise(StopLevel::Kill),
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = received(&mut hangup) => {}
        }
        stopper.raise(StopLevel::Kill);
        interrupt.recv().await;
        // The next run sweeps the remains.
        std::process::exit(Exit::Stopped as i32);
    });
    Ok(())
}

/// Waits for a signal, without end if none comes.
async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the parent of this process had it ignore a signal.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal)
}

/// The same from the text of `/proc/PID/status`.
fn ignores(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as u32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_found_in_the_mask() {
        let status = "Name:\tmaar\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, Signal::SIGHUP) && ignores(status, Signal::SIGPIPE));
        assert!(!ignores(status, Signal::SIGINT) && !ignores("", Signal::SIGHUP));
    }
}
