//! The `toolchains` of an experiment file: texts, as behind `-t`, or tables with the same keys.

use toml::de::{DeTable, DeValue};

use super::problem::{BadValue, Problems};
use super::read::{Located, Value, known_keys, parsed, place, table, text, wrong_type};
use crate::toolchain::{BadSetting, BadToolchainSpec, Key, Settings, Shape, ToolchainSpec};

/// The key of a table for what stands before the first `+` of a text.
const BASE: &str = "toolchain";

/// The toolchains of a list. The same one twice is allowed.
pub(super) fn read(value: &Value<'_>, problems: &mut Problems) -> Vec<Located<ToolchainSpec>> {
    let Some(list) = value.get_ref().as_array() else {
        wrong_type(value, "a list of toolchains", problems);
        return Vec::new();
    };
    let specs = list.iter().filter_map(|element| {
        let value = one(element, problems)?;
        Some(Located { place: place(element), value })
    });
    specs.collect()
}

/// One toolchain; `None`: it is not one, which has been complained of.
pub(super) fn one(value: &Value<'_>, problems: &mut Problems) -> Option<ToolchainSpec> {
    match value.get_ref() {
        DeValue::Table(table) => of_table(value, table, problems),
        _ => parsed(value, "a toolchain: a text, or a table", problems, |text| {
            text.parse().map_err(|error: BadToolchainSpec| bad(error.to_string()))
        }),
    }
}

fn bad(message: String) -> BadValue {
    BadValue::new(message, None)
}

fn of_table(value: &Value<'_>, entries: &DeTable<'_>, problems: &mut Problems) -> Option<ToolchainSpec> {
    let keys: Vec<&str> = [BASE].into_iter().chain(Key::ALL.map(Key::as_str)).collect();
    known_keys(entries, &keys, problems);
    let Some(base) = entries.get(BASE) else {
        let help = "such as `{ toolchain = \"stable\", rustflags = \"-D warnings\" }`".to_owned();
        problems.add(place(value), BadValue::new("it names no `toolchain`", help));
        return None;
    };
    let base: ToolchainSpec = parsed(base, "the name of a toolchain", problems, |text| {
        text.parse().map_err(|error: BadToolchainSpec| bad(error.to_string()))
    })?;
    let mut settings = base.settings().clone();
    for key in Key::ALL {
        if let Some(value) = entries.get(key.as_str()) {
            add(&mut settings, key, value, problems);
        }
    }
    Some(ToolchainSpec::new(base.base().clone(), settings))
}

fn add(settings: &mut Settings, key: Key, value: &Value<'_>, problems: &mut Problems) {
    let mut check = |at: &Value<'_>, result: Result<(), BadSetting>| {
        let result = result.map_err(|error| BadValue::new(error.what, error.help));
        problems.check(&place(at), result);
    };
    match (key.shape(), value.get_ref()) {
        (Shape::Words, DeValue::Array(list)) => {
            let words: Option<Vec<String>> =
                list.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect();
            match words {
                Some(words) => check(value, settings.add_words(key, words)),
                None => wrong_type(value, "a text, or a list of texts", problems),
            }
        }
        (Shape::Several, DeValue::Array(list)) => {
            for element in list.iter() {
                match element.get_ref().as_str() {
                    Some(text) => check(element, settings.add(key, text)),
                    None => return wrong_type(element, "a text", problems),
                }
            }
        }
        (Shape::Named, _) => {
            let Some(entries) = table(value, problems) else { return };
            for (name, value) in entries {
                let Some(text) = text(value, "a text", problems) else { continue };
                let result = settings.add_named(key, name.get_ref(), text);
                let result = result.map_err(|error| BadValue::new(error.what, error.help));
                problems.check(&place(value), result);
            }
        }
        (Shape::Words | Shape::Single | Shape::Several, _) => {
            let Some(text) = text(value, "a text", problems) else { return };
            let result = settings.add(key, text).map_err(|error| BadValue::new(error.what, error.help));
            problems.check(&place(value), result);
        }
    }
}
