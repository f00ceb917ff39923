//! The recorded ops of an experiment, in the form that a replay needs. Pure.

use std::time::Duration;

use super::SimulateError;
use crate::compare::{OpResult, Results};
use crate::ops::Stage;
use crate::pipeline::sim::Random;
use crate::plan::Step;
use crate::schedule;

/// The ops of every crate that ran.
#[derive(Debug, Clone)]
pub struct Recording {
    pub(super) crates: Vec<RecordedCrate>,
}

/// A crate that ran.
#[derive(Debug, Clone)]
pub(super) struct RecordedCrate {
    /// Never empty.
    pub(super) ops: Vec<RecordedOp>,
}

/// An op that ran: first it waited, for a disk or a network, and then it computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RecordedOp {
    pub(super) stage: Stage,
    pub(super) wait: Duration,
    pub(super) compute: Duration,
    /// How many cores it keeps busy while it computes.
    pub(super) cores: f64,
    /// Bytes.
    pub(super) peak: u64,
}

impl Recording {
    /// Takes the crates of which at least one op has run.
    ///
    /// # Errors
    /// When the recording is missing.
    pub fn of(results: &Results) -> Result<Self, SimulateError> {
        let crates = results.crates.iter().map(|krate| {
            let ran = krate.steps.iter().filter_map(|(step, result)| Some((step, result.as_ref()?)));
            RecordedCrate { ops: ran.map(|(step, result)| RecordedOp::of(step, result)).collect() }
        });
        let crates: Vec<_> = crates.filter(|krate: &RecordedCrate| !krate.ops.is_empty()).collect();
        if crates.is_empty() { Err(SimulateError::Empty(results.experiment.clone())) } else { Ok(Self { crates }) }
    }

    /// How many crates were recorded.
    pub fn len(&self) -> usize {
        self.crates.len()
    }

    /// Whether none was: never.
    pub fn is_empty(&self) -> bool {
        self.crates.is_empty()
    }

    /// So many crates, ordered as in a run that knows them: all that were recorded as often as they fit, and the rest
    /// at random, though always the same.
    pub(super) fn sample(&self, count: usize, at_once: usize) -> Vec<u32> {
        let recorded = self.crates.len();
        let mut random = Random::new(recorded as u64);
        let whole = count - count % recorded;
        let place = |n| if n < whole { n % recorded } else { random.below(recorded as u64) as usize };
        schedule::order((0..count).map(place).map(|place| (place as u32, self.crates[place].wall())), at_once)
    }
}

impl RecordedCrate {
    /// How long it takes alone.
    pub(super) fn wall(&self) -> Duration {
        self.ops.iter().map(RecordedOp::wall).sum()
    }
}

impl RecordedOp {
    fn of(step: &Step, result: &OpResult) -> Self {
        let OpResult { wall, cpu, .. } = *result;
        let (wait, compute, cores) = if cpu > wall {
            (Duration::ZERO, wall, cpu.div_duration_f64(wall.max(Duration::from_millis(1))))
        } else {
            (wall - cpu, cpu, 1.0)
        };
        let peak = result.peak_memory.unwrap_or_else(|| schedule::unknown_peak(step.op.stage())).as_u64();
        Self { stage: step.op.stage(), wait, compute, cores, peak }
    }

    /// How long it takes alone.
    pub(super) fn wall(&self) -> Duration {
        self.wait + self.compute
    }

    /// How much it computes, in core seconds.
    pub(super) fn cpu(&self) -> f64 {
        self.compute.as_secs_f64() * self.cores
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn what_an_op_did_not_compute_it_waited_for() {
        let mut results = sample::results(1, vec![sample::crate_of('p', &["p"]), sample::crate_of('-', &["-"])]);
        let build = results.crates[0].steps[1].1.as_mut().unwrap();
        (build.wall, build.cpu, build.peak_memory) = (Duration::from_secs(10), Duration::from_secs(25), None);
        let recording = Recording::of(&results).unwrap();
        assert_eq!(recording.len(), 1, "a crate of which nothing ran is no crate");
        let [prepare, build] = recording.crates[0].ops[..] else { panic!("two ops") };
        assert_eq!((prepare.wait, prepare.compute), (Duration::from_millis(2377), Duration::from_millis(59_123)));
        assert_eq!((prepare.cores, prepare.peak), (1.0, 300 << 20));
        assert_eq!((build.wait, build.wall(), build.cores), (Duration::ZERO, Duration::from_secs(10), 2.5));
        assert_eq!((build.cpu(), build.peak), (25.0, 1 << 30));
    }

    #[test]
    fn a_sample_takes_all_equally_often_and_begins_with_the_large() {
        let mut crates: Vec<_> = (0..3).map(|_| sample::crate_of('p', &["p"])).collect();
        crates[1].steps[0].1.as_mut().unwrap().wall *= 9;
        let recording = Recording::of(&sample::results(1, crates)).unwrap();
        assert_eq!(recording.sample(6, 1), [1, 0, 1, 2, 0, 2]);
        assert_eq!(recording.sample(2, 1).len(), 2);
        assert_eq!(recording.sample(100, 8), recording.sample(100, 8));
    }

    #[test]
    fn an_experiment_that_has_not_run_says_so() {
        let error = Recording::of(&sample::results(1, Vec::new())).unwrap_err();
        assert_eq!(error.to_string(), "nothing of `sample` has run yet: `maar run` it first");
    }
}
