//! Removes what jobs have written, beside the workers: a hostile tree takes minutes, and a worker has better to do.
//!
//! As many folders as crates may be in progress can wait, so that the disk stays bounded; then jobs wait for their
//! turn.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::sandbox::{User, remove_folder};

/// The number of folders that are removed in parallel: removal occupies the disk, which others need too.
const THREADS: usize = 2;

/// A folder that is no longer needed. Dropping it removes it with its contents, which can take minutes.
#[derive(Debug)]
pub struct Doomed {
    pub(super) path: PathBuf,
    /// Who owns files in it. No other job may become that user before they are gone.
    _user: User,
}

impl Doomed {
    pub(super) fn new(path: PathBuf, user: &User) -> Self {
        Self { path, _user: user.clone() }
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // The next run sweeps up folders that can't be removed now.
        let _ = remove_folder(&self.path);
    }
}

/// Takes values to be removed: dropping a `T` removes it. Clones go to the same threads.
#[derive(Debug)]
pub struct Removal<T> {
    queue: async_channel::Sender<T>,
}

/// The threads that remove.
#[derive(Debug)]
pub struct Removers {
    threads: JoinSet<()>,
    spent: Arc<Mutex<Duration>>,
}

impl<T> Clone for Removal<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// Starts the threads, in whose queue so many can wait. They end when all clones of the first value are gone.
pub fn start<T: Send + 'static>(most: usize) -> (Removal<T>, Removers) {
    let (queue, waiting) = async_channel::bounded::<T>(most.max(1));
    let spent = Arc::new(Mutex::new(Duration::ZERO));
    let mut threads = JoinSet::new();
    for _ in 0..THREADS {
        let (waiting, spent) = (waiting.clone(), Arc::clone(&spent));
        threads.spawn_blocking(move || {
            while let Ok(next) = waiting.recv_blocking() {
                let begun = Instant::now();
                // A panic in there concerns this removal only, and the next run sweeps up its rest.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(next)));
                *spent.lock().unwrap_or_else(PoisonError::into_inner) += begun.elapsed();
            }
        });
    }
    (Removal { queue }, Removers { threads, spent })
}

impl<T> Removal<T> {
    /// One without threads: the caller itself removes the value.
    pub fn at_once() -> Self {
        let (queue, _) = async_channel::bounded(1);
        Self { queue }
    }

    /// One whose threads are always busy: so many values wait at the other end.
    #[cfg(test)]
    pub(super) fn stuck(most: usize) -> (Self, async_channel::Receiver<T>) {
        let (queue, waiting) = async_channel::bounded(most);
        (Self { queue }, waiting)
    }

    /// Hands over a value to be removed, as soon as the queue has room.
    pub async fn take(&self, old: T) {
        // Without threads, dropping the error removes it here.
        let _ = self.queue.send(old).await;
    }
}

impl<T: Send + 'static> Removal<T> {
    /// Hands over a value to be removed if the queue has room, else removes it before this returns: a caller with
    /// more work must not wait for the removals of others.
    pub async fn offer(&self, old: T) {
        let Err(refused) = self.queue.try_send(old) else { return };
        // A panic in there is the removal's own.
        let _ = tokio::task::spawn_blocking(move || drop(refused.into_inner())).await;
    }
}

impl Removers {
    /// Waits until everything is removed, and returns how long that kept the threads busy.
    pub async fn finish(mut self) -> Duration {
        while self.threads.join_next().await.is_some() {}
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Its removal lasts until a message arrives.
    struct Slow {
        go: mpsc::Receiver<()>,
        removed: mpsc::Sender<()>,
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            self.go.recv().unwrap();
            self.removed.send(()).unwrap();
        }
    }

    #[tokio::test]
    async fn whoever_hands_over_a_folder_goes_on_until_too_many_wait() {
        let (removal, removers) = start(1);
        let (removed, count) = mpsc::channel();
        let mut words = Vec::new();
        let mut slow = || {
            let (word, go) = mpsc::channel();
            words.push(word);
            Slow { go, removed: removed.clone() }
        };
        // Each thread has one, and one waits.
        for _ in 0..=THREADS {
            removal.take(slow()).await;
        }
        let (another, last) = (removal.clone(), slow());
        let one_more = async move { another.take(last).await };
        tokio::pin!(one_more);
        let soon = tokio::time::timeout(Duration::from_millis(100), &mut one_more).await;
        assert!(soon.is_err(), "there is no room for it");
        assert!(count.try_recv().is_err(), "nothing is removed yet");
        words.iter().for_each(|word| word.send(()).unwrap());
        one_more.await;
        drop(removal);
        let spent = removers.finish().await;
        assert_eq!(count.try_iter().count(), THREADS + 2);
        assert!(spent >= Duration::from_millis(100), "{spent:?}");
    }

    #[tokio::test]
    async fn a_removal_that_panics_keeps_no_other_from_being_done() {
        struct Loud(Option<mpsc::Sender<()>>);
        impl Drop for Loud {
            fn drop(&mut self) {
                self.0.take().expect("this one panics").send(()).unwrap();
            }
        }
        let (removal, removers) = start(1);
        let (removed, count) = mpsc::channel();
        for loud in [None, None, None, Some(removed)] {
            removal.take(Loud(loud)).await;
        }
        drop(removal);
        removers.finish().await;
        assert_eq!(count.iter().count(), 1);
    }
}
