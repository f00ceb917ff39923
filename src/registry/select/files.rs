//! The files and folders that selections name: lists, lockfiles and crates.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::{SelectError, Selection, parse};
use crate::registry::lockfile::{Locked, Lockfile};
use crate::registry::plain;

/// The largest list that is read, in bytes: longer than one with every crate of the default registry.
pub(in crate::registry) const MAX_LIST: u64 = 16 << 20;

/// Which files and folders of the host selections may name.
#[derive(Debug, Clone, Copy)]
pub enum Reach<'a> {
    /// All of them.
    Anywhere,
    /// Those in this folder, once links are followed.
    Below(&'a Path),
    /// None: the selections came from another host.
    Nowhere,
}

impl Reach<'_> {
    /// The path, unless it leads elsewhere. A path that doesn't exist fails when it is opened.
    pub(super) fn check(self, path: PathBuf) -> Result<PathBuf, SelectError> {
        let folder = match self {
            Self::Anywhere => return Ok(path),
            Self::Below(folder) => folder,
            Self::Nowhere => return Err(SelectError::Elsewhere { what: super::shortened(&path.to_string_lossy()) }),
        };
        match (path.canonicalize(), folder.canonicalize()) {
            (Ok(path), Ok(folder)) if !path.starts_with(&folder) => Err(SelectError::Outside { path, folder }),
            (Ok(path), Ok(_)) => Ok(path),
            (Err(_), _) | (_, Err(_)) => Ok(path),
        }
    }

    /// The URL, if the user stands behind it.
    pub(super) fn check_url(self, url: &str) -> Result<String, SelectError> {
        match self {
            Self::Anywhere => Ok(url.to_owned()),
            Self::Below(_) | Self::Nowhere => Err(SelectError::Elsewhere { what: super::shortened(url) }),
        }
    }
}

/// The selection of a folder, with its workspace as far up as the selection may reach.
pub(super) fn folder(dir: PathBuf, reach: Reach<'_>) -> Result<Selection, SelectError> {
    let dir = crate_dir(&reach.check(dir)?)?;
    let top = match reach {
        Reach::Anywhere => None,
        // A folder that can't be found holds no workspace.
        Reach::Below(folder) => Some(folder.canonicalize().unwrap_or_else(|_| folder.to_owned())),
        Reach::Nowhere => Some(dir.clone()),
    };
    Ok(Selection::Path { dir, top })
}

fn crate_dir(dir: &Path) -> Result<PathBuf, SelectError> {
    let dir = dir.canonicalize().map_err(|source| SelectError::Read { path: dir.to_owned(), source })?;
    if dir.join("Cargo.toml").is_file() { Ok(dir) } else { Err(SelectError::NoManifest { dir }) }
}

pub(super) fn list(path: &Path, reach: Reach<'_>) -> Result<Vec<Selection>, SelectError> {
    let read = |source| SelectError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    plain::open(path).map_err(read)?.take(MAX_LIST + 1).read_to_string(&mut text).map_err(read)?;
    if text.len() as u64 > MAX_LIST {
        return Err(SelectError::TooLarge { path: path.to_owned() });
    }
    lines(&text, path, path.parent().unwrap_or(Path::new("")), reach)
}

/// The selections of a list, one a line. `path` is the list's name for messages.
pub(super) fn lines(text: &str, path: &Path, base: &Path, reach: Reach<'_>) -> Result<Vec<Selection>, SelectError> {
    let mut selections = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = without_comment(line);
        if line.is_empty() {
            continue;
        }
        let parsed = if line.starts_with("list:") { Err(SelectError::Nested) } else { parse(line, base, reach) };
        selections.extend(parsed.map_err(|source| SelectError::Line {
            path: path.to_owned(),
            line: number + 1,
            source: Box::new(source),
        })?);
    }
    Ok(selections)
}

/// A line up to its comment. A `#` within a word is part of it: paths may have one.
fn without_comment(line: &str) -> &str {
    let begins_comment = |&(at, _): &(usize, &str)| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    let end = line.match_indices('#').find(begins_comment).map_or(line.len(), |(at, _)| at);
    line[..end].trim()
}

pub(super) fn lock(path: &Path) -> Result<Vec<Selection>, SelectError> {
    let packages = Lockfile::read(path)?.packages.into_iter();
    let selections = packages.filter_map(|package| match package {
        Locked::Registry { name, version, .. } => Some(Selection::Exact(name, version)),
        Locked::Foreign { .. } | Locked::Local { .. } => None,
    });
    Ok(selections.collect())
}
