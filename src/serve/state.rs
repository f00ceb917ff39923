//! What all requests share.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::ServeError;
use super::config::Config;
use super::database::Database;
use super::engine::Agents;
use super::events::Events;
use super::limits::Limits;
use super::worker::{Runner, Worker};
use crate::home::Home;
use crate::printable;
use crate::store::StoreError;
use crate::store::service::State;

/// The shared parts of a server. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    config: Config,
    home: Home,
    database: Database,
    limits: Limits,
    agents: OnceLock<Agents>,
    events: Events,
    worker: Worker,
    runner: Option<Arc<dyn Runner>>,
    started: SystemTime,
}

impl AppState {
    pub(super) fn open(config: Config, home: Home, runner: Option<Arc<dyn Runner>>) -> Result<Self, ServeError> {
        let database = Database::open(home.database())?;
        let limits = Limits::new(&config.server.limits);
        Ok(Self(Arc::new(Inner {
            config,
            home,
            database,
            limits,
            agents: OnceLock::new(),
            events: Events::default(),
            worker: Worker::default(),
            runner,
            started: SystemTime::now(),
        })))
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

    /// What agents need; none without `[engine]`.
    pub fn agents(&self) -> Option<&Agents> {
        self.0.agents.get()
    }

    /// Starts what agents need, if the settings have an `[engine]`.
    pub(super) async fn start_agents(&self) -> Result<(), ServeError> {
        let Some(config) = &self.config().engine else { return Ok(()) };
        let agents = Agents::start(config, self.home(), self.database().clone()).await?;
        // It is set once, at the start.
        let _ = self.0.agents.set(agents);
        Ok(())
    }

    /// The limits of requests.
    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The events for those who watch.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The worker of this process.
    pub fn worker(&self) -> &Worker {
        &self.0.worker
    }

    /// The code that runs experiments; none: this process runs none.
    pub fn runner(&self) -> Option<&Arc<dyn Runner>> {
        self.0.runner.as_ref()
    }

    /// Moves an experiment to another state on the server's behalf, and notifies the clients that watch. Blocks.
    pub fn turn(&self, name: &str, from: &[State], to: State, trouble: Option<&str>) -> Result<bool, StoreError> {
        let turned = self.database().now(|store| store.turn(name, from, to, trouble, None))?;
        if turned {
            self.events().publish(name, "state", &serde_json::json!({ "state": to.as_str(), "trouble": trouble }));
        }
        Ok(turned)
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
    note(&printable::with_causes(error));
}

/// Writes a line to the server's log.
pub fn note(words: &str) {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    // A log without a reader changes nothing.
    let _ = writeln!(anstream::stderr(), "{now} {}", printable::one_line(words));
}
