//! How often dependencies were compiled, and how often they were there: the hit rate of a key, over all runs.
//!
//! Never decides anything, and never fails: a count that is lost is lost.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

const FILE: &str = "tally.json";

/// What became of the units of dependencies, counted by the files that cargo left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Compiled ahead of the op, so that they became layers.
    pub compiled: usize,
    /// Laid from layers of others, and fresh for cargo.
    pub reused: usize,
    /// Compiled in the op, for no layer could be made of them.
    pub in_op: usize,
    /// Compiled again in the op, though a layer was laid.
    pub again: usize,
}

impl Tally {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            compiled: self.compiled.saturating_add(other.compiled),
            reused: self.reused.saturating_add(other.reused),
            in_op: self.in_op.saturating_add(other.in_op),
            again: self.again.saturating_add(other.again),
        }
    }

    /// The part of all units that was reused, from 0 to 1; none if none was needed.
    pub fn hit_rate(self) -> Option<f64> {
        let needed = [self.reused, self.in_op, self.again].into_iter().fold(self.compiled, usize::saturating_add);
        (needed > 0).then(|| self.reused as f64 / needed as f64)
    }

    pub(super) fn read(key: &Path) -> Self {
        let text = fs::read(key.join(FILE)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Adds an op's tally to that of its key, whose lock the caller holds.
    pub(super) fn add(self, key: &Path) {
        let Ok(text) = serde_json::to_vec(&Self::read(key).plus(self)) else { return };
        let draft = key.join(".tally.json");
        let _ = fs::write(&draft, text).and_then(|()| fs::rename(&draft, key.join(FILE)));
    }
}
