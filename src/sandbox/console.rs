//! The user's own terminal, lent to a command in a cell: keys go in as they are pressed, and its output comes out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::pty::Winsize;
use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The terminal of this process. Dropping it puts it back as it was.
#[derive(Debug)]
pub struct Console {
    tty: AsyncFd<File>,
    before: Termios,
    resized: Signal,
}

/// An event at the user's terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// Typed so many bytes.
    Typed(usize),
    /// Changed the size of the window.
    Resized,
    /// The terminal is gone.
    Left,
}

impl Console {
    /// Takes the terminal over: keys are no longer interpreted on this side. Needs a runtime.
    ///
    /// # Errors
    /// When this process has no terminal.
    pub fn open() -> io::Result<Self> {
        // Opened again, so that the flags of other users of the terminal stay theirs.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let tty = File::options().read(true).write(true).custom_flags(flags).open("/dev/tty")?;
        let before = termios::tcgetattr(&tty)?;
        let resized = signal(SignalKind::window_change())?;
        // SAFETY: a file stays open, and stays the same, until it is dropped; so does what owns it.
        let tty = unsafe { AsyncFd::register(tty)? };
        let console = Self { tty, before, resized };
        let mut raw = console.before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(console.tty.get_ref(), SetArg::TCSADRAIN, &raw)?;
        Ok(console)
    }

    /// How large the window is.
    pub(super) fn size(&self) -> io::Result<Winsize> {
        let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the request writes one `winsize`, which outlives the call.
        let result = unsafe { libc::ioctl(self.tty.get_ref().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        Errno::result(result)?;
        Ok(size)
    }

    /// Waits for the next event at the terminal.
    pub(super) async fn next(&mut self, keys: &mut [u8]) -> Did {
        loop {
            tokio::select! {
                _ = self.resized.recv() => return Did::Resized,
                ready = self.tty.readable() => {
                    let Ok(mut ready) = ready else { return Did::Left };
                    match nix::unistd::read(self.tty.get_ref().as_fd(), keys) {
                        Ok(0) => return Did::Left,
                        Ok(count) => return Did::Typed(count),
                        Err(Errno::EAGAIN) => ready.clear_ready(),
                        Err(Errno::EINTR) => {}
                        Err(_) => return Did::Left,
                    }
                }
            }
        }
    }

    /// Shows output. A terminal that is gone shows nothing.
    pub(super) async fn show(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Ok(mut ready) = self.tty.writable().await else { return };
            match nix::unistd::write(self.tty.get_ref(), bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // This error can't be reported anywhere, least of all on this terminal.
        let _ = termios::tcsetattr(self.tty.get_ref(), SetArg::TCSADRAIN, &self.before);
    }
}
