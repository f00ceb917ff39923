//! Runs as an ordinary user, from tests that run as root: the sandbox is another one then.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cases;
use crate::layers;
use crate::mounts;
use crate::world::{Ran, World};

/// A user that no host has.
const USER: u32 = 54_322;

#[test]
fn an_ordinary_user_gets_the_same_verdicts() {
    if !can_be_another_user() {
        return;
    }
    let world = World::new([]);
    let cases = cases::publish(&world);
    give_home(&world);

    let ran = mounts::in_private(|| User::admit(&world).maar(&world, &["run", "--progress", "none", "-t", "stable"]));
    let ran = ran.unwrap();

    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(fs::metadata(world.home().join("maar.db")).unwrap().uid(), USER);
    let report = world.report("fixtures");
    let crates = report["crates"].as_array().unwrap();
    assert_eq!(crates.len(), cases.len());
    // Few hosts let a user without a session limit memory.
    let limits_memory = !report["notes"].to_string().contains("(memory: ");
    for (krate, case) in crates.iter().zip(&cases).filter(|(_, case)| limits_memory || !case.needs_memory_limit()) {
        let result = &krate["results"][0];
        assert_eq!(result["outcome"], case.outcomes()[0], "{krate}");
        assert!(result["reason"].as_str().is_none_or(|reason| case.has_reason(reason)), "{krate}");
    }
}

#[test]
fn crates_of_an_ordinary_user_share_dependencies_and_cannot_change_them() {
    if !can_be_another_user() {
        return;
    }
    let others = [layers::library(), layers::checking("one"), layers::checking("two")];
    let world = World::new(layers::poisoners().into_iter().chain(others));
    give_home(&world);
    mounts::in_private(|| {
        let user = User::admit(&world);
        let run = |name: &str, crates: &[&str], flags: &[&str]| {
            layers::experiment(&world, name, crates);
            let ran = user.maar(&world, &[&["run", "--progress", "none"], flags].concat());
            assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
            world.verdicts(name)
        };
        run("fixtures", &["one", "two"], &[]);
        assert_eq!(layers::tally(&world), [1, 1, 3], "{}", world.log(&["one"]));
        for krate in ["one", "two"] {
            let log = world.log(&[krate]);
            assert!(log.contains(&format!("Compiling {krate} v1.0.0")) && !log.contains("Compiling library"), "{log}");
        }
        let before = layers::layers(&world);
        let crates = ["tests", "script", "two"];
        let shared = run("shared", &crates, &[]);
        assert_eq!(layers::layers(&world), before);
        assert_eq!(shared, crates.map(|name| format!("{name}@1.0.0 pass")));
        assert_eq!(run("alone", &crates, &["--no-cache"]), shared);
    });
}

/// Whether this test can run maar as another user. Tests that run as an ordinary user have made all runs as one.
pub(crate) fn can_be_another_user() -> bool {
    nix::unistd::geteuid().is_root() && cases::two_toolchains()
}

/// Makes the world's home one of [`USER`].
fn give_home(world: &World) {
    fs::create_dir(world.home()).unwrap();
    chown(world.home(), Some(USER), Some(USER)).unwrap();
}

/// [`USER`], who may not enter the folders where programs and toolchains of this host may be: they are shown in a
/// world, to this thread and its child processes.
pub(crate) struct User {
    maar: PathBuf,
    tools: PathBuf,
    toolchains: PathBuf,
}

impl User {
    pub(crate) fn admit(world: &World) -> Self {
        let show = |folder: &Path, name: &str| {
            let at = world.path(name);
            mounts::show(folder, &at);
            at
        };
        let program = Path::new(env!("CARGO_BIN_EXE_maar"));
        Self {
            maar: show(program.parent().unwrap(), "program").join(program.file_name().unwrap()),
            tools: show(rustup().parent().unwrap(), "tools"),
            toolchains: show(&rustup_home(), "toolchains"),
        }
    }

    fn maar(&self, world: &World, args: &[&str]) -> Ran {
        self.command(world, args).uid(USER).gid(USER).output().unwrap().into()
    }

    /// maar with these programs and toolchains, for any user.
    pub(crate) fn command(&self, world: &World, args: &[&str]) -> Command {
        let mut command = world.command_of(&self.maar, args);
        command.env("HOME", world.home()).env("RUSTUP_HOME", &self.toolchains);
        command.env("PATH", [self.tools.as_os_str(), OsStr::new("/usr/bin:/bin")].join(OsStr::new(":")));
        command
    }
}

fn rustup() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).map(|folder| folder.join("rustup")).find(|file| file.is_file()).unwrap()
}

fn rustup_home() -> PathBuf {
    let output = Command::new("rustup").args(["show", "home"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}
