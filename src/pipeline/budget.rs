//! Keeps the total weight of the running steps within a budget, and holds steps back while the host is hard pressed.
//!
//! First come, first served, at any weight: if light steps could overtake a heavy one, it might starve. A step that is
//! heavier than the whole budget counts as all of it, and so runs alone. While nothing runs, the next step may always
//! run, so that neither a small budget nor a pressed host can bring everything to a stop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::Pressure;

/// The budget, and the part of it that running steps have taken.
pub(super) struct Budget {
    total: u64,
    pressure: watch::Receiver<Pressure>,
    /// Held by the one that is next, so that at most one waits for `freed`. Fair: tokio's lock is a queue.
    turn: tokio::sync::Mutex<()>,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    shares: usize,
    weight: u64,
}

/// A part of the budget, given back when dropped.
pub(super) struct Share<'b> {
    budget: &'b Budget,
    weight: u64,
}

impl Budget {
    pub(super) fn new(total: u64, pressure: watch::Receiver<Pressure>) -> Self {
        let (turn, taken, freed) = Default::default();
        Self { total, pressure, turn, taken, freed }
    }

    /// Takes a share, waiting for it. Dropping the future gives the place in the queue up.
    pub(super) async fn take(&self, weight: u64) -> Share<'_> {
        let _turn = self.turn.lock().await;
        if let Some(share) = self.try_take(weight) {
            return share;
        }
        let mut pressure = self.pressure.clone();
        loop {
            tokio::select! {
                // A share that was freed since the attempt is remembered.
                () = self.freed.notified() => {}
                Ok(()) = pressure.changed() => {}
            }
            if let Some(share) = self.try_take(weight) {
                return share;
            }
        }
    }

    fn try_take(&self, weight: u64) -> Option<Share<'_>> {
        let weight = weight.min(self.total);
        let mut taken = self.taken();
        let fits = weight <= self.total - taken.weight;
        if taken.shares > 0 && (!fits || self.is_pressed()) {
            return None;
        }
        taken.shares += 1;
        taken.weight += weight;
        Some(Share { budget: self, weight })
    }

    fn is_pressed(&self) -> bool {
        // If the host's watcher is gone, its last value is stale and doesn't count.
        *self.pressure.borrow() == Pressure::High && self.pressure.has_changed().is_ok()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Adding integers can't panic halfway.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.shares -= 1;
        taken.weight -= self.weight;
        drop(taken);
        self.budget.freed.notify_one();
    }
}
