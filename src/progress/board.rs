//! The content of the bars: the state of a run, from updates. Has no layout, no terminal and no clock.

use std::collections::BTreeMap;
use std::time::Instant;

use anstyle::AnsiColor;

use super::colour::Colour;
use super::tally::Tally;
use super::{Plan, Update};
use crate::compare::Verdict;
use crate::ops::Activity;
use crate::pipeline::Pool;
use crate::printable::one_line;

/// The most lines that wait to be printed above the bars. More come only while the terminal takes none.
const MAX_ABOVE: usize = 1000;

/// The state of a run, as far as bars show it.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) pools: Vec<PoolLine>,
    /// By pool and worker.
    pub(super) running: BTreeMap<(usize, usize), Running>,
    pub(super) tally: Tally,
    pub(super) began: Instant,
    pub(super) colour: Colour,
    above: Vec<String>,
    above_lost: usize,
}

/// A pool, as it is now.
#[derive(Debug)]
pub(super) struct PoolLine {
    pub(super) name: String,
    pub(super) workers: usize,
    pub(super) queued: usize,
}

/// A step that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) krate: String,
    pub(super) op: String,
    pub(super) since: Instant,
    pub(super) activity: Activity,
}

impl Board {
    pub(super) fn new(plan: &Plan, now: Instant, colour: Colour) -> Self {
        let pool = |pool: &Pool| PoolLine { name: one_line(&pool.name), workers: pool.workers, queued: 0 };
        Self {
            pools: plan.pools.iter().map(pool).collect(),
            running: BTreeMap::new(),
            tally: Tally::new(plan),
            began: now,
            colour,
            above: Vec::new(),
            above_lost: 0,
        }
    }

    /// Takes note of an update.
    pub(super) fn apply(&mut self, update: Update, now: Instant) {
        match update {
            Update::Queued { pool } => {
                if let Some(pool) = self.pools.get_mut(pool) {
                    pool.queued += 1;
                }
            }
            Update::Dropped { pool } => self.unqueue(pool),
            Update::Started(label) => {
                self.unqueue(label.pool);
                let op = match &label.toolchain {
                    Some(toolchain) => one_line(&format!("{}@{toolchain}", label.op)),
                    None => one_line(&label.op),
                };
                let krate = one_line(&label.krate);
                let running = Running { krate, op, since: now, activity: label.activity };
                self.running.insert((label.pool, label.worker), running);
            }
            Update::Finished { label, .. } => {
                self.running.remove(&(label.pool, label.worker));
            }
            Update::Verdict { krate, verdict, reason } => {
                self.tally.add(verdict);
                if verdict == Verdict::Regressed {
                    let reason = reason.map(|reason| format!("  {}", one_line(&reason))).unwrap_or_default();
                    let verdict = self.colour.paint(verdict.as_str(), AnsiColor::Red.on_default().bold());
                    self.print(format!("{verdict}  {}{reason}", one_line(&krate)));
                }
            }
            // The bars count it from the beginning.
            Update::Known { .. } => {}
            Update::Note(text) => self.print(one_line(&text)),
        }
    }

    fn print(&mut self, line: String) {
        if self.above.len() < MAX_ABOVE {
            self.above.push(line);
        } else {
            self.above_lost += 1;
        }
    }

    /// The lines to print above the bars since the last call.
    pub(super) fn take_above(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.above);
        match std::mem::take(&mut self.above_lost) {
            0 => {}
            lost => lines.push(format!("({lost} lines more than the terminal could take)")),
        }
        lines
    }

    fn unqueue(&mut self, pool: usize) {
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.queued = pool.queued.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new(&Plan { pools: Vec::new(), crates: 1, already_done: 0 }, Instant::now(), Colour::Off)
    }

    #[test]
    fn regressions_and_notes_are_printed_above_in_one_safe_line() {
        let mut board = board();
        let reason = Some("build@nightly:\n\x1b[2Jno".into());
        let regressed = Update::Verdict { krate: "foo@1.2.3".into(), verdict: Verdict::Regressed, reason };
        board.apply(regressed, Instant::now());
        board.apply(Update::Note("a\nb".into()), Instant::now());
        assert_eq!(board.take_above(), ["regressed  foo@1.2.3  build@nightly: no", "a b"]);
        assert_eq!(board.take_above(), [""; 0]);
    }

    #[test]
    fn a_terminal_that_takes_nothing_costs_bounded_memory() {
        let mut board = board();
        for _ in 0..MAX_ABOVE + 7 {
            board.apply(Update::Note("note".into()), Instant::now());
        }
        let lines = board.take_above();
        assert_eq!(lines.len(), MAX_ABOVE + 1);
        assert_eq!(lines[MAX_ABOVE], "(7 lines more than the terminal could take)");
    }
}
