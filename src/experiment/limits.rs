//! Limits as users write them: their defaults, units and ranges.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use toml::de::{DeTable, DeValue};

use super::LimitsPatch;
use super::problem::{BadValue, Problems};
use super::read::{Value, count, known_keys, parsed, place, table, wrong_type};
use crate::nearest::did_you_mean;
use crate::sandbox::{Cores, Limits};

/// The default limits of an op.
pub const DEFAULT_LIMITS: Limits = Limits {
    cpus: 1.0,
    memory: ByteSize::gib(4),
    // Far above the needs of cargo, rustc and a test suite, far below a number that would hurt the host.
    pids: 4096,
    timeout: Duration::from_secs(15 * 60),
    idle_timeout: Duration::from_secs(5 * 60),
    output: ByteSize::mib(16),
    // Several times the needs of the largest builds.
    disk: ByteSize::gib(20),
    cores: Cores::Shared,
};

/// The kernel's shortest quota is 1 ms of a period of 100 ms; the most is more than any machine has, and means all.
const CPUS: RangeInclusive<f64> = 0.01..=4096.0;
/// With less, not even rustc's own libraries fit.
const MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(16)..=ByteSize::pib(1);
/// cargo and rustc start about a dozen threads; the most is the kernel's `PID_MAX_LIMIT`.
const PIDS: RangeInclusive<usize> = 16..=4_194_304;
const TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
/// Output is held in memory while an op runs.
const OUTPUT: RangeInclusive<ByteSize> = ByteSize::kib(1)..=ByteSize::gib(1);

/// With less, cargo can't even set out.
const DISK: RangeInclusive<ByteSize> = ByteSize::mib(16)..=ByteSize::pib(1);

/// The default disk space of compiled dependencies between runs: some
/// thousands of packages, of a few MiB each.
pub const DEFAULT_CACHE_BUDGET: ByteSize = ByteSize::gib(20);
/// With nothing, every run compiles everything once.
const CACHE_BUDGET: RangeInclusive<ByteSize> = ByteSize::b(0)..=ByteSize::pib(1);

/// The size of output that is kept whole.
pub(super) const UNLIMITED: &str = "unlimited";

const KEYS: [&str; 8] = ["cpus", "cpuset", "memory", "pids", "timeout", "idle-timeout", "output", "disk"];
const SIZE_UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"];
const TIME_UNITS: [&str; 12] = ["ms", "s", "sec", "second", "m", "min", "minute", "h", "hour", "d", "day", "days"];

impl LimitsPatch {
    /// This patch, with `base` where it gives nothing.
    pub(super) fn or(self, base: Self) -> Self {
        Self {
            cpus: self.cpus.or(base.cpus),
            memory: self.memory.or(base.memory),
            pids: self.pids.or(base.pids),
            timeout: self.timeout.or(base.timeout),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
            output: self.output.or(base.output),
            disk: self.disk.or(base.disk),
            cores: self.cores.or(base.cores),
        }
    }
}

/// Reads the `limits` of a table, if it has any.
pub(super) fn read_key(parent: &DeTable<'_>, problems: &mut Problems) -> Option<LimitsPatch> {
    let limits = table(parent.get("limits")?, problems)?;
    Some(read(limits, problems))
}

fn read(table: &DeTable<'_>, problems: &mut Problems) -> LimitsPatch {
    known_keys(table, &KEYS, problems);
    LimitsPatch {
        cpus: table.get("cpus").and_then(|value| number(value, "a number of CPUs such as 1.5", problems, cpus)),
        memory: table.get("memory").and_then(|value| parsed(value, "a size such as \"4GiB\"", problems, memory)),
        pids: table.get("pids").and_then(|value| count(value, PIDS, problems)).map(narrow),
        timeout: table.get("timeout").and_then(|value| parsed(value, TIME, problems, timeout)),
        idle_timeout: table.get("idle-timeout").and_then(|value| parsed(value, TIME, problems, timeout)),
        output: table
            .get("output")
            .and_then(|value| parsed(value, "a size such as \"16MiB\", or \"unlimited\"", problems, output)),
        disk: table.get("disk").and_then(|value| parsed(value, "a size such as \"20GiB\"", problems, disk)),
        cores: table.get("cpuset").and_then(|value| cores(value, problems)),
    }
}

const TIME: &str = "a time such as \"15m\"";

fn narrow(pids: usize) -> u32 {
    u32::try_from(pids).unwrap_or(u32::MAX)
}

/// A number, whole or not.
pub(super) fn number(
    value: &Value<'_>,
    expected: &str,
    problems: &mut Problems,
    parse: impl FnOnce(&str) -> Result<f64, BadValue>,
) -> Option<f64> {
    let text = match value.get_ref() {
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        DeValue::Float(float) => float.as_str(),
        _ => {
            wrong_type(value, expected, problems);
            return None;
        }
    };
    problems.check(&place(value), parse(text))
}

/// CPUs: `1.5` is one and a half cores.
pub fn cpus(text: &str) -> Result<f64, BadValue> {
    number_in(text, CPUS)
}

/// A number within a range.
pub(super) fn number_in(text: &str, range: RangeInclusive<f64>) -> Result<f64, BadValue> {
    let number = text.parse().map_err(|_| BadValue::new(format!("`{}` is no number", text.escape_debug()), None))?;
    // A NaN is in no range.
    in_range(text, number, range, |number| *number)
}

/// Memory: `4GiB`.
pub fn memory(text: &str) -> Result<ByteSize, BadValue> {
    in_range(text, size(text)?, MEMORY, |size| size.display().iec().to_string())
}

/// Disk space: `20GiB`.
pub fn disk(text: &str) -> Result<ByteSize, BadValue> {
    in_range(text, size(text)?, DISK, |size| size.display().iec().to_string())
}

/// How much room compiled dependencies take between runs: `20GiB`.
pub fn cache_budget(text: &str) -> Result<ByteSize, BadValue> {
    in_range(text, size(text)?, CACHE_BUDGET, |size| size.display().iec().to_string())
}

fn cores(value: &Value<'_>, problems: &mut Problems) -> Option<Cores> {
    match value.get_ref() {
        DeValue::Boolean(true) => Some(Cores::Own),
        DeValue::Boolean(false) => Some(Cores::Shared),
        _ => {
            wrong_type(value, "true or false", problems);
            None
        }
    }
}

/// How much output is kept: `16MiB`, or `unlimited`.
fn output(text: &str) -> Result<ByteSize, BadValue> {
    if text == UNLIMITED {
        return Ok(Limits::ALL_OUTPUT);
    }
    in_range(text, size(text)?, OUTPUT, |size| size.display().iec().to_string())
}

/// A time limit: `15m`, `1h 30m`.
pub fn timeout(text: &str) -> Result<Duration, BadValue> {
    let time = humantime::parse_duration(text).map_err(|_| bad_unit(text, "time", "15m", &TIME_UNITS))?;
    in_range(text, time, TIMEOUT, |time| humantime::format_duration(*time).to_string())
}

pub(super) fn size(text: &str) -> Result<ByteSize, BadValue> {
    text.parse().map_err(|_| bad_unit(text, "size", "4GiB", &SIZE_UNITS))
}

fn in_range<T: PartialOrd, D: Display>(
    text: &str,
    value: T,
    range: RangeInclusive<T>,
    show: impl Fn(&T) -> D,
) -> Result<T, BadValue> {
    if range.contains(&value) {
        return Ok(value);
    }
    let help = format!("it must be from {} to {}", show(range.start()), show(range.end()));
    Err(BadValue::new(format!("`{}` is out of range", text.escape_debug()), help))
}

/// Names the likely unit for the first unknown one, or else the form of such a value.
fn bad_unit(text: &str, noun: &str, example: &str, units: &[&str]) -> BadValue {
    let is_of_number = |c: char| c.is_ascii_digit() || c == '.';
    let words = text.split_whitespace().map(|word| word.trim_start_matches(is_of_number));
    let unknown = words.filter(|unit| !unit.is_empty()).find(|unit| !units.contains(unit));
    let help = unknown.and_then(|unit| did_you_mean(unit, units.iter().copied()));
    BadValue::new(
        format!("`{}` is not a {noun}", text.escape_debug()),
        help.unwrap_or_else(|| format!("expected a number and its unit, such as `{example}`")),
    )
}
