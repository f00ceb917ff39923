//! `maar agent`: takes crates from a server, runs them as `maar run` does, and sends back the results.
//!
//! Speaks HTTP to one server, and opens no port. Keeps reports on disk until the server has taken them.

mod assignments;
mod client;
mod courier;
mod holding;
mod intake;
mod keeper;
mod outbox;
mod renewal;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use tokio::sync::Notify;

use crate::cache;
use crate::event::RunEvent;
use crate::experiment::{DEFAULT_LIMITS, DEFAULT_OVERCOMMIT, SandboxKind, Workers};
use crate::pipeline::Pool;
use crate::printable::one_line;
use crate::progress::{Progress, Update};
use crate::run::{self, Bench, RunError, Shape};
use crate::stop::{Stop, StopLevel, Stopper};
use crate::wire::{self, Digest, GiveBack, Hello, Lease, Reason, Welcome};
use assignments::Assignments;
pub use client::{BadServerUrl, CallError, Client, ServerUrl};
use holding::Holding;
use intake::Leased;
use keeper::Spool;
use outbox::Outbox;

/// How long an agent that ends goes on trying to send its last reports. Those that stay are sent after the next start.
const LAST_TRIES: Duration = Duration::from_secs(30);

/// Who the agent works for, and how much it takes.
#[derive(Debug)]
pub struct Config {
    /// The server, and the token for it.
    pub client: Client,
    /// The owner's labels of this host.
    pub labels: BTreeSet<String>,
    /// The largest number of crates that it has at a time; `None`: as many as keep all workers busy.
    pub cap: Option<u32>,
}

/// Why an agent ends early.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AgentError {
    #[error("the server refuses this agent: {0}")]
    Refused(CallError),
    #[error("failed to keep reports in {}", .path.display())]
    Outbox { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Run(#[from] RunError),
}

/// All parts of an agent that its tasks share.
#[derive(Debug)]
struct Agent {
    bench: Arc<Bench>,
    client: Client,
    hello: Hello,
    welcome: Welcome,
    holding: Holding,
    outbox: Outbox,
    /// Wakes the courier.
    sealed: Notify,
    /// Wakes the puller.
    freed: Notify,
}

impl Agent {
    /// Returns crates that didn't run to their end. Should the server not hear of it, their leases run out.
    async fn give_back(&self, leases: Vec<Lease>, reason: Reason, detail: String) {
        if leases.is_empty() {
            return;
        }
        if !detail.is_empty() {
            note(&format!("gives back {} of {}: {detail}", leases.len(), self.client.server()));
        }
        self.send_back(GiveBack { leases, reason, detail, keep: None }).await;
    }

    /// Returns everything but the crates whose reports wait, once nothing runs any more.
    async fn say_goodbye(&self) {
        let leases = self.holding.release_all();
        let (detail, keep) = ("the agent ends".to_owned(), Some(self.holding.leases()));
        self.send_back(GiveBack { leases, reason: Reason::Busy, detail, keep }).await;
    }

    async fn send_back(&self, message: GiveBack) {
        if let Err(error) = self.client.post::<_, serde::de::IgnoredAny>("give-back", &message).await {
            note(&error.to_string());
        }
    }
}

/// Prints a line for the owner of the host. It comes from tasks beside the run, which has the progress.
fn note(words: &str) {
    // A closed stderr has no reader.
    let _ = writeln!(anstream::stderr(), "{}", one_line(words));
}

/// Works for a server until `stop` rises. A `Drain` finishes the ops under way and gives the crates back.
///
/// # Errors
/// The server refuses the agent, or reports can't be kept.
pub async fn run(
    bench: Arc<Bench>,
    config: Config,
    progress: &mut Progress,
    (stopper, stop): (&Stopper, &Stop),
) -> Result<(), AgentError> {
    let Config { client, labels, cap } = config;
    let path = bench.home().dir().join("outbox");
    let outbox = Outbox::open(&path).map_err(|source| AgentError::Outbox { path, source })?;
    let most = shape(&bench, 1).workers.in_flight();
    let in_flight = cap.map_or(most, |cap| cap as usize).max(1);
    let hello = hello(&bench, labels, in_flight).await;
    let Some(welcome) = introduce(&client, &hello, progress, stop).await? else { return Ok(()) };
    let in_flight = in_flight.min(welcome.cap as usize).max(1);
    progress.update(Update::Note(format!("agent {}: takes up to {in_flight} crates at a time", welcome.name)));
    let holding = Holding::default();
    let (sealed, freed) = (Notify::new(), Notify::new());
    let agent = Arc::new(Agent { bench: Arc::clone(&bench), client, hello, welcome, holding, outbox, sealed, freed });
    // Reports that an earlier process couldn't send.
    agent.outbox.leases().into_iter().for_each(|lease| agent.holding.seal(lease));
    let shape = shape(&bench, in_flight);
    let (tasks, received) = async_channel::bounded(1);
    let (intake, keeper) = (Leased::new(Arc::clone(&agent), received), Spool::new(Arc::clone(&agent)));
    let puller = intake::pull(Arc::clone(&agent), Assignments::new(Arc::clone(&agent)), tasks, in_flight, stop.clone());
    let ran = {
        let renewal = tokio::spawn(renewal::renew(Arc::clone(&agent)));
        let courier = tokio::spawn(courier::send_all(Arc::clone(&agent)));
        let puller = tokio::spawn(puller);
        let mut events = |event: RunEvent| progress.update(event.into());
        let ran = run::drive(&bench, &shape, (&intake, &keeper), (&mut events, None), (stopper, stop)).await;
        // Nothing runs any more: crates that came too late are given back with the rest.
        puller.abort();
        agent.say_goodbye().await;
        last_tries(&agent).await;
        renewal.abort();
        courier.abort();
        ran
    };
    ran.map(drop).map_err(AgentError::from)
}

/// The pools of an agent on this host, for its progress.
pub fn pools(bench: &Bench) -> Vec<Pool> {
    shape(bench, 1).pools()
}

/// The number of crates that keeps this host busy, independent of the experiments' settings.
fn shape(bench: &Bench, in_flight: usize) -> Shape {
    let workers = Workers::for_host(bench.cores(), DEFAULT_LIMITS.cpus);
    Shape { workers, in_flight, overcommit: DEFAULT_OVERCOMMIT }
}

/// Waits until the last reports are sent, if the server takes them soon.
async fn last_tries(agent: &Agent) {
    let deadline = tokio::time::Instant::now() + LAST_TRIES;
    while !agent.outbox.is_empty() && tokio::time::Instant::now() < deadline {
        agent.sealed.notify_one();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The description of this host and of its sandboxes.
async fn hello(bench: &Bench, labels: BTreeSet<String>, in_flight: usize) -> Hello {
    let mut sandbox: BTreeSet<String> = ["none".to_owned()].into();
    if bench.sandbox(&SandboxKind::Native).await.is_ok() {
        sandbox.insert("native".to_owned());
    }
    Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        wire: wire::VERSION,
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cores: u32::try_from(bench.cores()).unwrap_or(u32::MAX),
        memory: bench.memory(),
        disk: free_space(bench),
        sandbox,
        environment: Digest::of(cache::environment().as_bytes()),
        labels,
        cap: u32::try_from(in_flight).unwrap_or(u32::MAX),
        now_ms: epoch_millis(SystemTime::now()),
    }
}

/// Introduces the agent, trying again while the server is away. `None`: a stop came first.
async fn introduce(
    client: &Client,
    hello: &Hello,
    progress: &mut Progress,
    stop: &Stop,
) -> Result<Option<Welcome>, AgentError> {
    let mut pause = client::Backoff::default();
    loop {
        let answered = tokio::select! {
            answered = client.post::<_, Welcome>("hello", hello) => answered,
            () = stop.reached(StopLevel::Drain) => return Ok(None),
        };
        match answered {
            Ok(Some(welcome)) => return Ok(Some(welcome)),
            Ok(None) => {}
            Err(error) if error.may_pass() => {
                if pause.is_first() {
                    progress.update(Update::Note(format!("{error}; trying again until it does")));
                }
            }
            Err(error) => return Err(AgentError::Refused(error)),
        }
        tokio::select! {
            () = tokio::time::sleep(pause.next()) => {}
            () = stop.reached(StopLevel::Drain) => return Ok(None),
        }
    }
}

/// How much room there is on the disk of the agent's home.
fn free_space(bench: &Bench) -> Option<ByteSize> {
    let stat = nix::sys::statvfs::statvfs(bench.home().dir()).ok()?;
    Some(ByteSize(stat.blocks_available() as u64 * stat.fragment_size() as u64))
}

fn epoch_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
