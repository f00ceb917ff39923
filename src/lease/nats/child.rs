//! `nats-server` as a child of this process, on a free port of loopback, started again when it ends.
//!
//! It dies with this process, however that ends: two servers over one folder would damage it. Only this process knows
//! the key that the server accepts; the key is never written down.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_nats::Client;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nkeys::KeyPair;
use semver::Version;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::{NatsError, options};

/// How long a server may take until it listens: with 1.4 million jobs it took 4 s.
const UNTIL_LISTENING: Duration = Duration::from_secs(60);

/// How long a server may take to end.
const UNTIL_ENDED: Duration = Duration::from_secs(10);

/// The pause between two looks at a server.
const LOOK: Duration = Duration::from_millis(50);

/// The longest pause before a server is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const CONFIG: &str = "nats-server.conf";
const LOG: &str = "nats-server.log";
const PORTS: &str = "ports";

/// A running `nats-server`. Dropping it ends the server.
#[derive(Debug)]
pub struct Server {
    client: watch::Receiver<Option<Client>>,
    stop: mpsc::Sender<()>,
    keeper: Option<JoinHandle<()>>,
}

/// The first `nats-server` in `PATH`.
pub fn find_server() -> Result<PathBuf, NatsError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian installs it where ordinary users don't look.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file()).ok_or(NatsError::Missing)
}

impl Server {
    /// Starts `program` over `folder`, where it keeps its stream, its configuration and its log.
    ///
    /// Errors when it doesn't listen. If it ends later, it is started again for as long as this lives.
    pub async fn start(program: &Path, folder: &Path) -> Result<Self, NatsError> {
        let setup = Setup::new(program, folder)?;
        let (started, first) = oneshot::channel();
        let (connected, client) = watch::channel(None);
        let (stop, stopped) = mpsc::channel();
        let keeper = Keeper { setup, connected, stopped, runtime: Handle::current() };
        // Of its own: a child with a death signal dies when the thread ends that started it.
        let thread = std::thread::Builder::new().name("nats".to_owned()).spawn(move || keeper.keep(started));
        let thread = thread.map_err(|source| NatsError::Start { path: program.to_owned(), source })?;
        let server = Self { client, stop, keeper: Some(thread) };
        first.await.unwrap_or(Err(NatsError::Down))?;
        Ok(server)
    }

    pub(super) fn client(&self) -> watch::Receiver<Option<Client>> {
        self.client.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if let Some(keeper) = self.keeper.take() {
            // A panic has been printed.
            let _ = keeper.join();
        }
    }
}

/// All that a start needs.
struct Setup {
    program: PathBuf,
    folder: PathBuf,
    key: KeyPair,
    version: Option<Version>,
}

/// The thread that starts servers and sees them end.
struct Keeper {
    setup: Setup,
    connected: watch::Sender<Option<Client>>,
    stopped: mpsc::Receiver<()>,
    runtime: Handle,
}

/// How a server ended.
enum End {
    Asked,
    ByItself,
}

impl Keeper {
    fn keep(self, started: oneshot::Sender<Result<(), NatsError>>) {
        let mut started = Some(started);
        let mut pause = LOOK;
        loop {
            match self.run(&mut started) {
                Ok(End::Asked) => return,
                Ok(End::ByItself) => pause = LOOK,
                Err(error) => match started.take() {
                    Some(started) => return drop(started.send(Err(error))),
                    None => pause = (2 * pause).min(LONGEST_PAUSE),
                },
            }
            match self.stopped.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Runs one server until it ends.
    fn run(&self, started: &mut Option<oneshot::Sender<Result<(), NatsError>>>) -> Result<End, NatsError> {
        let mut child = self.setup.spawn()?;
        let end = self.connect(&mut child).map(|client| {
            self.connected.send_replace(Some(client));
            if let Some(started) = started.take() {
                // The caller may have given up.
                let _ = started.send(Ok(()));
            }
            self.until_ended(&mut child)
        });
        self.connected.send_replace(None);
        stop(&mut child);
        end
    }

    fn connect(&self, child: &mut Child) -> Result<Client, NatsError> {
        let url = self.setup.url(child)?;
        let seed = self.setup.key.seed().map_err(NatsError::Key)?;
        let connected = self.runtime.block_on(options().nkey(seed).connect(&url));
        connected.map_err(|source| NatsError::Connect { url, source })
    }

    fn until_ended(&self, child: &mut Child) -> End {
        loop {
            match self.stopped.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return End::Asked,
            }
            if !matches!(child.try_wait(), Ok(None)) {
                return End::ByItself;
            }
        }
    }
}

/// Asks a server to end, and kills it if it doesn't. One that has ended is fine.
fn stop(child: &mut Child) {
    let deadline = Instant::now() + UNTIL_ENDED;
    if let (Ok(None), Ok(pid)) = (child.try_wait(), i32::try_from(child.id())) {
        // Not reaped yet, so the number is still its own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    while let Ok(None) = child.try_wait() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
        }
        std::thread::sleep(LOOK);
    }
}

impl Setup {
    fn new(program: &Path, folder: &Path) -> Result<Self, NatsError> {
        let setup = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            key: KeyPair::new_user(),
            version: version(program)?,
        };
        let failed = |source| NatsError::Folder { path: folder.to_owned(), source };
        fs::create_dir_all(folder.join(PORTS)).map_err(failed)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)?;
        let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(folder.join(CONFIG));
        file.and_then(|mut file| file.write_all(setup.config().as_bytes())).map_err(failed)?;
        Ok(setup)
    }

    /// The configuration. All paths are below the folder, which is the server's working folder.
    fn config(&self) -> String {
        // The default acknowledges before it has synced, and loses up to two minutes when the power fails. 2.9 refuses
        // to start with it.
        let first = Version::new(2, 10, 0);
        let sync =
            self.version.as_ref().filter(|version| **version >= first).map_or("", |_| "  sync_interval: always\n");
        let user = self.key.public_key();
        format!(
            "# Written by maar at each start.\n\
             listen: \"127.0.0.1:-1\"\n\
             server_name: maar\n\
             ports_file_dir: \"{PORTS}\"\n\
             log_file: \"{LOG}\"\n\
             log_size_limit: 16777216\n\
             authorization {{\n  users: [{{\n    nkey: {user}\n    permissions: {{ publish: [\"maar.>\", \"$JS.API.>\", \
             \"$JS.ACK.>\"], subscribe: [\"_INBOX.>\"] }}\n  }}]\n}}\n\
             jetstream {{\n  store_dir: \"store\"\n  max_file_store: 4GB\n  max_memory_store: 64MB\n{sync}}}\n"
        )
    }

    fn spawn(&self) -> Result<Child, NatsError> {
        let failed = |source| NatsError::Start { path: self.program.clone(), source };
        let parent = nix::unistd::getpid();
        let mut command = Command::new(&self.program);
        command.args(["--config", CONFIG]).current_dir(&self.folder).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: both are system calls that allocate nothing.
        unsafe {
            command.pre_exec(move || {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the line above.
                if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
            });
        }
        command.spawn().map_err(failed)
    }

    /// Where the server listens: it writes that into a file once it does.
    fn url(&self, child: &mut Child) -> Result<String, NatsError> {
        #[derive(Deserialize)]
        struct Listening {
            nats: Vec<String>,
        }
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        let file = self.folder.join(PORTS).join(format!("{program}_{}.ports", child.id()));
        let deadline = Instant::now() + UNTIL_LISTENING;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            let read = fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Listening>(&text).ok());
            if let Some(url) = read.and_then(|listening| listening.nats.into_iter().next()) {
                return Ok(url);
            }
            std::thread::sleep(LOOK);
        }
        let log = self.folder.join(LOG);
        Err(NatsError::Ended { path: self.program.clone(), log, secs: UNTIL_LISTENING.as_secs() })
    }
}

/// The version of a server; none if it prints one that isn't a version.
fn version(program: &Path) -> Result<Option<Version>, NatsError> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|source| NatsError::Start { path: program.to_owned(), source })?;
    // `nats-server: v2.9.10`
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().rsplit('v').next().and_then(|version| Version::parse(version).ok()))
}
