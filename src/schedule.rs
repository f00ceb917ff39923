//! Which crate goes first, and what an op is expected to take. Pure.
//!
//! Expectations only order the work and fit it into memory; a wrong one costs time, never a result.

use std::collections::HashMap;
use std::time::Duration;

use bytesize::ByteSize;

use crate::krate::CrateName;
use crate::ops::{OpName, Stage};
use crate::plan::{CratePlan, Queue, Step};

/// What an op of a crate took when it ran before, on average, and the most memory it ever held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The crate, in any version.
    pub krate: CrateName,
    /// The op.
    pub op: OpName,
    /// How long it took.
    pub wall: Duration,
    /// The most memory; none where the host couldn't tell.
    pub peak: Option<ByteSize>,
}

/// What is known of crates before they run.
#[derive(Debug, Default)]
pub struct Expectations {
    of_crate: HashMap<CrateName, Vec<Recorded>>,
    /// What the op takes for a crate of which nothing is known: the mean of all others.
    of_op: HashMap<OpName, Duration>,
}

/// How long an op takes where nothing like it has ever run: about the mean of popular crates, on one core.
const WALL: Duration = Duration::from_secs(20);
/// How long a package of the lockfile takes to compile, about, on one core: what twenty popular crates came to, with
/// their dependencies.
const PACKAGE_WALL: Duration = Duration::from_secs(1);
/// What a compiler or a test holds, where it isn't known: most take less, and hardly any build takes more.
const PEAK: ByteSize = ByteSize::gib(1);
/// What `prepare` holds: cargo resolving, and a tarball being unpacked.
const FETCH_PEAK: ByteSize = ByteSize::mib(128);

impl Expectations {
    /// Learns from what ran before.
    pub fn new(recorded: Vec<Recorded>) -> Self {
        let mut of_crate: HashMap<CrateName, Vec<Recorded>> = HashMap::new();
        let mut sums: HashMap<OpName, (Duration, u32)> = HashMap::new();
        for recorded in recorded {
            let (sum, count) = sums.entry(recorded.op.clone()).or_default();
            *sum = sum.saturating_add(recorded.wall);
            *count = count.saturating_add(1);
            of_crate.entry(recorded.krate.clone()).or_default().push(recorded);
        }
        let of_op = sums.into_iter().map(|(op, (sum, count))| (op, sum / count)).collect();
        Self { of_crate, of_op }
    }

    /// How long an op of a crate should take. `packages` is how many its lockfile has, once there is one.
    pub fn wall(&self, krate: &CrateName, step: &Step, packages: Option<u32>) -> Duration {
        let op = step.op.name();
        match (self.recorded(krate, &op), packages) {
            (Some(recorded), _) => recorded.wall,
            (None, Some(packages)) => PACKAGE_WALL.saturating_mul(packages),
            (None, None) => self.of_op.get(&op).copied().unwrap_or(WALL),
        }
    }

    /// How much memory an op of a crate should need at most.
    pub fn peak(&self, krate: &CrateName, step: &Step) -> ByteSize {
        let recorded = self.recorded(krate, &step.op.name()).and_then(|recorded| recorded.peak);
        recorded.unwrap_or(match step.op.stage() {
            Stage::Fetch => FETCH_PEAK,
            Stage::Build | Stage::Test => PEAK,
        })
    }

    /// Plans by their place, the longest first, equals in the order given. A large crate that starts last makes
    /// everyone wait for it.
    pub fn longest_first<'p>(
        &self,
        plans: &'p [CratePlan],
        left: impl Fn(&'p CratePlan) -> Queue,
    ) -> Vec<(usize, Duration)> {
        let mut order: Vec<(usize, Duration)> = Vec::new();
        for (place, plan) in plans.iter().enumerate() {
            let steps = left(plan);
            if !steps.is_empty() {
                let walls = steps.iter().map(|step| self.wall(&plan.krate.id.name, step, None));
                order.push((place, walls.fold(Duration::ZERO, Duration::saturating_add)));
            }
        }
        order.sort_by_key(|(_, wall)| std::cmp::Reverse(*wall));
        order
    }

    fn recorded(&self, krate: &CrateName, op: &OpName) -> Option<&Recorded> {
        self.of_crate.get(krate)?.iter().find(|recorded| recorded.op == *op)
    }
}

/// The priority of a step: crates that are further along first, so that what is started ends before more starts; among
/// equals the longest first.
pub fn priority(depth: u32, wall: Duration) -> u64 {
    let wall = u32::try_from(wall.as_millis()).unwrap_or(u32::MAX);
    u64::from(depth) << 32 | u64::from(wall)
}
