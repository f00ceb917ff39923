//! What the subcommands that only read have in common: a home that is there, and an experiment by its name.

use std::fmt;

use super::args;
use crate::compare::Results;
use crate::home::Home;
use crate::nearest::nearest;
use crate::store::{Store, StoreError};

/// There is no experiment of that name.
#[derive(Debug)]
pub(super) struct UnknownExperiment {
    name: String,
    nearest: Option<String>,
}

impl fmt::Display for UnknownExperiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no experiment is named `{}`", self.name.escape_debug())?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => write!(f, "; `maar status` lists them"),
        }
    }
}

impl std::error::Error for UnknownExperiment {}

/// Opens the home and its database.
pub(super) fn open(args: &args::Home) -> anyhow::Result<(Home, Store)> {
    let home = Home::open(args.folder.clone())?;
    let store = Store::open(&home.database())?;
    Ok((home, store))
}

/// All that is known of an experiment.
pub(super) fn results(store: &Store, name: &str) -> anyhow::Result<Results> {
    match store.results(name)? {
        Some(results) => Ok(results),
        None => Err(unknown(store, name)?.into()),
    }
}

/// Says that there is no experiment of that name, and which comes nearest.
pub(super) fn unknown(store: &Store, name: &str) -> Result<UnknownExperiment, StoreError> {
    let names: Vec<String> = store.experiments()?.into_iter().map(|experiment| experiment.name).collect();
    let nearest = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
    Ok(UnknownExperiment { name: name.to_owned(), nearest })
}
