//! Shared by the subcommands that only read: an existing home.

use super::args;
use super::exit::Misuse;
use crate::home::Home;
use crate::store::Store;

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
