//! The holders of all jobs, and the decision about a job that an engine delivers.
//!
//! In the memory of the server. After a restart it is empty, and agents fill it again with their renewals.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::lease::{JobId, Receipt};

/// How many machines may be lost with a crate until it is given up.
pub const MOST_LOSSES: u32 = 4;

/// How long a suspect waits for an agent that runs none yet.
pub const SUSPECT_DELAY: Duration = Duration::from_secs(5);

/// A job in the hands of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The agent's number.
    pub agent: u32,
    /// The number of the handout.
    pub handout: i64,
    /// The engine's receipt, the newest if there were more deliveries.
    pub receipt: Receipt,
    /// Whether a machine was lost with it before.
    pub suspect: bool,
    /// When the agent was last heard of about it.
    pub renewed: Instant,
    /// No renewal is granted from then on: an agent that hangs but renews loses the job, too.
    pub ends: Instant,
}

/// The database's record of a delivered job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether it waits: it isn't done, withdrawn or poisoned, and its experiment hands out jobs.
    pub waits: bool,
    /// How many machines were lost with it, the holder of an open handout not counted.
    pub losses: u32,
    /// Its handout without an end, if there is one: the number, and the agent's.
    pub open: Option<(i64, u32)>,
}

/// What to do with a job that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// End it at the engine: it needs no run any more.
    Skip,
    /// Leave it to its holder, whose lease the engine had forgotten; the new receipt is the holder's from now on.
    Adopt,
    /// Put it back for a while: it is a suspect, and the agent has one.
    Later,
    /// Give it up: too many machines were lost with it.
    Poison,
    /// Hand it out.
    HandOut {
        /// Whether a machine was lost with it before.
        suspect: bool,
    },
}

/// The answer to a renewal of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// Renew this receipt at the engine.
    Granted(Receipt),
    /// The desk doesn't know the lease: look in the database.
    Unknown,
    /// Another agent has the job.
    Taken,
    /// It has run for longer than all of its limits together allow.
    Overdue,
}

/// Who holds which job.
#[derive(Debug, Default)]
pub struct Desk {
    held: HashMap<JobId, Held>,
    of_agent: HashMap<u32, HashSet<JobId>>,
}

/// Decides about a job that was delivered for an agent. `live`: its holder, if one renewed it within the time of a
/// lease; `has_suspect`: whether the agent has a suspect already.
pub fn decide(facts: &Facts, live: Option<&Held>, has_suspect: bool) -> Verdict {
    if !facts.waits {
        return Verdict::Skip;
    }
    if live.is_some() {
        return Verdict::Adopt;
    }
    // The holder of an open handout is not live: it was lost.
    let losses = facts.losses + u32::from(facts.open.is_some());
    match losses {
        0 => Verdict::HandOut { suspect: false },
        MOST_LOSSES.. => Verdict::Poison,
        _ if has_suspect => Verdict::Later,
        _ => Verdict::HandOut { suspect: true },
    }
}

impl Desk {
    /// The holder of a job, if it was heard of within the time of a lease.
    pub fn live(&self, job: JobId, now: Instant, lease: Duration) -> Option<&Held> {
        self.held.get(&job).filter(|held| now.duration_since(held.renewed) < lease)
    }

    /// Gives a job to an agent, and takes it from its former holder.
    pub fn hand_out(&mut self, job: JobId, held: Held) {
        self.release(job);
        self.of_agent.entry(held.agent).or_default().insert(job);
        self.held.insert(job, held);
    }

    /// Gives the holder of a job a newer receipt.
    pub fn adopt(&mut self, job: JobId, receipt: Receipt) {
        if let Some(held) = self.held.get_mut(&job) {
            held.receipt = receipt;
        }
    }

    /// Renews a lease of an agent.
    pub fn renew(&mut self, job: JobId, agent: u32, handout: i64, now: Instant) -> Renewal {
        match self.held.get_mut(&job) {
            None => Renewal::Unknown,
            Some(held) if (held.agent, held.handout) != (agent, handout) => Renewal::Taken,
            Some(held) if held.ends <= now => Renewal::Overdue,
            Some(held) => {
                held.renewed = now;
                Renewal::Granted(held.receipt.clone())
            }
        }
    }

    /// Takes a job back, and returns its holder.
    pub fn release(&mut self, job: JobId) -> Option<Held> {
        let held = self.held.remove(&job)?;
        if let Some(jobs) = self.of_agent.get_mut(&held.agent) {
            jobs.remove(&job);
        }
        Some(held)
    }

    /// The jobs of an agent that was heard of about them within the time of a lease.
    pub fn jobs_of(&self, agent: u32, now: Instant, lease: Duration) -> Vec<JobId> {
        let jobs = self.of_agent.get(&agent).into_iter().flatten().copied();
        jobs.filter(|job| self.live(*job, now, lease).is_some()).collect()
    }

    /// Whether an agent has a suspect.
    pub fn has_suspect(&self, agent: u32, now: Instant, lease: Duration) -> bool {
        self.jobs_of(agent, now, lease).iter().any(|job| self.held[job].suspect)
    }

    /// All jobs that have a live holder, with its number.
    pub fn all(&self, now: Instant, lease: Duration) -> impl Iterator<Item = (JobId, u32)> + '_ {
        let live = move |(job, held): (&JobId, &Held)| {
            (now.duration_since(held.renewed) < lease).then_some((*job, held.agent))
        };
        self.held.iter().filter_map(live)
    }

    /// Takes all jobs of an experiment's generation back.
    pub fn forget(&mut self, experiment: u32, generation: u32) {
        let of = |job: &JobId| (job.experiment, job.generation) == (experiment, generation);
        self.held.retain(|job, _| !of(job));
        for jobs in self.of_agent.values_mut() {
            jobs.retain(|job| !of(job));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(120);

    fn job(position: u32) -> JobId {
        JobId { experiment: 1, generation: 1, position }
    }

    fn held(agent: u32, now: Instant) -> Held {
        let ends = now + 100 * LEASE;
        Held { agent, handout: 9, receipt: Receipt("1".to_owned()), suspect: false, renewed: now, ends }
    }

    fn facts(losses: u32, open: Option<(i64, u32)>) -> Facts {
        Facts { waits: true, losses, open }
    }

    #[test]
    fn a_delivered_job_is_skipped_adopted_delayed_given_up_or_handed_out() {
        let holder = held(3, Instant::now());
        let live = Some(&holder);
        let suspect = Verdict::HandOut { suspect: true };
        for (facts, live, has_suspect, expected) in [
            (facts(0, None), None, false, Verdict::HandOut { suspect: false }),
            (facts(0, None), None, true, Verdict::HandOut { suspect: false }),
            (facts(0, Some((9, 3))), live, false, Verdict::Adopt),
            (facts(3, Some((9, 3))), live, true, Verdict::Adopt),
            (facts(0, Some((9, 3))), None, false, suspect.clone()),
            (facts(1, None), None, true, Verdict::Later),
            (facts(3, None), None, false, suspect),
            (facts(3, Some((9, 3))), None, false, Verdict::Poison),
            (facts(4, None), None, true, Verdict::Poison),
            (Facts { waits: false, ..facts(4, None) }, live, false, Verdict::Skip),
        ] {
            assert_eq!(decide(&facts, live, has_suspect), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_lease_is_renewed_by_its_holder_only_and_not_for_ever() {
        let now = Instant::now();
        let mut desk = Desk::default();
        assert_eq!(desk.renew(job(1), 3, 9, now), Renewal::Unknown);
        desk.hand_out(job(1), held(3, now));
        assert_eq!(desk.renew(job(1), 3, 9, now), Renewal::Granted(Receipt("1".to_owned())));
        assert_eq!(desk.renew(job(1), 4, 9, now), Renewal::Taken);
        assert_eq!(desk.renew(job(1), 3, 8, now), Renewal::Taken, "an older handout of the same agent");
        desk.adopt(job(1), Receipt("2".to_owned()));
        assert_eq!(desk.renew(job(1), 3, 9, now), Renewal::Granted(Receipt("2".to_owned())));
        assert_eq!(desk.renew(job(1), 3, 9, now + 100 * LEASE), Renewal::Overdue);
    }

    #[test]
    fn a_holder_that_is_silent_for_a_lease_holds_nothing() {
        let now = Instant::now();
        let mut desk = Desk::default();
        desk.hand_out(job(1), Held { suspect: true, ..held(3, now) });
        assert!(desk.has_suspect(3, now, LEASE));
        assert_eq!(desk.jobs_of(3, now, LEASE), [job(1)]);
        let later = now + LEASE;
        assert!(desk.live(job(1), later, LEASE).is_none());
        assert!(!desk.has_suspect(3, later, LEASE));
        desk.hand_out(job(1), held(4, later));
        assert_eq!(desk.jobs_of(3, later, LEASE), []);
        assert_eq!(desk.all(later, LEASE).collect::<Vec<_>>(), [(job(1), 4)]);
        desk.forget(1, 1);
        assert_eq!(desk.jobs_of(4, later, LEASE), []);
    }
}
