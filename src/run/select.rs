//! From selections to crates: the choices of earlier runs stay, the rest is looked up.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::task::JoinSet;

use super::error::SessionError;
use super::stored;
use crate::compare;
use crate::krate::{CrateId, Origin, Selected};
use crate::plan::Fingerprint;
use crate::printable::crates;
use crate::registry::select::{Exclusion, Query, Selection};
use crate::registry::{Access, Catalogue, Registry, RegistryError, Watch};
use crate::store::{AnsweredQuery, Store};

/// The largest number of concurrent index requests; more only wait for the client's permits.
const LOOKUPS: usize = 256;

/// What answers selections.
pub(super) struct Sources<'a> {
    pub(super) registry: &'a Registry,
    /// The experiments of this home, for `retry:`.
    pub(super) store: &'a Store,
    /// The registry's database dump, if the user has one.
    pub(super) dump: Option<&'a Path>,
    pub(super) watch: &'a Watch,
}

/// The choices of the experiment's earlier runs.
#[derive(Default)]
pub(super) struct Choices {
    pub(super) pins: Vec<(String, Selected)>,
    pub(super) queries: Vec<AnsweredQuery>,
}

/// The resolved selections.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// The crates in order, each with the selection that brought it in.
    pub(super) crates: Vec<(String, Selected)>,
    /// The queries among the selections.
    pub(super) queries: Vec<AnsweredQuery>,
    /// Lockfiles that crates bring along.
    pub(super) lockfiles: HashMap<CrateId, LockfileOf>,
}

/// Where a lockfile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LockfileOf {
    /// A local file.
    File(PathBuf),
    /// A step of another experiment.
    Step(String, Fingerprint),
}

impl Chosen {
    /// How the queries were answered, in words.
    pub(super) fn notes(&self) -> impl Iterator<Item = &str> {
        self.queries.iter().filter_map(|answered| answered.note.as_deref())
    }
}

/// Finds the crates that the selections mean, each with the selection as the user wrote it.
///
/// A crate that the registry can't answer for, while it answers otherwise, doesn't keep the rest from running.
pub(super) async fn select(
    sources: &Sources<'_>,
    selections: &[Selection],
    earlier: &Choices,
) -> Result<Chosen, SessionError> {
    let mut chosen = Chosen::default();
    let mut singles = look_up_all(sources, selections, &earlier.pins).await?;
    let catalogue = OnceCell::new();
    let mut all = Vec::new();
    let mut exclusions: Vec<&Exclusion> = Vec::new();
    for (place, selection) in selections.iter().enumerate() {
        match selection {
            Selection::Not(exclusion) => exclusions.push(exclusion),
            Selection::Query(query) => {
                let text = query.to_string();
                let known = earlier.queries.iter().chain(&chosen.queries).find(|answered| answered.query == text);
                let answered = match known {
                    Some(answered) => answered.clone(),
                    None => answer(sources, query, &catalogue, &mut chosen.lockfiles).await?,
                };
                all.extend(answered.crates.iter().map(|selected| (text.clone(), selected.clone())));
                chosen.queries.push(answered);
            }
            Selection::Newest(_)
            | Selection::Matching(..)
            | Selection::Exact(..)
            | Selection::Locked(..)
            | Selection::Path { .. } => {
                let Some(selected) = singles.remove(&place) else { continue };
                if let Selection::Locked(_, _, path) = selection {
                    chosen.lockfiles.insert(selected.id.clone(), LockfileOf::File(path.clone()));
                }
                all.push((selection.to_string(), selected));
            }
        }
    }
    all.retain(|(_, selected)| !exclusions.iter().any(|exclusion| exclusion.matches(&selected.id)));
    chosen.crates = without_repetitions(all.into_iter())?;
    Ok(chosen)
}

/// Looks up the selections of single crates, by their places.
async fn look_up_all(
    sources: &Sources<'_>,
    selections: &[Selection],
    pins: &[(String, Selected)],
) -> Result<BTreeMap<usize, Selected>, SessionError> {
    let pins: HashMap<&str, &Selected> =
        pins.iter().map(|(selection, selected)| (selection.as_str(), selected)).collect();
    let mut lookups = JoinSet::new();
    let mut selected = BTreeMap::new();
    let singles = selections.iter().filter(|selection| !matches!(selection, Selection::Query(_) | Selection::Not(_)));
    let count = singles.count();
    for (place, selection) in selections.iter().enumerate() {
        if matches!(selection, Selection::Query(_) | Selection::Not(_)) {
            continue;
        }
        let pinned = pins.get(selection.to_string().as_str()).map(|pinned| (*pinned).clone());
        match pinned {
            // A folder may have changed, and a crate that was missing may have been published.
            Some(pinned) if matches!(pinned.origin, Origin::Registry { .. }) => {
                selected.insert(place, pinned);
            }
            Some(_) | None => {
                if lookups.len() == LOOKUPS {
                    take(lookups.join_next().await, &mut selected)?;
                    told(sources.watch, selected.len(), count);
                }
                let (registry, selection) = (sources.registry.clone(), selection.clone());
                lookups.spawn(async move { (place, look_up(&registry, &selection).await) });
            }
        }
    }
    while !lookups.is_empty() {
        take(lookups.join_next().await, &mut selected)?;
    }
    Ok(selected)
}

type Lookup = (usize, Result<Selected, RegistryError>);

fn take(
    lookup: Option<Result<Lookup, tokio::task::JoinError>>,
    selected: &mut BTreeMap<usize, Selected>,
) -> Result<(), RegistryError> {
    match lookup {
        Some(Ok((place, result))) => {
            selected.insert(place, result?);
        }
        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        None => {}
    }
    Ok(())
}

/// Shows how far a long list is.
fn told(watch: &Watch, done: usize, count: usize) {
    if done.is_multiple_of(1000) {
        watch(&format!("looked up {} of {}", crate::printable::thousands(done), crates(count)));
    }
}

async fn look_up(registry: &Registry, selection: &Selection) -> Result<Selected, RegistryError> {
    match (registry.select(selection).await, selection.krate()) {
        (Err(error), Some(id)) => {
            // Offline, the others are in the cache or not, each by itself.
            if registry.access() == Access::Online {
                registry.check().await?;
            }
            Ok(Selected { id, origin: Origin::Unavailable(error.to_string()) })
        }
        (result, _) => result,
    }
}

/// Answers a query. The catalogue is opened for the first one that needs it.
async fn answer(
    sources: &Sources<'_>,
    query: &Query,
    catalogue: &OnceCell<Catalogue>,
    lockfiles: &mut HashMap<CrateId, LockfileOf>,
) -> Result<AnsweredQuery, SessionError> {
    let (crates, note) = match query {
        Query::Versions(name) => (sources.registry.versions(name).await?, None),
        Query::Where(pattern) => {
            (sources.watch)("searching the downloaded sources");
            let crates = sources.registry.search(pattern).await?;
            let note = format!("`{query}` looked only into the sources that earlier runs downloaded");
            (crates, Some(note))
        }
        Query::Retry(experiment) => (retry(sources, experiment, lockfiles).await?, None),
        Query::List(url) => {
            (sources.watch)(&format!("fetching {url}"));
            let lines = sources.registry.list(url).await?;
            let chosen = Box::pin(select(sources, &lines, &Choices::default())).await?;
            let notes: Vec<&str> = chosen.notes().collect();
            let notes = (!notes.is_empty()).then(|| notes.join("; "));
            (chosen.crates.into_iter().map(|(_, selected)| selected).collect(), notes)
        }
        Query::Top(_)
        | Query::Used(_)
        | Query::Dependents(_)
        | Query::Random { .. }
        | Query::ReverseDependencies { .. }
        | Query::Category(_)
        | Query::Keyword(_)
        | Query::All => {
            let catalogue = match catalogue.get() {
                Some(catalogue) => catalogue,
                None => {
                    let opened = sources.registry.catalogue(sources.dump, sources.watch).await?;
                    catalogue.get_or_init(|| opened)
                }
            };
            // Half the range of seeds, so that it prints as a number that people can copy.
            let seed = RandomState::new().hash_one(SystemTime::now()) >> 32;
            let crates = catalogue.answer(query, seed)?;
            let mut note = format!("`{query}` is from the database dump of {}", catalogue.date(SystemTime::now()));
            if let Query::Random { count, seed: None } = query {
                note.push_str(&format!("; its seed is {seed}: `random:{count}@{seed}` chooses the same"));
            }
            (crates, Some(note))
        }
    };
    if crates.is_empty() {
        return Err(SessionError::Misuse(format!("`{query}` selects no crate")));
    }
    Ok(AnsweredQuery { query: query.to_string(), note, crates })
}

/// The crates of an experiment to run again, and their lockfiles.
async fn retry(
    sources: &Sources<'_>,
    experiment: &str,
    lockfiles: &mut HashMap<CrateId, LockfileOf>,
) -> Result<Vec<Selected>, SessionError> {
    let results = stored::results(sources.store, experiment)?;
    let report = stored::report(sources.store, &results)?;
    let mut selected = Vec::new();
    for retry in compare::retries(&results, &report) {
        // A folder may have changed, and a registry may answer now.
        let again = match &retry.krate.origin {
            Origin::Registry { .. } => retry.krate.clone(),
            Origin::Path { dir, member, .. } => {
                // The workspace was found within reach then, and is looked for no further up now.
                let folder = Selection::Path { dir: dir.join(member), top: Some(dir.clone()) };
                sources.registry.select(&folder).await?
            }
            Origin::Missing(_) | Origin::Unusable(_) | Origin::Skipped { .. } | Origin::Unavailable(_) => {
                let name = retry.krate.id.name.clone();
                let selection = match retry.krate.id.version.clone() {
                    Some(version) => Selection::Exact(name, version),
                    None => Selection::Newest(name),
                };
                look_up(sources.registry, &selection).await?
            }
        };
        if let Some(prepare) = retry.prepare {
            lockfiles.insert(again.id.clone(), LockfileOf::Step(experiment.to_owned(), prepare));
        }
        selected.push(again);
    }
    Ok(selected)
}

/// Two selections may mean the same crate, which is then run once. Two different ones under one name and version could
/// not be distinguished.
fn without_repetitions(
    selected: impl Iterator<Item = (String, Selected)>,
) -> Result<Vec<(String, Selected)>, SessionError> {
    let mut seen: HashMap<CrateId, (String, Origin)> = HashMap::new();
    let mut distinct = Vec::new();
    for (text, mut krate) in selected {
        rename_if_taken(&mut krate, &text, &seen);
        match seen.get(&krate.id) {
            Some((_, origin)) if *origin == krate.origin => {}
            Some((first, _)) => {
                let id = &krate.id;
                let misuse = format!("`{first}` and `{text}` are both {id}: give one of them another version");
                return Err(SessionError::Misuse(misuse));
            }
            None => {
                seen.insert(krate.id.clone(), (text.clone(), krate.origin.clone()));
                distinct.push((text, krate));
            }
        }
    }
    Ok(distinct)
}

/// Folders without a usable package are called by their own names, of which several may be alike.
fn rename_if_taken(krate: &mut Selected, text: &str, seen: &HashMap<CrateId, (String, Origin)>) {
    if !matches!(krate.origin, Origin::Unusable(_)) {
        return;
    }
    let short: String = krate.id.name.as_str().chars().take(50).collect();
    let mut number = 2;
    while seen.get(&krate.id).is_some_and(|(first, _)| first != text) {
        krate.id.name = format!("{short}-{number}").parse().expect("a name with a number is one");
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &str) -> (String, Selected) {
        let id = CrateId { name: "a".parse().unwrap(), version: Some(semver::Version::new(1, 0, 0)) };
        (
            format!("path:{dir}"),
            Selected { id, origin: Origin::Path { dir: dir.into(), digest: dir.to_owned(), member: "".into() } },
        )
    }

    #[test]
    fn a_crate_that_is_selected_twice_is_run_once() {
        let distinct = without_repetitions([folder("/mine"), folder("/mine")].into_iter()).unwrap();
        assert_eq!(distinct, [folder("/mine")]);
    }

    #[test]
    fn unusable_folders_of_one_name_are_told_apart() {
        let unusable = |dir: &str| {
            let id = CrateId { name: "a".parse().unwrap(), version: None };
            (format!("path:{dir}"), Selected { id, origin: Origin::Unusable("no".to_owned()) })
        };
        let selected = [unusable("/mine/a"), unusable("/theirs/a"), unusable("/mine/a")];
        let distinct = without_repetitions(selected.into_iter()).unwrap();
        let names: Vec<_> = distinct.iter().map(|(_, krate)| krate.id.name.as_str()).collect();
        assert_eq!(names, ["a", "a-2"]);
    }

    #[test]
    fn two_folders_of_one_name_and_version_are_refused_rather_than_one_dropped() {
        let error = without_repetitions([folder("/mine"), folder("/theirs")].into_iter()).unwrap_err();
        let expected = "`path:/mine` and `path:/theirs` are both a@1.0.0: give one of them another version";
        assert_eq!(error.to_string(), expected);
    }
}
