//! Reads a database in a folder that this user can't write to.
//!
//! With a write-ahead log even a reader of SQLite's writes the `-shm` file beside the database. Where the log is empty,
//! the database is read as a file that never changes; where it isn't, as after a crash, a copy of both is read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::{Store, StoreError};

/// Opens the database at `path` for reading.
pub(super) fn open(path: &Path) -> Result<Store, StoreError> {
    let log = beside(path, "-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let copy = |source| StoreError::Copy { path: path.to_owned(), source };
        let dir = tempfile::tempdir().map_err(copy)?;
        let copied = dir.path().join("maar.db");
        copy_both(path, &copied).map_err(copy)?;
        let store = Store::connect(&copied, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        return Ok(Store { path: path.to_owned(), _copy: Some(dir), ..store });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let store = Store::connect(Path::new(&unchanging(path)), flags)?;
    Ok(Store { path: path.to_owned(), ..store })
}

fn copy_both(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::copy(beside(from, "-wal"), beside(to, "-wal"))?;
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The URI of a database that doesn't change: <https://sqlite.org/uri.html>.
fn unchanging(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;

    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            byte => drop(write!(uri, "%{byte:02x}")),
        }
    }
    uri + "?immutable=1"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ExperimentRecord, Store};

    fn begin(store: &mut Store) {
        let (toolchains, notes, crates) = Default::default();
        let record = ExperimentRecord {
            name: "kept".to_owned(),
            toolchains,
            settings: "{}".to_owned(),
            notes,
            crates,
            queries: Vec::new(),
        };
        store.begin(&record).unwrap();
    }

    #[test]
    fn a_database_is_read_as_it_is_and_with_what_its_log_adds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a ?#%.db");
        let mut store = Store::open(&path).unwrap();
        begin(&mut store);
        assert!(fs::metadata(beside(&path, "-wal")).unwrap().len() > 0);
        let names = |store: &Store| store.experiments().unwrap().into_iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!(names(&open(&path).unwrap()), ["kept"], "from the log");
        drop(store);
        assert!(!beside(&path, "-wal").exists());
        assert_eq!(names(&open(&path).unwrap()), ["kept"], "from the database");
        assert!(!beside(&path, "-shm").exists(), "nothing is written beside it");
    }
}
