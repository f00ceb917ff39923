//! Which packages this process is compiling now, so that whoever needs one of them waits for it instead of compiling it,
//! too.
//!
//! Only saves work: other processes compile what they like, and a package that is claimed may still not compile. Nobody
//! waits while holding a claim, so that no two can wait for each other.

use std::collections::BTreeSet;
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

    /// Waits until none of the packages is claimed.
    pub async fn released(&self, packages: &BTreeSet<String>) {
        loop {
            // Before looking, so that no release is missed.
            let released = self.shared.released.notified();
            if self.shared.packages().is_disjoint(packages) {
                return;
            }
            released.await;
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
    async fn whoever_waits_goes_on_when_all_are_released() {
        let claims = Claims::default();
        claims.released(&set(&["a"])).await;
        let (a, b) = (claims.claim(["a"]), claims.claim(["b"]));
        let waiting = tokio::spawn({
            let claims = claims.clone();
            async move { claims.released(&set(&["a", "b"])).await }
        });
        tokio::task::yield_now().await;
        drop(a);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(b);
        waiting.await.unwrap();
    }
}
