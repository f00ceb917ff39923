//! How much the folders that a command writes to hold, while it runs.
//!
//! The kernel has no such limit for a folder, so that this is a sample: file systems are asked often how much is free,
//! which costs next to nothing, and the folders are counted when that has changed by a good part of the limit. A
//! command can exceed the limit by its writes between two counts. Folders that are moved about while they are counted
//! are counted again, and deleted files count as long as a process holds them open. A command that fails while a file
//! system is short of space has not failed by itself, no matter which process filled the disk. Without root's rights,
//! folders that their owner has closed are not seen; their space is free when the command ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use nix::errno::Errno;
use nix::sys::statvfs::{Statvfs, statvfs};
use tokio::time::Instant;

use super::tree;
use super::unlinked::{self, Processes};

/// How often file systems are asked how much is free.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often folders that move during the count are counted before the loss of free space decides.
const COUNTS: usize = 3;

/// How long counting can be put off where nothing seems to change: another process may be freeing space.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// Counting rests this many times as long as it took, so that it costs next to nothing on folders of any size; unless
/// as much as the whole limit is lost in that time.
const REST: u32 = 20;

/// Folders are counted when this part of the limit has gone from their file system.
const PART: u64 = 16;

/// The least size that a file counts for: an entry costs the file system something even if it is empty.
const LEAST: u64 = 4096;

/// A file system with less than this left counts as full: cargo and rustc give up a little before the last byte.
const FULL: ByteSize = ByteSize::mib(16);

/// So does one that would be full after so many more looks at the fastest loss of space so far: the process that filled
/// it may have made room again before the next look.
const LOOKS_AHEAD: u64 = 2;

/// The disk allowance of some folders.
#[derive(Debug)]
pub(super) struct Allowance {
    folders: Vec<PathBuf>,
    /// Those who write there, who may hold files that have no name any more.
    processes: Processes,
    limit: u64,
    /// The free space at the beginning.
    free_at_first: u64,
    /// The free space at the last count of the folders, or at the beginning.
    free: u64,
    /// When this began.
    begun: Instant,
}

/// Samples of a file system, for all commands that write to it.
#[derive(Debug)]
struct Shortage {
    /// The free space at the last look.
    last: u64,
    /// The most that was lost from one look to the next, and when.
    fastest: (u64, Instant),
    /// When it was last short of space, if ever.
    short_at: Option<Instant>,
}

/// The file systems that commands of this process write to, by their numbers.
static DISKS: Mutex<BTreeMap<u64, Shortage>> = Mutex::new(BTreeMap::new());

/// How long a loss of space is remembered as the fastest.
const MEMORY: Duration = Duration::from_secs(10);
/// How long before a command begins a shortage still concerns it.
const BEFORE: Duration = Duration::from_secs(1);
/// The longest wait for a shortage to end. A longer shortage is likely to last.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often they look.
const WAITING_LOOK: Duration = Duration::from_millis(250);

impl Shortage {
    fn new(left: u64, now: Instant) -> Self {
        let short_at = (left < FULL.as_u64()).then_some(now);
        Self { last: left, fastest: (0, now), short_at }
    }

    /// Records the free space.
    fn note(&mut self, left: u64, now: Instant) {
        let lost = self.last.saturating_sub(left);
        let (fastest, at) = self.fastest;
        if lost >= fastest || now.duration_since(at) > MEMORY {
            self.fastest = (lost, now);
        }
        self.last = left;
        if left < FULL.as_u64().max(self.fastest.0.saturating_mul(LOOKS_AHEAD)) {
            self.short_at = Some(now);
        }
    }
}

/// The result of a count of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    Within,
    Over,
    /// They were moved about all the time.
    Unknown,
}

/// Returns when the file system of a folder has not been short of space for a moment, or when that takes too long.
pub async fn until_roomy(folder: &Path) {
    let begun = Instant::now();
    let folders = [folder.to_owned()];
    while begun.elapsed() < PATIENCE {
        let now = Instant::now();
        if look(&folders).into_iter().flatten().all(|short_at| now.duration_since(short_at) > BEFORE) {
            return;
        }
        tokio::time::sleep(WAITING_LOOK).await;
    }
}

impl Allowance {
    /// The folders, all together, may hold `limit`.
    pub(super) fn new(folders: &[&Path], processes: Processes, limit: ByteSize) -> Self {
        let folders: Vec<PathBuf> = folders.iter().map(|&folder| folder.to_owned()).collect();
        let free = free(&folders);
        Self { folders, processes, limit: limit.as_u64(), free_at_first: free, free, begun: Instant::now() }
    }

    /// Returns when the folders hold more than they may, and never if they don't.
    pub(super) async fn exceeded(&mut self) {
        let mut counted = Instant::now();
        let mut rest = Duration::ZERO;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            look(&self.folders);
            if !is_due(self.shrunk(), self.limit, counted.elapsed(), rest) {
                continue;
            }
            let begun = Instant::now();
            if self.count().await {
                return;
            }
            counted = Instant::now();
            rest = counted.duration_since(begun) * REST;
        }
    }

    /// Whether the folders hold more than they may, after a command has failed. Counts in any case, because space that
    /// others free at the same time hides the command's use.
    pub(super) async fn is_exceeded(&mut self) -> bool {
        self.count().await
    }

    /// Whether the host has next to no space, or no files, left for one of the folders, or had while it was asked.
    pub(super) fn is_host_full(&self) -> bool {
        let from = self.begun.checked_sub(BEFORE).unwrap_or(self.begun);
        look(&self.folders).into_iter().flatten().any(|short_at| short_at >= from)
    }

    /// The loss of free space since the folders were counted.
    fn shrunk(&self) -> u64 {
        self.free.saturating_sub(free(&self.folders))
    }

    async fn count(&mut self) -> bool {
        let (folders, processes, limit) = (self.folders.clone(), self.processes.clone(), self.limit);
        self.free = free(&folders);
        // A command that could not be counted is not over its limit, unless the command itself prevented the count.
        match tokio::task::spawn_blocking(move || count(&folders, &processes, limit)).await {
            Ok(Count::Over) => true,
            Ok(Count::Unknown) => self.free_at_first.saturating_sub(self.free) >= self.limit,
            Ok(Count::Within) | Err(_) => false,
        }
    }
}

/// Looks at the file systems of some folders, and returns when each was last short of space.
fn look(folders: &[PathBuf]) -> Vec<Option<Instant>> {
    let now = Instant::now();
    let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    let statuses = folders.iter().filter_map(|folder| statvfs(folder).ok());
    let noted = statuses.map(|status| {
        // Some file systems make room for files as they go and report no number of them.
        let has_files = status.files() == 0 || status.files_available() > 0;
        let left = if has_files { bytes_left(&status).as_u64() } else { 0 };
        let disk = disks.entry(status.filesystem_id()).or_insert_with(|| Shortage::new(left, now));
        disk.note(left, now);
        disk.short_at
    });
    noted.collect()
}

/// Whether folders are to be counted, so long after the last time, of which `rest` is to be rested.
fn is_due(shrunk: u64, limit: u64, since: Duration, rest: Duration) -> bool {
    if since < rest { shrunk >= limit } else { shrunk >= limit / PART || since >= COUNT_EVERY }
}

/// Counts what folders hold, no further than needed.
fn count(folders: &[PathBuf], processes: &Processes, limit: u64) -> Count {
    let unlinked = unlinked::held(processes, folders);
    if unlinked > limit {
        return Count::Over;
    }
    for _ in 0..COUNTS {
        let (mut held, mut is_known) = (unlinked, true);
        let is_over = folders.iter().any(|folder| {
            // An unreadable folder holds its size so far.
            let walked = tree::walk(folder, &mut |status| {
                held = held.saturating_add(LEAST.max(status.st_blocks.unsigned_abs() * 512));
                if held > limit { tree::Go::Stop } else { tree::Go::On }
            });
            is_known &= walked != Err(Errno::ESTALE);
            held > limit
        });
        match (is_over, is_known) {
            (true, _) => return Count::Over,
            (false, true) => return Count::Within,
            (false, false) => {}
        }
    }
    Count::Unknown
}

/// The free space on the file systems of some folders, files counted for [`LEAST`] bytes each.
fn free(folders: &[PathBuf]) -> u64 {
    let statuses = folders.iter().filter_map(|folder| statvfs(folder).ok());
    let mut free: Vec<(u64, u64)> = statuses
        .map(|status| {
            (status.filesystem_id(), bytes_left(&status).as_u64().saturating_add(status.files_available() * LEAST))
        })
        .collect();
    free.sort_unstable();
    free.dedup_by_key(|(id, _)| *id);
    free.into_iter().map(|(_, bytes)| bytes).fold(0, u64::saturating_add)
}

/// How much space a file system has left for this user; `None`: it doesn't say.
pub(super) fn space_left(path: &Path) -> Option<ByteSize> {
    statvfs(path).ok().map(|status| bytes_left(&status))
}

fn bytes_left(status: &Statvfs) -> ByteSize {
    ByteSize(status.blocks_available().saturating_mul(status.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process has this number's descendants.
    const NOBODY: Processes = Processes::Below(u32::MAX);

    fn is_over(folders: &[PathBuf], limit: u64) -> bool {
        count(folders, &NOBODY, limit) == Count::Over
    }

    #[test]
    fn a_disk_that_was_nearly_full_or_about_to_be_was_short() {
        let mib = |count: u64| count << 20;
        for (left, expected) in [
            (&[1000, 999, 998][..], false),
            (&[1000, 15, 1000], true),
            // Full between two looks, and room was made again before the second.
            (&[1000, 800, 600, 1000], false),
            (&[1000, 600, 700, 1000], true),
        ] {
            let now = Instant::now();
            let mut shortage = Shortage::new(mib(left[0]), now);
            left.iter().for_each(|&left| shortage.note(mib(left), now));
            assert_eq!(shortage.short_at.is_some(), expected, "{left:?}");
        }
    }

    #[test]
    fn counting_rests_unless_the_whole_limit_is_gone() {
        let seconds = Duration::from_secs;
        for (shrunk, since, rest, expected) in [
            (0, 1, 0, false),
            (99, 1, 0, false),
            (100, 1, 0, true),
            (0, 60, 0, true),
            (100, 1, 20, false),
            (1599, 19, 20, false),
            (1600, 1, 20, true),
            (0, 60, 90, false),
        ] {
            assert_eq!(is_due(shrunk, 1600, seconds(since), seconds(rest)), expected, "{shrunk} {since} {rest}");
        }
    }

    #[test]
    fn bytes_and_files_both_count_and_holes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned()];
        // The folder itself is the first.
        assert!(is_over(&folders, LEAST - 1));
        std::fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert!(is_over(&folders, 4 * LEAST - 1));
        assert!(!is_over(&folders, 4 * LEAST));
        std::fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
        assert!(is_over(&folders, 1 << 20));
    }

    #[tokio::test]
    async fn what_others_free_meanwhile_hides_nothing_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut allowance = Allowance::new(&[dir.path()], NOBODY, ByteSize::mib(1));
        allowance.free = 0;
        assert!(!allowance.is_exceeded().await);
        std::fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
        allowance.free = 0;
        assert!(allowance.is_exceeded().await);
    }

    #[test]
    fn nothing_is_over_the_limit_without_folders() {
        assert!(!is_over(&[], 0));
        assert_eq!(free(&[]), 0);
    }
}
