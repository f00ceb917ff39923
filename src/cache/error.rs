//! Errors of layers. None is a crate's fault, and none keeps an op from running.

use std::io;
use std::path::{Path, PathBuf};

/// An error of layers.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file or folder couldn't be used.
    #[error("failed to {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl CacheError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
