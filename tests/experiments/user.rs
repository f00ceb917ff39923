//! The run of all cases as an ordinary user, from tests that run as root: the sandbox is another one then.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cases;
use crate::mounts;
use crate::world::{Ran, World};

/// A user that no host has.
const USER: u32 = 54_322;

#[test]
fn an_ordinary_user_gets_the_same_verdicts() {
    // Tests that run as an ordinary user have made all runs as one.
    if !nix::unistd::geteuid().is_root() || !cases::two_toolchains() {
        return;
    }
    let world = World::new([]);
    let cases = cases::publish(&world);
    fs::create_dir(world.home()).unwrap();
    chown(world.home(), Some(USER), Some(USER)).unwrap();

    let ran = mounts::in_private(|| run_as_user(&world, &["run", "--progress", "none", "-t", "stable"])).unwrap();

    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(fs::metadata(world.home().join("maar.db")).unwrap().uid(), USER);
    let report = world.report("fixtures");
    let crates = report["crates"].as_array().unwrap();
    assert_eq!(crates.len(), cases.len());
    // Few hosts let a user without a session of its own limit memory.
    let limits_memory = !report["notes"].to_string().contains("(memory: ");
    for (krate, case) in crates.iter().zip(&cases).filter(|(_, case)| limits_memory || !case.needs_memory_limit()) {
        let result = &krate["results"][0];
        assert_eq!(result["outcome"], case.outcomes()[0], "{krate}");
        assert!(result["reason"].as_str().is_none_or(|reason| case.has_reason(reason)), "{krate}");
    }
}

/// Runs maar as [`USER`], who may not enter the folders where programs and toolchains of this host may be: they are
/// shown in the world.
fn run_as_user(world: &World, args: &[&str]) -> Ran {
    let show = |folder: &Path, name: &str| {
        let at = world.path(name);
        mounts::show(folder, &at);
        at
    };
    let program = Path::new(env!("CARGO_BIN_EXE_maar"));
    let maar = show(program.parent().unwrap(), "program").join(program.file_name().unwrap());
    let tools = show(rustup().parent().unwrap(), "tools");
    let toolchains = show(&rustup_home(), "toolchains");
    let mut command = world.command_of(&maar, args);
    command.env("HOME", world.home()).env("RUSTUP_HOME", toolchains);
    command.env("PATH", [tools.as_os_str(), OsStr::new("/usr/bin:/bin")].join(OsStr::new(":")));
    command.uid(USER).gid(USER).output().unwrap().into()
}

fn rustup() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join("rustup")).find(|file| file.is_file()).unwrap()
}

fn rustup_home() -> PathBuf {
    let output = Command::new("rustup").args(["show", "home"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}
