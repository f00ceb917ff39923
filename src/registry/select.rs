//! Which crates a user means: reads selections, and the files that hold more of them.
//!
//! Asks no registry: whether a crate exists is found out later.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};

use super::lockfile::{Locked, Lockfile, LockfileError};
use crate::krate::{BadCrateName, CrateId, CrateName};

/// The largest list that is read, in bytes: longer than one with every crate of the default registry.
const MAX_LIST: u64 = 16 << 20;
/// What may come before a colon.
const PREFIXES: [&str; 3] = ["path", "list", "lock"];

/// One crate that a user selected, before the registry was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// `NAME`: its newest version that is neither yanked nor a pre-release (else the newest pre-release).
    Newest(CrateName),
    /// `NAME@REQ`, such as `semver@1`: the newest unyanked version that fits; a requirement as in cargo's manifests.
    Matching(CrateName, VersionReq),
    /// `NAME@1.2.3`, and the packages of a lockfile: this very version, yanked or not.
    Exact(CrateName, Version),
    /// `path:DIR`.
    Path {
        /// The folder, absolute.
        dir: PathBuf,
        /// How far up its workspace may be; none: anywhere above.
        top: Option<PathBuf>,
    },
}

impl Selection {
    /// The crate of the registry that is meant; none for a folder.
    pub fn krate(&self) -> Option<CrateId> {
        let (name, version) = match self {
            Self::Newest(name) | Self::Matching(name, _) => (name, None),
            Self::Exact(name, version) => (name, Some(version)),
            Self::Path { .. } => return None,
        };
        Some(CrateId { name: name.clone(), version: version.cloned() })
    }
}

impl fmt::Display for Selection {
    /// As a user would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(name) => write!(f, "{name}"),
            Self::Matching(name, requirement) => write!(f, "{name}@{requirement}"),
            Self::Exact(name, version) => write!(f, "{name}@{version}"),
            Self::Path { dir, .. } => write!(f, "path:{}", dir.display()),
        }
    }
}

/// Which files and folders of the host selections may name.
#[derive(Debug, Clone, Copy)]
pub enum Reach<'a> {
    /// All of them.
    Anywhere,
    /// Those in this folder, once links are followed.
    Below(&'a Path),
}

/// Why a text selects nothing.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// It begins with a word and a colon, and the word is none of ours.
    #[error("`{prefix}:` is no kind of selection; did you mean `{nearest}:`? There are `path:`, `list:` and `lock:`")]
    Prefix {
        /// The word.
        prefix: String,
        /// The most similar one there is.
        nearest: &'static str,
    },
    /// The name of the crate is none.
    #[error("{source}{}", .meant.as_ref().map(|meant| format!("; {meant}")).unwrap_or_default())]
    Name {
        /// Why.
        source: BadCrateName,
        /// What the user may have meant, and how that is written.
        meant: Option<String>,
    },
    /// What follows the `@` is neither a version nor a requirement.
    #[error("`{text}` is neither a version such as `1.2.3` nor a requirement such as `1` or `^1.2`: {source}")]
    Version {
        /// What is there.
        text: String,
        /// What is wrong with it.
        source: semver::Error,
    },
    /// Nothing follows a colon.
    #[error("`{prefix}:` needs a path after it")]
    Empty {
        /// What is before the colon.
        prefix: &'static str,
    },
    /// A folder or list can't be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A list is too large to be one.
    #[error("{} is larger than 16 MiB, which no list of crates is", .path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A folder holds no crate.
    #[error("{} holds no Cargo.toml; `path:` needs the folder of a crate", .dir.display())]
    NoManifest {
        /// The folder.
        dir: PathBuf,
    },
    /// A lockfile can't be read.
    #[error(transparent)]
    Lockfile(#[from] LockfileError),
    /// A list names another, which would let lists go in circles.
    #[error("a list can't hold `list:`; select both lists instead")]
    Nested,
    /// A path leads elsewhere.
    #[error("{} is not in {}, the folder of an experiment file that nobody named", .path.display(), .folder.display())]
    Outside {
        /// Where it leads.
        path: PathBuf,
        /// The folder that it must be in.
        folder: PathBuf,
    },
    /// A line of a list selects nothing.
    #[error("{}, line {line}: {source}", .path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why.
        source: Box<SelectError>,
    },
}

impl SelectError {
    /// Whether a path leads out of the folder that selections may reach.
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Outside { .. } => true,
            Self::Line { source, .. } => source.is_outside(),
            Self::Prefix { .. }
            | Self::Name { .. }
            | Self::Version { .. }
            | Self::Empty { .. }
            | Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::NoManifest { .. }
            | Self::Lockfile(_)
            | Self::Nested => false,
        }
    }
}

impl Reach<'_> {
    /// The folder that all must be in, if there is one.
    fn top(self) -> Option<PathBuf> {
        match self {
            Self::Anywhere => None,
            // A folder that can't be found holds no workspace.
            Self::Below(folder) => Some(folder.canonicalize().unwrap_or_else(|_| folder.to_owned())),
        }
    }

    /// The path, unless it leads elsewhere. One that doesn't exist is left to whoever opens it.
    fn check(self, path: PathBuf) -> Result<PathBuf, SelectError> {
        let Self::Below(folder) = self else { return Ok(path) };
        match (path.canonicalize(), folder.canonicalize()) {
            (Ok(path), Ok(folder)) if !path.starts_with(&folder) => Err(SelectError::Outside { path, folder }),
            (Ok(path), Ok(_)) => Ok(path),
            (Err(_), _) | (_, Err(_)) => Ok(path),
        }
    }
}

/// Reads one selection, which may be of many crates: `NAME`, `NAME@VERSION`, `NAME@REQUIREMENT`, `path:DIR`,
/// `list:FILE` (one selection a line, `#` begins a comment) or `lock:FILE` (every registry package of a `Cargo.lock`).
///
/// Paths are taken from `base`; those in a list, from the list's own folder.
///
/// # Errors
/// When the text is none of these, or a file that it names can't be read.
pub fn parse(text: &str, base: &Path, reach: Reach<'_>) -> Result<Vec<Selection>, SelectError> {
    match split(text)? {
        Parts::Crate(name, None) => Ok(vec![Selection::Newest(named(name)?)]),
        Parts::Crate(name, Some(version)) => Ok(vec![versioned(named(name)?, version)?]),
        Parts::Path(dir) => {
            let dir = crate_dir(&reach.check(base.join(dir))?)?;
            Ok(vec![Selection::Path { dir, top: reach.top() }])
        }
        Parts::List(file) => list(&reach.check(base.join(file))?, reach),
        Parts::Lock(file) => lock(&reach.check(base.join(file))?),
    }
}

/// A selection taken apart.
enum Parts<'a> {
    Crate(&'a str, Option<&'a str>),
    Path(&'a str),
    List(&'a str),
    Lock(&'a str),
}

fn split(text: &str) -> Result<Parts<'_>, SelectError> {
    let text = text.trim();
    let Some((prefix, path)) = text.split_once(':') else {
        return Ok(match text.split_once('@') {
            Some((name, version)) => Parts::Crate(name, Some(version)),
            None => Parts::Crate(text, None),
        });
    };
    let path = path.trim();
    let known = PREFIXES.into_iter().find(|&known| known == prefix);
    match known {
        Some(prefix) if path.is_empty() => Err(SelectError::Empty { prefix }),
        Some("path") => Ok(Parts::Path(path)),
        Some("list") => Ok(Parts::List(path)),
        Some(_) => Ok(Parts::Lock(path)),
        // `serde:1.0.200`
        None if prefix.parse::<CrateName>().is_ok() && path.parse::<VersionReq>().is_ok() => {
            Ok(Parts::Crate(text, None))
        }
        None => {
            let distance = |known: &&str| strsim::damerau_levenshtein(known, prefix);
            let nearest = PREFIXES.into_iter().min_by_key(distance).unwrap_or("path");
            Err(SelectError::Prefix { prefix: prefix.escape_debug().take(80).collect(), nearest })
        }
    }
}

fn named(text: &str) -> Result<CrateName, SelectError> {
    text.parse().map_err(|source| SelectError::Name { source, meant: meant(text) })
}

/// How a selection is written that others write like this: a folder without its prefix, a version without its `@`,
/// several crates in one.
fn meant(text: &str) -> Option<String> {
    /// Longer texts are no selections of anybody's.
    const LONGEST: usize = 1024;
    if text.len() > LONGEST {
        return None;
    }
    let shown = text.escape_debug();
    if text.contains('/') || text.starts_with(['.', '~']) {
        return Some(format!("a folder is selected with `path:{shown}`"));
    }
    if text.contains(',') && text.split(',').all(|name| name.trim().parse::<CrateName>().is_ok()) {
        return Some("several crates are selected by repeating `--crates`".to_owned());
    }
    meant_version(text).map(|meant| format!("did you mean `{meant}`?"))
}

/// The `NAME@VERSION` that is meant by `serde-1.0.200` as in the name of a tarball, `serde 1.0.200` as cargo prints it,
/// or `serde = "1"` as in a manifest.
pub fn meant_version(text: &str) -> Option<String> {
    let mut ends = text.match_indices(['-', ' ', '=', ':']).filter_map(|(at, _)| {
        let name = text[..at].trim_end().parse::<CrateName>().ok()?;
        let version = text[at + 1..].trim_matches(|c: char| c.is_whitespace() || matches!(c, '=' | '"' | '\'' | 'v'));
        let is_version = version.starts_with(|c: char| c.is_ascii_digit() || "^~>*".contains(c));
        (is_version && version.parse::<VersionReq>().is_ok()).then(|| format!("{name}@{version}"))
    });
    ends.next_back()
}

/// A whole version means that very one; anything less is a requirement.
fn versioned(name: CrateName, text: &str) -> Result<Selection, SelectError> {
    if let Ok(version) = text.parse::<Version>() {
        return Ok(Selection::Exact(name, version));
    }
    match text.parse::<VersionReq>() {
        Ok(requirement) => Ok(Selection::Matching(name, requirement)),
        Err(source) => Err(SelectError::Version { text: text.escape_debug().take(80).collect(), source }),
    }
}

fn crate_dir(dir: &Path) -> Result<PathBuf, SelectError> {
    let dir = dir.canonicalize().map_err(|source| SelectError::Read { path: dir.to_owned(), source })?;
    if dir.join("Cargo.toml").is_file() { Ok(dir) } else { Err(SelectError::NoManifest { dir }) }
}

fn list(path: &Path, reach: Reach<'_>) -> Result<Vec<Selection>, SelectError> {
    let read = |source| SelectError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(read)?.take(MAX_LIST + 1).read_to_string(&mut text).map_err(read)?;
    if text.len() as u64 > MAX_LIST {
        return Err(SelectError::TooLarge { path: path.to_owned() });
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let mut selections = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = without_comment(line);
        if line.is_empty() {
            continue;
        }
        let parsed = match split(line) {
            Ok(Parts::List(_)) => Err(SelectError::Nested),
            Ok(_) => parse(line, base, reach),
            Err(error) => Err(error),
        };
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

fn lock(path: &Path) -> Result<Vec<Selection>, SelectError> {
    let packages = Lockfile::read(path)?.packages.into_iter();
    let selections = packages.filter_map(|package| match package {
        Locked::Registry { name, version, .. } => Some(Selection::Exact(name, version)),
        Locked::Foreign { .. } | Locked::Local { .. } => None,
    });
    Ok(selections.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CrateName {
        text.parse().unwrap()
    }

    fn one(text: &str) -> Selection {
        let [selection] = parse(text, Path::new("/"), Reach::Anywhere).unwrap().try_into().unwrap();
        selection
    }

    fn error(text: &str, base: &Path) -> String {
        parse(text, base, Reach::Anywhere).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_version_is_exact_and_a_partial_one_is_a_requirement() {
        let matching = |text: &str| Selection::Matching(name("semver"), text.parse().unwrap());
        let exact = |text: &str| Selection::Exact(name("semver"), text.parse().unwrap());
        assert_eq!(one("semver"), Selection::Newest(name("semver")));
        assert_eq!(one(" semver@1.0.2 "), exact("1.0.2"));
        assert_eq!(one("semver@1.0.2-rc.1+b"), exact("1.0.2-rc.1+b"));
        assert_eq!(one("semver@1"), matching("^1"));
        assert_eq!(one("semver@1.2"), matching("^1.2"));
        assert_eq!(one("semver@=1.2.3"), matching("=1.2.3"));
        assert_eq!(one("semver@>=1, <1.5"), matching(">=1, <1.5"));
        assert_eq!(one("semver@*"), matching("*"));
    }

    #[test]
    fn what_selects_nothing_says_why() {
        let cases = [
            ("lists:a", "`lists:` is no kind of selection; did you mean `list:`?"),
            ("paht:a", "`paht:` is no kind of selection; did you mean `path:`?"),
            ("", "`` is not a crate name: it is empty"),
            ("@1", "`` is not a crate name: it is empty"),
            ("a/b", "`a/b` is not a crate name"),
            ("!", "`!` is not a crate name: it must begin with a letter"),
            ("a@latest", "`latest` is neither a version such as `1.2.3` nor a requirement"),
            ("a@", "`` is neither a version such as `1.2.3` nor a requirement"),
            ("path:", "`path:` needs a path after it"),
            ("path:gone", "failed to read /nowhere/gone: No such file or directory"),
            ("list:gone", "failed to read /nowhere/gone: No such file or directory"),
            ("lock:gone", "failed to read /nowhere/gone: No such file or directory"),
        ];
        for (text, expected) in cases {
            let error = error(text, Path::new("/nowhere"));
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_written_otherwise_elsewhere_is_pointed_at_the_way_it_is_written_here() {
        for (text, meant) in [
            ("./mine", "a folder is selected with `path:./mine`"),
            ("../mine", "a folder is selected with `path:../mine`"),
            ("/home/me/mine", "a folder is selected with `path:/home/me/mine`"),
            ("mine/", "a folder is selected with `path:mine/`"),
            (".", "a folder is selected with `path:.`"),
            ("~/mine", "a folder is selected with `path:~/mine`"),
            ("serde-1.0.200", "did you mean `serde@1.0.200`?"),
            ("x86-64-1.0.0-rc.1", "did you mean `x86-64@1.0.0-rc.1`?"),
            ("serde 1.0.200", "did you mean `serde@1.0.200`?"),
            ("serde v1.0.200", "did you mean `serde@1.0.200`?"),
            ("serde = \"1.0\"", "did you mean `serde@1.0`?"),
            ("serde==1.0.200", "did you mean `serde@1.0.200`?"),
            ("serde:1.0.200", "did you mean `serde@1.0.200`?"),
            ("serde,syn", "several crates are selected by repeating `--crates`"),
        ] {
            let error = error(text, Path::new("/nowhere"));
            assert!(error.starts_with(&format!("`{}` is not a crate name: ", text.escape_debug())), "{error}");
            assert!(error.ends_with(&format!("; {meant}")), "{error}");
        }
    }

    #[test]
    fn a_list_holds_a_selection_a_line_and_comments() {
        let dir = tempfile::tempdir().unwrap();
        let krate = dir.path().canonicalize().unwrap().join("a #1");
        std::fs::create_dir(&krate).unwrap();
        std::fs::write(krate.join("Cargo.toml"), "").unwrap();
        let list = "# top\r\nserde # the one\n\n  semver@1\npath:a #1\n";
        std::fs::write(dir.path().join("top.txt"), list).unwrap();
        std::fs::rename(&krate, krate.with_file_name("a#1")).unwrap();
        let list = list.replace("a #1", "a#1 # a `#` within a word");
        std::fs::write(dir.path().join("top.txt"), list).unwrap();
        assert_eq!(
            parse("list:top.txt", dir.path(), Reach::Anywhere).unwrap(),
            [
                Selection::Newest(name("serde")),
                Selection::Matching(name("semver"), "1".parse().unwrap()),
                Selection::Path { dir: krate.with_file_name("a#1"), top: None },
            ]
        );
    }

    #[test]
    fn a_bad_line_of_a_list_is_named_with_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("top.txt");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            error("list:top.txt", dir.path()).replace(&*path.to_string_lossy(), "top.txt")
        };
        assert!(refusal("serde\n\n!\n").starts_with("top.txt, line 3: `!` is not a crate name"));
        assert!(refusal("lock:gone").starts_with("top.txt, line 1: failed to read"));
        assert!(refusal("a\nlist:top.txt").starts_with("top.txt, line 2: a list can't hold `list:`"));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(error("list:top.txt", dir.path()).starts_with("failed to read"));
    }

    #[test]
    fn a_folder_without_a_manifest_is_no_crate() {
        let dir = tempfile::tempdir().unwrap();
        assert!(error("path:.", dir.path()).ends_with("holds no Cargo.toml; `path:` needs the folder of a crate"));
    }

    #[test]
    fn a_lockfile_selects_its_registry_packages_at_their_very_versions() {
        let dir = tempfile::tempdir().unwrap();
        let source = crates_index::git::URL;
        let lock = format!(
            "[[package]]\nname = 'me'\nversion = '0.1.0'\n\
             [[package]]\nname = 'a'\nversion = '1.0.0'\nsource = 'registry+{source}'\n\
             [[package]]\nname = 'b'\nversion = '1.0.0'\nsource = 'git+https://example.org/b'\n"
        );
        std::fs::write(dir.path().join("Cargo.lock"), lock).unwrap();
        let selections = parse("lock:Cargo.lock", dir.path(), Reach::Anywhere).unwrap();
        assert_eq!(selections, [Selection::Exact(name("a"), Version::new(1, 0, 0))]);
    }
}
