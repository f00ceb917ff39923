//! The facts of the registry's database dump about all crates, in a compact form: popularity, dependents, keywords.
//!
//! A crate stands here with its newest version: the newest release that is not yanked, else the newest pre-release that
//! is not. Of other versions only those are kept that the newest version of some crate depends on. Dependencies are
//! those to compile and to run with, optional ones and those of other platforms included; dev-dependencies don't count.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::package::Checksum;
use super::select::canonical;
use crate::krate::{CrateId, CrateName, Origin, Selected};

mod dump;
mod kept;
mod table;
#[cfg(test)]
mod tests;

pub use dump::{DumpError, read};
pub(super) use kept::{Dumps, EndsWith};

/// The facts about all crates, as of one moment.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// When the dump was taken, in seconds since 1970.
    taken: u64,
    /// By name, in the order of [`canonical`].
    crates: Vec<Listed>,
    releases: Vec<Release>,
    /// By the crate depended on, then by the dependent. A pair of crates is there once for each version that is not
    /// compatible with the others.
    edges: Vec<Edge>,
    categories: Vec<Tagged>,
    keywords: Vec<Tagged>,
}

/// A crate.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) name: CrateName,
    /// Those of the last 90 days before the dump, of all versions together.
    pub(super) downloads: u64,
    /// Its place in the releases; none if every version is yanked.
    pub(super) newest: Option<u32>,
}

/// A version of a crate.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Release {
    pub(super) krate: u32,
    pub(super) version: Version,
    checksum: [u8; 32],
    /// The newest release that is compatible with this one, itself included.
    pub(super) line: u32,
}

/// The newest version of one crate depends on another crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) dependent: u32,
    /// The newest unyanked release that its requirement allows.
    pub(super) on: u32,
}

/// A keyword or category, with the crates that have it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tagged {
    pub(super) tag: String,
    pub(super) crates: Vec<u32>,
}

/// A catalogue with a place that doesn't exist.
#[derive(Debug, thiserror::Error)]
#[error("the catalogue refers to a crate or version that it doesn't have")]
struct Dangling;

impl Catalogue {
    /// When the dump was taken.
    pub fn taken(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.taken)).unwrap_or(UNIX_EPOCH)
    }

    /// How many crates there are, those of which every version is yanked included.
    pub fn len(&self) -> usize {
        self.crates.len()
    }

    /// Whether the catalogue is empty.
    pub fn is_empty(&self) -> bool {
        self.crates.is_empty()
    }

    /// The day of the dump and its age, such as `2026-06-01, 3 days old`.
    pub fn date(&self, now: SystemTime) -> String {
        let days = now.duration_since(self.taken()).unwrap_or_default().as_secs() / (24 * 3600);
        format!("{}, {days} {} old", day(self.taken), if days == 1 { "day" } else { "days" })
    }

    /// The names of all crates.
    pub fn names(&self) -> Vec<CrateName> {
        self.crates.iter().map(|listed| listed.name.clone()).collect()
    }

    pub(super) fn crates(&self) -> &[Listed] {
        &self.crates
    }

    pub(super) fn krate(&self, place: u32) -> &Listed {
        &self.crates[place as usize]
    }

    pub(super) fn release(&self, place: u32) -> &Release {
        &self.releases[place as usize]
    }

    pub(super) fn edges(&self) -> &[Edge] {
        &self.edges
    }

    pub(super) fn categories(&self) -> &[Tagged] {
        &self.categories
    }

    pub(super) fn keywords(&self) -> &[Tagged] {
        &self.keywords
    }

    /// The place of a crate, however its name is spelled.
    pub(super) fn find(&self, name: &CrateName) -> Option<u32> {
        let wanted = canonical(name);
        let place = self.crates.binary_search_by(|listed| canonical(&listed.name).cmp(&wanted)).ok()?;
        u32::try_from(place).ok()
    }

    /// The dependencies on this crate, those of one dependent beside each other.
    pub(super) fn dependents(&self, of: u32) -> &[Edge] {
        let on = |edge: &Edge| self.release(edge.on).krate;
        let begin = self.edges.partition_point(|edge| on(edge) < of);
        let end = self.edges.partition_point(|edge| on(edge) <= of);
        &self.edges[begin..end]
    }

    /// A release as an experiment runs it.
    pub(super) fn selected(&self, release: u32) -> Selected {
        let Release { krate, version, checksum, .. } = self.release(release);
        let id = CrateId { name: self.krate(*krate).name.clone(), version: Some(version.clone()) };
        Selected { id, origin: Origin::Registry { checksum: Checksum::from_bytes(*checksum).to_string() } }
    }

    /// Makes sure that every place exists: a file on the disk may be damaged.
    fn checked(self) -> Result<Self, Dangling> {
        let (crates, releases) = (self.crates.len(), self.releases.len());
        let krate = |place: u32| (place as usize) < crates;
        let release = |place: u32| (place as usize) < releases;
        let whole = self.crates.iter().all(|listed| listed.newest.is_none_or(release))
            && self.releases.iter().all(|it| krate(it.krate) && release(it.line))
            && self.edges.iter().all(|edge| krate(edge.dependent) && release(edge.on))
            && self
                .categories
                .iter()
                .chain(&self.keywords)
                .flat_map(|tagged| &tagged.crates)
                .all(|&place| krate(place));
        if whole { Ok(self) } else { Err(Dangling) }
    }
}

/// The day of a time in seconds since 1970, such as `2026-06-01`; empty for years that the format can't write.
fn day(seconds: u64) -> String {
    let mut text = String::new();
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
    // humantime's formatter panics in `to_string` when it can't write a time.
    let _ = write!(text, "{}", humantime::format_rfc3339_seconds(time));
    text.chars().take(10).collect()
}
