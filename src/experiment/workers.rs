//! How many workers there are: as users write it, and what suits a host.

use std::ops::RangeInclusive;

use toml::de::DeTable;

use super::problem::{BadValue, Problems};
use super::read::{Value, count, known_keys};
use super::{Workers, limits};
use crate::nearest::suggest;
use crate::ops::Stage;

/// A machine that needs more than this many of one kind hasn't been built.
pub(super) const WORKERS: RangeInclusive<usize> = 1..=1024;
/// Every crate in flight has a folder on the disk.
pub(super) const IN_FLIGHT: RangeInclusive<usize> = 1..=10_000;

/// With more, memory is as good as not looked at; with less than a tenth, most hosts would run one op at a time.
const OVERCOMMIT: RangeInclusive<f64> = 0.1..=100.0;
/// The expected peaks are those of the whole of an op, which holds less most of the time, and ops rarely peak at once;
/// but the needs of a crate that never ran are a guess.
pub const DEFAULT_OVERCOMMIT: f64 = 1.0;

/// Fetching waits for the network, not for the CPU.
const FETCH: usize = 8;

/// Workers of which only some are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Workers`")]
pub struct WorkersPatch {
    pub fetch: Option<usize>,
    pub build: Option<usize>,
    pub test: Option<usize>,
}

impl Workers {
    /// What keeps a host of `cores` busy with ops of `cpus` each. Builds and tests may each take the whole host, since
    /// at the beginning and the end of a run there is only one kind; the kernel shares it out in between.
    pub fn for_host(cores: usize, cpus: f64) -> Self {
        let whole_ops = (cores as f64 / cpus.max(1.0)).floor() as usize;
        let ops = whole_ops.clamp(*WORKERS.start(), *WORKERS.end());
        Self { fetch: FETCH, build: ops, test: ops }
    }

    /// How many crates in flight keep all workers busy: each has one, and two wait for every one that isn't fetching.
    pub fn in_flight(self) -> usize {
        self.fetch + 2 * (self.build + self.test)
    }
}

impl WorkersPatch {
    /// This patch, with `base` where it gives nothing.
    pub(super) fn or(self, base: Self) -> Self {
        Self { fetch: self.fetch.or(base.fetch), build: self.build.or(base.build), test: self.test.or(base.test) }
    }

    /// `base`, with the values of this patch in place of its own.
    pub fn over(self, base: Workers) -> Workers {
        Workers {
            fetch: self.fetch.unwrap_or(base.fetch),
            build: self.build.unwrap_or(base.build),
            test: self.test.unwrap_or(base.test),
        }
    }

    fn of(&mut self, stage: Stage) -> &mut Option<usize> {
        match stage {
            Stage::Fetch => &mut self.fetch,
            Stage::Build => &mut self.build,
            Stage::Test => &mut self.test,
        }
    }
}

/// Reads a `workers` table.
pub(super) fn read(table: &DeTable<'_>, problems: &mut Problems) -> WorkersPatch {
    known_keys(table, &Stage::ALL.map(Stage::as_str), problems);
    let mut patch = WorkersPatch::default();
    for stage in Stage::ALL {
        *patch.of(stage) = table.get(stage.as_str()).and_then(|value| count(value, WORKERS, problems));
    }
    patch
}

/// Workers as a flag has them: `fetch=8,build=2,test=2`, or some of these.
pub fn workers(text: &str) -> Result<WorkersPatch, BadValue> {
    let mut patch = WorkersPatch::default();
    for pair in text.split(',') {
        let Some((name, number)) = pair.split_once('=') else {
            return Err(BadValue::new(
                format!("`{}` is not of the form STAGE=NUMBER", pair.escape_debug()),
                "such as `fetch=8,build=2,test=2`".to_owned(),
            ));
        };
        let stage = stage(name)?;
        let count = in_flag(number, WORKERS)?;
        if patch.of(stage).replace(count).is_some() {
            return Err(BadValue::new(format!("`{stage}` is there twice"), None));
        }
    }
    Ok(patch)
}

/// Crates in flight as a flag has them.
pub fn in_flight(text: &str) -> Result<usize, BadValue> {
    in_flag(text, IN_FLIGHT)
}

/// How much of the memory is given out, as a flag has it: `1.5` is half as much again as there is.
pub fn overcommit(text: &str) -> Result<f64, BadValue> {
    limits::number_in(text, OVERCOMMIT)
}

/// Reads an `overcommit` key.
pub(super) fn read_overcommit(value: &Value<'_>, problems: &mut Problems) -> Option<f64> {
    limits::number(value, "a number such as 1.5", problems, overcommit)
}

/// The stage of that name.
pub(super) fn stage(name: &str) -> Result<Stage, BadValue> {
    Stage::ALL.into_iter().find(|stage| stage.as_str() == name).ok_or_else(|| {
        BadValue::new(format!("unknown stage `{}`", name.escape_debug()), suggest(name, Stage::ALL.map(Stage::as_str)))
    })
}

fn in_flag(text: &str, range: RangeInclusive<usize>) -> Result<usize, BadValue> {
    text.parse().ok().filter(|count| range.contains(count)).ok_or_else(|| {
        let help = format!("it must be a whole number from {} to {}", range.start(), range.end());
        BadValue::new(format!("`{}` is out of range", text.escape_debug()), help)
    })
}
