//! Leases that go on, and leases that end before a report: renewed, recalled after a restart, given back.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::content::longest;
use super::leases::{Agent, Dispatcher, key};
use super::problem::Problem;
use super::state::log;
use crate::dispatch::{Held, Renewal};
use crate::lease::{Claims, JobId, Receipt};
use crate::store::StoreError;
use crate::store::service::How;
use crate::wire::{Lease, Reason, Renewed};

impl Dispatcher {
    /// Renews the leases of an agent, and lists those to drop.
    pub async fn renew(&self, agent: &Agent, leases: Vec<Lease>) -> Result<Renewed, Problem> {
        let number = agent.record.id;
        self.state().agents.insert(number, (agent.hello.memory.unwrap_or_default(), Instant::now()));
        let alive = self.inner().database.with(|store| store.generations_alive()).await?;
        let mut renewed = Renewed::default();
        let mut receipts = Vec::new();
        for lease in leases {
            match self.renew_one(number, &lease, &alive).await? {
                Ok(receipt) => receipts.push(receipt),
                Err(why) => renewed.drop.push((lease, why)),
            }
        }
        let done = join_all(receipts.iter().map(|receipt| self.inner().engine.renew(receipt))).await;
        if let Some(error) = done.into_iter().find_map(Result::err) {
            // The desk has the renewal: should the engine deliver the job again, the holder keeps it.
            log(&error);
        }
        Ok(renewed)
    }

    async fn renew_one(
        &self,
        agent: u32,
        lease: &Lease,
        alive: &HashSet<(u32, u32)>,
    ) -> Result<Result<Receipt, String>, Problem> {
        let Ok(Claims { job, handout, receipt }) = self.key().open(agent, &lease.0) else {
            return Ok(Err("the lease is not one of this agent".to_owned()));
        };
        if !alive.contains(&(job.experiment, job.generation)) {
            self.let_go(job, agent, handout);
            return Ok(Err("its experiment was aborted or has ended".to_owned()));
        }
        let renewal = self.state().desk.renew(job, agent, handout, Instant::now());
        match renewal {
            Renewal::Granted(receipt) => Ok(Ok(receipt)),
            Renewal::Taken => Ok(Err("another agent has it".to_owned())),
            Renewal::Overdue => {
                self.let_go(job, agent, handout);
                self.inner().database.with(move |store| store.end_handout(handout, How::Dropped)).await?;
                Ok(Err("it has run for longer than all of its limits allow".to_owned()))
            }
            Renewal::Unknown => self.recall(agent, Claims { job, handout, receipt }).await,
        }
    }

    /// Renews a lease that this process has forgotten, from the database.
    async fn recall(&self, agent: u32, claims: Claims) -> Result<Result<Receipt, String>, Problem> {
        let Claims { job, handout, receipt } = claims;
        let facts = self.inner().database.with(move |store| store.job_facts(key(job))).await?;
        let Some((_, _, at)) = facts.open.filter(|(open, of, _)| facts.waits && (*open, *of) == (handout, agent))
        else {
            return Ok(Err("it has a result, or was given to another agent".to_owned()));
        };
        let plan = self.inner().database.with(move |store| store.crate_plan(job.experiment, job.position)).await?;
        let assigned = self.assigned(job.experiment, job.generation).await?;
        let longest = plan.map_or(Duration::ZERO, |plan| longest(&assigned.experiment, &plan));
        let ran = SystemTime::now().duration_since(at).unwrap_or_default();
        let now = Instant::now();
        let held = Held {
            agent,
            handout,
            receipt: receipt.clone(),
            suspect: !facts.lost.is_empty(),
            renewed: now,
            ends: now + longest.saturating_sub(ran),
        };
        self.state().desk.hand_out(job, held);
        Ok(Ok(receipt))
    }

    /// Takes crates back that an agent can't run, or not now.
    pub async fn give_back(&self, agent: &Agent, leases: Vec<Lease>, reason: Reason) -> Result<(), Problem> {
        for lease in leases {
            let Ok(Claims { job, handout, receipt }) = self.key().open(agent.record.id, &lease.0) else { continue };
            let receipt = self.let_go(job, agent.record.id, handout).unwrap_or(receipt);
            if reason == Reason::Incapable {
                self.state().incapable.insert((agent.record.id, job.experiment, job.generation));
            }
            let facts = self.inner().database.with(move |store| {
                let facts = store.job_facts(key(job))?;
                store.end_handout(handout, How::Returned)?;
                Ok::<_, StoreError>(facts)
            });
            // Only the open handout has the delivery: an older one must not give back another agent's.
            if facts.await?.open.is_some_and(|(open, ..)| open == handout) {
                let _ = self.inner().engine.put_back(&receipt, Duration::ZERO).await;
            }
        }
        self.wake();
        Ok(())
    }

    /// Takes everything back that an agent holds, but for these leases.
    pub async fn give_back_others(&self, agent: &Agent, keep: &[Lease]) -> Result<(), Problem> {
        let number = agent.record.id;
        let kept: HashSet<JobId> = keep.iter().filter_map(|lease| Some(self.open(number, lease)?.job)).collect();
        let jobs = self.state().desk.jobs_of(number, Instant::now(), self.inner().times.lease);
        for job in jobs.into_iter().filter(|job| !kept.contains(job)) {
            let Some(held) = self.state().desk.release(job) else { continue };
            let handout = held.handout;
            self.inner().database.with(move |store| store.end_handout(handout, How::Returned)).await?;
            let _ = self.inner().engine.put_back(&held.receipt, Duration::ZERO).await;
        }
        self.wake();
        Ok(())
    }
}
