//! Puts the board on a terminal, from a thread of its own: a terminal that is slow, or held with Ctrl-S, delays nothing
//! else.
//!
//! Lays out nothing: `frame.rs` does.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use console::{Term, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use nix::unistd;

use super::board::Board;
use super::colour::Colour;
use super::frame::Screen;
use super::narrowed::mended;
use super::{Plan, Update};

/// How long a frame stays: short enough for a clock that ticks, long enough to cost nothing.
const FRAME: Duration = Duration::from_millis(200);

/// Bars on stderr, until they are dropped.
#[derive(Debug)]
pub(super) struct Bars {
    board: Arc<Mutex<Board>>,
    painter: Option<Painter>,
}

#[derive(Debug)]
struct Painter {
    thread: JoinHandle<()>,
    /// Carries no messages; the thread ends when it is dropped.
    end: Sender<Infallible>,
}

impl Bars {
    /// # Errors
    /// When the host can't start a thread.
    pub(super) fn start(plan: &Plan) -> io::Result<Self> {
        let board = Arc::new(Mutex::new(Board::new(plan, Instant::now(), Colour::of_stderr())));
        let (end, ended) = channel();
        let painted = Arc::clone(&board);
        let thread = Builder::new().name("progress".into()).spawn(move || paint(&painted, &ended))?;
        Ok(Self { board, painter: Some(Painter { thread, end }) })
    }

    pub(super) fn update(&mut self, update: Update) {
        lock(&self.board).apply(update, Instant::now());
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some(Painter { thread, end }) = self.painter.take() {
            drop(end);
            // A painter that panicked has left its last frame; there is nothing to mend.
            let _ = thread.join();
        }
    }
}

fn paint(board: &Mutex<Board>, ended: &Receiver<Infallible>) {
    let term = Term::stderr();
    let _silence = Silence::new();
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{msg}").expect("one placeholder is a template"));
    let mut shown: Vec<String> = Vec::new();
    loop {
        let (rows, columns) = term.size();
        let (rows, columns) = (rows.into(), columns.into());
        // The lock is not held while the terminal is written to.
        let (above, frame) = {
            let mut board = lock(board);
            (board.take_above(), board.frame(Instant::now(), Screen { columns, rows }))
        };
        write(&term, &mended(&shown, columns));
        print_above(&bar, &above, columns);
        bar.set_message(frame.join("\n"));
        shown = frame;
        match ended.recv_timeout(FRAME) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let columns = term.size().1.into();
    let above = lock(board).take_above();
    write(&term, &mended(&shown, columns));
    print_above(&bar, &above, columns);
    bar.finish_and_clear();
}

/// Prints lines that stay, cut to the width of the terminal.
fn print_above(bar: &ProgressBar, lines: &[String], columns: usize) {
    if !lines.is_empty() {
        let lines: Vec<_> = lines.iter().map(|line| truncate_str(line, columns, "…")).collect();
        bar.println(lines.join("\n"));
    }
}

/// A closed terminal has no reader.
fn write(mut term: &Term, text: &str) {
    let _ = term.write_all(text.as_bytes()).and_then(|()| term.flush());
}

/// Keeps the terminal from writing `^C` behind the last line, until dropped. indicatif fills that line to the end of
/// its row, so that the next frame would begin a row too low.
struct Silence {
    before: Option<Termios>,
}

impl Silence {
    fn new() -> Self {
        let before = Self::is_ours().then(|| termios::tcgetattr(io::stderr()).ok()).flatten();
        if let Some(before) = &before {
            let mut modes = before.clone();
            modes.local_flags.remove(LocalFlags::ECHOCTL);
            // Without it, a row too many stays.
            let _ = termios::tcsetattr(io::stderr(), SetArg::TCSANOW, &modes);
        }
        Self { before }
    }

    /// Whether this is the process that the terminal belongs to now: the kernel stops others that change its modes.
    fn is_ours() -> bool {
        unistd::tcgetpgrp(io::stderr()).is_ok_and(|group| group == unistd::getpgrp())
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = self.before.take().filter(|_| Self::is_ours()) {
            let _ = termios::tcsetattr(io::stderr(), SetArg::TCSANOW, &before);
        }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    // After a panic in the middle of an update at worst a number is off.
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_painter_ends_with_the_bars() {
        let mut bars = Bars::start(&Plan { pools: Vec::new(), crates: 1, already_done: 0 }).unwrap();
        bars.update(Update::Queued { pool: 0 });
        let board = Arc::clone(&bars.board);
        drop(bars);
        assert_eq!(Arc::strong_count(&board), 1);
    }
}
