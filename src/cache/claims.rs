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
    pub async fn released<K: Ord + Clone>(&self, groups: &BTreeMap<K, BTreeSet<String>>) -> K {
        loop {
            // Before looking, so that no release is missed.
            let released = self.shared.released.notified();
            let free = {
                let claimed = self.shared.packages();
                groups.iter().find(|(_, packages)| claimed.is_disjoint(packages)).map(|(group, _)| group.clone())
            };
            match free {
                Some(group) => return group,
                None => released.await,
            }
        }
    }
}

impl Claim {
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

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_when_all_of_a_group_are_released() {
        let claims = Claims::default();
        let groups = BTreeMap::from([(1, set(&["a", "b"])), (2, set(&["a", "c"]))]);
        assert_eq!(claims.released(&groups).await, 1);
        let (a, b, c) = (claims.claim(["a"]), claims.claim(["b"]), claims.claim(["c"]));
        let waiting = tokio::spawn({
            let claims = claims.clone();
            async move { claims.released(&groups).await }
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
