//! The crates of one experiment, planned on this machine: the intake of `maar run`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::assignment::{Assignment, Earlier, Task};
use super::intake::{Intake, Next};
use super::repetition::{self, History};
use super::share::Left;
use crate::event::RunEvent;
use crate::plan::{CratePlan, Fingerprint, Queue};
use crate::schedule::{self, Expectations};
use crate::store::{Store, StoreError};

/// An experiment's plans, in the order in which its crates begin.
#[derive(Debug)]
pub struct Planned {
    assignment: Arc<Assignment>,
    plans: Vec<CratePlan>,
    earlier: Earlier,
    expectations: Arc<Expectations>,
    /// The places of the crates with something left to do.
    order: Vec<usize>,
    /// How many of them were handed out.
    begun: AtomicUsize,
    left: Arc<AtomicUsize>,
    /// A connection of its own, for the lockfiles that earlier runs made.
    reader: Arc<Mutex<Store>>,
}

impl Planned {
    /// Puts the crates in order.
    pub fn new(
        assignment: Arc<Assignment>,
        plans: Vec<CratePlan>,
        earlier: Earlier,
        expectations: Expectations,
        reader: Store,
    ) -> Self {
        let mut planned = Self {
            assignment,
            plans,
            earlier,
            expectations: Arc::new(expectations),
            order: Vec::new(),
            begun: AtomicUsize::new(0),
            left: Arc::default(),
            reader: Arc::new(Mutex::new(reader)),
        };
        planned.order = planned.in_order();
        planned.left = Arc::new(AtomicUsize::new(planned.order.len()));
        planned
    }

    /// The experiment.
    pub fn assignment(&self) -> &Arc<Assignment> {
        &self.assignment
    }

    /// The plans of all crates.
    pub fn plans(&self) -> &[CratePlan] {
        &self.plans
    }

    /// How many crates have something left to do.
    pub fn to_run(&self) -> usize {
        self.order.len()
    }

    /// The remaining steps of a crate.
    pub fn left(&self, place: usize) -> Queue {
        let Assignment { experiment, tools, .. } = &*self.assignment;
        self.earlier.left(experiment, tools.toolchains.len(), &self.plans[place])
    }

    /// The verdicts of the crates that have nothing to run.
    pub(super) fn known(&self) -> impl Iterator<Item = RunEvent> {
        let begin: HashSet<usize> = self.order.iter().copied().collect();
        (0..self.plans.len()).filter(move |place| !begin.contains(place)).map(|place| {
            let plan = &self.plans[place];
            let Assignment { experiment, tools, .. } = &*self.assignment;
            let verdict = repetition::verdict(plan, &self.earlier, &History::default(), &tools.toolchains);
            RunEvent::verdict(&experiment.name, &plan.krate.id, verdict, false)
        })
    }

    /// The crates of which something is left to do, in the order in which they begin.
    fn in_order(&self) -> Vec<usize> {
        let expected = |place: usize| {
            let left = self.left(place);
            let name = &self.plans[place].krate.id.name;
            (!left.is_empty()).then(|| (place, self.expectations.total(name, &left)))
        };
        let workers = self.assignment.experiment.workers;
        schedule::order((0..self.plans.len()).filter_map(expected), workers.build + workers.test)
    }

    async fn lockfile(&self, first: Option<Fingerprint>) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(first) = first else { return Ok(None) };
        let (reader, name) = (Arc::clone(&self.reader), self.assignment.experiment.name.clone());
        // The disk may be slow, and the engine has more to do.
        let read = tokio::task::spawn_blocking(move || {
            reader.lock().unwrap_or_else(PoisonError::into_inner).lockfile(&name, &first)
        });
        match read.await {
            Ok(lockfile) => lockfile,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

impl Intake for Planned {
    async fn next(&self) -> Option<Next> {
        let place = *self.order.get(self.begun.fetch_add(1, Ordering::Relaxed))?;
        let plan = self.plans[place].clone();
        let first = self.left(place).front().map(|step| step.fingerprint);
        let mut lockfile = self.lockfile(first).await.map_err(|error| error.to_string());
        let mut patched = BTreeMap::new();
        let keys: Vec<_> = first.iter().flat_map(|first| self.assignment.patched(first)).collect();
        for (place, key) in keys {
            match self.lockfile(Some(key)).await {
                Ok(of_patched) => patched.extend(of_patched.map(|lockfile| (place, lockfile))),
                Err(error) => lockfile = Err(error.to_string()),
            }
        }
        let task = Task {
            assignment: Arc::clone(&self.assignment),
            place,
            earlier: self.earlier.of(&plan),
            plan,
            lockfile,
            patched,
            expectations: Arc::clone(&self.expectations),
        };
        Some(Next { task, left: Left::of(&self.left) })
    }
}
