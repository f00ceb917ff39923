//! The helper inside a container: process 1 there, which runs one command after another on maar's order.
//!
//! The container engine has made the inside already; the filter of system calls is maar's, on top of that of the
//! engine. When maar closes the connection, or dies, the steward ends, and with process 1 the kernel ends everything.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::Mode;

use super::protocol::{self, Job, MAX_JOB, MAX_REPORT, Report};
use super::{Streams, leave_standard_streams, run, seccomp};
use crate::sandbox::outlet::receive_descriptors;
use crate::sandbox::{PRIVATE, remove_folder};

/// Where the container has maar's own binary, which is started under this name.
pub(crate) const PROGRAM: &str = "/maar/steward";

/// The folder where maar listens for its steward.
pub(crate) const DOOR: &str = "/maar/door";

/// The socket in it.
pub(crate) const SOCKET: &str = "socket";

/// The steward's message when it has cleaned up and can take a command.
pub(crate) const READY: u8 = b'!';

/// Where the kernel shows the queues of POSIX, which are in a container as private folders are.
const QUEUES: &str = "/dev/mqueue";

/// Serves until maar hangs up.
pub(super) fn serve() -> io::Result<()> {
    // Commands have the same user: they must not trace this process nor take its connection.
    prctl::set_dumpable(false)?;
    let mut maar = UnixStream::connect(Path::new(DOOR).join(SOCKET))?;
    if let Err(fault) = seccomp::enter() {
        // maar still reads the container's output.
        writeln!(io::stderr(), "{fault}")?;
        return Err(io::Error::other(fault.to_string()));
    }
    leave_standard_streams()?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    loop {
        PRIVATE.iter().chain(&[QUEUES]).try_for_each(|folder| empty(Path::new(folder)))?;
        forget_objects()?;
        maar.write_all(&[READY])?;
        let Some(mut streams) = receive(&maar)? else { return Ok(()) };
        let job: Job = protocol::receive(&mut streams.control, MAX_JOB)?;
        let mut control = streams.control.try_clone()?;
        let report = run(&job, streams).unwrap_or_else(Report::Failed);
        // The next turn shows whether maar still listens.
        let _ = protocol::send(&mut control, &report, MAX_REPORT);
    }
}

/// Removes the objects of System V, which nothing but the container would end.
fn forget_objects() -> io::Result<()> {
    for id in objects("shm")? {
        // SAFETY: the request takes no buffer.
        Errno::result(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) })?;
    }
    for id in objects("sem")? {
        // SAFETY: as above.
        Errno::result(unsafe { libc::semctl(id, 0, libc::IPC_RMID) })?;
    }
    for id in objects("msg")? {
        // SAFETY: as above.
        Errno::result(unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) })?;
    }
    Ok(())
}

/// The numbers of all objects of a kind, as proc(5) lists them: a line of titles, then key, number and more.
fn objects(kind: &str) -> io::Result<Vec<libc::c_int>> {
    let list = match fs::read_to_string(Path::new("/proc/sysvipc").join(kind)) {
        // A kernel that has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        list => list?,
    };
    Ok(list.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect())
}

/// Waits for the next command's socket, its terminal and the socket for the listener of its outlet, if it has one. They
/// come with a byte that means nothing. `None`: maar is gone.
fn receive(maar: &UnixStream) -> io::Result<Option<Streams>> {
    let (bytes, received) = receive_descriptors(maar)?;
    if bytes == 0 {
        return Ok(None);
    }
    let mut received = received.into_iter();
    match (received.next(), received.next(), received.next()) {
        (Some(control), Some(terminal), outlet) => Ok(Some(Streams { control: control.into(), terminal, outlet })),
        (_, _, _) => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// Removes everything in a folder, if it is there.
fn empty(folder: &Path) -> io::Result<()> {
    // A command may have removed the permissions of its own folder; the engine's folders can't be changed, so ignore
    // errors.
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() { remove_folder(&entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}
