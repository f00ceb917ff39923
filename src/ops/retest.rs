//! The plan's form of `test` that repeats a difference: only the tests that differ.
//!
//! Answers only whether these tests have the same results once more.

use serde::{Deserialize, Serialize};

use crate::libtest::TargetFlag;

/// The most tests that are repeated by name: more are repeated with the whole crate.
const MOST_NAMES: usize = 200;

/// The most bytes of names; a command line has 128 KiB for an argument, and other arguments besides.
const MOST_BYTES: usize = 64 << 10;

/// Some tests of a crate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retest {
    /// The targets, each once; nothing beside documentation tests.
    targets: Vec<TargetFlag>,
    /// Their names; empty: all of these targets.
    names: Vec<String>,
}

impl Retest {
    /// Selects tests by the target and the name. `None`: `cargo test` can't run exactly these, or only by a command
    /// line that a crate could have chosen.
    pub fn new<'a>(tests: impl IntoIterator<Item = (Option<&'a TargetFlag>, &'a str)>) -> Option<Self> {
        let mut targets = Vec::new();
        let mut names = Vec::new();
        for (target, name) in tests {
            targets.push(target?.clone());
            names.push(name.to_owned());
        }
        names.sort_unstable();
        names.dedup();
        targets.sort_unstable();
        targets.dedup();
        if targets == [TargetFlag::Doc] {
            // rustdoc splits filters at blanks, which the names of its tests have.
            return Some(Self { targets, names: Vec::new() });
        }
        let is_plain = |name: &String| !name.starts_with('-') && !name.chars().any(char::is_control);
        let fits = names.len() <= MOST_NAMES && names.iter().map(String::len).sum::<usize>() <= MOST_BYTES;
        // cargo runs documentation tests alone.
        let can_be_told = !names.is_empty() && !targets.contains(&TargetFlag::Doc) && names.iter().all(is_plain);
        (fits && can_be_told).then_some(Self { targets, names })
    }

    /// The arguments that go behind those of `test`.
    pub(super) fn args(&self) -> Vec<String> {
        let targets = self.targets.iter().flat_map(TargetFlag::args);
        let exact = ["--", "--exact"].into_iter().map(str::to_owned).chain(self.names.iter().cloned());
        targets.chain(exact.filter(|_| !self.names.is_empty())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(tests: &[(TargetFlag, &str)]) -> Option<String> {
        Retest::new(tests.iter().map(|(target, name)| (Some(target), *name))).map(|retest| retest.args().join(" "))
    }

    #[test]
    fn tests_are_selected_by_target_and_name() {
        let ui = || TargetFlag::Test("ui".to_owned());
        for (tests, expected) in [
            (vec![(ui(), "b"), (ui(), "a")], Some("--test ui -- --exact a b")),
            (vec![(ui(), "a"), (TargetFlag::Lib, "a")], Some("--lib --test ui -- --exact a")),
            (vec![(TargetFlag::Doc, "src/lib.rs - two (line 1)")], Some("--doc")),
            (vec![(TargetFlag::Doc, "src/lib.rs - two (line 1)"), (ui(), "a")], None),
            (vec![(ui(), "--nocapture")], None),
            (vec![(ui(), "a\u{0}b")], None),
            (vec![(ui(), &"x".repeat(MOST_BYTES + 1))], None),
            (vec![(ui(), "a"); 1], Some("--test ui -- --exact a")),
            (vec![], None),
        ] {
            assert_eq!(args(&tests).as_deref(), expected, "{tests:?}");
        }
        assert_eq!(Retest::new([(None, "a")]), None, "nothing selects the target");
    }
}
