//! Runs of an ordinary user who has subordinate ids, through the real `newuidmap`: the ids of commands on the host, the
//! files that commands leave there, and the messages where the user has no ids.
//!
//! Accounts and ids are made in mounts that only one test sees. Only root can make them.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::layers;
use crate::mounts;
use crate::support::fixture::Fixture;
use crate::user;
use crate::world::{Ran, Running, World};

/// A user with an account and ids in this test alone.
const USER: u32 = 54_323;
const NAME: &str = "maar-subordinate";

/// The ids that the user has.
const IDS: Range<u32> = 3_100_000..3_165_536;

#[test]
fn commands_are_subordinate_ids_and_leave_nothing_that_clean_does_not_remove() {
    let world = World::new([layers::library(), layers::checking("one"), layers::checking("two")]);
    in_account(&world, |user| {
        layers::experiment(&world, "fixtures", &["one", "two"]);
        let ran = user.run(&[]);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert_eq!(layers::tally(&world), [1, 1, 3]);
        let made_by_cells: Vec<u32> = layers::layers(&world).keys().map(|file| owner(file)).collect();
        assert!(!made_by_cells.is_empty() && made_by_cells.iter().all(|id| IDS.contains(id)), "{made_by_cells:?}");
        assert_eq!(owner(&world.home().join("maar.db")), USER);
        assert_eq!(world.job_folders(), Vec::<PathBuf>::new());

        let again = user.run(&[]);
        assert_eq!((again.code, again.steps()), (Some(0), Vec::new()), "{}", again.stderr);
        let shared = world.verdicts("fixtures");
        layers::experiment(&world, "alone", &["one", "two"]);
        assert_eq!(user.run(&["--no-cache"]).code, Some(0));
        assert_eq!(world.verdicts("alone"), shared);

        let cleaned = user.maar(&["clean"]);
        assert_eq!(cleaned.code, Some(0), "{}", cleaned.stderr);
        assert_eq!(foreign(&world.home()), Vec::<PathBuf>::new());
        assert_eq!(fs::read_dir(world.home().join("cache")).unwrap().count(), 0);
    });
}

#[test]
fn what_commands_left_in_the_cache_is_in_nobodys_way_without_their_ids() {
    let world = World::new([layers::library(), layers::checking("one"), layers::checking("two")]);
    in_account(&world, |user| {
        let empty = world.path("empty");
        fs::write(&empty, "").unwrap();
        for (krate, hidden) in [("one", None), ("two", Some("/usr/bin/newuidmap"))] {
            hidden.into_iter().for_each(|program| mounts::show_file(&empty, Path::new(program)));
            layers::experiment(&world, krate, &[krate]);
            let ran = user.run(&[]);
            assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        }
        let owners: Vec<bool> = layers::layers(&world).keys().map(|file| owner(file) == USER).collect();
        assert!(owners.contains(&true) && owners.contains(&false), "layers of both kinds");
        let cleaned = user.maar(&["clean"]);
        assert_eq!(cleaned.code, Some(0), "{}", cleaned.stderr);
        assert_eq!(fs::read_dir(world.home().join("cache")).unwrap().count(), 0);
    });
}

#[test]
fn a_run_that_is_stopped_or_killed_leaves_nothing_for_ever() {
    let world = World::new([Fixture::new("waits", "1.0.0")]);
    world.write(
        "maar.toml",
        &format!(
            "name = \"waits\"\ncrates = [\"waits\"]\ntoolchains = [\"stable\"]\nops = [\"prepare\", \"wait\"]\n[op.wait]\nstage = \"build\"\n\
         run = [\"sh\", \"-c\", \"mkdir -p -m 700 target/closed/deep; echo > target/closed/deep/file; sleep {NAP}\"]"
        ),
    );
    in_account(&world, |user| {
        let begin = || {
            let mut running = Running::of(user.command(&["run", "maar.toml", "--progress", "json"]));
            running.wait_for("wait waits@1.0.0");
            eventually("the command has written", || {
                foreign(&world.home()).iter().any(|path| path.ends_with("deep/file"))
            });
            running
        };
        let mut stopped = begin();
        let users = users_of_naps();
        assert!(!users.is_empty() && users.iter().all(|id| IDS.contains(id)), "{users:?}");
        stopped.signal(Signal::SIGINT);
        stopped.wait_for_note("stopping: finishing");
        stopped.signal(Signal::SIGINT);
        assert_eq!(stopped.end().code, Some(130));
        assert_eq!(foreign(&world.home()), Vec::<PathBuf>::new());
        assert_eq!(world.job_folders(), Vec::<PathBuf>::new());

        // By `maar clean`, by a run that makes no cells, and by hand.
        let without_cells =
            ["run", "maar.toml", "--sandbox", "none", "--skip", "wait", "--name", "other", "--progress", "none"];
        for sweep in [Some(&["clean"][..]), Some(&without_cells), None] {
            let killed = begin();
            killed.signal(Signal::SIGKILL);
            assert_eq!(killed.end().code, None);
            eventually("its command dies", || users_of_naps().is_empty());
            assert!(!foreign(&world.home()).is_empty());
            match sweep {
                Some(args) => {
                    let swept = user.maar(args);
                    assert_eq!(swept.code, Some(0), "{}{}", swept.stdout, swept.stderr);
                }
                None => {
                    let mut by_hand = Command::new("unshare");
                    by_hand.args(["--map-root-user", "--map-auto", "rm", "-r"]).args(world.job_folders());
                    assert!(by_hand.uid(USER).gid(USER).status().unwrap().success());
                }
            }
            assert_eq!(foreign(&world.home()), Vec::<PathBuf>::new(), "{sweep:?}");
            assert_eq!(world.job_folders(), Vec::<PathBuf>::new(), "{sweep:?}");
        }
    });
}

#[test]
fn doctor_says_who_commands_are_and_what_would_give_them_ids_of_their_own() {
    let world = World::new([layers::library(), layers::checking("one")]);
    in_account(&world, |user| {
        let found = user.maar(&["doctor"]);
        assert_eq!(found.code, Some(0), "{}{}", found.stdout, found.stderr);
        let (_, such) = found.stdout.split_once("a user of their own to the host, such as ").unwrap();
        let such: u32 = such.split_whitespace().next().unwrap().parse().unwrap();
        // One of the ids that `unshare --map-auto` maps too.
        assert!((IDS.start..IDS.end - 1).contains(&such), "{}", found.stdout);
        assert!(found.stdout.contains(&format!("ok    user ids     cells have subordinate ids of user {USER}")));

        let program = rustc(&world.path("toolchains"));
        let closed = world.path("rustc");
        fs::copy(&program, &closed).unwrap();
        chown(&closed, Some(USER), Some(USER)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        mounts::show_file(&closed, &program);
        let found = user.maar(&["doctor"]).stdout;
        assert!(found.contains(": other users can't read ") && found.contains("`chmod -R go+rX "), "{found}");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

        let without = |file: &str, words: &str, remedy: &str| {
            let empty = world.path("empty");
            fs::write(&empty, "").unwrap();
            mounts::show_file(&empty, Path::new(file));
            let found = user.maar(&["doctor"]);
            assert_eq!(found.code, Some(0), "{}{}", found.stdout, found.stderr);
            let words =
                format!("warn  user ids     cells are user {USER} to the host, as all programs of that user: {words}");
            assert!(found.stdout.contains(&words) && found.stdout.contains(remedy), "{}", found.stdout);
        };
        let usermod = format!("`sudo usermod --add-subuids {}-", IDS.end);
        without("/etc/subuid", &format!("/etc/subuid has no 61184 ids in a row for {NAME}"), &usermod);
        without("/usr/bin/newuidmap", "the program `newuidmap` is not installed", "install the package `uidmap`");

        layers::experiment(&world, "fixtures", &["one"]);
        let ran = user.run(&[]);
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert!(layers::layers(&world).keys().all(|file| owner(file) == USER));
    });
}

#[test]
fn a_umask_that_keeps_others_out_keeps_no_cell_out() {
    let world = World::new([layers::library(), layers::checking("one")]);
    in_account(&world, |user| {
        layers::experiment(&world, "fixtures", &["one"]);
        let mut command = user.command(&["run", "maar.toml", "--progress", "none"]);
        let private = || {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            Ok(())
        };
        // SAFETY: makes one system call.
        let ran: Ran = unsafe { command.pre_exec(private) }.output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert!(layers::layers(&world).keys().all(|file| IDS.contains(&owner(file))));
    });
}

/// How many seconds the command of a cell sleeps, as no other does.
const NAP: u32 = 7_772_001;

/// Does something as a user with an account and subordinate ids, in a world whose home is theirs; nothing where this
/// user can't have that done.
fn in_account(world: &World, work: impl FnOnce(&Account<'_>) + Send) {
    if !user::can_be_another_user() {
        return;
    }
    if !Path::new("/usr/bin/newuidmap").exists() {
        assert!(std::env::var_os("CI").is_none(), "the package uidmap is missing");
        return eprintln!("not tested here: the package uidmap is not installed");
    }
    fs::create_dir(world.home()).unwrap();
    chown(world.home(), Some(USER), Some(USER)).unwrap();
    mounts::in_private(|| {
        let (first, count) = (IDS.start, IDS.len());
        add("/etc/passwd", world, &format!("{NAME}:x:{USER}:{USER}::{}:/bin/sh", world.home().display()));
        add("/etc/group", world, &format!("{NAME}:x:{USER}:"));
        for file in ["/etc/subuid", "/etc/subgid"] {
            add(file, world, &format!("{NAME}:{first}:{count}"));
        }
        // As most distributions have them: of a group that a user's namespace doesn't map.
        let options = "newinstance,gid=5,mode=620,ptmxmode=666";
        mount(Some("devpts"), "/dev/pts", Some("devpts"), MsFlags::empty(), Some(options)).unwrap();
        mounts::show_file(Path::new("/dev/pts/ptmx"), Path::new("/dev/ptmx"));
        work(&Account { world, programs: user::User::admit(world) });
    });
}

/// Adds a line to a file of the host, for this test only.
fn add(file: &str, world: &World, line: &str) {
    let copy = world.path(file.trim_start_matches("/etc/"));
    let text = fs::read_to_string(file).unwrap_or_default();
    fs::write(&copy, format!("{text}{line}\n")).unwrap();
    mounts::show_file(&copy, Path::new(file));
}

struct Account<'a> {
    world: &'a World,
    programs: user::User,
}

impl Account<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.programs.command(self.world, args);
        command.uid(USER).gid(USER);
        command
    }

    fn maar(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.maar(&[&["run", "maar.toml", "--progress", "json"], args].concat())
    }
}

/// The compiler of the stable toolchain in rustup's folder.
fn rustc(rustup: &Path) -> PathBuf {
    let toolchains = fs::read_dir(rustup.join("toolchains")).unwrap().map(|entry| entry.unwrap());
    let stable = |name: &OsStr| name.as_bytes().starts_with(b"stable-");
    toolchains.filter(|entry| stable(&entry.file_name())).map(|entry| entry.path().join("bin/rustc")).next().unwrap()
}

fn owner(file: &Path) -> u32 {
    file.symlink_metadata().unwrap().uid()
}

/// The files below a folder that don't belong to the user.
fn foreign(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            found.extend(foreign(&path));
        }
        // This test itself is root, and its files don't count.
        found.extend((![USER, 0].contains(&metadata.uid())).then_some(path));
    }
    found
}

/// Who those are to the host that sleep as the command of a cell does.
fn users_of_naps() -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let naps = processes.filter(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        line == format!("sleep\0{NAP}\0").as_bytes()
    });
    naps.filter_map(|process| {
        let status = fs::read_to_string(process.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_whitespace().next()?.parse().ok()
    })
    .collect()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let happened = (0..600).any(|_| {
        let is_so = is_so();
        if !is_so {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        is_so
    });
    assert!(happened, "never: {what}");
}
