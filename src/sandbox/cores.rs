//! Cores that one command has to itself, as long as all commands of this sandbox ask for theirs.
//!
//! Knows nothing of other programs on the host, nor of another maar.

use std::sync::{Arc, Mutex, PoisonError};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The cores that this process may use, and which of them are taken.
#[derive(Debug, Clone)]
pub(super) struct CorePool {
    free: Arc<Mutex<Vec<usize>>>,
    /// As many permits as there are free cores, given out in the order in which they are asked for.
    permits: Arc<Semaphore>,
    all: u32,
}

/// Some cores, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    cores: Vec<usize>,
    free: Arc<Mutex<Vec<usize>>>,
    /// Given back after the cores themselves.
    _permits: OwnedSemaphorePermit,
}

impl CorePool {
    /// The cores that this process may use.
    pub(super) fn of_this_process() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        Self::of((0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false)).collect())
    }

    fn of(cores: Vec<usize>) -> Self {
        let all = u32::try_from(cores.len()).unwrap_or(u32::MAX);
        Self { permits: Arc::new(Semaphore::new(cores.len())), free: Arc::new(Mutex::new(cores)), all }
    }

    /// Waits for as many whole cores as `cpus` CPUs need, at most all of them. `None`: the host has none to give.
    pub(super) async fn lease(&self, cpus: f64) -> Option<Lease> {
        let wanted = (cpus.ceil().max(1.0) as u32).min(self.all);
        let permits = Arc::clone(&self.permits).acquire_many_owned(wanted).await.ok()?;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = free.len().saturating_sub(wanted as usize);
        let cores = free.split_off(rest);
        drop(free);
        (!cores.is_empty()).then(|| Lease { cores, free: Arc::clone(&self.free), _permits: permits })
    }
}

impl Lease {
    /// The numbers of the cores.
    pub(super) fn cores(&self) -> &[usize] {
        &self.cores
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).append(&mut self.cores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_shares_a_core_and_who_comes_late_waits() {
        let pool = CorePool::of(vec![3, 5, 7]);
        let one = pool.lease(0.5).await.unwrap();
        let two = pool.lease(1.5).await.unwrap();
        let mut all: Vec<usize> = [one.cores(), two.cores()].concat();
        all.sort_unstable();
        assert_eq!(all, [3, 5, 7]);
        let soon = tokio::time::timeout(std::time::Duration::from_secs(1), pool.lease(1.0)).await;
        assert!(soon.is_err());
        drop(one);
        assert_eq!(pool.lease(1.0).await.unwrap().cores().len(), 1);
    }

    #[tokio::test]
    async fn more_than_there_are_is_all_there_are() {
        assert_eq!(CorePool::of(vec![0, 1]).lease(64.0).await.unwrap().cores(), [0, 1]);
        assert!(CorePool::of(Vec::new()).lease(1.0).await.is_none());
        assert!(!CorePool::of_this_process().lease(1.0).await.unwrap().cores().is_empty());
    }
}
