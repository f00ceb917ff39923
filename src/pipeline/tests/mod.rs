//! The engine on simulated work and the paused clock: the rules that hold in every run, and tools to watch one.

mod budget;
mod flow;
mod random;
mod source;
mod stop;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::sim::{SimJob, SimReport, SimStep, SimTag};
use super::{Config, DropCause, Event, Pool, Summary, each, run};
use crate::stop::Stop;

/// A run that is over.
struct Ran {
    began: Instant,
    events: Vec<Event<SimJob>>,
    summary: Summary,
}

fn config<const N: usize>(workers: [usize; N], in_flight: usize) -> Config {
    let pool = |(index, workers)| Pool { name: format!("pool {index}"), workers };
    Config::new(workers.into_iter().enumerate().map(pool).collect(), in_flight)
}

/// A job of steps given as (pool, milliseconds).
fn job<const N: usize>(id: usize, steps: [(usize, u64); N]) -> SimJob {
    let mut steps = steps.into_iter().map(|(pool, millis)| SimStep::new(pool, millis));
    SimJob::new(id, steps.next().unwrap(), steps)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs jobs to the end and checks all that must hold in every run.
async fn ran(config: &Config, jobs: impl IntoIterator<Item = SimJob>, stop: Stop) -> Ran {
    let (sender, mut receiver) = mpsc::channel(4);
    let began = Instant::now();
    let read = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let jobs = each(jobs);
    let (summary, events) = tokio::join!(run(config, &jobs, stop, sender), read);
    let ran = Ran { began, events, summary: summary.unwrap() };
    check_invariants(config, &ran);
    ran
}

impl Ran {
    fn wall(&self) -> Duration {
        self.summary.wall
    }

    /// The steps that started, with the milliseconds when they did, in order.
    fn starts(&self) -> Vec<(usize, usize, u64)> {
        let start = |event: &Event<SimJob>| match event {
            Event::Started { tag, at, .. } => Some((tag.job, tag.step, (*at - self.began).as_millis() as u64)),
            Event::Queued { .. } | Event::Finished { .. } | Event::Dropped { .. } => None,
        };
        self.events.iter().filter_map(start).collect()
    }

    /// The last event of each job.
    fn ends(&self) -> BTreeMap<usize, Ended> {
        let end = |event: &Event<SimJob>| match event {
            Event::Finished { tag, report, last: true, .. } => Some((tag.job, Ended::Report(report.clone()))),
            Event::Dropped { tag, cause, .. } => Some((tag.job, Ended::Drop(*cause))),
            Event::Queued { .. } | Event::Started { .. } | Event::Finished { .. } => None,
        };
        self.events.iter().filter_map(end).collect()
    }
}

#[derive(Debug, PartialEq)]
enum Ended {
    Report(Result<SimReport, String>),
    Drop(DropCause),
}

/// Where a job is, as its events tell.
#[derive(Debug, PartialEq)]
enum State {
    Queued(SimTag),
    Running(SimTag),
    Between,
    Ended,
}

fn check_invariants(config: &Config, ran: &Ran) {
    let mut jobs = BTreeMap::new();
    let mut busy = BTreeMap::new();
    let mut counted = Summary { wall: ran.summary.wall, ..Summary::new(config.pools.len()) };
    for event in &ran.events {
        match event {
            Event::Queued { tag, .. } => {
                let before = jobs.insert(tag.job, State::Queued(*tag));
                assert!(matches!((before, tag.step), (None, 0) | (Some(State::Between), 1..)), "{event:?}");
                counted.admitted += u64::from(tag.step == 0);
            }
            Event::Started { tag, pool, worker, .. } => {
                assert_eq!(jobs.insert(tag.job, State::Running(*tag)), Some(State::Queued(*tag)), "{event:?}");
                assert!(*worker < config.pools[pool.0].workers, "{event:?}");
                assert_eq!(busy.insert((*pool, *worker), *tag), None, "{event:?}: the worker has a step already");
            }
            Event::Finished { tag, pool, worker, times, report, last } => {
                let now = if *last { State::Ended } else { State::Between };
                assert_eq!(jobs.insert(tag.job, now), Some(State::Running(*tag)), "{event:?}");
                assert_eq!(busy.remove(&(*pool, *worker)), Some(*tag), "{event:?}");
                assert!(times.queued <= times.started && times.started <= times.finished, "{event:?}");
                counted.pools[pool.0].steps += 1;
                counted.pools[pool.0].busy += times.finished - times.started;
                counted.pools[pool.0].waited += times.started - times.queued;
                counted.panicked += u64::from(report.is_err());
                counted.finished += u64::from(report.is_ok() && *last);
            }
            Event::Dropped { tag, pool, cause, .. } => {
                let before = jobs.insert(tag.job, State::Ended);
                match cause {
                    DropCause::Stopped => assert_eq!(before, Some(State::Queued(*tag)), "{event:?}"),
                    DropCause::NoSuchPool => assert!(matches!(before, None | Some(State::Between)), "{event:?}"),
                }
                assert_eq!(config.pools.len() <= pool.0, *cause == DropCause::NoSuchPool, "{event:?}");
                counted.admitted += u64::from(before.is_none());
                counted.stopped += u64::from(*cause == DropCause::Stopped);
                counted.misplaced += u64::from(*cause == DropCause::NoSuchPool);
            }
        }
        let in_flight = counted.admitted - counted.finished - counted.panicked - counted.stopped - counted.misplaced;
        assert!(in_flight <= config.in_flight as u64, "{in_flight} jobs in flight after {event:?}");
    }
    assert!(jobs.values().all(|state| *state == State::Ended), "not all jobs ended: {jobs:?}");
    for (counted, theirs) in counted.pools.iter_mut().zip(&ran.summary.pools) {
        // The wait for the budget is not in the events.
        assert!(theirs.held <= theirs.waited, "{theirs:?}");
        counted.held = theirs.held;
    }
    assert_eq!(counted, ran.summary);
}
