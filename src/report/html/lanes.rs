//! Lays a run out in time: a lane of bars for every worker, and the load of its pool. Pure; draws nothing.
//!
//! The time axis is a row of columns. Bars too short to be distinguished share one, so that a lane has no more bars
//! than columns, however many ops the run had.

use std::time::Duration;

use crate::compare::Span;
use crate::outcome::OutcomeKind;

/// One op, or several that are too short and too close to be distinguished.
#[derive(Debug, PartialEq)]
pub(super) struct Bar<'s> {
    /// Where it begins, in columns.
    pub(super) from: f64,
    /// Where it ends.
    pub(super) to: f64,
    /// The first of its ops.
    pub(super) first: &'s Span,
    /// How many ops it stands for.
    pub(super) ops: usize,
    /// How long they took together.
    pub(super) busy: Duration,
    /// The gravest of their outcomes.
    pub(super) worst: OutcomeKind,
}

/// The average load of a pool in one column of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    /// How many of its workers were busy.
    pub(super) busy: f64,
    /// How many ops waited for them.
    pub(super) waiting: f64,
}

/// The bars of one worker, whose spans come in order of time, of a run that took `wall`.
pub(super) fn bars<'s>(spans: &'s [Span], wall: Duration, columns: usize) -> Vec<Bar<'s>> {
    let place = |time: Duration| column(time, wall, columns);
    let mut bars: Vec<Bar<'s>> = Vec::new();
    for span in spans {
        let (from, to) = (place(span.from), place(span.from.saturating_add(span.wall)));
        match bars.last_mut() {
            // Merged where neither ends in a separate column.
            Some(last) if from.floor() <= last.to.floor() && (to.floor() <= last.to.floor() || is_short(last)) => {
                last.to = last.to.max(to);
                last.ops += 1;
                last.busy = last.busy.saturating_add(span.wall);
                last.worst = graver(last.worst, span.outcome);
            }
            Some(_) | None => {
                bars.push(Bar { from, to, first: span, ops: 1, busy: span.wall, worst: span.outcome });
            }
        }
    }
    bars
}

/// The load of a pool, column by column.
pub(super) fn load(spans: &[Span], wall: Duration, columns: usize) -> Vec<Load> {
    let mut load = vec![Load::default(); columns];
    for span in spans {
        let place = |time: Duration| column(time, wall, columns);
        let (queued, from) = (place(span.from.saturating_sub(span.waited)), place(span.from));
        spread(queued, from, &mut load, |load| &mut load.waiting);
        spread(from, place(span.from.saturating_add(span.wall)), &mut load, |load| &mut load.busy);
    }
    load
}

/// Adds to every column the part of it that lies between the two places.
fn spread(from: f64, to: f64, load: &mut [Load], field: impl Fn(&mut Load) -> &mut f64) {
    let last = (to.ceil() as usize).min(load.len());
    for (column, load) in load.iter_mut().enumerate().take(last).skip(from as usize) {
        *field(load) += (to.min(column as f64 + 1.0) - from.max(column as f64)).max(0.0);
    }
}

fn column(time: Duration, wall: Duration, columns: usize) -> f64 {
    if wall.is_zero() { 0.0 } else { time.div_duration_f64(wall).clamp(0.0, 1.0) * columns as f64 }
}

fn is_short(bar: &Bar<'_>) -> bool {
    bar.to - bar.from < 1.0
}

fn graver(one: OutcomeKind, other: OutcomeKind) -> OutcomeKind {
    let gravity = |kind| match kind {
        OutcomeKind::Skipped => 0,
        OutcomeKind::Passed => 1,
        OutcomeKind::Broken => 2,
        OutcomeKind::Inconclusive => 3,
        OutcomeKind::Failed => 4,
        OutcomeKind::Error => 5,
    };
    if gravity(other) > gravity(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Op, Stage};

    fn span(from: u64, wall: u64, outcome: OutcomeKind) -> Span {
        Span {
            stage: Stage::Build,
            worker: 0,
            from: Duration::from_secs(from),
            wall: Duration::from_secs(wall),
            waited: Duration::from_secs(from.min(5)),
            krate: 0,
            op: Op::Build.name(),
            toolchain: None,
            outcome,
        }
    }

    const WALL: Duration = Duration::from_secs(100);

    #[test]
    fn ops_with_room_have_a_bar_each() {
        let spans = [span(0, 30, OutcomeKind::Passed), span(30, 50, OutcomeKind::Failed)];
        let places: Vec<_> = bars(&spans, WALL, 10).iter().map(|bar| (bar.from, bar.to, bar.ops)).collect();
        assert_eq!(places, [(0.0, 3.0, 1), (3.0, 8.0, 1)]);
    }

    #[test]
    fn short_ops_share_a_bar_that_shows_the_gravest_outcome() {
        let spans: Vec<_> = (0..10_000)
            .map(|n| {
                let outcome = if n == 5000 { OutcomeKind::Error } else { OutcomeKind::Passed };
                Span { from: Duration::from_millis(10 * n), wall: Duration::from_millis(9), ..span(0, 0, outcome) }
            })
            .collect();
        let bars = bars(&spans, WALL, 100);
        assert!(bars.len() <= 101, "{}", bars.len());
        assert_eq!(bars.iter().map(|bar| bar.ops).sum::<usize>(), 10_000);
        assert_eq!(bars.iter().filter(|bar| bar.worst == OutcomeKind::Error).count(), 1);
        assert!(bars.windows(2).all(|pair| pair[0].to <= pair[1].from));
    }

    #[test]
    fn the_load_is_what_lies_in_each_column() {
        let spans = [span(0, 15, OutcomeKind::Passed), span(5, 5, OutcomeKind::Passed)];
        let busy: Vec<_> = load(&spans, WALL, 10).iter().map(|load| load.busy).collect();
        assert_eq!(busy, [1.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(load(&spans, WALL, 10)[0].waiting, 0.5);
    }

    #[test]
    fn a_run_of_no_length_and_times_beyond_it_are_kept_inside() {
        let spans = [span(0, 0, OutcomeKind::Passed), span(90, 900, OutcomeKind::Passed)];
        assert_eq!(bars(&spans, Duration::ZERO, 10).len(), 1);
        assert_eq!(bars(&spans, WALL, 10)[1].to, 10.0);
        assert_eq!(load(&spans, WALL, 10)[9].busy, 1.0);
    }
}
