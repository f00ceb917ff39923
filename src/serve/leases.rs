//! The dispatcher: hands jobs out, keeps leases alive, and takes jobs back.
//!
//! Decisions are those of `dispatch`, which is pure; queues and the times of leases are the engine's; the truth is the
//! database's. So every delivered job is looked up before it is handed out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::content::{Content, longest, poisoned};
use super::database::Database;
use super::problem::{Kind, Problem};
use super::state::{log, note};
use crate::dispatch::{Candidate, Desk, Facts, Held, SUSPECT_DELAY, Shares, Verdict, allot, decide, lacking};
use crate::experiment::{Experiment, Needs};
use crate::krate::CrateName;
use crate::lease::{Claims, Engine, JobId, Key, Lane, NatsError, Queue, Receipt, Taken};
use crate::ops::OpName;
use crate::store::StoreError;
use crate::store::service::{AgentRecord, JobFacts, JobKey, Running};
use crate::toolchain::Toolchain;
use crate::wire::{Assigned, Expected, Handout, Hello, Lease, Reason};

/// How often a pull that waits looks at the queues.
const LOOK: Duration = Duration::from_secs(2);

/// The expected cost of a crate before its first report, in core-seconds.
const COST: f64 = 60.0;

/// The times of the dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How long a lease lasts without a renewal.
    pub lease: Duration,
    /// How often agents renew.
    pub renew: Duration,
    /// How long a pull may wait.
    pub poll: Duration,
    /// How often the sweep looks for jobs that the engine lost.
    pub sweep: Duration,
    /// How long nothing is handed out after a start, so that holders renew first.
    pub grace: Duration,
}

/// Hands jobs out.
#[derive(Debug, Clone)]
pub struct Dispatcher(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) database: Database,
    pub(super) engine: Engine,
    pub(super) times: Times,
    key: Key,
    /// The most crates that one agent may have.
    cap: u32,
    started: Instant,
    state: Mutex<State>,
    /// Wakes pulls that wait, the feeder and the sweep.
    woken: Notify,
}

/// The server's state in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) desk: Desk,
    shares: Shares,
    /// Agents that refused an experiment for good.
    pub(super) incapable: HashSet<(u32, u32, u32)>,
    /// Agents, by their numbers: how much memory each has, and when it was heard of.
    pub(super) agents: HashMap<u32, (ByteSize, Instant)>,
    /// Since when a queue that is asked delivers nothing.
    pub(super) quiet: HashMap<Queue, Instant>,
    /// Experiments as agents get them.
    assigned: HashMap<(u32, u32), Arc<Assigned>>,
    /// What ops took before, by their crates, as of when the experiment was first handed out.
    costs: HashMap<(u32, u32), Arc<Costs>>,
}

/// What ops took before, by their crates.
type Costs = HashMap<CrateName, BTreeMap<OpName, Expected>>;

/// An agent that makes a request.
#[derive(Debug, Clone)]
pub struct Agent {
    /// As the database has it.
    pub record: AgentRecord,
    /// Its last introduction.
    pub hello: Hello,
}

impl Dispatcher {
    /// A dispatcher over an engine. `secret` seals the leases.
    pub(super) fn new(database: Database, engine: Engine, secret: &[u8; 32], times: Times, cap: u32) -> Self {
        Self(Arc::new(Inner {
            database,
            engine,
            times,
            key: Key::new(secret),
            cap,
            started: Instant::now(),
            state: Mutex::default(),
            woken: Notify::new(),
        }))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// What seals the leases.
    pub(super) fn key(&self) -> &Key {
        &self.0.key
    }

    /// The times that agents keep to.
    pub fn times(&self) -> Times {
        self.0.times
    }

    /// How many crates an agent may have at a time.
    pub fn cap(&self) -> u32 {
        self.0.cap
    }

    /// Wakes everything that waits for jobs.
    pub fn wake(&self) {
        self.0.woken.notify_waiters();
    }

    /// Waits for a wake, or until so much time has passed.
    pub(super) async fn woken(&self, most: Duration) {
        let _ = timeout_at(Instant::now() + most, self.0.woken.notified()).await;
    }

    /// Notes an agent's introduction: it may have been mended since it refused an experiment.
    pub fn introduced(&self, agent: &Agent) {
        let mut state = self.state();
        state.incapable.retain(|(of, ..)| *of != agent.record.id);
        state.agents.insert(agent.record.id, (agent.hello.memory.unwrap_or_default(), Instant::now()));
    }

    /// Jobs for an agent, at most `want`; waits for the first until `wait` has passed.
    pub async fn pull(&self, agent: &Agent, want: u32, wait: Duration) -> Result<Vec<Handout>, Problem> {
        let deadline = Instant::now() + wait.min(self.0.times.poll);
        loop {
            let woken = self.0.woken.notified();
            let quiet_until = self.0.started + self.0.times.grace;
            if Instant::now() >= quiet_until {
                let handouts = self.take_whole(agent, want).await?;
                if !handouts.is_empty() || Instant::now() >= deadline {
                    return Ok(handouts);
                }
            } else if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            tokio::select! {
                () = woken => {}
                () = sleep_until(deadline.min(Instant::now() + LOOK)) => {}
            }
        }
    }

    /// Takes jobs in a separate task: an agent that hangs up in between must not leave jobs without a holder.
    async fn take_whole(&self, agent: &Agent, want: u32) -> Result<Vec<Handout>, Problem> {
        let (sender, receiver) = oneshot::channel();
        let (dispatcher, agent) = (self.clone(), agent.clone());
        tokio::spawn(async move {
            let taken = dispatcher.take(&agent, want).await;
            if let Err(Ok(handouts)) = sender.send(taken) {
                let leases = handouts.into_iter().map(|handout| handout.lease).collect();
                // Should this fail, the leases run out.
                let _ = dispatcher.give_back(&agent, leases, Reason::Busy).await;
            }
        });
        receiver.await.unwrap_or_else(|_| Err(Problem::new(Kind::Internal, "handing out jobs panicked")))
    }

    async fn take(&self, agent: &Agent, want: u32) -> Result<Vec<Handout>, Problem> {
        let running = self.0.database.with(|store| store.handed_out()).await?;
        let mut candidates = self.candidates(agent, &running);
        let room = self.room(agent.record.id);
        let mut left = want.min(room) as usize;
        let mut handouts = Vec::new();
        while left > 0 {
            let allotted = allot(&candidates, left);
            if allotted.is_empty() {
                break;
            }
            for (queue, count) in allotted {
                let taken = self.0.engine.take(queue, count).await.map_err(unavailable)?;
                self.note_delivery(queue, !taken.is_empty());
                if taken.len() < count {
                    forget_lane(&mut candidates, queue);
                }
                for taken in taken {
                    if let Some(handout) = self.handle(agent, &running, taken).await? {
                        handouts.push(handout);
                        left = left.saturating_sub(1);
                    }
                }
            }
        }
        Ok(handouts)
    }

    /// The experiments that an agent may work on, with their shares so far.
    fn candidates(&self, agent: &Agent, running: &[Running]) -> Vec<Candidate> {
        let mut state = self.state();
        let is_largest = state.is_largest(agent);
        let able = running.iter().filter(|of| {
            let needs: Needs = serde_json::from_str(&of.needs).unwrap_or_default();
            let refused = state.incapable.contains(&(agent.record.id, of.id, of.generation));
            !refused && lacking(&needs, &agent.hello).is_none()
        });
        let able: Vec<&Running> = able.collect();
        for of in running {
            state.shares.join(of.id, of.weight);
        }
        let lanes = if is_largest { vec![Lane::Big, Lane::Std] } else { vec![Lane::Std] };
        let candidate = |of: &&Running| Candidate {
            experiment: of.id,
            generation: of.generation,
            priority: of.priority,
            weight: of.weight,
            had: state.shares.had(of.id),
            cost: COST,
            lanes: lanes.clone(),
        };
        able.iter().map(candidate).collect()
    }

    /// How many more crates an agent may have.
    fn room(&self, agent: u32) -> u32 {
        let held = self.state().desk.jobs_of(agent, Instant::now(), self.0.times.lease).len();
        self.0.cap.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX))
    }

    fn note_delivery(&self, queue: Queue, delivered: bool) {
        let mut state = self.state();
        if delivered {
            state.quiet.remove(&queue);
        } else {
            state.quiet.entry(queue).or_insert_with(Instant::now);
        }
    }

    /// Decides about a job that was delivered, and makes a handout of it if it is to be run.
    async fn handle(&self, agent: &Agent, running: &[Running], taken: Taken) -> Result<Option<Handout>, Problem> {
        let Taken { job, receipt } = taken;
        let number = agent.record.id;
        let facts = self.0.database.with(move |store| store.job_facts(key(job))).await?;
        let verdict = {
            let mut state = self.state();
            let (now, lease) = (Instant::now(), self.0.times.lease);
            let open = facts.open.map(|(handout, agent, _)| (handout, agent));
            let losses = u32::try_from(facts.lost.len()).unwrap_or(u32::MAX);
            let short = Facts { waits: facts.waits, losses, open };
            let has_suspect = state.desk.has_suspect(number, now, lease);
            let verdict = decide(&short, state.desk.live(job, now, lease), has_suspect);
            if verdict == Verdict::Adopt {
                state.desk.adopt(job, receipt.clone());
            }
            verdict
        };
        match verdict {
            Verdict::Adopt => Ok(None),
            Verdict::Skip => {
                self.end(&receipt).await;
                Ok(None)
            }
            Verdict::Later => {
                // Should this fail, the lease runs out.
                let _ = self.0.engine.put_back(&receipt, SUSPECT_DELAY).await;
                Ok(None)
            }
            Verdict::Poison => {
                self.poison(job, &facts).await?;
                self.end(&receipt).await;
                self.wake();
                Ok(None)
            }
            Verdict::HandOut { suspect } => {
                let Some(of) = running.iter().find(|of| (of.id, of.generation) == (job.experiment, job.generation))
                else {
                    return Ok(None);
                };
                let name = of.name.clone();
                let read = self.0.database.with(move |store| Content::read(store, &name, job)).await?;
                let Some(content) = read else {
                    self.end(&receipt).await;
                    return Ok(None);
                };
                let handout = self.0.database.with(move |store| store.hand_out(key(job), number)).await?;
                let assigned = self.assigned(job.experiment, job.generation).await?;
                let costs = self.costs(job.experiment, job.generation).await?;
                let expect = costs.get(&content.plan.krate.id.name).cloned().unwrap_or_default();
                let longest = longest(&assigned.experiment, &content.plan);
                let now = Instant::now();
                let claims = Claims { job, handout, receipt: receipt.clone() };
                let lease = Lease(self.0.key.seal(number, &claims));
                let held = Held { agent: number, handout, receipt, suspect, renewed: now, ends: now + longest };
                let mut state = self.state();
                state.desk.hand_out(job, held);
                state.shares.charge(job.experiment, COST);
                drop(state);
                Ok(Some(content.into_handout(lease, job, suspect, expect)))
            }
        }
    }

    /// Gives a crate up with which too many machines were lost.
    async fn poison(&self, job: JobId, facts: &JobFacts) -> Result<(), Problem> {
        let lost: Vec<u32> = facts.lost.iter().copied().chain(facts.open.map(|(_, agent, _)| agent)).collect();
        let assigned = self.assigned(job.experiment, job.generation).await?;
        let words = self.0.database.with(move |store| {
            let mut names = Vec::new();
            for agent in &lost {
                names.push(store.agent_name(*agent)?.unwrap_or_else(|| agent.to_string()));
            }
            let words = format!("{} machines were lost while it ran: {}", names.len(), names.join(", "));
            let record = poisoned(store, &assigned, job, &words)?;
            store.poison(key(job), record.as_ref())?;
            Ok::<_, StoreError>(words)
        });
        note(&format!("job {job} is given up: {}", words.await?));
        Ok(())
    }

    /// The job of a lease, if the lease is this agent's.
    pub(super) fn open(&self, agent: u32, lease: &Lease) -> Option<Claims> {
        self.0.key.open(agent, &lease.0).ok()
    }

    /// Ends the holding of a job by an agent under a handout, and returns the newest receipt.
    pub(super) fn let_go(&self, job: JobId, agent: u32, handout: i64) -> Option<Receipt> {
        let mut state = self.state();
        let is_its = |held: &Held| (held.agent, held.handout) == (agent, handout);
        let live = state.desk.live(job, Instant::now(), Duration::MAX).is_some_and(is_its);
        live.then(|| state.desk.release(job)).flatten().map(|held| held.receipt)
    }

    /// Corrects the share of an experiment, once a crate's cost is known.
    pub(super) fn correct_share(&self, experiment: u32, core_seconds: f64) {
        self.state().shares.charge(experiment, core_seconds - COST);
    }

    /// Ends a job at the engine. Should this fail, it is delivered again, found to have ended, and skipped.
    pub(super) async fn end(&self, receipt: &Receipt) {
        let _ = self.0.engine.end(receipt).await;
    }

    /// Ends all jobs of a generation that wait: results stay, and agents drop the crates at their next renewal.
    pub async fn abort(&self, experiment: u32, generation: u32) -> Result<(), Problem> {
        self.0.database.with(move |store| store.withdraw(experiment, generation)).await?;
        self.forget(experiment, generation);
        self.0.engine.forget(experiment, generation).await.map_err(unavailable)
    }

    /// Forgets a generation that hands out nothing any more.
    pub(super) fn forget(&self, experiment: u32, generation: u32) {
        let mut state = self.state();
        state.desk.forget(experiment, generation);
        state.shares.leave(experiment);
        state.assigned.remove(&(experiment, generation));
        state.costs.remove(&(experiment, generation));
        state.incapable.retain(|(_, of, when)| (*of, *when) != (experiment, generation));
        state.quiet.retain(|queue, _| (queue.experiment, queue.generation) != (experiment, generation));
    }

    /// An experiment as agents get it. It never changes within a generation.
    pub async fn assigned(&self, experiment: u32, generation: u32) -> Result<Arc<Assigned>, Problem> {
        if let Some(assigned) = self.state().assigned.get(&(experiment, generation)) {
            return Ok(Arc::clone(assigned));
        }
        let read = self.0.database.with(move |store| store.assigned(experiment, generation)).await?;
        let gone = || Problem::new(Kind::NotFound, format!("experiment {experiment} has no generation {generation}"));
        let (settings, toolchains) = read.ok_or_else(gone)?;
        let unreadable = |error: serde_json::Error| {
            log(&error);
            Problem::new(Kind::Internal, "the settings of the experiment can't be read")
        };
        let experiment_settings: Experiment = serde_json::from_str(&settings).map_err(unreadable)?;
        let toolchains: Vec<Toolchain> = serde_json::from_str(&toolchains).map_err(unreadable)?;
        let assigned = Arc::new(Assigned { experiment: experiment_settings, toolchains });
        self.state().assigned.insert((experiment, generation), Arc::clone(&assigned));
        Ok(assigned)
    }

    /// What ops took before, by their crates.
    async fn costs(&self, experiment: u32, generation: u32) -> Result<Arc<Costs>, Problem> {
        if let Some(costs) = self.state().costs.get(&(experiment, generation)) {
            return Ok(Arc::clone(costs));
        }
        let mut costs = Costs::new();
        for recorded in self.0.database.with(|store| store.costs(|_| true)).await? {
            let wall_ms = u64::try_from(recorded.wall.as_millis()).unwrap_or(u64::MAX);
            let expected = Expected { wall_ms, peak: recorded.peak };
            costs.entry(recorded.krate).or_default().insert(recorded.op, expected);
        }
        let costs = Arc::new(costs);
        self.state().costs.insert((experiment, generation), Arc::clone(&costs));
        Ok(costs)
    }

    /// The number of crates that an agent holds, and the time since its last message to this process.
    pub(super) fn load(&self, agent: u32) -> (usize, Option<Duration>) {
        let state = self.state();
        let held = state.desk.jobs_of(agent, Instant::now(), self.0.times.lease).len();
        (held, state.agents.get(&agent).map(|(_, heard)| heard.elapsed()))
    }

    /// The state is whole between any two statements that could panic.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How much memory makes a crate one for the largest agents: above half of the smallest agent's. None: all agents
    /// are equal.
    pub(super) fn large(&self) -> Option<ByteSize> {
        let memory = || self.agents.values().map(|(memory, _)| memory.as_u64()).filter(|memory| *memory > 0);
        let (smallest, largest) = (memory().min()?, memory().max()?);
        (smallest < largest).then_some(ByteSize(smallest / 2))
    }

    /// Whether an agent has as much memory as any other that was heard of lately, so that it takes large crates.
    fn is_largest(&self, agent: &Agent) -> bool {
        const LATELY: Duration = Duration::from_secs(600);
        let own = agent.hello.memory.unwrap_or_default();
        let lately = self.agents.values().filter(|(_, heard)| heard.elapsed() < LATELY);
        lately.map(|(memory, _)| *memory).max().is_none_or(|largest| own >= largest)
    }
}

fn forget_lane(candidates: &mut [Candidate], queue: Queue) {
    for candidate in candidates.iter_mut().filter(|of| of.experiment == queue.experiment) {
        candidate.lanes.retain(|lane| *lane != queue.lane);
    }
}

/// A job's key in the database.
pub(super) fn key(job: JobId) -> JobKey {
    JobKey { experiment: job.experiment, generation: job.generation, position: job.position }
}

pub(super) fn unavailable(error: NatsError) -> Problem {
    log(&error);
    Problem::new(Kind::Unavailable, "the queue of jobs can't be reached now").retry_after(5)
}
