//! Compiled dependencies that one job's user made and another's works on: as root, no two jobs have the same user.

use crate::layers::{experiment, layers, tally, verdicts};
use crate::support::fixture::Fixture;
use crate::world::World;

/// A library whose build script runs in every build, and each time does to its own files what only an owner may.
fn generating() -> Fixture {
    let script = r#"
        use std::path::PathBuf;

        fn main() {
            println!("cargo:rerun-if-changed=missing");
            let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
            // Opens the existing file and then sets its mode.
            std::fs::copy("src/answer.in", out.join("answer.rs")).unwrap();
            std::fs::create_dir_all(out.join("deep/er")).unwrap();
            std::fs::write(out.join("deep/er/note"), "x").unwrap();
            let note = std::fs::File::options().write(true).open(out.join("deep/er/note")).unwrap();
            note.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            std::fs::rename(out.join("deep/er/note"), out.join("deep/note")).unwrap();
        }"#;
    Fixture::new("generating", "1.0.0")
        .file("build.rs", script)
        .file("src/answer.in", "42")
        .lib("pub fn answer() -> u32 { include!(concat!(env!(\"OUT_DIR\"), \"/answer.rs\")) }")
}

fn asking(name: &str) -> Fixture {
    let test = "#[test] fn answer() { assert_eq!(generating::answer(), 42); }";
    Fixture::new(name, "1.0.0").dep("generating", "1").lib(test)
}

#[test]
fn a_build_script_that_runs_again_owns_the_files_that_another_job_made() {
    let world = World::new([generating(), asking("one"), asking("two"), asking("three")]);
    let crates = ["one", "two", "three"];
    experiment(&world, "first", &crates);
    world.run(&[]);
    let made = layers(&world);
    assert!(!made.is_empty());
    let found = verdicts(&world, &crates);
    let log = world.maar(&["logs", "shared", "two"]).stdout;
    assert_eq!(found, ["one@1.0.0 pass", "two@1.0.0 pass", "three@1.0.0 pass"], "{log}");
    assert_eq!(layers(&world), made);
    assert_eq!(tally(&world)[1], 1, "compiled once to be shared");
}
