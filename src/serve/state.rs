//! What all requests share.

use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use super::ServeError;
use super::config::Config;
use super::database::Database;
use super::limits::Limits;
use crate::home::Home;
use crate::printable;

/// The shared parts of a server. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    config: Config,
    home: Home,
    database: Database,
    limits: Limits,
    started: SystemTime,
}

impl AppState {
    pub(super) fn open(config: Config, home: Home) -> Result<Self, ServeError> {
        let database = Database::open(home.database())?;
        let limits = Limits::new(&config.server.limits);
        Ok(Self(Arc::new(Inner { config, home, database, limits, started: SystemTime::now() })))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// maar's folder.
    pub fn home(&self) -> &Home {
        &self.0.home
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// The limits of requests.
    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// When the server started.
    pub fn started(&self) -> SystemTime {
        self.0.started
    }

    /// The present time.
    pub fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Writes an error and its causes to the server's log, which is stderr.
pub fn log(error: &dyn std::error::Error) {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    note(&words);
}

/// Writes a line to the server's log.
pub fn note(words: &str) {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    // A log without a reader changes nothing.
    let _ = writeln!(anstream::stderr(), "{now} {}", printable::one_line(words));
}
