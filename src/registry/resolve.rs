//! From a user's selection to versions that the registry has.
//!
//! That a crate or version doesn't exist is an answer, not an error.

use super::error::RegistryError;
use super::folder;
use super::index::{Entry, Index, Published};
use super::select::Selection;
use crate::krate::{CrateId, CrateName, Origin, Selected};

/// See [`super::Registry::select`].
pub(super) async fn resolve(index: &Index, selection: &Selection) -> Result<Selected, RegistryError> {
    let (name, wanted) = match selection {
        Selection::Newest(name) | Selection::Matching(name, _) => (name, None),
        Selection::Exact(name, version) | Selection::Locked(name, version, _) => (name, Some(version.clone())),
        Selection::Query(_) | Selection::Not(_) => {
            return Err(RegistryError::Query {
                query: selection.to_string(),
                reason: "it is not one crate".to_owned(),
            });
        }
        Selection::Path { dir, top } => {
            let (dir, top) = (dir.clone(), top.clone());
            return tokio::task::spawn_blocking(move || folder::select(&dir, top.as_deref())).await?;
        }
    };
    let missing = |name: &CrateName, text| Selected {
        id: CrateId { name: name.clone(), version: wanted.clone() },
        origin: Origin::Missing(text),
    };
    let Some(entry) = index.entry(name).await? else {
        return Ok(missing(name, no_such_crate(index, name).await?));
    };
    Ok(match choose(&entry, selection) {
        Ok(Published { version, checksum, .. }) => Selected {
            id: CrateId { name: entry.name.clone(), version: Some(version.clone()) },
            origin: Origin::Registry { checksum: checksum.to_string() },
        },
        Err(text) => missing(&entry.name, text),
    })
}

/// See [`super::Registry::versions`].
pub(super) async fn versions(index: &Index, name: &CrateName) -> Result<Vec<Selected>, RegistryError> {
    let missing = |text| Selected { id: CrateId { name: name.clone(), version: None }, origin: Origin::Missing(text) };
    let Some(entry) = index.entry(name).await? else {
        return Ok(vec![missing(no_such_crate(index, name).await?)]);
    };
    let mut versions: Vec<&Published> = entry.versions.iter().filter(|published| !published.yanked).collect();
    if versions.iter().any(|published| published.version.pre.is_empty()) {
        versions.retain(|published| published.version.pre.is_empty());
    }
    if versions.is_empty() {
        return Ok(vec![missing(format!("every version of `{name}` is yanked"))]);
    }
    versions.sort_unstable_by(|one, other| other.version.cmp(&one.version));
    let selected = versions.into_iter().map(|Published { version, checksum, .. }| Selected {
        id: CrateId { name: entry.name.clone(), version: Some(version.clone()) },
        origin: Origin::Registry { checksum: checksum.to_string() },
    });
    Ok(selected.collect())
}

/// The version that a selection means, or an error without one.
fn choose<'a>(entry: &'a Entry, selection: &Selection) -> Result<&'a Published, String> {
    let name = &entry.name;
    let unyanked = || entry.versions.iter().filter(|published| !published.yanked);
    let newest_of_all = newest(unyanked());
    let the_newest = || match newest_of_all {
        Some(published) => format!("the newest is {}", published.version),
        None => "every version is yanked".to_owned(),
    };
    // A whole version is taken even so.
    let a_yanked = |fits: &dyn Fn(&Published) -> bool| {
        let version = newest(entry.versions.iter().filter(|published| fits(published))).map(|it| &it.version);
        version.map(|version| format!("; `{name}@{version}` selects one all the same")).unwrap_or_default()
    };
    match selection {
        Selection::Newest(_) | Selection::Path { .. } | Selection::Query(_) | Selection::Not(_) => {
            newest_of_all.ok_or_else(|| format!("every version of `{name}` is yanked{}", a_yanked(&|_| true)))
        }
        Selection::Exact(_, version) | Selection::Locked(_, version, _) => {
            entry.find(version).ok_or_else(|| format!("`{name}` has no version {version}; {}", the_newest()))
        }
        Selection::Matching(_, requirement) => {
            let fits = |published: &&Published| requirement.matches(&published.version);
            newest(unyanked().filter(fits)).ok_or_else(|| {
                if entry.versions.iter().any(|published| fits(&published)) {
                    let hint = a_yanked(&|published| fits(&published));
                    format!("every version of `{name}` that fits `{requirement}` is yanked; {}{hint}", the_newest())
                } else {
                    format!("`{name}` has no version that fits `{requirement}`; {}", the_newest())
                }
            })
        }
    }
}

/// The newest release; only without releases, the newest pre-release.
fn newest<'a>(versions: impl Iterator<Item = &'a Published>) -> Option<&'a Published> {
    versions.max_by_key(|published| (published.version.pre.is_empty(), &published.version))
}

async fn no_such_crate(index: &Index, name: &CrateName) -> Result<String, RegistryError> {
    let text = name.as_str();
    // The usual mistake: registries take `_` and `-` for the same when a name is published, but not when it is asked
    // for.
    for guess in [text.replace('_', "-"), text.replace('-', "_")] {
        if guess != text
            && let Ok(guess) = guess.parse()
            && let Some(entry) = index.entry(&guess).await?
        {
            return Ok(format!("no crate named `{name}` in the registry; did you mean `{}`?", entry.name));
        }
    }
    Ok(format!("no crate named `{name}` in the registry"))
}
