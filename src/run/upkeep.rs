//! Keeps the layers of compiled dependencies within their budget while a run goes on.

use std::time::Duration;

use bytesize::ByteSize;

use crate::cache::{self, Collected};
use crate::experiment::Caching;
use crate::home::Home;

/// The time between two collections of layers during a run.
const COLLECT_EVERY: Duration = Duration::from_secs(120);

/// Keeps layers from filling the disk in a long run, until dropped. Failures show at the end, in
/// [`keep_within_budget`].
pub(super) async fn collect_now_and_then(caching: Caching, budget: ByteSize, home: &Home) {
    loop {
        tokio::time::sleep(COLLECT_EVERY).await;
        let home = home.clone();
        let _ = tokio::task::spawn_blocking(move || keep_within_budget(caching, budget, &home)).await;
    }
}

/// Removes layers over the budget, and returns a note if it did. A failure is a note, too: it is no reason to lose the
/// results of a run.
pub(super) fn keep_within_budget(caching: Caching, budget: ByteSize, home: &Home) -> Option<String> {
    match caching {
        Caching::On => {}
        Caching::Off => return None,
    }
    match cache::keep_within(&home.layers(), budget) {
        Ok(Collected { removed: 0, .. }) => None,
        Ok(collected) => Some(format!("cache: {collected}; cache-budget is {}", budget.display().iec())),
        Err(error) => Some(format!("cache: failed to keep within cache-budget: {error}")),
    }
}
