//! `maar clean`: removes caches, or the named experiments.

use std::io::Write;

use super::args::CleanArgs;
use super::exit::Exit;
use super::stored;
use crate::run;
use crate::sandbox::subordinate;

/// Without names, empties the caches and sweeps what dead runs left; results stay. With names, removes those
/// experiments, their logs and their reports.
pub(super) fn run(args: &CleanArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (home, mut store) = stored::open(&args.home)?;
    if args.names.is_empty() {
        // Files of commands may belong to ids that exist only in a namespace. A user without such ids owns all files.
        let _ = subordinate::enter(&[]);
        let freed = home.clean()?;
        writeln!(
            out,
            "freed {}; results are kept (`maar clean NAME` removes those of an experiment)",
            freed.display().iec()
        )?;
        return Ok(Exit::Fine);
    }
    // All or none: a typo in the second name should not cost the first its results.
    for name in &args.names {
        if !store.experiments()?.iter().any(|experiment| experiment.name == *name) {
            return Err(run::unknown(&store, name)?.into());
        }
    }
    for name in &args.names {
        let _lock = home.lock(name)?;
        store.delete(name)?;
        home.remove_report(name)?;
        writeln!(out, "removed {name}")?;
    }
    Ok(Exit::Fine)
}
