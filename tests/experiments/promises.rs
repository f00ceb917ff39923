//! Homes that can only be read, and runs without a network.

use std::fs;

use crate::mounts;
use crate::support::fixture::Fixture;
use crate::world::World;

const EXPERIMENT: &str = "name = \"kept\"\ncrates = [\"uses\"]\ntoolchains = [\"stable\"]\n";

fn world() -> World {
    let library = Fixture::new("library", "1.0.0").lib("pub const N: u32 = 1;");
    let uses = Fixture::new("uses", "1.0.0").dep("library", "1").lib("#[test] fn n() { assert_eq!(library::N, 1); }");
    let world = World::new([library, uses, Fixture::new("never-asked", "1.0.0")]);
    world.write("maar.toml", EXPERIMENT);
    let ran = world.run(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    world
}

#[test]
fn a_home_that_can_not_be_written_is_read_and_nothing_else_is_blamed_for_it() {
    let world = world();
    mounts::in_private(|| {
        mounts::freeze(&world.home());
        assert_eq!(world.verdicts("kept"), ["uses@1.0.0 pass"]);
        for args in [&["status"][..], &["logs", "kept", "uses"], &["report", "kept"]] {
            let ran = world.maar(args);
            assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
            assert!(ran.stdout.contains(if args[0] == "logs" { "n ... ok" } else { "1 pass" }), "{ran:?}");
        }
        let page = world.maar(&["report", "kept", "--format", "html"]);
        assert!(page.stderr.contains("`-o FOLDER` writes the pages elsewhere"), "{page:?}");
        let elsewhere = world.path("pages");
        let page = world.maar(&["report", "kept", "--format", "html", "-o", elsewhere.to_str().unwrap()]);
        assert_eq!(page.code, Some(0), "{page:?}");
        let doctor = world.maar(&["doctor"]);
        assert_eq!(doctor.code, Some(3), "{doctor:?}");
        let failed: Vec<&str> = doctor.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
        assert!(matches!(failed[..], [home] if home.contains("home") && home.contains("Read-only")), "{doctor:?}");
        let run = world.run(&[]);
        assert_eq!(run.code, Some(3), "{run:?}");
    });
    assert!(!fs::exists(world.home().join("maar.db-shm")).unwrap());
}

#[test]
fn an_offline_run_makes_new_experiments_from_the_caches_and_asks_nobody() {
    let world = world();
    // Newer, and not in the cache.
    world.registry.publish(&Fixture::new("library", "1.1.0").lib("pub const N: u32 = 2;"));
    let before = world.registry.all_requests();

    let ran = world.run(&["--offline", "--name", "new", "-c", "uses", "-c", "library@1", "-c", "never-asked"]);

    assert_eq!(world.registry.all_requests(), before, "{}", ran.stderr);
    let [uses, library, never] = &world.verdicts("new")[..] else { panic!("{ran:?}") };
    assert_eq!((uses.as_str(), library.as_str()), ("uses@1.0.0 pass", "library@1.0.0 pass"), "{ran:?}");
    assert!(never.starts_with("never-asked inconclusive: "), "{never}");
    assert!(never.ends_with("is not in the cache, and --offline fetches nothing"), "{never}");
}
