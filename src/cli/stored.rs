//! Shared by the subcommands that only read: an existing home, and an experiment by its name.

use super::args;
use super::exit::Misuse;
use crate::compare::{self, Report, Results};
use crate::experiment::{Expected, Experiment};
use crate::home::Home;
use crate::nearest::nearest;
use crate::store::{Store, StoreError};

/// Opens the home and its database.
pub(super) fn open(args: &args::Home) -> anyhow::Result<(Home, Store)> {
    let home = Home::existing(args.folder.clone())?;
    let store = match &home {
        Some(home) => Store::open_existing(&home.database())?,
        None => None,
    };
    match (home, store) {
        (Some(home), Some(store)) => Ok((home, store)),
        (_, None) | (None, _) => {
            Err(Misuse("no experiment has been run in this home: `maar run` runs one".to_owned()).into())
        }
    }
}

/// All that is known of an experiment, single tests included.
pub(super) fn results_with_tests(store: &Store, name: &str) -> anyhow::Result<Results> {
    match store.results_with_tests(name)? {
        Some(results) => Ok(results),
        None => Err(unknown(store, name)?.into()),
    }
}

/// The results of an experiment, without the single tests that no verdict needs.
pub(super) fn results(store: &Store, name: &str) -> anyhow::Result<Results> {
    match store.results(name)? {
        Some(results) => Ok(results),
        None => Err(unknown(store, name)?.into()),
    }
}

/// The report of an experiment, with the settings of its latest run.
pub(super) fn report(store: &Store, results: &Results) -> anyhow::Result<Report> {
    let mut report = compare::compare(results);
    let settings = store.settings(&results.experiment)?;
    // An older maar may have written settings that this one can't read: then nothing was expected.
    if let Some(experiment) = settings.and_then(|settings| serde_json::from_str::<Experiment>(&settings).ok()) {
        let settings = &experiment.crate_settings;
        let is_broken = |name: &_| settings.get(name).is_some_and(|of_crate| of_crate.expected == Expected::Broken);
        compare::expect_failures(&mut report, is_broken);
    }
    Ok(report)
}

/// The error for an unknown name, with the nearest known one.
pub(super) fn unknown(store: &Store, name: &str) -> Result<Misuse, StoreError> {
    let names: Vec<String> = store.experiments()?.into_iter().map(|experiment| experiment.name).collect();
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`maar status` lists them".to_owned(),
    };
    Ok(Misuse(format!("no experiment is named `{}`; {hint}", name.escape_debug())))
}
