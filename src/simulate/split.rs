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
    // A run with fewer workers is sometimes no longer, though one with a few more is; and a worker of one stage can
    // stand in for two of others. So all smaller splits close by are tried, too.
    while let Some(smaller) = neighbours(best).map(|near| Ok((near, wall(near)? <= bound))).find(is_enough) {
        best = smaller?.0;
    }
    Ok((best, replay(recording, crates, &Machine { workers: best, ..*machine })?))
}

/// Whether a trial kept within the bound; an error is for the caller, too.
fn is_enough(trial: &Result<(Workers, bool), SimulateError>) -> bool {
    trial.as_ref().map_or(true, |(_, enough)| *enough)
}

/// The splits with fewer workers in all that differ by at most two in each stage, the smallest ones first.
fn neighbours(of: Workers) -> impl Iterator<Item = Workers> {
    let step = -2..=2_isize;
    let steps = step.clone().flat_map(move |fetch| {
        let step = step.clone();
        step.clone().flat_map(move |build| step.clone().map(move |test| [fetch, build, test]))
    });
    let mut fewer: Vec<[isize; 3]> = steps.filter(|step| step.iter().sum::<isize>() < 0).collect();
    fewer.sort_by_key(|step| step.iter().sum::<isize>());
    fewer.into_iter().filter_map(move |[fetch, build, test]| {
        let moved = |workers: usize, by: isize| workers.checked_add_signed(by).filter(|workers| *workers > 0);
        Some(Workers { fetch: moved(of.fetch, fetch)?, build: moved(of.build, build)?, test: moved(of.test, test)? })
    })
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

    #[test]
    fn no_smaller_split_is_within_the_tolerance() {
        let crates = [[(3, 1), (20, 18), (9, 2)], [(1, 0), (45, 40), (30, 29)], [(8, 1), (5, 5), (2, 1)]];
        let crates = crates.into_iter().map(|ops| {
            let mut krate = sample::crate_of('p', &["pp"]);
            for ((_, result), (wall, cpu)) in krate.steps.iter_mut().zip(ops) {
                let result = result.as_mut().unwrap();
                (result.wall, result.cpu) = (Duration::from_secs(wall), Duration::from_secs(cpu));
            }
            krate
        });
        let recording = Arc::new(Recording::of(&sample::results(1, crates.collect())).unwrap());
        let workers = Workers { fetch: 1, build: 1, test: 1 };
        let machine = Machine { workers, cores: 2, memory: ByteSize::tib(1) };
        let wall = |workers| replay(&recording, 60, &Machine { workers, ..machine }).unwrap().wall.as_secs_f64();
        let (best, replayed) = best_split(&recording, 60, &machine).unwrap();
        let bound = wall(Workers { fetch: 8, build: 8, test: 8 }) * SLACK;
        assert!(replayed.wall.as_secs_f64() <= bound, "{replayed:?}");
        let total = |workers: Workers| workers.fetch + workers.build + workers.test;
        let all =
            (1..=8).flat_map(|fetch| (1..=8).flat_map(move |build| (1..=8).map(move |test| (fetch, build, test))));
        for (fetch, build, test) in all {
            let split = Workers { fetch, build, test };
            assert!(total(split) >= total(best) || wall(split) > bound, "{split:?} is smaller than {best:?}");
        }
    }
}
