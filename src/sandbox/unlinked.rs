//! Files that have no name any more and still take space, because a process holds them open.
//!
//! No walk through folders finds them. A process can be asked only while it runs, and a file that it has mapped and
//! closed is not found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::process_tree;

/// The processes that are asked.
#[derive(Debug, Clone)]
pub(super) enum Processes {
    /// Those in a list of the kernel, one number a line.
    Listed(PathBuf),
    /// The descendants of this one.
    Below(u32),
}

impl Processes {
    /// Their numbers.
    pub(super) fn numbers(&self) -> Vec<u32> {
        match self {
            Self::Listed(list) => {
                let text = fs::read_to_string(list).unwrap_or_default();
                text.lines().filter_map(|line| line.parse().ok()).collect()
            }
            Self::Below(ancestor) => process_tree::descendants(*ancestor),
        }
    }
}

/// The bytes that files without a name take on the file systems of `folders` or on overlays, each counted once.
pub(super) fn held(processes: &Processes, folders: &[PathBuf]) -> u64 {
    let own: BTreeSet<u64> = folders.iter().filter_map(|folder| Some(fs::metadata(folder).ok()?.dev())).collect();
    let mut files = BTreeMap::new();
    // Processes with the same root see the same mounts. The helper may be listed too, and has the root of the host.
    let mut devices: BTreeMap<(u64, u64), BTreeSet<u64>> = BTreeMap::new();
    for folder in processes.numbers().into_iter().flat_map(process_tree::views) {
        // A thread that has ended has no root.
        let Ok(root) = fs::metadata(folder.join("root")) else { continue };
        let devices = devices.entry((root.dev(), root.ino())).or_insert_with(|| &own | &overlays(&folder));
        for entry in fs::read_dir(folder.join("fd")).into_iter().flatten().flatten() {
            // Through the link, which leads to the file even if it has no name.
            let Ok(file) = fs::metadata(entry.path()) else { continue };
            if file.is_file() && file.nlink() == 0 && devices.contains(&file.dev()) {
                files.insert((file.dev(), file.ino()), file.blocks() * 512);
            }
        }
    }
    files.into_values().fold(0, u64::saturating_add)
}

/// The device numbers of the overlays that a process sees; the format is that of proc_pid_mountinfo(5).
fn overlays(process: &Path) -> BTreeSet<u64> {
    let text = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    let device = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
        let is_overlay = kind.split(' ').next() == Some("overlay");
        is_overlay.then(|| Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?)))?
    };
    text.lines().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_open_file_without_a_name_counts_once_and_one_with_a_name_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned()];
        let list = dir.path().join("list");
        fs::write(&list, format!("{}\n{0}\n1x\n", std::process::id())).unwrap();
        let processes = Processes::Listed(list);
        let before = held(&processes, &folders);
        let path = dir.path().join("file");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let again = file.try_clone().unwrap();
        assert_eq!(held(&processes, &folders), before);
        fs::remove_file(&path).unwrap();
        let found = held(&processes, &folders) - before;
        assert!((1 << 20..3 << 20).contains(&found), "{found}");
        drop((file, again));
        assert_eq!(held(&processes, &folders), before);
    }
}
