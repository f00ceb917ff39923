//! The experiment file as written: every value is checked by itself, nothing is filled in.

use std::collections::BTreeMap;
use std::path::Path;

use bytesize::ByteSize;
use toml::de::DeTable;

use super::problem::{BadValue, Place, Problems};
use super::read::{Located, Value, count, known_keys, names, one_of, parsed, place, table, texts, wrong_type};
use super::service::{self, Service};
use super::settings::{self, CrateTables};
use super::trust::{Trust, Weakening};
use super::vocabulary::{self, OpTables, Vocabulary};
use super::workers::{self, WorkersPatch};
use super::{Caching, LimitsPatch, SandboxName, limits, name};
use crate::ops::{LockfileMode, Op, OpName};
use crate::registry::select::{self, Reach, Selection};
use crate::registry::{AllowedHost, AsOf, BadAsOf, BadHost};
use crate::sandbox::docker::{BadImage, Image};
use crate::toolchain::ToolchainSpec;

/// The contents of an experiment file.
#[derive(Debug)]
pub(super) struct RawExperiment {
    pub(super) name: Option<String>,
    pub(super) toolchains: Vec<Located<ToolchainSpec>>,
    pub(super) crates: Vec<Selection>,
    pub(super) ops: Option<Vec<Op>>,
    pub(super) skip: Vec<Op>,
    pub(super) workers: WorkersPatch,
    pub(super) in_flight: Option<usize>,
    pub(super) overcommit: Option<f64>,
    pub(super) lockfile: LockfileMode,
    pub(super) sandbox: SandboxName,
    pub(super) image: Option<Image>,
    pub(super) allow_hosts: Vec<AllowedHost>,
    pub(super) as_of: Option<AsOf>,
    pub(super) cache: Caching,
    pub(super) cache_budget: Option<ByteSize>,
    pub(super) limits: LimitsPatch,
    pub(super) vocabulary: Vocabulary,
    pub(super) op_limits: BTreeMap<OpName, LimitsPatch>,
    pub(super) crate_settings: CrateTables,
    pub(super) service: Service,
    /// What doesn't count unless a flag overrides it.
    pub(super) weakenings: Vec<Weakening>,
}

const KEYS: [&str; 23] = [
    "name",
    "toolchains",
    "crates",
    "as-of",
    "ops",
    "skip",
    "workers",
    "in-flight",
    "overcommit",
    "lockfile",
    "sandbox",
    "image",
    "allow-hosts",
    "cache",
    "cache-budget",
    "limits",
    "op",
    "crate",
    "priority",
    "weight",
    "needs",
    "confirm",
    "notify",
];

/// Reads the text of an experiment file, if it is TOML. Paths in it begin at `base`.
pub(super) fn read(text: &str, base: &Path, trust: Trust, problems: &mut Problems) -> Option<RawExperiment> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(root(document.get_ref(), base, trust, problems));
    }
    for error in errors {
        let place = error.span().map_or(Place::Nowhere, Place::File);
        problems.add(place, BadValue::new(format!("this is not TOML: {}", error.message()), None));
    }
    None
}

fn root(root: &DeTable<'_>, base: &Path, trust: Trust, problems: &mut Problems) -> RawExperiment {
    known_keys(root, &KEYS, problems);
    let OpTables { vocabulary, limits: op_limits } = root
        .get("op")
        .and_then(|value| table(value, problems))
        .map(|tables| vocabulary::read(tables, problems))
        .unwrap_or_default();
    RawExperiment {
        name: root.get("name").and_then(|value| parsed(value, "a name", problems, name::check)),
        toolchains: root.get("toolchains").map(|value| toolchains(value, base, problems)).unwrap_or_default(),
        crates: root.get("crates").map(|value| crates(value, base, trust, problems)).unwrap_or_default(),
        ops: root.get("ops").and_then(|value| Some(vocabulary.list(&names(value, problems)?, problems))),
        skip: root
            .get("skip")
            .and_then(|value| Some(vocabulary.skip(&names(value, problems)?, problems)))
            .unwrap_or_default(),
        workers: root
            .get("workers")
            .and_then(|value| Some(workers::read(table(value, problems)?, problems)))
            .unwrap_or_default(),
        in_flight: root.get("in-flight").and_then(|value| count(value, workers::IN_FLIGHT, problems)),
        overcommit: root.get("overcommit").and_then(|value| workers::read_overcommit(value, problems)),
        lockfile: root.get("lockfile").and_then(|value| one_of(value, &LOCKFILES, problems)).unwrap_or_default(),
        sandbox: root.get("sandbox").and_then(|value| one_of(value, &SANDBOXES, problems)).unwrap_or_default(),
        image: root.get("image").and_then(|value| parsed(value, "the name of an image", problems, image)),
        allow_hosts: root.get("allow-hosts").map(|value| allow_hosts(value, problems)).unwrap_or_default(),
        as_of: root.get("as-of").and_then(|value| parsed(value, "a day such as \"2026-06-01\"", problems, as_of)),
        cache: root.get("cache").and_then(|value| caching(value, problems)).unwrap_or_default(),
        cache_budget: root
            .get("cache-budget")
            .and_then(|value| parsed(value, "a size such as \"20GiB\"", problems, limits::cache_budget)),
        limits: limits::read_key(root, problems).unwrap_or_default(),
        crate_settings: root
            .get("crate")
            .and_then(|value| Some(settings::read(table(value, problems)?, &vocabulary, problems)))
            .unwrap_or_default(),
        op_limits,
        service: service::read(root, problems),
        weakenings: trust.weakenings(root),
        vocabulary,
    }
}

const LOCKFILES: [(&str, LockfileMode); 2] = [("latest", LockfileMode::Latest), ("packaged", LockfileMode::Packaged)];
const SANDBOXES: [(&str, SandboxName); 3] =
    [("native", SandboxName::Native), ("docker", SandboxName::Docker), ("none", SandboxName::None)];

fn image(name: &str) -> Result<Image, BadValue> {
    name.parse().map_err(|error: BadImage| BadValue::new(error.to_string(), None))
}

fn allow_hosts(value: &Value<'_>, problems: &mut Problems) -> Vec<AllowedHost> {
    let hosts = names(value, problems).unwrap_or_default();
    let host = |text: &str| text.parse().map_err(|error: BadHost| BadValue::new(error.to_string(), None));
    hosts.into_iter().filter_map(|name| problems.check(&name.place, host(name.value))).collect()
}

fn as_of(text: &str) -> Result<AsOf, BadValue> {
    text.parse().map_err(|error: BadAsOf| BadValue::new(error.to_string(), None))
}

fn caching(value: &Value<'_>, problems: &mut Problems) -> Option<Caching> {
    match value.get_ref().as_bool() {
        Some(true) => Some(Caching::On),
        Some(false) => Some(Caching::Off),
        None => {
            wrong_type(value, "true or false", problems);
            None
        }
    }
}

fn toolchains(value: &Value<'_>, base: &Path, problems: &mut Problems) -> Vec<Located<ToolchainSpec>> {
    let rooted = |spec: Located<ToolchainSpec>| Located { value: spec.value.rooted(base), ..spec };
    super::toolchains::read(value, problems).into_iter().map(rooted).collect()
}

fn crates(value: &Value<'_>, base: &Path, trust: Trust, problems: &mut Problems) -> Vec<Selection> {
    let texts = texts(value, "text", problems).unwrap_or_default();
    if texts.is_empty() && value.get_ref().as_array().is_some_and(|array| array.is_empty()) {
        problems.add(place(value), BadValue::new("no crate is selected", SELECTIONS.to_owned()));
    }
    let selected =
        texts.iter().filter_map(|text| problems.check(&text.place, select(text.value, base, trust.reach(base))));
    selected.flatten().collect()
}

const SELECTIONS: &str =
    "such as \"itoa\", \"semver@1\", \"top:100\", \"path:DIR\", \"list:FILE\" or \"lock:Cargo.lock\"";

/// The parsed selection. Paths in it begin at `base`.
pub(super) fn select(text: &str, base: &Path, reach: Reach<'_>) -> Result<Vec<Selection>, BadValue> {
    match select::parse(text, base, reach) {
        Err(error) if error.is_outside() && matches!(reach, Reach::Nowhere) => {
            let help = "name the crates themselves: a server reads no files or lists for its clients";
            Err(BadValue::new(error.to_string(), help.to_owned()))
        }
        Err(error) if error.is_outside() => {
            let help = "if you trust the experiment file, name it on the command line: `maar run FILE`";
            Err(BadValue::new(error.to_string(), help.to_owned()))
        }
        Err(error) => Err(BadValue::new(error.to_string(), None)),
        Ok(crates) if crates.is_empty() => {
            Err(BadValue::new(format!("`{}` selects no crate", text.escape_debug()), None))
        }
        Ok(crates) => Ok(crates),
    }
}
