//! The database's part of a handout: a crate with its history.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reports::without_commands;
use crate::experiment::Experiment;
use crate::lease::JobId;
use crate::ops::OpName;
use crate::outcome::{Cause, Outcome};
use crate::plan::{self, CratePlan};
use crate::run::Earlier;
use crate::store::{Record, Store, StoreError};
use crate::wire::{Assigned, Expected, Handout, Lease, Past};

/// The part of a handout that comes from the database.
pub(super) struct Content {
    pub(super) plan: CratePlan,
    earlier: Earlier,
    lockfile: Option<String>,
}

impl Content {
    pub(super) fn read(store: &mut Store, name: &str, job: JobId) -> Result<Option<Self>, StoreError> {
        let Some(plan) = store.crate_plan(job.experiment, job.position)? else { return Ok(None) };
        let (finished, attempts) = store.earlier_results(job.experiment, &plan)?;
        let prepare = plan.steps.iter().find(|step| step.toolchain.is_none());
        let lockfile = prepare.map(|step| store.lockfile(name, &step.fingerprint)).transpose()?.flatten();
        let lockfile = lockfile.and_then(|text| String::from_utf8(text).ok());
        Ok(Some(Self { plan, earlier: Earlier { finished, attempts }, lockfile }))
    }

    pub(super) fn into_handout(
        self,
        lease: Lease,
        job: JobId,
        suspect: bool,
        expect: BTreeMap<OpName, Expected>,
    ) -> Handout {
        let Self { plan: CratePlan { krate, steps }, earlier: Earlier { finished, attempts }, lockfile } = self;
        let past = |attempt: plan::Attempt| Past {
            attempt: attempt.number,
            outcome: attempt.outcome,
            tests: attempt.tests.map(|tests| (*tests).clone()),
        };
        let history = attempts.into_iter().map(|(step, all)| (step, all.into_iter().map(past).collect()));
        Handout {
            lease,
            experiment: job.experiment,
            generation: job.generation,
            suspect,
            krate,
            steps,
            finished: finished.into_iter().collect(),
            history: history.collect(),
            expect,
            lockfile,
        }
    }
}

/// The result of a crate that is given up: of its first step that is left.
pub(super) fn poisoned(
    store: &mut Store,
    assigned: &Assigned,
    job: JobId,
    words: &str,
) -> Result<Option<Record>, StoreError> {
    let Some(plan) = store.crate_plan(job.experiment, job.position)? else { return Ok(None) };
    let (finished, _) = store.earlier_results(job.experiment, &plan)?;
    let step = plan::remaining(&assigned.experiment, &plan, &finished).pop_front();
    let outcome = Outcome::Inconclusive(Cause::Host(words.to_owned()));
    Ok(step.map(|step| without_commands(assigned, &plan, step, outcome)))
}

/// How long a crate may take at most: all of its ops at their time limits, half as much again, and an hour.
pub(super) fn longest(experiment: &Experiment, plan: &CratePlan) -> Duration {
    let name = &plan.krate.id.name;
    let limits = plan.steps.iter().map(|step| experiment.limits_of(name, &step.op.name()).timeout);
    limits.sum::<Duration>().mul_f64(1.5) + Duration::from_secs(3600)
}
