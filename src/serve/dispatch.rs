//! Which experiment is next. Pure.
//!
//! Strictly by priority; among equals the one with the least CPU time for its weight, then the oldest.

use std::time::Duration;

use crate::store::service::{Served, State};

/// Why the running experiment should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It was deleted.
    Gone,
    /// It was aborted.
    Aborted,
    /// It was paused.
    Paused,
    /// Another one is first.
    Later,
}

/// The experiments that wait to run, the next one first.
pub(super) fn order(open: &[Served]) -> Vec<&Served> {
    let mut waiting: Vec<&Served> =
        open.iter().filter(|experiment| experiment.state == Some(State::Queued) && !experiment.paused).collect();
    waiting.sort_by(|a, b| {
        let share = |experiment: &Served| experiment.spent as f64 / experiment.weight;
        b.priority.cmp(&a.priority).then(share(a).total_cmp(&share(b))).then(a.id.cmp(&b.id))
    });
    waiting
}

/// Whether the running experiment should stop, after a turn of this length.
pub(super) fn should_stop(open: &[Served], running: &str, turn: Duration, slice: Duration) -> Option<Why> {
    let Some(current) = open.iter().find(|experiment| experiment.name == running) else { return Some(Why::Gone) };
    if current.state == Some(State::Aborting) {
        return Some(Why::Aborted);
    }
    if current.paused {
        return Some(Why::Paused);
    }
    let first = *order(open).first()?;
    let share = |experiment: &Served| experiment.spent as f64 / experiment.weight;
    let is_first = first.priority > current.priority
        || (first.priority == current.priority && turn >= slice && share(first) < share(current));
    is_first.then_some(Why::Later)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn experiment(id: i64, state: State, priority: i64, weight: f64, spent: u64) -> Served {
        let now = SystemTime::now();
        Served {
            id,
            name: format!("e{id}"),
            created: now,
            updated: now,
            state: Some(state),
            generation: 1,
            priority,
            weight,
            paused: false,
            needs: "{}".into(),
            confirm: None,
            notify: "[]".into(),
            owner: None,
            etag: 1,
            queued: None,
            ended: None,
            trouble: None,
            crates: 0,
            spent,
        }
    }

    #[test]
    fn priority_is_strict_and_equals_share_by_weight() {
        let mut open = vec![
            experiment(1, State::Queued, 0, 1.0, 50),
            experiment(2, State::Queued, 0, 2.0, 80),
            experiment(3, State::Queued, 5, 1.0, 9999),
            experiment(4, State::Planning, 9, 1.0, 0),
            experiment(5, State::Queued, 0, 1.0, 50),
        ];
        let names = |open: &[Served]| order(open).iter().map(|it| it.id).collect::<Vec<_>>();
        assert_eq!(names(&open), [3, 2, 1, 5]);
        open[2].paused = true;
        assert_eq!(names(&open), [2, 1, 5]);
    }

    #[test]
    fn a_turn_ends_for_a_greater_priority_at_once_and_for_an_equal_after_its_slice() {
        let slice = Duration::from_secs(600);
        let why = |open: &[Served], turn| should_stop(open, "e1", Duration::from_secs(turn), slice);
        let mut open = vec![experiment(1, State::Running, 0, 1.0, 100), experiment(2, State::Queued, 0, 1.0, 10)];
        assert_eq!(why(&open, 10), None);
        assert_eq!(why(&open, 600), Some(Why::Later));
        open[1].spent = 200;
        assert_eq!(why(&open, 600), None);
        open[1].priority = 1;
        assert_eq!(why(&open, 10), Some(Why::Later));
        open[1].priority = -1;
        assert_eq!(why(&open, 9999), None);
        open[0].paused = true;
        assert_eq!(why(&open, 10), Some(Why::Paused));
        open[0].state = Some(State::Aborting);
        assert_eq!(why(&open, 10), Some(Why::Aborted));
        assert_eq!(why(&open[1..], 10), Some(Why::Gone));
    }
}
