//! Answers to queries, from the catalogue of all crates. Pure: order and content depend on the catalogue alone.
//!
//! Every answer is a list of releases, the most important first, so that each beginning of it is the best short run.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use semver::VersionReq;
use sha2::{Digest, Sha256};

use super::catalogue::{Catalogue, Tagged};
use super::select::{Chain, Query};
use crate::krate::CrateName;
use crate::nearest::nearest;

/// Why a catalogue has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The registry has no crate of that name.
    #[error("the dump has no crate named `{name}`{}", hint(.near.as_deref()))]
    Crate { name: CrateName, near: Option<String> },
    /// No crate has the keyword or category.
    #[error("no crate has the {kind} `{tag}`{}", hint(.near.as_deref()))]
    Tag { kind: &'static str, tag: String, near: Option<String> },
    /// The selection does not ask the catalogue.
    #[error("the dump can't tell")]
    NotAsked,
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Answers a query with places of releases. `seed` is for queries that choose at random.
pub(super) fn answer(catalogue: &Catalogue, query: &Query, seed: u64) -> Result<Vec<u32>, NoAnswer> {
    match query {
        Query::Top(count) => Ok(first(newest_of(catalogue, by_downloads(catalogue, all(catalogue))), *count)),
        Query::All => Ok(newest_of(catalogue, by_downloads(catalogue, all(catalogue)))),
        Query::Dependents(count) => Ok(first(newest_of(catalogue, by_dependents(catalogue)), *count)),
        Query::Used(count) => Ok(first(most_used(catalogue), *count)),
        Query::Random { count, seed: given } => {
            Ok(first(newest_of(catalogue, shuffled(catalogue, given.unwrap_or(seed))), *count))
        }
        Query::ReverseDependencies { of, requirement, chain } => {
            let place = catalogue.find(of).ok_or_else(|| no_such_crate(catalogue, of))?;
            let places = match chain {
                Chain::Direct => by_downloads(catalogue, dependents(catalogue, place, requirement.as_ref())),
                Chain::Transitive => transitive(catalogue, place, requirement.as_ref()),
            };
            Ok(newest_of(catalogue, places))
        }
        Query::Category(slug) => {
            let below = format!("{slug}::").to_ascii_lowercase();
            tagged(catalogue, "category", catalogue.categories(), slug, |tag| tag.starts_with(&below))
        }
        Query::Keyword(word) => tagged(catalogue, "keyword", catalogue.keywords(), word, |_| false),
        Query::Versions(_) | Query::Where(_) | Query::List(_) | Query::Retry(_) => Err(NoAnswer::NotAsked),
    }
}

fn all(catalogue: &Catalogue) -> Vec<u32> {
    (0..).zip(catalogue.crates()).map(|(place, _)| place).collect()
}

fn first(mut releases: Vec<u32>, count: usize) -> Vec<u32> {
    releases.truncate(count);
    releases
}

/// The newest versions of these crates, those that have one.
fn newest_of(catalogue: &Catalogue, crates: Vec<u32>) -> Vec<u32> {
    crates.into_iter().filter_map(|place| catalogue.krate(place).newest).collect()
}

/// The most downloaded first; by name where that is equal. Places are in the order of names.
fn by_downloads(catalogue: &Catalogue, mut crates: Vec<u32>) -> Vec<u32> {
    crates.sort_unstable_by_key(|&place| (Reverse(catalogue.krate(place).downloads), place));
    crates
}

/// The crates that most others depend on, in any version.
fn by_dependents(catalogue: &Catalogue) -> Vec<u32> {
    let mut counts = vec![0_u32; catalogue.len()];
    let mut pairs: Vec<(u32, u32)> =
        catalogue.edges().iter().map(|edge| (catalogue.release(edge.on).krate, edge.dependent)).collect();
    pairs.dedup();
    for (on, _) in pairs {
        counts[on as usize] += 1;
    }
    let mut crates = all(catalogue);
    crates.retain(|&place| counts[place as usize] > 0);
    crates.sort_unstable_by_key(|&place| (Reverse(counts[place as usize]), place));
    crates
}

/// The compatible versions that most crates depend on, each by its newest release. Old major versions count by
/// themselves.
fn most_used(catalogue: &Catalogue) -> Vec<u32> {
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for edge in catalogue.edges() {
        *counts.entry(catalogue.release(edge.on).line).or_default() += 1;
    }
    let mut lines: Vec<(u32, u32)> = counts.into_iter().collect();
    // Releases are in the order of names, the newest of a name first.
    lines.sort_unstable_by_key(|&(line, count)| (Reverse(count), line));
    lines.into_iter().map(|(line, _)| line).collect()
}

/// All crates in an order that a seed decides: by the hash of seed and name, so that a new crate moves no other.
fn shuffled(catalogue: &Catalogue, seed: u64) -> Vec<u32> {
    let mut crates = all(catalogue);
    crates.retain(|&place| catalogue.krate(place).newest.is_some());
    crates.sort_by_cached_key(|&place| {
        let hash = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(catalogue.krate(place).name.as_str());
        <[u8; 32]>::from(hash.finalize())
    });
    crates
}

/// The crates whose newest version depends on a crate, in a version that the requirement allows.
fn dependents(catalogue: &Catalogue, of: u32, requirement: Option<&VersionReq>) -> Vec<u32> {
    let fits = |on: u32| requirement.is_none_or(|requirement| requirement.matches(&catalogue.release(on).version));
    let edges = catalogue.dependents(of).iter();
    let mut dependents: Vec<u32> = edges.filter(|edge| fits(edge.on)).map(|edge| edge.dependent).collect();
    dependents.dedup();
    dependents
}

/// The crates that depend on a crate through any number of others; the nearest first, then the most downloaded. A crate
/// in between counts only where the version that is depended on is compatible with its newest one: of that one only are
/// the dependencies known.
fn transitive(catalogue: &Catalogue, of: u32, requirement: Option<&VersionReq>) -> Vec<u32> {
    let mut distance: HashMap<u32, u32> = HashMap::from([(of, 0)]);
    let mut queue: VecDeque<u32> = VecDeque::new();
    for dependent in dependents(catalogue, of, requirement) {
        if let Entry::Vacant(vacant) = distance.entry(dependent) {
            vacant.insert(1);
            queue.push_back(dependent);
        }
    }
    while let Some(place) = queue.pop_front() {
        let next = distance[&place] + 1;
        let line = |release: u32| catalogue.release(release).line;
        let current = catalogue.krate(place).newest.map(line);
        for edge in catalogue.dependents(place) {
            if Some(line(edge.on)) == current
                && let Entry::Vacant(vacant) = distance.entry(edge.dependent)
            {
                vacant.insert(next);
                queue.push_back(edge.dependent);
            }
        }
    }
    distance.remove(&of);
    let mut crates: Vec<u32> = distance.keys().copied().collect();
    crates.sort_unstable_by_key(|place| (distance[place], Reverse(catalogue.krate(*place).downloads), *place));
    crates
}

/// The crates of a keyword or category, and of the ones that count as part of it; the most downloaded first.
fn tagged(
    catalogue: &Catalogue,
    kind: &'static str,
    tags: &[Tagged],
    wanted: &str,
    is_part: impl Fn(&str) -> bool,
) -> Result<Vec<u32>, NoAnswer> {
    let lower = wanted.to_ascii_lowercase();
    let found = tags.iter().filter(|tagged| tagged.tag == lower || is_part(&tagged.tag));
    let mut crates: Vec<u32> = found.flat_map(|tagged| tagged.crates.iter().copied()).collect();
    if crates.is_empty() {
        let in_use = tags.iter().filter(|tagged| !tagged.crates.is_empty()).map(|tagged| tagged.tag.as_str());
        let near = nearest(&lower, in_use).map(str::to_owned);
        return Err(NoAnswer::Tag { kind, tag: wanted.to_owned(), near });
    }
    crates.sort_unstable();
    crates.dedup();
    Ok(newest_of(catalogue, by_downloads(catalogue, crates)))
}

fn no_such_crate(catalogue: &Catalogue, name: &CrateName) -> NoAnswer {
    let near = nearest(name.as_str(), catalogue.crates().iter().map(|listed| listed.name.as_str()));
    NoAnswer::Crate { name: name.clone(), near: near.map(str::to_owned) }
}
