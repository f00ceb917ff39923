//! Ops that another process may have made fail run once more, in the same run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::mounts;
use crate::support::fixture::Fixture;
use crate::world::World;

const SETTINGS: &str = "name = \"doubt\"\ntoolchains = [\"stable\"]\n";

/// Waits for something that will be there soon.
#[track_caller]
fn eventually<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "no sign of {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The cargo that runs the tests of this crate, other than `before`.
fn cargo_test(krate: &str, before: Option<Pid>) -> Option<Pid> {
    let is_cargo = |process: &Path| {
        fs::read(process.join("cmdline")).is_ok_and(|line| line.starts_with(b"cargo\0test\0--frozen\0--no-fail-fast\0"))
    };
    let name = format!("\"{krate}\"");
    let is_of_crate = |process: &Path| {
        fs::read_to_string(process.join("root/crate/Cargo.toml")).is_ok_and(|manifest| manifest.contains(&name))
    };
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let mut cargos = processes.filter(|process| is_cargo(process) && is_of_crate(process));
    let number = cargos.find_map(|process: PathBuf| process.file_name()?.to_str()?.parse().ok())?;
    Some(Pid::from_raw(number)).filter(|pid| Some(*pid) != before)
}

#[test]
fn a_cargo_that_is_killed_from_outside_runs_again_and_is_inconclusive_if_that_happens_twice() {
    let name = format!("killed-{}", std::process::id());
    let waits = "#[test] fn waits() { std::thread::sleep(std::time::Duration::from_secs(5)) }";
    for (signals, verdict) in [
        (&[Signal::SIGKILL][..], format!("{name}@1.0.0 pass")),
        (
            &[Signal::SIGKILL, Signal::SIGTERM],
            format!("{name}@1.0.0 inconclusive: test@stable: host: killed by SIGTERM, which maar did not send"),
        ),
    ] {
        let world = World::new([Fixture::new(&name, "1.0.0").lib(waits)]);
        world.write("maar.toml", &format!("{SETTINGS}crates = [{name:?}]"));
        let mut running = world.start();
        running.wait_for(&format!("test {name}"));
        let mut last = None;
        for signal in signals {
            let cargo = eventually("cargo", || cargo_test(&name, last));
            kill(cargo, *signal).unwrap();
            last = Some(cargo);
        }
        let ran = running.end();
        assert_eq!(world.verdicts("doubt"), [verdict], "{}", ran.stderr);
        let log = world.maar(&["logs", "doubt", &name, "--op", "test"]).stdout;
        let note = "maar: the second run of the op, because something other than maar may have killed it in the first \
                    (host: killed by SIGKILL, which maar did not send)";
        assert!(log.contains(note), "{log}");
    }
}

#[test]
fn a_test_that_a_signal_kills_is_a_failure_of_the_crate() {
    let aborts = Fixture::new("aborts", "1.0.0").lib("#[test] fn aborts() { std::process::abort() }");
    let world = World::new([aborts]);
    world.write("maar.toml", &format!("{SETTINGS}crates = [\"aborts\"]"));
    world.run(&[]);
    assert_eq!(
        world.verdicts("doubt"),
        ["aborts@1.0.0 test-fail: test@stable: tests of the library: killed by SIGABRT"]
    );
}

#[test]
fn a_crate_that_prints_what_a_limit_would_print_fails_and_is_no_limit() {
    let words = "memory allocation of 9 bytes failed; Cannot fork; (signal: 9, SIGKILL: kill)";
    let liar = Fixture::new("liar", "1.0.0").lib(&format!("#[test] fn lies() {{ panic!({words:?}) }}"));
    let world = World::new([liar]);
    world.write("maar.toml", &format!("{SETTINGS}crates = [\"liar\"]"));
    world.run(&[]);
    assert_eq!(world.verdicts("doubt"), ["liar@1.0.0 test-fail: test@stable: tests failed: lies"]);
}

#[test]
fn an_op_whose_disk_somebody_else_filled_runs_again_in_the_same_run() {
    let world = World::new([Fixture::new("innocent", "1.0.0").file(
        "build.rs",
        "fn main() { for i in 0..100 { std::fs::write(\"x\", vec![i; 1 << 20]).unwrap();
         std::thread::sleep(std::time::Duration::from_millis(50)) } }",
    )]);
    world.write("maar.toml", &format!("{SETTINGS}crates = [\"innocent\"]\nskip = [\"test\"]"));
    mounts::in_private(|| {
        mounts::small_disk(&world.home(), "300m");
        let mut running = world.start();
        running.wait_for("build innocent");
        let toolchain = || {
            let jobs = world.job_folders().into_iter().flat_map(|run| fs::read_dir(run).unwrap().flatten());
            jobs.map(|job| job.path().join("0")).find(|folder| folder.exists())
        };
        let folder = eventually("a build", toolchain);
        let filler = mounts::fill(&world.home());
        eventually("the end of the first run", || (!folder.exists()).then_some(()));
        fs::remove_file(filler).unwrap();

        let ran = running.end();

        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(world.verdicts("doubt"), ["innocent@1.0.0 pass"]);
        let log = world.maar(&["logs", "doubt", "innocent"]).stdout;
        assert!(log.contains("maar: the second run of the op, because the disk was short of space"), "{log}");
    });
}
