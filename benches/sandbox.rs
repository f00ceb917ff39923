//! The cost of opening a cell, running `true` in it and closing it: natively, in bubblewrap and in Docker, in one run.
//!
//!     cargo bench --bench sandbox
//!
//! Only the ratios are a claim. All take turns, so that other load on the host slows them all alike; a program that is
//! not installed is left out by name. bubblewrap makes the same namespaces and about the same mounts, and no cgroups.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and fails by panicking")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use maar::sandbox::native::{Config, Native};
use maar::sandbox::{self, Cores, End, Limits, Mount, MountKind, Network, Sandbox, Spec};
use maar::stop::Stop;

/// How often each is run; the median counts.
const ROUNDS: usize = 301;
/// Docker has a turn once in so many rounds.
const DOCKER_EVERY: usize = 20;
/// System calls that one sample of the filter's cost is made of.
const CALLS: u32 = 20_000;

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

/// What cells see of `/etc`, as far as distributions agree.
const ETC: [&str; 12] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// What cells don't see of `/proc`, besides what bubblewrap makes read-only by itself.
const HIDDEN: [&str; 6] =
    ["/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/scsi", "/proc/timer_list"];

/// The image that Docker runs: made for this, of one static program, and removed.
const IMAGE: &str = "maar-bench-sandbox";

/// One way to run `true`, and how long that took each time.
struct Contender<'a> {
    name: &'static str,
    every: usize,
    run: Box<dyn FnMut() + 'a>,
    times: Vec<Duration>,
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["scratch", "work", "empty"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = || Config { helper: env!("CARGO_BIN_EXE_maar").into(), locks: None };
    let sandbox = Sandbox::Native(Native::new(config()));
    let without_cgroups = Sandbox::Native(Native::without_cgroups(config()));

    let mut contenders = vec![
        Contender::new("native", 1, || runtime.block_on(in_cell(&sandbox, dir.path()))),
        Contender::new("without cgroups", 1, || runtime.block_on(in_cell(&without_cgroups, dir.path()))),
    ];
    contenders.extend(Contender::of_program("bubblewrap", 1, bubblewrap(dir.path(), Sights::AsNative)));
    contenders.extend(Contender::of_program("bubblewrap, bare", 1, bubblewrap(dir.path(), Sights::Few)));
    let image = Image::make();
    let docker = ["docker", "run", "--rm", "--network", "none", IMAGE, "/true"].map(str::to_owned);
    contenders.extend(Contender::of_program("docker run", DOCKER_EVERY, docker.to_vec()));
    contenders.extend(Contender::of_program("no sandbox", 1, vec!["/usr/bin/true".to_owned()]));

    for round in 0..ROUNDS {
        for contender in contenders.iter_mut().filter(|contender| round % contender.every == 0) {
            contender.take_turn();
        }
    }
    drop(image);

    let native = contenders[0].median();
    for contender in &contenders {
        let time = contender.median();
        let ratio = native.as_secs_f64() / time.as_secs_f64();
        println!("{:<16} {:>8.2} ms   native ÷ this {ratio:>7.3}", contender.name, milliseconds(time));
    }
    filter();
}

impl<'a> Contender<'a> {
    fn new(name: &'static str, every: usize, mut run: impl FnMut() + 'a) -> Self {
        // Once as a warm-up.
        run();
        Self { name, every, run: Box::new(run), times: Vec::new() }
    }

    /// A program of the host; `None`: it doesn't run here.
    fn of_program(name: &'static str, every: usize, argv: Vec<String>) -> Option<Self> {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            println!("{name:<16} left out: `{}` can't be run here", argv[0]);
            return None;
        }
        Some(Self::new(name, every, move || assert!(command.status().unwrap().success())))
    }

    fn take_turn(&mut self) {
        let begun = Instant::now();
        (self.run)();
        self.times.push(begun.elapsed());
    }

    fn median(&self) -> Duration {
        median(self.times.clone())
    }
}

async fn in_cell(sandbox: &Sandbox, dir: &Path) {
    let spec = Spec {
        label: "bench".to_owned(),
        user: sandbox.user(),
        scratch: dir.join("scratch"),
        mounts: vec![Mount { at: "/work".into(), what: MountKind::Writable(dir.join("work")) }],
        network: Network::Loopback,
        limits: LIMITS,
        live: None,
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

/// The mounts of a bubblewrap cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sights {
    /// The mounts of a native cell, without the few files that are written for it.
    AsNative,
    /// What `true` needs, a few devices and an empty `/tmp`.
    Few,
}

fn bubblewrap(dir: &Path, sights: Sights) -> Vec<String> {
    let words = "bwrap --unshare-all --die-with-parent --new-session --clearenv --cap-drop ALL --hostname bench \
                 --ro-bind /usr /usr --symlink usr/lib /lib --symlink usr/lib64 /lib64 --symlink usr/bin /bin \
                 --symlink usr/sbin /sbin --proc /proc --dev /dev --tmpfs /tmp";
    let mut argv: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|&word| word.to_owned()));
    add(&["--bind", dir.join("work").to_str().unwrap(), "/work"]);
    if sights == Sights::AsNative {
        for folder in ["/var/tmp", "/dev/shm", "/home/maar"] {
            add(&["--tmpfs", folder]);
        }
        for path in ETC {
            add(&["--ro-bind-try", path, path]);
        }
        for path in HIDDEN {
            match std::fs::metadata(path) {
                Ok(found) if found.is_dir() => add(&["--ro-bind", dir.join("empty").to_str().unwrap(), path]),
                Ok(_) => add(&["--ro-bind", "/dev/null", path]),
                Err(_) => {}
            }
        }
    }
    add(&["--chdir", "/work", "/usr/bin/true"]);
    argv
}

/// The image, while it is there.
struct Image;

impl Image {
    /// Makes it where there is a daemon and a static program to put into it: busybox, which is `true` by that name.
    fn make() -> Option<Self> {
        let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|path| std::fs::read(path).ok())?;
        let mut import = Command::new("docker")
            .args(["import", "-", IMAGE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut header = tar::Header::new_gnu();
        header.set_size(program.len() as u64);
        header.set_mode(0o755);
        let mut archive = tar::Builder::new(import.stdin.take()?);
        // A daemon that doesn't want it is noticed by how the import ends.
        let packed = archive.append_data(&mut header, "true", &program[..]).and_then(|()| archive.into_inner());
        let _ = packed.and_then(|mut pipe| pipe.flush());
        import.wait().is_ok_and(|status| status.success()).then_some(Self)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", IMAGE]).stdout(Stdio::null()).status();
    }
}

/// The cost of the filter of system calls: once for a cell, and then for each call.
fn filter() {
    let samples = (0..ROUNDS).map(|_| std::thread::spawn(sample_of_filter).join().unwrap());
    let (entering, calls): (Vec<Duration>, Vec<Duration>) = samples.unzip();
    let per_call = median(calls);
    println!(
        "filter           {:>8.2} ms to enter, {} ns more for each system call",
        milliseconds(median(entering)),
        per_call.as_nanos()
    );
}

/// In its own thread, because the filter stays for good.
fn sample_of_filter() -> (Duration, Duration) {
    let before = time_of_calls();
    let begun = Instant::now();
    sandbox::refuse_system_calls().unwrap();
    (begun.elapsed(), time_of_calls().saturating_sub(before) / CALLS)
}

fn time_of_calls() -> Duration {
    let begun = Instant::now();
    for _ in 0..CALLS {
        nix::unistd::getppid();
    }
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
