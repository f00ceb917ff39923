//! `maar completions`: a script for the user's shell.

use std::io::{self, Write};

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs};
use super::exit::Exit;

/// Prints the script.
pub(super) fn run(args: &CompletionsArgs, out: &mut impl Write) -> io::Result<Exit> {
    // Into memory first: clap_complete panics where it can't write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "maar", &mut script);
    out.write_all(&script)?;
    Ok(Exit::Fine)
}
