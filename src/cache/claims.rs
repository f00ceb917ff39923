//! Which packages this process is compiling now, so that whoever needs one of them waits for it instead of compiling it,
//! too.
//!
//! Only saves work: other processes compile what they like, and a package that is claimed may still not compile. Nobody
//! waits while holding a claim, so that no two can wait for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The packages that are claimed. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    packages: Mutex<BTreeSet<String>>,
    /// How often somebody compiled a package and had nothing to share in the end.
    in_vain: Mutex<BTreeMap<String, usize>>,
    released: Notify,
}

/// Some packages, which are claimed until this is dropped.
#[derive(Debug)]
pub struct Claim {
    shared: Arc<Shared>,
    packages: BTreeSet<String>,
}

impl Claims {
    /// Claims those of the packages that nobody else has claimed.
    pub fn claim<'a>(&self, packages: impl IntoIterator<Item = &'a str>) -> Claim {
        let mut claimed = self.shared.packages();
        let free = packages.into_iter().filter(|package| claimed.insert((*package).to_owned()));
        Claim { packages: free.map(str::to_owned).collect(), shared: Arc::clone(&self.shared) }
    }

    /// Waits until none of the packages of one of the groups is claimed, and says which group that is.
    pub async fn released<'a, K: Clone + 'a>(
        &self,
        groups: impl Iterator<Item = (&'a K, &'a BTreeSet<String>)> + Clone,
    ) -> K {
        loop {
            // Before looking, so that no release is missed.
            let released = self.shared.released.notified();
            let free = {
                let claimed = self.shared.packages();
                groups.clone().find(|(_, packages)| claimed.is_disjoint(packages)).map(|(group, _)| group.clone())
            };
            match free {
                Some(group) => return group,
                None => released.await,
            }
        }
    }

    /// How often others compiled some of these packages in vain. Whoever waited for one meanwhile need not try it, too.
    pub fn in_vain(&self, packages: &BTreeSet<String>) -> usize {
        let in_vain = self.shared.in_vain();
        packages.iter().filter_map(|package| in_vain.get(package)).sum()
    }
}

impl Claim {
    /// Says that some of the packages were compiled in vain.
    pub fn was_in_vain(&self, packages: impl IntoIterator<Item = String>) {
        let mut in_vain = self.shared.in_vain();
        packages.into_iter().for_each(|package| *in_vain.entry(package).or_default() += 1);
    }

    /// Whether the package is one of them.
    pub fn has(&self, package: &str) -> bool {
        self.packages.contains(package)
    }

    /// The packages.
    pub fn packages(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().map(String::as_str)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.packages().retain(|package| !self.packages.contains(package));
        self.shared.released.notify_waiters();
    }
}

impl Shared {
    fn in_vain(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.in_vain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn packages(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(packages: &[&str]) -> BTreeSet<String> {
        packages.iter().map(|package| (*package).to_owned()).collect()
    }

    #[test]
    fn a_package_is_claimed_once_at_a_time() {
        let claims = Claims::default();
        let first = claims.claim(["a", "b"]);
        let second = claims.clone().claim(["b", "c"]);
        assert_eq!(first.packages().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(second.packages().collect::<Vec<_>>(), ["c"]);
        drop(first);
        assert_eq!(claims.claim(["a", "b", "c"]).packages().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_was_in_vain_is_known_to_all() {
        let claims = Claims::default();
        let claim = claims.claim(["a", "b"]);
        assert_eq!(claims.in_vain(&set(&["a", "b"])), 0);
        claim.was_in_vain(["a".to_owned()]);
        claim.was_in_vain(["a".to_owned()]);
        assert_eq!([&["a", "b"][..], &["b", "c"]].map(|packages| claims.in_vain(&set(packages))), [2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_when_all_of_a_group_are_released() {
        let claims = Claims::default();
        let groups = BTreeMap::from([(1, set(&["a", "b"])), (2, set(&["a", "c"]))]);
        assert_eq!(claims.released(groups.iter()).await, 1);
        let (a, b, c) = (claims.claim(["a"]), claims.claim(["b"]), claims.claim(["c"]));
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
