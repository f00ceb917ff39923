//! Runs programs of the host for maar itself: rustup and rustc. Commands of crates run in cells, never here.
//!
//! The current folder may be a stranger's, so it decides nothing: programs are found through the absolute entries of
//! `PATH` only, and run in `/`. rustup looks for `rust-toolchain.toml` and for overrides in its working directory and
//! above, and only root can put a file in `/`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

/// Where programs run.
pub(super) const NEUTRAL: &str = "/";

/// Runs a program to its end: an absolute path, or a name that is looked up in `PATH`.
///
/// # Errors
/// When it can't be found or started.
pub(super) fn run(program: &str, args: &[&str]) -> io::Result<Output> {
    run_in(program, args, &absolute_entries(std::env::var_os("PATH").as_deref()), &[])
}

/// Runs a cargo at an absolute path so that it finds nothing that the user has installed or configured.
///
/// # Errors
/// When it can't be started.
pub(super) fn run_alone(program: &str, args: &[&str]) -> io::Result<Output> {
    let own = Path::new(program).parent().map(Path::to_owned);
    run_in(program, args, &own.into_iter().collect::<Vec<_>>(), &[("CARGO_HOME", "/nonexistent")])
}

/// Runs a program to its end, as [`run`] does; its output goes to standard error.
///
/// # Errors
/// When it can't be found or started.
pub(super) fn run_shown(program: &str, args: &[&str]) -> io::Result<ExitStatus> {
    let entries = absolute_entries(std::env::var_os("PATH").as_deref());
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    command(program, args, &entries, &[])?.stdin(Stdio::null()).stdout(stderr).status()
}

fn run_in(program: &str, args: &[&str], entries: &[PathBuf], env: &[(&str, &str)]) -> io::Result<Output> {
    command(program, args, entries, env)?.output()
}

fn command(program: &str, args: &[&str], entries: &[PathBuf], env: &[(&str, &str)]) -> io::Result<Command> {
    let found = find(program, entries)?;
    let path = std::env::join_paths(entries).unwrap_or_else(|_| OsString::new());
    let mut command = Command::new(found);
    command
        .args(args)
        .current_dir(NEUTRAL)
        // Its child processes find programs the same way.
        .env("PATH", path)
        .env("PWD", NEUTRAL)
        .env("RUSTUP_AUTO_INSTALL", "0")
        // cargo, when it runs us, sets it to its own toolchain's libraries, which are not those of the others.
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("RUST_BACKTRACE")
        .envs(env.iter().copied());
    Ok(command)
}

/// The entries of `PATH` that don't depend on the current folder. An empty entry would stand for that folder.
fn absolute_entries(path: Option<&OsStr>) -> Vec<PathBuf> {
    let entries = path.into_iter().flat_map(std::env::split_paths);
    entries.filter(|entry| entry.is_absolute()).collect()
}

fn find(program: &str, entries: &[PathBuf]) -> io::Result<PathBuf> {
    if Path::new(program).is_absolute() {
        return Ok(program.into());
    }
    let candidates = entries.iter().map(|entry| entry.join(program));
    candidates.into_iter().find(|path| is_executable(path)).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_depend_on_the_current_folder_are_passed_over() {
        let entries = |path: &str| absolute_entries(Some(OsStr::new(path)));
        assert_eq!(entries(".:/usr/bin::bin:../x:/bin:"), ["/usr/bin", "/bin"].map(PathBuf::from));
        assert!(entries("").is_empty() && absolute_entries(None).is_empty());
    }

    #[test]
    fn the_first_executable_file_of_that_name_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, third] = ["1", "2", "3"].map(|name| dir.path().join(name));
        std::fs::create_dir_all(first.join("tool")).unwrap();
        for (folder, mode) in [(&second, 0o644), (&third, 0o755)] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("tool"), "").unwrap();
            std::fs::set_permissions(folder.join("tool"), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let entries = [first, second, third.clone()];
        assert_eq!(find("tool", &entries).unwrap(), third.join("tool"));
        assert_eq!(find("other", &entries).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(find("/x/y", &entries).unwrap(), Path::new("/x/y"));
    }

    #[test]
    fn programs_run_in_the_neutral_folder() {
        let output = run("/bin/sh", &["-c", "pwd -P; echo $PWD"]).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "/\n/\n");
    }
}
