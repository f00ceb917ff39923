//! Why a text selects nothing, in words that name the place and the nearest valid word.

use std::io;
use std::path::PathBuf;

use super::PREFIXES;
use crate::krate::BadCrateName;
use crate::nearest::listed;
use crate::registry::lockfile::LockfileError;

/// Why a text selects nothing.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// It begins with a word and a colon, and the word is unknown.
    #[error("unknown selection prefix `{prefix}:`; did you mean `{nearest}:`? (known: {})", listed(PREFIXES))]
    Prefix {
        /// The word.
        prefix: String,
        /// The most similar known one.
        nearest: &'static str,
    },
    /// The name of the crate is invalid.
    #[error("{source}{}", .meant.as_ref().map(|meant| format!("; {meant}")).unwrap_or_default())]
    Name {
        /// Why.
        source: BadCrateName,
        /// The likely meaning, and its spelling.
        meant: Option<String>,
    },
    /// What follows the `@` is neither a version nor a requirement.
    #[error("`{text}` is neither a version such as `1.2.3` nor a requirement such as `1` or `^1.2`: {source}")]
    Version {
        /// The text in its place.
        text: String,
        /// Its fault.
        source: semver::Error,
    },
    /// Nothing follows a colon.
    #[error("`{prefix}:` needs {} after it", needed(prefix))]
    Empty {
        /// The word before the colon.
        prefix: &'static str,
    },
    /// The number of crates is not a number.
    #[error("`{prefix}:{text}`: expected a number of crates from 1 to 10000000, such as `{prefix}:100`")]
    Count {
        /// The word before the colon.
        prefix: &'static str,
        /// What follows it.
        text: String,
    },
    /// The seed is not a number.
    #[error("invalid seed `{text}`: expected a whole number, such as `random:100@7`")]
    Seed {
        /// The text in its place.
        text: String,
    },
    /// A keyword, category or experiment has characters that none of them has.
    #[error("`{prefix}:{text}`: ASCII letters, digits, `-`, `_`, `+`, `:` and `.` are allowed")]
    Word {
        /// The word before the colon.
        prefix: &'static str,
        /// What follows it.
        text: String,
    },
    /// The regular expression is invalid.
    #[error("`where:{pattern}`: {reason}")]
    Pattern {
        /// The expression.
        pattern: String,
        /// Its fault.
        reason: String,
    },
    /// An exclusion is of something else than a crate.
    #[error("`!{text}:…` excludes nothing: `!` takes the name of a crate, such as `!{text}` or `!{text}@1`")]
    Exclusion {
        /// The word before the colon.
        text: String,
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
    /// A list of another host names a file of this one, or an experiment file that the command line doesn't name refers
    /// to another host.
    #[error("`{what}` leads to another host or back to this one: put the crates into a list of your own")]
    Elsewhere {
        /// The name in it.
        what: String,
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

/// The operand of a prefix.
fn needed(prefix: &str) -> &'static str {
    match prefix {
        "path" | "lock" => "a path",
        "list" => "a path or a URL",
        "top" | "used" | "dependents" | "random" => "a number of crates",
        "rdeps" | "rdeps+" => "the name of a crate",
        "where" => "a regular expression",
        "retry" => "the name of an experiment",
        _ => "a word",
    }
}

impl SelectError {
    /// Whether a path leads out of what selections may reach.
    pub fn is_outside(&self) -> bool {
        match self {
            Self::Outside { .. } | Self::Elsewhere { .. } => true,
            Self::Line { source, .. } => source.is_outside(),
            Self::Prefix { .. }
            | Self::Name { .. }
            | Self::Version { .. }
            | Self::Empty { .. }
            | Self::Count { .. }
            | Self::Seed { .. }
            | Self::Word { .. }
            | Self::Pattern { .. }
            | Self::Exclusion { .. }
            | Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::NoManifest { .. }
            | Self::Lockfile(_)
            | Self::Nested => false,
        }
    }
}
