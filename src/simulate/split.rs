//! Searches for the best split of workers.
//!
//! More workers never make the modelled run longer, so the best split is the smallest: the fewest workers with which
//! the run is hardly longer than with as many as the machine could use. Fewer crates are then on their way at a time,
//! with less memory and disk.

use std::sync::Arc;

use super::{Machine, Recording, Replayed, SimulateError, replay};
use crate::experiment::Workers;
use crate::ops::Stage;

/// How much longer the run may be than with all the workers that could be of use.
const SLACK: f64 = 1.01;

/// How many crates per core a trial runs: enough that beginning and end hardly count.
const CRATES_PER_CORE: usize = 50;
/// The least number of crates in a trial, even with few cores.
const CRATES: usize = 1000;

/// The split, and how so many crates do with it. `machine.workers` is not looked at.
///
/// # Errors
/// When the machine's pools can't be set up.
pub fn best_split(
    recording: &Arc<Recording>,
    crates: usize,
    machine: &Machine,
) -> Result<(Workers, Replayed), SimulateError> {
    let trial_crates = crates.min(CRATES.max(CRATES_PER_CORE * machine.cores));
    let wall = |workers| -> Result<f64, SimulateError> {
        Ok(replay(recording, trial_crates, &Machine { workers, ..*machine })?.wall.as_secs_f64())
    };
    // Twice the cores: half of the time of an op may be spent waiting. Fetching does little else.
    let most = |times: usize| (times * machine.cores).clamp(8, 1024);
    let mut best = Workers { fetch: most(4), build: most(2), test: most(2) };
    let bound = wall(best)? * SLACK;
    // Where the cores are shared, fewer of one stage make the others faster, so that they in turn can do with fewer.
    loop {
        let before = best;
        for stage in [Stage::Test, Stage::Build, Stage::Fetch] {
            let (mut too_few, mut enough) = (0, best.of(stage));
            while enough - too_few > 1 {
                let between = too_few.midpoint(enough);
                if wall(best.with(stage, between))? <= bound { enough = between } else { too_few = between }
            }
            best = best.with(stage, enough);
        }
        if best == before {
            break;
        }
    }
    Ok((best, replay(recording, crates, &Machine { workers: best, ..*machine })?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;

    use super::*;
    use crate::compare::sample;

    #[test]
    fn the_best_split_has_no_more_workers_than_the_work_keeps_busy() {
        let mut krate = sample::crate_of('p', &["pp"]);
        for ((_, result), (wall, cpu)) in krate.steps.iter_mut().zip([(5, 0), (30, 30), (10, 10)]) {
            let result = result.as_mut().unwrap();
            (result.wall, result.cpu) = (Duration::from_secs(wall), Duration::from_secs(cpu));
        }
        let recording = Arc::new(Recording::of(&sample::results(1, vec![krate])).unwrap());
        let workers = Workers { fetch: 1, build: 1, test: 1 };
        let machine = Machine { workers, cores: 8, memory: ByteSize::tib(1) };
        let (workers, replayed) = best_split(&recording, 400, &machine).unwrap();
        // 40 core seconds a crate on 8 cores: a crate every 5 s.
        assert!((2000.0..2080.0).contains(&replayed.wall.as_secs_f64()), "{replayed:?}");
        assert!((6..=9).contains(&workers.build), "{workers:?}");
        assert!((2..=4).contains(&workers.test), "{workers:?}");
        assert!((1..=2).contains(&workers.fetch), "{workers:?}");
    }
}
