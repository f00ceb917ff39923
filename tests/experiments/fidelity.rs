//! A crate that passes on its author's machine passes here: one small crate for each thing that once differed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::cases::two_toolchains;
use crate::support::fixture::Fixture;
use crate::world::World;

/// Variables that a test sees here and not in a plain `cargo test`, or the other way round, and why.
const VARIABLES: [(&str, &str); 4] = [
    ("CARGO_HOME", "cargo's home is the job's own, and can't be changed"),
    ("TERM", "commands run on a terminal, as a person's do"),
    ("RUST_RECURSION_COUNT", "set by rustup, which a cell doesn't have"),
    ("RUSTUP_*", "set by rustup, which a cell doesn't have"),
];

const LIB: &str = "[package]\nname = \"NAME\"\nversion = \"0.1.0\"\nedition = \"2021\"\n";

/// Writes a crate of the world: files by their paths, with `LIB` as the default manifest.
fn krate(world: &World, name: &str, files: &[(&str, &str)]) {
    if !files.iter().any(|(path, _)| *path == "Cargo.toml") {
        world.write(&format!("{name}/Cargo.toml"), &LIB.replace("NAME", name));
    }
    for (path, text) in files {
        world.write(&format!("{name}/{path}"), text);
    }
}

/// Runs these folders on stable, and gives their verdicts in this order.
fn verdicts(world: &World, folders: &[&str], flags: &[&str]) -> Vec<String> {
    let crates: Vec<String> = folders.iter().map(|folder| format!("path:{folder}")).collect();
    world.write("maar.toml", &format!("name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = {crates:?}\n"));
    let ran = world.run(flags);
    assert!(matches!(ran.code, Some(0 | 1 | 4)), "{}{}", ran.stdout, ran.stderr);
    world.verdicts("fixtures")
}

/// Sets one time on all files and folders below one.
fn date(folder: &Path, time: SystemTime) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            date(&path, time);
        }
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

fn plain(world: &World) {
    let lib = |body: &str| format!("#[test] fn it() {{ {body} }}");
    krate(world, "writes-to-target", &[("src/lib.rs", &lib("std::fs::write(\"target/x\", \"x\").unwrap();"))]);
    krate(
        world,
        "finds-its-program",
        &[
            ("src/main.rs", "fn main() {}"),
            ("tests/t.rs", &lib("assert!(std::fs::metadata(\"target/debug/finds-its-program\").unwrap().is_file());")),
        ],
    );
    let rename = "std::fs::rename(\"src\", \"moved\").unwrap(); std::fs::rename(\"moved\", \"src\").unwrap();";
    krate(world, "renames-its-folder", &[("src/lib.rs", &lib(rename))]);
    let runs_cargo = "let gone = [\"metadata\", \"--manifest-path\", \"gone/Cargo.toml\"]; \
         let output = std::process::Command::new(env!(\"CARGO\")).args(gone).output().unwrap(); \
         assert!(String::from_utf8(output.stderr).unwrap().contains(\"error: manifest path\"));";
    krate(world, "runs-cargo", &[("src/lib.rs", &lib(runs_cargo))]);
    let old = "assert!(std::fs::metadata(\"src/lib.rs\").unwrap().modified().unwrap().elapsed().unwrap().as_secs() > 1000000);";
    krate(world, "keeps-times", &[("src/lib.rs", &lib(old))]);
    let manifest = LIB.replace("NAME", "project").replace("[package]", "[project]");
    krate(world, "project", &[("Cargo.toml", &manifest), ("src/lib.rs", "")]);
    let head = "assert!(std::fs::read_to_string(\".git/HEAD\").unwrap().contains(\"main\"));";
    krate(world, "repository", &[("src/lib.rs", &lib(head)), (".git/HEAD", "ref: refs/heads/main")]);
    let home = "assert!(std::path::Path::new(&std::env::var(\"HOME\").unwrap()).is_dir());";
    krate(world, "has-a-home", &[("src/lib.rs", &lib(home))]);
    date(&world.path("keeps-times"), SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000));
}

const PLAIN: [&str; 8] = [
    "writes-to-target",
    "finds-its-program",
    "renames-its-folder",
    "runs-cargo",
    "keeps-times",
    "project",
    "repository",
    "has-a-home",
];

#[test]
fn what_a_plain_cargo_test_passes_passes_in_a_cell() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([]);
    plain(&world);
    // Only a system that has a name can show it.
    let system = "assert!(std::fs::read_to_string(\"/etc/os-release\").unwrap().contains(\"NAME=\"));";
    krate(&world, "names-the-system", &[("src/lib.rs", &format!("#[test] fn it() {{ {system} }}"))]);
    let has_name = Path::new("/etc/os-release").exists();
    let folders: Vec<&str> = PLAIN.into_iter().chain(has_name.then_some("names-the-system")).collect();
    let expected: Vec<String> = folders.iter().map(|name| format!("{name}@0.1.0 pass")).collect();
    assert_eq!(verdicts(&world, &folders, &[]), expected);
}

#[test]
fn nothing_above_maars_home_changes_a_crate_without_a_sandbox() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([]);
    plain(&world);
    world.write("Cargo.toml", "[workspace]\nmembers = []\n");
    world.write(".cargo/config.toml", "[build]\nrustc = \"/no/such/rustc\"\n");
    let folders: Vec<&str> = PLAIN.into_iter().collect();
    let expected: Vec<String> = folders.iter().map(|name| format!("{name}@0.1.0 pass")).collect();
    // The workspace above is the crates' own here: it excludes them.
    world.write("Cargo.toml", &format!("[workspace]\nexclude = {folders:?}\n[profile.dev]\npanic = \"nonsense\"\n"));
    assert_eq!(verdicts(&world, &folders, &["--sandbox", "none"]), expected);
}

#[test]
fn a_member_and_a_virtual_workspace_build_as_in_cargo() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([Fixture::new("library", "1.0.0")]);
    let root = "[workspace]\nmembers = [\"a\", \"b\"]\nresolver = \"2\"\n[workspace.package]\nversion = \"0.3.0\"\nedition = \"2021\"\n\
                [workspace.dependencies]\nlibrary = \"1\"\n";
    let member = |name: &str, rest: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\n[dependencies]\n{rest}"
        )
    };
    let both = "#[test] fn it() { assert_eq!(virt_b::two(), 2); std::fs::write(\"../target/x\", \"\").unwrap(); }";
    krate(
        &world,
        "virt",
        &[
            ("Cargo.toml", root),
            ("a/Cargo.toml", &member("virt-a", "library.workspace = true\nvirt-b = { path = \"../b\" }\n")),
            ("a/src/lib.rs", both),
            ("a/.cargo/config.toml", "[build]\nrustc = \"/no/such/rustc\"\n"),
            ("b/Cargo.toml", &member("virt-b", "")),
            ("b/src/lib.rs", "pub fn two() -> u8 { 2 }\n#[test] fn fails() { panic!() }"),
        ],
    );
    let expected = [
        "virt@0.3.0 test-fail: test@stable: tests failed: fails",
        "virt-a@0.3.0 pass",
        "virt-b@0.3.0 test-fail: test@stable: tests failed: fails",
    ];
    assert_eq!(verdicts(&world, &["virt", "virt/a", "virt/b"], &[]), expected);
}

#[test]
fn a_package_that_the_build_never_uses_decides_nothing() {
    if !two_toolchains() {
        return;
    }
    let bad = |name: &str| Fixture::new(name, "1.0.0").manifest("[package]\nname = \"x\"\n[y]z").lib("");
    let fixtures = [
        bad("bad-manifest").dep("library", "1"),
        Fixture::new("bad-archive", "1.0.0").tarball(b"no tarball"),
        Fixture::new("library", "1.0.0"),
    ];
    let world = World::new(fixtures);
    let using = |name: &str, table: &str, of: &str| {
        let manifest = format!("{}[{table}]\n{of} = \"1\"\n", LIB.replace("NAME", name));
        krate(&world, name, &[("Cargo.toml", &manifest), ("src/lib.rs", "#[test] fn it() {}")]);
    };
    let windows = "target.'cfg(windows)'.dependencies";
    using("windows-manifest", windows, "bad-manifest");
    using("windows-archive", windows, "bad-archive");
    using("uses-manifest", "dependencies", "bad-manifest");
    using("uses-archive", "dependencies", "bad-archive");
    using("tests-manifest", "dev-dependencies", "bad-manifest");
    let optional =
        LIB.replace("NAME", "optional") + "[dependencies]\nbad-manifest = { version = \"1\", optional = true }\n";
    krate(&world, "optional", &[("Cargo.toml", &optional), ("src/lib.rs", "")]);
    let folders =
        ["windows-manifest", "windows-archive", "uses-manifest", "uses-archive", "tests-manifest", "optional"];
    let verdicts = verdicts(&world, &folders, &[]);
    assert_eq!(verdicts[..2], ["windows-manifest@0.1.0 pass", "windows-archive@0.1.0 pass"]);
    let manifest = "bad manifest: dependency bad-manifest-1.0.0: ";
    assert!(verdicts[2].starts_with(&format!("uses-manifest@0.1.0 broken: prepare: {manifest}")), "{}", verdicts[2]);
    let archive = "uses-archive@0.1.0 broken: prepare: bad archive: the tarball of bad-archive-1.0.0: ";
    assert!(verdicts[3].starts_with(archive), "{}", verdicts[3]);
    // Only its tests need it.
    assert!(
        verdicts[4].starts_with(&format!("tests-manifest@0.1.0 broken: test@stable: {manifest}")),
        "{}",
        verdicts[4]
    );
    assert_eq!(verdicts[5], "optional@0.1.0 pass");
}

#[test]
fn the_last_of_two_equal_entries_of_a_tarball_is_what_is_built() {
    if !two_toolchains() {
        return;
    }
    let twice = Fixture::new("twice", "1.0.0").lib("compile_error!(\"first\");").lib("pub fn last() {}");
    let user = Fixture::new("user", "1.0.0").dep("twice", "1").lib("#[test] fn it() { twice::last() }");
    let world = World::new([twice, user]);
    world.write("maar.toml", "name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = [\"twice\", \"user\"]\n");
    world.run(&[]);
    assert_eq!(world.verdicts("fixtures"), ["twice@1.0.0 pass", "user@1.0.0 pass"]);
}

#[test]
fn the_variables_of_a_test_are_those_of_a_plain_cargo_test() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([]);
    let test = "#[test] fn it() { for (name, _) in std::env::vars() { println!(\"variable: {name}\"); } panic!() }";
    krate(&world, "variables", &[("src/lib.rs", test)]);
    let variables = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| Some(line.trim().strip_prefix("variable: ")?.to_owned())).collect()
    };
    assert_eq!(verdicts(&world, &["variables"], &[]), ["variables@0.1.0 test-fail: test@stable: tests failed: it"]);
    let here = variables(&world.log(&["variables", "--op", "test"]));
    // A login shell's.
    let mut plain = Command::new(env!("CARGO"));
    plain.args(["test", "--offline"]).current_dir(world.path("variables")).env_clear();
    for name in ["PATH", "RUSTUP_HOME"] {
        plain.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    let home = world.path("plain-home");
    fs::create_dir(&home).unwrap();
    for (name, value) in [("USER", "me"), ("LOGNAME", "me"), ("SHELL", "/bin/sh"), ("LANG", "C.UTF-8"), ("PWD", "/")] {
        plain.env(name, value);
    }
    let output = plain.env("HOME", &home).output().unwrap();
    let there = variables(&String::from_utf8_lossy(&output.stdout));
    assert!(here.contains("CARGO_MANIFEST_DIR") && there.contains("CARGO_MANIFEST_DIR"), "{here:?} {there:?}");
    let is_explained = |name: &String| {
        VARIABLES.iter().any(|(known, _)| match known.strip_suffix('*') {
            Some(begin) => name.starts_with(begin),
            None => name == known,
        })
    };
    let unexplained: Vec<_> = here.symmetric_difference(&there).filter(|name| !is_explained(name)).collect();
    assert!(unexplained.is_empty(), "no reason is given for {unexplained:?}");
}

#[test]
fn a_reason_names_the_restriction_that_a_crate_met() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([]);
    let plus = "#[test] fn it() { let cargo = std::process::Command::new(\"cargo\").arg(\"+nightly\").status(); \
                assert!(cargo.unwrap().success()); }";
    krate(&world, "plus", &[("src/lib.rs", plus)]);
    let rename = "#[test] fn it() { std::fs::write(\"target/x\", \"\").unwrap(); std::fs::rename(\"target/x\", \"x\").unwrap(); }";
    krate(&world, "renames", &[("src/lib.rs", rename)]);
    let outside = LIB.replace("NAME", "outside") + "[dev-dependencies]\nsibling = { path = \"../sibling\" }\n";
    krate(&world, "outside", &[("Cargo.toml", &outside), ("src/lib.rs", "")]);
    krate(&world, "sibling", &[("src/lib.rs", "")]);
    let expected = [
        "plus@0.1.0 test-fail: test@stable: tests failed: it \
         (not in the cell: rustup and `cargo +TOOLCHAIN`)",
        "renames@0.1.0 test-fail: test@stable: tests failed: it \
         (not in the cell: some renames, between two file systems)",
        "outside@0.1.0 inconclusive: prepare: dependency `sibling` is at `../sibling`, outside the crate's folder, and \
         maar copies only that folder",
    ];
    assert_eq!(verdicts(&world, &["plus", "renames", "outside"], &[]), expected);
}
