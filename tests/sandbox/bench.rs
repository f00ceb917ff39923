//! The bench that the cases are worked on: a cell with a shell in it, from a few words.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use maar::sandbox::native::{Config, Native};
use maar::sandbox::unconfined::Unconfined;
use maar::sandbox::{Cell, Command, Cores, End, Exit, Limits, Mount, MountKind, Network, Sandbox, Spec};
use maar::stop::Stop;

/// Names another helper than the one that cargo built: one that an ordinary user may execute.
pub(crate) const HELPER: &str = "MAAR_TEST_HELPER";

/// Promises that all limits are enforced here, by cgroups of this version.
pub(crate) const CGROUPS: &str = "MAAR_TEST_CGROUPS";

pub(crate) struct Bench {
    pub(crate) sandbox: Sandbox,
    pub(crate) spec: Spec,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn helper() -> PathBuf {
    std::env::var_os(HELPER).map_or_else(|| env!("CARGO_BIN_EXE_maar").into(), PathBuf::from)
}

/// A native sandbox with a writable folder of the host at `/work`.
pub(crate) fn native() -> Bench {
    bench(Sandbox::Native(Native::new(Config { helper: helper(), locks: None })))
}

/// No sandbox, with the same folder.
pub(crate) fn unconfined() -> Bench {
    bench(Sandbox::Unconfined(Unconfined::new(Config { helper: helper(), locks: None })))
}

pub(crate) fn bench(sandbox: Sandbox) -> Bench {
    let (dir, user) = (tempfile::tempdir().unwrap(), sandbox.user());
    let mut bench = Bench {
        sandbox,
        spec: Spec {
            label: "bench".to_owned(),
            user,
            scratch: dir.path().join("scratch"),
            mounts: Vec::new(),
            network: Network::Loopback,
            limits: Limits {
                cpus: 2.0,
                memory: ByteSize::mib(256),
                pids: 64,
                // For commands that end by themselves, on an emulator too.
                timeout: Duration::from_secs(600),
                idle_timeout: Duration::from_secs(600),
                output: ByteSize::mib(1),
                disk: ByteSize::gib(1),
                cores: Cores::Shared,
            },
            live: None,
        },
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        dir,
    };
    std::fs::create_dir(&bench.spec.scratch).unwrap();
    let work = bench.folder("work");
    bench.spec.mounts.push(Mount { at: "/work".into(), what: MountKind::Writable(work) });
    bench
}

impl Bench {
    /// Makes a folder on the host that commands may write to.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        self.hand_over(&folder);
        folder
    }

    /// Makes a file on the host that commands may write to.
    pub(crate) fn file(&self, path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        self.hand_over(path);
    }

    /// Removes what commands left at `/work`, before another command could be blamed for it.
    pub(crate) fn empty(&self) {
        for entry in std::fs::read_dir(self.dir.path().join("work")).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    fn hand_over(&self, path: &Path) {
        if let Some(owner) = self.spec.user.owner() {
            chown(path, Some(owner.uid), Some(owner.gid)).unwrap();
        }
    }

    /// Lays an overlay over `lower` at `/overlay`.
    pub(crate) fn overlay(&mut self) -> (PathBuf, PathBuf) {
        let [lower, upper, work] =
            ["lower,with:odd\\name", "upper,with:odd\\name", "workdir"].map(|name| self.folder(name));
        let what = MountKind::Overlay { lower: lower.clone(), upper: upper.clone(), work };
        self.spec.mounts.push(Mount { at: "/overlay".into(), what });
        (lower, upper)
    }

    pub(crate) async fn open(&self) -> Cell {
        self.sandbox.open(self.spec.clone()).await.unwrap()
    }

    /// The command that a shell is to run in `/work`.
    pub(crate) fn shell(&self, cell: &Cell, script: &str) -> Command {
        Command {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: self.env.clone(),
            cwd: cell.path(Path::new("/work")),
        }
    }

    /// Runs a shell script in a new cell.
    pub(crate) async fn run(&self, script: &str) -> Exit {
        self.run_until(script, &Stop::never()).await
    }

    /// As [`Bench::run`], with a way to stop it.
    pub(crate) async fn run_until(&self, script: &str, stop: &Stop) -> Exit {
        let mut cell = self.open().await;
        let command = self.shell(&cell, script);
        let exit = cell.run(&command, stop).await.unwrap();
        cell.close().await.unwrap();
        exit
    }

    /// Runs a script and asserts its end and its output.
    #[track_caller]
    pub(crate) fn check(&self, script: &str, end: End, printed: &str) {
        let exit = block_on(self.run(script));
        assert_eq!((exit.end, text(&exit).as_str()), (end, printed), "{script}");
    }

    /// Whether the host enforces the limits of this controller; prints a line if not.
    pub(crate) fn enforces(&self, controller: &str) -> bool {
        let missing =
            self.sandbox.unenforced(Cores::Own).into_iter().find(|words| words.contains(&format!("({controller}:")));
        if let Some(words) = &missing {
            assert!(std::env::var_os(CGROUPS).is_none(), "{words}");
            eprintln!("not tested here: {words}");
        }
        missing.is_none()
    }
}

/// The output, all of which was kept.
pub(crate) fn text(exit: &Exit) -> String {
    assert_eq!(exit.output.dropped, 0);
    String::from_utf8(exit.output.head.clone()).unwrap()
}

/// Runs a future on a new runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
