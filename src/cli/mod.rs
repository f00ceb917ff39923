//! The command line: arguments → one function → exit code; one file per subcommand.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::experiment::ExperimentError;
use crate::toolchain::ToolchainError;
use args::{Cli, Command};
use exit::Exit;

pub mod args;
mod cache;
mod clean;
mod closing;
mod completions;
mod doctor;
pub mod exit;
mod logs;
mod ops;
mod report;
mod run;
mod signals;
mod status;
mod stored;

/// Does what the arguments of this process say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    dispatch(cli).unwrap_or_else(|error| complain(&error)).into()
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let out = &mut anstream::stdout().lock();
    match cli.command {
        None => run::run(None, &cli.run, out),
        Some(Command::Run(args)) => run::run(args.file.as_deref(), &args.options, out),
        Some(Command::Report(args)) => report::run(&args, out),
        Some(Command::Status(args)) => status::run(&args, out),
        Some(Command::Logs(args)) => logs::run(&args, out),
        Some(Command::Doctor(args)) => doctor::run(&args, out),
        Some(Command::Clean(args)) => clean::run(&args, out),
        Some(Command::Cache(args)) => cache::run(&args, out),
        Some(Command::Ops(args)) => ops::run(&args, out),
        Some(Command::Completions(args)) => Ok(completions::run(&args, out)?),
    }
}

/// Says what went wrong, and whose doing it was.
fn complain(error: &anyhow::Error) -> Exit {
    // A reader such as `head` that has seen enough is no failure, and has no one to tell.
    if error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
    {
        return Exit::Fine;
    }
    let (exit, text) = if let Some(wrong) = error.downcast_ref::<ExperimentError>() {
        (Exit::Usage, wrong.styled())
    } else {
        let exit = if error.is::<ToolchainError>() { Exit::Usage } else { Exit::Host };
        (exit, format!("error: {error:#}"))
    };
    // Where stderr is closed, the exit code has to do.
    let _ = writeln!(anstream::stderr(), "{text}");
    exit
}
