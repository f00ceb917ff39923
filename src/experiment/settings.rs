//! The `crate` tables: settings for single crates.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use toml::de::{DeTable, DeValue};

use super::pattern::CratePattern;
use super::problem::{BadValue, Problems};
use super::read::{Value, known_keys, names, parsed, place, table, text, wrong_type};
use super::vocabulary::Vocabulary;
use super::{CrateSettings, Expected, LimitsPatch, limits};
use crate::krate::CrateName;
use crate::ops::{Features, Op};
use crate::toolchain::RESERVED_ENV;

/// How long a quiet crate may do nothing: longer than any time limit.
const QUIET: Duration = Duration::from_secs(365 * 24 * 3600);

/// The `crate` tables: of names, and of patterns.
#[derive(Debug, Default)]
pub(super) struct CrateTables {
    pub(super) named: BTreeMap<CrateName, RawSettings>,
    /// The least precise first.
    pub(super) patterns: Vec<(CratePattern, RawSettings)>,
    /// Skips that are over, in words.
    pub(super) expired: Vec<String>,
}

/// A `crate` table, before the experiment's own op list is known.
#[derive(Debug, Default)]
pub(super) struct RawSettings {
    ops: Option<Vec<Op>>,
    skip: Vec<Op>,
    limits: LimitsPatch,
    features: Features,
    env: BTreeMap<String, String>,
    /// Why the crate is not run at all.
    reason: Option<String>,
    expected: Option<Expected>,
}

impl RawSettings {
    /// Its settings, given the experiment's op list and the ops that the command line takes off every list.
    pub(super) fn over(self, experiment: &[Op], skipped: &[Op]) -> CrateSettings {
        let ops = match (self.ops, self.skip.is_empty()) {
            (None, true) => None,
            (own, _) => {
                let mut ops = own.unwrap_or_else(|| experiment.to_vec());
                ops.retain(|op| !self.skip.contains(op) && !skipped.contains(op));
                Some(ops)
            }
        };
        let Self { limits, features, env, reason, expected, .. } = self;
        CrateSettings { ops, limits, features, env, skip: reason, expected: expected.unwrap_or_default() }
    }
}

/// Reads the `crate` tables.
pub(super) fn read(tables: &DeTable<'_>, vocabulary: &Vocabulary, problems: &mut Problems) -> CrateTables {
    let mut read = CrateTables::default();
    for (key, value) in tables {
        let Some(table) = table(value, problems) else { continue };
        let text: &str = key.get_ref();
        if CratePattern::is_one(text) {
            let pattern = problems.check(&place(key), CratePattern::parse(text));
            let settings = one(text, table, vocabulary, &mut read.expired, problems);
            read.patterns.extend(pattern.map(|pattern| (pattern, settings)));
        } else {
            let name = text.parse::<CrateName>().map_err(|error| BadValue::new(error.to_string(), None));
            let name = problems.check(&place(key), name);
            let settings = one(text, table, vocabulary, &mut read.expired, problems);
            read.named.extend(name.map(|name| (name, settings)));
        }
    }
    read.patterns.sort_by_cached_key(|(pattern, _)| (pattern.precision(), pattern.clone()));
    read
}

fn one(
    name: &str,
    table: &DeTable<'_>,
    vocabulary: &Vocabulary,
    expired: &mut Vec<String>,
    problems: &mut Problems,
) -> RawSettings {
    known_keys(table, &["ops", "skip", "limits", "features", "env", "quiet", "broken"], problems);
    let mut settings = RawSettings {
        ops: table.get("ops").and_then(|value| Some(vocabulary.list(&names(value, problems)?, problems))),
        limits: limits::read_key(table, problems).unwrap_or_default(),
        features: features(table, problems),
        env: env(table, problems),
        ..RawSettings::default()
    };
    match table.get("skip").map(|value| (value, value.get_ref())) {
        None => {}
        Some((value, DeValue::Array(_))) => {
            let ops = names(value, problems);
            settings.skip = ops.map(|names| vocabulary.skip(&names, problems)).unwrap_or_default();
        }
        Some((value, DeValue::String(_))) => settings.reason = parsed(value, "a reason", problems, reason),
        Some((_, DeValue::Table(skip))) => match skipped(skip, problems) {
            Some((why, None)) => settings.reason = Some(why),
            Some((why, Some(until))) if SystemTime::now() <= until.0 => {
                settings.reason = Some(format!("{why} (until {})", until.1));
            }
            Some((why, Some(until))) => expired.push(format!("the skip of `{name}` ended on {}: {why}", until.1)),
            None => {}
        },
        Some((value, _)) => {
            wrong_type(value, "the reason for which the crate is skipped, or a list of ops", problems);
        }
    }
    if flag(table, "quiet", problems) {
        settings.limits.idle_timeout = settings.limits.idle_timeout.or(Some(QUIET));
    }
    if let Some(value) = table.get("broken") {
        settings.expected = Some(if is_true(value, problems) { Expected::Broken } else { Expected::Works });
    }
    settings
}

/// `{ reason = "…", until = "2026-12-31" }`: the reason, and the end of that day with its text.
fn skipped(table: &DeTable<'_>, problems: &mut Problems) -> Option<(String, Option<(SystemTime, String)>)> {
    known_keys(table, &["reason", "until"], problems);
    let until = table.get("until").and_then(|value| match value.get_ref() {
        DeValue::Datetime(date) => problems.check(&place(value), day(&date.to_string())),
        _ => parsed(value, "a day such as \"2026-12-31\"", problems, day),
    });
    match table.get("reason") {
        Some(value) => Some((parsed(value, "a reason", problems, reason)?, until)),
        None => {
            let help = "such as `skip = { reason = \"needs a GPU\", until = \"2026-12-31\" }`".to_owned();
            let at = table.iter().next().map_or(super::Place::Nowhere, |(key, _)| place(key));
            problems.add(at, BadValue::new("`skip` has no `reason`", help));
            None
        }
    }
}

fn reason(text: &str) -> Result<String, BadValue> {
    match text.trim() {
        "" => Err(BadValue::new("a crate is skipped for a reason", "such as \"needs a GPU\"".to_owned())),
        text => Ok(text.to_owned()),
    }
}

fn day(text: &str) -> Result<(SystemTime, String), BadValue> {
    let end = humantime::parse_rfc3339_weak(&format!("{text}T23:59:59")).ok().filter(|_| text.len() == 10);
    let bad = || BadValue::new(format!("`{}` is not a day", text.escape_debug()), "such as \"2026-12-31\"".to_owned());
    Ok((end.ok_or_else(bad)?, text.to_owned()))
}

fn flag(table: &DeTable<'_>, key: &str, problems: &mut Problems) -> bool {
    table.get(key).is_some_and(|value| is_true(value, problems))
}

fn is_true(value: &Value<'_>, problems: &mut Problems) -> bool {
    value.get_ref().as_bool().unwrap_or_else(|| {
        wrong_type(value, "true or false", problems);
        false
    })
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
