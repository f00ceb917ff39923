//! Events for those who watch: kept for a while, so that a client whose connection broke goes on where it was.
//!
//! A slow client loses events and gets a note about it; it never slows the others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

/// How many events are kept for clients that come back.
const KEPT: usize = 8192;

/// How many events a client may be behind.
const BEHIND: usize = 1024;

/// Something that happened to an experiment.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number: later events have greater ones, also after a restart of the server.
    pub id: u64,
    /// The experiment.
    pub experiment: String,
    /// `state`, `plan`, `count`, `op`, `verdict`, `log` or `gone`.
    pub kind: &'static str,
    /// The details, as JSON.
    pub data: String,
}

/// All events.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<Kept>,
    sender: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    events: VecDeque<Arc<Event>>,
    first: u64,
}

/// The events from one moment on.
#[derive(Debug)]
pub struct Subscription {
    /// Those that the client missed.
    pub missed: Vec<Arc<Event>>,
    /// Whether some of them are not kept any more.
    pub is_broken: bool,
    /// Those to come.
    pub coming: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A thousand events a millisecond don't happen, so the numbers of a later process are greater. JavaScript has
        // whole numbers up to 2^53.
        let next = u64::try_from(now.as_millis()).unwrap_or(0) << 10;
        Self {
            kept: Mutex::new(Kept { next, events: VecDeque::new(), first: next }),
            sender: broadcast::channel(BEHIND).0,
        }
    }
}

impl Events {
    /// Sends an event to all clients.
    pub fn publish(&self, experiment: &str, kind: &'static str, data: &impl serde::Serialize) {
        // Our own types are always JSON.
        let data = serde_json::to_string(data).unwrap_or_default();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Arc::new(Event { id: kept.next, experiment: experiment.to_owned(), kind, data });
        kept.next += 1;
        if kept.events.len() == KEPT {
            kept.events.pop_front();
            kept.first = kept.events.front().map_or(kept.next, |event| event.id);
        }
        kept.events.push_back(Arc::clone(&event));
        // Within the lock, so that subscribers get every event once. Without clients the channel has no receiver.
        let _ = self.sender.send(event);
    }

    /// The events behind the one with this number; none: only those to come.
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let coming = self.sender.subscribe();
        let Some(after) = after else { return Subscription { missed: Vec::new(), is_broken: false, coming } };
        let missed = kept.events.iter().filter(|event| event.id > after).cloned().collect();
        Subscription { missed, is_broken: after + 1 < kept.first || after >= kept.next, coming }
    }

    /// The number of the latest event.
    pub fn latest(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).next - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_comes_back_gets_what_it_missed_once() {
        let events = Events::default();
        let start = events.latest();
        events.publish("a", "state", &1);
        events.publish("a", "state", &2);
        let mut back = events.subscribe(Some(start + 1));
        assert_eq!(back.missed.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), ["2"]);
        assert!(!back.is_broken);
        events.publish("a", "state", &3);
        assert_eq!(back.coming.try_recv().unwrap().data, "3");
        assert!(back.coming.try_recv().is_err());
    }

    #[test]
    fn a_client_that_was_away_for_too_long_is_told() {
        let events = Events::default();
        let start = events.latest();
        for number in 0..=KEPT {
            events.publish("a", "op", &number);
        }
        assert!(events.subscribe(Some(start)).is_broken);
        assert!(!events.subscribe(Some(start + 1)).is_broken);
        // Numbers of another server, or made up.
        assert!(events.subscribe(Some(3)).is_broken && events.subscribe(Some(u64::MAX - 1)).is_broken);
    }
}
