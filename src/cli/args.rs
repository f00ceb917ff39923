//! The command line, parsed into strict types. Decides nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::exit;
use crate::compare::Verdict;
use crate::experiment::{self, Caching, LimitsPatch, Overrides, WorkersPatch};
use crate::krate::CrateId;
use crate::nearest::nearest;
use crate::ops::OpName;
use crate::progress;
use crate::registry::select::meant_version;
use crate::registry::{AllowedHost, AsOf};
use crate::sandbox::Cores;
use crate::sandbox::docker::Image;
use crate::toolchain::ToolchainSpec;

/// Find out what a change breaks: run an experiment over many Rust crates on this machine
///
/// Without a subcommand, maar runs ./maar.toml, or a built-in demo of a few small crates.
#[derive(Debug, Parser)]
#[command(name = "maar", version, after_help = exit::HELP, max_term_width = 100)]
#[command(override_usage = "maar [OPTIONS]\n       maar <COMMAND>")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Those of `maar run`, the default subcommand.
    #[command(flatten)]
    pub run: RunOptions,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment, or continue it
    #[command(after_help = exit::HELP)]
    Run(RunArgs),
    /// Write the report of an experiment
    Report(ReportArgs),
    /// Show how far experiments are
    Status(StatusArgs),
    /// Print the output of a crate's ops
    Logs(LogsArgs),
    /// Open a shell in the cell of the op that failed, or repeat an op
    Shell(ShellArgs),
    /// Work out the time of a run with other workers, on another machine, over more crates
    Simulate(SimulateArgs),
    /// Check whether this host can run experiments, and print remedies
    Doctor(DoctorArgs),
    /// Work with the images that Docker containers are made from
    #[command(subcommand)]
    Image(ImageCommand),
    /// Remove what experiments left behind
    Clean(CleanArgs),
    /// Show how much room compiled dependencies take, or make some
    Cache(CacheArgs),
    /// List every op with its stage and its command
    Ops(OpsArgs),
    /// Check an experiment file, and that the crates it names exist
    CheckConfig(CheckConfigArgs),
    /// Print the configuration of another tool as lines of a maar.toml
    #[command(subcommand)]
    Import(ImportCommand),
    /// Run crates for a server, and send their results there
    #[cfg(feature = "server")]
    Agent(AgentArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Serve experiments over HTTP: a queue, a page, an API
    #[cfg(feature = "server")]
    Serve(ServeArgs),
    /// Send an experiment to a server, and follow it there
    #[cfg(feature = "server")]
    #[command(after_help = exit::HELP)]
    Submit(SubmitArgs),
    /// Make, list and revoke the tokens of a server
    #[cfg(feature = "server")]
    #[command(subcommand)]
    Token(TokenCommand),
}

/// `maar run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The experiment [default: ./maar.toml, else a built-in demo]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub options: RunOptions,
}

/// The flags of `maar run`.
#[derive(Debug, Default, Args)]
pub struct RunOptions {
    /// Compare this toolchain, repeatable, the first is the baseline [default: the active one]
    #[arg(short, long = "toolchain", value_name = "SPEC", help_heading = "What to run")]
    pub toolchains: Vec<ToolchainSpec>,
    /// Select crates, repeatable: NAME, NAME@REQ, !NAME, path:DIR, list:FILE, lock:FILE, top:N, rdeps:NAME and more
    ///
    /// NAME@* (every version), used:N, dependents:N, random:N, rdeps+:NAME (transitive), category:SLUG, keyword:WORD,
    /// where:REGEX (over downloaded sources), retry:EXPERIMENT, all. `!NAME` leaves a crate out. docs/selections.md has
    /// each form with its source and order.
    #[arg(short, long, value_name = "SELECTION", help_heading = "What to run")]
    pub crates: Vec<String>,
    /// Take popularity, dependents and dates from this dump of the registry's database [default: fetch it]
    #[arg(long, value_name = "FILE", help_heading = "What to run")]
    pub dump: Option<PathBuf>,
    /// Resolve crates and their dependencies as of this day, such as 2026-06-01
    #[arg(long, value_name = "DATE", help_heading = "What to run")]
    pub as_of: Option<AsOf>,
    /// Print the crates and the cost of the run, and run nothing
    #[arg(long, help_heading = "What to run")]
    pub dry_run: bool,
    /// Run these ops, in this order [default: prepare,build,test]
    #[arg(long, value_name = "OPS", value_delimiter = ',', help_heading = "What to run")]
    pub ops: Option<Vec<String>>,
    /// Take an op off the list, repeatable
    #[arg(long, value_name = "OP", help_heading = "What to run")]
    pub skip: Vec<String>,
    /// Keep the results under this name [default: that of the file, or one made of the crates of the command line]
    #[arg(long, value_parser = experiment::name, help_heading = "What to run")]
    pub name: Option<String>,
    /// Compile every dependency again for every crate
    #[arg(long, help_heading = "What to run")]
    pub no_cache: bool,
    /// Forget earlier results and start over
    #[arg(long, help_heading = "What to run")]
    pub fresh: bool,
    /// Select the newest versions again; crates whose version is the same keep their results
    #[arg(long, conflicts_with = "offline", help_heading = "What to run")]
    pub update: bool,
    /// Exit with 1 if a crate gets one of these verdicts, and only then; such as regressed,inconclusive,broken
    #[arg(long, value_name = "VERDICTS", value_delimiter = ',', value_parser = verdict, help_heading = "What to run")]
    pub fail_on: Option<Vec<Verdict>>,
    /// Fetch nothing: choose crates and versions from the caches
    #[arg(long, help_heading = "What to run")]
    pub offline: bool,

    /// Set the number of workers of each stage, such as fetch=8,build=2,test=2 [default: from the number of cores]
    #[arg(long, value_parser = experiment::workers, help_heading = "How much at once")]
    pub workers: Option<WorkersPatch>,
    /// Limit the number of crates in progress
    #[arg(long, value_name = "N", value_parser = experiment::in_flight, help_heading = "How much at once")]
    pub in_flight: Option<usize>,
    /// Start ops until their expected memory reaches this multiple of the host's [default: 1]
    #[arg(long, value_name = "N", value_parser = experiment::overcommit, help_heading = "How much at once")]
    pub overcommit: Option<f64>,

    /// Run ops in this sandbox [default: native]
    #[arg(long, value_enum, help_heading = "Limits of one op")]
    pub sandbox: Option<SandboxName>,
    /// Make Docker containers from this local image [default: maar, which `maar image build` makes]
    #[arg(long, value_name = "NAME", help_heading = "Limits of one op")]
    pub image: Option<Image>,
    /// Let crates fetch from this host although its address is not public, repeatable
    #[arg(long = "allow-host", value_name = "HOST[:PORT]", help_heading = "What to run")]
    pub allow_hosts: Vec<AllowedHost>,
    /// Give an op this many CPUs [default: 1]
    #[arg(long, value_name = "N", value_parser = experiment::cpus, help_heading = "Limits of one op")]
    pub cpus: Option<f64>,
    /// Give an op this much memory [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = experiment::memory, help_heading = "Limits of one op")]
    pub memory: Option<ByteSize>,
    /// Limit an op's disk usage [default: 20GiB]
    #[arg(long, value_name = "SIZE", value_parser = experiment::disk, help_heading = "Limits of one op")]
    pub disk: Option<ByteSize>,
    /// Give an op exclusive cores, as many as its CPUs
    #[arg(long, help_heading = "Limits of one op")]
    pub cpuset: bool,
    /// Fail where the host can't enforce a limit, instead of saying so and going on
    #[arg(long, help_heading = "Limits of one op")]
    pub require_limits: bool,
    /// End an op after this time [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = experiment::timeout, help_heading = "Limits of one op")]
    pub timeout: Option<Duration>,
    /// End an op that does nothing for this time [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = experiment::timeout, help_heading = "Limits of one op")]
    pub idle_timeout: Option<Duration>,

    /// Show progress as bars, lines of text or lines of JSON on stdout
    #[arg(long, value_enum, default_value_t)]
    pub progress: progress::Kind,
    /// Write a trace of all ops to this file, for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// The folder of results and caches.
#[derive(Debug, Default, Args)]
pub struct Home {
    /// Keep results, caches and work in this folder
    #[arg(long = "home", value_name = "DIR", env = "MAAR_HOME", global = true)]
    pub folder: Option<PathBuf>,
}

/// `maar agent`.
#[cfg(feature = "server")]
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The server, such as https://maar.example.org
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// A file with a token of the role agent, which only its owner can read
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// Take crates of experiments that need these labels, too
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Take at most this many crates at a time [default: from the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub cap: Option<u32>,
    /// Show the progress in this form
    #[arg(long, value_enum, default_value = "plain")]
    pub progress: progress::Kind,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The name of the experiment
    pub name: String,
    /// Write this format
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Write to this file, or for html to this folder [default: stdout; html: a folder named after the experiment]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The name of the experiment [default: all]
    pub name: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The name of the experiment
    pub name: String,
    /// The crate, and its version if several were run
    #[arg(value_name = "CRATE[@VERSION]", value_parser = crate_id)]
    pub krate: CrateId,
    /// Print this toolchain's only
    #[arg(short, long, value_name = "SPEC")]
    pub toolchain: Option<String>,
    /// Print this op's only
    #[arg(long)]
    pub op: Option<OpName>,
    /// Go on with what ops print while a run works on them
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The name of an experiment that has run
    pub name: String,
    /// Set the number of workers of each stage, such as build=32,test=16 [default: those of its last run]
    #[arg(long, value_parser = experiment::workers)]
    pub workers: Option<WorkersPatch>,
    /// Run this many crates, made by taking the recorded ones again [default: as many as were recorded]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub crates: Option<u32>,
    /// Suppose this many cores [default: those of this host]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub cores: Option<u16>,
    /// Suppose this much memory for all ops together [default: that of this host]
    #[arg(long, value_name = "SIZE", value_parser = experiment::memory)]
    pub memory: Option<ByteSize>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The name of the experiment
    pub name: String,
    /// The crate, and its version if several were run
    #[arg(value_name = "CRATE[@VERSION]", value_parser = crate_id)]
    pub krate: CrateId,
    /// Use this toolchain [default: that of the op that failed, else the baseline]
    #[arg(short, long, value_name = "SPEC")]
    pub toolchain: Option<String>,
    /// Repeat this op instead of opening a shell
    #[arg(long, value_name = "OP")]
    pub run: Option<OpName>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Make a local image from the files of this host, without a registry
    ///
    /// It holds the system's programs and libraries, and the few files of /etc that they need; no accounts, no keys,
    /// nothing of /usr/local, /home or /root, and no documentation.
    Build {
        /// The image
        #[arg(default_value_t)]
        name: Image,
    },
}

/// `maar clean`.
#[derive(Debug, Args)]
pub struct CleanArgs {
    /// Remove the results of these experiments [default: the caches, which can be fetched again]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar cache`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CacheArgs {
    /// Print why ops of this crate compiled dependencies themselves
    #[arg(long, num_args = 2, value_names = ["EXPERIMENT", "CRATE"])]
    pub why: Option<Vec<String>>,
    /// What to do; nothing given: show it.
    #[command(subcommand)]
    pub command: Option<CacheCommand>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// The subcommands of `maar cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Remove the least recently used layers until the rest is small enough
    Gc(GcArgs),
}

/// `maar cache gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Leave at most this much
    #[arg(long, value_name = "SIZE", value_parser = experiment::cache_budget, default_value = "20GiB")]
    pub budget: ByteSize,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar ops`.
#[derive(Debug, Args)]
pub struct OpsArgs {
    /// The experiment whose own ops to list too [default: ./maar.toml]
    pub file: Option<PathBuf>,
}

/// `maar check-config`.
#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    /// The experiment [default: ./maar.toml, else the built-in demo]
    pub file: Option<PathBuf>,
    /// Suggest names from this dump of the registry's database
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar import`.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Print the crates of crater's config.toml as settings: skip, skip-tests, quiet, broken
    CraterConfig {
        /// The configuration
        file: PathBuf,
    },
}

/// `maar completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `maar serve`.
#[cfg(feature = "server")]
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The settings of the server, such as maar-server.toml [default: one machine, on loopback]
    pub file: Option<PathBuf>,
    /// Listen here; not on loopback takes a certificate [default: the file's, else 127.0.0.1:4242]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar submit`.
#[cfg(feature = "server")]
#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The experiment [default: ./maar.toml, else a built-in demo]
    pub file: Option<PathBuf>,
    /// The URL of the server
    #[arg(long, value_name = "URL")]
    pub server: reqwest::Url,
    /// The file with a token of the role run or admin
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// Print the experiment's name and URL, and don't wait for its end
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub options: RunOptions,
}

/// `maar token`.
#[cfg(feature = "server")]
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once
    Create(TokenCreateArgs),
    /// List the tokens, without their secrets
    List(TokenListArgs),
    /// End a token at once
    Revoke(TokenRevokeArgs),
}

/// `maar token create`.
#[cfg(feature = "server")]
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// Its role: agent, run, read or admin
    #[arg(long)]
    pub role: crate::store::service::Role,
    /// Its name
    #[arg(long)]
    pub name: String,
    /// Whose experiments are its own [default: its name]
    #[arg(long)]
    pub owner: Option<String>,
    /// End it after this time, such as 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub expires: Option<Duration>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar token list`.
#[cfg(feature = "server")]
#[derive(Debug, Args)]
pub struct TokenListArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// `maar token revoke`.
#[cfg(feature = "server")]
#[derive(Debug, Args)]
pub struct TokenRevokeArgs {
    /// Its name
    pub name: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help of the command")]
    pub home: Home,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A folder of pages that opens from disk
    Html,
    /// For programs
    Json,
    /// For issues and pull requests
    Markdown,
    /// The regressed and inconclusive crates, as a list for `maar run -c list:FILE`
    Retry,
    /// For the terminal
    #[default]
    Text,
}

/// The sandboxes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SandboxName {
    /// Namespaces, an overlay and cgroups
    Native,
    /// Containers of the Docker daemon
    Docker,
    /// Nothing but limits: for trusted crates only
    None,
}

impl From<SandboxName> for experiment::SandboxName {
    fn from(name: SandboxName) -> Self {
        match name {
            SandboxName::Native => Self::Native,
            SandboxName::Docker => Self::Docker,
            SandboxName::None => Self::None,
        }
    }
}

impl Cli {
    /// Parses a command line, as clap does, and rejects flags of `maar run` before another subcommand.
    ///
    /// # Errors
    /// clap's, which print themselves and know their exit code.
    pub fn of<T: Into<OsString> + Clone>(line: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(line)?;
        if let Some((subcommand, _)) = matches.subcommand() {
            let flags = Self::command();
            let misplaced = flags.get_arguments().find(|arg| {
                let given = matches.try_contains_id(arg.get_id().as_str()).is_ok_and(|known| known)
                    && matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
                given && !arg.is_global_set()
            });
            if let Some(flag) = misplaced.and_then(clap::Arg::get_long) {
                let message = format!("`--{flag}` goes behind the subcommand: `maar {subcommand} --{flag} …`");
                return Err(Self::command().error(ErrorKind::ArgumentConflict, message));
            }
        }
        Self::from_arg_matches(&matches)
    }
}

impl RunOptions {
    /// What these flags say over the experiment's file.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            name: self.name.clone(),
            toolchains: self.toolchains.clone(),
            crates: self.crates.clone(),
            // `--ops ''` is an empty list, and not one op without a name.
            ops: self.ops.clone().map(|ops| if ops == [""] { Vec::new() } else { ops }),
            skip: self.skip.clone(),
            workers: self.workers.unwrap_or_default(),
            in_flight: self.in_flight,
            overcommit: self.overcommit,
            limits: LimitsPatch {
                cpus: self.cpus,
                memory: self.memory,
                pids: None,
                timeout: self.timeout,
                idle_timeout: self.idle_timeout,
                output: None,
                disk: self.disk,
                cores: self.cpuset.then_some(Cores::Own),
            },
            sandbox: self.sandbox.map(Into::into),
            image: self.image.clone(),
            allow_hosts: self.allow_hosts.clone(),
            cache: self.no_cache.then_some(Caching::Off),
            as_of: self.as_of.clone(),
        }
    }
}

/// A verdict that a user calls a failure.
fn verdict(text: &str) -> Result<Verdict, String> {
    let failures = || Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Pass);
    failures().find(|verdict| verdict.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = failures().map(Verdict::as_str).collect();
        let meant = nearest(text, names.iter().copied()).map(|name| format!("; did you mean `{name}`?"));
        format!("unknown verdict{} (known: {})", meant.unwrap_or_default(), names.join(", "))
    })
}

pub(super) fn crate_id(text: &str) -> Result<CrateId, String> {
    let meant = meant_version(text).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let version = version.map(|version| {
        version.parse().map_err(|error| format!("`{}` is not a version: {error}", version.escape_debug()))
    });
    Ok(CrateId {
        name: name.parse().map_err(|error: crate::krate::BadCrateName| format!("{error}{meant}"))?,
        version: version.transpose()?,
    })
}

#[cfg(test)]
mod tests;
