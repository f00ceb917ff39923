//! Simulated work: jobs that only take time, for tests, benches and what-if questions.
//!
//! Takes tokio's time, so on a paused clock a day passes at once. Deterministic: the same seed gives the same jobs.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Config, PoolId, Stepped, Work};
use crate::stop::{Stop, StopLevel};

/// A simulated job: steps that take time in pools.
#[derive(Debug, Clone)]
pub struct SimJob {
    tag: SimTag,
    now: SimStep,
    later: VecDeque<SimStep>,
}

/// One step of a simulated job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimStep {
    /// The pool that runs it.
    pub pool: PoolId,
    /// How long it takes, in whole milliseconds: tokio's timers are no finer. Zero never waits.
    pub takes: Duration,
    /// How it ends.
    pub end: SimEnd,
    /// How much of the budget it needs.
    pub weight: u64,
}

/// How a simulated step ends when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimEnd {
    /// It reports.
    Report,
    /// It panics.
    Panic,
}

/// The result of a simulated step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimReport {
    /// It took its time.
    Done,
    /// It was killed, and the job with it.
    Killed,
}

/// Which step of which simulated job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTag {
    /// The job.
    pub job: usize,
    /// How many steps the job has done before.
    pub step: usize,
}

impl SimStep {
    /// A step that takes this many milliseconds and reports.
    pub fn new(pool: usize, millis: u64) -> Self {
        Self { pool: PoolId(pool), takes: Duration::from_millis(millis), end: SimEnd::Report, weight: 0 }
    }

    /// The same step, but it panics in the end.
    #[must_use]
    pub fn panics(self) -> Self {
        Self { end: SimEnd::Panic, ..self }
    }

    /// The same step, but of this weight.
    #[must_use]
    pub fn weighs(self, weight: u64) -> Self {
        Self { weight, ..self }
    }
}

impl SimJob {
    /// A job of at least one step.
    pub fn new(id: usize, first: SimStep, later: impl IntoIterator<Item = SimStep>) -> Self {
        Self { tag: SimTag { job: id, step: 0 }, now: first, later: later.into_iter().collect() }
    }

    /// Its steps that are still to be done, in order.
    pub fn steps(&self) -> impl Iterator<Item = &SimStep> {
        std::iter::once(&self.now).chain(&self.later)
    }
}

impl Work for SimJob {
    type Report = SimReport;
    type Tag = SimTag;

    fn pool(&self) -> PoolId {
        self.now.pool
    }

    fn tag(&self) -> SimTag {
        self.tag
    }

    fn priority(&self) -> u64 {
        self.tag.step as u64
    }

    fn weight(&self) -> u64 {
        self.now.weight
    }

    async fn step(mut self, stop: Stop) -> Stepped<Self> {
        if !self.now.takes.is_zero() {
            tokio::select! {
                biased;
                () = stop.reached(StopLevel::Kill) => return Stepped { report: SimReport::Killed, next: None },
                () = tokio::time::sleep(self.now.takes) => {}
            }
        }
        match self.now.end {
            SimEnd::Report => {}
            SimEnd::Panic => panic!("job {} panics in step {}", self.tag.job, self.tag.step),
        }
        let next = self.later.pop_front().map(|now| {
            let tag = SimTag { step: self.tag.step + 1, ..self.tag };
            Self { tag, now, later: self.later }
        });
        Stepped { report: SimReport::Done, next }
    }
}

/// The least time in which any schedule could do these jobs: that of the longest job alone, or that of the busiest pool
/// without a pause, whichever is more. Steps in pools that don't exist count for their job alone.
pub fn lower_bound<'a>(config: &Config, jobs: impl IntoIterator<Item = &'a SimJob>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut work = vec![Duration::ZERO; config.pools.len()];
    for job in jobs {
        longest = longest.max(job.steps().map(|step| step.takes).sum());
        for step in job.steps() {
            if let Some(work) = work.get_mut(step.pool.0) {
                *work += step.takes;
            }
        }
    }
    let pools = work.iter().zip(&config.pools).map(|(work, pool)| work.div_f64(pool.workers as f64));
    pools.fold(longest, Duration::max)
}

/// Jobs as a registry has crates: most are small, a few are a hundred times larger. Each has one step per share, in the
/// pools 0, 1, …; a share is the part of the job's time that its step takes, give or take half of it.
///
/// Sizes follow a [Pareto distribution](https://en.wikipedia.org/wiki/Pareto_distribution) of index 1.5, cut off at a
/// hundred times the smallest. Without shares there are no jobs.
pub fn heavy_tailed(seed: u64, count: usize, smallest: Duration, shares: &[f64]) -> Vec<SimJob> {
    let mut random = Random::new(seed);
    let mut job = |id| {
        let size = smallest.as_millis() as f64 * (1.0 - random.fraction()).powf(-1.0 / 1.5).min(100.0);
        let steps: Vec<_> = shares
            .iter()
            .enumerate()
            .map(|(pool, share)| SimStep::new(pool, (size * share * (0.5 + random.fraction())) as u64))
            .collect();
        let (first, later) = steps.split_first()?;
        Some(SimJob::new(id, *first, later.iter().copied()))
    };
    (0..count).filter_map(&mut job).collect()
}

/// A small source of numbers that look random and are the same for the same seed.
///
/// Knuth's linear congruential generator, the multiplier and increment of MMIX; its upper bits are the good ones.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A source for this seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.next();
        random
    }

    /// A number from 0 up to and without `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.fraction() * end as f64) as u64
    }

    /// A number from 0 up to and without 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::*;

    fn config<const N: usize>(workers: [usize; N]) -> Config {
        Config::new(workers.map(|workers| Pool { name: String::new(), workers }).into(), 1)
    }

    #[test]
    fn the_bound_is_the_longest_job_or_the_busiest_pool() {
        let jobs: Vec<_> = (0..4).map(|id| SimJob::new(id, SimStep::new(0, 30), [SimStep::new(1, 20)])).collect();
        for (workers, bound) in [([1, 1], 120), ([2, 1], 80), ([4, 4], 50)] {
            assert_eq!(lower_bound(&config(workers), &jobs), Duration::from_millis(bound), "{workers:?}");
        }
        assert_eq!(lower_bound(&config([1, 1]), []), Duration::ZERO);
        let nowhere = SimJob::new(0, SimStep::new(9, 70), []);
        assert_eq!(lower_bound(&config([1]), [&nowhere]), Duration::from_millis(70));
    }

    #[test]
    fn the_same_seed_gives_the_same_jobs_and_another_seed_others() {
        let sizes = |seed| -> Vec<_> {
            let jobs = heavy_tailed(seed, 50, Duration::from_secs(1), &[0.5, 0.5]);
            jobs.iter().flat_map(SimJob::steps).map(|step| (step.pool, step.takes)).collect()
        };
        assert_eq!(sizes(1), sizes(1));
        assert_ne!(sizes(1), sizes(2));
        assert_eq!(sizes(1).len(), 100);
    }

    #[test]
    fn most_jobs_are_small_and_none_is_absurd() {
        let jobs = heavy_tailed(7, 10_000, Duration::from_secs(1), &[1.0]);
        let takes: Vec<_> = jobs.iter().flat_map(SimJob::steps).map(|step| step.takes.as_secs_f64()).collect();
        assert!(takes.iter().all(|takes| (0.5..150.0).contains(takes)));
        assert!(takes.iter().filter(|takes| **takes < 3.0).count() > 7000);
        assert!(takes.iter().any(|takes| *takes > 40.0));
    }
}
