//! Random shapes, jobs and stops: the invariants hold in all of them, on one thread and on several.

use super::super::sim::Random;
use super::*;
use crate::stop::{StopLevel, channel};

struct Scenario {
    config: Config,
    jobs: Vec<SimJob>,
    stop: Option<(u64, StopLevel)>,
}

fn scenario(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let pools = 1 + random.below(4) as usize;
    let pool =
        |index, random: &mut Random| Pool { name: format!("pool {index}"), workers: 1 + random.below(5) as usize };
    let shapes = (0..pools).map(|index| pool(index, &mut random)).collect();
    let config = Config { budget: random.below(8), ..Config::new(shapes, 1 + random.below(20) as usize) };
    let step = |random: &mut Random| {
        // Sometimes a pool that doesn't exist, a panic, or a step that takes no time.
        let pool = if random.below(100) == 0 { pools } else { random.below(pools as u64) as usize };
        let step = SimStep::new(pool, random.below(50).saturating_sub(5)).weighs(random.below(4));
        if random.below(50) == 0 { step.panics() } else { step }
    };
    let job = |id, random: &mut Random| {
        let later = random.below(6);
        SimJob::new(id, step(random), (0..later).map(|_| step(random)).collect::<Vec<_>>())
    };
    let count = random.below(60) as usize;
    let jobs = (0..count).map(|id| job(id, &mut random)).collect();
    let stop = match random.below(3) {
        0 => Some((random.below(300), StopLevel::Drain)),
        1 => Some((random.below(300), StopLevel::Kill)),
        _ => None,
    };
    Scenario { config, jobs, stop }
}

async fn play(Scenario { config, jobs, stop: when }: Scenario) -> Ran {
    let (stopper, stop) = channel();
    let raise = async {
        if let Some((at, level)) = when {
            tokio::time::sleep(ms(at)).await;
            stopper.raise(level);
        }
    };
    let admitted = jobs.len() as u64;
    let ran = tokio::join!(ran(&config, jobs, stop), raise).0;
    if when.is_none() {
        assert_eq!(ran.summary.admitted, admitted);
    }
    ran
}

#[tokio::test(start_paused = true)]
async fn every_random_run_keeps_the_invariants() {
    for seed in 0..400 {
        play(scenario(seed)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn real_threads_keep_the_invariants_too() {
    let mut runs: tokio::task::JoinSet<_> = (0..100).map(|seed| play(scenario(seed))).collect();
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (play(scenario(seed)).await, play(scenario(seed)).await);
        assert_eq!(first.starts(), second.starts());
        assert_eq!(first.summary, second.summary);
    }
}
