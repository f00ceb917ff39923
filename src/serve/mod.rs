//! `maar serve`: experiments over HTTP, and the queue that runs them.
//!
//! Checks callers, keeps their experiments, and shows the results. Doesn't run experiments itself: the caller hands
//! in a [`worker::Runner`].

mod access;
pub mod config;
mod content;
mod database;
mod dispatch;
pub mod engine;
pub mod event;
pub mod events;
mod feeder;
pub mod http;
mod incoming;
pub mod leases;
mod limits;
mod listen;
pub mod problem;
mod queued;
mod renewals;
mod reports;
pub mod state;
pub mod token;
pub mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use crate::home::{Home, HomeError};
use crate::stop::Stop;
use crate::store::StoreError;
use config::Config;
use state::AppState;
use worker::Runner;

/// Why the server can't start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The home can't be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The first token can't be made.
    #[error(transparent)]
    Token(#[from] token::TokenError),
    /// The engine of jobs can't be used.
    #[error(transparent)]
    Engine(#[from] crate::lease::NatsError),
    /// A file or folder of the home can't be used.
    #[error("failed to use {}: {source}", .path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The address can't be listened on.
    #[error("failed to listen on {address}: {source}; choose another with --listen ADDRESS:PORT")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The certificate or its key can't be used.
    #[error("failed to use {} for TLS: {why}", .path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        why: String,
    },
}

/// A server that listens, and has not answered yet.
pub struct Server {
    state: AppState,
    listener: listen::Listener,
    first: Option<PathBuf>,
}

impl Server {
    /// Opens the database, makes the first token if none exists, and listens.
    ///
    /// # Errors
    /// Settings that can't be used, a port that is taken, or a home that can't be written to.
    pub async fn open(config: Config, home: Home, runner: Option<Arc<dyn Runner>>) -> Result<Self, ServeError> {
        let state = AppState::open(config, home, runner)?;
        let first = token::ensure_first(&state)?;
        state.start_agents().await?;
        let listener = listen::Listener::bind(state.config()).await?;
        Ok(Self { state, listener, first })
    }

    /// The part that requests share.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// The file with the first token, if this start made it.
    pub fn first_token(&self) -> Option<&std::path::Path> {
        self.first.as_deref()
    }

    /// Answers requests until `stop` rises, then ends the open ones. A message on `reload` reads the certificate again.
    pub async fn answer(self, stop: Stop, reload: tokio::sync::mpsc::Receiver<()>) {
        let router = http::router(self.state.clone(), stop.clone());
        let work = async {
            if let Some(runner) = self.state.runner() {
                worker::work(self.state.clone(), Arc::clone(runner), stop.clone()).await;
            }
        };
        tokio::join!(work, self.listener.answer(router, &self.state, stop.clone(), reload));
    }
}
