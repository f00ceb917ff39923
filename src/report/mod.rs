//! Reports: one file per format. Reads results and logs, never live state.
//!
//! Everything that crates, registries and users wrote is hostile here: each format neutralises it in its own way.

pub mod figures;
pub mod html;
pub mod json;
pub mod markdown;
pub mod retry;
pub mod terminal;
pub mod text;

use std::io;
use std::path::PathBuf;

use crate::plan::LogId;
use crate::sandbox::Output;
use crate::store::StoreError;

/// Where formats get the log of a step from; none if it printed nothing.
pub type Logs<'a> = dyn Fn(LogId) -> Result<Option<Output>, StoreError> + 'a;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ReportError {
    #[error("failed to write the report")]
    Write(#[from] io::Error),
    #[error("failed to write the report to {}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} exists and is no report of maar; remove it or choose another place", .path.display())]
    Occupied { path: PathBuf },
    #[error("failed to read a log for the report")]
    Log(#[from] StoreError),
}
