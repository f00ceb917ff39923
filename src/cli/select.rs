//! From selections to crates: what an earlier run chose stays chosen, the rest is looked up.

use std::collections::{BTreeMap, HashMap};

use super::exit::Misuse;
use crate::krate::{CrateId, Origin, Selected};
use crate::registry::select::Selection;
use crate::registry::{Access, Registry, RegistryError};

/// Finds the crates that the selections mean, each with the selection as the user wrote it.
///
/// A crate that the registry can't answer for, while it answers otherwise, doesn't keep the rest from running.
pub(super) async fn select(
    registry: &Registry,
    selections: &[Selection],
    pins: &[(String, Selected)],
) -> anyhow::Result<Vec<(String, Selected)>> {
    let pins: HashMap<&str, &Selected> =
        pins.iter().map(|(selection, selected)| (selection.as_str(), selected)).collect();
    let mut lookups = tokio::task::JoinSet::new();
    let mut selected: BTreeMap<usize, (String, Selected)> = BTreeMap::new();
    for (place, selection) in selections.iter().enumerate() {
        let text = selection.to_string();
        match pins.get(text.as_str()).map(|pinned| (*pinned).clone()) {
            // A folder may have changed, and a crate that was missing may have been published.
            Some(pinned) if matches!(pinned.origin, Origin::Registry { .. }) => {
                selected.insert(place, (text, pinned));
            }
            Some(_) | None => {
                let (registry, selection) = (registry.clone(), selection.clone());
                lookups.spawn(async move { (place, text, look_up(&registry, &selection).await) });
            }
        }
    }
    while let Some(lookup) = lookups.join_next().await {
        let (place, text, result) = match lookup {
            Ok(lookup) => lookup,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        selected.insert(place, (text, result?));
    }
    Ok(without_repetitions(selected.into_values())?)
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

/// Two selections may mean the same crate, which is then run once. Two different ones under one name and version could
/// not be told apart.
fn without_repetitions(selected: impl Iterator<Item = (String, Selected)>) -> Result<Vec<(String, Selected)>, Misuse> {
    let mut seen: HashMap<CrateId, (String, Origin)> = HashMap::new();
    let mut distinct = Vec::new();
    for (text, mut krate) in selected {
        rename_if_taken(&mut krate, &text, &seen);
        match seen.get(&krate.id) {
            Some((_, origin)) if *origin == krate.origin => {}
            Some((first, _)) => {
                let id = &krate.id;
                return Err(Misuse(format!("`{first}` and `{text}` are both {id}: give one of them another version")));
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
