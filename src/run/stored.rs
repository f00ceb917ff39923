//! An experiment by its name, as the store has it: results, report, or the nearest name.

use super::error::SessionError;
use crate::compare::{self, Report, Results};
use crate::experiment::{Expected, Experiment};
use crate::nearest::nearest;
use crate::store::{Store, StoreError};

/// All that is known of an experiment, single tests included.
///
/// # Errors
/// No experiment has that name, or the database can't be read.
pub fn results_with_tests(store: &Store, name: &str) -> Result<Results, SessionError> {
    match store.results_with_tests(name)? {
        Some(results) => Ok(results),
        None => Err(unknown(store, name)?),
    }
}

/// The results of an experiment, without the single tests that no verdict needs.
///
/// # Errors
/// No experiment has that name, or the database can't be read.
pub fn results(store: &Store, name: &str) -> Result<Results, SessionError> {
    match store.results(name)? {
        Some(results) => Ok(results),
        None => Err(unknown(store, name)?),
    }
}

/// The report of an experiment, with the settings of its latest run.
///
/// # Errors
/// The database can't be read.
pub fn report(store: &Store, results: &Results) -> Result<Report, StoreError> {
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
///
/// # Errors
/// The database can't be read.
pub fn unknown(store: &Store, name: &str) -> Result<SessionError, StoreError> {
    let names: Vec<String> = store.experiments()?.into_iter().map(|experiment| experiment.name).collect();
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`maar status` lists them".to_owned(),
    };
    Ok(SessionError::Misuse(format!("no experiment is named `{}`; {hint}", name.escape_debug())))
}
