//! A copy of a running command's output in a file, for another process that follows it.
//!
//! Each command gets a new file in the place of the last one, so that a follower reads the old one to its end first.
//! Losing the copy loses nothing: the output itself is kept elsewhere.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bytesize::ByteSize;

/// The longest a file becomes, before a new one takes its place.
const LONGEST: ByteSize = ByteSize::mib(8);

/// Where the output of a cell's commands is copied to while they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The file, in a folder that no cell sees.
    pub path: PathBuf,
    /// The file's first line: the running command. Without a line break.
    pub heading: String,
}

/// The copy of one command's output.
#[derive(Debug)]
pub(super) struct Copying<'a> {
    live: Option<&'a Live>,
    file: Option<File>,
    written: u64,
}

impl<'a> Copying<'a> {
    /// Begins a new file, if there is to be one.
    pub(super) fn begin(live: Option<&'a Live>) -> Self {
        let mut copying = Self { live, file: None, written: 0 };
        copying.renew();
        copying
    }

    /// Appends the next output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.written > LONGEST.as_u64() {
            self.renew();
        }
        let Some(file) = &mut self.file else { return };
        if file.write_all(bytes).is_err() {
            self.file = None;
        }
        self.written += bytes.len() as u64;
    }

    fn renew(&mut self) {
        self.written = 0;
        self.file = self.live.and_then(|Live { path, heading }| {
            let _ = fs::remove_file(path);
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).ok()?;
            writeln!(file, "{heading}").ok()?;
            Some(file)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_file_of_its_own_and_none_grows_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let live = Live { path: dir.path().join("live"), heading: "build".to_owned() };
        let read = || fs::read_to_string(&live.path).unwrap();
        let mut first = Copying::begin(Some(&live));
        first.push(b"one\n");
        assert_eq!(read(), "build\none\n");
        let mut second = Copying::begin(Some(&live));
        first.push(b"late\n");
        second.push(b"two\n");
        assert_eq!(read(), "build\ntwo\n");
        for _ in 0..(3 * LONGEST.as_u64()) >> 20 {
            second.push(&[b'x'; 1 << 20]);
        }
        assert!(fs::metadata(&live.path).unwrap().len() <= LONGEST.as_u64() + (2 << 20));
    }

    #[test]
    fn a_file_that_can_not_be_made_is_no_error() {
        let live = Live { path: "/nowhere/live".into(), heading: String::new() };
        for live in [Some(&live), None] {
            Copying::begin(live).push(b"text");
        }
    }
}
