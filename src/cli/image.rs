//! `maar image`: images for Docker containers, where no registry has one.

use std::io::Write;

use super::args::ImageCommand;
use super::exit::Exit;
use crate::sandbox::docker::{Built, Config, build_image};

/// Runs the subcommand.
pub(super) fn run(command: &ImageCommand, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let ImageCommand::Build { name } = command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Built { files, size } = runtime.block_on(build_image(Config::new(name.clone())))?;
    writeln!(out, "made the image `{name}` of {files} files, {}", size.display().iec())?;
    Ok(Exit::Fine)
}
