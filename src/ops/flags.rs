//! Cargo's settings of maar's own and of the toolchain, as flags of the one command that they are for.
//!
//! A variable would reach every cargo that the crate's own tests run, whose output or warnings they may compare. An op of
//! the user's own gets them as variables all the same: maar runs such a command as it was written.

use semver::Version;

use super::{Op, Order};
use crate::toolchain::Toolchain;

/// The first cargo that takes `--config` outside of nightlies.
pub(crate) const TAKES_CONFIG: Version = Version::new(1, 63, 0);

/// How one command gets maar's settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// At the end of cargo's own arguments.
    pub(super) flags: Vec<String>,
    /// In its environment.
    pub(super) env: Vec<(String, String)>,
}

/// Who runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// maar: a command of cargo's that takes flags.
    Maar,
    /// The user, on a terminal, or with an op of their own.
    User,
}

/// The settings for a command of an op that runs with `toolchain`.
pub(super) fn settings(order: &Order<'_>, toolchain: &Toolchain, by: By) -> Settings {
    // `prepare` compiles nothing.
    if *order.op == Op::Prepare {
        return Settings::default();
    }
    let environment = order.environment;
    let jobs = format!("{}", order.limits.cpus.ceil().max(1.0));
    let env = || environment.by_variables().into_iter().chain([("CARGO_BUILD_JOBS".to_owned(), jobs.clone())]);
    if by == By::User || matches!(order.op, Op::Command(_)) {
        return Settings { flags: Vec::new(), env: env().collect() };
    }
    if *toolchain.cargo_version() < TAKES_CONFIG {
        return Settings { flags: environment.arguments(), env: env().collect() };
    }
    let jobs = ["--jobs".to_owned(), jobs];
    Settings { flags: [jobs.to_vec(), environment.arguments(), environment.config()].concat(), env: Vec::new() }
}
