//! `maar check-config`: whether an experiment file is right, names that don't exist included.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::args::CheckConfigArgs;
use super::exit::{Exit, Misuse};
use crate::experiment::{self, Host, Loaded, Overrides};
use crate::home::Home;
use crate::host;
use crate::krate::{CrateName, Origin};
use crate::nearest::did_you_mean;
use crate::printable::one_line;
use crate::registry::select::{Query, Selection};
use crate::registry::{self, Access, Registry, Upstream};
use crate::toolchain::{self, ToolchainSpec};

/// Checks a file: first by itself, then its names against the registry.
pub(super) fn run(args: &CheckConfigArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let folder = std::env::current_dir().context("failed to find the working directory")?;
    let toolchain = |spec: Option<&ToolchainSpec>, _| toolchain::find_or_active(spec);
    let host = Host { cores: host::cores(), folder: &folder, toolchain: &toolchain };
    let loaded = experiment::load(args.file.as_deref(), &Overrides::default(), &host)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    let wrong = runtime.block_on(wrong_names(&loaded, args))?;
    for note in &loaded.notes {
        writeln!(out, "note: {}", one_line(note))?;
    }
    if !wrong.is_empty() {
        return Err(Misuse(wrong.join("\n       ")).into());
    }
    let shown = args.file.as_deref().unwrap_or(Path::new("maar.toml")).display().to_string();
    let count = loaded.experiment.crates.len();
    writeln!(out, "{}: fine, {count} selection{}", one_line(&shown), if count == 1 { "" } else { "s" })?;
    Ok(Exit::Fine)
}

/// The names of a file that the registry doesn't have, in words.
async fn wrong_names(loaded: &Loaded, args: &CheckConfigArgs) -> anyhow::Result<Vec<String>> {
    let home = Home::open(args.home.folder.clone())?;
    let registry = Registry::open(registry::Config {
        upstream: Upstream::configured()?,
        cache: home.cache(),
        access: Access::Online,
    })?;
    let mut known = Vec::new();
    let mut wrong = Vec::new();
    let mut asked: BTreeMap<&CrateName, String> = BTreeMap::new();
    for selection in &loaded.experiment.crates {
        match selection {
            Selection::Path { .. } => known.push(registry.select(selection).await?.id.name),
            Selection::Newest(_) | Selection::Matching(..) | Selection::Exact(..) | Selection::Locked(..) => {
                let selected = registry.select(selection).await?;
                match selected.origin {
                    Origin::Missing(why) => wrong.push(format!("`{selection}`: {why}")),
                    Origin::Registry { .. }
                    | Origin::Path { .. }
                    | Origin::Unusable(_)
                    | Origin::Skipped { .. }
                    | Origin::Unavailable(_) => known.push(selected.id.name),
                }
            }
            Selection::Not(exclusion) => drop(asked.insert(&exclusion.name, format!("`!{}`", exclusion.name))),
            Selection::Query(Query::Versions(name) | Query::ReverseDependencies { of: name, .. }) => {
                asked.insert(name, format!("`{selection}`"));
            }
            Selection::Query(_) => {}
        }
    }
    asked.extend(loaded.experiment.crate_settings.keys().map(|name| (name, format!("`[crate.{name}]`"))));
    let names = match &args.dump {
        Some(dump) => registry.catalogue(Some(dump), &(Arc::new(|_: &str| ()) as registry::Watch)).await?.names(),
        None => known.clone(),
    };
    for (name, place) in asked.iter().filter(|(name, _)| !known.contains(name)) {
        if let Origin::Missing(why) = registry.select(&Selection::Newest((*name).clone())).await?.origin {
            let hint = did_you_mean(name.as_str(), names.iter().map(CrateName::as_str));
            let hint = hint.filter(|_| !why.contains("did you mean")).map(|hint| format!("; {hint}"));
            wrong.push(format!("{place}: {why}{}", hint.unwrap_or_default()));
        }
    }
    Ok(wrong)
}
