//! The share of an op beyond its limits, while fewer crates than cores are left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytesize::ByteSize;

use crate::ops::Stage;
use crate::sandbox::{Cores, Limits};

/// How much of its memory limit an op must have for each core that it is given on top: cargo runs a compiler on each,
/// and running out of memory must not come of a gift.
const MEMORY_PER_CORE: ByteSize = ByteSize::gib(1);

/// How many crates are left, the one that holds this included. Dropped with its crate's job.
#[derive(Debug)]
pub struct Left(Arc<AtomicUsize>);

impl Left {
    /// The part of one crate in a count of all that are left. The count must have it in already.
    pub fn of(count: &Arc<AtomicUsize>) -> Self {
        Self(Arc::clone(count))
    }

    /// One of these for each of so many crates.
    #[cfg(test)]
    pub(super) fn all(crates: usize) -> impl FnMut() -> Self {
        let left = Arc::new(AtomicUsize::new(crates));
        move || Self::of(&left)
    }

    /// The limits of an op that starts now. A build gets the cores that nobody else will use, as far as its memory
    /// goes, unless it has cores of its own. A test doesn't: the number of threads may decide its results, and must be
    /// the same for every toolchain.
    pub(super) fn limits(&self, limits: Limits, stage: Stage, cores: usize) -> Limits {
        match (stage, limits.cores) {
            (Stage::Fetch | Stage::Test, _) | (Stage::Build, Cores::Own) => limits,
            (Stage::Build, Cores::Shared) => {
                let share = cores as f64 / self.0.load(Ordering::Relaxed).max(1) as f64;
                let fitting = limits.memory.as_u64() as f64 / MEMORY_PER_CORE.as_u64() as f64;
                Limits { cpus: limits.cpus.max(share.min(fitting)), ..limits }
            }
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::DEFAULT_LIMITS;

    #[test]
    fn the_last_crates_build_on_the_cores_that_are_left_over() {
        let mut left = Left::all(3);
        let crates = [left(), left(), left()];
        let plenty = Limits { memory: ByteSize::gib(64), ..DEFAULT_LIMITS };
        let cpus = |left: &Left, stage| left.limits(plenty, stage, 8).cpus;
        assert_eq!(cpus(&crates[0], Stage::Build), 8.0 / 3.0);
        let [last, second, third] = crates;
        drop((second, third));
        assert_eq!(cpus(&last, Stage::Build), 8.0);
        assert_eq!(cpus(&last, Stage::Test), DEFAULT_LIMITS.cpus);
        let own = Limits { cores: Cores::Own, ..plenty };
        assert_eq!(last.limits(own, Stage::Build, 8), own);
        // Each core brings a compiler that needs memory.
        let tight = Limits { memory: ByteSize::gib(3), ..DEFAULT_LIMITS };
        assert_eq!(last.limits(tight, Stage::Build, 8).cpus, 3.0);
        let tiny = Limits { memory: ByteSize::mib(100), ..DEFAULT_LIMITS };
        assert_eq!(last.limits(tiny, Stage::Build, 8), tiny);
    }

    #[test]
    fn many_crates_keep_to_their_limits() {
        let mut left = Left::all(100);
        let one = left();
        assert_eq!(one.limits(DEFAULT_LIMITS, Stage::Build, 8), DEFAULT_LIMITS);
        assert_eq!(one.limits(Limits { cpus: 4.0, ..DEFAULT_LIMITS }, Stage::Build, 2).cpus, 4.0);
    }
}
