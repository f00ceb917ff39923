//! Subordinate ids of an ordinary user: maar enters a user namespace where it is root and has ids to give to commands.
//!
//! A child makes the namespace, the set-uid programs `newuidmap` and `newgidmap` map the user's ids into it, and only
//! then this process enters. If a step fails, this process stays where it was, and commands share its user. Once it is
//! in, it can't leave. [`users`] chooses the id of a command.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, User, getegid, geteuid};

use super::users;

/// The number of ids that accounts are given by default: enough for all jobs of a run.
const MOST: u32 = 65_536;

/// Where the programs are if `PATH` doesn't name them.
const USUAL: [&str; 2] = ["/usr/bin", "/bin"];

/// The lowest subordinate id that `useradd` gives out by default: `SUB_UID_MIN` of login.defs(5).
const LOWEST: u32 = 100_000;

/// Why the commands of an ordinary user have the id of that user. A run works without ids, and separates less.
#[derive(Debug, thiserror::Error)]
pub enum WhyShared {
    /// The set-uid programs are not there.
    #[error("the program `{0}` is not installed")]
    NoProgram(&'static str),
    /// The set-uid programs go by the names of accounts.
    #[error("user {0} has no account on this host")]
    NoAccount(u32),
    /// The user has no ids, or not enough for [`users`].
    #[error("{file} has no {} ids in a row for {user}", users::NEEDED)]
    NoRange {
        /// The user's name.
        user: String,
        /// The file that gives out such ids.
        file: &'static str,
    },
    /// Commands would be other users, and must read this file or folder.
    #[error("other users can't read {0}")]
    Closed(PathBuf),
    /// The kernel, or a security module, refuses namespaces to this user.
    #[error("the kernel refuses a user namespace: {0}")]
    NoNamespace(#[from] Errno),
    /// A set-uid program failed.
    #[error("`{program}` failed: {reason}")]
    NotMapped {
        /// Its name.
        program: &'static str,
        /// Its message, or its exit status.
        reason: String,
    },
}

impl WhyShared {
    /// How to get ids.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoProgram(_) => "install the package `uidmap` (elsewhere `shadow-utils` or `shadow`)".to_owned(),
            Self::NoAccount(_) => "run maar as a user that /etc/passwd has".to_owned(),
            Self::NoRange { user, .. } => {
                let first = first_free(&[read("/etc/subuid"), read("/etc/subgid")]);
                let last = first.saturating_add(MOST - 1);
                format!("`sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}`")
            }
            Self::Closed(path) => format!("let others read it: `chmod -R go+rX {}`", path.display()),
            Self::NoNamespace(_) => {
                "allow user namespaces: user.max_user_namespaces, or the security module".to_owned()
            }
            Self::NotMapped { .. } => {
                "make sure that newuidmap and newgidmap are set-uid root or have file capabilities, and that maar runs \
                 without no_new_privs"
                    .to_owned()
            }
        }
    }
}

/// Gives this process ids for commands, if it is not root and its user has some. Files that it makes still belong to
/// its user, and it may change and remove those of commands.
///
/// `shown` are files and folders of the user that commands must be able to read.
///
/// # Errors
/// When the user has none, or when this process has threads; nothing has changed then.
pub fn enter(shown: &[PathBuf]) -> Result<(), WhyShared> {
    if geteuid().is_root() {
        return Ok(());
    }
    let is_closed = |path: &&PathBuf| path.metadata().is_ok_and(|metadata| !is_open(metadata.permissions().mode()));
    if let Some(path) = shown.iter().find(is_closed) {
        return Err(WhyShared::Closed(path.clone()));
    }
    let ids = Ids::find()?;
    let namespace = Namespace::make()?;
    namespace.map(ids.newuidmap, "newuidmap", geteuid().as_raw(), ids.uids)?;
    namespace.map(ids.newgidmap, "newgidmap", getegid().as_raw(), ids.gids)?;
    Ok(setns(&namespace.file, CloneFlags::CLONE_NEWUSER)?)
}

/// Does some work as [`enter`] would have it done, in a child: this process stays as it is. Without ids nothing is
/// done.
///
/// To be called while this process has no other threads.
pub fn within(work: impl FnOnce()) {
    if geteuid().is_root() {
        return;
    }
    // SAFETY: the caller has no other threads, so the child may call any function; it never returns from here.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Parent { child }) => {
            let _ = waitpid(child, None);
        }
        Ok(ForkResult::Child) => {
            // A panic must not unwind into the code of the parent.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| enter(&[]).map(|()| work())));
            exit()
        }
        Err(_) => {}
    }
}

/// Whether a mode lets other users read a file or folder, and run or enter it.
fn is_open(mode: u32) -> bool {
    mode & 0o005 == 0o005
}

/// The ids of a user, and the programs that map them.
struct Ids {
    newuidmap: PathBuf,
    newgidmap: PathBuf,
    uids: Subordinate,
    gids: Subordinate,
}

/// A range of ids that a user was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subordinate {
    first: u32,
    count: u32,
}

impl Ids {
    fn find() -> Result<Self, WhyShared> {
        let newuidmap = program("newuidmap").ok_or(WhyShared::NoProgram("newuidmap"))?;
        let newgidmap = program("newgidmap").ok_or(WhyShared::NoProgram("newgidmap"))?;
        let uid = geteuid();
        let account = User::from_uid(uid).ok().flatten().ok_or(WhyShared::NoAccount(uid.as_raw()))?;
        let largest = |file: &'static str, flags: &[&str]| {
            let listed = subordinate_in(&read(file), &account.name, uid.as_raw());
            listed
                .or_else(|| ask_getsubids(flags, &account.name))
                .filter(|range| range.count >= users::NEEDED)
                .ok_or_else(|| WhyShared::NoRange { user: account.name.clone(), file })
        };
        let (uids, gids) = (largest("/etc/subuid", &[])?, largest("/etc/subgid", &["-g"])?);
        Ok(Self { newuidmap, newgidmap, uids, gids })
    }
}

/// A new user namespace, kept by a child until this value is dropped.
struct Namespace {
    child: Pid,
    /// The child ends when this does.
    hold: Option<PipeWriter>,
    file: File,
}

impl Namespace {
    fn make() -> Result<Self, WhyShared> {
        let failed = |error: io::Error| WhyShared::NoNamespace(errno_of(&error));
        let (mut made, tell) = io::pipe().map_err(failed)?;
        let (until, hold) = io::pipe().map_err(failed)?;
        // SAFETY: the child makes system calls only, and never returns from here.
        let child = match unsafe { nix::unistd::fork() }? {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                drop((made, hold));
                keep(tell, until)
            }
        };
        drop((tell, until));
        let mut answer = [0; 4];
        let answered = made.read_exact(&mut answer);
        let open = || File::open(format!("/proc/{child}/ns/user"));
        let file = match (answered, i32::from_ne_bytes(answer)) {
            (Ok(()), 0) => open().map_err(failed),
            (Ok(()), errno) => Err(WhyShared::NoNamespace(Errno::from_raw(errno))),
            (Err(error), _) => Err(failed(error)),
        };
        match file {
            Ok(file) => Ok(Self { child, hold: Some(hold), file }),
            Err(error) => {
                drop(hold);
                let _ = waitpid(child, None);
                Err(error)
            }
        }
    }

    /// Maps this user's id to 0, and those that it was given to 1 and up.
    fn map(&self, path: PathBuf, program: &'static str, own: u32, given: Subordinate) -> Result<(), WhyShared> {
        let Subordinate { first, count } = given;
        // The last stays out, as with `unshare --map-auto`, by which users can remove what commands left.
        let count = count.min(MOST) - 1;
        let numbers = [0, own, 1, 1, first, count].map(|number| number.to_string());
        let ran = Command::new(path)
            .arg(self.child.to_string())
            .args(numbers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|error| WhyShared::NotMapped { program, reason: error.to_string() })?;
        if ran.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        let reason = if words.is_empty() { ran.status.to_string() } else { words };
        Err(WhyShared::NotMapped { program, reason })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.hold.take());
        let _ = waitpid(self.child, None);
    }
}

/// The child's part: makes the namespace, reports the result, and waits for its parent.
fn keep(mut tell: PipeWriter, mut until: PipeReader) -> ! {
    let errno = match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) => 0,
        Err(errno) => errno as i32,
    };
    let _ = tell.write_all(&errno.to_ne_bytes());
    // It ends when the other side is closed, even if maar was killed.
    let _ = until.read(&mut [0]);
    exit()
}

/// Ends a child without running what its parent would run at exit.
fn exit() -> ! {
    // SAFETY: ends the process in any state.
    unsafe { libc::_exit(0) }
}

/// A program in an absolute folder of `PATH`, or where it usually is.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let is_program = |file: &Path| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    folders.chain(USUAL.map(PathBuf::from)).map(|folder| folder.join(name)).find(|file| is_program(file))
}

/// The largest range that a file in the format of subuid(5) has for a user, by name or by number.
fn subordinate_in(text: &str, name: &str, uid: u32) -> Option<Subordinate> {
    let is_users = |who: &str| who == name || who.parse() == Ok(uid);
    ranges(text).filter(|(who, _)| is_users(who)).map(|(_, range)| range).max_by_key(|range| range.count)
}

/// `WHO:FIRST:COUNT`, one a line.
fn ranges(text: &str) -> impl Iterator<Item = (&str, Subordinate)> {
    text.lines().filter_map(|line| {
        let (who, numbers) = line.trim().split_once(':')?;
        let (first, count) = numbers.split_once(':')?;
        let range = Subordinate { first: first.parse().ok()?, count: count.parse().ok()? };
        (range.count > 0).then_some((who, range))
    })
}

/// Asks `getsubids`, for hosts where a directory service gives out ids. It prints `0: NAME FIRST COUNT`, one a line.
fn ask_getsubids(flags: &[&str], user: &str) -> Option<Subordinate> {
    let output = Command::new(program("getsubids")?).args(flags).arg(user).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let ranges = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(2).map(str::parse);
        Some(Subordinate { first: words.next()?.ok()?, count: words.next()?.ok()? })
    });
    ranges.filter(|range| range.count > 0).max_by_key(|range| range.count)
}

/// The first id above all that files in the format of subuid(5) give to anyone.
fn first_free(files: &[String]) -> u32 {
    let ends = files.iter().flat_map(|text| ranges(text)).map(|(_, range)| range.first.saturating_add(range.count));
    ends.max().unwrap_or(LOWEST).max(LOWEST)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "anna:100000:65536\n1001:300000:10\nben:165536:65536\nben:400000:100000\n# x\nbroken:1\nanna:0:0\n";

    #[test]
    fn a_user_has_the_ids_under_their_name_or_number() {
        let of = |name, uid| subordinate_in(FILE, name, uid).map(|range| (range.first, range.count));
        assert_eq!(of("anna", 1000), Some((100_000, 65_536)));
        assert_eq!(of("carl", 1001), Some((300_000, 10)));
        assert_eq!(of("ben", 1002), Some((400_000, 100_000)));
        assert_eq!(of("dora", 1003), None);
        assert_eq!(of("broken", 1004), None);
    }

    #[test]
    fn the_remedy_gives_ids_that_nobody_has() {
        assert_eq!(first_free(&[FILE.to_owned(), "x:500001:1".to_owned()]), 500_002);
        assert_eq!(first_free(&[String::new()]), 100_000);
        let remedy = WhyShared::NoRange { user: "anna".to_owned(), file: "/etc/subuid" }.remedy();
        assert!(remedy.starts_with("`sudo usermod --add-subuids ") && remedy.ends_with(" anna`"), "{remedy}");
    }

    #[test]
    fn programs_are_looked_up_in_absolute_folders() {
        assert_eq!(program("sh").unwrap().file_name().unwrap(), "sh");
        assert!(program("sh").unwrap().is_absolute());
        assert_eq!(program("no-such-program-at-all"), None);
    }
}
