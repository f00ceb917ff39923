//! Sources that take their time, and the ends of jobs that reach them.

use std::cell::RefCell;

use super::super::{JobEnd, Source};
use super::*;
use crate::stop::{StopLevel, channel};

/// Jobs from a channel that another task fills, and a note of each job's end: the parts of a source over the network.
struct Leased {
    jobs: async_channel::Receiver<SimJob>,
    ended: RefCell<Vec<(usize, JobEnd)>>,
}

impl Source for Leased {
    type Work = SimJob;

    async fn next(&self) -> Option<SimJob> {
        self.jobs.recv().await.ok()
    }

    fn ended(&self, tag: &SimTag, end: JobEnd) {
        self.ended.borrow_mut().push((tag.job, end));
    }
}

fn leased(capacity: usize) -> (async_channel::Sender<SimJob>, Leased) {
    let (sender, jobs) = async_channel::bounded(capacity);
    (sender, Leased { jobs, ended: RefCell::default() })
}

/// Runs the jobs of a source while something else happens.
async fn ran_beside(config: &Config, source: &Leased, stop: Stop, beside: impl Future<Output = ()>) -> Summary {
    let (sender, mut events) = mpsc::channel(4);
    let read = async { while events.recv().await.is_some() {} };
    tokio::join!(run(config, source, stop, sender), read, beside).0.unwrap()
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_slow_source_run_as_they_come() {
    let (sender, source) = leased(1);
    let fill = async {
        for id in 0..3 {
            tokio::time::sleep(ms(100)).await;
            sender.send(job(id, [(0, 10)])).await.unwrap();
        }
        drop(sender);
    };
    let summary = ran_beside(&config([1], 5), &source, Stop::never(), fill).await;
    assert_eq!((summary.finished, summary.wall), (3, ms(310)));
    assert_eq!(source.ended.into_inner(), [0, 1, 2].map(|job| (job, JobEnd::Finished)));
}

#[tokio::test(start_paused = true)]
async fn a_source_learns_of_an_end_while_it_waits_for_the_next_job() {
    let (sender, source) = leased(1);
    let watch = async {
        sender.send(job(0, [(0, 10)])).await.unwrap();
        tokio::time::sleep(ms(20)).await;
        assert_eq!(*source.ended.borrow(), [(0, JobEnd::Finished)]);
        drop(sender);
    };
    ran_beside(&config([1], 5), &source, Stop::never(), watch).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_a_source_that_has_no_job() {
    let (sender, source) = leased(1);
    let (stopper, stop) = channel();
    let drain = async {
        tokio::time::sleep(ms(50)).await;
        stopper.raise(StopLevel::Drain);
    };
    let summary = ran_beside(&config([1], 5), &source, stop, drain).await;
    assert_eq!((summary.admitted, summary.wall), (0, ms(50)));
    drop(sender);
}

#[tokio::test(start_paused = true)]
async fn every_way_to_end_is_told_once() {
    let (sender, source) = leased(9);
    let panics = SimJob::new(1, SimStep::new(0, 1).panics(), []);
    for job in [job(0, [(0, 1), (0, 1)]), panics, job(2, [(7, 1)]), job(3, [(0, 1000)]), job(4, [(0, 1)])] {
        sender.send(job).await.unwrap();
    }
    let (stopper, stop) = channel();
    let drain = async {
        tokio::time::sleep(ms(100)).await;
        sender.send(job(5, [(0, 1)])).await.unwrap();
        tokio::time::sleep(ms(100)).await;
        stopper.raise(StopLevel::Drain);
    };
    let config = config([1], 2);
    ran_beside(&config, &source, stop, drain).await;
    let mut ended = source.ended.into_inner();
    ended.sort_by_key(|(job, _)| *job);
    let expected = [JobEnd::Finished, JobEnd::Panicked, JobEnd::Misplaced, JobEnd::Finished, JobEnd::Stopped];
    assert_eq!(ended, expected.into_iter().enumerate().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_last_end_is_told_before_the_run_returns() {
    for workers in 1..5 {
        let (sender, source) = leased(20);
        for id in 0..20 {
            sender.send(job(id, [(0, 10)])).await.unwrap();
        }
        drop(sender);
        ran_beside(&config([workers], 20), &source, Stop::never(), async {}).await;
        assert_eq!(source.ended.into_inner().len(), 20);
    }
}
