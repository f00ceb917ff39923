//! The command line: arguments → one function → exit code; one file per subcommand.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::experiment::ExperimentError;
use crate::printable;
use crate::registry::{RegistryError, UpstreamError};
use crate::run::SessionError;
use crate::toolchain::ToolchainError;
use args::{Cli, Command};
use exit::{Exit, Misuse};

#[cfg(feature = "server")]
mod agent;
pub mod args;
mod cache;
mod check_config;
mod clean;
mod closing;
mod completions;
mod components;
mod doctor;
mod dry_run;
pub mod exit;
mod follow;
mod image;
mod import;
mod install;
mod logs;
mod ops;
mod report;
mod reused;
mod run;
mod separation;
#[cfg(feature = "server")]
mod serve;
mod shell;
mod signals;
mod simulate;
mod status;
mod stored;
#[cfg(feature = "server")]
mod submit;
#[cfg(feature = "server")]
mod token;
#[cfg(feature = "server")]
mod worker;

/// Runs the subcommand in the arguments of this process.
pub fn main() -> ExitCode {
    let cli = Cli::of(std::env::args_os()).unwrap_or_else(|error| error.exit());
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
        Some(Command::Simulate(args)) => simulate::run(&args, out),
        Some(Command::Doctor(args)) => doctor::run(&args, out),
        Some(Command::Shell(args)) => shell::run(&args, out),
        Some(Command::Image(args)) => image::run(&args, out),
        Some(Command::Clean(args)) => clean::run(&args, out),
        Some(Command::Cache(args)) => cache::run(&args, out),
        Some(Command::CheckConfig(args)) => check_config::run(&args, out),
        Some(Command::Import(command)) => import::run(&command, out),
        Some(Command::Ops(args)) => ops::run(&args, out),
        #[cfg(feature = "server")]
        Some(Command::Agent(args)) => agent::run(&args, out),
        Some(Command::Completions(args)) => Ok(completions::run(&args, out)?),
        #[cfg(feature = "server")]
        Some(Command::Serve(args)) => serve::run(&args, out),
        #[cfg(feature = "server")]
        Some(Command::Submit(args)) => submit::run(&args, out),
        #[cfg(feature = "server")]
        Some(Command::Token(command)) => token::run(&command, out),
    }
}

/// An error and its causes, but for those that the words above them contain already.
fn words(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// Who is to blame for an error: the request or the host.
fn blame(error: &anyhow::Error) -> Exit {
    let of_session = matches!(error.downcast_ref(), Some(SessionError::Misuse(_) | SessionError::Upstream(_)));
    match of_session || error.is::<ToolchainError>() || error.is::<Misuse>() || error.is::<UpstreamError>() {
        true => Exit::Usage,
        false => Exit::Host,
    }
}

/// The registry's part in an error.
fn of_registry(error: &anyhow::Error) -> Option<&RegistryError> {
    match error.downcast_ref() {
        Some(SessionError::Registry(error)) => Some(error),
        Some(_) | None => error.downcast_ref(),
    }
}

/// Prints an error, and returns who is to blame.
fn complain(error: &anyhow::Error) -> Exit {
    // A closed pipe (`maar status | head`) is not an error.
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
        let hint = match of_registry(error) {
            Some(RegistryError::Network { .. }) => {
                "\n`maar doctor` checks whether the registry can be reached; `maar run --offline` does without"
            }
            Some(_) | None => "",
        };
        (blame(error), printable::lines(&format!("error: {}{hint}", words(error))))
    };
    // Where stderr is closed, the exit code has to do.
    let _ = writeln!(anstream::stderr(), "{text}");
    exit
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = io::Error::other("the disk is gone");
        let wrapped = crate::home::HomeError::Io { what: "open", path: "x".into(), source: cause };
        let error = Err::<(), _>(wrapped).context("failed to start").unwrap_err();
        assert_eq!(words(&error), "failed to start: failed to open x: the disk is gone");
    }
}
