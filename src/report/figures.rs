//! The cost of a run, in words: the same for the terminal and the page.

use crate::compare::RunReport;
use crate::ops::Tally;
use crate::printable::{bytes, duration, thousands};

/// The removal of folders is mentioned when it took at least one part in so many of the run.
const LONG_REMOVAL: u32 = 10;

/// Label and text of each figure. A run that had nothing to do has no pools to speak of.
pub fn figures(run: &RunReport) -> Vec<(&'static str, String)> {
    let mut took = format!("{}, {} of CPU", duration(run.wall), duration(run.cpu));
    if let Some(downloaded) = run.downloaded_bytes {
        took = format!("{took}, {} downloaded", bytes(downloaded));
    }
    let mut figures = vec![("took", took)];
    // The removal of folders used the disk alone; in an ordinary run it isn't worth a line.
    if let Some(removal) = run.removal.filter(|removal| *removal * LONG_REMOVAL >= run.wall && !removal.is_zero()) {
        figures.push(("removed", format!("folders of jobs in {}, beside all else", duration(removal))));
    }
    if run.ops() > 0 {
        figures.push(("units", units(run.units)));
        let busy = run.pools.iter().map(|pool| {
            let percent = percent(pool.utilisation(run.wall));
            let workers = if pool.workers == 1 { "worker" } else { "workers" };
            format!("{} {percent} of {} {workers}", pool.stage, pool.workers)
        });
        figures.push(("busy", join(busy)));
        let waited = run.pools.iter().map(|pool| format!("{} {}", pool.stage, duration(pool.mean_wait())));
        figures.push(("waited", format!("{} on average", join(waited))));
    }
    figures
}

/// What became of the units of dependencies: `12 compiled, 1,340 reused, 3 in the op, 1 again`.
pub fn units(units: Tally) -> String {
    let Tally { compiled, reused, in_op, again } = units;
    if units == Tally::default() {
        // An op that shares nothing compiles its dependencies itself, uncounted.
        return "none shared".to_owned();
    }
    let mut text = format!("{} compiled, {} reused", thousands(compiled), thousands(reused));
    for (count, how) in [(in_op, "in the op"), (again, "again")] {
        if count > 0 {
            text = format!("{text}, {} {how}", thousands(count));
        }
    }
    text
}

/// `97 %`.
pub fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compare::PoolReport;
    use crate::ops::Stage;

    fn run(ops: usize) -> RunReport {
        let pool = |stage, workers, busy| PoolReport {
            stage,
            workers,
            ops,
            busy: Duration::from_secs(busy),
            waited: Duration::from_millis(1500 * ops as u64),
        };
        RunReport {
            started: None,
            wall: Duration::from_secs(100),
            cpu: Duration::from_secs(190),
            units: Tally { compiled: 12, reused: 1340, ..Tally::default() },
            removal: Some(Duration::from_secs(7)),
            downloaded_bytes: Some(3 << 20),
            pools: vec![pool(Stage::Fetch, 8, 80), pool(Stage::Build, 2, 194)],
            spans: Vec::new(),
        }
    }

    #[test]
    fn the_figures_of_a_run_are_four_lines() {
        let expected = [
            ("took", "1 min 40 s, 3 min 10 s of CPU, 3.0 MiB downloaded".to_owned()),
            ("units", "12 compiled, 1,340 reused".to_owned()),
            ("busy", "fetch 10 % of 8 workers, build 97 % of 2 workers".to_owned()),
            ("waited", "fetch 1.5 s, build 1.5 s on average".to_owned()),
        ];
        assert_eq!(figures(&run(3)), expected);
    }

    #[test]
    fn removing_folders_has_a_line_where_it_took_long() {
        let slow = RunReport { removal: Some(Duration::from_secs(120)), ..run(3) };
        assert_eq!(figures(&slow)[1], ("removed", "folders of jobs in 2 min 00 s, beside all else".to_owned()));
    }

    #[test]
    fn a_run_with_nothing_to_do_says_only_what_it_took() {
        let idle = RunReport { downloaded_bytes: None, ..run(0) };
        assert_eq!(figures(&idle), [("took", "1 min 40 s, 3 min 10 s of CPU".to_owned())]);
    }

    #[test]
    fn a_run_that_shares_nothing_claims_nothing() {
        assert_eq!(units(Tally::default()), "none shared");
        assert_eq!(units(Tally { reused: 3, ..Tally::default() }), "0 compiled, 3 reused");
        let all = Tally { compiled: 1, reused: 2, in_op: 3000, again: 4 };
        assert_eq!(units(all), "1 compiled, 2 reused, 3,000 in the op, 4 again");
    }
}
