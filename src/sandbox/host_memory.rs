//! Whether the host, rather than a limit, ran out of memory while a command ran, where no controller counts that for
//! it.

use std::fs;

/// The host's count of killed processes when a command began.
#[derive(Debug, Clone, Copy)]
pub(super) struct HostKills {
    /// `None`: a controller counts the command's own memory.
    before: Option<u64>,
}

impl HostKills {
    /// Begins to count, unless a controller does.
    pub(super) fn begin(counts_memory: bool) -> Self {
        Self { before: (!counts_memory).then(kills) }
    }

    /// How many processes of the whole host the kernel has killed for lack of memory since.
    pub(super) fn since(self) -> u64 {
        self.before.map_or(0, |before| kills().saturating_sub(before))
    }
}

/// As `/proc/vmstat` has it since Linux 4.13; 0 on an older kernel.
fn kills() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}
