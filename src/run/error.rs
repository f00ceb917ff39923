//! Why an experiment can't be run, or its run ended early.

use super::bench::in_lines;
use crate::cache::CacheError;
use crate::home::HomeError;
use crate::ops::provide::ProvideError;
use crate::pipeline;
use crate::registry::lockfile::LockfileError;
use crate::registry::{RegistryError, UpstreamError};
use crate::sandbox::SandboxError;
use crate::sandbox::probe::Check;
use crate::store::StoreError;
use crate::trace::TraceError;

/// Errors that end a run early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Results couldn't be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The pools can't be set up.
    #[error(transparent)]
    Pipeline(#[from] pipeline::ConfigError),
    /// The trace can't be begun. One that breaks off later doesn't end a run.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Why a [`Keeper`](super::Keeper) couldn't keep a result: the error of the store, or of another place for results.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct KeepError(Box<dyn std::error::Error + Send + Sync>);

impl KeepError {
    /// The error of a place for results.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

/// Why a session can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The request asks for something that isn't there, or contradicts an earlier one.
    #[error("{0}")]
    Misuse(String),
    /// The native sandbox fails on this host.
    #[error("this host can't make sandboxes:\n{}", in_lines(.0))]
    NoSandbox(Vec<Check>),
    /// The host doesn't enforce all limits, and the request demands it.
    #[error(
        "this host doesn't enforce every limit, as --require-limits demands:\n  {}\n\
         help: `maar doctor` says how to change that",
        .0.join("\n  ")
    )]
    Unenforced(Vec<String>),
    /// A sandbox couldn't be opened.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// maar's folder couldn't be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database couldn't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// cargo's configuration names no usable registry.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The registry didn't answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A lockfile that a crate brings along can't be used.
    #[error(transparent)]
    Lockfile(#[from] LockfileError),
    /// The layers of compiled dependencies couldn't be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// What cells need of toolchains couldn't be put into the run's folder.
    #[error(transparent)]
    Provide(#[from] ProvideError),
    /// The settings couldn't be written as JSON.
    #[error("failed to write the settings down: {0}")]
    Settings(serde_json::Error),
    /// The experiment was deleted while it ran.
    #[error("the experiment `{0}` vanished from the store while it ran: another process deleted it; run it again")]
    Vanished(String),
    /// The run ended early.
    #[error(transparent)]
    Run(#[from] RunError),
}
