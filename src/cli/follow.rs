//! `maar logs --follow`: the output of a crate's ops while another process runs them.
//!
//! Reads the file that a job copies its running command's output to. Ends with the run, and changes nothing about it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::LogsArgs;
use crate::home::Home;
use crate::krate::CrateId;
use crate::ops::activity::Running;
use crate::ops::workspace::live_files;
use crate::printable::one_line;
use crate::report::terminal;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a line may become before it is printed without its end.
const LONGEST_LINE: usize = 64 << 10;

/// Prints the new output of a crate's ops, until no run works on the experiment.
pub(super) fn follow(
    home: &Home,
    args: &LogsArgs,
    (krate, label): (&CrateId, Option<&str>),
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut current: Option<Followed> = None;
    let mut heading = None;
    loop {
        let jobs = home.jobs_of(&args.name);
        let path = jobs.as_deref().into_iter().flat_map(live_files).find(|path| {
            heading_of(path).is_some_and(|running| running.krate == *krate && is_wanted(&running, args, label))
        });
        // The old file first, to its end: a new one takes its place with the next command.
        if let Some(followed) = &mut current {
            followed.print(out)?;
        }
        let next = path.and_then(Followed::open);
        if let Some(next) = next.filter(|next| current.as_ref().is_none_or(|current| current.inode != next.inode)) {
            if let Some(mut last) = current.take() {
                last.finish(out)?;
            }
            if heading.as_ref() != Some(&next.running) {
                let toolchain = next.running.toolchain.as_deref().map(|it| format!("@{it}")).unwrap_or_default();
                writeln!(out, "== {}{}: running", next.running.op, one_line(&toolchain))?;
                heading = Some(next.running.clone());
            }
            current = Some(next);
        }
        out.flush()?;
        if jobs.is_none() {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    match current {
        Some(mut last) => last.finish(out),
        None => Ok(()),
    }
}

fn is_wanted(running: &Running, args: &LogsArgs, label: Option<&str>) -> bool {
    let of_op = args.op.as_ref().is_none_or(|op| *op == running.op);
    let of_toolchain = match (label, &running.toolchain) {
        (Some(wanted), Some(toolchain)) => wanted == toolchain,
        (Some(_), None) | (None, _) => true,
    };
    of_op && of_toolchain
}

fn heading_of(path: &Path) -> Option<Running> {
    Followed::open(path.to_owned()).map(|followed| followed.running)
}

/// A file that is read as it grows.
struct Followed {
    running: Running,
    inode: u64,
    file: BufReader<File>,
    /// A line that has no end yet.
    line: Vec<u8>,
}

impl Followed {
    fn open(path: PathBuf) -> Option<Self> {
        let file = File::open(path).ok()?;
        let inode = file.metadata().ok()?.ino();
        let mut file = BufReader::new(file);
        let mut heading = String::new();
        file.by_ref().take(LONGEST_LINE as u64).read_line(&mut heading).ok()?;
        let running = serde_json::from_str(heading.strip_suffix('\n')?).ok()?;
        Some(Self { running, inode, file, line: Vec::new() })
    }

    /// Prints the lines that are whole by now, as a terminal would show them.
    fn print(&mut self, out: &mut dyn Write) -> io::Result<()> {
        loop {
            let room = (LONGEST_LINE - self.line.len()) as u64;
            let read = self.file.by_ref().take(room).read_until(b'\n', &mut self.line)?;
            let is_whole = self.line.ends_with(b"\n") || self.line.len() >= LONGEST_LINE;
            if is_whole {
                terminal::write(&self.line, out)?;
                self.line.clear();
            } else if read == 0 {
                return Ok(());
            }
        }
    }

    /// Prints all that is left.
    fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.print(out)?;
        terminal::write(&self.line, out)?;
        self.line.clear();
        Ok(())
    }
}
