//! The crates that the agent holds: their leases, and what ends each.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stop::{StopLevel, Stopper};
use crate::wire::Lease;

/// The number of a crate that the agent holds, its own and never used twice in a process.
pub(super) type Slot = usize;

/// The crates that the agent holds.
#[derive(Debug, Default)]
pub(super) struct Holding {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: Slot,
    held: BTreeMap<Slot, Held>,
    /// Leases of reports that wait in the outbox.
    sealed: Vec<Lease>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    stopper: Stopper,
    is_dropped: bool,
}

impl Holding {
    /// Takes a crate in.
    pub(super) fn take(&self, lease: Lease, stopper: Stopper) -> Slot {
        let mut state = self.state();
        let slot = state.next;
        state.next += 1;
        state.held.insert(slot, Held { lease, stopper, is_dropped: false });
        slot
    }

    /// The lease of a crate, unless the server took it back.
    pub(super) fn lease(&self, slot: Slot) -> Option<Lease> {
        self.state().held.get(&slot).filter(|held| !held.is_dropped).map(|held| held.lease.clone())
    }

    /// Ends the holding of a crate. Returns its lease, unless the server took it back.
    pub(super) fn release(&self, slot: Slot) -> Option<Lease> {
        self.state().held.remove(&slot).filter(|held| !held.is_dropped).map(|held| held.lease)
    }

    /// Notes that a report waits to be sent.
    pub(super) fn seal(&self, lease: Lease) {
        self.state().sealed.push(lease);
    }

    /// Notes that a report waits no more.
    pub(super) fn sent(&self, lease: &Lease) {
        self.state().sealed.retain(|sealed| sealed != lease);
    }

    /// Ends a crate that the server took back, and only that one. `false`: it doesn't run.
    pub(super) fn drop_lease(&self, lease: &Lease) -> bool {
        let mut state = self.state();
        let Some(held) = state.held.values_mut().find(|held| held.lease == *lease) else { return false };
        held.is_dropped = true;
        held.stopper.raise(StopLevel::Kill);
        true
    }

    /// How many crates run or are about to.
    pub(super) fn count(&self) -> usize {
        self.state().held.len()
    }

    /// All leases to renew: of crates that run, and of reports that wait.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let state = self.state();
        let running = state.held.values().filter(|held| !held.is_dropped).map(|held| held.lease.clone());
        running.chain(state.sealed.iter().cloned()).collect()
    }

    /// Takes the leases of all crates that have no report, once nothing runs any more.
    pub(super) fn release_all(&self) -> Vec<Lease> {
        let held = std::mem::take(&mut self.state().held);
        held.into_values().filter(|held| !held.is_dropped).map(|held| held.lease).collect()
    }

    /// The state is whole between any two statements that could panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop;

    #[test]
    fn a_crate_that_the_server_takes_back_is_ended_and_never_reported() {
        let holding = Holding::default();
        let lease = |text: &str| Lease(text.to_owned());
        let ((one, first), (other, second)) = (stop::channel(), stop::channel());
        let (first_slot, second_slot) = (holding.take(lease("1"), one), holding.take(lease("2"), other));
        assert!(holding.drop_lease(&lease("1")) && !holding.drop_lease(&lease("9")));
        assert_eq!((first.level(), second.level()), (StopLevel::Kill, StopLevel::Run));
        holding.seal(lease("3"));
        assert_eq!(holding.leases(), [lease("2"), lease("3")]);
        assert_eq!((holding.lease(first_slot), holding.release(first_slot)), (None, None));
        assert_eq!(holding.count(), 1);
        assert_eq!(holding.release(second_slot), Some(lease("2")));
        holding.sent(&lease("3"));
        assert_eq!(holding.leases(), []);
    }
}
