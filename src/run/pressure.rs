//! Watches how hard pressed the host is for memory, for the engine to hold ops back before the kernel has to kill them.

use std::time::Duration;

use tokio::sync::watch;

use crate::host;
use crate::pipeline::Pressure;

/// From which part of the last ten seconds, lost by all processes for want of memory, the host counts as pressed. A
/// host that fits its work loses none; one that swaps or reads its programs again and again from the disk loses most.
const STALL: f64 = 0.05;
/// The kernel's own average changes every two seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// Sends every change, until dropped; none where the kernel doesn't measure it.
pub(super) async fn watch(told: watch::Sender<Pressure>) {
    while let Some(stall) = host::memory_stall() {
        let now = if stall >= STALL { Pressure::High } else { Pressure::Low };
        told.send_if_modified(|pressure| std::mem::replace(pressure, now) != now);
        tokio::time::sleep(INTERVAL).await;
    }
    // Pressure that can't be measured any more holds nothing back.
    told.send_replace(Pressure::Low);
    // A receiver that waits for a change must not take the end of this task for one.
    std::future::pending().await
}
