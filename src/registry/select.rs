//! Selections: the crates that a user asks for, as data that prints back to what was parsed.
//!
//! A selection is one crate, a query that the registry resolves to many, or an exclusion. Reading one opens the list
//! and lock files that it names, and asks no registry: whether a crate exists is found out later. `docs/selections.md`
//! has every form.

use std::fmt;
use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};

use crate::krate::{CrateId, CrateName};
use crate::nearest::nearest;

mod error;
mod files;
mod meant;
#[cfg(test)]
mod tests;

pub use error::SelectError;
pub(super) use files::MAX_LIST;
pub use files::Reach;
pub use meant::meant_version;

/// One thing that a user selected, before the registry was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// `NAME`: its newest version that is neither yanked nor a pre-release (else the newest pre-release).
    Newest(CrateName),
    /// `NAME@REQ`, such as `semver@1`: the newest unyanked version that fits; a requirement as in cargo's manifests.
    Matching(CrateName, VersionReq),
    /// `NAME@1.2.3`, and the packages of a lockfile: this very version, yanked or not.
    Exact(CrateName, Version),
    /// `NAME@1.2.3 lockfile:FILE`, in a list: this very version, with the dependencies of an earlier run.
    Locked(CrateName, Version, PathBuf),
    /// `path:DIR`.
    Path {
        /// The folder, absolute.
        dir: PathBuf,
        /// How far up its workspace may be; none: anywhere above.
        top: Option<PathBuf>,
    },
    /// Crates that the registry, its dump or an earlier experiment has to name.
    Query(Query),
    /// `!NAME`: a crate that no other selection brings in.
    Not(Exclusion),
}

/// A question whose answer is a list of crates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// `NAME@*`: every unyanked version, the newest first.
    Versions(CrateName),
    /// `top:N`: the most downloaded crates of the last 90 days.
    Top(usize),
    /// `used:N`: the compatible versions that most crates depend on.
    Used(usize),
    /// `dependents:N`: the crates that most crates depend on, in any version.
    Dependents(usize),
    /// `random:N` and `random:N@SEED`.
    Random {
        /// How many.
        count: usize,
        /// The seed of the choice; `None`: each experiment draws one.
        seed: Option<u64>,
    },
    /// `rdeps:NAME[@REQ]` and `rdeps+:NAME[@REQ]`: the crates that depend on one.
    ReverseDependencies {
        /// The crate that they depend on.
        of: CrateName,
        /// Which of its versions; none: any.
        requirement: Option<VersionReq>,
        /// Through how many others.
        chain: Chain,
    },
    /// `category:SLUG`, its subcategories included.
    Category(String),
    /// `keyword:WORD`.
    Keyword(String),
    /// `where:REGEX`: the crates whose downloaded sources match.
    Where(String),
    /// `list:https://…`: a list on another host.
    List(String),
    /// `retry:EXPERIMENT`: the regressed and inconclusive crates of an experiment, with their lockfiles.
    Retry(String),
    /// `all`: every crate.
    All,
}

/// Through how many others a crate may depend on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// Its own manifest names it.
    Direct,
    /// Any number.
    Transitive,
}

/// A crate that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Which crate.
    pub name: CrateName,
    /// Which of its versions; none: all.
    pub requirement: Option<VersionReq>,
}

/// Every prefix, for error messages.
const PREFIXES: [&str; 13] = [
    "category",
    "dependents",
    "keyword",
    "list",
    "lock",
    "path",
    "random",
    "rdeps",
    "rdeps+",
    "retry",
    "top",
    "used",
    "where",
];

/// The most crates that a selection may ask for by number: several times as many as the default registry has.
const MAX_COUNT: usize = 10_000_000;
/// The longest keyword, category or regular expression, in bytes.
const MAX_WORD: usize = 1000;

impl Selection {
    /// The crate of the registry that is meant; none where it isn't one.
    pub fn krate(&self) -> Option<CrateId> {
        let (name, version) = match self {
            Self::Newest(name) | Self::Matching(name, _) => (name, None),
            Self::Exact(name, version) | Self::Locked(name, version, _) => (name, Some(version)),
            Self::Path { .. } | Self::Query(_) | Self::Not(_) => return None,
        };
        Some(CrateId { name: name.clone(), version: version.cloned() })
    }
}

impl Exclusion {
    /// Whether it leaves this crate out. Names are compared as registries do, without regard to case, `-` and `_`.
    pub fn matches(&self, krate: &CrateId) -> bool {
        let requirement = self.requirement.as_ref();
        canonical(&self.name) == canonical(&krate.name)
            && requirement.is_none_or(|req| krate.version.as_ref().is_some_and(|version| req.matches(version)))
    }
}

/// A name as registries compare names.
pub(super) fn canonical(name: &CrateName) -> String {
    name.as_str().to_ascii_lowercase().replace('_', "-")
}

impl fmt::Display for Selection {
    /// As a user would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(name) => write!(f, "{name}"),
            Self::Matching(name, requirement) => write!(f, "{name}@{requirement}"),
            Self::Exact(name, version) => write!(f, "{name}@{version}"),
            Self::Locked(name, version, lockfile) => write!(f, "{name}@{version} lockfile:{}", lockfile.display()),
            Self::Path { dir, .. } => write!(f, "path:{}", dir.display()),
            Self::Query(query) => query.fmt(f),
            Self::Not(exclusion) => write!(f, "!{exclusion}"),
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.requirement {
            Some(requirement) => write!(f, "{}@{requirement}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Versions(name) => write!(f, "{name}@*"),
            Self::Top(count) => write!(f, "top:{count}"),
            Self::Used(count) => write!(f, "used:{count}"),
            Self::Dependents(count) => write!(f, "dependents:{count}"),
            Self::Random { count, seed: None } => write!(f, "random:{count}"),
            Self::Random { count, seed: Some(seed) } => write!(f, "random:{count}@{seed}"),
            Self::ReverseDependencies { of, requirement, chain } => {
                let prefix = match chain {
                    Chain::Direct => "rdeps",
                    Chain::Transitive => "rdeps+",
                };
                write!(f, "{prefix}:{of}")?;
                requirement.as_ref().map_or(Ok(()), |requirement| write!(f, "@{requirement}"))
            }
            Self::Category(slug) => write!(f, "category:{slug}"),
            Self::Keyword(word) => write!(f, "keyword:{word}"),
            Self::Where(pattern) => write!(f, "where:{pattern}"),
            Self::List(url) => write!(f, "list:{url}"),
            Self::Retry(experiment) => write!(f, "retry:{experiment}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// Reads one selection. A list or a lockfile is read at once, and gives all of its entries.
///
/// Paths are taken from `base`; those in a list, from the list's own folder.
///
/// # Errors
/// When the text has none of these forms, or a file that it names can't be read.
pub fn parse(text: &str, base: &Path, reach: Reach<'_>) -> Result<Vec<Selection>, SelectError> {
    let text = text.trim();
    if let Some(excluded) = text.strip_prefix('!') {
        return Ok(vec![Selection::Not(exclusion(excluded.trim())?)]);
    }
    // A crate has no colon before its `@`, and a lockfile none but after it.
    let Some((prefix, rest)) = text.split_once(':').filter(|(prefix, _)| !prefix.contains('@')) else {
        return Ok(vec![krate(text, base, reach)?]);
    };
    let rest = rest.trim();
    let Some(known) = PREFIXES.into_iter().find(|&known| known == prefix) else {
        return Err(match crate_name(text) {
            Err(error) if is_version(prefix, rest) => error,
            Ok(_) | Err(_) => unknown(prefix),
        });
    };
    if rest.is_empty() {
        return Err(SelectError::Empty { prefix: known });
    }
    Ok(match known {
        "path" => vec![files::folder(base.join(rest), reach)?],
        "list" if is_url(rest) => {
            let url = reach.check_url(rest)?;
            vec![Selection::Query(Query::List(url))]
        }
        "list" => files::list(&reach.check(base.join(rest))?, reach)?,
        "lock" => files::lock(&reach.check(base.join(rest))?)?,
        _ => vec![Selection::Query(query(known, rest)?)],
    })
}

/// Reads the text of a list that came from another host, and that may name nothing on this one.
///
/// # Errors
/// When a line selects nothing; `url` names the list.
pub fn parse_fetched(text: &str, url: &str) -> Result<Vec<Selection>, SelectError> {
    files::lines(text, Path::new(url), Path::new("/"), Reach::Nowhere)
}

/// Whether `serde:1.0.200` rather than `tpo:100` is meant.
fn is_version(prefix: &str, rest: &str) -> bool {
    prefix.parse::<CrateName>().is_ok()
        && rest.parse::<VersionReq>().is_ok()
        && (rest.contains('.') || nearest(prefix, PREFIXES).is_none())
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

fn unknown(prefix: &str) -> SelectError {
    let near = nearest(prefix, PREFIXES).unwrap_or("list");
    SelectError::Prefix { prefix: shortened(prefix), nearest: near }
}

/// The part of a text that a message may quote.
fn shortened(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

/// `NAME`, `NAME@VERSION`, `NAME@REQ`, `NAME@*`, `all` and, in lists, `NAME@VERSION lockfile:FILE`.
fn krate(text: &str, base: &Path, reach: Reach<'_>) -> Result<Selection, SelectError> {
    if text == "all" {
        return Ok(Selection::Query(Query::All));
    }
    let Some((name, version)) = text.split_once('@') else { return Ok(Selection::Newest(crate_name(text)?)) };
    let name = crate_name(name)?;
    if let Some((version, lockfile)) = version.split_once(" lockfile:") {
        let bad = |source| SelectError::Version { text: shortened(version), source };
        let lockfile = reach.check(base.join(lockfile.trim()))?;
        return Ok(Selection::Locked(name, version.trim().parse().map_err(bad)?, lockfile));
    }
    // A whole version means that very one; anything less is a requirement.
    match version.parse::<Version>() {
        Ok(version) => Ok(Selection::Exact(name, version)),
        Err(_) => Ok(match requirement(version)? {
            requirement if requirement == VersionReq::STAR => Selection::Query(Query::Versions(name)),
            requirement => Selection::Matching(name, requirement),
        }),
    }
}

fn crate_name(text: &str) -> Result<CrateName, SelectError> {
    text.parse().map_err(|source| SelectError::Name { source, meant: meant::meant(text) })
}

fn requirement(text: &str) -> Result<VersionReq, SelectError> {
    text.parse().map_err(|source| SelectError::Version { text: shortened(text), source })
}

/// `NAME` or `NAME@REQ`. A whole version is that very one.
fn named(text: &str) -> Result<(CrateName, Option<VersionReq>), SelectError> {
    let Some((name, version)) = text.split_once('@') else { return Ok((crate_name(text)?, None)) };
    let exact = version.parse::<Version>().map(|version| format!("={version}"));
    let requirement = requirement(exact.as_deref().unwrap_or(version))?;
    Ok((crate_name(name)?, Some(requirement)))
}

fn exclusion(text: &str) -> Result<Exclusion, SelectError> {
    if let Some((prefix, _)) = text.split_once(':') {
        return Err(SelectError::Exclusion { text: shortened(prefix) });
    }
    let (name, requirement) = named(text)?;
    Ok(Exclusion { name, requirement })
}

fn query(prefix: &'static str, rest: &str) -> Result<Query, SelectError> {
    let reverse = |chain| {
        let (of, requirement) = named(rest)?;
        Ok(Query::ReverseDependencies { of, requirement, chain })
    };
    match prefix {
        "top" => Ok(Query::Top(count(prefix, rest)?)),
        "used" => Ok(Query::Used(count(prefix, rest)?)),
        "dependents" => Ok(Query::Dependents(count(prefix, rest)?)),
        "random" => {
            let (number, seed) = rest.split_once('@').map_or((rest, None), |(count, seed)| (count, Some(seed)));
            let bad = |_| SelectError::Seed { text: shortened(seed.unwrap_or_default()) };
            Ok(Query::Random { count: count(prefix, number)?, seed: seed.map(str::parse).transpose().map_err(bad)? })
        }
        "rdeps" => reverse(Chain::Direct),
        "rdeps+" => reverse(Chain::Transitive),
        "category" => Ok(Query::Category(word(prefix, rest)?)),
        "keyword" => Ok(Query::Keyword(word(prefix, rest)?)),
        "retry" => Ok(Query::Retry(word(prefix, rest)?)),
        "where" => {
            let too_long = (rest.len() > MAX_WORD).then(|| format!("it is longer than {MAX_WORD} bytes"));
            let wrong = too_long.or_else(|| regex::bytes::Regex::new(rest).err().map(|error| error.to_string()));
            match wrong {
                Some(reason) => Err(SelectError::Pattern { pattern: shortened(rest), reason }),
                None => Ok(Query::Where(rest.to_owned())),
            }
        }
        _ => Err(unknown(prefix)),
    }
}

fn count(prefix: &'static str, text: &str) -> Result<usize, SelectError> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_number && (1..=MAX_COUNT).contains(number));
    number.ok_or_else(|| SelectError::Count { prefix, text: shortened(text) })
}

/// The characters that keywords, category slugs and names of experiments consist of.
fn word(prefix: &'static str, text: &str) -> Result<String, SelectError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | ':' | '.');
    if text.len() <= MAX_WORD && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(SelectError::Word { prefix, text: shortened(text) })
}
