//! The `crate` tables: what is different for one crate.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::problem::{BadValue, Problems};
use super::read::{known_keys, names, place, table, text};
use super::vocabulary::Vocabulary;
use super::{CrateSettings, LimitsPatch, limits};
use crate::krate::CrateName;
use crate::ops::{Features, Op};

/// Variables that maar or the toolchain's choice decides, so that a crate's `env` can't set them.
pub const RESERVED_ENV: [&str; 19] = [
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_HOME",
    "CARGO_INCREMENTAL",
    "CARGO_NET_OFFLINE",
    "CARGO_TARGET_DIR",
    "CARGO_TERM_COLOR",
    "HOME",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUSTC",
    "RUSTDOC",
    "RUSTUP_AUTO_INSTALL",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "TERM",
    "TMPDIR",
    "USER",
];

/// A `crate` table, before the experiment's own op list is known.
#[derive(Debug, Default)]
pub(super) struct RawSettings {
    ops: Option<Vec<Op>>,
    skip: Vec<Op>,
    limits: LimitsPatch,
    features: Features,
    env: BTreeMap<String, String>,
}

impl RawSettings {
    /// What it says, given the experiment's op list and what the command line takes off every list.
    pub(super) fn over(self, experiment: &[Op], skipped: &[Op]) -> CrateSettings {
        let ops = match (self.ops, self.skip.is_empty()) {
            (None, true) => None,
            (own, _) => {
                let mut ops = own.unwrap_or_else(|| experiment.to_vec());
                ops.retain(|op| !self.skip.contains(op) && !skipped.contains(op));
                Some(ops)
            }
        };
        CrateSettings { ops, limits: self.limits, features: self.features, env: self.env }
    }
}

/// Reads the `crate` tables.
pub(super) fn read(
    tables: &DeTable<'_>,
    vocabulary: &Vocabulary,
    problems: &mut Problems,
) -> BTreeMap<CrateName, RawSettings> {
    let mut read = BTreeMap::new();
    for (key, value) in tables {
        let name = key.get_ref().parse::<CrateName>().map_err(|error| BadValue::new(error.to_string(), None));
        let name = problems.check(&place(key), name);
        let (Some(name), Some(table)) = (name, table(value, problems)) else { continue };
        known_keys(table, &["ops", "skip", "limits", "features", "env"], problems);
        let settings = RawSettings {
            ops: table.get("ops").and_then(|value| Some(vocabulary.list(&names(value, problems)?, problems))),
            skip: table
                .get("skip")
                .and_then(|value| Some(vocabulary.skip(&names(value, problems)?, problems)))
                .unwrap_or_default(),
            limits: limits::read_key(table, problems).unwrap_or_default(),
            features: features(table, problems),
            env: env(table, problems),
        };
        read.insert(name, settings);
    }
    read
}

fn features(table: &DeTable<'_>, problems: &mut Problems) -> Features {
    let Some(names) = table.get("features").and_then(|value| names(value, problems)) else {
        return Features::Default;
    };
    let names = names.into_iter().filter_map(|name| problems.check(&name.place, feature(name.value)));
    let names: Vec<String> = names.collect();
    if names.is_empty() { Features::Default } else { Features::With(names) }
}

/// The names that cargo accepts on its command line, where commas and spaces separate them; `*` means all.
fn feature(name: &str) -> Result<String, BadValue> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | '/');
    if name == "*" || name.starts_with(|c: char| c.is_alphanumeric() || c == '_') && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    let help = "letters, digits, `_`, `-`, `+`, `.` and `/` are allowed, and `*` alone for all features";
    Err(BadValue::new(format!("`{}` is not a feature name", name.escape_debug()), help.to_owned()))
}

fn env(parent: &DeTable<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(variables) = parent.get("env").and_then(|value| table(value, problems)) else {
        return BTreeMap::new();
    };
    let mut env = BTreeMap::new();
    for (key, value) in variables {
        let name = problems.check(&place(key), variable(key.get_ref()));
        let value = text(value, "a text", problems).map(|text| (text, place(value)));
        if let (Some(name), Some((text, at))) = (name, value)
            && problems.check(&at, no_nul(text)).is_some()
        {
            env.insert(name, text.to_owned());
        }
    }
    env
}

fn variable(name: &str) -> Result<String, BadValue> {
    if RESERVED_ENV.contains(&name) {
        return Err(BadValue::new(format!("`{name}` is set by maar itself"), "take it out".to_owned()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    let help = "ASCII letters, digits and `_` are allowed, no digit first";
    Err(BadValue::new(format!("`{}` is not the name of a variable", name.escape_debug()), help.to_owned()))
}

fn no_nul(text: &str) -> Result<(), BadValue> {
    if text.contains('\0') { Err(BadValue::new("a variable can't hold a NUL", None)) } else { Ok(()) }
}
