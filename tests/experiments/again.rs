//! Running again: the steps that are reused, the steps that are repeated, and the dependencies from a lockfile.

use std::fs;

use crate::support::fixture::Fixture;
use crate::world::World;

fn krate(name: &str) -> Fixture {
    Fixture::new(name, "1.0.0")
}

#[test]
fn a_folder_that_changed_is_run_again_and_nothing_else() {
    let world = World::new([krate("published")]);
    world.write("mine/Cargo.toml", "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2021\"");
    world.write("mine/src/lib.rs", "#[test] fn holds() {}");
    world.write("maar.toml", "name = \"again\"\ncrates = [\"path:mine\", \"published\"]");
    assert_eq!(world.run(&[]).code, Some(0));
    world.write("mine/src/lib.rs", "#[test] fn holds() { panic!() }");

    let again = world.run(&[]);

    let mut steps = again.steps();
    steps.retain(|step| !step.starts_with("prepare mine@0.1.0"));
    assert!(steps.iter().all(|step| step.contains(" mine@0.1.0 ")), "{steps:?}");
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(again.code, Some(1));
    let [mine, published] = &world.verdicts("again")[..] else { panic!("two crates") };
    assert!(mine.starts_with("mine@0.1.0 test-fail: test@") && mine.ends_with(": tests failed: holds"), "{mine}");
    assert_eq!(published, "published@1.0.0 pass");
}

#[test]
fn fresh_starts_over_with_what_is_newest_now() {
    let world = World::new([krate("grows")]);
    world.write("maar.toml", "name = \"fresh\"\ncrates = [\"grows\"]\nskip = [\"test\"]");
    assert_eq!(world.run(&[]).code, Some(0));
    world.registry.publish(&Fixture::new("grows", "1.1.0"));

    assert_eq!(world.run(&[]).steps(), [""; 0], "a continued run keeps to its versions");
    let fresh = world.run(&["--fresh"]);

    let steps = fresh.steps();
    assert!(steps[0] == "prepare grows@1.1.0" && steps[1].starts_with("build grows@1.1.0 "), "{steps:?}");
    assert_eq!(world.verdicts("fresh"), ["grows@1.1.0 pass"]);
}

#[test]
fn a_packaged_lockfile_is_kept_completed_or_refused() {
    let url = crates_index::git::URL;
    let old = Fixture::new("versioned", "1.0.0").lib("pub const OLD: () = ();");
    let new = Fixture::new("versioned", "1.1.0");
    let checksum = old.checksum();
    let lock = |dependencies: &str, rest: &str| {
        format!("version = 3\n[[package]]\nname = \"locked\"\nversion = \"1.0.0\"\n{dependencies}\n{rest}")
    };
    let kept = format!(
        "[[package]]\nname = \"versioned\"\nversion = \"1.0.0\"\nsource = \"registry+{url}\"\nchecksum = \"{checksum}\"\n"
    );
    let needs_old = |name: &str, lock: &str| {
        let uses = "pub use versioned::OLD;";
        krate(name).dep("versioned", "1").file("Cargo.lock", &lock.replace("locked", name)).lib(uses)
    };
    let world = World::new([
        old,
        new,
        needs_old("up-to-date", &lock("dependencies = [\"versioned\"]", &kept)),
        needs_old("out-of-date", &lock("", "")),
        needs_old("garbled", "[[package]\n???"),
        krate("without").dep("versioned", "1"),
    ]);
    world.write(
        "maar.toml",
        "name = \"locks\"\ntoolchains = [\"stable\"]\nlockfile = \"packaged\"\nskip = [\"test\"]\n\
         crates = [\"up-to-date\", \"out-of-date\", \"garbled\", \"without\"]",
    );

    assert_eq!(world.run(&[]).code, Some(1));

    assert_eq!(
        world.verdicts("locks"),
        [
            "up-to-date@1.0.0 pass",
            // The missing package is the newest, which lacks an item that the crate uses.
            "out-of-date@1.0.0 build-fail: build@stable: does not compile: E0432: unresolved import `versioned::OLD`",
            "garbled@1.0.0 broken: prepare: bad lockfile: TOML parse error at line 1, column 11",
            "without@1.0.0 pass",
        ]
    );
}

#[test]
fn a_lockfile_of_ones_own_project_selects_its_registry_packages() {
    let world = World::new([krate("direct"), Fixture::new("direct", "2.0.0"), krate("indirect")]);
    let url = crates_index::git::URL;
    let package = |name: &str, rest: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\n{rest}\n");
    let of_registry = |fixture: &Fixture| {
        package(&fixture.name, &format!("source = \"registry+{url}\"\nchecksum = \"{}\"", fixture.checksum()))
    };
    let lock = [package("project", ""), of_registry(&krate("direct")), of_registry(&krate("indirect"))].concat();
    world.write("project/Cargo.lock", &format!("version = 4\n{lock}"));
    let ran = world.run(&["--name", "lock", "-c", "lock:project/Cargo.lock", "--ops", "prepare"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(world.verdicts("lock"), ["direct@1.0.0 pass", "indirect@1.0.0 pass"]);
    assert!(!fs::exists(world.path("project/target")).unwrap());
}
