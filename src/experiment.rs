//! A checked experiment: what is compared, over which crates, by which ops, under which limits.
//!
//! [`load`] makes one from `maar.toml` and the command line, or says all that is wrong with them. Asks no registry.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::exact;
use crate::krate::CrateName;
use crate::ops::{Features, LockfileMode, Op, OpName, Stage};
use crate::registry::select::Selection;
use crate::registry::{AllowedHost, AsOf};
use crate::sandbox::docker::Image;
use crate::sandbox::{Cores, Limits};
use crate::toolchain::ToolchainSpec;

mod crater;
mod limits;
mod load;
mod name;
mod pattern;
mod problem;
mod raw;
mod read;
mod sent;
mod service;
mod settings;
mod toolchains;
mod trust;
mod vocabulary;
mod workers;

#[cfg(test)]
mod tests;

pub use crater::from_crater;
pub use limits::{DEFAULT_CACHE_BUDGET, DEFAULT_LIMITS, cache_budget, cpus, disk, memory, timeout};
pub use load::{Find, Host, Installing, Loaded, Overrides, load, own_ops};
pub use name::check as name;
pub use pattern::CratePattern;
pub use problem::{BadValue, ExperimentError, Place, Problem};
pub use sent::{Form, Sent, SentError, SentFault, SentPlace};
pub use service::{Needs, Service, priority, weight, words};
pub use workers::{DEFAULT_OVERCOMMIT, WorkersPatch, in_flight, overcommit, workers};

/// A checked experiment. Whatever could be wrong with what the user wrote has been said by now.
///
/// Written down without the crates, which are in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Its name, under which results are kept: ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
    pub name: String,
    /// The toolchains, the baseline first. Empty: the active one.
    pub toolchains: Vec<ToolchainSpec>,
    /// Which crates, in the order written; list and lock files are already read, queries are not answered.
    #[serde(skip)]
    pub crates: Vec<Selection>,
    /// The op list of every crate that has none of its own.
    pub ops: Vec<Op>,
    /// How many workers each stage has.
    pub workers: Workers,
    /// How many crates may be between the beginning and the end of their queues.
    pub in_flight: usize,
    /// How much memory running ops are expected to need together at most, as a multiple of the host's.
    pub overcommit: f64,
    /// The limits of an op that has none of its own.
    pub limits: Limits,
    /// What `[op.NAME.limits]` changes.
    pub op_limits: BTreeMap<OpName, LimitsPatch>,
    /// What `[crate.NAME]` changes.
    pub crate_settings: BTreeMap<CrateName, CrateSettings>,
    /// What `[crate."PATTERN"]` changes, the least precise pattern first.
    #[serde(default)]
    pub crate_patterns: Vec<(CratePattern, CrateSettings)>,
    /// Which dependencies are used.
    pub lockfile: LockfileMode,
    /// Where ops run.
    pub sandbox: SandboxKind,
    /// Hosts that crates may fetch from although their address is not public.
    #[serde(default)]
    pub allow_hosts: Vec<AllowedHost>,
    /// The moment as of which crates and their dependencies are resolved; none: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// Whether crates share compiled dependencies.
    pub cache: Caching,
    /// How much room those take at the end of a run at most.
    #[serde(serialize_with = "exact::size")]
    pub cache_budget: ByteSize,
}

/// How many workers each stage has, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the stages")]
pub struct Workers {
    pub fetch: usize,
    pub build: usize,
    pub test: usize,
}

/// Where ops run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxKind {
    /// Namespaces, an overlay and cgroups: no daemon.
    #[default]
    Native,
    /// Containers of the Docker daemon, made from this image.
    Docker(Image),
    /// Nothing but limits, for trusted crates.
    None,
}

/// The name of a sandbox, as `sandbox` and `--sandbox` have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are those of `SandboxKind`")]
pub enum SandboxName {
    #[default]
    Native,
    Docker,
    None,
}

impl SandboxName {
    /// The sandbox of that name, which uses the image if it uses any.
    fn with(self, image: Image) -> SandboxKind {
        match self {
            Self::Native => SandboxKind::Native,
            Self::Docker => SandboxKind::Docker(image),
            Self::None => SandboxKind::None,
        }
    }
}

/// Whether crates share compiled dependencies. Decides how long a run takes, never what it finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Caching {
    #[default]
    On,
    Off,
}

/// Limits of which only some are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `Limits`")]
pub struct LimitsPatch {
    pub cpus: Option<f64>,
    #[serde(serialize_with = "exact::maybe_size")]
    pub memory: Option<ByteSize>,
    pub pids: Option<u32>,
    pub timeout: Option<std::time::Duration>,
    pub idle_timeout: Option<std::time::Duration>,
    #[serde(serialize_with = "exact::maybe_size")]
    pub output: Option<ByteSize>,
    #[serde(serialize_with = "exact::maybe_size")]
    pub disk: Option<ByteSize>,
    pub cores: Option<Cores>,
}

/// What `[crate.NAME]` says of one crate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CrateSettings {
    /// Its op list, with its `skip` already taken off; absent: the experiment's.
    pub ops: Option<Vec<Op>>,
    /// What it changes of the limits.
    pub limits: LimitsPatch,
    /// Features to build it with.
    pub features: Features,
    /// Variables that its ops get besides maar's own, by name.
    pub env: BTreeMap<String, String>,
    /// Why it is not run at all; absent: it is.
    #[serde(default)]
    pub skip: Option<String>,
    /// What it should come to.
    #[serde(default)]
    pub expected: Expected,
}

/// What a crate should come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Whatever it comes to counts.
    #[default]
    Works,
    /// It fails on every toolchain, which is no news; that it passes is.
    Broken,
}

impl Workers {
    /// The workers that a run noted down; none if a stage is missing.
    pub fn from_stages(stages: &BTreeMap<Stage, usize>) -> Option<Self> {
        let of = |stage| stages.get(&stage).copied();
        Some(Self { fetch: of(Stage::Fetch)?, build: of(Stage::Build)?, test: of(Stage::Test)? })
    }

    /// How many workers a stage has.
    pub fn of(&self, stage: Stage) -> usize {
        match stage {
            Stage::Fetch => self.fetch,
            Stage::Build => self.build,
            Stage::Test => self.test,
        }
    }

    /// The same, but with so many for one stage.
    #[must_use]
    pub fn with(self, stage: Stage, workers: usize) -> Self {
        match stage {
            Stage::Fetch => Self { fetch: workers, ..self },
            Stage::Build => Self { build: workers, ..self },
            Stage::Test => Self { test: workers, ..self },
        }
    }

    /// All stages with their workers.
    pub fn by_stage(&self) -> BTreeMap<Stage, usize> {
        Stage::ALL.into_iter().map(|stage| (stage, self.of(stage))).collect()
    }
}

impl Experiment {
    /// Makes settings of the patterns for the crates that these match. A table of a crate's own goes over all of them.
    pub fn apply_patterns<'n>(&mut self, crates: impl IntoIterator<Item = &'n CrateName>) {
        if self.crate_patterns.is_empty() {
            return;
        }
        for name in crates {
            let matching = self.crate_patterns.iter().filter(|(pattern, _)| pattern.matches(name));
            let own = self.crate_settings.get(name);
            let settings =
                matching.map(|(_, settings)| settings).chain(own).cloned().reduce(|base, own| own.over(base));
            if let Some(settings) = settings {
                self.crate_settings.insert(name.clone(), settings);
            }
        }
    }

    /// The op list of a crate.
    pub fn ops_of(&self, krate: &CrateName) -> &[Op] {
        self.crate_settings.get(krate).and_then(|settings| settings.ops.as_deref()).unwrap_or(&self.ops)
    }

    /// Why a crate is not run at all; none: it is.
    pub fn skip_of(&self, krate: &CrateName) -> Option<&str> {
        self.crate_settings.get(krate)?.skip.as_deref()
    }

    /// The limits of one op of one crate: the crate's over the op's over the experiment's.
    pub fn limits_of(&self, krate: &CrateName, op: &OpName) -> Limits {
        let of_op = self.op_limits.get(op).copied().unwrap_or_default();
        let of_crate = self.crate_settings.get(krate).map(|settings| settings.limits).unwrap_or_default();
        of_crate.over(of_op.over(self.limits))
    }

    /// Whether any op may ask for cores of its own.
    pub fn cores(&self) -> Cores {
        let of_ops = self.op_limits.values().filter_map(|limits| limits.cores);
        let patterns = self.crate_patterns.iter().map(|(_, settings)| settings);
        let of_crates = self.crate_settings.values().chain(patterns).filter_map(|settings| settings.limits.cores);
        let mut all = of_ops.chain(of_crates).chain([self.limits.cores]);
        if all.any(|cores| cores == Cores::Own) { Cores::Own } else { Cores::Shared }
    }
}

impl CrateSettings {
    /// `base`, with what these settings say put in its place.
    fn over(self, mut base: Self) -> Self {
        base.env.extend(self.env);
        Self {
            ops: self.ops.or(base.ops),
            limits: self.limits.or(base.limits),
            features: if self.features == Features::Default { base.features } else { self.features },
            env: base.env,
            skip: self.skip.or(base.skip),
            expected: if self.expected == Expected::Works { base.expected } else { self.expected },
        }
    }
}

impl LimitsPatch {
    /// `base`, with what this patch gives put in its place.
    pub fn over(self, base: Limits) -> Limits {
        Limits {
            cpus: self.cpus.unwrap_or(base.cpus),
            memory: self.memory.unwrap_or(base.memory),
            pids: self.pids.unwrap_or(base.pids),
            timeout: self.timeout.unwrap_or(base.timeout),
            idle_timeout: self.idle_timeout.unwrap_or(base.idle_timeout),
            output: self.output.unwrap_or(base.output),
            disk: self.disk.unwrap_or(base.disk),
            cores: self.cores.unwrap_or(base.cores),
        }
    }
}
