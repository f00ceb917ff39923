//! What became of each unit of an op's dependencies: counted by the files that cargo left, and with a reason for each unit
//! that the op compiled itself.
//!
//! A target folder lies over its base, so that cargo writes a unit into it only if it compiled that unit: a unit that was
//! fresh leaves no trace there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::cache::{self, Base, CacheError, Layers, Tally, Unit, UnitKey};

/// How a line about a unit begins in a log. Such lines stand before the op's command, where no crate prints.
pub(crate) const LINE: &str = "maar: compiled with the crate: ";

/// What is known of an op's units.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    layers: Option<Layers>,
    units: Vec<Unit>,
    /// The units in the target folder before the op.
    before: BTreeSet<String>,
    /// The names of the units that are laid, `PACKAGE-HASH`.
    laid: BTreeMap<UnitKey, String>,
    /// How many of those this op compiled ahead.
    pub(super) compiled: usize,
    reasons: BTreeMap<UnitKey, Reason>,
}

/// Why a unit has no layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// The cell that compiled it left something there, where others would miss it.
    Stranger(PathBuf),
    /// It didn't compile ahead, or its files can't be shared.
    NotCompleted,
    /// Another crate of this run tried in vain.
    InVain,
    /// The crate's target folder had it, or another unit of its package, before.
    Occupied,
    /// The op's time was up.
    CutShort,
    /// A unit that it needs has no layer.
    Needs(String),
    /// No command of cargo's compiles it ahead.
    NotAhead,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger(path) => {
                write!(f, "something was left at `{}` in the cell that compiled it", path.display())
            }
            Self::NotCompleted => {
                f.write_str("it doesn't compile without the crate's own files, reads files of others, or leaves links")
            }
            Self::InVain => f.write_str("another crate of this run could not share it either"),
            Self::Occupied => f.write_str("an earlier op of this crate has compiled its package"),
            Self::CutShort => f.write_str("the op's time limit was reached before it was compiled ahead"),
            Self::Needs(package) => write!(f, "it needs {package}, which is not shared"),
            Self::NotAhead => f.write_str("cargo has no command that compiles it without the crate"),
        }
    }
}

impl Ledger {
    /// Begins with the units of an op.
    pub(super) fn begin(&mut self, layers: Layers, units: &[Unit], base: &Base) {
        self.layers = Some(layers);
        self.units = units.to_vec();
        self.before = base.units_before().clone();
    }

    /// Records why units can't be shared. The first reason counts.
    pub(super) fn blame<'u>(&mut self, units: impl IntoIterator<Item = &'u UnitKey>, reason: &Reason) {
        for unit in units {
            self.reasons.entry(unit.clone()).or_insert_with(|| reason.clone());
        }
    }

    /// Records what is laid at last.
    pub(super) fn lay(&mut self, base: &Base) {
        self.laid = base.units().map(|(unit, name)| (unit.clone(), name.to_owned())).collect();
    }

    /// A line for each unit that has no layer, with the reason.
    pub(crate) fn lines(&self) -> String {
        let mut packages: BTreeMap<&UnitKey, &str> = BTreeMap::new();
        let mut lines = BTreeSet::new();
        for unit in &self.units {
            packages.insert(&unit.key, &unit.package);
            if self.laid.contains_key(&unit.key) {
                continue;
            }
            let reason = self.reasons.get(&unit.key).cloned().unwrap_or_else(|| {
                let missing = unit.needs.iter().find(|need| !self.laid.contains_key(*need));
                let package = missing.and_then(|need| packages.get(need)).map(|package| (*package).to_owned());
                package.map_or(Reason::NotAhead, Reason::Needs)
            });
            lines.insert(format!("{LINE}{}: {reason}\n", unit.package));
        }
        lines.into_iter().collect()
    }

    /// Counts what became of the units, after the op has run over the folder `target`.
    pub(crate) fn settle(self, target: &Path) -> Result<Tally, CacheError> {
        let Some(layers) = &self.layers else { return Ok(Tally::default()) };
        let tally = self.count(&cache::completed_units(target)?);
        layers.count(tally)?;
        Ok(tally)
    }

    /// The same, given the units in the target folder after the op.
    fn count(&self, after: &BTreeSet<String>) -> Tally {
        let names: BTreeSet<&str> = self.units.iter().map(Unit::name).collect();
        let is_dependency = |unit: &&String| unit.rsplit_once('-').is_some_and(|(name, _)| names.contains(name));
        let laid: BTreeSet<&String> = self.laid.values().collect();
        let written: BTreeSet<&String> = after.difference(&self.before).filter(is_dependency).collect();
        let rewritten = written.intersection(&laid).count();
        let others = written.len() - rewritten;
        // A unit under another name than its layer has makes one more than there should be.
        let in_op = others.min(self.units.len().saturating_sub(laid.len()));
        let again = rewritten + others - in_op;
        let fresh = laid.len().saturating_sub(again);
        let compiled = self.compiled.min(fresh);
        Tally { compiled, reused: fresh - compiled, in_op, again }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn unit(name: &str, needs: &[&str]) -> Unit {
        let (key, package) = (UnitKey::of(name), format!("{name}-1.0.0"));
        Unit { key, package, code: Arc::default(), needs: needs.iter().map(|need| UnitKey::of(need)).collect() }
    }

    fn ledger(laid: &[&str], compiled: usize) -> Ledger {
        let units = vec![unit("a", &[]), unit("b", &["a"]), unit("c", &["b"])];
        let laid = laid.iter().map(|name| (UnitKey::of(name), format!("{name}-1"))).collect();
        Ledger { units, laid, compiled, before: BTreeSet::from(["b-0".to_owned()]), ..Ledger::default() }
    }

    #[test]
    fn units_are_counted_by_what_cargo_wrote() {
        for (laid, compiled, written, [ahead, reused, in_op, again]) in [
            (&["a", "b", "c"][..], 1, &[][..], [1, 2, 0, 0]),
            // The crate's own units and those of earlier ops don't count.
            (&["a", "b", "c"], 0, &["me-1", "b-0"], [0, 3, 0, 0]),
            (&["a"], 0, &["b-1", "c-1"], [0, 1, 2, 0]),
            // One that is laid was compiled again, under its own name or under another.
            (&["a", "b", "c"], 0, &["c-1"], [0, 2, 0, 1]),
            (&["a", "b", "c"], 3, &["c-2"], [2, 0, 0, 1]),
            (&[], 0, &[], [0, 0, 0, 0]),
        ] {
            let after = written.iter().map(|&name| name.to_owned()).collect();
            let expected = Tally { compiled: ahead, reused, in_op, again };
            assert_eq!(ledger(laid, compiled).count(&after), expected, "{laid:?} {written:?}");
        }
    }

    #[test]
    fn each_unit_without_a_layer_has_a_reason() {
        let mut ledger = ledger(&[], 0);
        ledger.blame([&UnitKey::of("a")], &Reason::CutShort);
        ledger.blame([&UnitKey::of("a")], &Reason::InVain);
        let expected = [
            "a-1.0.0: the op's time limit was reached before it was compiled ahead",
            "b-1.0.0: it needs a-1.0.0, which is not shared",
            "c-1.0.0: it needs b-1.0.0, which is not shared",
        ];
        assert_eq!(ledger.lines(), expected.map(|line| format!("{LINE}{line}\n")).concat());
        assert_eq!(Ledger::default().lines(), "");
    }
}
