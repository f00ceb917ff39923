//! Groups that belong to one maar each, and the remains of dead ones.
//!
//! A maar holds a lock on the folders of its groups, which dies with it: unlike a process number, it is never taken
//! over by another process, and counts across containers.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often and how far apart a group is tried to be emptied: processes die a little after they are killed.
const TRIES: usize = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// Makes a folder for groups that is this process's until the file returned is dropped.
pub(super) fn make(folder: &Path) -> Result<File, String> {
    let made = (0..TRIES).find_map(|_| match make_once(folder) {
        // Another maar is sweeping it away at this very moment.
        Ok(None) => {
            std::thread::sleep(BETWEEN_TRIES);
            None
        }
        Ok(Some(lock)) => Some(Ok(lock)),
        Err(error) => Some(Err(format!("failed to make {}: {error}", folder.display()))),
    });
    made.unwrap_or_else(|| Err(format!("{} belongs to another maar", folder.display())))
}

fn make_once(folder: &Path) -> io::Result<Option<File>> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // The group of a dead process with the same number is as good as a new one.
        _ => Ok(File::open(folder).ok().filter(|lock| lock.try_lock().is_ok() && folder.exists())),
    }
}

/// Kills the processes in the groups of dead maars in a folder, and removes the groups.
pub(super) fn sweep(around: &Path) {
    for entry in fs::read_dir(around).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        let path = entry.path();
        if File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
            for group in fs::read_dir(&path).into_iter().flatten().flatten() {
                if group.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&group.path());
                }
            }
            remove(&path);
        }
    }
}

/// Whether a name is one that maar gives: `maar-PID-NUMBER` or `maar-PID-self`.
fn is_ours(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.strip_prefix("maar-").and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(pid, rest)| is_number(pid) && (is_number(rest) || rest == "self"))
}

/// Kills the processes of a group and removes it as soon as it is empty, which is soon or never.
pub(super) fn remove(group: &Path) {
    for _ in 0..TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => kill_all(group),
            _ => return,
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
}

/// Kills every process of a group.
pub(super) fn kill_all(group: &Path) {
    // Version 2 kills all at once, even processes that fork; version 1 has no such file.
    let all_at_once = File::options().write(true).open(group.join("cgroup.kill"));
    if all_at_once.and_then(|mut file| file.write_all(b"1")).is_ok() {
        return;
    }
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse::<i32>().ok()) {
        // 0 is a process that this one can't see; killing "0" would mean its own group.
        if pid > 0 {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_maar_gives_are_swept() {
        for (name, expected) in [
            ("maar-12-0", true),
            ("maar-12-self", true),
            ("maar-12", false),
            ("maar--0", false),
            ("maar-12-x", false),
            ("maar-x-0", false),
            ("my-maar-12-0", false),
            ("", false),
        ] {
            assert_eq!(is_ours(name), expected, "{name}");
        }
    }

    #[test]
    fn groups_of_the_dead_are_swept_and_those_of_the_living_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let alive = make(&at("maar-1-0")).unwrap();
        drop(make(&at("maar-2-0")).unwrap());
        fs::create_dir(at("maar-2-0").join("build-x-1")).unwrap();
        fs::create_dir(at("system.slice")).unwrap();
        sweep(dir.path());
        assert!(at("maar-1-0").exists() && at("system.slice").exists());
        assert!(!at("maar-2-0").exists());
        assert!(make(&at("maar-1-0")).is_err());
        drop(alive);
        sweep(dir.path());
        assert!(!at("maar-1-0").exists());
    }

    #[test]
    fn strays_of_the_dead_are_killed() {
        let places = super::super::hierarchy::here();
        let Some(own) = places.first().map(|hierarchy| hierarchy.own.clone()) else {
            return eprintln!("not tested here: no hierarchy of cgroups is mounted");
        };
        let dead = own.join("maar-4294967295-0");
        let Ok(lock) = make(&dead) else {
            return eprintln!("not tested here: no cgroup may be made in {}", own.display());
        };
        drop(lock);
        let stray = dead.join("stray-0");
        let made = fs::create_dir(&stray);
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let entered = made.and_then(|()| {
            // A cpuset group accepts no process before it has cores.
            let _ = super::super::group::inherit_cores(&own, &dead);
            let _ = super::super::group::inherit_cores(&dead, &stray);
            fs::write(stray.join("cgroup.procs"), child.id().to_string())
        });
        sweep(&own);
        if entered.is_err() {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        sweep(&own);
        assert!(!dead.exists());
    }
}
