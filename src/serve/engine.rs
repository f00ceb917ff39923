//! `[engine]`: starts what agents need, namely the engine, the dispatcher, the feeder and the folder of bundles.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::ServeError;
use super::database::Database;
use super::feeder;
use super::incoming::Incoming;
use super::leases::{Dispatcher, Times};
use super::state::note;
use crate::home::Home;
use crate::lease::{self, Engine, Here, Key, Nats, find_server};

/// `[engine]`: agents run the experiments, and jobs wait in an engine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EngineConfig {
    /// `auto`: a `nats-server` of this process; `off`: in memory; else the URL of one.
    pub nats: String,
    /// How long a lease lasts without a renewal. The shorter, the sooner a lost machine's crates run elsewhere.
    #[serde(deserialize_with = "super::config::duration")]
    pub lease: Duration,
    /// How often agents renew; several times within a lease.
    #[serde(deserialize_with = "super::config::duration")]
    pub renew: Duration,
    /// How long a request for jobs waits for one.
    #[serde(deserialize_with = "super::config::duration")]
    pub poll: Duration,
    /// How often the server looks for jobs that the engine lost.
    #[serde(deserialize_with = "super::config::duration")]
    pub sweep: Duration,
    /// How long nothing is handed out after a start, so that agents renew first.
    #[serde(deserialize_with = "super::config::duration")]
    pub grace: Duration,
    /// The most crates that one agent has at a time.
    pub cap: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            nats: "auto".to_owned(),
            lease: Duration::from_secs(120),
            renew: Duration::from_secs(30),
            poll: Duration::from_secs(60),
            sweep: Duration::from_secs(60),
            grace: Duration::from_secs(30),
            cap: 256,
        }
    }
}

/// What agents need.
#[derive(Debug)]
pub struct Agents {
    /// Hands jobs out.
    pub dispatcher: Dispatcher,
    /// Bundles that were uploaded.
    pub(super) incoming: Incoming,
}

impl Agents {
    /// Starts the engine and the tasks beside it.
    pub(super) async fn start(config: &EngineConfig, home: &Home, database: Database) -> Result<Self, ServeError> {
        let folder = home.dir().join("incoming");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ServeError::Folder { path, source }
        };
        let incoming = Incoming::open(folder.clone()).map_err(failed(&folder))?;
        incoming.tidy().map_err(failed(&folder))?;
        let EngineConfig { nats, lease, renew, poll, sweep, grace, cap } = config;
        let times = lease::Times { lease: *lease, ..lease::Times::default() };
        let engine = match nats.as_str() {
            "off" => Engine::Here(Here::new(times)),
            "auto" => {
                let program = find_server()?;
                let server = lease::Server::start(&program, &home.dir().join("engine")).await?;
                note(&format!("jobs wait in {}", program.display()));
                Engine::Nats(Nats::with(server, times))
            }
            url => Engine::Nats(Nats::connect(url, times).await?),
        };
        let secret = secret(&home.dir().join("lease-key"))?;
        let times = Times { lease: *lease, renew: *renew, poll: *poll, sweep: *sweep, grace: *grace };
        let dispatcher = Dispatcher::new(database, engine, &secret, times, *cap);
        tokio::spawn(feeder::run(dispatcher.clone()));
        Ok(Self { dispatcher, incoming })
    }
}

/// The secret that seals leases, which survives restarts.
fn secret(path: &Path) -> Result<[u8; 32], ServeError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| ServeError::Folder { path: path.to_owned(), source };
    match std::fs::read(path) {
        // One of another length was cut short: leases that it sealed are void.
        Ok(bytes) => {
            if let Ok(secret) = <[u8; 32]>::try_from(bytes) {
                return Ok(secret);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let random = |_| failed(std::io::Error::other("the kernel gives no random numbers"));
    let secret = Key::secret().map_err(random)?;
    let file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(&secret).and_then(|()| file.sync_all())).map_err(failed)?;
    Ok(secret)
}
