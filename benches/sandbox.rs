//! What it costs to open a cell, run `true` in it and close it: natively, in bubblewrap and in Docker, in one run.
//!
//!     cargo bench --bench sandbox
//!
//! Only the ratios are a claim. What is not installed is left out, and said so. bubblewrap makes as many namespaces and
//! no cgroups; Docker runs the image `MAAR_BENCH_IMAGE`, if that is set.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use maar::sandbox::native::{Config, Native};
use maar::sandbox::{self, Cores, End, Limits, Mount, MountKind, Network, Sandbox, Spec};
use maar::stop::Stop;

/// How often each is run; the median counts.
const ROUNDS: usize = 101;
const DOCKER_ROUNDS: usize = 7;

const LIMITS: Limits = Limits {
    cpus: 1.0,
    memory: ByteSize::mib(256),
    pids: 64,
    timeout: Duration::from_secs(60),
    idle_timeout: Duration::from_secs(60),
    output: ByteSize::mib(1),
    disk: ByteSize::gib(1),
    cores: Cores::Shared,
};

fn main() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["scratch", "work"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sandbox = Sandbox::Native(Native::new(Config { helper: env!("CARGO_BIN_EXE_maar").into() }));
    let native = median(ROUNDS, || runtime.block_on(in_cell(&sandbox, dir.path())));
    println!("native      {:>9.2} ms", milliseconds(native));

    compare(native, "bubblewrap", ROUNDS, &bubblewrap(dir.path()));
    match std::env::var("MAAR_BENCH_IMAGE") {
        Ok(image) => compare(native, "docker run", DOCKER_ROUNDS, &["docker", "run", "--rm", &image, "true"]),
        Err(_) => println!("docker run  left out: MAAR_BENCH_IMAGE names no image"),
    }
}

async fn in_cell(sandbox: &Sandbox, dir: &Path) {
    let spec = Spec {
        label: "bench".to_owned(),
        scratch: dir.join("scratch"),
        mounts: vec![Mount { at: "/work".into(), what: MountKind::Writable(dir.join("work")) }],
        network: Network::Loopback,
        limits: LIMITS,
    };
    let command = sandbox::Command {
        argv: vec!["/usr/bin/true".to_owned()],
        env: Vec::new(),
        cwd: Path::new("/work").to_owned(),
    };
    let mut cell = sandbox.open(spec).await.unwrap();
    let exit = cell.run(&command, &Stop::never()).await.unwrap();
    cell.close().await.unwrap();
    assert_eq!(exit.end, End::Code(0));
}

/// The same namespaces and about the same mounts.
fn bubblewrap(dir: &Path) -> Vec<&str> {
    let work = dir.to_str().unwrap();
    let words = "bwrap --unshare-all --die-with-parent --new-session --ro-bind /usr /usr --symlink usr/lib /lib \
                 --symlink usr/lib64 /lib64 --symlink usr/bin /bin --proc /proc --dev /dev --tmpfs /tmp --bind";
    words.split_whitespace().chain([work, "/work", "--chdir", "/work", "/usr/bin/true"]).collect()
}

fn compare(native: Duration, name: &str, rounds: usize, argv: &[&str]) {
    let run = || Command::new(argv[0]).args(&argv[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !run().is_ok_and(|status| status.success()) {
        return println!("{name:<11} left out: it can't be run here");
    }
    let other = median(rounds, || assert!(run().unwrap().success()));
    let ratio = native.as_secs_f64() / other.as_secs_f64();
    println!("{name:<11} {:>9.2} ms  native takes {ratio:.2} times as long", milliseconds(other));
}

fn median(rounds: usize, mut run: impl FnMut()) -> Duration {
    run();
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[rounds / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
