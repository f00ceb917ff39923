//! The engine: admission, the workers of all pools, and the end.
//!
//! Shares nothing but the queues. Each worker keeps its own counts until it ends. Nothing sleeps and nothing polls.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::budget::Budget;
use super::guard::guard;
use super::queue::Queue;
use super::source::{JobEnd, Source};
use super::{Config, ConfigError, DropCause, Event, PoolId, Stepped, Summary, Times, Work};
use crate::stop::{Stop, StopLevel};

/// Runs jobs to their ends and returns the counts and times of the pools.
///
/// Jobs are taken from the source one by one, each only when fewer than `in_flight` are in the pipeline, and the source
/// is told of the end of each before this returns. At [`StopLevel::Drain`] no job is admitted and no step started any more, jobs that wait are dropped, and steps that run
/// are awaited; at [`StopLevel::Kill`] the steps end themselves early.
///
/// The caller must read the events while the engine runs: a full channel blocks it. A channel without a reader doesn't.
/// Dropping the future drops the steps that run: end early through `stop` instead.
///
/// # Errors
/// A pool without workers, or no job allowed in flight; nothing has run then.
///
/// # Panics
/// Passes on a panic of the source, of a job that is asked for its first step, and of a job's `drop`. All
/// other panics of a job, in a step or when it is asked for its next one, cost that job alone.
pub async fn run<I: Source>(
    config: &Config,
    source: &I,
    stop: Stop,
    events: Sender<Event<I::Work>>,
) -> Result<Summary, ConfigError> {
    let in_flight = config.check()?;
    let begun = Instant::now();
    let queues = config.pools.iter().map(|_| Queue::new()).collect();
    let budget = Budget::new(config.budget, config.pressure.clone());
    let (ends, mut ended) = unbounded_channel();
    let pipeline = Arc::new(Pipeline { queues, budget, stop, events, ends });

    let mut workers = JoinSet::new();
    for (pool, shape) in config.pools.iter().enumerate() {
        for worker in 0..shape.workers {
            workers.spawn(Arc::clone(&pipeline).work(PoolId(pool), worker));
        }
    }

    let mut summary = Summary::new(config.pools.len());
    tokio::select! {
        biased;
        () = pipeline.feed(source, in_flight, &mut summary) => {}
        // Queues are still open, so only a panic can have ended a worker, and its pool may have no other.
        Some(Err(error)) = workers.join_next() => std::panic::resume_unwind(error.into_panic()),
        () = pass_on(source, &mut ended) => unreachable!("the pipeline keeps a sender"),
    }
    pipeline.queues.iter().for_each(Queue::close);
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(theirs) => summary.absorb(&theirs),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    while let Ok((tag, end)) = ended.try_recv() {
        source.ended(&tag, end);
    }
    summary.wall = begun.elapsed();
    Ok(summary)
}

/// Tells the source of the ends of jobs, as they come.
async fn pass_on<I: Source>(source: &I, ended: &mut UnboundedReceiver<Ended<I::Work>>) {
    while let Some((tag, end)) = ended.recv().await {
        source.ended(&tag, end);
    }
}

/// The last step of a job that has ended, and how.
type Ended<W> = (<W as Work>::Tag, JobEnd);

/// What admission and all workers share.
struct Pipeline<W: Work> {
    queues: Vec<Queue<Waiting<W>>>,
    budget: Budget,
    stop: Stop,
    events: Sender<Event<W>>,
    /// For the source, which is not the workers' to call. At most one for each job in flight, and soon read.
    ends: UnboundedSender<Ended<W>>,
}

/// A job that waits for its next step.
struct Waiting<W: Work> {
    step: Next<W>,
    queued: Instant,
    permit: OwnedSemaphorePermit,
}

/// A job, and all the engine wants to know of its next step.
struct Next<W: Work> {
    work: W,
    tag: W::Tag,
    pool: PoolId,
    priority: u64,
    weight: u64,
}

impl<W: Work> Next<W> {
    fn of(work: W) -> Self {
        Self { tag: work.tag(), pool: work.pool(), priority: work.priority(), weight: work.weight(), work }
    }
}

impl<W: Work> Pipeline<W> {
    /// Admits jobs, and returns when all that were admitted have ended.
    async fn feed(&self, source: &impl Source<Work = W>, in_flight: u32, summary: &mut Summary) {
        let permits = Arc::new(Semaphore::new(in_flight as usize));
        let mut stopping = pin!(self.stop.reached(StopLevel::Drain));
        loop {
            let permit = tokio::select! {
                biased;
                () = &mut stopping => break,
                Ok(permit) = Arc::clone(&permits).acquire_owned() => permit,
            };
            let work = tokio::select! {
                biased;
                () = &mut stopping => break,
                work = source.next() => work,
            };
            let Some(work) = work else { break };
            summary.admitted += 1;
            self.enqueue(Next::of(work), permit, summary).await;
        }

        // A job holds its permit to its end, so no job is left once all permits are back.
        let mut ended = pin!(permits.acquire_many(in_flight));
        tokio::select! {
            biased;
            _ = &mut ended => return,
            () = self.stop.reached(StopLevel::Drain) => {}
        }
        for queue in &self.queues {
            self.sweep(queue, summary).await;
        }
        let _ = ended.await;
    }

    /// One worker: runs step after step until its queue is closed.
    async fn work(self: Arc<Self>, pool: PoolId, worker: usize) -> Summary {
        let mut summary = Summary::new(self.queues.len());
        let queue = &self.queues[pool.0];
        while let Some(waiting) = queue.take().await {
            self.run_step(waiting, worker, &mut summary).await;
        }
        summary
    }

    async fn run_step(&self, waiting: Waiting<W>, worker: usize, summary: &mut Summary) {
        let taken = Instant::now();
        let share = tokio::select! {
            biased;
            share = self.budget.take(waiting.step.weight) => share,
            () = self.stop.reached(StopLevel::Drain) => return self.discard(waiting, summary).await,
        };
        let held = taken.elapsed();
        // Reserve room for the event first: the wait for a slow reader is not the step's time, and a stop may arrive in
        // it.
        let room = self.events.reserve().await;
        if self.is_stopping() {
            drop(room);
            return self.discard(waiting, summary).await;
        }
        let Waiting { step: Next { work, tag, pool, .. }, queued, permit } = waiting;
        let started = Instant::now();
        if let Ok(room) = room {
            room.send(Event::Started { tag: tag.clone(), pool, worker, at: started });
        }

        let stop = self.stop.clone();
        let ended = guard(async move {
            let Stepped { report, next } = work.step(stop).await;
            (report, next.map(Next::of))
        })
        .await;
        let finished = Instant::now();
        drop(share);

        let counted = &mut summary.pools[pool.0];
        counted.steps += 1;
        counted.busy += finished - started;
        counted.waited += started - queued;
        counted.held += held;
        let (report, next) = match ended {
            Ok((report, next)) => (Ok(report), next),
            Err(panic) => (Err(panic), None),
        };
        let end = match (&report, &next) {
            (Ok(_), Some(_)) => None,
            (Ok(_), None) => {
                summary.finished += 1;
                Some((tag.clone(), JobEnd::Finished))
            }
            (Err(_), _) => {
                summary.panicked += 1;
                Some((tag.clone(), JobEnd::Panicked))
            }
        };
        let times = Times { queued, started, finished };
        self.tell(Event::Finished { tag, pool, worker, times, report, last: next.is_none() }).await;
        self.ended(end);
        if let Some(next) = next {
            self.enqueue(next, permit, summary).await;
        }
    }

    /// Puts a job in the queue that its next step waits in.
    async fn enqueue(&self, step: Next<W>, permit: OwnedSemaphorePermit, summary: &mut Summary) {
        let Some(queue) = self.queues.get(step.pool.0) else {
            summary.misplaced += 1;
            return self.end(step, DropCause::NoSuchPool).await;
        };
        let (tag, pool, priority) = (step.tag.clone(), step.pool, step.priority);
        let queued = Instant::now();
        self.tell(Event::Queued { tag, pool, at: queued }).await;
        queue.push(priority, Waiting { step, queued, permit });
        // A stop that came before the push has already swept the queue.
        if self.is_stopping() {
            self.sweep(queue, summary).await;
        }
    }

    /// Drops what waits in a queue, so that it doesn't hold its disk until a busy worker comes by.
    async fn sweep(&self, queue: &Queue<Waiting<W>>, summary: &mut Summary) {
        while let Some(waiting) = queue.try_take() {
            self.discard(waiting, summary).await;
        }
    }

    async fn discard(&self, waiting: Waiting<W>, summary: &mut Summary) {
        let Waiting { step, queued: _, permit: _permit } = waiting;
        summary.stopped += 1;
        self.end(step, DropCause::Stopped).await;
    }

    async fn end(&self, step: Next<W>, cause: DropCause) {
        let Next { work, tag, pool, .. } = step;
        drop(work);
        let end = match cause {
            DropCause::Stopped => JobEnd::Stopped,
            DropCause::NoSuchPool => JobEnd::Misplaced,
        };
        let ended = (tag.clone(), end);
        self.tell(Event::Dropped { tag, pool, cause, at: Instant::now() }).await;
        self.ended(Some(ended));
    }

    fn ended(&self, end: Option<Ended<W>>) {
        // Without a receiver the engine itself is being dropped.
        let _ = end.map(|end| self.ends.send(end));
    }

    async fn tell(&self, event: Event<W>) {
        // A reader that is gone has stopped caring; the work goes on.
        let _ = self.events.send(event).await;
    }

    fn is_stopping(&self) -> bool {
        self.stop.level() >= StopLevel::Drain
    }
}
