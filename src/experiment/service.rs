//! The settings of an experiment file that are for a server: its turn, and the machines that may run it. `maar run`
//! reads and ignores them, so that one file serves both.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::limits;
use super::problem::{BadValue, Problems};
use super::read::{Value, known_keys, names, parsed, place, table, text, texts, wrong_type};

/// The greatest distance of a priority from 0.
const MAX_PRIORITY: i64 = 1_000_000;
/// The most labels, and the most addresses of notifications.
const MAX_LIST: usize = 32;
/// The longest label or address, in bytes.
const MAX_WORD: usize = 200;

/// An experiment's turn and the machines that may run it; absent: the server's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Experiments of a greater priority are first.
    pub priority: Option<i64>,
    /// Its share among experiments of the same priority.
    pub weight: Option<f64>,
    /// The machines that may run it.
    pub needs: Option<Needs>,
    /// Whether regressions are confirmed on another machine.
    pub confirm: Option<bool>,
    /// Who is told of its end.
    pub notify: Option<Vec<String>>,
}

/// The demands on a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// The operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// The processor's architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Labels that its agent was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
}

/// Checks a priority.
///
/// # Errors
/// It is out of range.
pub fn priority(priority: i64) -> Result<i64, BadValue> {
    match priority.checked_abs() {
        Some(..=MAX_PRIORITY) => Ok(priority),
        Some(_) | None => {
            let help = format!("a priority is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}");
            Err(BadValue::new(format!("`{priority}` is out of range"), help))
        }
    }
}

/// Checks a weight.
///
/// # Errors
/// It is out of range.
pub fn weight(weight: f64) -> Result<f64, BadValue> {
    if (0.001..=1000.0).contains(&weight) {
        return Ok(weight);
    }
    Err(BadValue::new(format!("`{weight}` is out of range"), "a weight is a number from 0.001 to 1000".to_owned()))
}

/// Checks a list of labels or addresses.
///
/// # Errors
/// It is too long, or one of its words is.
pub fn words(words: &[String]) -> Result<(), BadValue> {
    if words.len() > MAX_LIST {
        return Err(BadValue::new("the list is too long", format!("it may have {MAX_LIST} texts")));
    }
    match words.iter().find(|word| word.is_empty() || word.len() > MAX_WORD || word.chars().any(char::is_control)) {
        None => Ok(()),
        Some(word) => {
            let shown: String = word.chars().take(80).collect();
            let help = format!("it must have 1 to {MAX_WORD} bytes, without control characters");
            Err(BadValue::new(format!("`{}` is not a label or an address", shown.escape_debug()), help))
        }
    }
}

impl Needs {
    /// Checks the words.
    ///
    /// # Errors
    /// A word is empty or too long.
    pub fn check(&self) -> Result<(), BadValue> {
        let single = [&self.os, &self.arch, &self.sandbox];
        words(&single.into_iter().flatten().cloned().collect::<Vec<_>>())?;
        words(&self.labels)
    }
}

/// Reads the keys from the root table.
pub(super) fn read(root: &DeTable<'_>, problems: &mut Problems) -> Service {
    Service {
        priority: root.get("priority").and_then(|value| {
            let number = whole(value, problems)?;
            problems.check(&place(value), priority(number))
        }),
        weight: root.get("weight").and_then(|value| {
            let number = limits::number(value, "a number such as 1.5", problems, |text| {
                text.parse().map_err(|_| BadValue::new(format!("`{}` is not a number", text.escape_debug()), None))
            })?;
            problems.check(&place(value), weight(number))
        }),
        needs: root.get("needs").and_then(|value| Some(needs(table(value, problems)?, problems))),
        confirm: root.get("confirm").and_then(|value| {
            let confirm = value.get_ref().as_bool();
            if confirm.is_none() {
                wrong_type(value, "true or false", problems);
            }
            confirm
        }),
        notify: root.get("notify").and_then(|value| list(value, problems)),
    }
}

const NEEDS: [&str; 5] = ["os", "arch", "sandbox", "labels", "memory"];

fn needs(table: &DeTable<'_>, problems: &mut Problems) -> Needs {
    known_keys(table, &NEEDS, problems);
    let mut word = |key: &str| {
        let value = table.get(key)?;
        let word = text(value, "a name", problems)?.to_owned();
        problems.check(&place(value), words(std::slice::from_ref(&word)))?;
        Some(word)
    };
    let (os, arch, sandbox) = (word("os"), word("arch"), word("sandbox"));
    Needs {
        os,
        arch,
        sandbox,
        labels: table.get("labels").and_then(|value| labels(value, problems)).unwrap_or_default(),
        memory: table
            .get("memory")
            .and_then(|value| parsed(value, "a size such as \"16GiB\"", problems, limits::memory)),
    }
}

fn labels(value: &Value<'_>, problems: &mut Problems) -> Option<Vec<String>> {
    let labels: Vec<String> = names(value, problems)?.into_iter().map(|name| name.value.to_owned()).collect();
    problems.check(&place(value), words(&labels)).map(|()| labels)
}

fn list(value: &Value<'_>, problems: &mut Problems) -> Option<Vec<String>> {
    let list: Vec<String> = texts(value, "text", problems)?.into_iter().map(|text| text.value.to_owned()).collect();
    problems.check(&place(value), words(&list)).map(|()| list)
}

fn whole(value: &Value<'_>, problems: &mut Problems) -> Option<i64> {
    let Some(integer) = value.get_ref().as_integer() else {
        wrong_type(value, "a whole number", problems);
        return None;
    };
    let number = i64::from_str_radix(integer.as_str(), integer.radix());
    let number = number.map_err(|_| BadValue::new(format!("`{integer}` is out of range"), None));
    problems.check(&place(value), number)
}
