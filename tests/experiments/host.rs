//! Faults of the host, not of a crate: a registry that is down, a disk that is full. No result is lost.

use std::fs;

use crate::mounts;
use crate::support::fixture::Fixture;
use crate::world::World;

/// An experiment over crates that only have to be built, on one toolchain.
fn world(fixtures: impl IntoIterator<Item = Fixture>) -> World {
    let fixtures: Vec<Fixture> = fixtures.into_iter().collect();
    let names: Vec<String> = fixtures.iter().map(|fixture| fixture.name.clone()).collect();
    let world = World::new(fixtures);
    let rest = "toolchains = [\"stable\"]\nskip = [\"test\"]\nin-flight = 1\nworkers = { build = 1 }";
    world.write("maar.toml", &format!("name = \"host\"\ncrates = {names:?}\n{rest}"));
    world
}

fn krate(name: &str) -> Fixture {
    Fixture::new(name, "1.0.0")
}

#[test]
fn a_registry_that_is_down_is_said_before_anything_runs() {
    let mut world = world([krate("a")]);
    world.registry.go_away();
    let ran = world.run(&[]);
    assert_eq!(ran.code, Some(3));
    assert_eq!(ran.stdout, "");
    let url = world.registry.url().replace("sparse+", "");
    assert_eq!(
        ran.stderr,
        format!(
            "error: can't fetch {url}config.json: Connection refused (os error 111)\n\
             `maar doctor` checks whether the registry can be reached; `maar run --offline` does without\n"
        )
    );
}

#[test]
fn what_the_network_kept_from_a_run_is_done_by_the_next() {
    let world = world([krate("before"), krate("tarball"), krate("dependency").dep("needed", "1")]);
    world.registry.publish(&krate("needed"));
    world.registry.fail_at("/dl/tarball/1.0.0/download");
    world.registry.fail_at("/ne/ed/needed");

    let first = world.run(&[]);

    assert_eq!(first.code, Some(3), "{}", first.stderr);
    let url = world.registry.url().replace("sparse+", "");
    assert_eq!(
        world.verdicts("host"),
        [
            "before@1.0.0 pass",
            &format!(
                "tarball@1.0.0 inconclusive: prepare: network: can't fetch {url}dl/tarball/1.0.0/download: the server answered 503 Service Unavailable"
            ),
            "dependency@1.0.0 inconclusive: prepare: network: download of ne/ed/needed failed",
        ]
    );

    world.registry.recover();
    let second = world.run(&[]);

    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert_eq!(world.verdicts("host"), ["before@1.0.0 pass", "tarball@1.0.0 pass", "dependency@1.0.0 pass"]);
    assert!(!second.steps().iter().any(|step| step.contains("before")), "{:?}", second.steps());
}

#[test]
fn a_full_disk_is_the_hosts_fault_and_nothing_is_lost() {
    let big = "fn main() { std::fs::write(\"big\", vec![7; 64 << 20]).unwrap() }";
    let world = world([krate("small"), krate("big").file("build.rs", big)]);
    mounts::in_private(|| {
        mounts::small_disk(&world.home(), "40m");

        let full = world.run(&[]);

        assert_eq!(full.code, Some(3), "{}", full.stderr);
        assert_eq!(
            world.verdicts("host"),
            ["small@1.0.0 pass", "big@1.0.0 inconclusive: build@stable: no space left on the host's disk"]
        );
        mounts::resize(&world.home(), "400m");
        let roomy = world.run(&[]);
        assert_eq!(roomy.code, Some(0), "{}", roomy.stderr);
        assert_eq!(roomy.steps(), ["prepare big@1.0.0", "build big@1.0.0 stable"]);
    });
}

#[test]
fn a_home_without_room_for_results_is_said_and_nothing_is_lost() {
    let world = world([krate("a"), krate("b")]);
    mounts::in_private(|| {
        mounts::small_disk(&world.home(), "200m");
        assert_eq!(world.run(&["-c", "a", "--name", "host"]).code, Some(0));
        let filler = mounts::fill(&world.home());

        let full = world.run(&[]);

        assert_eq!(full.code, Some(3));
        let words = format!("error: no space left to write {}/", world.home().display());
        assert!(full.stderr.starts_with(&words), "{}", full.stderr);
        assert!(full.stderr.contains("; free some and run again, what is finished is kept"), "{}", full.stderr);
        fs::remove_file(filler).unwrap();
        assert_eq!(world.verdicts("host"), ["a@1.0.0 pass"]);
        let roomy = world.run(&[]);
        assert_eq!(roomy.code, Some(0), "{}", roomy.stderr);
        assert_eq!(roomy.steps(), ["prepare b@1.0.0", "build b@1.0.0 stable"]);
    });
}

#[test]
fn a_home_that_can_not_be_written_is_said() {
    let world = world([krate("a")]);
    assert_eq!(world.run(&[]).code, Some(0));
    mounts::in_private(|| {
        mounts::freeze(&world.home());
        let ran = world.run(&["--fresh"]);
        assert_eq!(ran.code, Some(3));
        // The folder of jobs is the first one that a run writes to.
        let jobs = world.home().join("jobs");
        assert_eq!(
            ran.stderr,
            format!("error: failed to close to other users {}: Read-only file system (os error 30)\n", jobs.display())
        );
        assert_eq!(world.maar(&["status"]).code, Some(0));
    });
    assert_eq!(world.verdicts("host"), ["a@1.0.0 pass"]);
}
