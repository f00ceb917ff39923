//! How much memory a command holds, sampled, for hosts where no controller counts it.
//!
//! The kernel limits the private memory of each process there, and nothing else: not their number, and not memory that
//! has the form of files. A command can exceed its limit between two looks.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::{PRIVATE, process_tree};

/// How often a command is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many looks in a row must find too much: a process that has just forked shares all it has with its child, and
/// both are counted.
const LOOKS: u32 = 2;

/// The memory allowance of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoryWatch {
    /// The number of the helper, whose descendants the command's processes are.
    pub(super) helper: u32,
    pub(super) limit: ByteSize,
}

impl MemoryWatch {
    /// Returns when the command holds more than it may, and never if it doesn't.
    pub(super) async fn exceeded(self) {
        let mut times = 0;
        while times < LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            let helper = self.helper;
            // A process that can't be looked at counts as holding nothing.
            let held = tokio::task::spawn_blocking(move || held(helper)).await.unwrap_or(0);
            times = if held > self.limit.as_u64() { times + 1 } else { 0 };
        }
    }
}

/// The bytes that the descendants of a process hold.
fn held(helper: u32) -> u64 {
    let processes = process_tree::descendants(helper);
    let (mut private, mut mapped, mut shares, mut folders) = (0u64, 0u64, 0u64, 0u64);
    let mut files = BTreeMap::new();
    for process in &processes {
        let views = process_tree::views(*process);
        // All threads share one memory, and /proc doesn't show it for a thread that has ended.
        let statuses = views.iter().map(|view| (view, fs::read_to_string(view.join("status")).unwrap_or_default()));
        let Some((view, status)) = statuses.into_iter().find(|(_, status)| status.contains("RssAnon:")) else {
            continue;
        };
        private = private.saturating_add(entry(&status, "RssAnon:"));
        // Each process's share of memory that several have mapped; a kernel without that count has the whole.
        match fs::read_to_string(view.join("smaps_rollup")) {
            Ok(rollup) => shares = shares.saturating_add(entry(&rollup, "Pss_Shmem:")),
            Err(_) => mapped = mapped.max(entry(&status, "RssShmem:")),
        }
        folders = folders.max(in_folders(&view.join("root")));
        for open in views.iter().flat_map(|view| fs::read_dir(view.join("fd"))).flatten().flatten() {
            let is_memory = fs::read_link(open.path()).is_ok_and(|path| path.to_string_lossy().starts_with("/memfd:"));
            if let (true, Ok(file)) = (is_memory, fs::metadata(open.path())) {
                files.insert((file.dev(), file.ino()), file.blocks() * 512);
            }
        }
    }
    let files = files.into_values().fold(folders, u64::saturating_add);
    // A file in memory that is mapped is seen in both ways.
    private.saturating_add(mapped.max(shares).max(files))
}

/// The bytes in the private folders below the root of a process; 0 while that root is still the host's.
fn in_folders(root: &Path) -> u64 {
    let id = |path: &Path| fs::metadata(path).ok().map(|folder| (folder.dev(), folder.ino()));
    if id(root) == id(Path::new("/")) {
        return 0;
    }
    // A folder that is not in memory is not the cell's.
    let is_in_memory = |path: &Path| statfs(path).is_ok_and(|status| status.filesystem_type() == TMPFS_MAGIC);
    let folders = PRIVATE.iter().map(|folder| root.join(folder.trim_start_matches('/')));
    let used = folders.filter(|path| is_in_memory(path)).filter_map(|path| {
        let status = statvfs(&path).ok()?;
        Some(status.blocks().saturating_sub(status.blocks_free()).saturating_mul(status.fragment_size()))
    });
    used.fold(0, u64::saturating_add)
}

/// An entry of proc_pid_status(5), such as `RssAnon:  1024 kB`, in bytes.
fn entry(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    value.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_status_are_kibibytes() {
        let status = "Name:\tx\nRssAnon:\t     12 kB\nRssShmem:\t      3 kB\n";
        assert_eq!((entry(status, "RssAnon:"), entry(status, "RssShmem:"), entry(status, "VmX:")), (12288, 3072, 0));
    }
}
