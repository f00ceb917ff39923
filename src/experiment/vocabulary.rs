//! Which ops there are: the built-in ones and the user's own. Op lists are checked against it.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::problem::{BadValue, Place, Problems};
use super::read::{Located, Value, known_keys, parsed, place, table, texts};
use super::{LimitsPatch, limits, workers};
use crate::nearest::{did_you_mean, suggest};
use crate::ops::{CommandOp, Op, OpName, Stage};

/// Every op that an op list may name.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    own: BTreeMap<OpName, CommandOp>,
}

/// The contents of the `op` tables.
#[derive(Debug, Default)]
pub(super) struct OpTables {
    pub(super) vocabulary: Vocabulary,
    pub(super) limits: BTreeMap<OpName, LimitsPatch>,
}

impl Vocabulary {
    /// The user's own ops, by name.
    pub(super) fn into_own(self) -> impl Iterator<Item = CommandOp> {
        self.own.into_values()
    }

    /// The op of that name.
    pub(super) fn find(&self, name: &str) -> Result<Op, BadValue> {
        let mut ops = Op::BUILT_IN.into_iter().chain(self.own.values().cloned().map(Op::Command));
        ops.find(|op| op.name().as_str() == name).ok_or_else(|| {
            let names: Vec<OpName> = Op::BUILT_IN.iter().map(Op::name).chain(self.own.keys().cloned()).collect();
            let help = suggest(name, names.iter().map(OpName::as_str));
            BadValue::new(format!("unknown op `{}`", name.escape_debug()), help)
        })
    }

    /// An op list: empty, or beginning with `prepare`.
    pub(super) fn list(&self, names: &[Located<&str>], problems: &mut Problems) -> Vec<Op> {
        let ops = self.ops(names, problems);
        if let Some((first, written)) = ops.first().zip(names.first())
            && *first != Op::Prepare
            // A first name that is no op at all has been complained of.
            && first.name().as_str() == written.value
        {
            let message = format!("the first op must be `prepare`, not `{}`", written.value);
            let help = "every other op works on what `prepare` leaves".to_owned();
            problems.add(written.place.clone(), BadValue::new(message, help));
        }
        ops
    }

    /// The ops that are taken off a list: never `prepare`.
    pub(super) fn skip(&self, names: &[Located<&str>], problems: &mut Problems) -> Vec<Op> {
        if let Some(prepare) = names.iter().find(|name| name.value == "prepare") {
            let message = "`prepare` can't be skipped";
            let help = "every other op needs it; an empty `ops` skips all of them".to_owned();
            problems.add(prepare.place.clone(), BadValue::new(message, help));
        }
        self.ops(names, problems)
    }

    fn ops(&self, names: &[Located<&str>], problems: &mut Problems) -> Vec<Op> {
        names.iter().filter_map(|name| problems.check(&name.place, self.find(name.value))).collect()
    }
}

/// Reads the `op` tables.
pub(super) fn read(tables: &DeTable<'_>, problems: &mut Problems) -> OpTables {
    let mut read = OpTables::default();
    for (key, value) in tables {
        let name = key.get_ref().parse::<OpName>().map_err(|error| BadValue::new(error.to_string(), None));
        let name = problems.check(&place(key), name);
        let (Some(name), Some(table)) = (name, table(value, problems)) else { continue };
        known_keys(table, &["stage", "run", "limits"], problems);
        if Op::BUILT_IN.iter().any(|op| op.name() == name) {
            refuse_to_shadow(&name, table, problems);
        } else {
            read.vocabulary.own.insert(name.clone(), own(&name, place(key), table, problems));
        }
        if let Some(limits) = limits::read_key(table, problems) {
            read.limits.insert(name, limits);
        }
    }
    read
}

fn refuse_to_shadow(name: &OpName, table: &DeTable<'_>, problems: &mut Problems) {
    for (key, _) in table.iter().filter(|(key, _)| ["stage", "run"].contains(&&**key.get_ref())) {
        let message = format!("`{name}` is a built-in op, whose `{}` can't be changed", key.get_ref());
        problems.add(place(key), BadValue::new(message, "give your op a name of its own".to_owned()));
    }
}

/// An op with a problem is read too, so that lists which name it are not complained of as well.
fn own(name: &OpName, at: Place, table: &DeTable<'_>, problems: &mut Problems) -> CommandOp {
    let (stage, run) = (table.get("stage"), table.get("run"));
    let missing = match (stage, run) {
        (Some(_), Some(_)) => None,
        (None, None) => Some(format!("there is no op `{name}`")),
        (None, Some(_)) => Some(format!("op `{name}` has no `stage`")),
        (Some(_), None) => Some(format!("op `{name}` has no `run`")),
    };
    if let Some(message) = missing {
        let built_in = Op::BUILT_IN.map(|op| op.name());
        let help = did_you_mean(name.as_str(), built_in.iter().map(OpName::as_str)).unwrap_or_else(|| {
            "an op of your own needs both, such as `stage = \"build\"` and `run = [\"cargo\", \"geiger\"]`".to_owned()
        });
        problems.add(at, BadValue::new(message, help));
    }
    let stage = stage.and_then(|value| parsed(value, "a stage such as \"build\"", problems, stage_of_own));
    let run = run.and_then(|value| argv(value, problems));
    CommandOp { name: name.clone(), stage: stage.unwrap_or(Stage::Build), run: run.unwrap_or_default() }
}

fn stage_of_own(name: &str) -> Result<Stage, BadValue> {
    match workers::stage(name)? {
        // It has the network, which only `prepare` may have.
        Stage::Fetch => {
            Err(BadValue::new("an op of your own can't run in stage `fetch`", "use `build` or `test`".to_owned()))
        }
        stage @ (Stage::Build | Stage::Test) => Ok(stage),
    }
}

fn argv(value: &Value<'_>, problems: &mut Problems) -> Option<Vec<String>> {
    let argv = texts(value, "text", problems)?;
    if argv.first().is_none_or(|program| program.value.is_empty()) {
        let help = "such as `[\"cargo\", \"geiger\"]`".to_owned();
        problems.add(place(value), BadValue::new("`run` names no program", help));
    }
    for argument in argv.iter().filter(|argument| argument.value.contains('\0')) {
        problems.add(argument.place.clone(), BadValue::new("an argument can't hold a NUL", None));
    }
    Some(argv.into_iter().map(|argument| argument.value.to_owned()).collect())
}
