//! `maar doctor`: what this host can do, and how to mend what it can't.

use std::io::Write;

use super::args::DoctorArgs;
use super::exit::Exit;

pub(super) fn run(_args: &DoctorArgs, _out: &mut dyn Write) -> anyhow::Result<Exit> {
    anyhow::bail!("merge probe")
}
