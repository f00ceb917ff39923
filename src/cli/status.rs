//! `maar status`: how far experiments are.

use std::io::Write;

use super::args::StatusArgs;
use super::exit::Exit;
use super::stored;
use crate::store::Overview;

/// Prints a line per experiment; those of one name only, if one is given.
pub(super) fn run(args: &StatusArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (_, store) = stored::open(&args.home)?;
    let mut experiments = store.experiments()?;
    if let Some(name) = &args.name {
        experiments.retain(|experiment| experiment.name == *name);
        if experiments.is_empty() {
            return Err(stored::unknown(&store, name)?.into());
        }
    }
    if experiments.is_empty() {
        writeln!(out, "no experiment has been run yet: `maar run` runs one")?;
        return Ok(Exit::Fine);
    }
    let width = experiments.iter().map(|experiment| experiment.name.len()).max().unwrap_or(0).max("EXPERIMENT".len());
    writeln!(out, "{:width$}  {:>7}  {:>13}  TOOLCHAINS", "EXPERIMENT", "CRATES", "STEPS")?;
    for Overview { name, crates, steps, finished, toolchains, .. } in &experiments {
        let toolchains: Vec<String> = toolchains.iter().map(|t| format!("{} ({})", t.spec, t.version)).collect();
        let steps = format!("{finished}/{steps}");
        writeln!(out, "{name:width$}  {crates:>7}  {steps:>13}  {}", toolchains.join(", "))?;
    }
    Ok(Exit::Fine)
}
