//! Ctrl-C, twice, and a run that is killed: the files that stay, and how the next run goes on.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::fixture::Fixture;
use crate::world::{Running, World};

/// Two crates that wait in their first op until someone lets them go, one after the other.
struct Waiting {
    world: World,
    /// Marks the command lines of waiting processes.
    mark: String,
}

impl Waiting {
    fn new(mark: &str) -> Self {
        let world = World::new(["first", "second"].map(|name| Fixture::new(name, "1.0.0")));
        let mark = format!("{mark}-{}", std::process::id());
        let experiment = format!(
            "cache = false\nname = \"stopped\"\ncrates = [\"first\", \"second\"]\nops = [\"prepare\", \"wait\", \"after\"]\n\
             toolchains = [\"stable\"]\nworkers = {{ build = 1, test = 1 }}\nin-flight = 1\n\
             [op.wait]\nstage = \"build\"\nlimits.timeout = \"2m\"\nrun = [\"sh\", \"-c\", \"until [ -e /crate/target/go ]; do sleep 0.05; done\", \"{mark}\"]\n\
             [op.after]\nstage = \"test\"\nrun = [\"true\"]\n"
        );
        world.write("maar.toml", &experiment);
        Self { world, mark }
    }

    /// Starts a run, and waits until the first crate waits.
    fn start(&self) -> Running {
        let mut running = self.world.start();
        self.until_waits(&mut running, "first");
        running
    }

    fn until_waits(&self, running: &mut Running, krate: &str) {
        running.wait_for(&format!("wait {krate}@1.0.0"));
        eventually("something waits", || !self.processes().is_empty());
    }

    /// Lets what waits now go, by a file that is written in its own cell.
    fn let_go(&self) {
        for process in self.processes() {
            std::fs::write(process.join("root/crate/target/go"), "").unwrap();
        }
    }

    /// The processes that wait.
    fn processes(&self) -> Vec<PathBuf> {
        let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let command_line = |process: &PathBuf| std::fs::read(process.join("cmdline")).unwrap_or_default();
        processes.filter(|process| String::from_utf8_lossy(&command_line(process)).contains(&self.mark)).collect()
    }

    /// Lets these crates go once they wait, then the run must end well.
    fn to_the_end(&self, mut running: Running, crates: &[&str]) -> Vec<String> {
        for krate in crates {
            self.until_waits(&mut running, krate);
            self.let_go();
        }
        let ran = running.end();
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(self.world.verdicts("stopped"), ["first@1.0.0 pass", "second@1.0.0 pass"]);
        assert_eq!(self.world.job_folders(), NOTHING);
        ran.steps()
    }
}

/// The expected remains.
const NOTHING: [PathBuf; 0] = [];

/// Polls for a condition that has no event. The time it takes proves nothing; a timeout fails the test.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_first_ctrl_c_finishes_what_is_running_and_the_next_run_does_the_rest() {
    let waiting = Waiting::new("drained");
    let mut running = waiting.start();
    waiting.let_go();
    waiting.until_waits(&mut running, "second");
    running.signal(Signal::SIGINT);
    running.wait_for_note("stopping: finishing what is running (Ctrl-C again ends it now)");
    waiting.let_go();

    let stopped = running.end();

    assert_eq!(stopped.code, Some(130));
    let of_second = ["prepare second@1.0.0", "wait second@1.0.0 stable"];
    assert_eq!(stopped.steps()[3..], of_second);
    assert_eq!(waiting.world.verdicts("stopped"), ["first@1.0.0 pass", "second@1.0.0 pending"]);
    // What `after` works on didn't outlive the run.
    let rest = waiting.to_the_end(waiting.world.start(), &["second"]);
    assert_eq!(rest, [&of_second[..], &["after second@1.0.0 stable"]].concat());
}

#[test]
fn the_second_ctrl_c_ends_what_is_running() {
    let waiting = Waiting::new("ended");
    let mut running = waiting.start();
    running.signal(Signal::SIGINT);
    running.wait_for_note("stopping: finishing");
    running.signal(Signal::SIGINT);

    let stopped = running.end();

    assert_eq!(stopped.code, Some(130));
    assert_eq!(stopped.steps(), ["prepare first@1.0.0"], "what was ended has no result");
    assert_eq!(waiting.processes(), NOTHING);
    assert_eq!(waiting.world.job_folders(), NOTHING);
}

#[test]
fn a_terminal_that_is_closed_ends_what_is_running_as_sigterm_does() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let waiting = Waiting::new(signal.as_str());
        let running = waiting.start();
        running.signal(signal);

        let stopped = running.end();

        assert_eq!(stopped.code, Some(130), "{signal}");
        assert_eq!(waiting.processes(), NOTHING, "{signal}");
        assert_eq!(waiting.world.job_folders(), NOTHING, "{signal}");
    }
}

#[test]
fn the_output_of_a_running_op_can_be_followed_to_the_end_of_the_run() {
    let world = World::new([Fixture::new("talks", "1.0.0")]);
    let script = "echo begun; until [ -e target/go ]; do sleep 0.05; done; printf ended";
    world.write(
        "maar.toml",
        &format!(
            "name = \"followed\"\ncrates = [\"talks\"]\nops = [\"prepare\", \"talk\", \"after\"]\ntoolchains = [\"stable\"]\n\
             cache = false\n[op.talk]\nstage = \"build\"\nrun = [\"sh\", \"-c\", \"{script}\", \"followed-{0}\"]\n\
             [op.after]\nstage = \"test\"\nrun = [\"echo\", \"after\"]\n",
            std::process::id()
        ),
    );
    let waiting = Waiting { world, mark: format!("followed-{}", std::process::id()) };
    let mut running = waiting.world.start();
    running.wait_for("talk talks@1.0.0");
    let mut command = waiting.world.command(&["logs", "followed", "talks", "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line == "== talk@stable: running"));
    assert_eq!(lines.next().as_deref(), Some("begun"), "while it runs");
    waiting.let_go();
    assert_eq!(running.end().code, Some(0));
    let rest: Vec<String> = lines.collect();
    assert_eq!(rest.first().map(String::as_str), Some("ended"), "{rest:?}");
    assert!(follower.wait().unwrap().success());
}

#[test]
fn a_run_that_is_killed_leaves_no_process_and_its_folders_to_the_next() {
    let waiting = Waiting::new("killed");
    let running = waiting.start();
    let groups = running.groups();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    eventually("nothing waits", || waiting.processes().is_empty());
    assert_ne!(waiting.world.job_folders(), NOTHING, "nobody was there to remove them");

    let mut next = waiting.world.start();
    waiting.until_waits(&mut next, "first");
    assert_eq!(waiting.world.job_folders().len(), 1, "its own");
    assert_eq!(groups.into_iter().filter(|group| group.exists()).collect::<Vec<_>>(), NOTHING);
    waiting.let_go();
    let steps = waiting.to_the_end(next, &["second"]);
    assert_eq!(steps[..2], ["prepare first@1.0.0", "wait first@1.0.0 stable"]);
}
