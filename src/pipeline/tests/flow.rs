//! How jobs flow without a stop.

use std::cell::Cell;

use super::super::sim::{SimEnd, heavy_tailed, lower_bound};
use super::super::{ConfigError, PoolSummary};
use super::*;

const DONE: Ended = Ended::Report(Ok(SimReport::Done));

#[tokio::test(start_paused = true)]
async fn pools_overlap() {
    let config = config([1, 1], 10);
    let ran = ran(&config, (0..3).map(|id| job(id, [(0, 10), (1, 10)])), Stop::never()).await;
    assert_eq!(ran.starts(), [(0, 0, 0), (1, 0, 10), (0, 1, 10), (2, 0, 20), (1, 1, 20), (2, 1, 30)]);
    assert_eq!(ran.wall(), ms(40));
    assert_eq!(ran.summary.steps(), 6);
    let counted = |waited| PoolSummary { steps: 3, busy: ms(30), waited: ms(waited), held: ms(0) };
    assert_eq!(ran.summary.pools, [counted(30), counted(0)]);
}

#[tokio::test(start_paused = true)]
async fn all_workers_of_a_pool_work_at_the_same_time_and_no_more() {
    let ran = ran(&config([3], 10), (0..7).map(|id| job(id, [(0, 10)])), Stop::never()).await;
    assert_eq!(ran.wall(), ms(30));
}

#[tokio::test(start_paused = true)]
async fn jobs_in_flight_are_bounded_even_when_workers_are_idle() {
    let ran = ran(&config([8], 2), (0..6).map(|id| job(id, [(0, 10)])), Stop::never()).await;
    assert_eq!(ran.wall(), ms(30));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_go_back_to_a_pool_never_deadlock() {
    for in_flight in [1, 2, 50] {
        let jobs = (0..20).map(|id| job(id, [(0, 1), (1, 3), (2, 2), (1, 3), (2, 2)]));
        let ran = ran(&config([1, 1, 1], in_flight), jobs, Stop::never()).await;
        assert_eq!(ran.summary.finished, 20, "with {in_flight} in flight");
    }
}

#[tokio::test(start_paused = true)]
async fn later_steps_go_first_and_equals_in_order_of_arrival() {
    let ran = ran(&config([1], 3), (0..3).map(|id| job(id, [(0, 1), (0, 1)])), Stop::never()).await;
    let order: Vec<_> = ran.starts().into_iter().map(|(job, step, _)| (job, step)).collect();
    assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_job() {
    let panics = SimJob::new(1, SimStep::new(0, 1), [SimStep::new(1, 1).panics(), SimStep::new(0, 1)]);
    let jobs = [job(0, [(0, 1), (1, 1)]), panics, job(2, [(0, 1), (1, 1)])];
    let ran = ran(&config([1, 1], 3), jobs, Stop::never()).await;
    let panic = Ended::Report(Err("job 1 panics in step 1".into()));
    assert_eq!(ran.ends(), BTreeMap::from([(0, DONE), (1, panic), (2, DONE)]));
    assert_eq!((ran.summary.finished, ran.summary.panicked), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_does_not_exist_costs_one_job() {
    let jobs = [job(0, [(7, 1)]), job(1, [(0, 1), (1, 1)]), job(2, [(0, 1)])];
    let ran = ran(&config([1], 1), jobs, Stop::never()).await;
    let misplaced = || Ended::Drop(DropCause::NoSuchPool);
    assert_eq!(ran.ends(), BTreeMap::from([(0, misplaced()), (1, misplaced()), (2, DONE)]));
    assert_eq!((ran.summary.finished, ran.summary.misplaced), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn jobs_are_taken_from_the_iterator_only_when_there_is_room() {
    let taken = Cell::new(0);
    let jobs = (0..700_000).map(|id| {
        taken.set(taken.get() + 1);
        job(id, [(0, 10)])
    });
    let (stopper, stop) = crate::stop::channel();
    let drain = async {
        tokio::time::sleep(ms(25)).await;
        stopper.raise(crate::stop::StopLevel::Drain);
    };
    let config = config([2], 5);
    let (ran, ()) = tokio::join!(ran(&config, jobs, stop), drain);
    assert_eq!(ran.summary.finished, 6);
    assert_eq!(taken.get(), 9, "four ended before the stop, and five were in flight");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_jobs_up_and_its_time_is_not_counted_as_work() {
    let (sender, mut receiver) = mpsc::channel(1);
    let read = async {
        let mut events = 0;
        while receiver.recv().await.is_some() {
            events += 1;
            tokio::time::sleep(ms(100)).await;
        }
        events
    };
    let config = config([2], 4);
    let jobs = each((0..10).map(|id| job(id, [(0, 10)])));
    let (summary, events) = tokio::join!(run(&config, &jobs, Stop::never(), sender), read);
    let summary = summary.unwrap();
    assert_eq!(events, 30);
    assert_eq!((summary.pools[0].steps, summary.pools[0].busy), (10, ms(100)));
    assert!(summary.wall > ms(2000), "{:?}", summary.wall);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_gone_holds_nothing_up() {
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let jobs = (0..10).map(|id| job(id, [(0, 10), (1, 10)]));
    let summary = run(&config([1, 1], 4), &each(jobs), Stop::never(), sender).await.unwrap();
    assert_eq!((summary.finished, summary.wall), (10, ms(110)));
}

#[tokio::test(start_paused = true)]
async fn no_jobs_end_at_once() {
    let ran = ran(&config([1], 1), [], Stop::never()).await;
    assert_eq!(ran.summary, Summary::new(1));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the iterator is broken")]
async fn a_panic_of_the_iterator_is_passed_on() {
    let broken = std::iter::from_fn(|| -> Option<SimJob> { panic!("the iterator is broken") });
    ran(&config([1], 1), broken, Stop::never()).await;
}

#[tokio::test]
async fn shapes_that_cannot_run_are_refused() {
    let refused =
        async |config: Config| run(&config, &each([job(0, [(0, 1)])]), Stop::never(), mpsc::channel(1).0).await;
    let no_worker = ConfigError::Workers { pool: "pool 1".into(), workers: 0 };
    assert_eq!(no_worker.to_string(), "pool `pool 1` has 0 workers: give it from 1 to 65536");
    assert_eq!(refused(config([1, 0], 1)).await, Err(no_worker));
    let too_many = ConfigError::Workers { pool: "pool 0".into(), workers: usize::MAX };
    assert_eq!(refused(config([usize::MAX], 1)).await, Err(too_many));
    for in_flight in [0, usize::MAX] {
        assert_eq!(refused(config([1], in_flight)).await, Err(ConfigError::InFlight(in_flight)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_heavy_tailed_mix_ends_close_to_the_lower_bound() {
    // Each pool in turn is the one that all wait for.
    for (seed, workers, in_flight) in [(1, [2, 8, 6], 100), (2, [4, 4, 4], 200), (3, [8, 4, 2], 64)] {
        let config = config(workers, in_flight);
        let jobs = heavy_tailed(seed, 4000, ms(1000), &[0.2, 0.5, 0.3]);
        assert!(jobs.iter().flat_map(SimJob::steps).all(|step| step.end == SimEnd::Report));
        let bound = lower_bound(&config, &jobs);
        let ratio = ran(&config, jobs, Stop::never()).await.wall().div_duration_f64(bound);
        assert!((1.0..=1.02).contains(&ratio), "{ratio} times the bound with {workers:?} workers");
    }
}
