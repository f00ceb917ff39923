//! Opens files that a user names, if they are regular ones.
//!
//! A FIFO would wait for a writer when it is opened, and a device may have no end.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file to read it.
///
/// # Errors
/// When it can't be opened, or is something else. The text is for after `failed to read PATH: `.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(file);
    }
    let what = if metadata.is_dir() { "it is a folder" } else { "it is not a regular file; copy its contents to one" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened_and_a_fifo_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, file) = (dir.path().join("fifo"), dir.path().join("file"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        std::fs::write(&file, "").unwrap();
        let error = |path: &Path| open(path).unwrap_err().to_string();
        assert_eq!(error(&fifo), "it is not a regular file; copy its contents to one");
        assert_eq!(error(Path::new("/dev/zero")), "it is not a regular file; copy its contents to one");
        assert_eq!(error(dir.path()), "it is a folder");
        open(&file).unwrap();
    }
}
