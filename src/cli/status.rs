//! `maar status`: how far experiments are.

use std::io::Write;

use super::args::StatusArgs;
use super::exit::Exit;
use super::stored;
use crate::compare::Verdict;
use crate::run;
use crate::store::Overview;

/// Prints a line per experiment; those of one name only, if one is given.
pub(super) fn run(args: &StatusArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (_, store) = stored::open(&args.home)?;
    let mut experiments = store.experiments()?;
    if let Some(name) = &args.name {
        experiments.retain(|experiment| experiment.name == *name);
        if experiments.is_empty() {
            return Err(run::unknown(&store, name)?.into());
        }
    }
    let width = experiments.iter().map(|experiment| experiment.name.len()).max().unwrap_or(0).max("EXPERIMENT".len());
    writeln!(out, "{:width$}  {:>13}  VERDICTS", "EXPERIMENT", "DONE")?;
    for Overview { name, .. } in &experiments {
        let report = run::report(&store, &run::results(&store, name)?)?;
        let crates = report.summary.total();
        let done = format!("{}/{crates}", crates - report.summary.count(Verdict::Pending));
        let counts = report.summary.iter().filter(|(_, count)| *count > 0);
        let counts: Vec<String> = counts.map(|(verdict, count)| format!("{count} {verdict}")).collect();
        let toolchains: Vec<String> = report.toolchains.iter().map(|t| format!("{} {}", t.label, t.version)).collect();
        writeln!(out, "{name:width$}  {done:>13}  {} ({})", counts.join(", "), toolchains.join(", "))?;
    }
    Ok(Exit::Fine)
}
