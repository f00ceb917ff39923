//! How much each experiment has had: core-seconds ÷ weight.

use std::collections::HashMap;

/// The work that each experiment has had, by its number.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    of: HashMap<u32, Share>,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    had: f64,
    weight: f64,
}

impl Shares {
    /// Lets an experiment take part, or gives it another weight. It begins level with the one that has had least, so
    /// that one which comes late doesn't keep all others waiting until it has had as much as they had before it came.
    pub fn join(&mut self, experiment: u32, weight: f64) {
        let least = self.of.values().map(|share| share.had).fold(f64::INFINITY, f64::min);
        let had = if least.is_finite() { least } else { 0.0 };
        self.of.entry(experiment).or_insert(Share { had, weight }).weight = weight;
    }

    /// Takes an experiment out that has nothing to hand out any more.
    pub fn leave(&mut self, experiment: u32) {
        self.of.remove(&experiment);
    }

    /// Adds to the work of an experiment. Negative: it took less than expected.
    pub fn charge(&mut self, experiment: u32, core_seconds: f64) {
        if let Some(share) = self.of.get_mut(&experiment) {
            share.had += core_seconds / share.weight.max(0.001);
        }
    }

    /// The work that an experiment has had.
    pub fn had(&self, experiment: u32) -> f64 {
        self.of.get(&experiment).map_or(0.0, |share| share.had)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_late_begins_level_with_the_least() {
        let mut shares = Shares::default();
        shares.join(1, 1.0);
        shares.join(2, 2.0);
        shares.charge(1, 1000.0);
        shares.charge(2, 1000.0);
        shares.join(3, 1.0);
        shares.join(1, 4.0);
        shares.charge(1, 1000.0);
        assert_eq!([1, 2, 3].map(|experiment| shares.had(experiment)), [1250.0, 500.0, 500.0]);
        shares.leave(2);
        shares.charge(2, 1.0);
        assert_eq!(shares.had(2), 0.0);
    }
}
