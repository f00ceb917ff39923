//! Errors of the database, sorted by remedy.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{ErrorCode, ffi};

/// Why the store can't answer a request.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    #[error("failed to create the folder {}", .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} is not a database of maar; move it away or choose another home", .path.display())]
    NotOurs { path: PathBuf },
    #[error("{} is damaged; move it away to start over, or put a backup in its place", .path.display())]
    Damaged { path: PathBuf, source: rusqlite::Error },
    #[error(
        "{} was written by a newer maar (schema {found}, this one knows up to {known}); use that one, or another home",
        .path.display()
    )]
    Newer { path: PathBuf, found: i64, known: usize },
    #[error("no space left to write {}; free some and run again, what is finished is kept", .path.display())]
    Full { path: PathBuf, source: rusqlite::Error },
    #[error("{} can't be written; give this user the right to, or choose another home", .path.display())]
    ReadOnly { path: PathBuf, source: rusqlite::Error },
    #[error("{} can't be written, and copying it to read it failed; set TMPDIR to a folder with room", .path.display())]
    Copy { path: PathBuf, source: io::Error },
    #[error("another process keeps {} locked; wait for it or end it, then run again", .path.display())]
    Busy { path: PathBuf, source: rusqlite::Error },
    #[error("failed to {doing} in {}", .path.display())]
    Sql { path: PathBuf, doing: &'static str, source: rusqlite::Error },
    #[error("{} holds a {what} that this maar can't read", .path.display())]
    Unreadable { path: PathBuf, what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("there is no experiment `{name}` in {}", .path.display())]
    Unknown { path: PathBuf, name: String },
    #[error("failed to start the thread that keeps results")]
    Thread(#[source] io::Error),
    #[error("results can't be kept any more")]
    Stopped(#[source] Arc<StoreError>),
    #[error("the thread that keeps results has panicked; this is a defect of maar")]
    Panicked,
}

impl StoreError {
    /// Sorts an error of SQLite about the database at `path`; `doing` is the request, such as "read the results".
    pub(super) fn sql(path: &Path, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.sqlite_error_code() {
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path, source },
                Some(ErrorCode::DiskFull) => Self::Full { path, source },
                // On a full disk, the memory that connections share can't grow.
                Some(ErrorCode::SystemIoFailure) if extended(&source) == Some(ffi::SQLITE_IOERR_SHMSIZE) => {
                    Self::Full { path, source }
                }
                // In WAL mode even readers write the `-shm` file, so a permission error means read-only.
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                    Self::ReadOnly { path, source }
                }
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, source },
                // SQLite has many more codes; its own words are the best message for them.
                Some(_) | None => Self::Sql { path, doing, source },
            }
        }
    }

    /// The error for `what`, read from the database at `path`, that makes no sense.
    pub(super) fn unreadable<E>(path: &Path, what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Unreadable { path: path.to_owned(), what, source: source.into() }
    }
}

/// The code with all its details: <https://sqlite.org/rescode.html>.
fn extended(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}
