//! How many processes and threads a command has, sampled, for a second run on a host where no controller counts them.
//!
//! There the kernel only refuses, without a record. So the run after a suspected refusal may start more than its
//! limit, up to [`ROOM`], and is ended when it has more than its limit. A peak between two looks is not seen.

use std::time::Duration;

use super::process_tree;

/// How many more processes and threads than its limit such a run may have: starting them takes longer than a few looks.
pub(super) const ROOM: u64 = 4096;

/// How often a command is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many processes and threads a command may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessWatch {
    /// The number of the helper, whose descendants the command's processes are.
    pub(super) helper: u32,
    /// The limit, including the processes that keep the command.
    pub(super) limit: u64,
}

impl ProcessWatch {
    /// Returns when the command has more than it may, and never if it doesn't.
    pub(super) async fn exceeded(self) {
        let Self { helper, limit } = self;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looked = tokio::task::spawn_blocking(move || process_tree::has_more_threads(helper, limit)).await;
            // A command that can't be looked at counts as having no processes.
            if looked.unwrap_or(false) {
                return;
            }
        }
    }
}
