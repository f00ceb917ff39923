//! Reads TOML values into Rust ones, each with its place. Knows no key of an experiment.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{BadValue, Place, Problems};
use crate::nearest::{listed, suggest};

/// A value with its place in the file.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Something that was written, and where.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) place: Place,
    pub(super) value: T,
}

/// The place of a value or key.
pub(super) fn place<T>(spanned: &Spanned<T>) -> Place {
    Place::File(spanned.span())
}

/// Reports every key outside of `known`.
pub(super) fn known_keys(table: &DeTable<'_>, known: &[&str], problems: &mut Problems) {
    for (key, _) in table {
        let name: &str = key.get_ref();
        if !known.contains(&name) {
            let help = suggest(name, known.iter().copied());
            problems.add(place(key), BadValue::new(format!("unknown key `{}`", name.escape_debug()), help));
        }
    }
}

/// The text that a value is.
pub(super) fn text<'v>(value: &'v Value<'_>, expected: &str, problems: &mut Problems) -> Option<&'v str> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        wrong_type(value, expected, problems);
    }
    text
}

/// The parsed text of a value.
pub(super) fn parsed<T>(
    value: &Value<'_>,
    expected: &str,
    problems: &mut Problems,
    parse: impl FnOnce(&str) -> Result<T, BadValue>,
) -> Option<T> {
    let text = text(value, expected, problems)?;
    problems.check(&place(value), parse(text))
}

/// One of the values that a closed set of names stands for.
pub(super) fn one_of<T: Copy>(value: &Value<'_>, named: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let names = || named.iter().map(|(name, _)| *name);
    parsed(value, &format!("one of {}", listed(names())), problems, |text| {
        named
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| BadValue::new(format!("unknown value `{}`", text.escape_debug()), suggest(text, names())))
    })
}

/// A whole number within a range.
pub(super) fn count(value: &Value<'_>, range: RangeInclusive<usize>, problems: &mut Problems) -> Option<usize> {
    let expected = || format!("a whole number from {} to {}", range.start(), range.end());
    let Some(integer) = value.get_ref().as_integer() else {
        wrong_type(value, &expected(), problems);
        return None;
    };
    let count = usize::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|count| range.contains(count));
    if count.is_none() {
        problems.add(place(value), BadValue::new(format!("`{integer}` is out of range"), expected()));
    }
    count
}

/// The texts of a list, each with its place.
pub(super) fn texts<'v>(
    value: &'v Value<'_>,
    expected: &str,
    problems: &mut Problems,
) -> Option<Vec<Located<&'v str>>> {
    let Some(array) = value.get_ref().as_array() else {
        wrong_type(value, &format!("a list of {expected}s"), problems);
        return None;
    };
    let texts = array.iter().filter_map(|element| {
        let value = text(element, &format!("a {expected}"), problems)?;
        Some(Located { place: place(element), value })
    });
    Some(texts.collect())
}

/// The names of a list, each with its place, without those that are there already.
pub(super) fn names<'v>(value: &'v Value<'_>, problems: &mut Problems) -> Option<Vec<Located<&'v str>>> {
    let mut names = texts(value, "name", problems)?;
    unique(&mut names, problems);
    Some(names)
}

/// Complains of every name that repeats an earlier one, and takes it off.
pub(super) fn unique(names: &mut Vec<Located<&str>>, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    names.retain(|name| {
        let is_new = seen.insert(name.value);
        if !is_new {
            let message = format!("`{}` is there twice", name.value.escape_debug());
            problems.add(name.place.clone(), BadValue::new(message, None));
        }
        is_new
    });
}

/// The table that a value is.
pub(super) fn table<'v, 'i>(value: &'v Value<'i>, problems: &mut Problems) -> Option<&'v DeTable<'i>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        wrong_type(value, "a table", problems);
    }
    table
}

/// Complains of a value's type.
pub(super) fn wrong_type(value: &Value<'_>, expected: &str, problems: &mut Problems) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    problems.add(place(value), BadValue::new(format!("expected {expected}, found {found}"), None));
}
