//! Cargo's settings of maar's own, as flags of the one command that they are for.
//!
//! A variable would reach every cargo that the crate's own tests run, whose output or warnings they may compare. An op of
//! the user's own gets them as variables all the same: maar runs such a command as it was written.

use semver::Version;

use super::{Op, Order};
use crate::toolchain::Toolchain;

/// The first cargo that takes `--config` outside of nightlies.
const TAKES_CONFIG: Version = Version::new(1, 63, 0);

/// How one command gets maar's settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// At the end of cargo's own arguments.
    pub(super) flags: Vec<String>,
    /// In its environment.
    pub(super) env: Vec<(&'static str, String)>,
}

/// Who runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// maar: a command of cargo's that takes flags.
    Maar,
    /// The user, on a terminal, or with an op of their own.
    User,
}

/// maar's settings for a command of an op, for the `toolchains` of an experiment, of which it runs with `toolchain`.
pub(super) fn settings(order: &Order<'_>, toolchains: &[Toolchain], toolchain: &Toolchain, by: By) -> Settings {
    // `prepare` compiles nothing.
    if *order.op == Op::Prepare {
        return Settings::default();
    }
    let jobs = format!("{}", order.limits.cpus.ceil().max(1.0));
    let by_variables = by == By::User || matches!(order.op, Op::Command(_));
    if by_variables || toolchain.version < TAKES_CONFIG {
        let env = order.op.build_env(toolchains).map(|(name, value)| (name, value.to_owned()));
        return Settings { flags: Vec::new(), env: env.chain([("CARGO_BUILD_JOBS", jobs)]).collect() };
    }
    let settings =
        order.op.build_env(toolchains).flat_map(|(name, value)| ["--config".to_owned(), setting(name, value)]);
    Settings { flags: ["--jobs".to_owned(), jobs].into_iter().chain(settings).collect(), env: Vec::new() }
}

/// A variable of [`Op::build_env`] as the setting that it stands for.
fn setting(name: &str, value: &str) -> String {
    let value_of = |key: &str, value: toml::Value| format!("{key}={value}");
    match name {
        "CARGO_INCREMENTAL" => value_of("build.incremental", (value == "1").into()),
        "CARGO_PROFILE_DEV_DEBUG" => {
            value_of("profile.dev.debug", value.parse::<i64>().map_or_else(|_| value.into(), toml::Value::Integer))
        }
        "RUSTFLAGS" => value_of("build.rustflags", vec![value].into()),
        "RUSTDOCFLAGS" => value_of("build.rustdocflags", vec![value].into()),
        other => unreachable!("`{other}` is not a variable that maar sets for builds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_spelt_as_cargos_configuration() {
        for (name, value, expected) in [
            ("CARGO_INCREMENTAL", "0", "build.incremental=false"),
            ("CARGO_PROFILE_DEV_DEBUG", "line-tables-only", "profile.dev.debug=\"line-tables-only\""),
            ("CARGO_PROFILE_DEV_DEBUG", "1", "profile.dev.debug=1"),
            ("RUSTFLAGS", "--cap-lints=warn", "build.rustflags=[\"--cap-lints=warn\"]"),
            ("RUSTDOCFLAGS", "--cap-lints=warn", "build.rustdocflags=[\"--cap-lints=warn\"]"),
        ] {
            assert_eq!(setting(name, value), expected);
        }
    }
}
