//! maar started in a folder of a stranger's: its files choose no program, and take no wall down.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::fixture::Fixture;
use crate::world::World;

/// A world with a script at this place that makes the file `ran`, under any name it is run by.
fn world_with_program(names: &[&str]) -> World {
    let world = World::new([Fixture::new("a", "1.0.0")]);
    for name in names {
        world.write(name, &format!("#!/bin/sh\ntouch {}\necho 'rustc 1.95.0 (x)'\n", world.path("ran").display()));
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    world
}

#[test]
fn a_toolchain_file_chooses_no_program_on_the_host() {
    let world = world_with_program(&["tc/bin/rustc", "tc/bin/cargo"]);
    world.write("mine/Cargo.toml", "[package]\nname = \"mine\"\nversion = \"1.0.0\"\n");
    world.write("mine/src/lib.rs", "");
    for (file, text) in [
        ("rust-toolchain.toml", "[toolchain]\npath = \"/proc/self/cwd/tc\"\n"),
        ("mine/rust-toolchain.toml", "[toolchain]\npath = \"/proc/self/cwd/../tc\"\n"),
        (".cargo/config.toml", "[build]\nrustc = \"/proc/self/cwd/tc/bin/rustc\"\n[env]\nRUSTC = \"tc/bin/rustc\"\n"),
    ] {
        world.write(file, text);
    }

    let doctor = world.command(&["doctor"]).env_remove("RUSTUP_TOOLCHAIN").output().unwrap();
    let run = world.command(&["run", "-c", "path:mine", "--skip", "test"]).env_remove("RUSTUP_TOOLCHAIN").output();
    let within = world.command(&["doctor"]).env_remove("RUSTUP_TOOLCHAIN").current_dir(world.path("mine")).output();

    assert!(String::from_utf8_lossy(&doctor.stdout).contains("active: "), "{doctor:?}");
    assert!(String::from_utf8_lossy(&run.unwrap().stdout).contains("1 crate: 1 pass"));
    assert!(String::from_utf8_lossy(&within.unwrap().stdout).contains("active: "));
    assert!(!world.path("ran").exists(), "a program of the folder ran on the host");
}

#[test]
fn a_path_that_names_the_current_folder_finds_no_program_there() {
    let world = world_with_program(&["rustup", "rustc", "bin/rustup", "bin/rustc"]);
    let path = std::env::var("PATH").unwrap();

    for entries in [format!(".:{path}"), format!(":{path}"), format!("bin:{path}:"), "./bin:.".to_owned()] {
        let doctor = world.command(&["doctor"]).env("PATH", &entries).output().unwrap();
        let found = String::from_utf8_lossy(&doctor.stdout).contains("active: ");
        assert_eq!(found, entries.contains(&path), "{entries}: {doctor:?}");
        assert!(!world.path("ran").exists(), "{entries}: a program of the folder ran on the host");
    }
}

#[test]
fn an_experiment_file_that_lies_there_takes_no_wall_down() {
    let world = World::new([Fixture::new("a", "1.0.0")]);
    let file = "crates = [\"a\"]\nskip = [\"test\"]\nsandbox = \"none\"\n";
    world.write("maar.toml", file);

    for args in [&["run"][..], &[], &["run", "-c", "a"]] {
        let ran = world.maar(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        let message =
            "error: `sandbox = \"none\"` weakens the sandbox, and maar.toml was not named on the command line\n";
        assert!(ran.stderr.starts_with(message), "{}", ran.stderr);
        let place = "maar.toml:3:11\n  |\n3 | sandbox = \"none\"\n  |           ^^^^^^ \
                     if you trust the file, name it: `maar run maar.toml`, or `--sandbox` says so itself\n";
        assert!(ran.stderr.contains(place), "{}", ran.stderr);
    }
    assert_eq!(world.registry.all_requests(), 0);
    assert_eq!(world.maar(&["ops"]).code, Some(0), "to list ops runs nothing");

    for args in [&["run", "maar.toml"][..], &["run", "--sandbox", "native"]] {
        let ran = world.maar(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
    }
}
