//! Keeps leases alive, and ends the crates that the server takes back.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::{Agent, note};
use crate::wire::{Renew, Renewed};

/// Renews all leases, again and again.
pub(super) async fn renew(agent: Arc<Agent>) {
    let mut ticks = interval(agent.welcome.renew());
    // After a pause of the host one renewal is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        ticks.tick().await;
        let leases = agent.holding.leases();
        if leases.is_empty() {
            continue;
        }
        let running = u32::try_from(agent.holding.count()).unwrap_or(u32::MAX);
        let message = Renew { leases, running, load: load() };
        match agent.client.post::<_, Renewed>("renew", &message).await {
            Ok(renewed) => {
                is_away = false;
                for (lease, why) in renewed.unwrap_or_default().drop {
                    // Others have a report that has just been sent.
                    if agent.holding.drop_lease(&lease) {
                        note(&format!("drops a crate: {why}"));
                    }
                }
            }
            Err(error) => {
                // Once for each time that it goes away: running crates go on.
                if !is_away {
                    note(&format!("{error}; crates go on, and their reports wait"));
                }
                is_away = true;
            }
        }
    }
}

/// The load of the host in the last minute.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
