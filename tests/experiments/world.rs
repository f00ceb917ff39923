//! A folder, a registry and a cargo home for one test, and the binary run in it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::fixture::Fixture;
use crate::support::registry::TestRegistry;

/// All that one test has to itself.
pub(crate) struct World {
    pub(crate) registry: TestRegistry,
    dir: PathBuf,
    _temporary: Option<TempDir>,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A run that has not ended.
pub(crate) struct Running {
    child: Child,
    events: BufReader<ChildStdout>,
    seen: String,
}

impl World {
    /// A world that goes away with this value.
    pub(crate) fn new(fixtures: impl IntoIterator<Item = Fixture>) -> Self {
        let temporary = TempDir::new().unwrap();
        let world = Self::at(temporary.path(), fixtures);
        Self { _temporary: Some(temporary), ..world }
    }

    /// A world in a folder that the caller removes.
    pub(crate) fn at(dir: &Path, fixtures: impl IntoIterator<Item = Fixture>) -> Self {
        fs::create_dir_all(dir).unwrap();
        // Other users may look in, as they may into most homes.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        let registry = TestRegistry::start(fixtures);
        registry.write_cargo_home(&dir.join("cargo"));
        Self { registry, dir: dir.canonicalize().unwrap(), _temporary: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Writes a file of the world, such as its `maar.toml`.
    pub(crate) fn write(&self, name: &str, contents: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// maar, in the world's folder, with the toolchains of this host and the registry of the world.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_maar")), args)
    }

    /// The same with the program at another path.
    pub(crate) fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dir).stdin(Stdio::null());
        command.env("MAAR_HOME", self.home()).env("CARGO_HOME", self.path("cargo")).env("NO_COLOR", "1");
        command
    }

    pub(crate) fn maar(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs the world's `maar.toml`, telling its events.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.maar(&[&["run", "--progress", "json"], args].concat())
    }

    /// Starts the world's `maar.toml`, and doesn't wait for its end.
    pub(crate) fn start(&self) -> Running {
        Running::of(self.command(&["run", "--progress", "json"]))
    }

    /// The report of an experiment, as JSON.
    pub(crate) fn report(&self, name: &str) -> Value {
        let ran = self.maar(&["report", name, "--format", "json"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// The logs of a crate's ops in the experiment `fixtures`.
    pub(crate) fn log(&self, args: &[&str]) -> String {
        let ran = self.maar(&[&["logs", "fixtures"], args].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    }

    /// The folders of runs, dead or alive.
    pub(crate) fn job_folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home().join("jobs")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    }

    /// The verdicts of an experiment: `NAME@VERSION VERDICT: REASON`, in the order of the selection.
    pub(crate) fn verdicts(&self, name: &str) -> Vec<String> {
        let report = self.report(name);
        report["crates"].as_array().unwrap().iter().map(verdict).collect()
    }
}

/// A crate of a JSON report as `NAME@VERSION VERDICT: REASON`, as far as there are a version and a reason.
pub(crate) fn verdict(krate: &Value) -> String {
    let version = krate["version"].as_str().map(|version| format!("@{version}")).unwrap_or_default();
    let reason = krate["verdict_reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{}{version} {}{reason}", text(&krate["crate"]), text(&krate["verdict"]))
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("maar prints UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    /// The steps that got a result: `OP CRATE@VERSION`, with the toolchain where there is one.
    pub(crate) fn steps(&self) -> Vec<String> {
        let finished = self.events().into_iter().filter(|event| event["event"] == "finished");
        finished.filter(|event| !event["outcome"].is_null()).map(|event| step(&event)).collect()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("an event is a line of JSON")).collect()
    }
}

impl Running {
    /// Starts a run that prints its events as JSON.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(child.stdout.take().unwrap());
        Self { child, events, seen: String::new() }
    }

    /// Waits until a step has started whose name begins like this: `OP CRATE@VERSION`.
    pub(crate) fn wait_for(&mut self, name: &str) {
        self.until(name, |event| event["event"] == "started" && step(event).starts_with(name));
    }

    /// Waits until its output contains `words`.
    pub(crate) fn wait_for_note(&mut self, words: &str) {
        self.until(words, |event| event["event"] == "note" && text(&event["text"]).contains(words));
    }

    fn until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) {
        loop {
            let before = self.seen.len();
            let read = self.events.read_line(&mut self.seen).unwrap();
            assert_ne!(read, 0, "the run ended without `{what}`:\n{}", self.seen);
            if is_it(&serde_json::from_str(&self.seen[before..]).unwrap()) {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// The folders of control groups that it made.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let hierarchies = mounts.lines().filter_map(|line| match *line.split(' ').collect::<Vec<_>>() {
            [_, at, "cgroup" | "cgroup2", ..] => Some(PathBuf::from(at)),
            _ => None,
        });
        let name = format!("maar-{}-", self.child.id());
        hierarchies.flat_map(|hierarchy| folders_named(&hierarchy, &name)).collect()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        self.events.read_to_string(&mut self.seen).unwrap();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        Ran { code, stdout: std::mem::take(&mut self.seen), stderr }
    }
}

impl Drop for Running {
    /// A test that fails leaves no run behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn step(event: &Value) -> String {
    let toolchain = event["toolchain"].as_str().map(|toolchain| format!(" {toolchain}")).unwrap_or_default();
    format!("{} {}{toolchain}", text(&event["op"]), text(&event["crate"]))
}

/// The folders below `dir`, however deep, whose names begin like this.
fn folders_named(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let found = folders.flat_map(|folder| {
        let mut found = folders_named(&folder.path(), prefix);
        found.extend(folder.file_name().to_string_lossy().starts_with(prefix).then(|| folder.path()));
        found
    });
    found.collect()
}
