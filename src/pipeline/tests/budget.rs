//! Which steps run together when steps have a weight, or the host is hard pressed.

use tokio::sync::watch;

use super::super::Pressure;
use super::*;
use crate::stop::StopLevel;

/// A job of one step in the first pool.
fn weighing(id: usize, weight: u64, millis: u64) -> SimJob {
    SimJob::new(id, SimStep::new(0, millis).weighs(weight), [])
}

fn budget(budget: u64, workers: usize) -> Config {
    Config { budget, ..config([workers], 100) }
}

/// When each job started, in milliseconds, by job.
fn started(ran: &Ran) -> Vec<u64> {
    let starts: BTreeMap<usize, u64> = ran.starts().into_iter().map(|(job, _, at)| (job, at)).collect();
    starts.into_values().collect()
}

#[tokio::test(start_paused = true)]
async fn steps_run_together_as_far_as_the_budget_goes() {
    let ran = ran(&budget(10, 8), (0..6).map(|id| weighing(id, 4, 10)), Stop::never()).await;
    assert_eq!(started(&ran), [0, 0, 10, 10, 20, 20]);
    assert_eq!(ran.summary.pools[0].held, ms(2 * 10 + 2 * 20));
}

#[tokio::test(start_paused = true)]
async fn a_step_heavier_than_the_budget_runs_alone() {
    let jobs = [weighing(0, 1, 10), weighing(1, 999, 10), weighing(2, 1, 10)];
    assert_eq!(started(&ran(&budget(10, 8), jobs, Stop::never()).await), [0, 10, 20]);
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_nothing_runs_one_step_after_another() {
    let jobs = (0..3).map(|id| weighing(id, 7, 10));
    assert_eq!(ran(&budget(0, 8), jobs, Stop::never()).await.summary.finished, 3);
}

#[tokio::test(start_paused = true)]
async fn a_heavy_step_is_not_overtaken_for_ever() {
    let mut jobs: Vec<_> = (0..100).map(|id| weighing(id, 1, 10)).collect();
    jobs.insert(2, weighing(100, 10, 10));
    let ran = ran(&budget(10, 4), jobs, Stop::never()).await;
    assert_eq!(started(&ran)[100], 10);
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_its_share_back() {
    let panics = SimJob::new(0, SimStep::new(0, 10).weighs(10).panics(), []);
    let ran = ran(&budget(10, 2), [panics, weighing(1, 10, 10)], Stop::never()).await;
    assert_eq!(started(&ran), [0, 10]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_budget_is_dropped_at_a_stop() {
    let (stopper, stop) = crate::stop::channel();
    let drain = async {
        tokio::time::sleep(ms(5)).await;
        stopper.raise(StopLevel::Drain);
    };
    let config = budget(1, 4);
    let (ran, ()) = tokio::join!(ran(&config, (0..4).map(|id| weighing(id, 1, 10)), stop), drain);
    assert_eq!((ran.summary.finished, ran.summary.stopped, ran.wall()), (1, 3, ms(10)));
}

#[tokio::test(start_paused = true)]
async fn a_pressed_host_gets_one_step_at_a_time_until_the_pressure_is_gone() {
    let (sender, pressure) = watch::channel(Pressure::High);
    let config = Config { pressure, ..config([4], 100) };
    let ease = async {
        tokio::time::sleep(ms(15)).await;
        sender.send_replace(Pressure::Low);
        // Kept to the end: a watcher that is gone counts as no pressure.
        tokio::time::sleep(ms(100)).await;
    };
    let (ran, ()) = tokio::join!(ran(&config, (0..6).map(|id| weighing(id, 0, 10)), Stop::never()), ease);
    assert_eq!(started(&ran), [0, 10, 15, 15, 15, 20]);
}

#[tokio::test(start_paused = true)]
async fn pressure_that_nobody_watches_any_more_holds_nothing_back() {
    let (sender, pressure) = watch::channel(Pressure::High);
    drop(sender);
    let config = Config { pressure, ..config([4], 100) };
    assert_eq!(ran(&config, (0..4).map(|id| weighing(id, 0, 10)), Stop::never()).await.wall(), ms(10));
}
