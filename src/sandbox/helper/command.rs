//! The last steps of a forked child before it becomes the command.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::cell::Word;
use super::protocol::{self, Input, Job, MAX_REPORT, Rlimits};
use super::{close_on_exec, exit, tell_kernel};
use crate::sandbox::Command;
use crate::sandbox::error::{Fault, Step};

/// Where names are looked up when the command's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The shells' exit code for a missing program; never shown, as the fault itself is reported.
const NOT_RUN: i32 = 127;

/// Becomes the job's command and never returns; the reason is sent where it can't.
pub(super) fn main(job: &Job, words: &mut UnixStream, terminal: &OwnedFd) -> ! {
    let fault = match prepare(job, terminal) {
        Ok(()) => execute(&job.command),
        Err(fault) => fault,
    };
    // A closed socket means that maar is gone.
    let _ = protocol::send(words, &Word::Failed(fault), MAX_REPORT);
    exit(NOT_RUN)
}

fn prepare(job: &Job, terminal: &OwnedFd) -> Result<(), Fault> {
    let session = |errno| Fault::new(Step::Session, errno);
    nix::unistd::setsid().map_err(session)?;
    // SAFETY: the request takes no pointer; with 0 it doesn't steal another session's terminal.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map_err(session)?;
    match job.input {
        // It is /dev/null already.
        Input::Nothing => {}
        Input::Terminal => nix::unistd::dup2_stdin(terminal).map_err(session)?,
    }
    nix::unistd::dup2_stdout(terminal).map_err(session)?;
    nix::unistd::dup2_stderr(terminal).map_err(session)?;
    reset_signals().map_err(session)?;
    limit(job.rlimits).map_err(|errno| Fault::new(Step::Limits, errno))?;
    std::env::set_current_dir(&job.command.cwd)
        .map_err(|error| Fault::at(Step::WorkingDirectory, &job.command.cwd, super::errno_of(&error)))?;
    close_on_exec().map_err(session)
}

/// Resets the signals that maar's parent ignored or blocked, such as `nohup`.
fn reset_signals() -> nix::Result<()> {
    // The C library keeps two signals from its callers, which may be ignored all the same: hence the bare call, with
    // a `struct sigaction` of zeros, which is SIG_DFL, and larger than any architecture's.
    let default = [0u64; 8];
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the action outlives the call and installs no handler. SIGKILL and SIGSTOP are refused, which is fine.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), size_of::<u64>())
        };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Sets the kernel's limits per process, the same on every host as far as the host allows.
fn limit(rlimits: Rlimits) -> nix::Result<()> {
    let set = |resource, soft: u64, hard: u64| {
        let (_, most) = getrlimit(resource)?;
        setrlimit(resource, soft.min(most), hard.min(most))
    };
    // A core file can't have one byte, and no other limit also stops a host program that the kernel pipes cores to:
    // core(5), `do_coredump` of the kernel.
    set(Resource::RLIMIT_CORE, 1, 1)?;
    set(Resource::RLIMIT_NOFILE, 1024, 65_536)?;
    // A file may have holes of any size: its disk blocks are counted, and the disk is limited as a whole.
    set(Resource::RLIMIT_FSIZE, libc::RLIM_INFINITY, libc::RLIM_INFINITY)?;
    set(Resource::RLIMIT_STACK, 8 << 20, libc::RLIM_INFINITY)?;
    set(Resource::RLIMIT_MEMLOCK, 8 << 20, 8 << 20)?;
    // Pending signals, timers among them, and the queues of POSIX.
    for resource in [Resource::RLIMIT_SIGPENDING, Resource::RLIMIT_MSGQUEUE] {
        let most = getrlimit(resource)?.1 / rlimits.sharers.max(1);
        set(resource, most, most)?;
    }
    if let Some(processes) = rlimits.processes {
        set(Resource::RLIMIT_NPROC, processes, processes)?;
    }
    if let Some(bytes) = rlimits.data {
        set(Resource::RLIMIT_DATA, bytes, bytes)?;
    }
    // A process that may not be dumped can't read its own /proc entry, and it inherited that. No other process can look
    // yet.
    prctl::set_dumpable(true)?;
    // When memory runs out, the kernel should take the command rather than those who keep it.
    tell_kernel("/proc/self/oom_score_adj", "500")
}

/// Executes the command; returns only to say why it can't.
fn execute(command: &Command) -> Fault {
    let [program, ..] = command.argv.as_slice() else {
        return Fault::new(Step::Program, Errno::EINVAL);
    };
    let argv: Result<Vec<_>, _> = command.argv.iter().map(|word| CString::new(word.as_str())).collect();
    let env: Result<Vec<_>, _> =
        command.env.iter().map(|(key, value)| CString::new(format!("{key}={value}"))).collect();
    let (Ok(argv), Ok(env)) = (argv, env) else {
        return Fault::at(Step::Program, program, Errno::EINVAL);
    };
    let mut reason = Errno::ENOENT;
    for candidate in candidates(program, &command.env) {
        let Ok(path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        let Err(errno) = nix::unistd::execve(&path, &argv, &env);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // As a shell: go on, but remember that there was one.
            Errno::EACCES => reason = errno,
            _ => return Fault::at(Step::Program, candidate, errno),
        }
    }
    Fault::at(Step::Program, program, reason)
}

/// The files that a program's name may mean, in order.
fn candidates(program: &str, env: &[(String, String)]) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    let path = env.iter().rev().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
    // An empty or relative entry would mean the working directory: the crate's.
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(program: &str, path: &str, expected: &[&str]) {
        let env = [("PATH".to_owned(), path.to_owned())];
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(candidates(program, &env), expected, "{program} in {path}");
    }

    #[test]
    fn names_are_looked_up_in_absolute_folders_of_the_path() {
        check("cargo", "/a/bin:/b", &["/a/bin/cargo", "/b/cargo"]);
        check("cargo", ":.:bin:/b:", &["/b/cargo"]);
        check("./cargo", "/b", &["./cargo"]);
        check("/x/cargo", "/b", &["/x/cargo"]);
    }
}
