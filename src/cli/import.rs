//! `maar import`: configurations of other tools as lines of a `maar.toml`.

use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, bail};

use super::args::ImportCommand;
use super::exit::Exit;
use crate::experiment;

/// The longest configuration, in bytes: crater's has some tens of KiB.
const LONGEST: u64 = 4 << 20;

/// Prints the lines.
pub(super) fn run(command: &ImportCommand, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let ImportCommand::CraterConfig { file } = command;
    let shown = file.display().to_string();
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    if read.with_context(|| format!("failed to read {shown}"))? as u64 > LONGEST {
        bail!("{shown} is longer than 4 MiB, which no configuration of crater's is");
    }
    write!(out, "{}", experiment::from_crater(&text, &shown)?)?;
    Ok(Exit::Fine)
}
