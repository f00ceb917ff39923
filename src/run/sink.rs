//! Events of the engine, passed on: results to the keeper, and every change as a [`RunEvent`].

use std::time::SystemTime;

use tokio::sync::mpsc::Receiver;

use super::error::KeepError;
use super::intake::{CrateEnd, Keeper};
use super::job::{Job, StepReport, Tag};
use super::repetition::{self, History};
use super::tracer::Tracer;
use crate::compare::OpResult;
use crate::event::{EventKind, RunEvent, StepEvent};
use crate::ops::Done;
use crate::outcome::Outcome;
use crate::pipeline::{DropCause, Event, PoolId, Times};
use crate::stop::{Stop, StopLevel, Stopper};
use crate::store::Record;
use crate::trace::TraceError;

/// Where events go.
pub(super) struct Sink<'a, K, E> {
    pub(super) keeper: &'a K,
    pub(super) events: &'a mut E,
    pub(super) tracer: Option<Tracer>,
}

/// The messages that the sink waits for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, taken apart at once")]
enum News {
    Stop(StopLevel),
    Event(Option<Event<Job>>),
}

impl<K: Keeper, E: FnMut(RunEvent)> Sink<'_, K, E> {
    /// Takes all events, to the end of the engine. When a result can't be kept, it raises the stopper.
    pub(super) async fn take_all(
        mut self,
        mut events: Receiver<Event<Job>>,
        stopper: &Stopper,
        stop: &Stop,
    ) -> (Result<(), KeepError>, Option<Tracer>) {
        let mut result = Ok(());
        let mut level = StopLevel::Run;
        loop {
            let news = tokio::select! {
                biased;
                risen = stop.risen_above(level) => News::Stop(risen),
                event = events.recv() => News::Event(event),
            };
            match news {
                News::Stop(risen) => {
                    level = risen;
                    (self.events)(RunEvent::note(in_words(level)));
                }
                News::Event(Some(event)) if result.is_ok() => {
                    result = self.take(event).await;
                    if result.is_err() {
                        stopper.raise(StopLevel::Kill);
                    }
                }
                // Nothing can be kept any more; the engine still has to get rid of its events.
                News::Event(Some(_)) => {}
                News::Event(None) => return (result, self.tracer),
            }
        }
    }

    async fn take(&mut self, event: Event<Job>) -> Result<(), KeepError> {
        match event {
            Event::Queued { tag, pool, at } => {
                self.trace(|tracer| tracer.load(pool, at, |load| load.waiting += 1));
                (self.events)(event_of(&tag, EventKind::Queued(step_of(&tag, pool, None))));
                Ok(())
            }
            Event::Started { tag, pool, worker, at } => {
                self.trace(|tracer| {
                    tracer.load(pool, at, |load| {
                        load.waiting -= 1;
                        load.busy += 1;
                    })
                });
                (self.events)(event_of(&tag, EventKind::Started(step_of(&tag, pool, Some(worker)))));
                Ok(())
            }
            Event::Finished { tag, pool, worker, times, report, last } => {
                let ended = self.finished(&tag, (pool, worker), times, report).await?;
                match last {
                    false => Ok(()),
                    true => self.conclude(&tag, &ended.history, ended.end).await,
                }
            }
            Event::Dropped { tag, pool, cause, at } => {
                match cause {
                    DropCause::Stopped => self.trace(|tracer| tracer.load(pool, at, |load| load.waiting -= 1)),
                    // It was never queued.
                    DropCause::NoSuchPool => {}
                }
                (self.events)(event_of(&tag, EventKind::Dropped(step_of(&tag, pool, None))));
                self.conclude(&tag, &tag.history, CrateEnd::Cut).await
            }
        }
    }

    async fn finished(
        &mut self,
        tag: &Tag,
        (pool, worker): (PoolId, usize),
        times: Times,
        report: Result<StepReport, String>,
    ) -> Result<Ended, KeepError> {
        let StepReport { done, began, wall } = report.unwrap_or_else(|message| {
            let wall = times.finished.duration_since(times.started);
            let done = Done::without_commands(Outcome::Error(format!("maar panicked: {message}")));
            StepReport { done, began: SystemTime::now() - wall, wall }
        });
        let step = step_of(tag, pool, Some(worker));
        self.trace(|tracer| {
            tracer.ended(&tag.task.plan.krate.id.to_string(), &step, worker, times, &done)?;
            tracer.load(pool, times.finished, |load| load.busy -= 1)
        });
        let (outcome, reason) =
            (done.outcome.as_ref().map(Outcome::kind), done.outcome.as_ref().and_then(Outcome::reason));
        (self.events)(event_of(tag, EventKind::Finished { step, outcome, reason, wall }));
        let mut history = History::clone(&tag.history);
        // A stopped op has no result: the next run does it again.
        let Some(outcome) = done.outcome else { return Ok(Ended { history, end: CrateEnd::Cut }) };
        history.add(&tag.task.earlier, &tag.step, &outcome, done.tests.as_ref());
        let result = OpResult {
            outcome,
            started: began,
            wall,
            cpu: done.usage.cpu,
            peak_memory: done.usage.peak_memory,
            waited: times.started.duration_since(times.queued),
            worker,
            units: done.dependencies,
            tests: done.tests,
        };
        let assignment = &tag.task.assignment;
        let toolchain = tag.step.toolchain.map(|index| &assignment.tools.toolchains[index]);
        let record = Record {
            experiment: assignment.experiment.name.clone(),
            step: tag.step.clone(),
            krate: tag.task.plan.krate.id.clone(),
            toolchain: toolchain.map(|toolchain| (toolchain.label().to_owned(), toolchain.identity.clone())),
            result,
            output: done.output,
            lockfile: done.lockfile,
            patched: assignment
                .patched(&tag.step.fingerprint)
                .filter_map(|(place, key)| Some((key, done.patched.get(&place)?.clone())))
                .collect(),
        };
        self.keeper.keep(&tag.task, record).await?;
        Ok(Ended { history, end: CrateEnd::Whole })
    }

    /// Adds to the trace, if there is one. A trace that can't be written any more ends there, and the run goes on.
    fn trace(&mut self, write: impl FnOnce(&mut Tracer) -> Result<(), TraceError>) {
        let Some(tracer) = &mut self.tracer else { return };
        if let Err(error) = write(tracer) {
            self.tracer = None;
            (self.events)(trace_ended(&error));
        }
    }

    /// Reports the verdict of a crate whose last step has ended.
    async fn conclude(&mut self, tag: &Tag, history: &History, end: CrateEnd) -> Result<(), KeepError> {
        let task = &tag.task;
        let toolchains = &task.assignment.tools.toolchains;
        let verdict = repetition::verdict(&task.plan, &task.earlier, history, toolchains);
        let experiment = &task.assignment.experiment.name;
        (self.events)(RunEvent::verdict(experiment, &task.plan.krate.id, verdict, true));
        self.keeper.end(task, end).await
    }
}

/// A step that ended.
struct Ended {
    /// The results of the crate's steps, with this one.
    history: History,
    /// How far the crate came if this was its last step.
    end: CrateEnd,
}

fn in_words(level: StopLevel) -> &'static str {
    match level {
        StopLevel::Run => "running",
        StopLevel::Drain => "stopping: finishing what is running (Ctrl-C again ends it now)",
        StopLevel::Kill => "stopping: ending what is running",
    }
}

/// An event of a crate, now.
fn event_of(tag: &Tag, kind: EventKind) -> RunEvent {
    let task = &tag.task;
    RunEvent {
        at: SystemTime::now(),
        experiment: Some(task.assignment.experiment.name.clone()),
        krate: Some(task.plan.krate.id.to_string()),
        kind,
    }
}

fn step_of(tag: &Tag, pool: PoolId, worker: Option<usize>) -> StepEvent {
    let toolchains = &tag.task.assignment.tools.toolchains;
    StepEvent {
        op: tag.step.op.name().to_string(),
        toolchain: tag.step.toolchain.map(|index| toolchains[index].label().to_owned()),
        attempt: tag.step.attempt,
        pool: pool.0,
        worker,
        activity: tag.activity.clone(),
    }
}

pub(super) fn trace_ended(error: &TraceError) -> RunEvent {
    RunEvent::note(format!("the trace ends here: {error}"))
}
