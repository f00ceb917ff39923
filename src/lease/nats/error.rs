//! Errors of NATS, sorted by remedy.

use std::io;
use std::path::PathBuf;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{Error as JetStreamError, ErrorCode};

/// Why NATS can't do a request.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NatsError {
    #[error(
        "nats-server is not in PATH: install it (Debian: `apt install nats-server`), or set `[engine] nats` to the URL of \
         a server, or to \"off\" to keep the queue in memory"
    )]
    Missing,
    #[error("failed to prepare {} for nats-server", .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("failed to start {}", .path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("{} ended or did not listen within {secs} s; its log is in {}", .path.display(), .log.display())]
    Ended { path: PathBuf, log: PathBuf, secs: u64 },
    #[error("failed to make a key for nats-server")]
    Key(#[source] nkeys::error::Error),
    #[error("failed to connect to NATS at {url}")]
    Connect { url: String, source: async_nats::ConnectError },
    #[error("nats-server is being started again; the next request may succeed")]
    Down,
    #[error("the stream of jobs or a consumer of it is gone")]
    Gone,
    #[error("NATS refused to {doing}")]
    Refused { doing: &'static str, source: JetStreamError },
    #[error("NATS ended a request for jobs: {status}")]
    Status { status: String },
    #[error("NATS did not answer the request to {doing}")]
    Silent { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("NATS did not take in a job")]
    Publish(#[source] PublishError),
    #[error("the receipt of a lease is not one of NATS: it was made by another engine")]
    Receipt,
}

impl NatsError {
    pub(super) fn publish(source: PublishError) -> Self {
        match source.kind() {
            PublishErrorKind::StreamNotFound => Self::Gone,
            _ => Self::Publish(source),
        }
    }

    pub(super) fn refused(doing: &'static str, source: JetStreamError) -> Self {
        match source.error_code() {
            ErrorCode::STREAM_NOT_FOUND | ErrorCode::CONSUMER_NOT_FOUND => Self::Gone,
            _ => Self::Refused { doing, source },
        }
    }

    pub(super) fn silent<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Silent { doing, source: source.into() }
    }
}
