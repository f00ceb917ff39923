//! Reports that the server hasn't taken yet: a folder for each, which appears whole or not at all.
//!
//! Files are synced before their folder gets its name, so that a report survives a crash as soon as it is sealed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::wire::{Lease, MAX_BUNDLE, MAX_REPORT, Report};

/// The folder of reports.
#[derive(Debug)]
pub(super) struct Outbox {
    folder: PathBuf,
    next: AtomicU64,
}

/// A report that waits.
#[derive(Debug)]
pub(super) struct Sealed {
    folder: PathBuf,
    /// The report.
    pub(super) report: Report,
    /// Its bundle; empty if it has none.
    pub(super) bundle: Vec<u8>,
}

const REPORT: &str = "report.json";
const BUNDLE: &str = "bundle";

/// The beginning of the name of a folder that isn't whole yet.
const UNSEALED: &str = ".tmp-";

impl Outbox {
    /// Opens the folder, and removes the unfinished entries of a crash.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNSEALED) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        // Names order reports by age, also after a restart.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let next = AtomicU64::new(u64::try_from(since.as_micros()).unwrap_or_default());
        Ok(Self { folder: folder.to_owned(), next })
    }

    /// Keeps a report until the server has taken it.
    pub(super) fn seal(&self, report: &Report, bundle: &[u8]) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let unsealed = self.folder.join(format!("{UNSEALED}{number:020}"));
        fs::create_dir(&unsealed)?;
        write(&unsealed.join(BUNDLE), bundle)?;
        write(&unsealed.join(REPORT), &serde_json::to_vec(report)?)?;
        sync_folder(&unsealed)?;
        fs::rename(&unsealed, self.folder.join(format!("{number:020}")))?;
        sync_folder(&self.folder)
    }

    /// The leases of all reports that wait.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let read = |folder: PathBuf| Some(Sealed::read(&folder)?.report.lease);
        self.folders().into_iter().filter_map(read).collect()
    }

    /// The oldest report that isn't one of `but`. One that can't be read is removed: it would never be sent.
    pub(super) fn oldest(&self) -> Option<Sealed> {
        self.folders().into_iter().find_map(|folder| {
            let sealed = Sealed::read(&folder);
            if sealed.is_none() {
                // Tried again at the next look.
                let _ = fs::remove_dir_all(&folder);
            }
            sealed
        })
    }

    /// Whether no report waits.
    pub(super) fn is_empty(&self) -> bool {
        self.folders().is_empty()
    }

    /// How many bytes of bundles wait.
    pub(super) fn bytes(&self) -> u64 {
        let size = |folder: &PathBuf| fs::metadata(folder.join(BUNDLE)).map_or(0, |metadata| metadata.len());
        self.folders().iter().map(size).sum()
    }

    fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let sealed = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with(UNSEALED));
        let mut folders: Vec<PathBuf> = sealed.map(|entry| entry.path()).collect();
        folders.sort();
        folders
    }
}

impl Sealed {
    fn read(folder: &Path) -> Option<Self> {
        let report = bounded(&folder.join(REPORT), MAX_REPORT)?;
        let bundle = bounded(&folder.join(BUNDLE), MAX_BUNDLE)?;
        Some(Self { folder: folder.to_owned(), report: serde_json::from_slice(&report).ok()?, bundle })
    }

    /// Removes it: the server has decided about it.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.folder)
    }
}

fn bounded(path: &Path, most: usize) -> Option<Vec<u8>> {
    let length = fs::metadata(path).ok()?.len();
    (length <= most as u64).then(|| fs::read(path).ok()).flatten()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Digest;

    fn report(lease: &str) -> Report {
        Report {
            lease: Lease(lease.to_owned()),
            agent: "0.1.0".to_owned(),
            environment: Digest::of(b""),
            toolchains: Vec::new(),
            steps: Vec::new(),
            bundle: None,
        }
    }

    #[test]
    fn reports_wait_in_order_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("outbox");
        let outbox = Outbox::open(&folder).unwrap();
        assert!(outbox.is_empty());
        outbox.seal(&report("1"), b"logs").unwrap();
        drop(outbox);
        let outbox = Outbox::open(&folder).unwrap();
        outbox.seal(&report("2"), b"").unwrap();
        assert_eq!(outbox.leases(), ["1", "2"].map(|lease| Lease(lease.to_owned())));
        assert_eq!(outbox.bytes(), 4);
        let oldest = outbox.oldest().unwrap();
        assert_eq!((&oldest.report, &oldest.bundle[..]), (&report("1"), &b"logs"[..]));
        oldest.remove().unwrap();
        assert_eq!(outbox.oldest().unwrap().report, report("2"));
    }

    #[test]
    fn a_report_that_a_crash_cut_short_is_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".tmp-1")).unwrap();
        fs::write(dir.path().join(".tmp-1").join(REPORT), b"{").unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        assert!(outbox.is_empty() && !dir.path().join(".tmp-1").exists());
    }

    #[test]
    fn a_report_that_cannot_be_read_does_not_hold_up_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join("00000000000000000001")).unwrap();
        outbox.seal(&report("2"), b"").unwrap();
        assert_eq!(outbox.oldest().unwrap().report, report("2"));
    }
}
