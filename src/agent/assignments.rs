//! From a handout to a task of this host: the experiment, its toolchains, its tools, the plan. Refuses work that this
//! host can't do exactly as the server planned it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::Agent;
use super::client::CallError;
use super::holding::Slot;
use crate::experiment::{Experiment, SandboxKind};
use crate::krate::Origin;
use crate::ops::Tools;
use crate::outcome::Outcome;
use crate::plan::{self, Attempt, CratePlan};
use crate::run::{Assignment, Earlier, SessionError, Task};
use crate::schedule::{Expectations, Recorded};
use crate::stop::Stop;
use crate::toolchain::{self, Toolchain};
use crate::wire::{Assigned, Handout, Past};

/// The experiments that this process has seen.
pub(super) struct Assignments {
    agent: Arc<Agent>,
    known: Mutex<HashMap<(u32, u32), Arc<Known>>>,
}

/// An experiment as this host runs it.
struct Known {
    experiment: Experiment,
    tools: Tools,
}

/// Why a crate is given back before it runs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("the experiment is gone")]
    Gone,
    #[error("this host can't run the experiment: {0}")]
    Host(SessionError),
    #[error("this host doesn't enforce every limit: {}", .0.join("; "))]
    Unenforced(Vec<String>),
    #[error("toolchain `{spec}` is `{found}` here, and the experiment needs `{needed}`: `rustup update` or install it")]
    Toolchain { spec: String, found: String, needed: String },
    #[error("folders of the server can't be run here")]
    Folder,
    #[error("this maar plans other steps than the server's: install the same version on both")]
    OtherPlan,
    #[error("the home of the agent is broken: {0}")]
    Panicked(tokio::task::JoinError),
}

impl Refusal {
    /// Whether the agent will refuse all crates of the experiment.
    pub(super) fn is_for_good(&self) -> bool {
        match self {
            Self::Host(_) | Self::Unenforced(_) | Self::Toolchain { .. } | Self::Folder | Self::OtherPlan => true,
            Self::Call(_) | Self::Gone | Self::Panicked(_) => false,
        }
    }
}

impl Assignments {
    /// No experiment yet.
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self { agent, known: Mutex::default() }
    }

    /// The task of a handout. `stop` ends it alone.
    pub(super) async fn task(&self, handout: Handout, slot: Slot, stop: Stop) -> Result<Task, Refusal> {
        let known = self.known(handout.experiment, handout.generation).await?;
        let Handout { krate, steps, finished, history, expect, lockfile, .. } = handout;
        if matches!(krate.origin, Origin::Path { .. }) {
            return Err(Refusal::Folder);
        }
        let Known { experiment, tools } = &*known;
        let mut plans = plan::plan(experiment, &tools.toolchains, [krate]);
        // Of the two forms of `build`, the server's plan may have the one that has results.
        let asked = steps.iter().map(|step| (step.fingerprint, Outcome::Passed)).collect();
        plan::adopt(&mut plans, experiment, &tools.toolchains, &asked);
        let [CratePlan { krate, steps: planned }] = <[_; 1]>::try_from(plans).map_err(|_| Refusal::OtherPlan)?;
        if planned != steps {
            return Err(Refusal::OtherPlan);
        }
        let attempt =
            |Past { attempt, outcome, tests }| Attempt { number: attempt, outcome, tests: tests.map(Arc::new) };
        let attempts = history.into_iter().map(|(step, all)| (step, all.into_iter().map(attempt).collect()));
        let earlier = Earlier { finished: finished.into_iter().collect(), attempts: attempts.collect() };
        let recorded = expect.into_iter().map(|(op, expected)| Recorded {
            krate: krate.id.name.clone(),
            op,
            wall: std::time::Duration::from_millis(expected.wall_ms),
            peak: expected.peak,
        });
        let expectations = Arc::new(Expectations::new(recorded.collect()));
        let assignment = Assignment { experiment: experiment.clone(), tools: tools.clone(), stop };
        Ok(Task {
            assignment: Arc::new(assignment),
            place: slot,
            plan: CratePlan { krate, steps },
            earlier,
            lockfile: Ok(lockfile.map(String::into_bytes)),
            // Lockfiles of toolchains with patches are made again.
            patched: std::collections::BTreeMap::new(),
            expectations,
        })
    }

    async fn known(&self, experiment: u32, generation: u32) -> Result<Arc<Known>, Refusal> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.get(&(experiment, generation)) {
            return Ok(Arc::clone(known));
        }
        let assigned: Option<Assigned> =
            self.agent.client.get(&format!("experiments/{experiment}/{generation}")).await?;
        let opened = Arc::new(self.open(assigned.ok_or(Refusal::Gone)?).await?);
        known.insert((experiment, generation), Arc::clone(&opened));
        Ok(opened)
    }

    /// Makes everything ready that the crates of an experiment share.
    async fn open(&self, assigned: Assigned) -> Result<Known, Refusal> {
        let Assigned { experiment, toolchains: pinned } = assigned;
        // It runs rustup and rustc.
        let toolchains = tokio::task::spawn_blocking(move || find(&pinned)).await.map_err(Refusal::Panicked)??;
        let bench = &self.agent.bench;
        let sandbox = bench.sandbox(&experiment.sandbox).await.map_err(Refusal::Host)?;
        let unenforced = sandbox.unenforced(experiment.cores());
        match experiment.sandbox {
            SandboxKind::Native | SandboxKind::Docker(_) if !unenforced.is_empty() => {
                return Err(Refusal::Unenforced(unenforced));
            }
            SandboxKind::Native | SandboxKind::Docker(_) | SandboxKind::None => {}
        }
        let registry = bench.registry(experiment.as_of.clone()).map_err(Refusal::Host)?;
        let layers = bench.layers(&experiment, &sandbox, &toolchains).map_err(Refusal::Host)?;
        let tools = bench.tools(&experiment, sandbox, registry, toolchains, layers);
        Ok(Known { experiment, tools })
    }
}

/// The pinned toolchains as they are installed here.
fn find(pinned: &[Toolchain]) -> Result<Vec<Toolchain>, Refusal> {
    let find = |pinned: &Toolchain| {
        let other = |found: String| Refusal::Toolchain {
            spec: pinned.spec.to_string(),
            found,
            needed: pinned.identity.clone(),
        };
        let found = toolchain::find(&pinned.spec).map_err(|error| other(error.to_string()))?;
        if found.identity == pinned.identity { Ok(found) } else { Err(other(found.identity)) }
    };
    pinned.iter().map(find).collect()
}
