//! A server with agents, and an experiment whose jobs wait there.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use maar::store::Store;
use maar::store::service::NewJob;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::{Connection, OpenFlags};

use crate::support::fixture::Fixture;
use crate::world::World;

/// How long all crates may take at most, under load.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where jobs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Memory,
    Nats,
}

/// A server, its agents and an experiment.
pub(crate) struct Cluster {
    pub(crate) world: World,
    port: u16,
    server: Option<Child>,
    agents: Vec<Option<Child>>,
    /// What `maar run` found.
    reference: Vec<String>,
}

/// Whether a nats-server is there. In CI its lack is a failure; elsewhere a printed line.
pub(crate) fn can_run(queue: Queue) -> bool {
    let found = queue == Queue::Memory || maar::lease::find_server().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "nats-server must be there");
    if !found {
        eprintln!("not run: nats-server is not in PATH");
    }
    found
}

/// Crates with every kind of result, whose tests take a moment.
fn fixtures(count: usize) -> Vec<Fixture> {
    let fixture = |number: usize| {
        let source = match number % 4 {
            0 => "#[test] fn works() { std::thread::sleep(std::time::Duration::from_millis(700)) }",
            1 => "#[test] fn fails() { std::thread::sleep(std::time::Duration::from_millis(700)); panic!() }",
            2 => "pub fn broken() -> u8 { \"\" }",
            _ => "#[test] fn works() {} #[test] fn fails() { assert_eq!(1, 2) }",
        };
        Fixture::new(&format!("crate-{number:02}"), "1.0.0").lib(source)
    };
    (0..count).map(fixture).collect()
}

impl Cluster {
    /// Runs the experiment with `maar run`, and lays the same plan out for agents, without its results.
    pub(crate) fn new(crates: usize, queue: Queue) -> Self {
        let fixtures = fixtures(crates);
        let names: Vec<String> = fixtures.iter().map(|fixture| format!("{:?}", fixture.name)).collect();
        let world = World::new(fixtures);
        let file = format!("name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = [{}]\n", names.join(", "));
        world.write("maar.toml", &file);
        let ran = world.run(&[]);
        assert!(matches!(ran.code, Some(0 | 1)), "{}", ran.stderr);
        let reference = world.verdicts("fixtures");
        assert_eq!(reference.len(), crates);
        let cluster = Self { port: free_port(), server: None, agents: Vec::new(), reference, world };
        cluster.lay_out(crates);
        let nats = match queue {
            Queue::Memory => "off",
            Queue::Nats => "auto",
        };
        // Short times, so that a test sees leases run out.
        let settings = format!(
            "[engine]\nnats = \"{nats}\"\nlease = \"4s\"\nrenew = \"500ms\"\npoll = \"2s\"\nsweep = \"2s\"\ngrace = \"1s\"\n\
             [worker]\nenabled = false\n[server.limits]\nrequests-per-second = 1000\n"
        );
        cluster.world.write("server.toml", &settings);
        cluster
    }

    /// Copies the database of the run to the server's home, without any result.
    fn lay_out(&self, crates: usize) {
        fs::create_dir_all(self.home("server")).unwrap();
        fs::copy(self.world.home().join("maar.db"), self.database()).unwrap();
        let connection = Connection::open(self.database()).unwrap();
        connection.execute_batch("DELETE FROM results; DELETE FROM lockfiles; DELETE FROM runs").unwrap();
        drop(connection);
        let job = |position| NewJob { position: position as u32, lane: "std".to_owned(), shard: (position % 64) as u8 };
        let jobs: Vec<NewJob> = (0..crates).map(job).collect();
        Store::open(&self.database()).unwrap().distribute("fixtures", &jobs).unwrap();
    }

    pub(crate) fn home(&self, of: &str) -> PathBuf {
        self.world.path("homes").join(of)
    }

    fn database(&self) -> PathBuf {
        self.home("server").join("maar.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A command of maar with its own home, its output appended to a log.
    fn command(&self, of: &str, args: &[&str]) -> Command {
        let log = File::options().append(true).create(true).open(self.world.path(&format!("{of}.log"))).unwrap();
        let mut command = self.world.command(args);
        command.env("MAAR_HOME", self.home(of)).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    pub(crate) fn start_server(&mut self) {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command = self.command("server", &["serve", "server.toml", "--listen", &listen]);
        let mut server = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(server.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", self.log("server"));
            std::thread::sleep(Duration::from_millis(50));
        }
        self.server = Some(server);
    }

    /// Makes a token of the role agent, and returns it.
    pub(crate) fn token(&self, name: &str) -> String {
        let made = self.world.command(&["token", "create", "--role", "agent", "--name", name]);
        let made = { made }.env("MAAR_HOME", self.home("server")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// Starts an agent, which is new or was killed.
    pub(crate) fn start_agent(&mut self, number: usize) {
        let name = format!("a{number}");
        let file = self.world.path(&format!("{name}.token"));
        if !file.exists() {
            fs::write(&file, self.token(&name)).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        }
        let (url, file) = (self.url(), file.to_str().unwrap().to_owned());
        let args = ["agent", "--server", &url, "--token-file", &file, "--cap", "2"];
        let agent = self.command(&name, &args).stdin(Stdio::null()).spawn().unwrap();
        self.agents.resize_with(self.agents.len().max(number + 1), || None);
        self.agents[number] = Some(agent);
    }

    /// Ends an agent as a power cut does.
    pub(crate) fn kill_agent(&mut self, number: usize) {
        end(&mut self.agents[number]);
    }

    pub(crate) fn kill_server(&mut self) {
        end(&mut self.server);
    }

    pub(crate) fn signal_agent(&self, number: usize, signal: Signal) {
        let agent = self.agents[number].as_ref().unwrap();
        kill(Pid::from_raw(agent.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end of an agent, and returns its exit code.
    pub(crate) fn wait_for_agent(&mut self, number: usize) -> Option<i32> {
        let mut agent = self.agents[number].take().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match agent.try_wait().unwrap() {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < deadline, "agent {number} doesn't end"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process of nats-server, which is a child of the server.
    fn nats(&self) -> Option<Pid> {
        let parent = self.server.as_ref()?.id().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_it = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let (name, rest) = stat.rsplit_once(')').unwrap_or_default();
            name.ends_with("(nats-server") && rest.split_whitespace().nth(1) == Some(&parent)
        };
        { pids }.find(is_it).map(Pid::from_raw)
    }

    pub(crate) fn kill_nats(&self) {
        // It may be between two lives.
        if let Some(nats) = self.nats() {
            let _ = kill(nats, Signal::SIGKILL);
        }
    }

    /// Loses the disk of nats-server.
    pub(crate) fn wipe_nats(&self) {
        let store = self.home("server").join("engine/store");
        fs::rename(&store, store.with_extension("lost")).unwrap();
        self.kill_nats();
    }

    /// A number from the server's database.
    pub(crate) fn count(&self, query: &str) -> usize {
        let connection = Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        connection.query_row(query, [], |row| row.get::<_, u32>(0)).unwrap() as usize
    }

    pub(crate) fn ended(&self) -> usize {
        self.count("SELECT count(*) FROM jobs WHERE state <> 'waiting'")
    }

    /// Waits until so many crates have a result.
    pub(crate) fn wait_for(&mut self, crates: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.ended() < crates {
            assert!(Instant::now() < deadline, "{} of {crates} crates\n{}", self.ended(), self.log("server"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub(crate) fn log(&self, of: &str) -> String {
        fs::read_to_string(self.world.path(&format!("{of}.log"))).unwrap_or_default()
    }

    /// Checks that every crate has one result, and the verdict that `maar run` found. `poisoned`: as many crates may
    /// have been given up.
    pub(crate) fn check(&mut self, poisoned: usize) {
        let crates = self.reference.len();
        self.wait_for(crates);
        let given_up = self.count("SELECT count(*) FROM jobs WHERE state = 'poisoned'");
        assert!(given_up <= poisoned, "{given_up} crates were given up\n{}", self.log("server"));
        assert_eq!(self.count("SELECT count(*) FROM jobs WHERE state = 'done'"), crates - given_up);
        let accepted = "SELECT count(*) FROM handouts WHERE how = 'accepted'";
        assert_eq!(self.count(accepted), crates - given_up, "one report counts for each crate");
        let report = self.world.command(&["report", "fixtures", "--format", "json"]);
        let report = { report }.env("MAAR_HOME", self.home("server")).output().unwrap();
        assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
        let found: Vec<String> = report["crates"].as_array().unwrap().iter().map(crate::world::verdict).collect();
        let differ = self.reference.iter().zip(&found).filter(|(one, other)| one != other);
        let differ: Vec<_> = differ.filter(|(_, found)| !found.contains("machines were lost")).collect();
        assert!(differ.is_empty(), "{differ:#?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.agents.iter_mut().for_each(end);
        end(&mut self.server);
    }
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
