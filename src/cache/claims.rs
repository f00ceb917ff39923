//! The units that this process is compiling now, so that an op that needs one of them waits for it instead of compiling
//! it, too.
//!
//! Only saves work: other processes compile independently, and a unit that is claimed may still not compile. No op
//! waits while it holds a claim, so that no two can wait for each other. No op waits for longer than compiling alone
//! would take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::unit::UnitKey;

/// The units that are claimed. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    claimed: BTreeSet<UnitKey>,
    /// How often an op compiled a unit and had nothing to share in the end.
    in_vain: BTreeMap<UnitKey, usize>,
    pace: Pace,
}

/// Some units, which are claimed until this is dropped.
#[derive(Debug)]
pub struct Claim {
    shared: Arc<Shared>,
    units: BTreeSet<UnitKey>,
    began: Instant,
}

/// The average time that this process held a claim, for each resulting unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    units: u32,
    time: Duration,
}

impl Pace {
    /// No op gives up a wait earlier: starting a cell takes its time, too.
    const SHORTEST: Duration = Duration::from_secs(5);
    /// How much slower than the average a unit may be.
    const SPREAD: u32 = 4;
    /// The time of a unit before any was compiled.
    const GUESS: Duration = Duration::from_secs(1);

    /// How long an op that compiled so many units alone would be at it, at most, as far as this process can know.
    pub fn alone(self, units: usize) -> Duration {
        let each = if self.units == 0 { Self::GUESS } else { self.time / self.units };
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Self::SHORTEST.saturating_add(each.saturating_mul(units).saturating_mul(Self::SPREAD))
    }

    fn add(&mut self, units: usize, time: Duration) {
        self.units = self.units.saturating_add(u32::try_from(units).unwrap_or(u32::MAX));
        self.time = self.time.saturating_add(time);
    }
}

impl Claims {
    /// Claims those of the units that no other op has claimed.
    pub fn claim<'a>(&self, units: impl IntoIterator<Item = &'a UnitKey>) -> Claim {
        let mut state = self.shared.state();
        let free = units.into_iter().filter(|unit| state.claimed.insert((*unit).clone()));
        Claim { units: free.cloned().collect(), shared: Arc::clone(&self.shared), began: Instant::now() }
    }

    /// Waits until none of the units of one of the groups is claimed, and returns the name of that group.
    pub async fn released<'a, K: Clone + 'a>(
        &self,
        groups: impl Iterator<Item = (&'a K, &'a BTreeSet<UnitKey>)> + Clone,
    ) -> K {
        loop {
            // Before looking, so that no release is missed.
            let released = self.shared.released.notified();
            let free = {
                let state = self.shared.state();
                groups.clone().find(|(_, units)| state.claimed.is_disjoint(units)).map(|(group, _)| group.clone())
            };
            match free {
                Some(group) => return group,
                None => released.await,
            }
        }
    }

    /// How often others compiled some of these units in vain. An op that waited for such a unit need not try it, too.
    pub fn in_vain(&self, units: &BTreeSet<UnitKey>) -> usize {
        let state = self.shared.state();
        units.iter().filter_map(|unit| state.in_vain.get(unit)).sum()
    }

    /// How fast this process compiles.
    pub fn pace(&self) -> Pace {
        self.shared.state().pace
    }
}

impl Claim {
    /// Records the units that have become layers. All others were compiled in vain.
    pub fn came_to(&self, taken: &BTreeSet<UnitKey>) {
        let mut state = self.shared.state();
        for unit in self.units.iter().filter(|unit| !taken.contains(unit)) {
            *state.in_vain.entry(unit.clone()).or_default() += 1;
        }
        if !taken.is_empty() {
            state.pace.add(taken.len(), self.began.elapsed());
        }
    }

    /// Whether the unit is one of them.
    pub fn has(&self, unit: &UnitKey) -> bool {
        self.units.contains(unit)
    }

    /// Whether all units were claimed by others.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.state().claimed.retain(|unit| !self.units.contains(unit));
        self.shared.released.notify_waiters();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(units: &[&str]) -> BTreeSet<UnitKey> {
        units.iter().map(|unit| UnitKey::of(unit)).collect()
    }

    fn claim(claims: &Claims, units: &[&str]) -> Claim {
        claims.claim(&set(units))
    }

    #[test]
    fn a_unit_is_claimed_once_at_a_time() {
        let claims = Claims::default();
        let first = claim(&claims, &["a", "b"]);
        let second = claim(&claims.clone(), &["b", "c"]);
        assert_eq!(first.units, set(&["a", "b"]));
        assert_eq!(second.units, set(&["c"]));
        assert!(claim(&claims, &["a", "c"]).is_empty());
        drop(first);
        assert_eq!(claim(&claims, &["a", "b", "c"]).units, set(&["a", "b"]));
    }

    #[test]
    fn units_that_were_compiled_in_vain_are_known_to_all() {
        let claims = Claims::default();
        let claim = claim(&claims, &["a", "b"]);
        assert_eq!(claims.in_vain(&set(&["a", "b"])), 0);
        claim.came_to(&set(&["b"]));
        claim.came_to(&set(&["b"]));
        assert_eq!([&["a", "b"][..], &["b", "c"]].map(|units| claims.in_vain(&set(units))), [2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_as_long_as_compiling_alone_would_take() {
        let claims = Claims::default();
        let unknown = claims.pace();
        assert!(unknown.alone(1) < unknown.alone(2));
        let fast = claim(&claims, &["a", "b"]);
        tokio::time::advance(Duration::from_secs(20)).await;
        fast.came_to(&set(&["a", "b"]));
        // Ten seconds a unit.
        assert_eq!(claims.pace().alone(3), Pace::SHORTEST + Duration::from_secs(30) * Pace::SPREAD);
        // A failed claim doesn't lengthen a wait.
        let stuck = claim(&claims, &["c"]);
        tokio::time::advance(Duration::from_secs(3600)).await;
        stuck.came_to(&set(&[]));
        assert_eq!(claims.pace().alone(1), Pace::SHORTEST + Duration::from_secs(10) * Pace::SPREAD);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_op_goes_on_when_all_units_of_a_group_are_released() {
        let claims = Claims::default();
        let groups = BTreeMap::from([(1, set(&["a", "b"])), (2, set(&["a", "c"]))]);
        assert_eq!(claims.released(groups.iter()).await, 1);
        let (a, b, c) = (claim(&claims, &["a"]), claim(&claims, &["b"]), claim(&claims, &["c"]));
        let waiting = tokio::spawn({
            let claims = claims.clone();
            async move { claims.released(groups.iter()).await }
        });
        tokio::task::yield_now().await;
        drop(a);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(c);
        assert_eq!(waiting.await.unwrap(), 2);
        drop(b);
    }
}
