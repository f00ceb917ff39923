//! The order of crates, and the expected time and memory of ops. Pure.
//!
//! Expectations only order the work and fit it into memory; a wrong one costs time, never a result.

use std::collections::HashMap;
use std::time::Duration;

use bytesize::ByteSize;

use crate::krate::CrateName;
use crate::ops::{OpName, Stage};
use crate::plan::Step;

/// The recorded mean time of a crate's op, and its highest memory peak.
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

/// Recorded times and sizes of crates, from earlier runs and lockfiles.
#[derive(Debug, Default)]
pub struct Expectations {
    of_crate: HashMap<CrateName, Vec<Recorded>>,
    /// The expected time of a crate without a record: the mean of all others.
    of_op: HashMap<OpName, Duration>,
}

/// How long an op takes where nothing like it has ever run: about the mean of popular crates, on one core.
const WALL: Duration = Duration::from_secs(20);
/// How long a package of the lockfile takes to compile, about, on one core: measured on twenty popular crates, with
/// their dependencies.
const PACKAGE_WALL: Duration = Duration::from_secs(1);
/// The expected memory of an op without a record: most ops take less, and hardly any build takes more.
const PEAK: ByteSize = ByteSize::gib(1);
/// What `prepare` holds: cargo resolving, and a tarball being unpacked.
const FETCH_PEAK: ByteSize = ByteSize::mib(128);

impl Expectations {
    /// Learns from recorded ops.
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

    /// Whether an op of a crate ran before, so that its cost is not a guess.
    pub fn is_recorded(&self, krate: &CrateName, step: &Step) -> bool {
        self.recorded(krate, &step.op.name()).is_some()
    }

    /// How much memory an op of a crate should need at most.
    pub fn peak(&self, krate: &CrateName, step: &Step) -> ByteSize {
        let recorded = self.recorded(krate, &step.op.name()).and_then(|recorded| recorded.peak);
        recorded.unwrap_or_else(|| unknown_peak(step.op.stage()))
    }

    /// How long all these ops of a crate should take, one after another.
    pub fn total<'s>(&self, krate: &CrateName, steps: impl IntoIterator<Item = &'s Step>) -> Duration {
        steps.into_iter().map(|step| self.wall(krate, step, None)).fold(Duration::ZERO, Duration::saturating_add)
    }

    fn recorded(&self, krate: &CrateName, op: &OpName) -> Option<&Recorded> {
        self.of_crate.get(krate)?.iter().find(|recorded| recorded.op == *op)
    }
}

/// How much memory an op needs at most of which nothing is known.
pub fn unknown_peak(stage: Stage) -> ByteSize {
    match stage {
        Stage::Fetch => FETCH_PEAK,
        Stage::Build | Stage::Test => PEAK,
    }
}

/// Orders jobs so that long ones start early: each moves ahead of its turn by twice its expected duration, so that no
/// long job is left to run alone at the end.
///
/// In a short run that is the largest first; a long one keeps the order given nearly everywhere. Sorting all by size
/// would part it into a time when everything is slow to test and one when everything is fetched in no time, and no
/// number of workers fits both.
pub fn order<T>(jobs: impl IntoIterator<Item = (T, Duration)>, at_once: usize) -> Vec<T> {
    let mut turn = 0.0;
    let begin = |(job, wall): (T, Duration)| {
        let wall = wall.as_secs_f64();
        let begin = turn - 2.0 * wall;
        turn += wall / at_once.max(1) as f64;
        (begin, job)
    };
    let mut jobs: Vec<(f64, T)> = jobs.into_iter().map(begin).collect();
    jobs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// The priority of a step: crates that are further along first, so that crates in progress end before more start; among
/// equals the longest first.
pub fn priority(depth: u32, wall: Duration) -> u64 {
    let wall = u32::try_from(wall.as_millis()).unwrap_or(u32::MAX);
    u64::from(depth) << 32 | u64::from(wall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::plan::Fingerprint;

    fn step(op: Op) -> Step {
        Step { op, toolchain: None, attempt: 1, fingerprint: Fingerprint::of("") }
    }

    fn name(name: &str) -> CrateName {
        name.parse().unwrap()
    }

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn expectations() -> Expectations {
        let build = |krate, wall, peak: Option<u64>| Recorded {
            krate: name(krate),
            op: Op::Build.name(),
            wall: second(wall),
            peak: peak.map(ByteSize::mib),
        };
        Expectations::new(vec![build("a", 10, Some(300)), build("b", 30, None)])
    }

    #[test]
    fn what_ran_before_is_expected_again() {
        let expected = expectations();
        assert_eq!(expected.wall(&name("a"), &step(Op::Build), Some(99)), second(10));
        assert_eq!(expected.peak(&name("a"), &step(Op::Build)), ByteSize::mib(300));
        assert_eq!(expected.peak(&name("b"), &step(Op::Build)), PEAK);
    }

    #[test]
    fn what_never_ran_is_guessed_from_its_lockfile_then_from_others_then_from_nothing() {
        let expected = expectations();
        assert_eq!(expected.wall(&name("c"), &step(Op::Build), Some(7)), second(7));
        assert_eq!(expected.wall(&name("c"), &step(Op::Build), None), second(20));
        assert_eq!(Expectations::default().wall(&name("c"), &step(Op::Test), None), WALL);
        assert_eq!(expected.peak(&name("c"), &step(Op::Prepare)), FETCH_PEAK);
        assert_eq!(expected.total(&name("a"), &[step(Op::Build), step(Op::Build)]), second(20));
    }

    #[test]
    fn in_a_short_run_the_large_begin_first() {
        let jobs = [3, 1, 2, 50, 3, 90, 1].map(|wall| (wall, second(wall)));
        assert_eq!(order(jobs, 1), [90, 50, 3, 2, 1, 3, 1]);
        assert!(order::<()>([], 1).is_empty());
    }

    #[test]
    fn a_long_run_keeps_its_order_but_for_the_large_at_its_end() {
        let walls = |job| if job == 999 { 20 } else { 1 };
        let order = order((0..1000).map(|job| (job, second(walls(job)))), 1);
        assert_eq!(order.iter().position(|job| *job == 999), Some(962));
        let others: Vec<u64> = order.into_iter().filter(|job| *job != 999).collect();
        assert_eq!(others, (0..999).collect::<Vec<_>>());
    }

    #[test]
    fn a_later_step_goes_before_a_longer_one() {
        assert!(priority(2, second(1)) > priority(1, Duration::MAX));
        assert!(priority(1, second(2)) > priority(1, second(1)));
    }
}
