//! The results that a run takes from earlier ones, and their age.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::plan::{Fingerprint, Step};
use crate::printable::thousands;
use crate::run::Planned;

/// The results of a plan that a run doesn't get itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reused {
    results: usize,
    /// How many results the plan has in all, once everything has run.
    all: usize,
    oldest: Duration,
    newest: Duration,
}

/// Sums up the reused results, given the time of each. `None`: nothing is reused.
pub(super) fn reused(planned: &Planned, started: &HashMap<Fingerprint, SystemTime>) -> Option<Reused> {
    let mut ages = Vec::new();
    let mut all = 0;
    for (place, plan) in planned.plans().iter().enumerate() {
        let left: HashSet<Fingerprint> = planned.left(place).iter().map(|step| step.fingerprint).collect();
        let is_reused = |step: &&Step| !left.contains(&step.fingerprint);
        let of_crate = plan.steps.iter().filter(is_reused).filter_map(|step| started.get(&step.fingerprint));
        ages.extend(of_crate.map(|started| started.elapsed().unwrap_or_default()));
        all += left.len();
    }
    let (oldest, newest) = (*ages.iter().max()?, *ages.iter().min()?);
    Some(Reused { results: ages.len(), all: all + ages.len(), oldest, newest })
}

impl Reused {
    /// In words, for a user who may take old results for new ones.
    pub(super) fn in_words(&self) -> String {
        let Self { results, all, oldest, newest } = *self;
        let age = match (age(oldest), age(newest)) {
            (oldest, newest) if oldest == newest => format!("{oldest} old"),
            (oldest, newest) => format!("{newest} to {oldest} old"),
        };
        if results == all {
            let what = match all {
                1 => "the only result is from an earlier run".to_owned(),
                _ => format!("all {} results are from earlier runs", thousands(all)),
            };
            format!("nothing ran: {what}, {age}; --fresh runs everything again, --update looks for newer versions")
        } else {
            format!("{} of {} results are from earlier runs, {age}", thousands(results), thousands(all))
        }
    }
}

/// A duration as people say it, in one unit.
fn age(age: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match age.as_secs() {
        0..MINUTE => "less than a minute".to_owned(),
        seconds @ MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        // Below two days, hours tell more.
        seconds if seconds < 2 * DAY => format!("{} h", seconds / HOUR),
        seconds => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_results_is_told_in_one_unit() {
        for (seconds, expected) in [
            (0, "less than a minute"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (86_400, "24 h"),
            (172_800, "2 days"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
        let reused = |results, oldest| Reused {
            results,
            all: 3000,
            oldest: Duration::from_secs(oldest),
            newest: Duration::from_secs(3700),
        };
        assert_eq!(reused(12, 3700).in_words(), "12 of 3,000 results are from earlier runs, 1 h old");
        let only = Reused { results: 1, all: 1, ..reused(1, 3700) };
        assert!(only.in_words().starts_with("nothing ran: the only result is from an earlier run, 1 h old; "));
        assert_eq!(
            reused(3000, 400_000).in_words(),
            "nothing ran: all 3,000 results are from earlier runs, 1 h to 4 days old; --fresh runs everything again, \
             --update looks for newer versions"
        );
    }
}
