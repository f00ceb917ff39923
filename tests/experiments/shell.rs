//! `maar shell`, on a new terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags, tcgetattr};

use crate::cases::two_toolchains;
use crate::support::fixture::Fixture;
use crate::world::World;

/// A world where a crate has been run, and where a newer version of its dependency has been published since.
fn ran() -> World {
    let dependency = |version: &str| Fixture::new("dependency", version);
    let krate = Fixture::new("entered", "1.0.0").lib("#[test] fn passes() {}").dep("dependency", "1");
    let world = World::new([dependency("1.0.0"), krate]);
    world.write(
        "maar.toml",
        "name = \"fixtures\"\ncrates = [\"entered\"]\n[crate.entered]\nenv = { OF_THE_CRATE = \"seen\" }\n",
    );
    let run = world.run(&[]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    world.registry.publish(&dependency("1.0.1"));
    world
}

/// Makes a terminal the controlling one of a command's own session.
fn on(terminal: OwnedFd, mut command: Command) -> Child {
    command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
    // SAFETY: both calls are async-signal-safe, and take numbers only.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            Ok(())
        })
    };
    command.spawn().unwrap()
}

/// Reads until the terminal has output, or is closed.
fn read_until(terminal: &mut File, said: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !said.contains(wanted) {
        match terminal.read(&mut buffer) {
            Ok(count) if count > 0 => said.push_str(&String::from_utf8_lossy(&buffer[..count])),
            _ => return,
        }
    }
}

#[test]
fn a_shell_is_in_the_cell_that_the_op_had_and_gives_the_terminal_back() {
    let world = ran();
    let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    let modes = |terminal: &File| {
        let modes = tcgetattr(terminal.as_fd()).unwrap();
        (
            modes.input_flags & InputFlags::ICRNL,
            modes.output_flags & OutputFlags::OPOST,
            modes.local_flags & (LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG),
        )
    };
    let mut terminal = File::from(pair.master);
    let before = modes(&terminal);
    let mut shell = on(pair.slave, world.command(&["shell", "fixtures", "entered"]));
    let mut said = String::new();
    read_until(&mut terminal, &mut said, "/crate$ ");
    assert!(said.contains("entered@1.0.0 with"), "{said}");
    let keys =
        "stty size; id -un; echo $OF_THE_CRATE; grep -c 1.0.1 Cargo.lock; cargo test 2>&1 | grep passes; exit 5\n";
    terminal.write_all(keys.as_bytes()).unwrap();
    read_until(&mut terminal, &mut said, "\u{0}");
    for line in ["33 101\r\n", "maar\r\n", "seen\r\n", "\n0\r\n", "test passes ... ok"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(shell.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(modes(&terminal), before);
    assert!(world.job_folders().is_empty());
}

/// A world where a crate fails on the second toolchain, behind one of the user's ops that changes its sources.
fn failed() -> World {
    let build = "fn main() { println!(\"cargo::rustc-check-cfg=cfg(nightly)\"); \
         let rustc = std::env::var(\"RUSTC\").unwrap(); \
         let version = std::process::Command::new(rustc).arg(\"-V\").output().unwrap(); \
         if String::from_utf8_lossy(&version.stdout).contains(\"nightly\") { println!(\"cargo::rustc-cfg=nightly\"); } }";
    let krate = Fixture::new("breaks", "1.0.0")
        .file("build.rs", build)
        .lib("pub const PATCHED: bool = false;\n#[test] fn breaks() { assert!(!PATCHED || !cfg!(nightly)) }");
    let world = World::new([krate]);
    world.write(
        "maar.toml",
        "name = \"fixtures\"\ntoolchains = [\"stable\", \"nightly\"]\ncrates = [\"breaks\"]\n\
         ops = [\"prepare\", \"patch\", \"build\", \"test\"]\n\
         [op.patch]\nstage = \"build\"\nrun = [\"sed\", \"-i\", \"s/= false/= true/\", \"src/lib.rs\"]\n",
    );
    let run = world.run(&[]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    world
}

#[test]
fn a_shell_is_in_the_cell_of_the_op_that_failed_behind_the_users_own_ops() {
    if !two_toolchains() {
        return;
    }
    let world = failed();
    let size = Winsize { ws_row: 33, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    let mut terminal = File::from(pair.master);
    let mut shell = on(pair.slave, world.command(&["shell", "fixtures", "breaks"]));
    let mut said = String::new();
    read_until(&mut terminal, &mut said, "/crate$ ");
    assert!(said.contains("`patch` ran first, as it did before `test`"), "{said}");
    assert!(said.contains("breaks@1.0.0 with nightly, in the cell of `test` (tests failed: breaks)"), "{said}");
    terminal.write_all(b"head -1 src/lib.rs; rustc -V; exit\n").unwrap();
    read_until(&mut terminal, &mut said, "\u{0}");
    assert!(said.contains("PATCHED: bool = true") && said.contains("nightly ("), "{said}");
    assert_eq!(shell.wait().unwrap().code(), Some(0), "{said}");
}

#[test]
fn a_repeated_op_sends_no_commands_to_the_terminal() {
    let krate = Fixture::new("titled", "1.0.0").lib("#[test] fn t() { panic!(\"\\u{1b}]0;owned\\u{7}seen\") }");
    let world = World::new([krate]);
    world.write("maar.toml", "name = \"fixtures\"\ncrates = [\"titled\"]\n");
    world.run(&[]);
    let again = world.maar(&["shell", "fixtures", "titled", "--run", "test"]);
    assert!(
        again.stdout.contains("seen") && again.stdout.ends_with("== failed: tests failed: t\n"),
        "{}",
        again.stdout
    );
    assert!(!again.stdout.contains("owned"), "{:?}", again.stdout);
}

#[test]
fn an_op_that_failed_is_repeated_where_it_failed_behind_the_users_own_ops() {
    if !two_toolchains() {
        return;
    }
    let world = failed();
    let again = world.maar(&["shell", "fixtures", "breaks", "--run", "test"]);
    assert!(again.stdout.ends_with("== failed: tests failed: breaks\n"), "{}{}", again.stdout, again.stderr);
    let stable = world.maar(&["shell", "fixtures", "breaks", "--run", "test", "-t", "stable"]);
    assert!(stable.stdout.ends_with("== passed\n"), "{}{}", stable.stdout, stable.stderr);
}

#[test]
fn an_op_is_repeated_with_the_lockfile_that_it_had() {
    let world = ran();
    let again = world.maar(&["shell", "fixtures", "entered", "--run", "test"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("Compiling dependency v1.0.0"), "{}", again.stdout);
    assert!(again.stdout.ends_with("== passed\n"), "{}", again.stdout);
}

#[test]
fn what_has_no_cell_or_no_terminal_is_a_misuse() {
    let world = ran();
    for (args, words) in [
        (
            &["shell", "fixtures", "entered", "--run", "doc"][..],
            "entered@1.0.0 has no op `doc` there, only build, test",
        ),
        (
            &["shell", "fixtures", "entered", "-t", "nightly-1"],
            "experiment `fixtures` has no toolchain `nightly-1`, only",
        ),
    ] {
        let ran = world.maar(args);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
    let mut command = world.command(&["shell", "fixtures", "entered"]);
    // SAFETY: the call is async-signal-safe. Without it, the call would take the tester's terminal.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a shell needs a terminal"));
}
