//! One piece of work per key, however many ask for it at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::error::RegistryError;

type Cell<V> = Arc<OnceCell<Result<V, RegistryError>>>;

/// The work of one run by key: values are kept, errors are shared by those who waited and then forgotten.
#[derive(Debug)]
pub(super) struct Flights<K, V>(Mutex<HashMap<K, Cell<V>>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// The value for `key`: known already, on its way, or made by `work`.
    ///
    /// A caller that is dropped while it does the work leaves it to the next in line.
    pub(super) async fn get(
        &self,
        key: K,
        work: impl Future<Output = Result<V, RegistryError>>,
    ) -> Result<V, RegistryError> {
        let cell = Arc::clone(self.lock().entry(key.clone()).or_default());
        let result = cell.get_or_init(|| work).await.clone();
        if result.is_err() {
            let mut cells = self.lock();
            // Another caller may have begun a new flight since; that one stays.
            if cells.get(&key).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
                cells.remove(&key);
            }
        }
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Cell<V>>> {
        // The map is whole between any two statements that hold the lock, so a panic elsewhere harms nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_one_error_and_the_next_asker_tries_again() {
        let flights = Arc::new(Flights::<u8, u8>::default());
        let tries = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let (flights, tries) = (Arc::clone(&flights), Arc::clone(&tries));
            async move {
                let work = async {
                    let try_ = tries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    if try_ == 0 { Err(RegistryError::Panic("first".into())) } else { Ok(7) }
                };
                flights.get(1, work).await
            }
        };
        let (a, b) = tokio::join!(ask(), ask());
        assert!(a.is_err() && b.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        assert_eq!(ask().await.unwrap(), 7);
        assert_eq!(ask().await.unwrap(), 7);
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn work_whose_asker_went_away_is_done_by_the_next_in_line() {
        let flights = Flights::<u8, u8>::default();
        let gone = tokio::time::timeout(Duration::from_secs(1), flights.get(1, std::future::pending()));
        let (gone, value) = tokio::join!(gone, flights.get(1, async { Ok(3) }));
        assert!(gone.is_err());
        assert_eq!(value.unwrap(), 3);
    }
}
