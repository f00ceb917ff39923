//! Toolchains with settings: flags, patches, programs of other toolchains, and the same one twice.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cases::two_toolchains;
use crate::git_host::{self, GitHost};
use crate::layers::{checking, library};
use crate::support::fixture::Fixture;
use crate::world::{Ran, World};

const PATCHED: &str = "stable+patch=library=mine";

/// A world with a folder `mine` that has a library of this version and source.
fn world(version: &str, source: &str, fixtures: impl IntoIterator<Item = Fixture>) -> World {
    let world = World::new(fixtures);
    mine(&world, version, source);
    world
}

fn mine(world: &World, version: &str, source: &str) {
    world.write(
        "mine/Cargo.toml",
        &format!("[package]\nname = \"library\"\nversion = \"{version}\"\nedition = \"2021\"\n"),
    );
    world.write("mine/src/lib.rs", source);
}

#[track_caller]
fn run(world: &World, args: &[&str], code: i32) -> Ran {
    let ran = world.run(&[&["--name", "fixtures"], args].concat());
    assert_eq!(ran.code, Some(code), "{}\n{}", ran.stderr, ran.stdout);
    ran
}

#[test]
fn a_patch_is_in_the_build_of_its_toolchain_alone_or_its_results_are_inconclusive() {
    let pinned = Fixture::new("pinned", "1.0.0").dep("library", "=1.0.0");
    let apart = Fixture::new("apart", "1.0.0");
    let broken = "pub fn answer() -> u32 { 41 }";
    // Cargo by itself would keep the version that is locked.
    let world = world("1.0.7", broken, [library(), checking("app"), pinned, apart]);
    let args = ["-t", "stable", "-t", PATCHED, "-c", "app", "-c", "pinned", "-c", "apart"];
    run(&world, &args, 1);
    let found = world.verdicts("fixtures");
    assert!(found[0].starts_with(&format!("app@1.0.0 regressed: test@{PATCHED}: ")), "{found:?}");
    let unused = "patch `library` (1.0.7) is not in the build: the requirements lead to 1.0.0 of the registry";
    assert_eq!(found[1], format!("pinned@1.0.0 inconclusive: build@{PATCHED}: {unused}"));
    let absent = "patch `library` is not in the build: no dependency has that name";
    assert_eq!(found[2], format!("apart@1.0.0 inconclusive: build@{PATCHED}: {absent}"));
    let log = world.log(&["app", "--op", "prepare"]);
    assert!(log.contains(&format!("maar: {PATCHED}: patch `library` (1.0.7) is in the build\n")), "{log}");
    // The crate's own files are as they were.
    let repeated = world.maar(&["shell", "fixtures", "app", "-t", PATCHED, "--run", "test"]);
    assert!(repeated.stdout.contains("answer ... FAILED"), "{}\n{}", repeated.stdout, repeated.stderr);

    assert_eq!(run(&world, &args, 1).steps(), [""; 0], "finished work is kept");
    mine(&world, "1.0.7", "pub fn answer() -> u32 { 42 }");
    let ran = run(&world, &args, 4);
    assert!(
        ran.stdout.contains("the patches of `stable+patch=library=mine` have changed since the last run"),
        "{}",
        ran.stdout
    );
    assert!(!ran.steps().iter().any(|step| step.ends_with("@1.0.0 stable")), "{:?}", ran.steps());
    assert_eq!(world.verdicts("fixtures")[0], "app@1.0.0 pass");
}

#[test]
fn a_commit_of_a_git_repository_stands_in_for_a_package() {
    let in_registry = Fixture::new("x", "1.0.0").lib("pub const ANSWER: u32 = 41;");
    let app = Fixture::new("app", "1.0.0").dep("x", "1").lib("const _: () = assert!(x::ANSWER == 42);");
    let world = World::new([in_registry, app]);
    if !git_host::is_git_here(world.path("")) {
        return;
    }
    let repository = world.path("repository");
    world.write("repository/Cargo.toml", "[package]\nname = \"x\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    world.write("repository/src/lib.rs", "pub const ANSWER: u32 = 42;\n");
    git_host::commit(&repository, None);
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&repository).output().unwrap();
    let commit = String::from_utf8(head.stdout).unwrap();
    let host = GitHost::start(&repository, &world.path("host.pem"));
    let config = fs::read_to_string(world.path("cargo/config.toml")).unwrap();
    world.write("cargo/config.toml", &format!("{config}[http]\ncainfo = \"host.pem\"\n"));
    let name = host.name();
    let spec = format!("stable+patch=x=https://{name}/x.git#{}", commit.trim());
    let args = ["-t", "stable", "-t", &spec, "-c", "app", "--ops", "prepare,build"];
    run(&world, &args, 5);
    let found = world.verdicts("fixtures");
    assert!(found[0].contains(&format!("maar refuses {name}: its port is not that of https")), "{found:?}");
    run(&world, &[&args[..], &["--allow-host", &name]].concat(), 0);
    let found = world.verdicts("fixtures");
    assert!(found[0].starts_with("app@1.0.0 fixed: build@stable: "), "{found:?}\n{}", world.log(&["app"]));
}

#[test]
fn a_command_of_the_users_own_builds_with_the_patch() {
    let world = world("1.0.0", "pub fn answer() -> u32 { 41 }", [library(), checking("app")]);
    let file = format!(
        "name = \"fixtures\"\ntoolchains = [\"stable\", {PATCHED:?}]\ncrates = [\"app\"]\nops = [\"prepare\", \"own\"]\n\
         [op.own]\nstage = \"test\"\nrun = [\"cargo\", \"test\", \"--frozen\"]\n"
    );
    world.write("named.toml", &file);
    let ran = world.maar(&["run", "named.toml", "--progress", "none"]);
    assert_eq!(ran.code, Some(1), "{}\n{}", ran.stdout, ran.stderr);
    let found = world.verdicts("fixtures");
    assert!(found[0].starts_with(&format!("app@1.0.0 regressed: own@{PATCHED}: tests failed: answer")), "{found:?}");
    let apart = world.maar(&["run", "named.toml", "--sandbox", "none", "--name", "none"]);
    assert_eq!(apart.code, Some(2), "{}", apart.stderr);
    assert!(
        apart.stderr.contains("op `own` of your own can't be given the patch of `stable+patch=library=mine`"),
        "{}",
        apart.stderr
    );
}

#[test]
fn a_patch_that_is_another_package_or_no_folder_is_refused_before_anything_runs() {
    let world = world("1.0.0", "", [library()]);
    for (spec, said) in [
        ("stable+patch=serde=mine", "patch `serde`: the package in "),
        ("stable+patch=serde=nowhere", "patch `serde`: "),
        ("stable+patch=library=cargo", "can't be used: Cargo.toml: "),
    ] {
        let ran = run(&world, &["-t", spec, "-c", "library"], 2);
        assert!(ran.stderr.contains(said) && ran.stdout.is_empty(), "{}\n{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn flags_that_deny_warnings_find_them() {
    let warns = Fixture::new("warns", "1.0.0").dep("library", "1").lib("fn unused() {}");
    let library = library().lib("fn unused() {}");
    let world = World::new([warns, library]);
    for spec in ["stable+rustflags=-D warnings", "stable+rustflags=\"-D warnings\""] {
        run(&world, &["-t", "stable", "-t", spec, "-c", "warns", "--ops", "prepare,build"], 1);
        let found = world.verdicts("fixtures");
        let expected = "warns@1.0.0 regressed: build@stable+rustflags=-D warnings: does not compile";
        assert!(found[0].starts_with(expected), "{found:?}");
    }
    let report = world.maar(&["report", "fixtures"]);
    assert!(
        report.stdout.contains("lints are not capped, on any toolchain, because of the flags of"),
        "{}",
        report.stdout
    );
}

#[test]
fn variables_and_profiles_reach_the_ops() {
    let source = "#[test] fn run() { assert_eq!(option_env!(\"WANTED\"), Some(\"a+b = c\")); assert!(!cfg!(debug_assertions)); }";
    let world = World::new([Fixture::new("asks", "1.0.0").lib(source)]);
    let spec = "stable+env=WANTED=\"a+b = c\"+profile=release";
    run(&world, &["-t", "stable", "-t", spec, "-c", "asks"], 0);
    let found = world.verdicts("fixtures");
    assert!(found[0].starts_with("asks@1.0.0 fixed"), "{found:?}");
    let log = world.log(&["asks", "--op", "test", "-t", spec]);
    assert!(log.contains("--profile release"), "{log}");
    assert!(log.contains("maar: no compiled dependencies are shared: the toolchain has a `profile`"), "{log}");
}

#[test]
fn the_same_toolchain_twice_runs_everything_twice() {
    let world = World::new([library(), checking("app")]);
    let ran = run(&world, &["-t", "stable", "-t", "stable", "-c", "app"], 0);
    let steps = ran.steps();
    assert_eq!(
        steps,
        [
            "prepare app@1.0.0",
            "build app@1.0.0 stable (1)",
            "test app@1.0.0 stable (1)",
            "build app@1.0.0 stable (2)",
            "test app@1.0.0 stable (2)",
        ]
    );
    assert!(ran.stdout.contains("whatever differs between them is chance"), "{}", ran.stdout);
    let report = world.report("fixtures");
    let toolchains: Vec<&str> =
        report["crates"][0]["results"].as_array().unwrap().iter().map(|of| of["toolchain"].as_str().unwrap()).collect();
    assert_eq!(toolchains, ["stable (1)", "stable (2)"]);
    let log = world.log(&["app", "-t", "stable (2)"]);
    assert!(log.contains("== test@stable (2): passed") && !log.contains("@stable (1)"), "{log}");
}

#[test]
fn the_cargo_of_one_toolchain_runs_the_rustc_of_another() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([Fixture::new("app", "1.0.0")]);
    let file = "name = \"fixtures\"\ncrates = [\"app\"]\nops = [\"prepare\", \"build\", \"versions\"]\n\
                [op.versions]\nstage = \"build\"\nrun = [\"sh\", \"-c\", \"cargo --version; rustc --version\"]\n";
    world.write("maar.toml", file);
    for sandbox in ["native", "none"] {
        run(&world, &["-t", "stable+cargo=nightly", "--sandbox", sandbox, "--fresh"], 0);
        let log = world.log(&["app", "--op", "versions"]);
        let versions = |name: &str| maar::toolchain::find(&name.parse().unwrap()).unwrap().version.to_string();
        let (cargo, rustc) =
            (format!("\ncargo {} (", versions("nightly")), format!("\nrustc {} (", versions("stable")));
        assert!(log.replace('\r', "").contains(&cargo) && log.replace('\r', "").contains(&rustc), "{sandbox}: {log}");
    }
    let report = world.report("fixtures");
    let identity = report["toolchains"][0]["identity"].as_str().unwrap();
    assert!(identity.starts_with("rustc ") && identity.contains("; cargo "), "{identity}");
}

/// Links a toolchain's files, but its cargo, into another folder. `false`: that is on another file system.
fn link_tree(from: &Path, to: &Path) -> bool {
    fs::create_dir(to).unwrap();
    let entries = fs::read_dir(from).unwrap().map(|entry| entry.unwrap());
    let wanted = entries.filter(|entry| {
        !["cargo", "share", "multirust-channel-manifest.toml"].iter().any(|name| entry.file_name() == **name)
    });
    wanted.into_iter().all(|entry| {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            link_tree(&entry.path(), &to)
        } else {
            fs::hard_link(entry.path(), to).is_ok()
        }
    })
}

#[test]
fn a_folder_without_a_cargo_is_a_toolchain() {
    let active = maar::toolchain::active().unwrap();
    let world = World::new([library(), checking("app")]);
    if !link_tree(&active.sysroot, &world.path("stage1")) {
        eprintln!("not run: the toolchain is on another file system than temporary files");
        return;
    }
    run(&world, &["-t", "stable", "-t", "path:stage1", "-c", "app"], 0);
    assert_eq!(world.verdicts("fixtures"), ["app@1.0.0 pass"]);
    let report = world.report("fixtures");
    assert_eq!(report["toolchains"][1]["label"], "path:stage1");
    let identity = report["toolchains"][1]["identity"].as_str().unwrap();
    assert!(identity.contains(", built ") && identity.contains("; cargo "), "{identity}");
}

#[test]
fn what_is_missing_is_named_with_its_command_before_anything_runs() {
    let world = World::new([Fixture::new("app", "1.0.0")]);
    for (spec, said) in [
        ("1.0.0", "toolchain `1.0.0` is not installed"),
        ("stable+component=no-such-thing", "`rustup component add no-such-thing --toolchain stable` installs it"),
        ("stable+target=no-such-target", "op `test` runs programs of `no-such-target`"),
        ("path:nowhere", "/nowhere` has no `bin/rustc`"),
    ] {
        let ran = run(&world, &["-t", spec, "-c", "app", "--offline"], 2);
        assert!(ran.stderr.contains(said) && ran.stdout.is_empty(), "{}\n{}", ran.stdout, ran.stderr);
    }
    let ran = run(&world, &["-t", "stable+target=no-such-target", "-c", "app", "--offline", "--skip", "test"], 2);
    assert!(ran.stderr.contains("`rustup target add no-such-target --toolchain stable` installs it"), "{}", ran.stderr);
}
