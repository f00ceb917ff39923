//! What one step of a crate's queue does: one file per op.
//!
//! [`Op`] is data. What an op is and runs, exhaustive matches on it say: a new one compiles when all have an answer.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::Layers;
pub use crate::cache::Tally;
use crate::krate::Selected;
use crate::libtest::{self, Tests};
use crate::outcome::{Cause, Outcome};
use crate::registry::{Gate, Registry};
use crate::sandbox::{Console, Doubt, Exit, Limits, Output, Sandbox, Usage};
use crate::stop::Stop;
use crate::toolchain::Toolchain;

pub mod activity;
mod ahead;
mod build;
mod build_tests;
pub mod cell;
mod check;
mod classify;
mod clippy;
mod command;
mod doc;
pub mod environment;
mod flags;
mod manifest;
mod patched;
mod prepare;
pub mod provide;
pub mod removal;
mod retest;
pub mod settings;
mod test;
#[cfg(test)]
pub(crate) mod tests;
mod withheld;
pub mod workspace;

pub use activity::{Activity, Doing};
pub(crate) use ahead::LINE as UNSHARED;
pub use ahead::layers;
pub use environment::Environment;
pub(crate) use flags::TAKES_CONFIG;
pub use retest::Retest;
pub use settings::{Features, LockfileMode};
use workspace::Workspace;

/// The name of an op: lowercase ASCII letters, digits, `-` and `_`, beginning with a letter, at most 32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OpName(String);

/// Why a text is no op name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{}` is not an op name: lowercase ASCII letters, digits, `-` and `_` are allowed, a letter first, 32 at most",
    .0.escape_debug()
)]
pub struct BadOpName(String);

/// One step of a crate's queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Fetches sources and dependencies; once per crate, first, for all toolchains.
    Prepare,
    /// `cargo check`.
    Check,
    /// `cargo build`.
    Build,
    /// What the plan makes of `build` where `test` follows: compiles the package and its tests at once. Never in a list.
    BuildTests,
    /// `cargo test`.
    Test,
    /// What the plan makes of `test` where a few tests are to be repeated. Never in a list.
    Retest(Retest),
    /// `cargo clippy`.
    Clippy,
    /// `cargo doc`.
    Doc,
    /// A command of the user's own.
    Command(CommandOp),
}

/// An op of the user's own, from `[op.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CommandOp {
    /// Its name.
    pub name: OpName,
    /// The pool that runs it: never [`Stage::Fetch`].
    pub stage: Stage,
    /// The program and its arguments; not empty.
    pub run: Vec<String>,
}

/// A pool of workers, and the kind of work it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Stage {
    Fetch,
    Build,
    Test,
}

/// Whether an op may use what others have compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Layers are used and added to.
    Layers,
    /// Everything is compiled anew.
    Nothing,
}

/// What every op of a run works with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Where commands run.
    pub sandbox: Sandbox,
    /// Where sources come from.
    pub registry: Registry,
    /// What cells of `prepare` reach of the network.
    pub gate: Gate,
    /// The toolchains of the experiment, the baseline first; at least one.
    pub toolchains: Vec<Toolchain>,
    /// The layers of compiled dependencies of each toolchain, in the same order; empty: none are used.
    pub layers: Vec<Layers>,
    /// Where the user's cargo subcommands are installed, for ops of the user's own.
    pub cargo_bin: Option<PathBuf>,
}

/// One op of one crate, with all that is particular to it.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The op.
    pub op: &'a Op,
    /// The crate.
    pub krate: &'a Selected,
    /// Its toolchain's place in [`Tools::toolchains`]; none for `prepare`.
    pub toolchain: Option<usize>,
    /// What each command may use.
    pub limits: Limits,
    /// Why an earlier run of the op was in doubt, if this one repeats it.
    pub after: Option<Doubt>,
    /// The features to build with.
    pub features: &'a Features,
    /// How it builds.
    pub environment: &'a Environment,
    /// Whether it may use what others have compiled.
    pub sharing: Sharing,
    /// Which dependencies to use.
    pub lockfile_mode: LockfileMode,
    /// The lockfile that an earlier run made for the same crate, to be used as it is.
    pub lockfile: Option<&'a [u8]>,
    /// The lockfiles that an earlier run made for toolchains with patches, by the places of these.
    pub patched: &'a BTreeMap<usize, Vec<u8>>,
    /// When to end.
    pub stop: Stop,
    /// Where it notes what it is doing.
    pub activity: Activity,
}

/// What came of an op.
#[derive(Debug)]
pub struct Done {
    /// The outcome; none if it was stopped.
    pub outcome: Option<Outcome>,
    /// What its commands cost.
    pub usage: Usage,
    /// What its commands printed.
    pub output: Output,
    /// The lockfile that `prepare` made.
    pub lockfile: Option<Vec<u8>>,
    /// The lockfiles that it made for toolchains with patches, by the places of these.
    pub patched: BTreeMap<usize, Vec<u8>>,
    /// What became of the dependencies.
    pub dependencies: Tally,
    /// Why the outcome may not be the crate's doing: a reason to run the op once more.
    pub doubt: Option<Doubt>,
    /// What its tests came to, one by one.
    pub tests: Option<Arc<Tests>>,
}

impl Done {
    /// An outcome that no command had a part in; its reason is the log.
    pub fn without_commands(outcome: Outcome) -> Self {
        let log = outcome.reason().map(|reason| format!("maar: {reason}\n")).unwrap_or_default();
        let output = Output { head: log.into_bytes(), ..Output::default() };
        Self {
            outcome: Some(outcome),
            usage: Usage::default(),
            output,
            lockfile: None,
            patched: BTreeMap::new(),
            dependencies: Tally::default(),
            doubt: None,
            tests: None,
        }
    }

    /// The host could not do what was needed.
    pub fn failed_on_host(error: &(dyn std::error::Error + 'static)) -> Self {
        let doubt = is_short_of_space(error).then_some(Doubt::ShortDisk);
        Self { doubt, ..Self::without_commands(Outcome::Inconclusive(Cause::Host(error.to_string()))) }
    }
}

impl Op {
    /// Runs the op to its end. Whatever goes wrong is in the outcome.
    pub async fn run(tools: &Tools, workspace: &Workspace, order: &Order<'_>) -> Done {
        if order.op.needs_dev_dependencies()
            && let Some(outcome) = workspace.unusable_tests()
        {
            return Done::without_commands(outcome);
        }
        if let Some(outcome) = order.toolchain.and_then(|toolchain| workspace.unpatched(toolchain)) {
            return Done::without_commands(outcome);
        }
        match order.op {
            // On the heap: its state is larger than that of all that leads here.
            Self::Prepare => Box::pin(prepare::run(tools, workspace, order)).await,
            Self::BuildTests => build_tests::run(tools, workspace, order).await,
            Self::Check | Self::Build | Self::Test | Self::Retest(_) | Self::Clippy | Self::Doc | Self::Command(_) => {
                Self::run_command(tools, workspace, order).await
            }
        }
    }

    /// Whether the op can't do without what only tests, examples and benches depend on.
    fn needs_dev_dependencies(&self) -> bool {
        match self {
            Self::Check | Self::Clippy | Self::Test | Self::Retest(_) => true,
            // Where the tests can't be built, the package is built alone.
            Self::BuildTests | Self::Prepare | Self::Build | Self::Doc | Self::Command(_) => false,
        }
    }

    /// Runs the op's one command, over what is compiled of the crate's dependencies.
    async fn run_command(tools: &Tools, workspace: &Workspace, order: &Order<'_>) -> Done {
        let argv = order.op.argv(order.features).expect("all ops but prepare run a command");
        let toolchain = order.toolchain.expect("the plan gives every op but prepare a toolchain");
        order.activity.set(Doing::Dependencies);
        let compiled = Box::pin(ahead::compile(tools, workspace, order, toolchain)).await;
        order.activity.set(Doing::Command);
        let compiled = match compiled {
            Ok(compiled) => compiled,
            Err(error) => return Done::failed_on_host(&error),
        };
        let base = compiled.as_ref().map(|compiled| compiled.base.as_path());
        match cell::run(tools, workspace, order, toolchain, base, argv).await {
            Ok(mut exit) => {
                let outcome = classify::of_command(exit.end, &exit.output, &order.limits);
                let tests = order.op.tests(&exit.output).map(Arc::new);
                let (mut usage, mut dependencies) = (exit.usage, Tally::default());
                let outcome = match Self::of_manifest(tools, workspace, order, &exit, &mut usage).await {
                    Some(broken) => Some(broken),
                    None => outcome.map(|outcome| workspace.left_out().annotate(outcome, &exit.output)),
                };
                if let Some(compiled) = compiled {
                    let settled = compiled.settle().await;
                    (usage, dependencies) = (cell::sum(settled.usage, usage), settled.tally);
                    exit.output.head.splice(0..0, settled.notes.into_bytes());
                }
                let (output, doubt, patched) = (exit.output, exit.doubt, BTreeMap::new());
                Done { outcome, usage, output, lockfile: None, patched, dependencies, doubt, tests }
            }
            Err(error) => Done::failed_on_host(&error),
        }
    }

    /// The outcome of a built-in op where no toolchain's cargo reads the manifest; none where one does.
    async fn of_manifest(
        tools: &Tools,
        workspace: &Workspace,
        order: &Order<'_>,
        exit: &Exit,
        usage: &mut Usage,
    ) -> Option<Outcome> {
        if matches!(order.op, Self::Command(_)) || classify::refused_manifest(exit.end, &exit.output).is_none() {
            return None;
        }
        // Where it can't be asked, the op's own outcome stands.
        let manifest::Answer { breakage, usage: asking } = manifest::ask(tools, workspace, order).await.ok()?;
        *usage = cell::sum(*usage, asking);
        breakage.map(Outcome::Broken)
    }

    /// Opens the cell that the op would have to its user. Whatever goes wrong is in the outcome.
    ///
    /// # Panics
    /// For `prepare`, which has no toolchain.
    pub async fn enter(tools: &Tools, workspace: &Workspace, order: &Order<'_>, console: &mut Console) -> Done {
        let toolchain = order.toolchain.expect("the plan gives every op but prepare a toolchain");
        match cell::enter(tools, workspace, order, toolchain, console).await {
            // How a user leaves says nothing of the crate.
            Ok(exit) => Done {
                usage: exit.usage,
                outcome: None,
                output: Output::default(),
                lockfile: None,
                patched: BTreeMap::new(),
                dependencies: Tally::default(),
                doubt: None,
                tests: None,
            },
            Err(error) => Done::failed_on_host(&error),
        }
    }

    /// The command that the op runs; none for `prepare`, which is more than a command.
    pub fn argv(&self, features: &Features) -> Option<Vec<String>> {
        let args = match self {
            Self::Prepare => return None,
            Self::Check => check::ARGS,
            Self::Build => build::ARGS,
            Self::BuildTests => build_tests::ARGS,
            Self::Test | Self::Retest(_) => test::ARGS,
            Self::Clippy => clippy::ARGS,
            Self::Doc => doc::ARGS,
            Self::Command(command) => return Some(command::argv(command)),
        };
        let cargo = ["cargo"].iter().chain(args).map(|arg| (*arg).to_owned());
        let selected = if let Self::Retest(retest) = self { retest.args() } else { Vec::new() };
        Some(cargo.chain(features.flags()).chain(selected).collect())
    }

    /// What the tests came to, if the op is one `cargo test`. A script of the user's own may run it among other things.
    fn tests(&self, output: &Output) -> Option<Tests> {
        match self {
            Self::Test | Self::Retest(_) => {}
            Self::Command(command) if matches!(&command.run[..], [cargo, test, ..] if cargo == "cargo" && test == "test") =>
                {}
            Self::Prepare
            | Self::Check
            | Self::Build
            | Self::BuildTests
            | Self::Clippy
            | Self::Doc
            | Self::Command(_) => return None,
        }
        let tests = libtest::parse(&classify::plain_text(output))?;
        let selected = matches!(self, Self::Retest(_));
        Some(Tests { cut: tests.cut || output.dropped > 0, selected, ..tests })
    }

    /// The op that its place in a list makes of it, given what follows: compiling a package and compiling it again for
    /// its tests is compiling most of it twice. Ops of the user's own may change the sources in between.
    pub fn before<'a>(self, later: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut later = later.into_iter().take_while(|op| !matches!(op, Self::Command(_)));
        if self == Self::Build && later.any(|op| *op == Self::Test) { Self::BuildTests } else { self }
    }

    /// The ops that need no definition, in the order of a typical list.
    pub const BUILT_IN: [Self; 6] = [Self::Prepare, Self::Check, Self::Build, Self::Test, Self::Clippy, Self::Doc];

    /// The name that op lists use.
    pub fn name(&self) -> OpName {
        let name = match self {
            Self::Prepare => "prepare",
            Self::Check => "check",
            Self::Build | Self::BuildTests => "build",
            Self::Test | Self::Retest(_) => "test",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::Command(command) => return command.name.clone(),
        };
        OpName(name.to_owned())
    }

    /// The stage that runs it.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Prepare => Stage::Fetch,
            Self::Check | Self::Build | Self::BuildTests | Self::Clippy | Self::Doc => Stage::Build,
            Self::Test | Self::Retest(_) => Stage::Test,
            Self::Command(command) => command.stage,
        }
    }
}

/// Whether a file could not be written because the disk is full.
fn is_short_of_space(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref().is_some_and(is_full) {
            return true;
        }
        next = error.source();
    }
    false
}

impl OpName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for OpName {
    type Err = BadOpName;

    fn from_str(name: &str) -> Result<Self, BadOpName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 32 && name.chars().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadOpName(name.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for OpName {
    type Error = BadOpName;

    fn try_from(name: String) -> Result<Self, BadOpName> {
        name.parse()
    }
}

impl From<OpName> for String {
    fn from(name: OpName) -> Self {
        name.0
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Stage {
    /// All stages, in the order in which crates pass them.
    pub const ALL: [Self; 3] = [Self::Fetch, Self::Build, Self::Test];

    /// Its place in [`Stage::ALL`].
    pub fn place(self) -> usize {
        self as usize
    }

    /// The name that configuration and reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Build => "build",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
