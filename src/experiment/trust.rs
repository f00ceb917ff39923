//! Which settings count only in a file that the user named: those that weaken the walls.
//!
//! A `maar.toml` that lies in the current folder is read without being named, and may have come with a stranger's
//! sources. So it may not choose another sandbox or image, open up hosts, nor raise the limits that protect the host.
//! Nor may its toolchains be folders, which hold programs that maar runs, or have settings that steer what code runs.

use toml::de::{DeTable, DeValue};

use super::limits;
use super::problem::{BadValue, Place, Problems};
use super::read::{Value, place};
use super::workers::DEFAULT_OVERCOMMIT;
use super::{DEFAULT_LIMITS, Overrides, toolchains};
use crate::registry::select::Reach;
use crate::toolchain::ToolchainSpec;

/// Whether the user stands behind an experiment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It was named on the command line, or is built in.
    Named,
    /// It lay in the current folder.
    Found,
    /// A client sent it to a server.
    Sent,
}

/// A setting of a file that was found, which counts only in one that was named.
#[derive(Debug, Clone)]
pub(super) struct Weakening {
    place: Place,
    /// The setting as written, such as `` `sandbox = "none"` ``.
    setting: String,
    /// Its effect, as a verb and its object.
    does: &'static str,
    /// The flag that says the same, where there is one, and overrides it.
    flag: Option<Flag>,
}

/// The flags that override such settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    Sandbox,
    Image,
    Memory,
    Disk,
    Overcommit,
    Toolchain,
}

impl Trust {
    /// Which files the selections of such an experiment may name, where `base` is its folder.
    pub(super) fn reach(self, base: &std::path::Path) -> Reach<'_> {
        match self {
            Self::Named => Reach::Anywhere,
            Self::Found => Reach::Below(base),
            Self::Sent => Reach::Nowhere,
        }
    }

    /// The settings that don't count, in a file with such a root table.
    pub(super) fn weakenings(self, root: &DeTable<'_>) -> Vec<Weakening> {
        match self {
            Self::Named => Vec::new(),
            Self::Found | Self::Sent => weakenings(root),
        }
    }
}

fn weakenings(root: &DeTable<'_>) -> Vec<Weakening> {
    let mut found = Vec::new();
    let mut add = |key: &str, value: &Value<'_>, flag| {
        let setting = format!("`{key} = {}`", written(value));
        found.push(Weakening { place: place(value), setting, does: "weakens the sandbox", flag });
    };
    if let Some(value) = root.get("sandbox").filter(|value| value.get_ref().as_str() != Some("native")) {
        add("sandbox", value, Some(Flag::Sandbox));
    }
    if let Some(value) = root.get("image") {
        add("image", value, Some(Flag::Image));
    }
    if let Some(value) = root.get("allow-hosts") {
        add("allow-hosts", value, None);
    }
    let is_above = |value: &&Value<'_>| as_number(value).is_none_or(|number| number > DEFAULT_OVERCOMMIT);
    if let Some(value) = root.get("overcommit").filter(is_above) {
        add("overcommit", value, Some(Flag::Overcommit));
    }
    for (key, value) in raised_limits(root) {
        let flag = match key {
            "memory" => Some(Flag::Memory),
            "disk" => Some(Flag::Disk),
            _ => None,
        };
        add(key, value, flag);
    }
    let toolchains = root.get("toolchains").and_then(|value| value.get_ref().as_array());
    for value in toolchains.into_iter().flat_map(|list| list.iter()) {
        // Values that aren't toolchains are reported elsewhere.
        let spec = toolchains::one(value, &mut Problems::default());
        if let Some(steering) = spec.as_ref().and_then(ToolchainSpec::steering) {
            let (setting, flag) = (format!("`{steering}` of a toolchain"), Some(Flag::Toolchain));
            found.push(Weakening { place: place(value), setting, does: "can choose which code runs", flag });
        }
    }
    let mut add = |key: &str, value: &Value<'_>, flag| {
        let setting = format!("`{key} = {}`", written(value));
        found.push(Weakening { place: place(value), setting, does: "weakens the sandbox", flag });
    };
    // Flags change neither of these.
    for kind in ["op", "crate"] {
        let tables = root.get(kind).and_then(|value| value.get_ref().as_table()).into_iter().flatten();
        for (_, value) in tables {
            let raised = value.get_ref().as_table().map(|table| raised_limits(table)).unwrap_or_default();
            raised.into_iter().for_each(|(key, value)| add(key, value, None));
        }
    }
    found
}

/// The limits of a table that are above the defaults, of those that protect the host. One that takes long only keeps
/// its user waiting, so that time is not among them, nor are CPUs.
fn raised_limits<'t, 'i>(parent: &'t DeTable<'i>) -> Vec<(&'static str, &'t Value<'i>)> {
    let Some(table) = parent.get("limits").and_then(|value| value.get_ref().as_table()) else { return Vec::new() };
    let mut raised = Vec::new();
    for (key, default) in
        [("memory", DEFAULT_LIMITS.memory), ("disk", DEFAULT_LIMITS.disk), ("output", DEFAULT_LIMITS.output)]
    {
        let above = |value: &&Value<'_>| {
            let text = value.get_ref().as_str();
            let size = text.and_then(|text| limits::size(text).ok());
            text == Some(limits::UNLIMITED) || size.is_some_and(|size| size > default)
        };
        raised.extend(table.get(key).filter(above).map(|value| (key, value)));
    }
    let above = |value: &&Value<'_>| as_number(value).is_some_and(|number| number > f64::from(DEFAULT_LIMITS.pids));
    raised.extend(table.get("pids").filter(above).map(|value| ("pids", value)));
    raised
}

/// A number in any notation.
fn as_number(value: &Value<'_>) -> Option<f64> {
    match value.get_ref() {
        DeValue::Integer(integer) => {
            u64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

fn written(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => {
            format!("\"{}\"", text.escape_debug().to_string().chars().take(80).collect::<String>())
        }
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        _ => "…".to_owned(),
    }
}

/// Complains of the settings that a server takes from nobody.
pub(super) fn refuse(weakenings: Vec<Weakening>, problems: &mut Problems) {
    for Weakening { place, setting, does, flag: _ } in weakenings {
        let message = format!("{setting} {does}, and a server takes that from nobody");
        let help = "leave it out; on a machine of your own, `maar run` takes it".to_owned();
        problems.add(place, BadValue::new(message, help));
    }
}

/// Complains of the settings that no flag overrides.
pub(super) fn check(weakenings: Vec<Weakening>, overrides: &Overrides, file: &str, problems: &mut Problems) {
    for Weakening { place, setting, does, flag } in weakenings {
        if flag.is_some_and(|flag| flag.is_given(overrides)) {
            continue;
        }
        let flag = flag.map(|flag| format!(", or `{}` says so itself", flag.as_str())).unwrap_or_default();
        let message = format!("{setting} {does}, and {file} was not named on the command line");
        let help = format!("if you trust the file, name it: `maar run {file}`{flag}");
        problems.add(place, BadValue::new(message, help));
    }
}

impl Flag {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "--sandbox",
            Self::Image => "--image",
            Self::Memory => "--memory",
            Self::Disk => "--disk",
            Self::Overcommit => "--overcommit",
            Self::Toolchain => "--toolchain",
        }
    }

    fn is_given(self, overrides: &Overrides) -> bool {
        match self {
            Self::Sandbox => overrides.sandbox.is_some(),
            Self::Image => overrides.image.is_some(),
            Self::Memory => overrides.limits.memory.is_some(),
            Self::Disk => overrides.limits.disk.is_some(),
            Self::Overcommit => overrides.overcommit.is_some(),
            Self::Toolchain => !overrides.toolchains.is_empty(),
        }
    }
}
