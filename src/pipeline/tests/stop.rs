//! How jobs end when everything is to stop.

use super::super::{PoolId, Stepped, Work};
use super::*;
use crate::stop::{StopLevel, channel};

/// Raises the level at a time, in milliseconds, while jobs run.
async fn stopped(config: &Config, jobs: impl IntoIterator<Item = SimJob>, stops: &[(u64, StopLevel)]) -> Ran {
    let (stopper, stop) = channel();
    let raise = async {
        let mut now = 0;
        for (at, level) in stops {
            tokio::time::sleep(ms(at - now)).await;
            now = *at;
            stopper.raise(*level);
        }
    };
    tokio::join!(ran(config, jobs, stop), raise).0
}

fn dropped_at(ran: &Ran) -> Vec<(usize, u64)> {
    let dropped = |event: &Event<SimJob>| match event {
        Event::Dropped { tag, at, cause: DropCause::Stopped, .. } => {
            Some((tag.job, (*at - ran.began).as_millis() as u64))
        }
        Event::Dropped { .. } | Event::Queued { .. } | Event::Started { .. } | Event::Finished { .. } => None,
    };
    ran.events.iter().filter_map(dropped).collect()
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_runs_and_drops_what_waits_at_once() {
    let jobs = (0..10).map(|id| job(id, [(0, 100)]));
    let ran = stopped(&config([1], 3), jobs, &[(50, StopLevel::Drain)]).await;
    assert_eq!(ran.starts(), [(0, 0, 0)]);
    assert_eq!(ran.ends()[&0], Ended::Report(Ok(SimReport::Done)));
    assert_eq!(dropped_at(&ran), [(1, 50), (2, 50)]);
    assert_eq!((ran.summary.admitted, ran.wall()), (3, ms(100)));
}

#[tokio::test(start_paused = true)]
async fn a_drain_starts_no_later_step_and_frees_it_though_its_pool_is_busy() {
    let jobs = [job(0, [(0, 60), (1, 60)]), job(1, [(1, 100)])];
    let ran = stopped(&config([1, 1], 2), jobs, &[(50, StopLevel::Drain)]).await;
    assert_eq!(ran.starts(), [(0, 0, 0), (1, 0, 0)]);
    assert_eq!(dropped_at(&ran), [(0, 60)]);
    assert_eq!(ran.wall(), ms(100));
}

#[tokio::test(start_paused = true)]
async fn a_kill_tells_what_runs() {
    let jobs = (0..10).map(|id| job(id, [(0, 100), (0, 100)]));
    let ran = stopped(&config([1], 3), jobs, &[(50, StopLevel::Kill)]).await;
    assert_eq!(ran.ends()[&0], Ended::Report(Ok(SimReport::Killed)));
    assert_eq!(dropped_at(&ran), [(1, 50), (2, 50)]);
    assert_eq!(ran.wall(), ms(50));
}

#[tokio::test(start_paused = true)]
async fn a_kill_may_follow_a_drain() {
    let jobs = (0..10).map(|id| job(id, [(0, 100)]));
    let ran = stopped(&config([2], 2), jobs, &[(30, StopLevel::Drain), (70, StopLevel::Kill)]).await;
    assert_eq!((ran.summary.admitted, ran.wall()), (2, ms(70)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_after_the_last_admission_still_drops_what_waits() {
    let jobs = (0..5).map(|id| job(id, [(0, 100)]));
    let ran = stopped(&config([1], 9), jobs, &[(150, StopLevel::Drain)]).await;
    assert_eq!((ran.summary.finished, ran.summary.stopped, ran.wall()), (2, 3, ms(200)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_admits_nothing() {
    let (stopper, stop) = channel();
    stopper.raise(StopLevel::Drain);
    let ran = ran(&config([1], 1), [job(0, [(0, 1)])], stop).await;
    assert_eq!(ran.summary, Summary::new(1));
}

/// Work that can't be dropped without a panic.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("the drop of a job panics");
    }
}

impl Work for Grenade {
    type Report = ();
    type Tag = ();

    fn pool(&self) -> PoolId {
        PoolId(0)
    }

    fn tag(&self) {}

    fn priority(&self) -> u64 {
        0
    }

    async fn step(self, _: Stop) -> Stepped<Self> {
        tokio::time::sleep(ms(10)).await;
        Stepped { report: (), next: Some(self) }
    }
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the drop of a job panics")]
async fn a_worker_that_dies_is_not_waited_for() {
    let (stopper, stop) = channel();
    let (sender, _receiver) = mpsc::channel(9);
    let drain = async {
        tokio::time::sleep(ms(5)).await;
        stopper.raise(StopLevel::Drain);
    };
    let (config, jobs) = (config([1], 1), each([Grenade]));
    let _ = tokio::join!(run(&config, &jobs, stop, sender), drain);
}
