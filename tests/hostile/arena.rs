//! Where an attack and its neighbour meet: two cells of one sandbox, at the same time.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use maar::sandbox::{End, Exit, Mount, MountKind};

use crate::bench::{Bench, block_on};
use crate::ground::{beside, ground};

/// Names an attacker that is compiled already, for hosts without a compiler.
pub(crate) const ATTACKER: &str = "MAAR_TEST_ATTACKER";

/// One hostile command.
pub(crate) struct Attack {
    bench: Bench,
    script: String,
}

/// A shell script in a cell that has the attacker at `/attack`.
pub(crate) fn attack(script: &str) -> Attack {
    Attack { bench: armed(ground()), script: script.to_owned() }
}

/// A bench with the attacker at `/attack`.
pub(crate) fn armed(mut bench: Bench) -> Bench {
    bench.spec.mounts.push(Mount { at: "/attack".into(), what: MountKind::ReadOnly(attacker().to_owned()) });
    bench
}

impl Attack {
    /// Changes the cell's spec.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Bench)) -> Self {
        change(&mut self.bench);
        self
    }

    /// Gives it this many seconds.
    pub(crate) fn seconds(self, seconds: u64) -> Self {
        self.with(|bench| bench.spec.limits.timeout = Duration::from_secs(seconds))
    }

    /// Whether the host enforces the limits of this controller; prints a line if not.
    pub(crate) fn enforced(self, controller: &str) -> Option<Self> {
        self.bench.enforces(controller).then_some(self)
    }

    /// Runs it and asserts how it ends.
    #[track_caller]
    pub(crate) fn ends(self, end: End) -> Exit {
        let script = self.script.clone();
        let exit = self.exit();
        assert_eq!(exit.end, end, "{script}\n{}", String::from_utf8_lossy(&exit.output.head));
        exit
    }

    /// Runs it, beside a neighbour that must not notice, and returns how it ended.
    #[track_caller]
    pub(crate) fn exit(self) -> Exit {
        let Self { bench, script } = self;
        let neighbour = beside(&bench);
        let peace = neighbour.dir.path().join("work/peace");
        neighbour.file(&neighbour.dir.path().join("work/mine"), "mine\n");
        let waiting = "echo begun; until [ -e peace ]; do sleep 0.05; done; cat mine; echo x > theirs; ls -1";
        let (exit, unharmed) = block_on(async {
            let ended = tokio::join!(
                async {
                    let exit = bench.run(&script).await;
                    neighbour.file(&peace, "");
                    exit
                },
                neighbour.run(waiting)
            );
            for bench in [&bench, &neighbour] {
                bench.sandbox.release(&bench.spec.scratch).await.unwrap();
            }
            ended
        });
        let printed = String::from_utf8(unharmed.output.head).unwrap();
        assert_eq!((unharmed.end, printed.as_str()), (End::Code(0), "begun\nmine\nmine\npeace\ntheirs\n"), "{script}");
        assert_eq!(std::fs::read_dir(&bench.spec.scratch).unwrap().count(), 0, "{script}");
        maar::sandbox::remove_folder(bench.dir.path()).unwrap();
        exit
    }

    /// Runs it and asserts that it ends well and prints this.
    #[track_caller]
    pub(crate) fn prints(self, expected: &str) {
        let exit = self.ends(End::Code(0));
        assert_eq!(String::from_utf8_lossy(&exit.output.head), expected);
    }
}

/// The attacker, compiled once by the toolchain that this suite was compiled with.
pub(crate) fn attacker() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os(ATTACKER) {
            return path.into();
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join(format!("attack-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/attack.rs");
        let status = std::process::Command::new("rustc")
            .args(["--edition=2024", "-Copt-level=1", "-o"])
            .args([&program, &source])
            .status()
            .unwrap();
        assert!(status.success());
        // One name for all runs, moved there whole: another run may be using it.
        let shared = folder.join("attack");
        std::fs::rename(&program, &shared).unwrap();
        shared
    })
}
