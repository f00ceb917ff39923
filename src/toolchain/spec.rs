//! A toolchain as the user names it: `BASE+KEY=VALUE+KEY=VALUE…`.
//!
//! `BASE` is a name of rustup's or `path:DIR`; [`Settings`] has the keys, [`quote`] the quoting. A spec prints back to
//! what was parsed: keys in a fixed order, quotes where they are needed. docs/toolchains.md is the user's page.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::quote::{self, Unquotable};
use super::settings::{BadSetting, Key, PatchSource, Settings, Shape, all_keys, shortened};
use crate::nearest::did_you_mean;

#[cfg(test)]
mod tests;

/// A toolchain as the user names it: `stable`, `nightly-2026-05-15`, `path:build/host/stage1+rustflags=-Zthreads=8`, …
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolchainSpec {
    /// The printed form of the rest.
    text: String,
    base: Base,
    settings: Settings,
}

/// Where a toolchain's programs come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Base {
    /// A name of rustup's: a channel, a version, or a linked toolchain.
    Named(String),
    /// A folder with a compiler in its `bin`.
    Path(PathBuf),
}

/// Why a text is not a toolchain, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{bad} (column {column} of `{}`)", shortened(.spec))]
pub struct BadToolchainSpec {
    /// The text.
    pub spec: String,
    /// Which character is wrong, from 1.
    pub column: usize,
    /// Its fault.
    pub bad: BadSetting,
}

/// The longest spec, in bytes.
const LONGEST: usize = 4096;

/// Begins a base that is a folder.
const PATH: &str = "path:";

impl ToolchainSpec {
    /// A spec of these parts.
    pub fn new(base: Base, settings: Settings) -> Self {
        let keys = settings.printed().into_iter().map(|(key, value)| format!("+{}={value}", key.as_str()));
        let base_text = match &base {
            Base::Named(name) => name.clone(),
            Base::Path(folder) => format!("{PATH}{}", quote::of_value(&folder.display().to_string())),
        };
        Self { text: base_text + &keys.collect::<String>(), base, settings }
    }

    /// The spec as it prints.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where its programs come from.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// How it builds.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same spec, whose relative paths begin at `folder`.
    #[must_use]
    pub fn rooted(self, folder: &Path) -> Self {
        let Self { base, mut settings, .. } = self;
        let rooted = |base: Base| match base {
            Base::Path(path) => Base::Path(absolute(folder, &path)),
            Base::Named(_) => base,
        };
        settings.cargo = settings.cargo.map(rooted);
        settings.rustdoc = settings.rustdoc.map(rooted);
        for source in settings.patches.values_mut() {
            if let PatchSource::Folder(path) = source {
                *path = absolute(folder, path);
            }
        }
        Self::new(rooted(base), settings)
    }

    /// The part that lets it steer which code runs, or which parts of the host a cell sees: a key, or `path:`. `None`:
    /// nothing.
    pub fn steering(&self) -> Option<&'static str> {
        let steers = self.settings.printed().into_iter().find(|(key, _)| key.steers()).map(|(key, _)| key.as_str());
        let bases = [Some(&self.base), self.settings.cargo.as_ref(), self.settings.rustdoc.as_ref()];
        let has_path = bases.into_iter().flatten().any(|base| matches!(base, Base::Path(_)));
        steers.or(has_path.then_some(PATH))
    }

    /// A short form for tables: folders and URLs by their last name, commits by their first digits.
    pub(super) fn label(&self) -> String {
        let Self { base, mut settings, .. } = self.clone();
        let short = |path: &Path| path.file_name().map_or_else(|| path.to_owned(), PathBuf::from);
        let shortened = |base: Base| match base {
            Base::Path(path) => Base::Path(short(&path)),
            Base::Named(_) => base,
        };
        settings.cargo = settings.cargo.map(shortened);
        settings.rustdoc = settings.rustdoc.map(shortened);
        for source in settings.patches.values_mut() {
            match source {
                PatchSource::Folder(path) => *path = short(path),
                PatchSource::Git { url, rev } => {
                    *url = url.rsplit('/').next().unwrap_or(url).to_owned();
                    rev.truncate(7);
                }
            }
        }
        Self::new(shortened(base), settings).text
    }
}

/// Without links and `..` where it exists.
fn absolute(folder: &Path, path: &Path) -> PathBuf {
    let path = folder.join(path);
    // A name that is not UTF-8 has no place in a spec.
    path.canonicalize().ok().filter(|real| real.to_str().is_some()).unwrap_or(path)
}

impl Base {
    /// Reads a base without quotes.
    pub(super) fn parse(text: &str) -> Result<Self, BadSetting> {
        if let Some(folder) = text.strip_prefix(PATH) {
            return match folder {
                "" => Err(BadSetting::new("`path:` names no folder", "such as `path:build/host/stage1`".to_owned())),
                _ if folder.contains(char::is_control) => {
                    Err(BadSetting::new("the folder's name has a control character", None))
                }
                _ => Ok(Self::Path(folder.into())),
            };
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 128 && text.chars().all(allowed) {
            return Ok(Self::Named(text.to_owned()));
        }
        let help = match text.split_once(':') {
            Some((prefix, _)) if did_you_mean(prefix, ["path"]).is_some() => "did you mean `path:`?".to_owned(),
            _ if text.contains('/') => format!("a folder is written `path:{}`", shortened(text)),
            _ => "such as `stable`, `nightly-2026-05-15`, `1.95.0` or `path:DIR`".to_owned(),
        };
        let what = format!(
            "`{}` is not a toolchain name: only ASCII letters, digits, `.`, `-` and `_` are allowed",
            shortened(text)
        );
        Err(BadSetting::new(what, help))
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Path(folder) => write!(f, "{PATH}{}", folder.display()),
        }
    }
}

impl FromStr for ToolchainSpec {
    type Err = BadToolchainSpec;

    fn from_str(spec: &str) -> Result<Self, BadToolchainSpec> {
        let bad = |at: usize, bad: BadSetting| BadToolchainSpec {
            spec: spec.to_owned(),
            column: spec[..at].chars().count() + 1,
            bad,
        };
        let unquotable = |Unquotable { at, what }| bad(at, BadSetting::new(what, None));
        if let Some((at, _)) = spec.char_indices().find(|(at, c)| c.is_control() || *at > LONGEST) {
            let what = if at > LONGEST { "a spec is at most 4096 bytes long" } else { "a control character" };
            return Err(bad(at, BadSetting::new(what, None)));
        }
        let (base, mut at) = match spec.strip_prefix(PATH) {
            Some(_) => {
                let (folder, end) = quote::value(spec, PATH.len()).map_err(unquotable)?;
                (format!("{PATH}{folder}"), end)
            }
            None => {
                let end = spec.find('+').unwrap_or(spec.len());
                (spec[..end].to_owned(), end)
            }
        };
        let base = Base::parse(&base).map_err(|error| bad(0, error))?;
        let mut settings = Settings::default();
        let mut last = None;
        while at < spec.len() {
            // A value ends at a `+` or at the end.
            let start = at + 1;
            let length = spec[start..].find(['=', '+']).unwrap_or(spec[start..].len());
            let (name, end) = (&spec[start..start + length], start + length);
            let key = Key::find(name).map_err(|error| bad(start, unquoted_plus(error, last)))?;
            if !spec[end..].starts_with('=') {
                return Err(bad(end, BadSetting::new(format!("`{name}` has no value"), format!("`+{name}=…`"))));
            }
            let begin = end + 1;
            at = match named(spec, key, begin) {
                Some((name, from)) => {
                    let (value, end) = quote::value(spec, from).map_err(unquotable)?;
                    settings.add_named(key, name, &value).map_err(|error| bad(begin, error))?;
                    end
                }
                None => {
                    let (value, end) = quote::value(spec, begin).map_err(unquotable)?;
                    settings.add(key, &value).map_err(|error| bad(begin, error))?;
                    end
                }
            };
            last = Some(key);
        }
        Ok(Self::new(base, settings))
    }
}

/// The name of a `NAME=VALUE` at byte `begin`, and the byte where the value begins, which may be quoted by itself.
fn named(spec: &str, key: Key, begin: usize) -> Option<(&str, usize)> {
    let rest = &spec[begin..];
    let end = rest.find(['=', '+'])?;
    let is_named = key.shape() == Shape::Named && !rest.starts_with(['"', '\'']) && rest[end..].starts_with('=');
    is_named.then(|| (&rest[..end], begin + end + 1))
}

/// An unknown key may be the rest of a value that has a `+`.
fn unquoted_plus(error: BadSetting, last: Option<Key>) -> BadSetting {
    let Some(last) = last else { return BadSetting { help: error.help.or_else(|| Some(all_keys())), ..error } };
    let also = format!("a value that has a `+` must be quoted: `+{}=\"…\"`", last.as_str());
    BadSetting { help: Some(error.help.map(|help| format!("{help}; {also}")).unwrap_or(also)), ..error }
}

impl TryFrom<String> for ToolchainSpec {
    type Error = BadToolchainSpec;

    fn try_from(spec: String) -> Result<Self, BadToolchainSpec> {
        spec.parse()
    }
}

impl From<ToolchainSpec> for String {
    fn from(spec: ToolchainSpec) -> Self {
        spec.text
    }
}

impl fmt::Display for ToolchainSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
