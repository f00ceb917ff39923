//! How often dependencies were compiled, and how often they were there: the hit rate of a key, over all runs.
//!
//! Never decides anything, and never fails: a count that is lost is lost.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

const FILE: &str = "tally.json";

/// How many dependencies were compiled ahead of ops, and how many were there from earlier ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Tally {
    pub compiled: usize,
    pub reused: usize,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            compiled: self.compiled.saturating_add(other.compiled),
            reused: self.reused.saturating_add(other.reused),
        }
    }

    /// The part of all dependencies that was there, from 0 to 1; none if none was needed.
    pub fn hit_rate(self) -> Option<f64> {
        let needed = self.compiled.saturating_add(self.reused);
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
