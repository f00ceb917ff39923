//! The pseudo-terminal that a command prints to.
//!
//! Bytes come through unchanged. Nothing is typed into it, unless a user lends their own terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::Winsize;
use nix::sys::stat::Mode;
use nix::sys::termios::{self, LocalFlags, OutputFlags, SetArg};
use nix::unistd::{Gid, Uid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Console, Owner};

/// The terminal's size: wide enough for compilers not to wrap, the same on every host.
static SIZE: Winsize = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };

/// maar's end of a pseudo-terminal.
#[derive(Debug)]
pub(super) struct Pty {
    master: AsyncFd<OwnedFd>,
}

/// What reading gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The other end is closed.
    Closed,
}

impl Pty {
    /// Opens a pair; the second is the command's end, which belongs to `owner` so that it may be opened again by name.
    /// With a console it is like that: as large, echoing and interpreting keys.
    pub(super) fn open(owner: Option<Owner>, console: Option<&Console>) -> io::Result<(Self, OwnedFd)> {
        // Close-on-exec from the start: other helpers are spawned at the same time.
        let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        nix::pty::grantpt(&master)?;
        nix::pty::unlockpt(&master)?;
        // SAFETY: the request takes open flags and returns a new descriptor or -1.
        let slave = unsafe {
            libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
        };
        if slave < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for this process, so it has no other owner.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };

        match console {
            Some(console) => set_size(&slave, &console.size()?)?,
            None => {
                set_size(&slave, &SIZE)?;
                let mut modes = termios::tcgetattr(&slave)?;
                modes.output_flags.remove(OutputFlags::OPOST);
                modes.local_flags.remove(LocalFlags::ECHO);
                termios::tcsetattr(&slave, SetArg::TCSANOW, &modes)?;
            }
        }
        if let Some(owner) = owner {
            hand_over(&slave, owner)?;
        }

        // SAFETY: `into_raw_fd` has given up the ownership that is taken here.
        let master = unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
        // SAFETY: an `OwnedFd` stays open, and stays the same, until it is dropped; so does what owns it.
        let master = unsafe { AsyncFd::register_with_interest(master, Interest::READABLE | Interest::WRITABLE)? };
        Ok((Self { master }, slave))
    }

    /// Waits until there is something to read and reads it: never [`Read::Nothing`].
    pub(super) async fn read(&self, buffer: &mut [u8]) -> Read {
        loop {
            let Ok(mut ready) = self.master.readable().await else {
                return Read::Closed;
            };
            match self.read_now(buffer) {
                Read::Nothing => ready.clear_ready(),
                read => return read,
            }
        }
    }

    /// Passes the user's keys on. Keys beyond a full buffer are lost, as on any terminal.
    pub(super) fn write(&self, keys: &[u8]) {
        let _ = nix::unistd::write(self.master.get_ref(), keys);
    }

    /// Sets the size of the window, which signals the command.
    pub(super) fn resize(&self, size: &Winsize) {
        // If that fails, the command goes on with the former size.
        let _ = set_size(self.master.get_ref(), size);
    }

    /// Reads the output that is already there.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> Read {
        loop {
            match nix::unistd::read(self.master.as_fd(), buffer) {
                Ok(0) => return Read::Closed,
                Ok(count) => return Read::Bytes(count),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Read::Nothing,
                // On Linux EIO means that the other end is closed.
                Err(_) => return Read::Closed,
            }
        }
    }
}

/// Lets `owner` open the terminal by name.
fn hand_over(slave: &OwnedFd, Owner { uid, gid }: Owner) -> io::Result<()> {
    let gid = Gid::from_raw(gid);
    match nix::unistd::fchown(slave, Some(Uid::from_raw(uid)), Some(gid)) {
        // Most hosts give terminals to a group, `tty`. Where a user namespace doesn't map that group, not even root of
        // the namespace may change the owner. But the owner may give the terminal to another group.
        Err(Errno::EPERM) => {}
        done => return Ok(done?),
    }
    // Of this thread alone.
    let before = nix::unistd::setfsgid(gid);
    let given = nix::unistd::fchown(slave, None, Some(gid));
    nix::unistd::setfsgid(before);
    given?;
    let both = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IWGRP;
    Ok(nix::sys::stat::fchmod(slave, both)?)
}

fn set_size(terminal: &OwnedFd, size: &Winsize) -> io::Result<()> {
    // SAFETY: the request reads one `winsize`, which outlives the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(size)) };
    Ok(Errno::result(result).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_through_unchanged_and_the_end_is_seen() {
        let (pty, slave) = Pty::open(None, None).unwrap();
        assert_eq!(nix::unistd::write(&slave, b"a\nb\r\xff\0\x1b[0m").unwrap(), 10);
        let mut buffer = [0; 64];
        assert_eq!(pty.read(&mut buffer).await, Read::Bytes(10));
        assert_eq!(&buffer[..10], b"a\nb\r\xff\0\x1b[0m");
        assert_eq!(pty.read_now(&mut buffer), Read::Nothing);
        drop(slave);
        assert_eq!(pty.read(&mut buffer).await, Read::Closed);
    }
}
