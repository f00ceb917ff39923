//! Reasons that a person can act on: the part that failed, and the cell's differences from the author's machine.

use std::process::Command;

use crate::cases::two_toolchains;
use crate::support::fixture::Fixture;
use crate::world::World;

fn krate(name: &str) -> Fixture {
    Fixture::new(name, "1.0.0")
}

fn manifest(name: &str, more: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n{more}")
}

/// Runs an experiment with these settings over these crates, and returns its verdicts.
fn verdicts(world: &World, settings: &str, crates: &[&str]) -> Vec<String> {
    world.write("maar.toml", &format!("name = \"reasons\"\ncrates = {crates:?}\n{settings}"));
    let ran = world.run(&[]);
    assert!(matches!(ran.code, Some(0 | 1 | 3 | 4 | 5)), "{}", ran.stderr);
    world.verdicts("reasons")
}

const ONE: &str = "toolchains = [\"stable\"]\n";
const TWO: &str = "toolchains = [\"stable\", \"nightly\"]\n";

#[test]
fn a_manifest_that_every_cargo_refuses_is_broken_with_its_cause() {
    if !two_toolchains() {
        return;
    }
    let gone = krate("gone").manifest(&manifest("gone", "[[example]]\nname = \"nowhere\"\n")).lib("");
    let world = World::new([gone]);
    let found = verdicts(&world, TWO, &["gone"]);
    let expected = "gone@1.0.0 broken: build@stable: bad manifest: can't find `nowhere` example at \
                    `examples/nowhere.rs` or `examples/nowhere/main.rs`";
    assert!(found[0].starts_with(expected), "{found:?}");
}

#[test]
fn pipes_and_files_get_whole_reasons_and_an_unknown_op_the_nearest() {
    let long = "a_test_with_a_name_that_is_much_longer_than_the_line_of_any_terminal_that_people_use_today";
    let tests: String = (0..4).map(|n| format!("#[test] fn {long}_{n}() {{ panic!() }}\n")).collect();
    let world = World::new([krate("wordy").lib(&tests)]);
    world.write("maar.toml", &format!("name = \"reasons\"\ncrates = [\"wordy\"]\n{ONE}"));
    let whole = format!("tests failed: {long}_0, {long}_1, {long}_2, {long}_3");
    let ran = world.maar(&["run", "--progress", "plain"]);
    assert!(ran.stdout.contains(&whole) && ran.stderr.contains(&whole), "{ran:?}");
    for format in ["text", "markdown"] {
        let report = world.maar(&["report", "reasons", "--format", format]);
        assert!(report.stdout.contains(&whole), "{report:?}");
    }
    let typo = world.maar(&["logs", "reasons", "wordy", "--op", "tset"]);
    assert_eq!(typo.code, Some(2));
    assert!(typo.stderr.contains("no op `tset` is planned for wordy@1.0.0; did you mean `test`?"), "{typo:?}");
    let none = world.maar(&["--name", "none", "-c", "wordy", "-t", "stable", "--ops", ""]);
    assert_eq!((none.code, world.verdicts("none")), (Some(0), vec!["wordy@1.0.0 skipped".to_owned()]), "{none:?}");
}

/// A crate whose test prints cargo's message about a bad manifest, with a cargo that prints nothing before it.
#[test]
fn a_crate_that_prints_a_refusal_of_cargos_is_not_broken() {
    let forged = "error: failed to parse manifest at `/crate/Cargo.toml`\\n\\nCaused by:\\n  forged";
    let harness = format!("fn main() {{ print!(\"\\x1b[2K{forged}\\n\"); std::process::exit(101); }}");
    let forges = krate("forges")
        .manifest(&manifest("forges", "[[test]]\nname = \"own\"\nharness = false\n"))
        .lib("")
        .file("tests/own.rs", &harness);
    let world = World::new([forges]);
    let quiet = format!("{ONE}[crate.forges]\nenv = {{ CARGO_TERM_QUIET = \"true\" }}\n");
    let found = verdicts(&world, &quiet, &["forges"]);
    assert!(found[0].starts_with("forges@1.0.0 test-fail: test@stable: "), "{found:?}");
}

#[test]
fn a_reason_names_the_part_that_failed() {
    let conformance = krate("conformance")
        .manifest(&manifest("conformance", "[[test]]\nname = \"cases\"\nharness = false\n"))
        .lib("")
        .file("tests/cases.rs", "fn main() { println!(\"3 of 200 failed\"); std::process::exit(3); }");
    let noisy = "#[test] fn talks() { std::process::Command::new(\"printf\").arg(\"no newline\").status().unwrap(); panic!(); }";
    let linked = "fn main() { println!(\"cargo::rustc-link-lib=nosuchlib\"); }";
    let world = World::new([
        krate("bad-dep").lib("pub fn a() -> u8 { \"\" }"),
        krate("depends").dep("bad-dep", "1"),
        krate("bad-example").lib("").file("examples/shows.rs", "fn main() { absent() }"),
        krate("includes").lib("pub const TEXT: &str = include_str!(\"../../up.txt\");"),
        krate("links").file("build.rs", linked).file("src/main.rs", "fn main() {}"),
        krate("looks").file("build.rs", "fn main() { panic!(\"no such tool\"); }"),
        krate("too-new").manifest(&manifest("too-new", "rust-version = \"1.999\"\n")).lib(""),
        conformance,
        krate("noisy").lib(noisy),
    ]);
    let crates = ["depends", "bad-example", "includes", "links", "looks", "too-new", "conformance", "noisy"];
    let found = verdicts(&world, ONE, &crates);
    for (found, expected) in found.iter().zip([
        "depends@1.0.0 build-fail: build@stable: dependency bad-dep v1.0.0 does not compile: E0308: mismatched types",
        "bad-example@1.0.0 test-fail: test@stable: example `shows` does not compile: E0425: cannot find function `absent`",
        "includes@1.0.0 build-fail: build@stable: does not compile: couldn't read `src/../../up.txt`: No such file",
        "links@1.0.0 build-fail: build@stable: binary `links` does not compile: linking with `cc`: ",
        "looks@1.0.0 build-fail: build@stable: the build script of looks v1.0.0 (/crate) failed: no such tool",
        "too-new@1.0.0 build-fail: build@stable: cargo: rustc ",
        "conformance@1.0.0 test-fail: test@stable: test target `cases`: exit code 3",
        "noisy@1.0.0 test-fail: test@stable: tests failed: talks",
    ]) {
        assert!(found.starts_with(expected), "{found}, not {expected}");
    }
    assert!(found[3].contains("nosuchlib"), "{}", found[3]);
    assert!(found[5].ends_with("too-new@1.0.0 requires rustc 1.999"), "{}", found[5]);
}

#[test]
fn a_reason_names_what_a_cell_lacks_that_may_be_the_cause() {
    let configured = "#[cfg(not(special))] compile_error!(\"needs --cfg special\");";
    let world = World::new([
        krate("configured")
            .lib(configured)
            .file(".cargo/config.toml", "[build]\nrustflags = [\"--cfg\", \"special\"]\n"),
        krate("aliased").lib(configured).file(".cargo/config.toml", "[alias]\nb = \"build\"\n"),
        krate("withdrawn").yanked(),
        krate("locks").dep("withdrawn", "1").file("Cargo.lock", "version = 4\n"),
        krate("fetches").lib("#[test] fn fetches() { panic!(\"dns error: failed to lookup address information\"); }"),
    ]);
    let git = "fn main() { assert!(std::path::Path::new(\".git\").exists(), \"not in a git repository\"); }";
    for (name, more) in [("asks-git", ""), ("beside", "[dependencies]\nsibling = { path = \"../sibling\" }\n")] {
        world.write(&format!("{name}/Cargo.toml"), &manifest(name, more));
        world.write(&format!("{name}/src/lib.rs"), "");
    }
    world.write("asks-git/build.rs", git);
    world.write("sibling/Cargo.toml", &manifest("sibling", ""));
    world.write("sibling/src/lib.rs", "");
    let made = Command::new("git").args(["init", "--quiet"]).arg(world.path("")).status().unwrap();
    assert!(made.success());
    let crates = ["configured", "aliased", "locks", "fetches", "path:asks-git", "path:beside"];
    let found = verdicts(&world, ONE, &crates);
    let expected = [
        "configured@1.0.0 build-fail: build@stable: does not compile: needs --cfg special (not in the cell: `.cargo/config.toml`)",
        "aliased@1.0.0 build-fail: build@stable: does not compile: needs --cfg special",
        "locks@1.0.0 broken: prepare: dependencies can't be resolved: failed to select a version for the requirement \
         `withdrawn = \"^1\"`: every version that fits is yanked; the crate's own Cargo.lock may still work: \
         set `lockfile = \"packaged\"`",
        "fetches@1.0.0 test-fail: test@stable: tests failed: fetches (not in the cell: the network)",
        "asks-git@1.0.0 build-fail: build@stable: the build script of asks-git v1.0.0 (/crate) failed: not in a git repository \
         (not in the cell: `.git`)",
        "beside@1.0.0 inconclusive: prepare: dependency `sibling` is at `../sibling`, outside the crate's folder, and maar \
         copies only that folder",
    ];
    assert_eq!(found, expected);
}
