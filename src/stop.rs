//! How work ends early: `Run < Drain < Kill`, over a watch channel that never blocks.

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
pub struct Stop(watch::Receiver<StopLevel>);

/// Makes a connected pair at [`StopLevel::Run`].
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(StopLevel::Run);
    (Stopper(sender), Stop(receiver))
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

    /// The level now.
    pub fn level(&self) -> StopLevel {
        *self.0.borrow()
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
        let mut receiver = self.0.clone();
        match receiver.wait_for(|current| enough(*current)).await.map(|level| *level) {
            Ok(level) => level,
            // The stopper is gone, so no stop can arrive any more.
            Err(_) => std::future::pending().await,
        }
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
    async fn a_stop_whose_stopper_is_gone_never_comes() {
        let stop = Stop::never();
        let wait = tokio::time::timeout(std::time::Duration::from_secs(3600), stop.reached(StopLevel::Drain));
        assert!(wait.await.is_err());
    }
}
