//! Keeps experiments, their plans, results and logs in one SQLite database.
//!
//! Many connections read, also those of other processes, while one thread writes results. Has no part in making
//! results or judging them.

mod costs;
mod error;
mod packed;
mod plan;
mod read;
mod readonly;
mod runs;
mod schema;
#[cfg(feature = "server")]
pub mod service;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

pub use error::StoreError;
pub use plan::{AnsweredQuery, ExperimentRecord};
pub use read::Overview;
pub use runs::{RunCost, RunId};
pub use writer::{Record, Writer};

/// How long a connection waits for another process's transaction; replacing the plan of 100,000 crates takes seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
    /// The copy that is read in place of the database, if there is one.
    _copy: Option<TempDir>,
}

impl Store {
    /// Opens the database at `path`, creating it and its folder if they don't exist.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        }
        Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// Opens the database at `path`; `None` if it doesn't exist. One that this user can't write to is opened for
    /// reading.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        match Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
            Err(StoreError::ReadOnly { .. }) => readonly::open(path).map(Some),
            opened => opened.map(Some),
        }
    }

    /// Starts the thread that writes results, with its own connection.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        Writer::start(Self::connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let mut connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(StoreError::sql(path, "open the database"))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(StoreError::sql(path, "set up a connection"))?;
        schema::prepare(&mut connection, path)?;
        Ok(Self { path: path.to_owned(), connection, _copy: None })
    }

    fn sql(&self, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
        StoreError::sql(&self.path, doing)
    }
}

/// A time as the database keeps it: milliseconds since 1970.
fn epoch_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A duration as the database keeps it.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
