//! Where steps wait for the workers of one pool: the greatest priority first, equals in order of arrival.
//!
//! Has no bound: permits already cap what can be queued.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};

/// A heap, and a ticket for each item in it. A received ticket grants one pop, so that takers wait on the channel and
/// hold the lock for nothing but a push or a pop.
pub(super) struct Queue<T> {
    heap: Mutex<Heap<T>>,
    give: Sender<()>,
    tickets: Receiver<()>,
}

struct Heap<T> {
    arrivals: u64,
    entries: BinaryHeap<Entry<T>>,
}

struct Entry<T> {
    rank: (u64, Reverse<u64>),
    item: T,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let (give, tickets) = async_channel::unbounded();
        Self { heap: Mutex::new(Heap { arrivals: 0, entries: BinaryHeap::new() }), give, tickets }
    }

    /// Adds an item; nothing may be added once the queue is closed.
    pub(super) fn push(&self, priority: u64, item: T) {
        let mut heap = self.heap();
        let rank = (priority, Reverse(heap.arrivals));
        heap.arrivals += 1;
        heap.entries.push(Entry { rank, item });
        drop(heap);
        let sent = self.give.try_send(());
        debug_assert!(sent.is_ok(), "an open channel without a bound takes every ticket");
    }

    /// Takes the first item, waiting for one; `None` once the queue is closed and empty.
    pub(super) async fn take(&self) -> Option<T> {
        self.tickets.recv().await.ok()?;
        self.pop()
    }

    /// Takes the first item, if there is one.
    pub(super) fn try_take(&self) -> Option<T> {
        self.tickets.try_recv().ok()?;
        self.pop()
    }

    /// Wakes all takers: no item will follow.
    pub(super) fn close(&self) {
        self.give.close();
    }

    /// For holders of a ticket only, who always find an item: it was pushed before the ticket was sent.
    fn pop(&self) -> Option<T> {
        self.heap().entries.pop().map(|entry| entry.item)
    }

    fn heap(&self) -> MutexGuard<'_, Heap<T>> {
        // Comparing integers can't panic halfway through a push or a pop, so the heap is always whole.
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greater_priorities_come_first_and_equals_in_order_of_arrival() {
        let queue = Queue::new();
        for (priority, item) in [(1, 'c'), (2, 'a'), (1, 'd'), (2, 'b'), (0, 'e')] {
            queue.push(priority, item);
        }
        let order: String = std::iter::from_fn(|| queue.try_take()).collect();
        assert_eq!(order, "abcde");
    }

    #[tokio::test]
    async fn a_closed_queue_hands_out_what_it_has_and_then_ends() {
        let queue = Queue::new();
        queue.push(0, 'a');
        queue.close();
        assert_eq!(queue.take().await, Some('a'));
        assert_eq!(queue.take().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_waits_for_a_push() {
        let queue = Queue::new();
        let take = queue.take();
        let push = async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            queue.push(0, 'a');
        };
        assert_eq!(tokio::join!(take, push).0, Some('a'));
    }
}
