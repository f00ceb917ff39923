//! How much each experiment has had: core-seconds ÷ weight.

use std::collections::HashMap;

/// What each experiment has had, by its number.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    had: HashMap<u32, f64>,
}

impl Shares {
    /// Lets an experiment take part. It begins level with the one that has had least, so that one which comes late
    /// doesn't keep all others waiting until it has had as much as they had before it came.
    pub fn join(&mut self, experiment: u32) {
        let least = self.had.values().copied().fold(f64::INFINITY, f64::min);
        self.had.entry(experiment).or_insert(if least.is_finite() { least } else { 0.0 });
    }

    /// Takes an experiment out that has nothing to hand out any more.
    pub fn leave(&mut self, experiment: u32) {
        self.had.remove(&experiment);
    }

    /// Adds what an experiment was given. Negative: it took less than was expected.
    pub fn charge(&mut self, experiment: u32, weight: f64, core_seconds: f64) {
        if let Some(had) = self.had.get_mut(&experiment) {
            *had += core_seconds / weight.max(0.01);
        }
    }

    /// What an experiment has had.
    pub fn of(&self, experiment: u32) -> f64 {
        self.had.get(&experiment).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_late_begins_level_with_the_least() {
        let mut shares = Shares::default();
        shares.join(1);
        shares.join(2);
        shares.charge(1, 1.0, 1000.0);
        shares.charge(2, 2.0, 1000.0);
        shares.join(3);
        shares.join(1);
        assert_eq!([1, 2, 3].map(|experiment| shares.of(experiment)), [1000.0, 500.0, 500.0]);
        shares.leave(2);
        shares.charge(2, 1.0, 1.0);
        assert_eq!(shares.of(2), 0.0);
    }
}
