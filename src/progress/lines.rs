//! Writes lines to someone who may go away.

use std::io::Write;

/// A writer of lines that falls silent after the first failure: it has lost its reader.
#[derive(Debug)]
pub(super) struct Lines<W>(Option<W>);

impl<W: Write> Lines<W> {
    pub(super) fn new(to: W) -> Self {
        Self(Some(to))
    }

    /// Writes a line, the line break included, in one piece.
    pub(super) fn line(&mut self, text: &str) {
        let line = format!("{text}\n");
        self.0 = self.0.take().and_then(|mut to| match to.write_all(line.as_bytes()).and_then(|()| to.flush()) {
            Ok(()) => Some(to),
            Err(_) => None,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Takes one line, then is gone.
    #[derive(Default)]
    struct Quitter {
        taken: Vec<u8>,
    }

    impl Write for &mut Quitter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.taken.contains(&b'\n') {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.taken.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error() {
        let mut quitter = Quitter::default();
        let mut lines = Lines::new(&mut quitter);
        for text in ["one", "two", "three"] {
            lines.line(text);
        }
        assert_eq!(quitter.taken, b"one\n");
    }
}
