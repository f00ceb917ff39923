//! An experiment that a client sent, as TOML or JSON: the same settings, checked by the same code.
//!
//! JSON is rewritten as TOML, and faults are taken back to their place in the JSON.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::load::load_text;
use super::problem::{ExperimentError, Place};
use super::service::Service;
use super::{Host, Loaded};
use crate::nearest::meant_in;

/// The form of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Form {
    Toml,
    Json,
}

/// An experiment as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The form of the text.
    pub form: Form,
    /// The settings.
    pub text: &'a str,
}

/// All faults of an experiment that was sent, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SentError(pub Vec<SentFault>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct SentFault {
    /// The fault.
    pub message: String,
    /// A remedy.
    pub help: Option<String>,
    /// The nearest known name, which is in the remedy, too.
    pub nearest: Option<String>,
    /// Where it is; `None`: something is missing.
    pub place: Option<SentPlace>,
}

/// Where a fault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentPlace {
    /// In TOML, or in a text that is not JSON: line and column, both from 1.
    Line {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// In JSON: a JSON pointer (RFC 6901).
    Pointer(String),
}

impl Form {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Json => "json",
        }
    }

    /// The form of that name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Toml, Self::Json].into_iter().find(|form| form.as_str() == name)
    }
}

impl Sent<'_> {
    /// Checks the experiment, and finds its toolchains.
    ///
    /// # Errors
    /// All faults at once.
    pub fn load(&self, host: &Host<'_>) -> Result<(Loaded, Service), SentError> {
        match self.form {
            Form::Toml => {
                load_text(self.text, host).map_err(|error| faults(&error, |span| Some(line_of(self.text, span.start))))
            }
            Form::Json => {
                let rewritten = Rewritten::of(self.text)?;
                load_text(&rewritten.text, host)
                    .map_err(|error| faults(&error, |span| rewritten.pointer(span).map(SentPlace::Pointer)))
            }
        }
    }
}

fn faults(error: &ExperimentError, place: impl Fn(&Range<usize>) -> Option<SentPlace>) -> SentError {
    let fault = |problem: &super::Problem| SentFault {
        message: problem.what.message.clone(),
        help: problem.what.help.clone(),
        nearest: [problem.what.help.as_deref(), Some(problem.what.message.as_str())]
            .into_iter()
            .flatten()
            .find_map(meant_in)
            .map(str::to_owned),
        place: match &problem.place {
            Place::File(span) => place(span),
            Place::Flag(_) | Place::Nowhere => None,
        },
    };
    SentError(error.problems().iter().map(fault).collect())
}

fn line_of(text: &str, at: usize) -> SentPlace {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    SentPlace::Line { line: before.matches('\n').count() + 1, column: before[start..].chars().count() + 1 }
}

/// A JSON text as TOML.
struct Rewritten {
    text: String,
    /// The place of every key and value in the text, outer ones before inner ones.
    places: Vec<(Range<usize>, String)>,
}

impl Rewritten {
    fn of(json: &str) -> Result<Self, SentError> {
        let one = |message: String, place| {
            SentError(vec![SentFault { message, help: None, nearest: None, place: Some(place) }])
        };
        let value: Value = serde_json::from_str(json).map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let place = SentPlace::Line { line: error.line(), column: error.column() };
            match error.classify() {
                serde_json::error::Category::Data => one(message.to_owned(), place),
                serde_json::error::Category::Io
                | serde_json::error::Category::Syntax
                | serde_json::error::Category::Eof => one(format!("this is not JSON: {message}"), place),
            }
        })?;
        let Value::Table(root) = value else {
            return Err(one("expected an object of settings".to_owned(), SentPlace::Pointer(String::new())));
        };
        let mut rewritten = Self { text: String::new(), places: Vec::new() };
        for (key, value) in &root {
            rewritten.entry(key, value, "").map_err(|pointer| {
                let message = "null is not a setting; leave the key out for the default";
                one(message.to_owned(), SentPlace::Pointer(pointer))
            })?;
            rewritten.text.push('\n');
        }
        Ok(rewritten)
    }

    /// Writes `"key" = value`. Errors with the pointer of a null.
    fn entry(&mut self, key: &str, value: &Value, parent: &str) -> Result<(), String> {
        let pointer = format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"));
        let begin = self.text.len();
        self.string(key);
        self.text.push_str(" = ");
        let place = self.places.len();
        self.places.push((begin..begin, pointer.clone()));
        self.value(value, &pointer)?;
        self.places[place].0.end = self.text.len();
        Ok(())
    }

    fn value(&mut self, value: &Value, pointer: &str) -> Result<(), String> {
        match value {
            Value::Null => return Err(pointer.to_owned()),
            Value::Bool(value) => self.push(value),
            Value::Whole(number) => self.push(number),
            // With a point or an exponent, as TOML tells the two kinds of numbers apart.
            Value::Number(number) => self.push(&format_args!("{number:?}")),
            Value::Text(text) => self.string(text),
            Value::List(list) => {
                self.text.push('[');
                for (index, value) in list.iter().enumerate() {
                    let begin = self.text.len();
                    let pointer = format!("{pointer}/{index}");
                    let place = self.places.len();
                    self.places.push((begin..begin, pointer.clone()));
                    self.value(value, &pointer)?;
                    self.places[place].0.end = self.text.len();
                    self.text.push_str(", ");
                }
                self.text.push(']');
            }
            Value::Table(table) => {
                self.text.push('{');
                for (index, (key, value)) in table.iter().enumerate() {
                    self.text.push_str(if index == 0 { " " } else { ", " });
                    self.entry(key, value, pointer)?;
                }
                self.text.push_str(" }");
            }
        }
        Ok(())
    }

    fn push(&mut self, value: &dyn fmt::Display) {
        // Writing to a string can't fail.
        let _ = write!(self.text, "{value}");
    }

    /// A basic string of TOML.
    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                c if c.is_control() => {
                    let _ = write!(self.text, "\\U{:08X}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }

    /// The innermost place around the beginning of a span.
    fn pointer(&self, span: &Range<usize>) -> Option<String> {
        let around = self.places.iter().rev().find(|(place, _)| place.start <= span.start && span.start < place.end);
        around.map(|(_, pointer)| pointer.clone())
    }
}

/// A JSON value in the order of the text. A key that is there twice is an error.
enum Value {
    Null,
    Bool(bool),
    Whole(i128),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("key `{}` is there twice", key.escape_debug())));
            }
            entries.push((key, value));
        }
        Ok(Value::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::experiment::Installing;
    use crate::toolchain::{Toolchain, ToolchainError, ToolchainSpec};

    fn load(form: Form, text: &str) -> Result<(Loaded, Service), Vec<SentFault>> {
        let toolchain = |spec: Option<&ToolchainSpec>, _: Installing| -> Result<Toolchain, ToolchainError> {
            let spec: ToolchainSpec = spec.cloned().unwrap_or_else(|| "stable".parse().unwrap());
            Ok(Toolchain::new(spec, "1.95.0".parse().unwrap(), "x".into(), "/".into()))
        };
        let host = Host { cores: 4, folder: Path::new("/"), toolchain: &toolchain };
        Sent { form, text }.load(&host).map_err(|error| error.0)
    }

    #[test]
    fn json_and_toml_are_the_same_settings() {
        let toml = r#"
            name = "x"
            crates = ["itoa", "semver@1"]
            priority = -3
            weight = 2.5
            confirm = false
            overcommit = 0.5
            needs = { labels = ["big"], memory = "16GiB" }
            [limits]
            cpus = 2
            timeout = "1m"
            [crate."a-*".env]
            "KEY" = "a \"b\" \\ \u0001 é"
        "#;
        let json = r#"{"name": "x", "crates": ["itoa", "semver@1"], "priority": -3, "weight": 2.5, "confirm": false,
            "overcommit": 0.5, "needs": {"labels": ["big"], "memory": "16GiB"}, "limits": {"cpus": 2, "timeout": "1m"},
            "crate": {"a-*": {"env": {"KEY": "a \"b\" \\ \u0001 é"}}}}"#;
        let loaded = load(Form::Toml, toml).unwrap();
        assert_eq!(load(Form::Json, json).unwrap(), loaded);
        assert_eq!((loaded.1.priority, loaded.1.weight), (Some(-3), Some(2.5)));
    }

    #[test]
    fn every_fault_has_its_place_in_the_form_that_was_sent() {
        let places = |form, text: &str| -> Vec<(Option<SentPlace>, Option<String>)> {
            load(form, text).unwrap_err().into_iter().map(|fault| (fault.place, fault.nearest)).collect()
        };
        let line = |line, column| Some(SentPlace::Line { line, column });
        let pointer = |text: &str| Some(SentPlace::Pointer(text.to_owned()));
        let meant = |text: &str| Some(text.to_owned());
        assert_eq!(
            places(Form::Toml, "crates = [\"itoa\"]\nopps = []\n[limits]\ncpu = 2"),
            [(line(2, 1), meant("ops")), (line(4, 1), meant("cpus"))]
        );
        assert_eq!(
            places(Form::Json, r#"{"crates": ["itoa", "a b"], "opps": [], "limits": {"cpus": 0, "memory": 3}}"#),
            [
                (pointer("/crates/1"), None),
                (pointer("/opps"), meant("ops")),
                (pointer("/limits/cpus"), None),
                (pointer("/limits/memory"), None)
            ]
        );
        assert_eq!(places(Form::Json, "{\"a\": 1,\n}"), [(line(2, 1), None)]);
        assert_eq!(places(Form::Json, "[]"), [(pointer(""), None)]);
        assert_eq!(places(Form::Json, r#"{"limits": {"cpus": null}}"#), [(pointer("/limits/cpus"), None)]);
        assert!(load(Form::Json, r#"{"ops": [], "ops": []}"#).unwrap_err()[0].message.contains("`ops` is there twice"));
        load(Form::Json, &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).unwrap_err();
    }

    #[test]
    fn a_server_reads_no_files_and_keeps_its_walls() {
        for (setting, words) in [
            ("crates = [\"path:/etc\"]", "leads to another host or back to this one"),
            ("crates = [\"list:/etc/passwd\"]", "leads to another host"),
            ("crates = [\"lock:/etc/passwd\"]", "leads to another host"),
            ("crates = [\"list:https://example.org/x\"]", "leads to another host"),
            ("crates = [\"itoa@1.0.0 lockfile:/etc/passwd\"]", "leads to another host"),
            ("crates = [\"itoa\"]\nsandbox = \"none\"", "weakens the sandbox"),
            ("crates = [\"itoa\"]\nallow-hosts = [\"localhost\"]", "weakens the sandbox"),
            ("crates = [\"itoa\"]\n[limits]\nmemory = \"100GiB\"", "weakens the sandbox"),
            ("crates = [\"itoa\"]\novercommit = 8", "weakens the sandbox"),
            ("crates = [\"itoa\"]\ntoolchains = [\"path:/opt/x\"]", "takes that from nobody"),
            ("name = \"x\"", "no crate is selected"),
            ("crates = [\"itoa\"]\npriority = 9999999", "out of range"),
            ("crates = [\"itoa\"]\nweight = 0", "out of range"),
        ] {
            let faults = load(Form::Toml, setting).unwrap_err();
            assert!(faults.len() == 1 && faults[0].message.contains(words), "{setting}: {faults:?}");
            let help = faults[0].help.clone().unwrap_or_default();
            assert!(!help.contains("maar run FILE"), "{setting}: {help}");
        }
    }
}
