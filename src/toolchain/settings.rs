//! The settings of a spec, `+KEY=VALUE`: how a toolchain builds, besides its programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::quote;
use super::spec::Base;
use crate::nearest::{listed, suggest};

/// How a toolchain builds, besides its programs. All of it is the user's: no crate has a part in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Settings {
    /// Flags for every rustc that cargo runs, as in `RUSTFLAGS`.
    pub rustflags: Vec<String>,
    /// Flags for every rustdoc, as in `RUSTDOCFLAGS`.
    pub rustdocflags: Vec<String>,
    /// Arguments of the built-in ops' cargo commands.
    pub cargoflags: Vec<String>,
    /// The platform to build for, as in `--target`.
    pub target: Option<String>,
    /// The profile to build with, as in `--profile`.
    pub profile: Option<String>,
    /// Variables of all commands but those of `prepare`. They outweigh a crate's own.
    pub env: BTreeMap<String, String>,
    /// What stands in for packages of the registry, by their names.
    pub patches: BTreeMap<String, PatchSource>,
    /// Components of rustup's that the toolchain must have.
    pub components: BTreeSet<String>,
    /// The toolchain whose cargo is used.
    pub cargo: Option<Base>,
    /// The toolchain whose rustdoc is used.
    pub rustdoc: Option<Base>,
}

/// What stands in for a package of the registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PatchSource {
    /// A user's folder.
    Folder(PathBuf),
    /// A commit of a git repository.
    Git {
        /// An https URL.
        url: String,
        /// The commit's hash, or its beginning.
        rev: String,
    },
}

/// Variables that maar or the toolchain's choice decides, so that neither a spec nor a crate can set them.
pub const RESERVED_ENV: [&str; 19] = [
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_HOME",
    "CARGO_INCREMENTAL",
    "CARGO_NET_OFFLINE",
    "CARGO_TARGET_DIR",
    "CARGO_TERM_COLOR",
    "HOME",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUSTC",
    "RUSTDOC",
    "RUSTUP_AUTO_INSTALL",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "TERM",
    "TMPDIR",
    "USER",
];

/// Variables that have their own key in a spec.
const KEYED_ENV: [(&str, Key); 7] = [
    ("CARGO_BUILD_RUSTDOCFLAGS", Key::Rustdocflags),
    ("CARGO_BUILD_RUSTFLAGS", Key::Rustflags),
    ("CARGO_BUILD_TARGET", Key::Target),
    ("CARGO_ENCODED_RUSTDOCFLAGS", Key::Rustdocflags),
    ("CARGO_ENCODED_RUSTFLAGS", Key::Rustflags),
    ("RUSTDOCFLAGS", Key::Rustdocflags),
    ("RUSTFLAGS", Key::Rustflags),
];

/// Flags that maar itself gives cargo, or that a spec has a key for.
const TAKEN_FLAGS: [(&str, &str); 12] = [
    ("--", "arguments behind it are the tests'"),
    ("--features", "features are set for each crate, in `[crate.NAME]`"),
    ("--frozen", "maar gives it itself"),
    ("--jobs", "maar gives it itself, from `--cpus`"),
    ("--locked", "maar gives `--frozen` itself"),
    ("--manifest-path", "commands run in the crate's folder"),
    ("--offline", "maar gives `--frozen` itself"),
    ("--profile", "use `+profile=NAME`"),
    ("--release", "use `+profile=release`"),
    ("--target", "use `+target=NAME`"),
    ("--target-dir", "maar chooses the target folder"),
    ("-j", "maar gives `--jobs` itself, from `--cpus`"),
];

/// The keys of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// [`Settings::rustflags`].
    Rustflags,
    /// [`Settings::rustdocflags`].
    Rustdocflags,
    /// [`Settings::cargoflags`].
    Cargoflags,
    /// [`Settings::target`].
    Target,
    /// [`Settings::profile`].
    Profile,
    /// [`Settings::env`].
    Env,
    /// [`Settings::patches`].
    Patch,
    /// [`Settings::components`].
    Component,
    /// [`Settings::cargo`].
    Cargo,
    /// [`Settings::rustdoc`].
    Rustdoc,
}

/// How a key's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Words between blanks, as often as one likes.
    Words,
    /// One text, once.
    Single,
    /// One text each time.
    Several,
    /// `NAME=VALUE` each time.
    Named,
}

/// Why a value doesn't fit its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}", .help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct BadSetting {
    /// The fault.
    pub what: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl BadSetting {
    pub(super) fn new(what: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

impl Key {
    /// All keys, in the order in which a spec prints them.
    pub const ALL: [Self; 10] = [
        Self::Rustflags,
        Self::Rustdocflags,
        Self::Cargoflags,
        Self::Target,
        Self::Profile,
        Self::Env,
        Self::Patch,
        Self::Component,
        Self::Cargo,
        Self::Rustdoc,
    ];

    /// The key as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rustflags => "rustflags",
            Self::Rustdocflags => "rustdocflags",
            Self::Cargoflags => "cargoflags",
            Self::Target => "target",
            Self::Profile => "profile",
            Self::Env => "env",
            Self::Patch => "patch",
            Self::Component => "component",
            Self::Cargo => "cargo",
            Self::Rustdoc => "rustdoc",
        }
    }

    /// How its value is written.
    pub fn shape(self) -> Shape {
        match self {
            Self::Rustflags | Self::Rustdocflags | Self::Cargoflags => Shape::Words,
            Self::Target | Self::Profile | Self::Cargo | Self::Rustdoc => Shape::Single,
            Self::Component => Shape::Several,
            Self::Env | Self::Patch => Shape::Named,
        }
    }

    /// The key of that name.
    ///
    /// # Errors
    /// The nearest key, if none has that name.
    pub fn find(name: &str) -> Result<Self, BadSetting> {
        Self::ALL.into_iter().find(|key| key.as_str() == name).ok_or_else(|| {
            let help = suggest(name, Self::ALL.map(Self::as_str));
            BadSetting::new(format!("unknown key `{}`", shortened(name)), help)
        })
    }

    /// Whether a spec with it can steer which code runs, or which parts of the host a cell sees.
    pub fn steers(self) -> bool {
        match self {
            Self::Rustflags | Self::Rustdocflags | Self::Cargoflags | Self::Env | Self::Patch => true,
            Self::Target | Self::Profile | Self::Component | Self::Cargo | Self::Rustdoc => false,
        }
    }
}

impl Settings {
    /// Adds words to one of the keys that have them.
    ///
    /// # Errors
    /// When cargo may not get one of them.
    pub fn add_words(&mut self, key: Key, words: Vec<String>) -> Result<(), BadSetting> {
        if words.is_empty() {
            return Err(BadSetting::new(format!("`{}` has no words", key.as_str()), None));
        }
        if let Some(word) = words.iter().find(|word| word.contains(char::is_control)) {
            return Err(no_control(word));
        }
        let to = match key {
            Key::Rustflags => &mut self.rustflags,
            Key::Rustdocflags => &mut self.rustdocflags,
            Key::Cargoflags => {
                words.iter().try_for_each(|word| cargoflag(word))?;
                &mut self.cargoflags
            }
            Key::Target | Key::Profile | Key::Env | Key::Patch | Key::Component | Key::Cargo | Key::Rustdoc => {
                return Err(BadSetting::new(format!("`{}` is one text, not words", key.as_str()), None));
            }
        };
        to.extend(words);
        Ok(())
    }

    /// Adds a text to a key, as a spec has it: the words of one that has words, `NAME=VALUE` for one that has names.
    ///
    /// # Errors
    /// When it doesn't fit the key, or the key has a value already.
    pub fn add(&mut self, key: Key, text: &str) -> Result<(), BadSetting> {
        let once = |is_there: bool| {
            let what = format!("`{}` is there twice", key.as_str());
            if is_there { Err(BadSetting::new(what, None)) } else { Ok(()) }
        };
        match key {
            Key::Rustflags | Key::Rustdocflags | Key::Cargoflags => {
                let words = quote::words(text).map_err(|error| BadSetting::new(error.what, None))?;
                return self.add_words(key, words);
            }
            Key::Env | Key::Patch => {
                let example = if key == Key::Env { "env=NAME=VALUE" } else { "patch=NAME=DIR or patch=NAME=URL#REV" };
                let split = text.split_once('=').ok_or_else(|| {
                    BadSetting::new(format!("`{}` has no `=`", shortened(text)), format!("such as `+{example}`"))
                });
                let (name, value) = split?;
                return self.add_named(key, name, value);
            }
            Key::Target => {
                once(self.target.is_some())?;
                self.target = Some(plain(text, "a platform", "such as `x86_64-unknown-linux-musl`")?);
            }
            Key::Profile => {
                once(self.profile.is_some())?;
                self.profile = Some(plain(text, "a profile", "such as `release`")?);
            }
            Key::Component => {
                let component = plain(text, "a component", "such as `clippy` or `rust-src`")?;
                if !self.components.insert(component) {
                    return Err(BadSetting::new(format!("component `{text}` is there twice"), None));
                }
            }
            Key::Cargo => {
                once(self.cargo.is_some())?;
                self.cargo = Some(Base::parse(text)?);
            }
            Key::Rustdoc => {
                once(self.rustdoc.is_some())?;
                self.rustdoc = Some(Base::parse(text)?);
            }
        }
        Ok(())
    }

    /// Adds a value under a name to one of the keys that have them.
    ///
    /// # Errors
    /// When name or value doesn't fit the key, or the name has a value already.
    pub fn add_named(&mut self, key: Key, name: &str, value: &str) -> Result<(), BadSetting> {
        let is_there = match key {
            Key::Env => {
                variable(name)?;
                if value.contains(char::is_control) {
                    return Err(no_control(value));
                }
                self.env.insert(name.to_owned(), value.to_owned()).is_some()
            }
            Key::Patch => {
                let name = plain(name, "the name of a package", "such as `patch=serde=../serde`")?;
                let source = PatchSource::parse(value)?;
                self.patches.insert(name, source).is_some()
            }
            Key::Rustflags
            | Key::Rustdocflags
            | Key::Cargoflags
            | Key::Target
            | Key::Profile
            | Key::Component
            | Key::Cargo
            | Key::Rustdoc => return Err(BadSetting::new(format!("`{}` has no names", key.as_str()), None)),
        };
        match is_there {
            true => Err(BadSetting::new(format!("`{}={name}` is there twice", key.as_str()), None)),
            false => Ok(()),
        }
    }

    /// The keys that have a value, in order, with each value as a spec writes it.
    pub(super) fn printed(&self) -> Vec<(Key, String)> {
        let Self { rustflags, rustdocflags, cargoflags, target, profile, env, patches, components, cargo, rustdoc } =
            self;
        let words = [(Key::Rustflags, rustflags), (Key::Rustdocflags, rustdocflags), (Key::Cargoflags, cargoflags)];
        let words = words.into_iter().filter(|(_, words)| !words.is_empty());
        let words = words.map(|(key, words)| (key, quote::of_value(&quote::of_words(words))));
        let single = |key, value: &Option<String>| value.as_deref().map(|value| (key, quote::of_value(value)));
        let base = |key, base: &Option<Base>| base.as_ref().map(|base| (key, quote::of_value(&base.to_string())));
        let named = |key, name: &String, value: &str| (key, format!("{name}={}", quote::of_value(value)));
        words
            .chain(single(Key::Target, target))
            .chain(single(Key::Profile, profile))
            .chain(env.iter().map(|(name, value)| named(Key::Env, name, value)))
            .chain(patches.iter().map(|(name, source)| named(Key::Patch, name, &source.to_string())))
            .chain(components.iter().map(|component| (Key::Component, quote::of_value(component))))
            .chain(base(Key::Cargo, cargo))
            .chain(base(Key::Rustdoc, rustdoc))
            .collect()
    }
}

impl PatchSource {
    fn parse(text: &str) -> Result<Self, BadSetting> {
        const SUCH_AS: &str = "such as `patch=serde=../serde` or `patch=serde=https://HOST/serde.git#COMMIT`";
        if text.is_empty() || text.contains(char::is_control) {
            return Err(BadSetting::new(format!("`{}` is not a folder or a URL", shortened(text)), SUCH_AS.to_owned()));
        }
        let Some((scheme, _)) = text.split_once("://") else { return Ok(Self::Folder(PathBuf::from(text))) };
        if scheme != "https" {
            let help = "cells reach https hosts only; clone the repository, and give the folder: `patch=NAME=DIR`";
            return Err(BadSetting::new(format!("`{}` is not an https URL", shortened(text)), help.to_owned()));
        }
        let (url, rev) = text.split_once('#').unwrap_or((text, ""));
        let is_commit = (7..=64).contains(&rev.len()) && rev.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_commit {
            let what = format!("`{}` names no commit: `{}`", shortened(text), shortened(rev));
            let help = "branches move, so that two runs could differ: `URL#COMMIT`, with the hash, 7 digits or more";
            return Err(BadSetting::new(what, help.to_owned()));
        }
        Ok(Self::Git { url: url.to_owned(), rev: rev.to_owned() })
    }
}

impl std::fmt::Display for PatchSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Git { url, rev } => write!(f, "{url}#{rev}"),
        }
    }
}

/// A name of ASCII letters, digits, `-`, `_` and `.`.
fn plain(text: &str, what: &str, such_as: &str) -> Result<String, BadSetting> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 128
        && text.chars().all(allowed)
    {
        return Ok(text.to_owned());
    }
    Err(BadSetting::new(format!("`{}` is not {what}", shortened(text)), such_as.to_owned()))
}

fn variable(name: &str) -> Result<(), BadSetting> {
    if RESERVED_ENV.contains(&name) {
        return Err(BadSetting::new(format!("`{name}` is set by maar itself"), "take it out".to_owned()));
    }
    if let Some((_, key)) = KEYED_ENV.iter().find(|(keyed, _)| *keyed == name) {
        return Err(BadSetting::new(format!("`{name}` has a key of its own"), format!("use `+{}=…`", key.as_str())));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(allowed) {
        return Ok(());
    }
    let help = "ASCII letters, digits and `_` are allowed, no digit first";
    Err(BadSetting::new(format!("`{}` is not the name of a variable", shortened(name)), help.to_owned()))
}

fn cargoflag(word: &str) -> Result<(), BadSetting> {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let is_short = |flag: &str| flag == "-j" && name.starts_with("-j");
    match TAKEN_FLAGS.iter().find(|(flag, _)| *flag == name || is_short(flag)) {
        Some((flag, help)) => Err(BadSetting::new(format!("`cargoflags` can't have `{flag}`"), (*help).to_owned())),
        None => Ok(()),
    }
}

fn no_control(text: &str) -> BadSetting {
    BadSetting::new(format!("`{}` has a control character", shortened(text)), "take it out".to_owned())
}

pub(super) fn shortened(text: &str) -> String {
    text.escape_debug().to_string().chars().take(80).collect()
}

/// All keys, for messages.
pub(super) fn all_keys() -> String {
    listed(Key::ALL.map(Key::as_str))
}
