//! Crates from the server, by long polls: asked for whenever there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bytesize::ByteSize;
use tokio::time::{sleep, timeout};

use super::assignments::Assignments;
use super::client::Backoff;
use super::{Agent, free_space, note};
use crate::run::{Intake, Left, Next, Task};
use crate::stop::{self, Stop, StopLevel};
use crate::wire::{Handouts, Pull, Reason};

/// How much room reports that wait may take until no more crates are asked for.
const MOST_WAITING: ByteSize = ByteSize::gib(5);

/// How much room must be left on the disk.
const LEAST_FREE: ByteSize = ByteSize::gib(2);

/// The pause before asking again while the agent is full.
const NO_ROOM: Duration = Duration::from_secs(5);

/// The intake of the run.
pub(super) struct Leased {
    agent: Arc<Agent>,
    tasks: Receiver<Task>,
    count: Arc<AtomicUsize>,
}

impl Leased {
    /// Hands out the tasks of the channel.
    pub(super) fn new(agent: Arc<Agent>, tasks: Receiver<Task>) -> Self {
        Self { agent, tasks, count: Arc::default() }
    }
}

impl Intake for Leased {
    async fn next(&self) -> Option<Next> {
        let task = self.tasks.recv().await.ok()?;
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(Next { task, left: Left::of(&self.count) })
    }

    fn passed_over(&self, task: &Task) {
        // The server has all results already: its report is for another version of maar to send.
        if let Some(lease) = self.agent.holding.release(task.place) {
            let agent = Arc::clone(&self.agent);
            tokio::spawn(async move {
                let detail = "the crate has no step left here".to_owned();
                agent.give_back(vec![lease], Reason::Incapable, detail).await;
            });
        }
        self.agent.freed.notify_one();
    }
}

/// Asks for crates until a stop, and hands them over.
pub(super) async fn pull(
    agent: Arc<Agent>,
    assignments: Assignments,
    tasks: Sender<Task>,
    in_flight: usize,
    stop: Stop,
) {
    let mut pause = Backoff::default();
    while stop.level() == StopLevel::Run {
        let Some(want) = room(&agent, in_flight) else {
            let woken = timeout(NO_ROOM, agent.freed.notified());
            tokio::select! {
                _ = woken => {}
                () = stop.reached(StopLevel::Drain) => return,
            }
            continue;
        };
        let wait_ms = u64::try_from(agent.welcome.poll().as_millis()).unwrap_or(u64::MAX);
        let message = Pull { want, wait_ms };
        let answered = tokio::select! {
            answered = agent.client.post::<_, Handouts>("jobs", &message) => answered,
            // A handout that is on its way now is lost, and its lease runs out.
            () = stop.reached(StopLevel::Drain) => return,
        };
        match answered {
            Ok(handouts) => {
                pause.reset();
                for handout in handouts.unwrap_or_default().jobs {
                    take(&agent, &assignments, &tasks, handout).await;
                }
            }
            Err(error) => {
                if pause.is_first() {
                    note(&error.to_string());
                }
                tokio::select! {
                    () = sleep(pause.after(&error)) => {}
                    () = stop.reached(StopLevel::Drain) => return,
                }
                // A server that was restored from a copy has forgotten the agent.
                let _ = agent.client.post::<_, serde::de::IgnoredAny>("hello", &agent.hello).await;
            }
        }
    }
}

/// The number of further crates that fit; `None`: the agent is full.
fn room(agent: &Agent, in_flight: usize) -> Option<u32> {
    let room = in_flight.saturating_sub(agent.holding.count());
    let is_full =
        agent.outbox.bytes() > MOST_WAITING.as_u64() || free_space(&agent.bench).is_some_and(|free| free < LEAST_FREE);
    u32::try_from(room).ok().filter(|room| *room > 0 && !is_full)
}

/// Makes a task of a handout, or gives it back.
async fn take(agent: &Arc<Agent>, assignments: &Assignments, tasks: &Sender<Task>, handout: crate::wire::Handout) {
    let (stopper, stop) = stop::channel();
    let slot = agent.holding.take(handout.lease.clone(), stopper);
    match assignments.task(handout, slot, stop).await {
        Ok(task) => {
            // A closed channel means that the run is over: held crates are given back at its end.
            let _ = tasks.send(task).await;
        }
        Err(refusal) => {
            let reason = if refusal.is_for_good() { Reason::Incapable } else { Reason::Busy };
            let lease = agent.holding.release(slot);
            agent.give_back(lease.into_iter().collect(), reason, refusal.to_string()).await;
        }
    }
}
