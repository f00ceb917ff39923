//! The order in which cells compile units ahead of their crate.
//!
//! All packages with the same code are compiled in one cell, those with less code first. A state machine without clocks
//! and cells: the units that have layers go in, the next step comes out.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::{Code, Unit, UnitKey};

/// The rounds of one command.
#[derive(Debug, Clone)]
pub struct Rounds {
    /// The packages that run the same code, those with less code first.
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Group {
    code: Code,
    units: Vec<Unit>,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Its turn comes.
    Ahead,
    /// Other ops are compiling these units.
    Held(BTreeSet<UnitKey>),
    /// A cell has compiled as many as it could, or others tried in vain.
    Tried,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Compile these units in a cell of their own.
    Compile(Round),
    /// Wait until other ops release the units of one of these code sets.
    Wait(BTreeMap<Code, BTreeSet<UnitKey>>),
    /// Nothing more can be compiled ahead.
    Done,
}

/// One cell's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The code that may run in the cell.
    pub code: Code,
    /// The packages with exactly this code, as `NAME-VERSION`, with their units that have no layer yet.
    pub packages: BTreeMap<String, BTreeSet<UnitKey>>,
}

/// The result of a round, or of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The cell ran: units that it didn't complete can't be shared.
    Compiled,
    /// The same, apart from these units, which other ops are compiling.
    Held(BTreeSet<UnitKey>),
    /// The other ops are done, and this op tries the units that have no layer yet.
    Released,
    /// The other ops had nothing to share, which is most likely true for this op, too.
    InVain,
}

impl Round {
    /// The units.
    pub fn units(&self) -> impl Iterator<Item = &UnitKey> {
        self.packages.values().flatten()
    }

    /// The round without packages that have a hopeless unit; `None`: no package is left.
    pub fn without(&self, is_hopeless: impl Fn(&UnitKey) -> bool) -> Option<Self> {
        let mut packages = self.packages.clone();
        packages.retain(|_, units| !units.iter().any(&is_hopeless));
        (!packages.is_empty()).then(|| Self { code: self.code.clone(), packages })
    }
}

impl Rounds {
    /// The rounds for the units of a command.
    pub fn new(units: &[Unit]) -> Self {
        let mut groups: BTreeMap<(usize, &Code), Vec<Unit>> = BTreeMap::new();
        for unit in units {
            groups.entry((unit.code.len(), &unit.code)).or_default().push(unit.clone());
        }
        let groups =
            groups.into_iter().map(|((_, code), units)| Group { code: code.clone(), units, state: State::Ahead });
        Self { groups: groups.collect() }
    }

    /// The next step, given the units that have layers.
    pub fn next(&self, has: impl Fn(&UnitKey) -> bool) -> Step {
        let mut ahead = self.groups.iter().filter(|group| group.state == State::Ahead);
        if let Some(round) = ahead.find_map(|group| group.round(&has)) {
            return Step::Compile(round);
        }
        let held = self.groups.iter().filter_map(|group| match &group.state {
            State::Held(units) => Some((group.code.clone(), units.clone())),
            State::Ahead | State::Tried => None,
        });
        let held: BTreeMap<Code, BTreeSet<UnitKey>> = held.collect();
        if held.is_empty() { Step::Done } else { Step::Wait(held) }
    }

    /// Takes in the result of the round with this code.
    pub fn record(&mut self, code: &Code, outcome: Outcome) {
        let Some(group) = self.groups.iter_mut().find(|group| group.code == *code) else { return };
        group.state = match outcome {
            Outcome::Compiled | Outcome::InVain => State::Tried,
            Outcome::Held(units) => State::Held(units),
            Outcome::Released => State::Ahead,
        };
    }
}

impl Group {
    /// The units that can be compiled now: those without a layer, all of whose needs have one or are such units, too.
    fn round(&self, has: impl Fn(&UnitKey) -> bool) -> Option<Round> {
        let mut packages: BTreeMap<String, BTreeSet<UnitKey>> = BTreeMap::new();
        let mut ready: BTreeSet<&UnitKey> = BTreeSet::new();
        for unit in self.units.iter().filter(|unit| !has(&unit.key)) {
            if unit.needs.iter().all(|need| has(need) || ready.contains(need)) {
                ready.insert(&unit.key);
                packages.entry(unit.package.clone()).or_default().insert(unit.key.clone());
            }
        }
        (!packages.is_empty()).then(|| Round { code: self.code.clone(), packages })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn code(names: &str) -> Code {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn keys(names: &str) -> BTreeSet<UnitKey> {
        names.split_whitespace().map(UnitKey::of).collect()
    }

    /// Units as `NAME`, code and needs.
    fn rounds(units: &[(&str, &str, &str)]) -> Rounds {
        let unit = |&(name, names, needs): &(&str, &str, &str)| Unit {
            key: UnitKey::of(name),
            package: name.to_owned(),
            code: Arc::new(code(names)),
            needs: keys(needs),
        };
        Rounds::new(&units.iter().map(unit).collect::<Vec<_>>())
    }

    /// The names of the packages to compile next, `wait CODE` or `done`.
    fn next(rounds: &Rounds, laid: &str) -> String {
        let laid = keys(laid);
        match rounds.next(|unit| laid.contains(unit)) {
            Step::Compile(round) => round.packages.into_keys().collect::<Vec<_>>().join(" "),
            Step::Wait(held) => {
                let codes = held.into_keys().map(|code| code.into_iter().collect::<Vec<_>>().join("+"));
                format!("wait {}", codes.collect::<Vec<_>>().join(" "))
            }
            Step::Done => "done".to_owned(),
        }
    }

    const UNITS: &[(&str, &str, &str)] = &[
        ("plain", "", ""),
        ("on-plain", "", "plain"),
        ("script", "script", "plain"),
        ("on-script", "script", "script"),
        ("macro", "macro", ""),
        ("top", "macro script", "macro script on-plain"),
    ];

    #[test]
    fn rounds_follow_each_other_as_layers_come() {
        // The units with layers, the code sets that were tried, and the next step.
        for (laid, tried, expected) in [
            ("", &[][..], "on-plain plain"),
            ("plain", &[], "on-plain"),
            ("", &[""], "macro"),
            ("", &["", "macro"], "done"),
            ("plain on-plain", &[], "macro"),
            ("plain on-plain macro", &[], "on-script script"),
            ("plain on-plain macro script", &[], "on-script"),
            ("plain on-plain macro script on-script", &[], "top"),
            // Units that one round couldn't share keep their users from being compiled, and no others.
            ("plain on-plain script", &["macro"], "on-script"),
            ("plain on-plain script", &["macro", "script"], "done"),
            ("plain on-plain macro script on-script top", &[], "done"),
        ] {
            let mut rounds = rounds(UNITS);
            tried.iter().for_each(|names| rounds.record(&code(names), Outcome::Compiled));
            assert_eq!(next(&rounds, laid), expected, "{laid} after {tried:?}");
        }
    }

    #[test]
    fn a_held_round_is_waited_for_when_nothing_else_can_be_done() {
        let mut rounds = rounds(UNITS);
        rounds.record(&code(""), Outcome::Held(keys("plain")));
        assert_eq!(next(&rounds, ""), "macro");
        rounds.record(&code("macro"), Outcome::Compiled);
        assert_eq!(next(&rounds, "macro"), "wait ");
        for (outcome, laid, expected) in [
            (Outcome::Released, "macro", "on-plain plain"),
            (Outcome::Released, "macro plain on-plain", "on-script script"),
            (Outcome::InVain, "macro", "done"),
            (Outcome::InVain, "macro plain", "on-script script"),
        ] {
            let mut rounds = rounds.clone();
            rounds.record(&code(""), outcome);
            assert_eq!(next(&rounds, laid), expected);
        }
    }
}
