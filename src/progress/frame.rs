//! Lays a board out as lines of a given width. Knows no terminal.

use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use console::{Alignment, measure_text_width, pad_str, truncate_str};

use super::board::{Board, PoolLine, Running};
use super::colour::Colour;
use crate::compare::Verdict;
use crate::ops::Doing;

/// The most steps that are shown as the slowest.
const SLOWEST: usize = 5;
/// A guess of the time left means little before this many crates have finished.
const ENOUGH_TO_GUESS: usize = 3;
/// Narrower terminals go without gauges.
const ROOM_FOR_GAUGES: usize = 60;
/// The widest gauge of a pool, in columns.
const GAUGE: usize = 16;

/// The room there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Board {
    /// The lines to show now, none wider than the screen: the pools, the slowest steps, the verdicts, the overall bar.
    pub(super) fn frame(&self, now: Instant, screen: Screen) -> Vec<String> {
        let mut lines = self.pool_lines(screen);
        // As many in every frame, so that nothing jumps. One row is the cursor's, two are the last lines'.
        let workers = self.pools.iter().fold(0, |sum, pool| pool.workers.saturating_add(sum));
        let room = screen.rows.saturating_sub(lines.len() + 3).min(SLOWEST).min(workers);
        lines.extend(self.slowest(room, now, screen));
        lines.push(self.verdicts());
        lines.push(self.overall(now, screen));
        lines.iter().map(|line| truncate_str(line, screen.columns, "…").into_owned()).collect()
    }

    fn pool_lines(&self, screen: Screen) -> Vec<String> {
        let name_width = self.pools.iter().map(|pool| measure_text_width(&pool.name)).max().unwrap_or_default();
        let most_workers = self.pools.iter().map(|pool| pool.workers).max().unwrap_or_default();
        let shares_width = 2 * most_workers.to_string().len() + 1;
        let line = |(index, pool): (usize, &PoolLine)| {
            let busy = self.running.range((index, 0)..=(index, usize::MAX)).count();
            let name = pad_str(&pool.name, name_width, Alignment::Left, None);
            let gauge = if screen.columns < ROOM_FOR_GAUGES {
                String::new()
            } else {
                format!("  {}", gauge(busy, pool.workers, GAUGE, self.colour))
            };
            let shares = format!("{busy}/{}", pool.workers);
            format!("{name}{gauge}  {shares:>shares_width$} busy  {:>5} queued", pool.queued)
        };
        self.pools.iter().enumerate().map(line).collect()
    }

    fn slowest(&self, room: usize, now: Instant, screen: Screen) -> Vec<String> {
        let mut running: Vec<_> = self.running.values().collect();
        running.sort_by_key(|step| step.since);
        running.truncate(room);
        let name_width = running.iter().map(|step| measure_text_width(&step.krate)).max().unwrap_or_default();
        // The op stays in sight beside a long name.
        let name_width = name_width.min(screen.columns / 2);
        let line = |step: &&Running| {
            let elapsed = format!("{:>8}", brief(now.saturating_duration_since(step.since)));
            let elapsed = self.colour.paint(&elapsed, Style::new().dimmed());
            let name = truncate_str(&step.krate, name_width, "…");
            let doing = match step.activity.now() {
                Doing::Command => "",
                Doing::Dependencies => ": dependencies",
            };
            format!("{elapsed}  {}  {}{doing}", pad_str(&name, name_width, Alignment::Left, None), step.op)
        };
        let mut lines: Vec<_> = running.iter().map(line).collect();
        lines.resize(room, String::new());
        lines
    }

    fn verdicts(&self) -> String {
        let of = |verdict| self.tally.of(verdict);
        let counts = [
            ("pass", of(Verdict::Pass), AnsiColor::Green),
            ("regressed", of(Verdict::Regressed), AnsiColor::Red),
            ("fixed", of(Verdict::Fixed), AnsiColor::Green),
            ("fail", of(Verdict::BuildFail) + of(Verdict::TestFail), AnsiColor::Yellow),
            ("error", of(Verdict::Error), AnsiColor::Red),
            ("broken", of(Verdict::Broken), AnsiColor::Yellow),
            ("inconclusive", of(Verdict::Inconclusive), AnsiColor::Yellow),
            ("skipped", of(Verdict::Skipped), AnsiColor::BrightBlack),
            ("pending", of(Verdict::Pending), AnsiColor::BrightBlack),
            ("done before", self.tally.already_done, AnsiColor::BrightBlack),
        ];
        // A pass is always shown, so that there is a line from the start; the rest as it comes.
        let shown = counts.into_iter().filter(|(word, count, _)| *count > 0 || *word == "pass");
        let shown: Vec<_> =
            shown.map(|(word, count, hue)| self.colour.paint(&format!("{word} {count}"), hue.on_default())).collect();
        shown.join(" · ")
    }

    fn overall(&self, now: Instant, screen: Screen) -> String {
        let (done, all) = (self.tally.done(), self.tally.crates);
        let elapsed = now.saturating_duration_since(self.began);
        let head = format!("crates {done}/{all}");
        let percent = (done * 100).checked_div(all).unwrap_or(100);
        let mut tail = format!("{percent}%");
        if screen.columns >= ROOM_FOR_GAUGES {
            tail = format!("{tail} · {}", brief(elapsed));
        }
        if let Some(left) = self.left(elapsed) {
            tail = format!("{tail} · {} left", brief(left));
        }
        let room = screen.columns.saturating_sub(head.len() + measure_text_width(&tail) + 2);
        format!("{head} {} {tail}", gauge(done, all, room, self.colour))
    }

    /// How long it still takes, if the crates to come are like those that this run has finished.
    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let finished = self.tally.finished();
        let left = self.tally.crates.saturating_sub(self.tally.done());
        (finished >= ENOUGH_TO_GUESS && left > 0).then(|| elapsed.mul_f64(left as f64 / finished as f64))
    }
}

fn gauge(part: usize, whole: usize, width: usize, colour: Colour) -> String {
    let full = (part * width).checked_div(whole).unwrap_or(width).min(width);
    let (done, rest) = ("━".repeat(full), "─".repeat(width - full));
    let done = colour.paint(&done, AnsiColor::Cyan.on_default());
    format!("{done}{}", colour.paint(&rest, Style::new().dimmed()))
}

/// A duration in at most two units: `43s`, `1m12s`, `2h05m`, `3d04h`.
fn brief(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        (_, _, _) => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Label, Plan, Update};
    use super::*;
    use crate::ops::Activity;
    use crate::outcome::OutcomeKind;
    use crate::pipeline::Pool;

    fn label(krate: &str, op: &str, toolchain: Option<&str>, pool: usize, worker: usize) -> Label {
        let activity = Activity::default();
        Label { krate: krate.into(), op: op.into(), toolchain: toolchain.map(Into::into), pool, worker, activity }
    }

    fn verdict(verdict: Verdict, reason: Option<&str>) -> Update {
        Update::Verdict { krate: "foo@1.2.3".into(), verdict, reason: reason.map(Into::into) }
    }

    fn screen(columns: usize) -> Screen {
        Screen { columns, rows: 24 }
    }

    fn plan() -> Plan {
        let pool = |name: &str, workers| Pool { name: name.into(), workers };
        Plan { pools: vec![pool("fetch", 2), pool("build", 12)], crates: 40, already_done: 10 }
    }

    /// A board after a minute, in which a build runs and others are over.
    fn board(began: Instant, colour: Colour) -> (Board, Instant) {
        let mut board = Board::new(&plan(), began, colour);
        let build = label("serde_json@1.0.150", "build", Some("nightly"), 1, 7);
        let prepare = || label("itoa@1.0.18", "prepare", None, 0, 0);
        let ended = Update::Finished {
            label: prepare(),
            outcome: Some(OutcomeKind::Passed),
            reason: None,
            wall: Duration::ZERO,
        };
        let updates = [
            Update::Queued { pool: 0 },
            Update::Queued { pool: 1 },
            Update::Queued { pool: 1 },
            Update::Queued { pool: 1 },
            Update::Started(build),
            Update::Dropped { pool: 1 },
            Update::Started(prepare()),
            ended,
            Update::Started(prepare()),
            verdict(Verdict::Pass, None),
            verdict(Verdict::BuildFail, None),
            verdict(Verdict::TestFail, None),
            verdict(Verdict::Inconclusive, None),
            verdict(Verdict::Pending, None),
        ];
        for (seconds, update) in updates.into_iter().enumerate() {
            board.apply(update, began + Duration::from_secs(seconds as u64));
        }
        assert_eq!(board.take_above(), [""; 0]);
        (board, began + Duration::from_secs(62))
    }

    #[test]
    fn eighty_columns_show_everything() {
        let (board, now) = board(Instant::now(), Colour::Off);
        let expected = [
            "fetch  ━━━━━━━━────────    1/2 busy      0 queued",
            "build  ━───────────────   1/12 busy      1 queued",
            "     58s  serde_json@1.0.150  build@nightly",
            "     54s  itoa@1.0.18         prepare",
            "",
            "",
            "",
            "pass 1 · fail 2 · inconclusive 1 · pending 1 · done before 10",
            "crates 14/40 ━━━━━━━━━━━━━━──────────────────────────── 35% · 1m02s · 6m43s left",
        ];
        assert_eq!(board.frame(now, screen(80)), expected);
    }

    #[test]
    fn forty_columns_do_without_gauges_and_show_the_op_beside_a_long_name() {
        let (mut board, now) = board(Instant::now(), Colour::Off);
        let long = label("a-name-that-goes-on-and-on@0.1.0", "test", Some("stable"), 1, 3);
        board.apply(Update::Started(long), now);
        let expected = [
            "fetch    1/2 busy      0 queued",
            "build   2/12 busy      0 queued",
            "     58s  serde_json@1.0.150    build@n…",
            "     54s  itoa@1.0.18           prepare",
            "      0s  a-name-that-goes-on…  test@st…",
            "",
            "",
            "pass 1 · fail 2 · inconclusive 1 · pend…",
            "crates 14/40 ━━━─────── 35% · 6m43s left",
        ];
        assert_eq!(board.frame(now, screen(40)), expected);
    }

    #[test]
    fn an_op_that_compiles_dependencies_shows_it_from_frame_to_frame() {
        let (mut board, now) = board(Instant::now(), Colour::Off);
        let build = label("b@1.0.0", "build", Some("stable"), 1, 0);
        let activity = build.activity.clone();
        board.apply(Update::Started(build), now);
        let shown =
            |board: &Board| board.frame(now, screen(80)).iter().any(|line| line.contains("build@stable: dependencies"));
        assert!(!shown(&board));
        activity.set(Doing::Dependencies);
        assert!(shown(&board));
        activity.set(Doing::Command);
        assert!(!shown(&board));
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_no_frame_higher() {
        for colour in [Colour::On, Colour::Off] {
            let (board, now) = board(Instant::now(), colour);
            for columns in 1..220 {
                for line in board.frame(now, screen(columns)) {
                    assert!(measure_text_width(&line) <= columns, "{columns}: {line:?}");
                }
            }
            for rows in 5..30 {
                assert!(board.frame(now, Screen { columns: 80, rows }).len() < rows);
            }
        }
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let began = Instant::now();
        let ((plain, now), (coloured, _)) = (board(began, Colour::Off), board(began, Colour::On));
        let plain = plain.frame(now, screen(80)).join("\n");
        let coloured = coloured.frame(now, screen(80)).join("\n");
        assert!(!plain.contains('\x1b') && coloured.contains('\x1b'));
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
    }

    #[test]
    fn pools_that_do_not_exist_are_ignored() {
        let mut board = Board::new(&plan(), Instant::now(), Colour::Off);
        for update in [Update::Queued { pool: 9 }, Update::Dropped { pool: 9 }, Update::Dropped { pool: 0 }] {
            board.apply(update, Instant::now());
        }
        assert!(board.frame(Instant::now(), screen(80))[0].ends_with("0/2 busy      0 queued"));
    }

    #[test]
    fn durations_are_brief() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (72, "1m12s"), (7500, "2h05m"), (273_600, "3d04h")] {
            assert_eq!(brief(Duration::from_secs(seconds)), text);
        }
    }
}
