//! How work ends early: `Run < Drain < Kill`, over a watch channel that never blocks.

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::watch;

/// How urgently everything should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// Go on.
    Run,
    /// Start nothing new, finish running work.
    Drain,
    /// End running work now.
    Kill,
}

/// The sending side: raises the level, never lowers it.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<StopLevel>);

/// The receiving side. Clones see the same level.
#[derive(Debug, Clone)]
pub struct Stop(Arc<[watch::Receiver<StopLevel>]>);

/// Makes a connected pair at [`StopLevel::Run`].
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(StopLevel::Run);
    (Stopper(sender), Stop([receiver].into()))
}

impl Stopper {
    /// Raises the level to at least `level`.
    pub fn raise(&self, level: StopLevel) {
        self.0.send_if_modified(|current| {
            let raise = level > *current;
            if raise {
                *current = level;
            }
            raise
        });
    }
}

impl Stop {
    /// A stop that never comes.
    pub fn never() -> Self {
        let (_, stop) = channel();
        stop
    }

    /// A stop that comes as soon as one of the two does, such as that of the whole run and that of one experiment.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&*other.0).cloned().collect())
    }

    /// The level now.
    pub fn level(&self) -> StopLevel {
        self.0.iter().map(|receiver| *receiver.borrow()).max().unwrap_or(StopLevel::Run)
    }

    /// Waits until the level is at least `level`; forever if it never is.
    pub async fn reached(&self, level: StopLevel) {
        self.wait_for(|current| current >= level).await;
    }

    /// Waits until the level is above `level`, and returns the new level.
    pub async fn risen_above(&self, level: StopLevel) -> StopLevel {
        self.wait_for(|current| current > level).await
    }

    async fn wait_for(&self, enough: impl Fn(StopLevel) -> bool) -> StopLevel {
        match &*self.0 {
            [one] => wait_for(one.clone(), &enough).await,
            several => select_all(several.iter().map(|one| Box::pin(wait_for(one.clone(), &enough)))).await.0,
        }
    }
}

async fn wait_for(mut receiver: watch::Receiver<StopLevel>, enough: &impl Fn(StopLevel) -> bool) -> StopLevel {
    match receiver.wait_for(|current| enough(*current)).await.map(|level| *level) {
        Ok(level) => level,
        // The stopper is gone, so no stop can arrive any more.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn levels_rise_and_never_fall() {
        let (stopper, stop) = channel();
        stopper.raise(StopLevel::Kill);
        stopper.raise(StopLevel::Drain);
        assert_eq!(stop.level(), StopLevel::Kill);
        stop.reached(StopLevel::Drain).await;
    }

    #[tokio::test(start_paused = true)]
    async fn either_of_two_stops_is_enough() {
        let second = std::time::Duration::from_secs(1);
        let ((one, first), (other, last)) = (channel(), channel());
        let (both, three) = (first.or(&last), first.or(&last).or(&Stop::never()));
        let raise = async {
            tokio::time::sleep(second).await;
            other.raise(StopLevel::Drain);
            tokio::time::sleep(second).await;
            one.raise(StopLevel::Kill);
        };
        let wait = async {
            let begun = tokio::time::Instant::now();
            assert_eq!(both.risen_above(StopLevel::Run).await, StopLevel::Drain);
            assert_eq!((begun.elapsed(), both.level(), first.level()), (second, StopLevel::Drain, StopLevel::Run));
            assert_eq!(three.risen_above(StopLevel::Drain).await, StopLevel::Kill);
            assert_eq!(begun.elapsed(), 2 * second);
        };
        tokio::join!(raise, wait);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_whose_stopper_is_gone_never_comes() {
        let stop = Stop::never();
        let wait = tokio::time::timeout(std::time::Duration::from_secs(3600), stop.reached(StopLevel::Drain));
        assert!(wait.await.is_err());
    }
}
